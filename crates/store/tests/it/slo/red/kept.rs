//! What is kept, what leaves, what is applied and what is backed up.

use chrono::{DateTime, TimeDelta, Utc};

use super::world::*;

pub async fn default_partition() -> Seen {
    let world = World::new().await;
    world.store.metrics().make_days_ahead(noon()).await.unwrap();
    let before = world.judged("C3.2").await;
    world
        .sql("create table elsewhere partition of system_metrics default")
        .await;
    (before, world.judged("C3.2").await)
}

pub async fn metrics_stay() -> Seen {
    let world = World::new().await;
    world.retention_ran().await;
    let before = world.judged("C3.5").await;
    world
        .sql("select metric_make_day('2026-08-01', '2026-08-01')")
        .await;
    (before, world.judged("C3.5").await)
}

pub async fn other_content() -> Seen {
    let world = World::new().await;
    let before = world.judged("C5.1").await;
    world
        .sql("update schema_migrations set up_checksum = repeat('0', 64) where number = 3")
        .await;
    (before, world.judged("C5.1").await)
}

pub async fn pending_migration() -> Seen {
    let world = World::new().await;
    let before = world.judged("C5.3").await;
    world.sql("delete from schema_migrations where number = (select max(number) from schema_migrations)").await;
    (before, world.judged("C5.3").await)
}

pub async fn old_jobs() -> Seen {
    let world = World::new().await;
    world.retention_ran().await;
    let before = world.judged("C7.1").await;
    let long_ago = noon() - TimeDelta::days(190);
    let job = job(&world.store, long_ago).await;
    world
        .store
        .backfill()
        .fail(job.id, "lost", long_ago)
        .await
        .unwrap();
    (before, world.judged("C7.1").await)
}

pub async fn old_feedback() -> Seen {
    let world = World::new().await;
    world.retention_ran().await;
    let before = world.judged("C7.2").await;
    world
        .store
        .feedback()
        .rate("i", "u", 5, None, noon() - TimeDelta::days(740))
        .await
        .unwrap();
    (before, world.judged("C7.2").await)
}

pub async fn old_archives() -> Seen {
    let world = World::new().await;
    world.retention_ran().await;
    let before = world.judged("C7.3").await;
    archive(&world, "2025-06-01").await;
    (before, world.judged("C7.3").await)
}

/// An archive of a day of samples, as retention leaves it, with its entries in the log.
async fn archive(world: &World, day: &str) {
    let id = "0195a1b2-0000-7000-8000-0000000000aa";
    world
        .sql(&format!(
            "insert into archives (id, dataset, day, part, state, object_key, began_at, rows, bytes, sha256, content_sha256, manifest, proved_at,
                                   detached_at, archived_at)
             values ('{id}', 'metrics', '{day}', 0, 'archived', 'metrics/{day}', '2026-11-23 02:00Z', 1, 1, sha256('a'), sha256('a'), '{{}}',
                     '2026-11-23 02:00Z', '2026-11-23 02:00Z', '2026-11-23 02:00Z');
             select audit_append('2026-11-23 02:00Z', 'test', action, 'metrics/{day}', '{{\"archive\": \"{id}\"}}')
             from unnest(array['archive', 'drop']) action"
        ))
        .await;
}

pub async fn no_run_at_two() -> Seen {
    let world = World::new().await;
    world.retention_ran().await;
    let before = world.judged("C7.4").await;
    world.clock.advance(TimeDelta::hours(15));
    (before, world.judged("C7.4").await)
}

pub async fn tampered_log() -> Seen {
    let world = World::new().await;
    archive(&world, "2026-08-01").await;
    let before = world.judged("C7.5").await;
    world
        .sql("update audit_log set actor = 'nobody' where sequence = 1")
        .await;
    (before, world.judged("C7.5").await)
}

/// A verified backup of a night.
fn backup(night: DateTime<Utc>) -> String {
    let night = night.format("%Y-%m-%d");
    format!(
        "insert into backups (id, slot_at, started_at, started_by, lease_expires_at, state, object_key, plain_bytes, stored_bytes, row_count,
                              table_count, sha256, manifest_sha256, schema_version, stored_at, verified_at, ended_at)
         values (gen_random_uuid(), '{night} 01:00Z', '{night} 01:00:02Z', 'schedule: make_backup', '{night} 01:05Z', 'verified',
                 'backups/' || replace('{night}', '-', '') || 'T010002Z-' || replace(gen_random_uuid()::text, '-', '') || '.dump.age', 1000, 100, 10, 3, sha256('a'), sha256('b'), 15, '{night} 01:01Z', '{night} 01:02Z', '{night} 01:02Z');"
    )
}

async fn nights(world: &World, count: i64) {
    let sql: String = (0..count)
        .map(|ago| backup(noon() - TimeDelta::days(ago)))
        .collect();
    world.sql(&sql).await;
    world
        .task("make_backup", "daily at 01:00 UTC", "2026-11-23 01:00Z")
        .await;
}

pub async fn no_backup_at_one() -> Seen {
    let world = World::new().await;
    nights(&world, 1).await;
    let before = world.judged("C8.1").await;
    world.clock.advance(TimeDelta::hours(14));
    (before, world.judged("C8.1").await)
}

pub async fn weekly_gone() -> Seen {
    let world = World::new().await;
    nights(&world, 40).await;
    let before = world.judged("C8.2").await;
    world
        .sql("update backups set state = 'pruned', pruned_at = '2026-11-23 03:00Z' where slot_at = '2026-11-08 01:00Z'")
        .await;
    (before, world.judged("C8.2").await)
}

fn proof(at: &str, outcome: &str) -> String {
    let error = if outcome == "proved" {
        "null"
    } else {
        "'the table backups has other values'"
    };
    format!(
        "insert into backup_proofs (id, backup_id, started_at, started_by, lease_expires_at, target, ended_at, outcome, restore_milliseconds,
                                    compare_milliseconds, error)
         select gen_random_uuid(), id, '{at}', 'test', '{at}', 'host/x', '{at}', '{outcome}', 1000, 1000, {error} from backups limit 1"
    )
}

pub async fn failed_proof() -> Seen {
    let world = World::new().await;
    nights(&world, 1).await;
    world.sql(&proof("2026-11-22 03:30Z", "proved")).await;
    let before = world.judged("C8.3").await;
    world.sql(&proof("2026-11-23 03:30Z", "failed")).await;
    (before, world.judged("C8.3").await)
}

pub async fn same_region() -> Seen {
    let bucket = [
        ("BACKUP_STORE__URL", "s3://backups/utxoiq"),
        ("BACKUP_STORE__REGION", "eu-west-1"),
        ("DATABASE__REGION", "eu-central-1"),
    ];
    let world = World::with(&bucket).await;
    let before = world.judged("C8.4").await;
    let moved = [bucket[0], bucket[1], ("DATABASE__REGION", "eu-west-1")];
    let moved = world.another(&moved);
    (before, judged(&moved, &world.clock, "C8.4").await)
}

pub async fn nobody_told() -> Seen {
    let world = World::with(&[
        ("ALERT__WEBHOOK_URL", "http://127.0.0.1:9/"),
        ("ALERT__WEBHOOK_SECRET", "sixteen characters"),
    ])
    .await;
    world
        .sql("insert into alert_sources (source, observed_at) values ('backups', '2026-11-23 12:00Z')")
        .await;
    let before = world.judged("C8.5").await;
    world
        .sql("insert into backups (id, slot_at, started_at, started_by, lease_expires_at, state, object_key, ended_at, error)
              values (gen_random_uuid(), '2026-11-23 01:00Z', '2026-11-23 01:00Z', 'test', '2026-11-23 01:00Z', 'failed', 'x',
                      '2026-11-23 01:10Z', 'no space')")
        .await;
    (before, world.judged("C8.5").await)
}

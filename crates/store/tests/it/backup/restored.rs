//! What a restore gives, what it finds to be different, and what it refuses.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use utxoiq_store::{
    backup::{Restore, Restored},
    config::Secret,
};
use utxoiq_store_testkit::{PgCluster, PgOptions, RedisServer};

use super::*;
use crate::support::{PASSWORD, connect};

impl House {
    fn restoring<'a>(
        &'a self,
        bucket: &'a Bucket,
        backup: &'a Backup,
        key: &'a Secret,
    ) -> Restore<'a> {
        Restore {
            bucket,
            key: backup.key,
            manifest_sha256: backup.manifest_sha256.as_deref(),
            identity: key,
            settings: &self.store.config().backup,
            cold: self.store.cold(),
        }
    }

    /// Restores into a database, with the key that is kept offline.
    async fn restore(&self, backup: &Backup, url: &str) -> Result<Restored, Error> {
        self.restore_with(backup, url, &self.recovery.identity)
            .await
    }

    async fn restore_with(
        &self,
        backup: &Backup,
        url: &str,
        key: &Secret,
    ) -> Result<Restored, Error> {
        let bucket = self.bucket(&self.first);
        self.restoring(&bucket, backup, key)
            .into_database(
                &Secret::new(url),
                ACTOR,
                self.store.now(),
                &Progress::default(),
            )
            .await
    }

    /// What is different in a restored database, line by line.
    async fn differences(&self, backup: &Backup, url: &str) -> Vec<String> {
        let bucket = self.bucket(&self.first);
        let compared = self
            .restoring(&bucket, backup, &self.recovery.identity)
            .compare(&Secret::new(url), &Progress::default())
            .await
            .unwrap();
        assert_eq!(compared.differences.len(), compared.differences_total);
        compared
            .differences
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn assert_no_scratch_files(&self) {
        let left = std::fs::read_dir(self.scratch.path()).unwrap().count();
        assert_eq!(left, 0);
    }
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Writes into everything that moves, and tries what a dump must not see half of; counts what succeeded.
async fn keep_writing(client: Client, written: Arc<AtomicU64>) {
    client
        .batch_execute("set lock_timeout = '50ms'")
        .await
        .unwrap();
    for n in 0_u32.. {
        let day = format!("date '2026-04-01' + {}", n % 60);
        for sql in [
            format!(
                "insert into insight_feedback (id, insight_id, user_id, rating, rated_at, created_at, updated_at)
                 select gen_random_uuid(), 'insight ' || i, 'late user {n} ' || i, 4, t, t, t
                 from generate_series(1, 20) as i, (select timestamptz '2026-03-02 01:00:00' as t) as at"
            ),
            "delete from insight_feedback where id in (select id from insight_feedback limit 3)".to_owned(),
            "insert into system_metrics (series_id, sampled_at, value)
             select 1, timestamptz '2026-03-02 13:00:00' + i * interval '1 second', i from generate_series(1, 50) as i"
                .to_owned(),
            "update backfill_jobs set heard_at = heard_at + interval '1 second'".to_owned(),
            "select nextval('metric_closing_hour')".to_owned(),
            format!("select metric_make_day({day}, '2026-03-02 01:00:00+00')"),
            "truncate metric_marks".to_owned(),
            "insert into metric_marks select 1, timestamptz '2026-03-01 10:00:00' + i * interval '1 hour' from generate_series(1, 9) as i"
                .to_owned(),
            "select audit_append('2026-03-02 01:00:00+00', 'test', 'archive', 'metrics', '{}')".to_owned(),
        ] {
            if client.batch_execute(&sql).await.is_ok() {
                written.fetch_add(1, Relaxed);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_restored_as_the_moment_that_it_is_of() {
    let house = House::new().await;
    house.fill().await;
    let written = Arc::new(AtomicU64::new(0));
    let writing = tokio::spawn(keep_writing(house.db.admin().await, Arc::clone(&written)));
    until("writing", async || written.load(Relaxed) > 20).await;
    let before = written.load(Relaxed);
    let backup = house.make().await.unwrap();
    let during = written.load(Relaxed) - before;
    writing.abort();
    assert!(during > 10, "only {during} statements ran meanwhile");
    house
        .admin
        .batch_execute("delete from insight_feedback where rating = 3")
        .await
        .unwrap();
    let manifest = house.manifest(&backup).await;
    let target = TestDb::empty().await;
    let restored = house
        .restore(&backup, &target.url_of(roles::DRILL))
        .await
        .unwrap();
    let comparison = &restored.comparison;
    assert!(comparison.is_equal(), "{}", comparison.summary());
    assert_eq!(comparison.tables, manifest.tables.len());
    assert_eq!(comparison.rows, manifest.rows());
    assert_eq!(comparison.archives, 1);
    let there = target.admin().await;
    let feedback = "select count(*) from insight_feedback";
    assert_eq!(
        number(&there, feedback).await,
        manifest.tables["public.insight_feedback"].rows
    );
    assert_ne!(
        number(&there, feedback).await,
        number(&house.admin, feedback).await
    );
    // It says so itself, after the comparison, and its plans are good.
    let noted =
        "select count(*) from audit_log where action = 'backup_restore' and actor = 'test: ann'
                 and subject like 'backups/%' and sequence = (select sequence from audit_head)";
    assert_eq!(number(&there, noted).await, 1);
    let unanalysed = "select count(*) from pg_class where relkind = 'r' and relname = 'insight_feedback' and reltuples < 0";
    assert_eq!(number(&there, unanalysed).await, 0);
    // What can be done with the first can be done with this one.
    let theirs = "select string_agg(grantee::regrole || privilege_type, ', ' order by grantee::regrole::text, privilege_type)
                  from pg_namespace, aclexplode(nspacl) where nspname = 'public' and grantee <> 0 and grantee <> nspowner";
    let acl =
        async |client: &Client| -> String { client.query_one(theirs, &[]).await.unwrap().get(0) };
    assert_eq!(acl(&there).await, acl(&house.admin).await);
    house.assert_no_scratch_files();
}

#[tokio::test]
async fn whatever_is_different_in_a_restored_database_is_found_and_named() {
    let house = House::new().await;
    house.fill().await;
    let backup = house.make().await.unwrap();
    let target = TestDb::empty().await;
    // As a superuser, who may use amcheck: nothing of that extension stays behind.
    let restored = house.restore(&backup, &target.admin_url()).await.unwrap();
    assert!(
        restored.comparison.is_equal(),
        "{}",
        restored.comparison.summary()
    );
    assert!(restored.comparison.indexes_checked > Some(50));
    let there = target.admin().await;
    assert_eq!(
        number(
            &there,
            "select count(*) from pg_extension where extname = 'amcheck'"
        )
        .await,
        0
    );
    // The note of the restore itself is one; one bit of one row is another.
    let noted = [
        "table public.audit_head: its 1 rows have other values",
        "table public.audit_log: 103 rows instead of 102",
    ];
    let url = target.url_of(roles::DRILL);
    assert_eq!(house.differences(&backup, &url).await, noted);
    there
        .batch_execute(
            "set session_replication_role = replica;
             update insight_feedback set updated_at = updated_at + interval '1 microsecond'
             where id = (select id from insight_feedback order by id limit 1)",
        )
        .await
        .unwrap();
    let found = house.differences(&backup, &url).await;
    assert_eq!(found[..2], noted);
    assert_eq!(
        found[2..],
        ["table public.insight_feedback: its 5002 rows have other values"]
    );
    there
        .batch_execute(
            "update metric_rollups set sum = 0 where sum = 'NaN';
             delete from backfill_errors;
             insert into metric_marks values (2, '2026-03-01 10:00:00+00');
             drop table feedback_retired;
             create table intruder (n int);
             drop index backups_started_idx;
             update pg_index set indisvalid = false where indexrelid = 'alerts_newest'::regclass;
             revoke select on archives from utxoiq_app;
             alter table service_tokens owner to postgres;
             alter table alerts drop constraint alerts_note_length;
             alter table schedule_slots disable trigger user;
             select setval('feedback_history_id_seq', 1);
             select setval('metric_closing_hour', 5);
             delete from schema_migrations where number >= 12",
        )
        .await
        .unwrap();
    let found = house.differences(&backup, &target.admin_url()).await;
    let all = found.join("\n");
    for expected in [
        "table public.metric_rollups: its 3 rows have other values",
        "table public.backfill_errors: 0 rows instead of 1",
        "table public.metric_marks: 2 rows instead of 1",
        "table public.feedback_retired: is missing",
        "table public.intruder: is not in the backup",
        "catalogue: missing: index on public.backups CREATE INDEX backups_started_idx",
        "catalogue: not in the backup: index on public.alerts CREATE INDEX alerts_newest ON public.alerts USING btree (opened_at DESC, id DESC) INVALID",
        "catalogue: missing: grant select on table public.archives to utxoiq_app",
        "catalogue: not in the backup: table public.service_tokens owner postgres",
        "catalogue: missing: constraint public.alerts alerts_note_length",
        "sequence public.feedback_history_id_seq: it stands at 1, behind",
        "sequence public.metric_closing_hour: it stands at 5, behind 483635 in the backup",
        "migrations: the last one is 11 instead of ",
    ] {
        assert!(all.contains(expected), "{expected} is not among\n{all}");
    }
}

#[tokio::test]
async fn a_damaged_backup_or_a_wrong_key_touches_nothing() {
    let house = House::new().await;
    house.fill().await;
    let backup = house.make().await.unwrap();
    let target = TestDb::empty().await;
    let url = target.url_of(roles::DRILL);
    let there = target.admin().await;
    let is_empty = async || {
        let relations = "select count(*) from pg_class where relnamespace = 'public'::regnamespace";
        assert_eq!(number(&there, relations).await, 0);
        house.assert_no_scratch_files();
    };
    let (dump, manifest) = (house.file(backup.key), house.file(backup.key.manifest()));
    let bytes = std::fs::read(&dump).unwrap();
    let told = std::fs::read(&manifest).unwrap();
    let flipped = |at: usize| {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        flipped
    };
    let length = bytes.len();
    for (what, content, code) in [
        ("a bit of the header", flipped(40), "backup_differs"),
        ("a bit of the key's part", flipped(150), "backup_differs"),
        ("a bit of the first block", flipped(1_000), "backup_differs"),
        ("a bit in the middle", flipped(length / 2), "backup_differs"),
        ("the last bit", flipped(length - 1), "backup_differs"),
        (
            "a byte less",
            bytes[..length - 1].to_vec(),
            "backup_differs",
        ),
        ("a byte more", [&bytes[..], b"x"].concat(), "backup_differs"),
        ("nothing in it", Vec::new(), "backup_differs"),
        ("other bytes", vec![7; length], "backup_differs"),
    ] {
        std::fs::write(&dump, content).unwrap();
        let error = house.restore(&backup, &url).await.unwrap_err();
        assert_eq!(error.code(), code, "{what}: {error}");
        is_empty().await;
    }
    std::fs::remove_file(&dump).unwrap();
    let error = house.restore(&backup, &url).await.unwrap_err();
    assert_eq!(error.code(), "cold_object_missing");
    std::fs::write(&dump, &bytes).unwrap();
    // The manifest: none, another, and a right one that is not the one that was recorded.
    std::fs::remove_file(&manifest).unwrap();
    let error = house.restore(&backup, &url).await.unwrap_err();
    assert_eq!(error.code(), "cold_object_missing");
    let text = String::from_utf8(told.clone()).unwrap();
    std::fs::write(&manifest, text.replacen("\"rows\": 5", "\"rows\": 6", 1)).unwrap();
    let error = house.restore(&backup, &url).await.unwrap_err();
    assert_eq!(error.code(), "backup_damaged");
    std::fs::write(&manifest, text.trim_end()).unwrap();
    let error = house.restore(&backup, &url).await.unwrap_err();
    assert_eq!(error.code(), "backup_differs");
    std::fs::write(&manifest, &told).unwrap();
    let other = KeyPair::generate();
    let error = house
        .restore_with(&backup, &url, &other.identity)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "wrong_key");
    assert!(!format!("{error:?} {}", error.report()).contains(other.identity.expose()));
    is_empty().await;
    // And each of the two keys opens what is right.
    house
        .restore_with(&backup, &url, &house.drill.identity)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_database_with_anything_in_it_is_refused() {
    let house = House::new().await;
    let backup = house.make().await.unwrap();
    house.db.let_in(roles::DRILL).await;
    let url = house.db.url_of(roles::DRILL);
    let error = house.restore(&backup, &url).await.unwrap_err();
    assert_eq!(error.code(), "restore_target_not_empty");
    let target = TestDb::empty().await;
    let there = target.admin().await;
    for (make, name, drop) in [
        ("create table t (n int)", "public.t", "drop table t"),
        ("create view v as select 1 as n", "public.v", "drop view v"),
        ("create sequence s", "public.s", "drop sequence s"),
        (
            "create function f() returns int language sql as 'select 1'",
            "public.f",
            "drop function f()",
        ),
        ("create type e as enum ('a')", "public.e", "drop type e"),
        ("create schema another", "another", "drop schema another"),
    ] {
        there.batch_execute(make).await.unwrap();
        let error = house
            .restore(&backup, &target.url_of(roles::DRILL))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "restore_target_not_empty", "{make}");
        assert!(
            error.message().contains(&format!("it has {name}")),
            "{error}"
        );
        there.batch_execute(drop).await.unwrap();
    }
    // Whoever has not the owners' rights.
    let error = house.restore(&backup, &target.app_url()).await.unwrap_err();
    assert_eq!(error.code(), "restore_roles_missing");
    // The disk.
    let settings = utxoiq_store::config::BackupSettings {
        scratch_dir: Some("/nonexistent".to_owned()),
        ..house.store.config().backup.clone()
    };
    let bucket = house.bucket(&house.first);
    let restore = Restore {
        settings: &settings,
        ..house.restoring(&bucket, &backup, &house.recovery.identity)
    };
    let url = Secret::new(target.url_of(roles::DRILL));
    let error = restore
        .into_database(&url, ACTOR, house.store.now(), &Progress::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "invalid_config");
}

/// Needs the programs of a newer version; `UTXOIQ_TEST_NEWER_PG_BIN` says where they are.
#[tokio::test]
async fn a_backup_is_restored_and_proved_on_a_newer_server() {
    let Ok(folder) = std::env::var("UTXOIQ_TEST_NEWER_PG_BIN") else {
        eprintln!("skipped: UTXOIQ_TEST_NEWER_PG_BIN is not set");
        return;
    };
    let house = House::new().await;
    house.fill().await;
    let backup = house.make().await.unwrap();
    let newer = PgCluster::start(PgOptions {
        bin_dir: Some(folder.clone().into()),
        ..PgOptions::default()
    })
    .await;
    let admin = connect(&newer.admin_url("postgres")).await;
    admin.batch_execute("create database target").await.unwrap();
    let settings = utxoiq_store::config::BackupSettings {
        tools_dir: Some(folder),
        ..house.store.config().backup.clone()
    };
    let bucket = house.bucket(&house.first);
    let restore = Restore {
        settings: &settings,
        ..house.restoring(&bucket, &backup, &house.recovery.identity)
    };
    let progress = Progress::default();
    let now = house.store.now();
    let as_admin = Secret::new(newer.admin_url("target"));
    let error = restore
        .into_database(&as_admin, ACTOR, now, &progress)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "restore_roles_missing");
    assert!(error.message().contains("utxoiq-store init"), "{error}");
    roles::init(as_admin.expose()).await.unwrap();
    admin
        .batch_execute(&format!(
            "alter role utxoiq_drill password '{PASSWORD}'; grant connect on database target to utxoiq_drill"
        ))
        .await
        .unwrap();
    let url = Secret::new(newer.url(roles::DRILL, PASSWORD, "target"));
    let restored = restore
        .into_database(&url, ACTOR, now, &progress)
        .await
        .unwrap();
    let comparison = &restored.comparison;
    assert!(comparison.is_equal(), "{:#?}", comparison.differences);
    assert!(comparison.rows > 5_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_runs_through_a_restore_serves_nothing_from_before_it() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let house = House::with(&[("REDIS_URL", &url)]).await;
    let rate = async |user: &str| {
        let sql = format!(
            "insert into insight_feedback (id, insight_id, user_id, rating, rated_at, created_at, updated_at)
             values (gen_random_uuid(), 'insight', '{user}', 5, '2026-03-01', '2026-03-01', '2026-03-01')"
        );
        house.admin.batch_execute(&sql).await.unwrap();
    };
    let seen = async || {
        let stats = house.store.feedback().stats_seen("insight", None).await;
        stats.map(|stats| stats.value.live.ratings[4])
    };
    rate("one").await;
    let backup = house.make().await.unwrap();
    rate("two").await;
    until("two ratings held", async || {
        matches!(seen().await, Ok(2)) && house.store.feedback().stats_held("insight").is_some()
    })
    .await;
    house
        .admin
        .batch_execute("drop schema public cascade; create schema public")
        .await
        .unwrap();
    roles::init(&house.db.admin_url()).await.unwrap();
    house.db.let_in(roles::DRILL).await;
    let restored = house
        .restore(&backup, &house.db.url_of(roles::DRILL))
        .await
        .unwrap();
    assert!(
        restored.comparison.is_equal(),
        "{}",
        restored.comparison.summary()
    );
    // What was cached of two ratings is of another incarnation, here and in Redis.
    for _ in 0..30 {
        assert_eq!(seen().await.unwrap(), 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let another = Store::open(house.db.settings_with(&[("REDIS_URL", &url)])).unwrap();
    for _ in 0..30 {
        let stats = another
            .feedback()
            .stats_seen("insight", None)
            .await
            .unwrap();
        assert_eq!(stats.value.live.ratings[4], 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until("the new value held", async || {
        let _ = seen().await;
        house.store.feedback().stats_held("insight").is_some()
    })
    .await;
    rate("three").await;
    until("the next rating", async || matches!(seen().await, Ok(2))).await;
}

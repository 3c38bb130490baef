//! Backups: those of the last two nights are made, and one of them proved; the nights before are history, whose objects have gone.

use chrono::{DateTime, Datelike as _, NaiveTime, TimeDelta, Utc, Weekday};
use rand::{Rng, RngExt as _};
use serde::Serialize;
use tokio_postgres::types::Json;
use utxoiq_store::{
    backup::{Backup, Progress as BackupProgress},
    cold::BackupKey,
    db,
};
use uuid::Uuid;

use super::{Demo, Written, backfill::uuid, queries};

/// The nights whose backups are really made.
const REAL: i64 = 2;

const MAKE: &str = "schedule: make_backup";

#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names)] // as the columns are named
struct Row {
    id: Uuid,
    slot_at: DateTime<Utc>,
    started_at: DateTime<Utc>,
    started_by: &'static str,
    lease_expires_at: DateTime<Utc>,
    object_key: String,
    plain_bytes: i64,
    stored_bytes: i64,
    row_count: i64,
    table_count: i32,
    sha256: String,
    manifest_sha256: String,
    schema_version: i32,
    stored_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    verified_at: DateTime<Utc>,
    copied_at: Option<DateTime<Utc>>,
    pruned_at: DateTime<Utc>,
}

/// Makes and writes them, where it is configured how.
pub async fn lay(demo: &Demo, written: &mut Written) -> anyhow::Result<()> {
    if !demo.store.backups().is_configured() {
        written.notes.push(
            "no backups were made: backup_store.url, backup.recovery_recipient and database.backup_url say where, for whom and as whom"
                .to_owned(),
        );
        return Ok(());
    }
    let step = demo.progress.begin("backups", 4);
    let newest = latest_slot(demo.as_of);
    let mut made = None;
    for night in (0..REAL).rev() {
        let slot = newest - TimeDelta::days(night);
        demo.clock.set(slot + TimeDelta::milliseconds(740));
        let now = demo.store.now();
        match demo
            .store
            .backups()
            .make(Some(slot), MAKE, now, &BackupProgress::default())
            .await
        {
            Ok(backup) => made = Some(backup),
            Err(error) => {
                written.notes.push(format!(
                    "no backup was made: {error}; `utxoiq-store backup create` tries it again"
                ));
                step.finish("none");
                return Ok(());
            }
        }
        step.done("made");
    }
    let Some(model) = made else {
        return Ok(());
    };
    written.backups = REAL.unsigned_abs();
    prove(demo, newest, written).await;
    step.done("proved");
    demo.clock.set(demo.as_of);
    written.backups += history(demo, &model, newest).await?;
    step.finish(format_args!(
        "{}, of which {REAL} are in the store",
        written.backups
    ));
    Ok(())
}

/// Restores the newest one, where there is a place for it.
async fn prove(demo: &Demo, newest: DateTime<Utc>, written: &mut Written) {
    let config = demo.store.config();
    if config.backup.drill_identity.is_none() || config.database.drill_url.is_none() {
        written.notes.push(
            "no backup was proved: backup.drill_identity and database.drill_url say how".to_owned(),
        );
        return;
    }
    // At half past three, where it is later than that.
    demo.clock
        .set((newest + TimeDelta::minutes(150)).min(demo.as_of));
    let now = demo.store.now();
    if let Err(error) = demo
        .store
        .backups()
        .drill(
            None,
            "schedule: prove_backup",
            now,
            &BackupProgress::default(),
        )
        .await
    {
        written.notes.push(format!(
            "no backup was proved: {error}; `utxoiq-store backup drill` tries it again"
        ));
    }
}

fn latest_slot(as_of: DateTime<Utc>) -> DateTime<Utc> {
    let today = as_of.date_naive().and_time(NaiveTime::MIN).and_utc() + TimeDelta::hours(1);
    // One that would not have been over by now was not made.
    if today + TimeDelta::minutes(20) < as_of {
        today
    } else {
        today - TimeDelta::days(1)
    }
}

/// The nights before: what was stored then, and went since.
async fn history(demo: &Demo, model: &Backup, newest: DateTime<Utc>) -> anyhow::Result<u64> {
    let mut random = demo.random(5);
    let has_copy = model.copied_at.is_some();
    let connection = demo.store.pool().get().await?;
    let (mut rows, mut failed) = (Vec::new(), 0);
    for night in (REAL..demo.days).rev() {
        let slot = newest - TimeDelta::days(night);
        let grown = 0.55 + 0.45 * (1.0 - night as f64 / demo.days as f64);
        let retried = random.random_bool(0.012);
        if retried {
            fail(&connection, slot, &mut random).await?;
            failed += 1;
        }
        rows.push(row(
            model,
            slot,
            (grown, retried, has_copy),
            demo.as_of,
            &mut random,
        ));
    }
    db::execute(&connection, &queries::INSERT_BACKUPS, &[&Json(&rows)]).await?;
    db::execute(&connection, &queries::PRUNE_BACKUPS, &[&Json(&rows)]).await?;
    for row in rows
        .iter()
        .filter(|row| row.slot_at.weekday() == Weekday::Sun)
    {
        proof(&connection, row, &mut random).await?;
    }
    Ok(rows.len() as u64 + failed)
}

fn row(
    model: &Backup,
    slot: DateTime<Utc>,
    (grown, retried, has_copy): (f64, bool, bool),
    as_of: DateTime<Utc>,
    random: &mut impl Rng,
) -> Row {
    let started_at = slot
        + TimeDelta::milliseconds(if retried {
            130_000
        } else {
            random.random_range(200..1_800)
        });
    let stored_at = started_at + TimeDelta::milliseconds(random.random_range(14_000..40_000));
    let verified_at = stored_at + TimeDelta::milliseconds(random.random_range(3_000..9_000));
    let id = uuid(random, started_at);
    let share = grown * random.random_range(0.99..1.01);
    let of = |figure: f64| (figure * share) as i64;
    // A weekly one stays five weeks, a daily one eight days.
    let kept = if slot.weekday() == Weekday::Sun {
        35
    } else {
        7
    };
    let pruned_at = (slot + TimeDelta::days(kept) + TimeDelta::seconds(70)).min(as_of);
    Row {
        id,
        slot_at: slot,
        started_at,
        started_by: MAKE,
        lease_expires_at: stored_at + TimeDelta::minutes(2),
        object_key: object_key(started_at, id),
        plain_bytes: of(model.plain_bytes as f64),
        stored_bytes: of(model.stored_bytes as f64),
        row_count: of(model.rows as f64),
        table_count: model.tables,
        sha256: bytea(random),
        manifest_sha256: bytea(random),
        schema_version: model.schema_version.unwrap_or_default(),
        stored_at,
        ended_at: stored_at,
        verified_at,
        copied_at: has_copy.then(|| verified_at + TimeDelta::seconds(8)),
        pruned_at,
    }
}

fn object_key(started_at: DateTime<Utc>, id: Uuid) -> String {
    BackupKey::dump(started_at, id).to_string()
}

fn bytea(random: &mut impl Rng) -> String {
    format!(
        "\\x{:032x}{:032x}",
        random.random::<u128>(),
        random.random::<u128>()
    )
}

async fn fail(
    connection: &db::Connection,
    slot: DateTime<Utc>,
    random: &mut impl Rng,
) -> anyhow::Result<()> {
    let started = slot + TimeDelta::milliseconds(900);
    let ended = started + TimeDelta::seconds(random.random_range(20..90));
    let id = uuid(random, started);
    let key = object_key(started, id);
    let params: db::Params<'_> = &[&id, &slot, &started, &ended, &key];
    db::execute(connection, &queries::BEGIN_BACKUP, params).await?;
    let why = "backup_store_unavailable: the store of backups did not answer for 60 s while a part was written";
    db::execute(connection, &queries::FAIL_BACKUP, &[&id, &ended, &why]).await?;
    Ok(())
}

async fn proof(
    connection: &db::Connection,
    row: &Row,
    random: &mut impl Rng,
) -> anyhow::Result<()> {
    let started = row.slot_at + TimeDelta::minutes(150);
    let (restore, compare) = (
        random.random_range(21_000..48_000_i64),
        random.random_range(6_000..14_000_i64),
    );
    let ended = started + TimeDelta::milliseconds(restore + compare);
    let id = uuid(random, started);
    let target = "127.0.0.1/a scratch database";
    db::execute(
        connection,
        &queries::BEGIN_PROOF,
        &[&id, &row.id, &started, &ended, &target],
    )
    .await?;
    db::execute(
        connection,
        &queries::END_PROOF,
        &[&id, &ended, &restore, &compare],
    )
    .await?;
    Ok(())
}

//! The scheduled tasks of backups (C8.1 to C8.3).

use chrono::Weekday;
use serde_json::json;

use crate::{
    Result, Store,
    backup::Progress,
    config::ProofCadence,
    schedule::{Cadence, Task, TaskContext},
};

/// The task that backs up: retention waits for it, so that what a backup holds is not halfway out of the database.
pub(super) const MAKE: &str = "make_backup";

/// Every effect is that of a run with an id and a lease of its own: no fence is needed. A slot that is run again goes on where the
/// last run came to.
pub(super) fn make_backup(store: Store) -> Task {
    Task::new(
        MAKE,
        Cadence::DailyAt { hour: 1, minute: 0 },
        "backs the database up, reads the backup back, copies it to the second store, and removes those whose time is over",
        "C8.1",
        move |context| {
            let store = store.clone();
            async move {
                let heartbeat = store.alerts().backup_heartbeat().clone();
                // One id for a slot: a retry is not another run for whoever listens.
                let run = run_of(&context);
                heartbeat.start(run).await;
                let made = make(&store, &context).await;
                match &made {
                    Ok(text) => heartbeat.success(run, text).await,
                    Err(error) => heartbeat.failure(run, error.message()).await,
                };
                made.map(|text| json!({ "backup": text }))
            }
        },
    )
}

async fn make(store: &Store, context: &TaskContext) -> Result<String> {
    let backups = store.backups();
    let actor = format!("schedule: {}", context.task);
    let slot_at = (!context.on_demand).then_some(context.slot_at);
    let backup = backups
        .make(slot_at, &actor, context.now, &Progress::default())
        .await?;
    let now = context.clock.now();
    let (adopted, removed) = backups.settle(now).await?;
    let verdicts = backups.prune(now, &actor).await?;
    let pruned = verdicts.iter().filter(|one| !one.verdict.keep).count();
    Ok(format!(
        "{}: {} rows in {} tables, {} bytes stored; {} kept, {pruned} pruned, {adopted} adopted, {removed} leftovers removed",
        backup.id,
        backup.rows,
        backup.tables,
        backup.stored_bytes,
        verdicts.len() - pruned,
    ))
}

fn run_of(context: &TaskContext) -> uuid::Uuid {
    let micros = context.slot_at.timestamp_micros().unsigned_abs();
    uuid::Builder::from_unix_timestamp_millis(micros / 1_000, &[1; 10]).into_uuid()
}

/// A proof has an id, a lease and a scratch database of its own: no fence is needed.
pub(super) fn prove_backup(store: Store) -> Task {
    let cadence = match store.config().backup.prove {
        ProofCadence::Daily => Cadence::DailyAt {
            hour: 3,
            minute: 30,
        },
        ProofCadence::Weekly => Cadence::WeeklyAt {
            weekday: Weekday::Sun,
            hour: 3,
            minute: 30,
        },
    };
    Task::new(
        "prove_backup",
        cadence,
        "restores the newest backup into a scratch database and compares everything with what was backed up",
        "C8.3",
        move |context| {
            let store = store.clone();
            async move {
                let actor = format!("schedule: {}", context.task);
                let proof = store
                    .backups()
                    .drill(None, &actor, context.now, &Progress::default())
                    .await?;
                Ok(json!({
                    "proof": proof.id,
                    "backup": proof.backup_id,
                    "restore_milliseconds": proof.restore_milliseconds,
                    "compare_milliseconds": proof.compare_milliseconds,
                }))
            }
        },
    )
}

/// Whether this process can prove a backup: another one may have the drill key alone.
pub(super) fn can_prove(store: &Store) -> bool {
    let config = store.config();
    config.backup.drill_identity.is_some() && config.database.drill_url.is_some()
}

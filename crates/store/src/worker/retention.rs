//! The scheduled tasks of retention (C7.4).

use std::time::Duration;

use serde_json::json;

use crate::{
    Error, Result, Store,
    schedule::{self, Cadence, Task, TaskContext},
};

/// How often it is looked whether the backup has ended.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Every effect of a run is fenced by its own row in retention_runs, which another runner ends: no fence is needed.
pub(super) fn run_retention(store: Store) -> Task {
    Task::new(
        "run_retention",
        Cadence::DailyAt { hour: 2, minute: 0 },
        "archives what is too old for the database, and deletes what is too old for cold storage",
        "C7.4",
        move |context| {
            let store = store.clone();
            async move {
                wait_for_backup(&store, &context).await?;
                let report = store
                    .retention()?
                    .run(context.now, &format!("schedule: {}", context.task))
                    .await?;
                // Other machines look by themselves within the hour.
                if let Err(error) = super::copies::purge(&store).await {
                    tracing::warn!(error = %error.report(), "copies of archives could not be looked through");
                }
                if let Some(failure) = report.failures.first() {
                    return Err(Error::internal(format!(
                        "{} steps of retention failed, the first: {} of {}: {}; `retention status` has all of them",
                        report.failures.len(),
                        failure.step,
                        failure.dataset,
                        failure.message
                    )));
                }
                Ok(json!({
                    "run": report.run,
                    "archived": report.archived.len(),
                    "expired": report.expired.len(),
                    "kept": report.kept.len(),
                    "removed_objects": report.removed_objects,
                }))
            }
        },
    )
}

/// Waits until no backup runs: until its slot ends, or its lease does, as that of a backup that died.
async fn wait_for_backup(store: &Store, context: &TaskContext) -> Result<()> {
    let wait = i64::from(store.config().retention.wait_for_backup_seconds);
    let give_up = context.clock.now() + chrono::TimeDelta::seconds(wait);
    loop {
        let now = context.clock.now();
        // The schedule's, and one that somebody asked for.
        if !schedule::is_running(store.pool(), super::backup::MAKE, now).await?
            && !store.backups().is_running(now).await?
        {
            return Ok(());
        }
        if now >= give_up {
            return Err(Error::conflict(
                "backup_running",
                "a backup runs for longer than retention.wait_for_backup_seconds: look at `schedule status`",
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A hold is released under a lock, once: no fence is needed.
pub(super) fn release_expired_holds(store: Store) -> Task {
    Task::new(
        "release_expired_holds",
        Cadence::DailyAt {
            hour: 0,
            minute: 30,
        },
        "releases legal holds whose end has passed",
        "C7.5",
        move |context| {
            let store = store.clone();
            async move {
                let released = store
                    .retention()?
                    .release_expired_holds(context.now, &format!("schedule: {}", context.task))
                    .await?;
                Ok(json!({ "released": released }))
            }
        },
    )
}

/// A token is ended once, by the database: no fence is needed.
pub(super) fn end_expired_tokens(store: Store) -> Task {
    Task::new(
        "end_expired_tokens",
        Cadence::DailyAt {
            hour: 0,
            minute: 40,
        },
        "revokes service tokens whose end has passed, which are refused already, so that their names are free",
        "C7.5",
        move |context| {
            let store = store.clone();
            async move {
                let actor = format!("schedule: {}", context.task);
                let ended = store.tokens().end_expired(context.now, &actor).await?;
                Ok(json!({ "ended": ended }))
            }
        },
    )
}

//! The scheduled tasks, in one table: what runs, when, and which criterion asks for it.
//!
//! The schedule itself ([`crate::schedule`]) knows no task by name, and the slices know no schedule; they meet here.
//! A task may run again for a slot that it has finished but not recorded, so each is idempotent: what it has done is
//! not there to be done again.

use serde_json::json;

use crate::{
    Store,
    schedule::{self, Cadence, Task},
};

/// Every scheduled task of the product. Each name is here once; removing a line ends the task, its history stays.
pub fn tasks(store: &Store) -> Vec<Task> {
    vec![
        fail_silent_backfills(store.clone()),
        prune_schedule_history(store.clone()),
        empty_cache_outbox(store.clone()),
    ]
}

/// A job is failed under its own row's lock, which asks again whether it is silent: no fence is needed.
fn fail_silent_backfills(store: Store) -> Task {
    Task::new(
        "fail_silent_backfills",
        Cadence::Every(1),
        "fails running backfill jobs of which nothing was heard for backfill.silence_seconds, so that they can be resumed",
        "C1.4",
        move |context| {
            let store = store.clone();
            async move {
                let failed = store.backfill().fail_silent(context.now).await?;
                Ok(json!({ "failed": failed }))
            }
        },
    )
}

/// A process that had not read what goes finds out, and starts its caches anew: no fence is needed.
fn empty_cache_outbox(store: Store) -> Task {
    Task::new(
        "empty_cache_outbox",
        Cadence::Every(1),
        "deletes changes of cached values that every process had cache.outbox_seconds to read",
        "C4.3",
        move |context| {
            let store = store.clone();
            async move {
                let deleted = store
                    .cache()
                    .empty_outbox(store.pool(), context.now)
                    .await?;
                Ok(json!({ "deleted": deleted }))
            }
        },
    )
}

fn prune_schedule_history(store: Store) -> Task {
    Task::new(
        "prune_schedule_history",
        Cadence::DailyAt { hour: 3, minute: 0 },
        "deletes finished slots older than schedule.history_days",
        "",
        move |context| {
            let store = store.clone();
            async move {
                let deleted =
                    schedule::prune(store.pool(), &store.config().schedule, context.now).await?;
                Ok(json!({ "deleted": deleted }))
            }
        },
    )
}

//! The scheduled tasks, in one table: what runs, when, and which criterion asks for it.
//!
//! The schedule itself ([`crate::schedule`]) knows no task by name, and the slices know no schedule; they meet here.
//! A task may run again for a slot that it has finished but not recorded, so each is idempotent: what it has done is
//! not there to be done again.

mod backup;
mod canary;
pub mod copies;
pub mod criteria;
mod metrics;
mod retention;
pub mod watch;

use serde_json::json;

use self::{
    backup::{can_prove, make_backup, prove_backup},
    criteria::check_criteria,
    metrics::{make_metric_partitions, prune_metric_requests, roll_up_metrics, verify_metrics},
    retention::{end_expired_tokens, release_expired_holds, run_retention},
};
use crate::{
    Error, Store,
    schedule::{self, Cadence, Task},
};

/// Every scheduled task of the product. Each name is here once; removing a line ends the task, its history stays.
pub fn tasks(store: &Store) -> Vec<Task> {
    let mut tasks = vec![
        check_feedback_statistics(store.clone()),
        fail_silent_backfills(store.clone()),
        fold_feedback(store.clone()),
        prune_schedule_history(store.clone()),
        empty_cache_outbox(store.clone()),
        make_metric_partitions(store.clone()),
        roll_up_metrics(store.clone()),
        verify_metrics(store.clone()),
        prune_metric_requests(store.clone()),
        run_retention(store.clone()),
        release_expired_holds(store.clone()),
        end_expired_tokens(store.clone()),
        prune_alerts(store.clone()),
        check_criteria(store.clone()),
    ];
    // What this process is not set up for another one may do; that nobody is, the watch tells.
    if store.backups().is_configured() {
        tasks.push(make_backup(store.clone()));
    }
    if can_prove(store) {
        tasks.push(prove_backup(store.clone()));
    }
    tasks
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

/// Folds serialise themselves by a row of their own: no fence is needed.
fn fold_feedback(store: Store) -> Task {
    Task::new(
        "fold_feedback",
        Cadence::Every(1),
        "folds changes of the counts of feedback that no server has folded: those of psql's writes, and the last before a silence",
        "C2.4",
        move |_| {
            let store = store.clone();
            async move {
                let folded = store.feedback().fold().await?;
                Ok(json!({ "deltas": folded.deltas, "day_deltas": folded.day_deltas }))
            }
        },
    )
}

/// It only reads: no fence is needed.
fn check_feedback_statistics(store: Store) -> Task {
    /// As many as a message can name.
    const NAMED: i64 = 10;
    Task::new(
        "check_feedback_statistics",
        Cadence::DailyAt { hour: 4, minute: 0 },
        "compares the statistics of every insight with its feedback, and fails where they differ",
        "C2.4",
        move |_| {
            let store = store.clone();
            async move {
                let drift = store.feedback().drift(NAMED).await?;
                if drift.is_empty() {
                    return Ok(json!({ "differences": 0 }));
                }
                let named: Vec<String> = drift
                    .iter()
                    .map(|one| format!("{:?}", one.insight_id))
                    .collect();
                Err(Error::internal(format!(
                    "statistics of feedback differ from its rows, at least for: {}; look for writes that went past the triggers of insight_feedback",
                    named.join(", ")
                )))
            }
        },
    )
}

fn prune_alerts(store: Store) -> Task {
    Task::new(
        "prune_alerts",
        Cadence::DailyAt { hour: 3, minute: 5 },
        "deletes alerts that were resolved more than 400 days ago",
        "",
        move |context| {
            let store = store.clone();
            async move {
                let deleted = store.alerts().prune(store.pool(), context.now).await?;
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

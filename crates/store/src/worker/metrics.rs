//! The scheduled tasks of metrics.

use serde_json::json;

use crate::{
    Error, Kind, Result, Store,
    metrics::Verified,
    schedule::{Cadence, Task, TaskContext},
};

/// Days are made under their own rows, one by one, and one that is there is left alone: no fence is needed.
pub(super) fn make_metric_partitions(store: Store) -> Task {
    Task::new(
        "make_metric_partitions",
        Cadence::Every(60),
        "makes the partitions of samples for metrics.days_ahead days ahead",
        "C3.2",
        move |context| {
            let store = store.clone();
            async move {
                let made = store.metrics().make_days_ahead(context.now).await?;
                Ok(json!({ "made": made }))
            }
        },
    )
}

/// Rollers take turns by a row of their own, and each step is a transaction: no fence is needed.
pub(super) fn roll_up_metrics(store: Store) -> Task {
    /// A step is a day of all series, or 2,000 late hours of series. What is left is done a minute later.
    const STEPS: u32 = 500;
    Task::new(
        "roll_up_metrics",
        Cadence::Every(1),
        "rolls up the hours of samples that are over, and again those that were written into later",
        "C3.4",
        move |context| {
            let store = store.clone();
            async move {
                let rolled = store.metrics().roll_up(context.now, STEPS).await?;
                Ok(json!({
                    "hours": rolled.hours,
                    "again": rolled.again,
                    "has_more": rolled.has_more,
                }))
            }
        },
    )
}

/// It writes what it found to be true only: no fence is needed.
pub(super) fn verify_metrics(store: Store) -> Task {
    Task::new(
        "verify_metrics",
        Cadence::DailyAt {
            hour: 3,
            minute: 30,
        },
        "compares rollups with their samples, day by day; rolls up again what differs, and fails to say so",
        "C3.4",
        move |context| {
            let store = store.clone();
            async move { verify(&store, &context).await }
        },
    )
}

/// A day that was written into late is to be verified again, so all of the hot ones may be.
const DAYS: i64 = 100;

async fn verify(store: &Store, context: &TaskContext) -> Result<serde_json::Value> {
    let (mut days, mut compared, mut waiting) = (0_u64, 0, 0);
    let mut differed: Vec<String> = Vec::new();
    for day in store.metrics().unverified_days(DAYS).await? {
        let verified = match store.metrics().verify(day, true, context.now).await {
            Ok(verified) => verified,
            // It was archived meanwhile.
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(error) => return Err(error),
        };
        days += 1;
        compared += verified.compared;
        waiting += u64::from(verified.waiting > 0);
        if verified.differing > 0 {
            let again = store.metrics().verify(day, false, context.now).await?;
            differed.push(told(&verified, &again));
        }
    }
    if differed.is_empty() {
        return Ok(json!({ "days": days, "compared": compared, "waiting_days": waiting }));
    }
    Err(Error::internal(format!(
        "rollups of metrics differed from their samples: {}; look for writes that went past the triggers of system_metrics, or to \
         metric_rollups by hand",
        differed.join(", ")
    )))
}

fn told(found: &Verified, again: &Verified) -> String {
    let series = found
        .differences
        .iter()
        .map(|difference| difference.series_id);
    let first = series.min().unwrap_or_default();
    let end = if again.differing == 0 {
        "made again".to_owned()
    } else {
        format!(
            "{} still differ: utxoiq-store metrics verify --repair",
            again.differing
        )
    };
    format!(
        "{} of {} of {} (series {first} first; {end})",
        found.differing, found.compared, found.day
    )
}

/// A deletion by time: no fence is needed.
pub(super) fn prune_metric_requests(store: Store) -> Task {
    Task::new(
        "prune_metric_requests",
        Cadence::Every(60),
        "forgets requests with an Idempotency-Key older than metrics.idempotency_hours",
        "C3.1",
        move |context| {
            let store = store.clone();
            async move {
                let deleted = store.metrics().prune_requests(context.now).await?;
                Ok(json!({ "deleted": deleted }))
            }
        },
    )
}

//! The criteria, kept up to date: what a process measured is written down, changes of states are noted, and capabilities are tried.

use std::{panic::AssertUnwindSafe, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;
use serde_json::json;
use tokio::time::MissedTickBehavior;

pub use super::canary::{Sabotage, probe, probe_with};
use crate::{
    Error, Result, Store,
    schedule::{Cadence, Task},
    slo::Report,
};

/// How often a process judges all criteria, to note since when each is in its state.
const NOTED_EVERY: TimeDelta = TimeDelta::seconds(30);

/// How long one round may take; then the next one tries.
const WITHIN: Duration = Duration::from_mins(1);

/// Writes down what this process measures, and judges the criteria, for as long as it is polled. What could not be written is written
/// with the next round. A fault of its own does not end it.
pub async fn keep_forever(store: Store) {
    let every = Duration::from_secs(store.config().slo.flush_seconds.max(1));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The pool is being filled at first: its size says nothing yet.
    ticks.tick().await;
    let mut noted_at = None;
    loop {
        ticks.tick().await;
        let now = store.now();
        let is_due = noted_at.is_none_or(|at| now < at || now - at >= NOTED_EVERY);
        let round = async {
            store.slo().keep(now).await?;
            if is_due {
                note(&store, now).await?;
            }
            Ok::<_, Error>(())
        };
        let round = AssertUnwindSafe(tokio::time::timeout(WITHIN, round)).catch_unwind();
        match round.await {
            Ok(Ok(Ok(()))) => {
                if is_due {
                    noted_at = Some(now);
                }
            }
            Ok(Ok(Err(error))) => {
                tracing::debug!(error = %error.report(), "what was measured could not be written; the next round does it");
            }
            Ok(Err(_)) => tracing::warn!("writing down what was measured took too long"),
            Err(_) => tracing::error!("writing down what was measured panicked"),
        }
    }
}

/// Judges the criteria, and notes which are in another state than before.
pub async fn note(store: &Store, now: DateTime<Utc>) -> Result<u64> {
    let slo = store.slo();
    let report = slo.report(now, None).await;
    let changes = slo.note(&report).await?;
    log_missed(&report, changes);
    Ok(changes)
}

/// Says in the log what is missed, when something changed.
fn log_missed(report: &Report, changes: u64) {
    if changes == 0 {
        return;
    }
    let missed = report
        .criteria
        .iter()
        .filter(|one| one.state == crate::slo::State::Missed);
    let missed: Vec<&str> = missed.map(|one| one.id).collect();
    tracing::info!(
        met = report.counts.met,
        missed = missed.join(","),
        unknown = report.counts.unknown,
        "the state of criteria has changed"
    );
}

/// A probe has an id, a lease and a scratch database of its own: no fence is needed.
pub(super) fn check_criteria(store: Store) -> Task {
    Task::new(
        "check_criteria",
        Cadence::Every(store.config().slo.probe_minutes),
        "tries the capabilities of the criteria in a scratch database, and deletes what was measured long ago",
        "",
        move |context| {
            let store = store.clone();
            async move {
                let deleted = store.slo().prune(context.now).await?;
                let actor = format!("schedule: {}", context.task);
                let tried = match probe(&store, &actor, context.now).await {
                    // Another instance does it, or somebody by hand: that is as good.
                    Err(error) if error.code() == "probe_running" => None,
                    tried => Some(tried?),
                };
                let failed = tried
                    .iter()
                    .flat_map(|probe| &probe.steps)
                    .filter(|step| !step.ok);
                let failed: Vec<&str> = failed.map(|step| step.criterion.as_str()).collect();
                Ok(json!({
                    "deleted": deleted,
                    "tried": tried.as_ref().map_or(0, |probe| probe.steps.len()),
                    "failed": failed,
                }))
            }
        },
    )
}

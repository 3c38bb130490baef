//! What a task owes at a moment: a pure function of its cadence and of what the table says.

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::Row;

use super::Cadence;
use crate::config::ScheduleSettings;

/// The longest pause between two attempts.
const MAX_BACKOFF: TimeDelta = TimeDelta::hours(1);

/// What the tables say about a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskState {
    pub cadence: String,
    pub first_seen_at: DateTime<Utc>,
    pub enabled: bool,
    /// The slot in state running, whoever holds it.
    pub running: Option<Running>,
    /// The newest scheduled slot, in whatever state.
    pub newest: Option<Newest>,
    /// The newest scheduled slot that succeeded.
    pub succeeded_slot_at: Option<DateTime<Utc>>,
}

/// One slot's identity and count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempted {
    pub id: i64,
    pub slot_at: DateTime<Utc>,
    pub on_demand: bool,
    pub epoch: i64,
    pub attempts: i32,
    pub missed: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Running {
    pub slot: Attempted,
    pub lease_expires_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub slot: Attempted,
    /// Only a failed slot that was not given up has one.
    pub retry_at: Option<DateTime<Utc>>,
}

/// What to do about a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// A slot whose runner was lost and that this claim does not go on with.
    pub vacate: Option<Vacate>,
    /// What to run.
    pub run: Option<Run>,
}

impl Decision {
    pub(super) fn is_nothing(&self) -> bool {
        self.vacate.is_none() && self.run.is_none()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vacate {
    pub slot: Attempted,
    pub retry_at: Option<DateTime<Utc>>,
    pub error: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Run {
    /// A slot that has no row yet.
    Start {
        slot_at: DateTime<Utc>,
        on_demand: bool,
        missed: i64,
    },
    /// Another attempt at a slot.
    Again {
        slot: Attempted,
        error: Option<&'static str>,
    },
}

const LOST: &str = "its runner was lost";
const SUPERSEDED: &str = "its runner was lost, and a newer slot stands for it";
const GIVEN_UP: &str = "its runner was lost, at the last attempt";
const PREEMPTED: &str = "its runner was lost, and a run on demand came before the next attempt";

/// What the schedule asks for at `now`.
///
/// * A slot that somebody runs (its lease is not over) lets nothing else start.
/// * The newest due slot stands for all older ones, whether they were missed, failed, or lost their runner.
/// * Without a newer one, a slot whose runner was lost is gone on with, and a failed one tried again at its time.
pub(super) fn due(
    cadence: Cadence,
    state: &TaskState,
    now: DateTime<Utc>,
    max_attempts: i32,
) -> Decision {
    let lost = match state.running {
        Some(running) if running.lease_expires_at > now => return Decision::default(),
        running => running.map(|running| running.slot),
    };
    if !state.enabled {
        return Decision::default();
    }
    let slot_at = cadence.latest_slot(now);
    let is_known = state
        .newest
        .is_some_and(|newest| newest.slot.slot_at >= slot_at);
    if slot_at >= state.first_seen_at && !is_known {
        return Decision {
            vacate: lost.map(|slot| Vacate {
                slot,
                retry_at: None,
                error: SUPERSEDED,
            }),
            run: Some(Run::Start {
                slot_at,
                on_demand: false,
                missed: cadence.slots_between(owed_from(state), slot_at),
            }),
        };
    }
    if let Some(slot) = lost {
        return go_on(slot, max_attempts);
    }
    let again = state
        .newest
        .filter(|newest| newest.retry_at.is_some_and(|retry_at| retry_at <= now))
        .map(|newest| Run::Again {
            slot: newest.slot,
            error: None,
        });
    Decision {
        vacate: None,
        run: again,
    }
}

/// A slot whose runner was lost is an attempt used up: a task that kills its process must end at some time.
fn go_on(slot: Attempted, max_attempts: i32) -> Decision {
    if slot.attempts < max_attempts {
        return Decision {
            vacate: None,
            run: Some(Run::Again {
                slot,
                error: Some(LOST),
            }),
        };
    }
    Decision {
        vacate: Some(Vacate {
            slot,
            retry_at: None,
            error: GIVEN_UP,
        }),
        run: None,
    }
}

/// What a run on demand does; `None` while one is under way. A scheduled slot whose runner was lost stays owed.
pub(super) fn on_demand(
    state: &TaskState,
    now: DateTime<Utc>,
    max_attempts: i32,
) -> Option<Decision> {
    let lost = match state.running {
        Some(running) if running.lease_expires_at > now => return None,
        running => running.map(|running| running.slot),
    };
    let vacate = lost.map(|slot| Vacate {
        slot,
        retry_at: (!slot.on_demand && slot.attempts < max_attempts).then_some(now),
        error: PREEMPTED,
    });
    Some(Decision {
        vacate,
        run: Some(Run::Start {
            slot_at: now,
            on_demand: true,
            missed: 0,
        }),
    })
}

/// From when on slots are owed: after the last success, or since the task is known.
fn owed_from(state: &TaskState) -> DateTime<Utc> {
    state
        .succeeded_slot_at
        .map_or(state.first_seen_at, |slot_at| {
            slot_at + TimeDelta::microseconds(1)
        })
        .max(state.first_seen_at)
}

/// The oldest slot that is owed, which may lie in the future.
pub(super) fn oldest_owed(cadence: Cadence, state: &TaskState) -> DateTime<Utc> {
    cadence.first_slot(owed_from(state))
}

/// When a slot that just failed is tried again; `None` when it is given up.
pub(super) fn retry_at(
    settings: &ScheduleSettings,
    attempts: i32,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if attempts >= settings.max_attempts {
        return None;
    }
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(16);
    let pause = i64::try_from(settings.retry_backoff_seconds)
        .ok()
        .and_then(|seconds| TimeDelta::try_seconds(seconds.checked_mul(1 << doublings)?))
        .unwrap_or(MAX_BACKOFF);
    Some(now + pause.min(MAX_BACKOFF))
}

impl TaskState {
    /// A row of `queries::LOAD`.
    pub(super) fn from_row(row: &Row) -> Self {
        let running = row.get::<_, Option<i64>>("running_id").map(|id| Running {
            slot: Attempted {
                id,
                slot_at: row.get("running_slot_at"),
                on_demand: row.get("running_on_demand"),
                epoch: row.get("running_epoch"),
                attempts: row.get("running_attempts"),
                missed: row.get("running_missed"),
            },
            lease_expires_at: row.get("lease_expires_at"),
        });
        let newest = row.get::<_, Option<i64>>("newest_id").map(|id| Newest {
            slot: Attempted {
                id,
                slot_at: row.get("newest_slot_at"),
                on_demand: false,
                epoch: row.get("newest_epoch"),
                attempts: row.get("newest_attempts"),
                missed: row.get("newest_missed"),
            },
            retry_at: row.get("retry_at"),
        });
        Self {
            cadence: row.get("cadence"),
            first_seen_at: row.get("first_seen_at"),
            enabled: row.get("enabled"),
            running,
            newest,
            succeeded_slot_at: row.get("succeeded_slot_at"),
        }
    }
}

#[cfg(test)]
mod tests;

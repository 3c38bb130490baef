//! Running a claimed slot to its end.

use std::{
    any::Any,
    sync::{Arc, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::{JoinError, JoinHandle};
use tokio_postgres::types::ToSql;

use super::{Inner, Task, TaskContext, claim::Claim, decide, queries};
use crate::{
    db::{self, Statement},
    error::Result,
    trace,
};

/// The longest error kept, in characters; the table's CHECK says the same.
const MAX_ERROR: usize = 2_000;

/// The longest outcome kept, in bytes of JSON.
const MAX_OUTCOME: usize = 65_536;

/// How often the record of a run's end is sent: losing it would mean another run.
const RECORD_ATTEMPTS: u32 = 4;

/// What became of one slot that a call ran.
#[derive(Debug, Clone, Serialize)]
pub struct SlotOutcome {
    /// The task's name.
    pub task: &'static str,
    /// When it was due, or asked for.
    pub slot_at: DateTime<Utc>,
    /// Whether it was asked for by hand.
    pub on_demand: bool,
    /// Which attempt at the slot this was; 0 when it could not even be claimed.
    pub attempt: i32,
    /// The claim's epoch; 0 when it could not be claimed.
    pub epoch: i64,
    /// How many earlier slots, which did not succeed, this one stands for.
    pub missed: i64,
    /// How it ended.
    #[serde(flatten)]
    pub result: SlotResult,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum SlotResult {
    /// It is done, and recorded as done.
    Succeeded {
        /// What the task says about it.
        outcome: Value,
    },
    /// The task gave an error or panicked.
    Failed {
        /// Its message.
        error: String,
        /// When it is tried again; `None` when it was given up.
        retry_at: Option<DateTime<Utc>>,
    },
    /// The slot is not this runner's any more, or never became so; another attempt will be made.
    Abandoned {
        /// Why.
        reason: String,
    },
}

impl SlotResult {
    /// Whether the slot is done.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded { .. })
    }

    /// The ways to end, by their names.
    pub const NAMES: [&'static str; 3] = ["succeeded", "failed", "abandoned"];

    /// Its name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Abandoned { .. } => "abandoned",
        }
    }

    fn abandoned(reason: &str) -> Self {
        Self::Abandoned {
            reason: reason.to_owned(),
        }
    }
}

/// A task's function under way; dropping it cancels the function, so that nothing runs on without its lease.
struct Work(JoinHandle<Result<Value>>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a run came to an end.
enum End {
    Done(Result<Result<Value>, JoinError>),
    Lost,
    Stopped,
}

impl Inner {
    /// Claims and runs what the schedule asks for; `None` when there is nothing left to do.
    pub(super) async fn run_due(&self, task: &Task, now: DateTime<Utc>) -> Option<SlotOutcome> {
        match self.claim_due(task, now).await {
            Ok(Some(claim)) => Some(self.run(task, claim).await),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(
                    task = task.name,
                    error = error.report(),
                    "a due task could not be claimed"
                );
                Some(SlotOutcome {
                    task: task.name,
                    slot_at: task.cadence.latest_slot(now),
                    on_demand: false,
                    attempt: 0,
                    epoch: 0,
                    missed: 0,
                    result: SlotResult::abandoned(&format!("could not be claimed: {error}")),
                })
            }
        }
    }

    /// Runs a claimed slot, keeping its lease, and records the end.
    ///
    /// The function runs in a task of its own: a panic ends that task only, and one that computes for long does not
    /// hold up the heartbeat.
    pub(super) async fn run(&self, task: &Task, claim: Claim) -> SlotOutcome {
        let context = Arc::new(self.context(task, &claim));
        let function = Arc::clone(&task.function);
        tracing::info!(task = task.name, slot_at = %claim.slot_at, attempt = claim.attempt, missed = claim.missed, "a scheduled task begins");
        let span = trace::root(&format!("task {}", task.name), task.criterion);
        let working = trace::within(span, async move { function(context).await });
        let mut work = Work(tokio::spawn(working));
        let mut stop = self.stop.subscribe();
        let end = tokio::select! {
            biased;
            done = &mut work.0 => End::Done(done),
            () = self.keep_lease(task, &claim) => End::Lost,
            _ = stop.wait_for(|stopped| *stopped) => End::Stopped,
        };
        if !matches!(end, End::Done(_)) {
            // What was cancelled has really ended before anybody is told so.
            work.0.abort();
            let _ = (&mut work.0).await;
        }
        let result = match end {
            End::Done(Ok(Ok(outcome))) => self.succeed(&claim, outcome).await,
            End::Done(Ok(Err(error))) => {
                tracing::warn!(task = task.name, slot_at = %claim.slot_at, error = error.report(), "a scheduled task failed");
                self.fail(&claim, &format!("{error} ({})", error.code()))
                    .await
            }
            End::Done(Err(error)) => self.fail(&claim, &panic_message(error)).await,
            End::Lost => {
                SlotResult::abandoned("its lease was lost; another runner goes on with it")
            }
            End::Stopped => self.release(&claim).await,
        };
        let ended = self.ended.lock();
        *ended
            .unwrap_or_else(PoisonError::into_inner)
            .entry((task.name, result.as_str()))
            .or_default() += 1;
        let outcome = outcome_of(task, &claim, result);
        tracing::info!(task = task.name, slot_at = %claim.slot_at, result = ?outcome.result, "a scheduled task ended");
        outcome
    }

    fn context(&self, task: &Task, claim: &Claim) -> TaskContext {
        TaskContext {
            task: task.name,
            now: claim.claimed_at,
            slot_at: claim.slot_at,
            on_demand: claim.on_demand,
            epoch: claim.epoch,
            attempt: claim.attempt,
            missed: claim.missed,
            clock: Arc::clone(&self.clock),
            slot_id: claim.slot_id,
        }
    }

    fn heartbeat_interval(&self) -> Duration {
        Duration::from_secs(self.settings.lease_seconds) / 3
    }

    /// Renews the lease three times in its length; returns when it is lost, by another's claim or because the
    /// database could not be asked until its end.
    async fn keep_lease(&self, task: &Task, claim: &Claim) {
        let every = self.heartbeat_interval();
        let mut lease_expires_at = claim.lease_expires_at;
        loop {
            tokio::time::sleep(every).await;
            let now = self.clock.now();
            let renewed = now + self.lease();
            let claimed: db::Params<'_> = &[&claim.slot_id, &claim.epoch, &now, &renewed];
            let beat = self.write(&queries::HEARTBEAT, claimed);
            match tokio::time::timeout(every, beat).await {
                Ok(Ok(true)) => lease_expires_at = renewed,
                Ok(Ok(false)) => {
                    tracing::warn!(task = task.name, slot_at = %claim.slot_at, "a scheduled task lost its lease and is cancelled");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(
                        task = task.name,
                        error = error.report(),
                        "a heartbeat failed"
                    );
                }
                Err(_) => tracing::warn!(task = task.name, "a heartbeat got no answer in time"),
            }
            if self.clock.now() >= lease_expires_at {
                tracing::warn!(task = task.name, slot_at = %claim.slot_at, "a scheduled task could not renew its lease and is cancelled");
                return;
            }
        }
    }

    async fn succeed(&self, claim: &Claim, outcome: Value) -> SlotResult {
        let now = self.clock.now();
        let outcome = storable_outcome(outcome);
        let recorded = self
            .record(
                &queries::SUCCEED,
                &[&claim.slot_id, &claim.epoch, &now, &outcome],
            )
            .await;
        recorded.unwrap_or(SlotResult::Succeeded { outcome })
    }

    async fn fail(&self, claim: &Claim, error: &str) -> SlotResult {
        let now = self.clock.now();
        let error = storable_error(error);
        let retry_at = if claim.on_demand {
            None
        } else {
            decide::retry_at(&self.settings, claim.attempt, now)
        };
        let recorded = self
            .record(
                &queries::FAIL,
                &[&claim.slot_id, &claim.epoch, &now, &error, &retry_at],
            )
            .await;
        recorded.unwrap_or(SlotResult::Failed { error, retry_at })
    }

    async fn release(&self, claim: &Claim) -> SlotResult {
        let now = self.clock.now();
        if let Err(error) = self
            .write(&queries::RELEASE, &[&claim.slot_id, &claim.epoch, &now])
            .await
        {
            tracing::warn!(
                error = error.report(),
                "a scheduled run could not be given back; its lease ends by itself"
            );
        }
        SlotResult::abandoned("this process is stopping; another runner goes on with it")
    }

    /// Records a run's end; `None` when that is done. Sent again where the database did not answer: the statements
    /// do the same the second time.
    async fn record(&self, statement: &Statement, params: db::Params<'_>) -> Option<SlotResult> {
        for attempt in 1..=RECORD_ATTEMPTS {
            match self.write(statement, params).await {
                Ok(true) => return None,
                Ok(false) => {
                    return Some(SlotResult::abandoned(
                        "it ended after its lease was over and another runner had taken it",
                    ));
                }
                Err(error) => {
                    tracing::warn!(
                        statement = statement.name,
                        attempt,
                        error = error.report(),
                        "the end of a scheduled run could not be recorded"
                    );
                }
            }
            if attempt < RECORD_ATTEMPTS {
                tokio::time::sleep(self.heartbeat_interval() / 4).await;
            }
        }
        Some(SlotResult::abandoned(
            "its end could not be recorded; it runs again when its lease is over",
        ))
    }

    /// Runs a statement about one slot; whether it changed it.
    async fn write(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Result<bool> {
        let connection = self.pool.get().await?;
        Ok(db::execute(&connection, statement, params).await? == 1)
    }
}

fn outcome_of(task: &Task, claim: &Claim, result: SlotResult) -> SlotOutcome {
    SlotOutcome {
        task: task.name,
        slot_at: claim.slot_at,
        on_demand: claim.on_demand,
        attempt: claim.attempt,
        epoch: claim.epoch,
        missed: claim.missed,
        result,
    }
}

fn panic_message(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "the task was cancelled".to_owned();
    };
    let text = text_of(panic.as_ref());
    tracing::error!(panic = text, "a scheduled task panicked");
    format!("the task panicked: {text}")
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

/// An error as the table can keep it.
fn storable_error(error: &str) -> String {
    error
        .chars()
        .map(|c| if c == '\0' { '\u{fffd}' } else { c })
        .take(MAX_ERROR)
        .collect()
}

/// An outcome as the table can keep it: PostgreSQL's jsonb has no NUL character, and a history is no archive.
fn storable_outcome(outcome: Value) -> Value {
    let text = outcome.to_string();
    if text.len() > MAX_OUTCOME {
        return json!({ "omitted": format!("the outcome has {} bytes; {MAX_OUTCOME} are kept", text.len()) });
    }
    if holds_nul(&outcome) {
        return json!({ "omitted": "the outcome holds a NUL character, which the database cannot keep" });
    }
    outcome
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_cannot_keep_is_replaced() {
        assert_eq!(storable_error("a\0b"), "a\u{fffd}b");
        assert_eq!(
            storable_error(&"\u{e9}".repeat(5_000)).chars().count(),
            MAX_ERROR
        );
        assert!(
            storable_outcome(json!({ "a": ["x\0"] }))
                .get("omitted")
                .is_some()
        );
        assert!(
            storable_outcome(json!({ "a\0": 1 }))
                .get("omitted")
                .is_some()
        );
        assert!(
            storable_outcome(json!("x".repeat(MAX_OUTCOME)))
                .get("omitted")
                .is_some()
        );
        // A backslash followed by u0000 in the text is no NUL.
        assert_eq!(storable_outcome(json!("\\u0000")), json!("\\u0000"));
    }

    #[tokio::test]
    async fn a_panic_is_told_with_its_message() {
        let number = 7;
        let formatted = tokio::spawn(async move { panic!("number {number}") })
            .await
            .unwrap_err();
        assert_eq!(panic_message(formatted), "the task panicked: number 7");
        let odd = tokio::spawn(async { std::panic::panic_any(7) })
            .await
            .unwrap_err();
        assert_eq!(panic_message(odd), "the task panicked: without a message");
    }
}

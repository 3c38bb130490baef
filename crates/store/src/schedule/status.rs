//! What people ask: what ran, what is next, what is late.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use super::{Inner, Task, decide, decide::TaskState, queries};
use crate::{
    db::{self, Pool},
    error::{Error, Result},
};

/// The most rows of a history.
const MAX_HISTORY: usize = 1_000;

/// The state of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Somebody holds it, or did until the lease ended.
    Running,
    /// Done, once and for all.
    Succeeded,
    /// The last attempt failed; `retry_at` says whether there is another.
    Failed,
}

impl SlotState {
    /// Its name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// One slot as the table has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slot {
    /// The task's name.
    pub task: String,
    /// When it was due, or asked for.
    pub slot_at: DateTime<Utc>,
    /// Whether it was asked for by hand.
    pub on_demand: bool,
    /// How it stands.
    pub state: SlotState,
    /// The epoch of its latest claim.
    pub epoch: i64,
    /// The process that claimed it last.
    pub runner: String,
    /// How often it was claimed.
    pub attempts: i32,
    /// How many earlier slots, which did not succeed, it stands for.
    pub missed: i64,
    /// When the latest attempt began.
    pub started_at: DateTime<Utc>,
    /// When its runner was last heard of.
    pub heartbeat_at: DateTime<Utc>,
    /// When another may take it, while it runs.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// When the latest attempt ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When a failed one is tried again; `None` when it was given up.
    pub retry_at: Option<DateTime<Utc>>,
    /// What the task said at success.
    pub outcome: Option<Value>,
    /// The last failed attempt's error, also where a later attempt succeeded.
    pub error: Option<String>,
}

/// One task as `schedule status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskStatus {
    /// Its name.
    pub task: &'static str,
    /// When it is due, in words.
    pub cadence: String,
    /// What it does.
    pub description: &'static str,
    /// The criterion that asks for it; empty where none does.
    pub criterion: &'static str,
    /// Whether the schedule starts it; an administrator's switch.
    pub enabled: bool,
    /// From when on it owes its slots; `None` when no tick has seen it yet.
    pub first_seen_at: Option<DateTime<Utc>>,
    /// Its newest run, by hand or by schedule.
    pub last: Option<Slot>,
    /// The newest scheduled slot that succeeded.
    pub last_success_at: Option<DateTime<Utc>>,
    /// The first slot after now.
    pub next_slot_at: DateTime<Utc>,
    /// Whether a slot is owed for longer than a lease and two ticks, and nobody is running it.
    pub overdue: bool,
}

impl Inner {
    pub(super) async fn status(&self, now: DateTime<Utc>) -> Result<Vec<TaskStatus>> {
        let mut states = self.load().await?;
        let names: Vec<&str> = self.tasks.iter().map(|task| task.name).collect();
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::LAST, &[&names]).await?;
        let mut last = rows
            .iter()
            .map(|row| slot_from(row).map(|slot| (slot.task.clone(), slot)))
            .collect::<Result<BTreeMap<String, Slot>>>()?;
        Ok(self
            .tasks
            .iter()
            .map(|task| self.status_of(task, states.remove(task.name), last.remove(task.name), now))
            .collect())
    }

    fn status_of(
        &self,
        task: &Task,
        state: Option<TaskState>,
        last: Option<Slot>,
        now: DateTime<Utc>,
    ) -> TaskStatus {
        TaskStatus {
            task: task.name,
            cadence: task.cadence.to_string(),
            description: task.description,
            criterion: task.criterion,
            enabled: state.as_ref().is_none_or(|state| state.enabled),
            first_seen_at: state.as_ref().map(|state| state.first_seen_at),
            last,
            last_success_at: state.as_ref().and_then(|state| state.succeeded_slot_at),
            next_slot_at: task.cadence.next_slot(now),
            overdue: state.is_some_and(|state| self.is_overdue(task, &state, now)),
        }
    }

    fn is_overdue(&self, task: &Task, state: &TaskState, now: DateTime<Utc>) -> bool {
        let ticks = i64::try_from(self.settings.tick_seconds.saturating_mul(2))
            .ok()
            .and_then(TimeDelta::try_seconds)
            .unwrap_or(TimeDelta::hours(1));
        let is_running = state
            .running
            .is_some_and(|running| running.lease_expires_at > now);
        let since = decide::oldest_owed(task.cadence, state);
        state.enabled && !is_running && since <= now && now - since > self.lease() + ticks
    }
}

pub(super) async fn history(pool: &Pool, task: &str, limit: usize) -> Result<Vec<Slot>> {
    let limit = i64::try_from(limit.min(MAX_HISTORY)).unwrap_or(0);
    let connection = pool.get().await?;
    let rows = db::query(&connection, &queries::HISTORY, &[&task, &limit]).await?;
    rows.iter().map(slot_from).collect()
}

fn slot_from(row: &Row) -> Result<Slot> {
    let state = match row.get("state") {
        "running" => SlotState::Running,
        "succeeded" => SlotState::Succeeded,
        "failed" => SlotState::Failed,
        _ => {
            return Err(Error::internal(
                "a slot has a state that this program does not know",
            ));
        }
    };
    Ok(Slot {
        task: row.get("task"),
        slot_at: row.get("slot_at"),
        on_demand: row.get("on_demand"),
        state,
        epoch: row.get("epoch"),
        runner: row.get("runner"),
        attempts: row.get("attempts"),
        missed: row.get("missed"),
        started_at: row.get("started_at"),
        heartbeat_at: row.get("heartbeat_at"),
        lease_expires_at: row.get("lease_expires_at"),
        finished_at: row.get("finished_at"),
        retry_at: row.get("retry_at"),
        outcome: row.get("outcome"),
        error: row.get("error"),
    })
}

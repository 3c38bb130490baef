//! A task, and what its function is given.

use std::{fmt, pin::Pin, sync::Arc};

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use serde_json::Value;

use super::{Cadence, queries};
use crate::{
    clock::Clock,
    db,
    error::{Error, Result},
};

/// What a task's function returns: its outcome, which the history keeps.
pub type TaskFuture = Pin<Box<dyn Future<Output = Result<Value>> + Send>>;

type TaskFunction = Arc<dyn Fn(Arc<TaskContext>) -> TaskFuture + Send + Sync>;

/// One scheduled task.
#[derive(Clone)]
pub struct Task {
    /// Its name, in snake case, at most 50 characters; what the tables know it by.
    pub name: &'static str,
    /// When it is due.
    pub cadence: Cadence,
    /// What it does, in one line.
    pub description: &'static str,
    /// The criterion that asks for it; empty where none does.
    pub criterion: &'static str,
    pub(super) function: TaskFunction,
}

impl Task {
    /// A task. Its function may be cancelled at any await, and may run again for the same slot: it must be resumable,
    /// and fence what it writes.
    pub fn new<F, Run>(
        name: &'static str,
        cadence: Cadence,
        description: &'static str,
        criterion: &'static str,
        function: F,
    ) -> Self
    where
        F: Fn(Arc<TaskContext>) -> Run + Send + Sync + 'static,
        Run: Future<Output = Result<Value>> + Send + 'static,
    {
        Self {
            name,
            cadence,
            description,
            criterion,
            function: Arc::new(move |context| Box::pin(function(context))),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let mut bytes = self.name.bytes();
        let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
        let goes_on_well =
            bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !starts_well || !goes_on_well || self.name.len() > 50 {
            return Err(Error::invalid(
                "invalid_schedule",
                format!(
                    "{:?} is no name for a task: use snake case, at most 50 characters",
                    self.name
                ),
            ));
        }
        self.cadence.check().map(|_| ())
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("name", &self.name)
            .field("cadence", &self.cadence)
            .finish_non_exhaustive()
    }
}

/// One run of a task.
pub struct TaskContext {
    /// The task's name.
    pub task: &'static str,
    /// When the run began: the time for all its decisions.
    pub now: DateTime<Utc>,
    /// The slot it is for.
    pub slot_at: DateTime<Utc>,
    /// Whether it was asked for by hand.
    pub on_demand: bool,
    /// Higher than that of every earlier claim of this task; names of stored objects contain it.
    pub epoch: i64,
    /// 1 for the first attempt at this slot.
    pub attempt: i32,
    /// How many earlier slots, which did not succeed, this one stands for.
    pub missed: i64,
    /// The clock, for a run long enough to need a later time than `now`.
    pub clock: Arc<dyn Clock>,
    pub(super) slot_id: i64,
}

impl TaskContext {
    /// To be called first in each transaction in which the task writes: fails as the conflict `stale_lease` when the
    /// slot is no longer this run's, and else keeps it so until the transaction ends, because a taker waits.
    ///
    /// Holds for READ COMMITTED transactions; a stricter one fails as `database_busy` where a heartbeat came between.
    pub async fn fence(&self, tx: &Transaction<'_>) -> Result<()> {
        db::query_opt(tx, &queries::FENCE, &[&self.slot_id, &self.epoch])
            .await?
            .map(|_| ())
            .ok_or_else(|| {
                Error::conflict(
                    "stale_lease",
                    "this run's lease was taken over: stop, another runner goes on",
                )
            })
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("task", &self.task)
            .field("slot_at", &self.slot_at)
            .field("epoch", &self.epoch)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

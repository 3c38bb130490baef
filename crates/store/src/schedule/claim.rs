//! Taking a slot: one short transaction under the task's row lock.
//!
//! The lock makes deciders of one task queue, and the decision is made again under it from fresh reads. Ticks that
//! find nothing due never get here.

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Transaction;

use super::{
    Inner, Task,
    decide::{self, Attempted, Decision, Run, TaskState},
    queries,
};
use crate::{
    db,
    error::{Error, Result},
};

/// A slot that this process holds.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub slot_id: i64,
    pub slot_at: DateTime<Utc>,
    pub on_demand: bool,
    pub epoch: i64,
    pub attempt: i32,
    pub missed: i64,
    pub claimed_at: DateTime<Utc>,
    pub lease_expires_at: DateTime<Utc>,
}

impl Inner {
    pub(super) fn lease(&self) -> TimeDelta {
        i64::try_from(self.settings.lease_seconds)
            .ok()
            .and_then(TimeDelta::try_seconds)
            .unwrap_or(TimeDelta::hours(1))
    }

    /// Claims what the schedule asks for; `None` when another process was faster.
    pub(super) async fn claim_due(&self, task: &Task, now: DateTime<Utc>) -> Result<Option<Claim>> {
        let mut connection = self.pool.get().await?;
        let tx = connection.transaction().await?;
        let Some(state) = lock(&tx, task).await? else {
            return Ok(None);
        };
        let decision = decide::due(task.cadence, &state, now, self.settings.max_attempts);
        if decision.is_nothing() {
            return Ok(None);
        }
        let Some(claim) = self.carry_out(&tx, task, decision, now).await? else {
            return Ok(None);
        };
        tx.commit().await?;
        Ok(claim)
    }

    /// Claims a slot at `now`, or refuses as `task_running`.
    pub(super) async fn claim_on_demand(&self, task: &Task, now: DateTime<Utc>) -> Result<Claim> {
        let running = || {
            Error::conflict(
                "task_running",
                format!(
                    "{} is running: wait for its end, `schedule status` shows it",
                    task.name
                ),
            )
        };
        let mut connection = self.pool.get().await?;
        let tx = connection.transaction().await?;
        let state = lock(&tx, task)
            .await?
            .ok_or_else(|| Error::internal("a registered task has no row in schedule_tasks"))?;
        let decision =
            decide::on_demand(&state, now, self.settings.max_attempts).ok_or_else(running)?;
        let claim = self
            .carry_out(&tx, task, decision, now)
            .await?
            .flatten()
            .ok_or_else(running)?;
        tx.commit().await?;
        Ok(claim)
    }

    /// Carries a decision out. The outer `None` says that a slot changed in between or that its lost runner has a
    /// fenced transaction open: nothing may be done now, and the caller rolls back. The inner one, that there was
    /// nothing to run.
    async fn carry_out(
        &self,
        tx: &Transaction<'_>,
        task: &Task,
        decision: Decision,
        now: DateTime<Utc>,
    ) -> Result<Option<Option<Claim>>> {
        let epoch: i64 = db::query_one(tx, &queries::NEXT_EPOCH, &[&task.name])
            .await?
            .get("epoch");
        if let Some(vacate) = decision.vacate {
            if !take(tx, vacate.slot, now).await? {
                return Ok(None);
            }
            tracing::warn!(task = task.name, slot_at = %vacate.slot.slot_at, "a scheduled run is closed: {}", vacate.error);
            db::execute(
                tx,
                &queries::VACATE,
                &[
                    &vacate.slot.id,
                    &epoch,
                    &now,
                    &vacate.retry_at,
                    &vacate.error,
                ],
            )
            .await?;
        }
        match decision.run {
            None => Ok(Some(None)),
            Some(Run::Start {
                slot_at,
                on_demand,
                missed,
            }) => {
                let claim = self
                    .start(tx, task, (slot_at, on_demand, missed), epoch, now)
                    .await?;
                Ok(Some(Some(claim)))
            }
            Some(Run::Again { slot, error }) => {
                let claim = self.start_again(tx, slot, error, epoch, now).await?;
                Ok(claim.map(Some))
            }
        }
    }

    async fn start(
        &self,
        tx: &Transaction<'_>,
        task: &Task,
        (slot_at, on_demand, missed): (DateTime<Utc>, bool, i64),
        epoch: i64,
        now: DateTime<Utc>,
    ) -> Result<Claim> {
        let lease_expires_at = now + self.lease();
        let row = db::query_one(
            tx,
            &queries::START,
            &[
                &task.name,
                &slot_at,
                &on_demand,
                &missed,
                &epoch,
                &self.runner,
                &now,
                &lease_expires_at,
            ],
        )
        .await?;
        Ok(Claim {
            slot_id: row.get("id"),
            slot_at,
            on_demand,
            epoch,
            attempt: 1,
            missed,
            claimed_at: now,
            lease_expires_at,
        })
    }

    async fn start_again(
        &self,
        tx: &Transaction<'_>,
        slot: Attempted,
        error: Option<&str>,
        epoch: i64,
        now: DateTime<Utc>,
    ) -> Result<Option<Claim>> {
        if !take(tx, slot, now).await? {
            return Ok(None);
        }
        let lease_expires_at = now + self.lease();
        db::execute(
            tx,
            &queries::START_AGAIN,
            &[
                &slot.id,
                &epoch,
                &self.runner,
                &now,
                &lease_expires_at,
                &error,
            ],
        )
        .await?;
        Ok(Some(Claim {
            slot_id: slot.id,
            slot_at: slot.slot_at,
            on_demand: slot.on_demand,
            epoch,
            attempt: slot.attempts + 1,
            missed: slot.missed,
            claimed_at: now,
            lease_expires_at,
        }))
    }
}

/// Locks the task's row, then reads: a statement after the lock sees what the holder before us committed.
async fn lock(tx: &Transaction<'_>, task: &Task) -> Result<Option<TaskState>> {
    if db::query_opt(tx, &queries::LOCK_TASK, &[&task.name])
        .await?
        .is_none()
    {
        return Ok(None);
    }
    let row = db::query_opt(tx, &queries::LOAD, &[&vec![task.name]]).await?;
    Ok(row.as_ref().map(TaskState::from_row))
}

/// Takes a slot from its last claim, if it is still as it was when that was decided.
async fn take(tx: &Transaction<'_>, slot: Attempted, now: DateTime<Utc>) -> Result<bool> {
    let row = db::query_opt(tx, &queries::LOCK_SLOT, &[&slot.id, &slot.epoch, &now]).await?;
    Ok(row.is_some())
}

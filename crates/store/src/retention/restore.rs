//! Bringing archived rows back into the database.
//!
//! # What it guarantees
//!
//! * What comes back is what was archived: the database computes the digest of the rows that it has then, and takes nothing
//!   else. Statistics, sums of days and the history are as if the rows had never been away.
//! * All or nothing: every part of a day comes back in one transaction, in which the archives end, too. Killed before it
//!   commits, nothing has happened, and it can be run again; a row is never there twice.
//! * What came back stays: a hold of the day is placed in the same transaction. When it ends, or is released, the next run
//!   archives the day anew.
//!
//! A day of samples is filled into a table of its own first, which nobody reads, as that takes its time; comparing it and
//! making it a part of the samples is one transaction, tried again while somebody holds the locks.

use std::pin::pin;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures_util::SinkExt as _;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::{
    Archive, Event, Retention, State,
    locks::{is_locked, while_locked},
    queries, refused,
};
use crate::{
    audit::{Action, Audit},
    clock::{to_micros, uuid_at},
    cold::{Dataset, Fetched},
    db,
    error::{Error, FieldError, Result},
};

/// The longest reason, in characters: it becomes part of the hold's.
const MAX_REASON: usize = 900;

/// The longest time for which what was restored is held.
pub const MAX_HOLD_DAYS: u32 = 3_650;

/// How many rows that stand in the way are named.
const NAMED: usize = 10;

/// What is to be brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restorable {
    /// One archive.
    Archive(Uuid),
    /// All archives of a dataset's day.
    Day(Dataset, NaiveDate),
}

/// What was brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Of which dataset.
    pub dataset: &'static str,
    /// Of which day.
    pub day: NaiveDate,
    /// The archives, which have ended.
    pub archives: Vec<Uuid>,
    /// How many rows are in the database again.
    pub rows: i64,
    /// The hold that keeps them there.
    pub hold: Uuid,
    /// Until when.
    pub held_until: DateTime<Utc>,
}

/// How something is brought back.
#[derive(Debug, Clone, Copy)]
struct Restoring<'a> {
    hold: Uuid,
    held_until: DateTime<Utc>,
    reason: &'a str,
    at: DateTime<Utc>,
    actor: &'a str,
}

impl Retention<'_> {
    /// Brings archived rows back, equal in content, and holds their day for so many days.
    ///
    /// # Errors
    ///
    /// `restore_conflict`, naming what stands in the way, where a user has given feedback on an insight again or a job's
    /// name is used by another one; `archive_state`; `nothing_archived`; `archive_changed` where what came back is not what
    /// was archived. Then nothing has changed.
    pub async fn restore(
        &self,
        what: Restorable,
        hold_days: u32,
        reason: &str,
        now: DateTime<Utc>,
        actor: &str,
    ) -> Result<Restored> {
        check(hold_days, reason)?;
        let at = to_micros(now);
        let restoring = Restoring {
            hold: uuid_at(at),
            held_until: at + TimeDelta::days(i64::from(hold_days)),
            reason,
            at,
            actor,
        };
        let archives = self.restorable(what).await?;
        let Some(first) = archives.first() else {
            return Err(Error::not_found(
                "nothing_archived",
                "nothing of that day is archived; look at `archive where-is`",
            ));
        };
        self.tell(Event::Began {
            dataset: first.dataset,
            day: first.day,
            doing: "fetching",
        });
        let mut fetched = Vec::new();
        for archive in &archives {
            fetched.push((archive, self.fetch(archive).await?));
        }
        self.tell(Event::Began {
            dataset: first.dataset,
            day: first.day,
            doing: "restoring",
        });
        let restored = match (first.dataset, fetched.as_slice()) {
            (Dataset::Metrics, [(archive, fetched)]) => {
                self.restore_samples(restoring, archive, fetched).await
            }
            _ => self.restore_rows(restoring, &fetched).await,
        };
        if let Err(error) = &restored
            && error.code() == "restore_conflict"
        {
            let subject = format!("{}/{}", first.dataset, first.day);
            Audit::new(self.pool)
                .denied(self.clock.now(), actor, Action::Restore, &subject, error)
                .await?;
        }
        restored?;
        Ok(Restored {
            dataset: first.dataset.name(),
            day: first.day,
            rows: archives.iter().filter_map(|archive| archive.rows).sum(),
            archives: archives.iter().map(|archive| archive.id).collect(),
            hold: restoring.hold,
            held_until: restoring.held_until,
        })
    }

    async fn restorable(&self, what: Restorable) -> Result<Vec<Archive>> {
        let (dataset, day) = match what {
            Restorable::Archive(id) => {
                let archive = self.archive(id).await?;
                if archive.state != State::Archived {
                    let message = format!(
                        "the archive is {}: only an archived one can be restored",
                        archive.state
                    );
                    return Err(Error::conflict("archive_state", message));
                }
                return Ok(vec![archive]);
            }
            Restorable::Day(dataset, day) => (dataset, day),
        };
        let mut archives = self.archives_of_day(dataset, day).await?;
        archives.retain(|archive| archive.state == State::Archived);
        Ok(archives)
    }

    async fn restore_rows(
        &self,
        restoring: Restoring<'_>,
        parts: &[(&Archive, Fetched)],
    ) -> Result<()> {
        let mut connection = self.pool.get().await?;
        let tx = connection.transaction().await?;
        for (archive, fetched) in parts {
            let mut rows = Vec::new();
            let mut batches = fetched.rows()?;
            while let Some(batch) = batches.next().await? {
                rows.extend(batch);
            }
            let rows = Value::Array(rows);
            let params: db::Params<'_> = &[
                &archive.id,
                &rows,
                &restoring.hold,
                &restoring.held_until,
                &restoring.reason,
                &restoring.at,
                &restoring.actor,
            ];
            if let Err(error) = db::query_one(&tx, &queries::RESTORE_ROWS, params).await {
                tx.rollback().await?;
                return Err(self.in_the_way(archive.dataset, &rows, error).await);
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// An error of rows that are there already, naming them.
    async fn in_the_way(&self, dataset: Dataset, rows: &Value, error: Error) -> Error {
        let is_there_already = error.sql_state() == Some(&SqlState::UNIQUE_VIOLATION)
            || error.sql_state() == Some(&SqlState::EXCLUSION_VIOLATION);
        if !is_there_already {
            return refused(error);
        }
        let what = match dataset {
            Dataset::Feedback => match self.given_again(rows).await {
                Ok(again) if !again.is_empty() => format!(
                    "users have given feedback on these insights again: {}",
                    list(&again)
                ),
                _ => "rows with these ids are in the database".to_owned(),
            },
            Dataset::BackfillJobs => format!(
                "a job of this day cannot be beside one that is in the database: {}",
                error.detail().unwrap_or("its id or name is used again")
            ),
            _ => "rows with these ids are in the database".to_owned(),
        };
        Error::conflict("restore_conflict", format!("nothing was restored: {what}"))
            .with_source(error)
    }

    /// The insights, and the ids of the rows that are there now. No users: this goes into the audit log.
    async fn given_again(&self, rows: &Value) -> Result<Vec<String>> {
        let connection = self.pool.get().await?;
        let found = db::query(&connection, &queries::RATED_AGAIN, &[rows]).await?;
        found
            .iter()
            .map(|row| {
                let insight: &str = row.try_get("insight_id")?;
                let present: &str = row.try_get("present_id")?;
                Ok(format!("{insight} (feedback {present})"))
            })
            .collect()
    }

    async fn restore_samples(
        &self,
        restoring: Restoring<'_>,
        archive: &Archive,
        fetched: &Fetched,
    ) -> Result<()> {
        self.fill_day(archive, fetched).await?;
        let done = while_locked(self.config.retention.lock_attempts, || async {
            let params: db::Params<'_> = &[
                &archive.id,
                &restoring.hold,
                &restoring.held_until,
                &restoring.reason,
                &restoring.at,
                &restoring.actor,
            ];
            let connection = self.pool.get().await?;
            db::query_one(&connection, &queries::RESTORE_DAY, params).await?;
            Ok(())
        });
        done.await.map_err(|error| {
            if !is_locked(&error) {
                return error;
            }
            Error::conflict(
                "day_is_in_use",
                "somebody reads all samples for long (a backup?); restore it again later",
            )
            .with_source(error)
        })
    }

    async fn fill_day(&self, archive: &Archive, fetched: &Fetched) -> Result<()> {
        let connection = self.pool.get().await?;
        let row = db::query_one(&connection, &queries::RESTORE_DAY_BEGIN, &[&archive.id])
            .await
            .map_err(refused)?;
        let partition: &str = row.try_get("partition")?;
        let sink = connection
            .copy_in::<_, Bytes>(&queries::copy_samples_into(partition))
            .await?;
        let mut sink = pin!(sink);
        let mut rows = fetched.copy_in_samples()?;
        while let Some(bytes) = rows.next().await? {
            sink.send(bytes).await?;
        }
        sink.finish().await?;
        Ok(())
    }
}

fn list(named: &[String]) -> String {
    let mut text = named
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if named.len() > NAMED {
        text.push_str(", and more");
    }
    text
}

fn check(hold_days: u32, reason: &str) -> Result<()> {
    let mut wrong = Vec::new();
    if reason.trim().is_empty()
        || reason.chars().nth(MAX_REASON).is_some()
        || reason.chars().any(char::is_control)
    {
        let message = format!("must say why, in at most {MAX_REASON} characters");
        wrong.push(FieldError::new("reason", message));
    }
    if !(1..=MAX_HOLD_DAYS).contains(&hold_days) {
        let message = format!("must be between 1 and {MAX_HOLD_DAYS}");
        wrong.push(FieldError::new("hold_days", message));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Error::fields(wrong))
    }
}

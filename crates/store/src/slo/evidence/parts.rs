//! The parts of the evidence.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::Row;

use crate::{
    audit::{Head, Record},
    error::Result,
};

/// A scheduled task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// When it is due, in words.
    pub cadence: String,
    /// From when on it owes its slots.
    pub first_seen_at: DateTime<Utc>,
    /// Whether the schedule starts it.
    pub enabled: bool,
    /// Its newest slot by schedule.
    pub slot: Option<Slot>,
    /// When it last succeeded, by schedule or by hand.
    pub succeeded_at: Option<DateTime<Utc>>,
}

/// A slot of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// When it was due.
    pub at: DateTime<Utc>,
    /// `running`, `succeeded` or `failed`.
    pub state: String,
    /// When its latest attempt began.
    pub started_at: DateTime<Utc>,
    /// When that ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Task {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let slot_at: Option<DateTime<Utc>> = row.try_get("slot_at")?;
        let slot = match slot_at {
            None => None,
            Some(at) => Some(Slot {
                at,
                state: row.try_get("state")?,
                started_at: row.try_get("started_at")?,
                finished_at: row.try_get("finished_at")?,
                error: row.try_get("error")?,
            }),
        };
        Ok(Self {
            name: row.try_get("task")?,
            cadence: row.try_get("cadence")?,
            first_seen_at: row.try_get("first_seen_at")?,
            enabled: row.try_get("enabled")?,
            slot,
            succeeded_at: row.try_get("succeeded_at")?,
        })
    }
}

/// What the newest rows of the slices are like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Jobs that were started in the window, and the first of them.
    pub jobs: u64,
    /// When the first of them was started.
    pub jobs_from: Option<DateTime<Utc>>,
    /// Of them: without a status that there is.
    pub without_status: u64,
    /// Of them: completed, and of these without the time, or with one before the start.
    pub completed: u64,
    /// See above.
    pub without_end: u64,
    /// Of them: failed, and of these without an error.
    pub failed: u64,
    /// See above.
    pub without_error: u64,
    /// Comments that were written in the window.
    pub comments: u64,
    /// The first of them.
    pub comments_from: Option<DateTime<Utc>>,
    /// Of them: without a time or a user.
    pub without_author: u64,
    /// Flags that were placed in the window.
    pub flags: u64,
    /// The first of them.
    pub flags_from: Option<DateTime<Utc>>,
    /// Of them: without a time or a type that there is.
    pub without_type: u64,
    /// Whether there are samples of the window.
    pub has_samples: bool,
    /// Up to when rollups are made.
    pub rolled_before: Option<DateTime<Utc>>,
}

/// A count that came as the database counts.
fn count(row: &Row, column: &str) -> Result<u64> {
    Ok(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0))
}

impl Rows {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            jobs: count(row, "jobs")?,
            jobs_from: row.try_get("jobs_from")?,
            without_status: count(row, "without_status")?,
            completed: count(row, "completed")?,
            without_end: count(row, "without_end")?,
            failed: count(row, "failed")?,
            without_error: count(row, "without_error")?,
            comments: count(row, "comments")?,
            comments_from: row.try_get("comments_from")?,
            without_author: count(row, "without_author")?,
            flags: count(row, "flags")?,
            flags_from: row.try_get("flags_from")?,
            without_type: count(row, "without_type")?,
            has_samples: row.try_get("has_samples")?,
            rolled_before: row.try_get("rolled_before")?,
        })
    }
}

/// What keeps the guarantees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The names of what is there and in force: constraints, and triggers, generated and required columns and indexes as
    /// `table.name`.
    pub there: HashSet<String>,
    /// Whether samples are divided by ranges of their time.
    pub is_divided: bool,
    /// Whether samples that fit nowhere go into a partition of their own.
    pub has_default: bool,
    /// The days that have a partition of their own.
    pub days: BTreeSet<NaiveDate>,
    /// The bounds of partitions that are not of one day.
    pub other_bounds: Vec<String>,
}

impl Catalogue {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let mut catalogue = Self {
            is_divided: row
                .try_get::<_, Option<bool>>("is_divided")?
                .unwrap_or(false),
            has_default: row
                .try_get::<_, Option<bool>>("has_default")?
                .unwrap_or(false),
            ..Self::default()
        };
        for (kind, column) in [
            ("constraint ", "constraints"),
            ("trigger ", "triggers"),
            ("generated ", "generated"),
            ("required ", "required"),
            ("index ", "indexes"),
        ] {
            let names: Vec<String> = row.try_get(column)?;
            let named = names.into_iter().map(|name| format!("{kind}{name}"));
            catalogue.there.extend(named);
        }
        for bounds in row.try_get::<_, Vec<Option<String>>>("partitions")? {
            let bounds = bounds.unwrap_or_default();
            match day_of(&bounds) {
                Some(day) => {
                    catalogue.days.insert(day);
                }
                None => catalogue.other_bounds.push(bounds),
            }
        }
        Ok(catalogue)
    }

    /// Of these names, those that are not there: `constraint x`, `trigger table.x`, `generated table.x`, `required table.x`,
    /// `index x`.
    pub fn missing<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        let is_missing = |name: &&&str| !self.there.contains(**name);
        wanted.iter().filter(is_missing).copied().collect()
    }
}

/// The day of a partition's bounds, `FOR VALUES FROM ('2026-11-23 00:00:00+00') TO ('2026-11-24 00:00:00+00')`; none where they are
/// not those of one day.
fn day_of(bounds: &str) -> Option<NaiveDate> {
    let times: Vec<&str> = bounds.split('\'').skip(1).step_by(2).collect();
    let [from, to] = times.as_slice() else {
        return None;
    };
    let day = |time: &str| time.strip_suffix(" 00:00:00+00")?.parse::<NaiveDate>().ok();
    let from = day(from)?;
    (day(to)? == from.succ_opt()?).then_some(from)
}

/// A migration that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub number: i32,
    /// `verb_noun`.
    pub name: String,
    /// The checksum of its file.
    pub up_checksum: String,
    /// When it was applied.
    pub applied_at: DateTime<Utc>,
    /// Whether what takes it back is kept.
    pub has_way_back: bool,
}

impl Migration {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            number: row.try_get("number")?,
            name: row.try_get("name")?,
            up_checksum: row.try_get("up_checksum")?,
            applied_at: row.try_get("applied_at")?,
            has_way_back: row.try_get("has_way_back")?,
        })
    }
}

/// What retention owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overdue {
    /// How much.
    pub due: i64,
    /// The oldest day of it.
    pub oldest: Option<NaiveDate>,
}

/// What was archived of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Archives {
    /// How many archives were looked at: the newest.
    pub looked_at: u64,
    /// The first of them.
    pub from_at: Option<DateTime<Utc>>,
    /// When rows were last archived.
    pub archived_at: Option<DateTime<Utc>>,
    /// Whose rows were deleted before the archive was proved.
    pub deleted_unproved: u64,
    /// Whose archival, deletion or expiry is not in the audit log.
    pub unlogged: u64,
}

impl Archives {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            looked_at: count(row, "looked_at")?,
            from_at: row.try_get("from_at")?,
            archived_at: row.try_get("archived_at")?,
            deleted_unproved: count(row, "deleted_unproved")?,
            unlogged: count(row, "archived_unlogged")?
                + count(row, "deleted_unlogged")?
                + count(row, "expired_unlogged")?,
        })
    }
}

/// The end of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditTail {
    /// The number of its last entry.
    pub last: i64,
    /// How many entries at its end were verified.
    pub verified: u64,
    /// What is wrong with it; nothing where it is a chain that ends where its head says.
    pub wrong: Option<String>,
    /// When its last entry was made.
    pub last_at: Option<DateTime<Utc>>,
}

impl AuditTail {
    /// Verifies entries, the newest first, against the head.
    pub(super) fn of(head: &Head, entries: &[Record]) -> Self {
        // What came after the head was read is for the next report.
        let entries: Vec<&Record> = entries
            .iter()
            .filter(|entry| entry.sequence <= head.sequence)
            .collect();
        let broken = entries.iter().find(|entry| !entry.is_itself());
        let unlinked = entries.windows(2).find(|pair| {
            pair[0].sequence != pair[1].sequence + 1 || pair[0].previous_hash != pair[1].hash
        });
        let ends = entries
            .first()
            .map_or((0, None), |last| (last.sequence, Some(&last.hash)));
        let is_end = ends.0 == head.sequence && ends.1.is_none_or(|hash| *hash == head.hash);
        let wrong = match (broken, unlinked) {
            (Some(entry), _) => Some(format!("entry {} was changed", entry.sequence)),
            (None, Some(pair)) => Some(format!(
                "entry {} does not follow on the one before it",
                pair[0].sequence
            )),
            (None, None) if !is_end => Some(format!(
                "its head says {}, its last entry is {}",
                head.sequence, ends.0
            )),
            (None, None) => None,
        };
        Self {
            last: head.sequence,
            verified: entries.len() as u64,
            wrong,
            last_at: entries.first().and_then(|entry| entry.at()),
        }
    }
}

/// A backup that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it had failed.
    pub ended_at: Option<DateTime<Utc>>,
    /// When an alert about it was opened.
    pub opened_at: Option<DateTime<Utc>>,
    /// Whether a receiver has taken one.
    pub is_taken: bool,
}

impl Failure {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            started_at: row.try_get("started_at")?,
            ended_at: row.try_get("ended_at")?,
            opened_at: row.try_get("opened_at")?,
            is_taken: row.try_get("is_taken")?,
        })
    }
}

/// What nobody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Untold {
    /// When backups were last looked at.
    pub observed_at: Option<DateTime<Utc>>,
    /// How many open alerts about backups nobody has taken within their time.
    pub untold: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_of_one_day_or_of_something_else() {
        let of = |from: &str, to: &str| day_of(&format!("FOR VALUES FROM ('{from}') TO ('{to}')"));
        let day = NaiveDate::from_ymd_opt(2026, 11, 30);
        assert_eq!(of("2026-11-30 00:00:00+00", "2026-12-01 00:00:00+00"), day);
        for (from, to) in [
            ("2026-11-30 00:00:00+00", "2026-12-02 00:00:00+00"),
            ("2026-11-30 01:00:00+00", "2026-12-01 00:00:00+00"),
            ("2026-11-30 00:00:00+00", "2026-11-30 12:00:00+00"),
            ("2026-11-30", "2026-12-01"),
        ] {
            assert_eq!(of(from, to), None, "{from} {to}");
        }
        assert_eq!(day_of("DEFAULT"), None);
    }
}

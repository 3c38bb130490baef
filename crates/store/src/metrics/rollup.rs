//! Rollups: what an hour, a day and an ISO week of a series amount to (C3.4). All in UTC; weeks begin on Mondays.
//!
//! # What it guarantees
//!
//! **A rollup equals its samples**, also of those that came late, were changed or deleted, and whoever did it. What is not
//! rolled up yet, or not again, is computed from samples by whoever reads: state, marks, rollups and samples are read in
//! one snapshot.
//!
//! # How an hour is rolled up for the first time
//!
//! When it is over (and `metrics.closing_seconds` have passed), the sequence `metric_closing_hour` is set beyond it. From then
//! on every statement that writes into it leaves a mark. A transaction that read the sequence before left none:
//!
//! ```text
//! writer:  inserts; reads the sequence: open, no mark          commits
//! roller:                                    sets the sequence          reads samples: has them
//! ```
//!
//! So the roller notes, in a transaction of its own that begins after the sequence was set, the number of that transaction,
//! and reads samples only when every transaction below it has ended: the writer had its number before it read the
//! sequence, since it had inserted. (A snapshot would not do: the end of one is the last *completed* transaction, and a
//! writer above it counts as one that has still to begin.) A transaction that stays open in the cluster delays this and
//! nothing else: readers compute more hours from samples.
//!
//! # How it is rolled up again
//!
//! Marks are rows of their own for each transaction. The roller deletes some *first*, and reads samples in a *later*
//! statement: what it deleted a mark of, it sees; what it does not see yet has a mark that it did not see either, and that
//! stays. One roller at a time (it locks the state's row), or an older reading could overwrite a newer one. Then the day and
//! the week are merged anew from what is below them.

mod fold;
mod rows;
mod turn;
pub(super) mod verify;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};

pub(super) use rows::{of_parts, read as read_rollups};
pub use verify::{Difference, Verified};

use super::{Metrics, queries};
use crate::{
    db::{self, Connection},
    error::Result,
};

/// The length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interval {
    /// An hour.
    Hour,
    /// A day, from midnight UTC.
    Day,
    /// An ISO week, from Monday, midnight UTC.
    Week,
}

impl Interval {
    /// Every interval.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// Its name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    pub(super) fn hours(self) -> i16 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 168,
        }
    }

    /// Its length.
    pub fn length(self) -> TimeDelta {
        TimeDelta::hours(self.hours().into())
    }

    /// The beginning of the bucket that a time lies in.
    pub fn floor(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let seconds = at.timestamp();
        let start = match self {
            Self::Hour => seconds - seconds.rem_euclid(3_600),
            Self::Day | Self::Week => seconds - seconds.rem_euclid(86_400),
        };
        let days = match self {
            Self::Week => at.weekday().num_days_from_monday(),
            Self::Hour | Self::Day => 0,
        };
        DateTime::from_timestamp(start - i64::from(days) * 86_400, 0).unwrap_or(at)
    }

    /// The beginning of the first bucket that begins at a time or after it.
    pub fn ceil(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let floor = self.floor(at);
        if floor == at { at } else { self.end(floor) }
    }

    /// The end of the bucket that begins at a time.
    pub fn end(self, start: DateTime<Utc>) -> DateTime<Utc> {
        start
            .checked_add_signed(self.length())
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// What one run has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rolled {
    /// Hours that were rolled up for the first time, for all series.
    pub hours: u64,
    /// Hours of series that were rolled up again.
    pub again: u64,
    /// Whether there is more to do that can be done now.
    pub has_more: bool,
}

/// How far rollups are made, as the roller found it. The state's row is locked while its transaction lasts.
#[derive(Debug, Clone, Copy)]
struct State {
    rolled_before: DateTime<Utc>,
    closing_before: DateTime<Utc>,
    /// Whether it was closed in this cluster.
    is_ours: bool,
    /// Whether everything before `closing_before` may be rolled up.
    are_ended: bool,
    first_day: Option<DateTime<Utc>>,
}

/// Locks the state; `None` while another roller has it.
async fn lock_state(connection: &Connection) -> Result<Option<State>> {
    let Some(row) = db::query_opt(connection, &queries::LOCK_STATE, &[]).await? else {
        return Ok(None);
    };
    let first_day: Option<chrono::NaiveDate> = row.try_get("first_day")?;
    let is_ours: bool = row.try_get("is_ours")?;
    let are_ended: Option<bool> = row.try_get("are_ended")?;
    Ok(Some(State {
        rolled_before: row.try_get("rolled_before")?,
        closing_before: row.try_get("closing_before")?,
        is_ours,
        are_ended: is_ours && are_ended == Some(true),
        first_day: first_day
            .and_then(|day| day.and_hms_opt(0, 0, 0))
            .map(|start| start.and_utc()),
    }))
}

impl Metrics<'_> {
    /// Makes what rollups can be made now: closes hours that are over, rolls up closed ones, and again those that were
    /// written into later. Each step is a transaction; at most `steps` of them, so that whoever asks can be stopped.
    pub async fn roll_up(&self, now: DateTime<Utc>, steps: u32) -> Result<Rolled> {
        let mut rolled = Rolled::default();
        for _ in 0..steps {
            let has_closed = turn::close(self, now).await?;
            let hours = turn::roll_next(self).await?;
            let again = fold::fold_some(self).await?;
            rolled.hours += hours;
            rolled.again += again;
            rolled.has_more = has_closed || hours > 0 || again > 0;
            if !rolled.has_more {
                break;
            }
        }
        Ok(rolled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_on_the_hour_at_midnight_and_on_mondays() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let sunday = at("2026-03-15T23:59:59.999999Z");
        assert_eq!(Interval::Hour.floor(sunday), at("2026-03-15T23:00:00Z"));
        assert_eq!(Interval::Day.floor(sunday), at("2026-03-15T00:00:00Z"));
        assert_eq!(Interval::Week.floor(sunday), at("2026-03-09T00:00:00Z"));
        let monday = at("2026-03-16T00:00:00Z");
        for interval in Interval::ALL {
            assert_eq!(interval.floor(monday), monday);
            assert_eq!(interval.ceil(monday), monday);
            assert_eq!(interval.ceil(sunday), monday);
        }
        // Before the epoch, and across the end of a year.
        assert_eq!(
            Interval::Week.floor(at("1969-12-31T12:00:00Z")),
            at("1969-12-29T00:00:00Z")
        );
        assert_eq!(
            Interval::Week.floor(at("2027-01-01T00:00:00Z")),
            at("2026-12-28T00:00:00Z")
        );
    }
}

//! Days and their partitions (C3.2).
//!
//! Making one takes no lock that stops reading or writing samples: see `metric_make_day` in migration 0007. What it does
//! wait for is another change of the same parent (an attachment, VACUUM), so it waits briefly, and tries again.

use std::{
    collections::BTreeSet,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use chrono::{DateTime, Days, NaiveDate, Utc};
use rand::RngExt as _;
use tokio_postgres::error::SqlState;

use super::queries;
use crate::{
    db::{self, Connection, Pool},
    error::{Error, Result},
};

/// How often making a day is tried.
const ATTEMPTS: u32 = 50;

/// The state that the function in the database raises for a day whose samples are archived.
const ARCHIVED: &str = "UT001";

/// A day as a number: days since the epoch.
pub(super) fn date_of(day: i64) -> Option<NaiveDate> {
    let from_the_common_era = i32::try_from(day.checked_add(719_163)?).ok()?;
    NaiveDate::from_num_days_from_ce_opt(from_the_common_era)
}

/// Whether a failure says that the day's samples are archived.
pub(super) fn is_archived(error: &Error) -> bool {
    error
        .sql_state()
        .is_some_and(|state| state.code() == ARCHIVED)
}

/// What became of a day that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// Its partition is there; true: it was missing.
    Open(bool),
    /// Its samples are archived, so nothing can be added.
    Archived,
}

/// Makes the partition of a day, if it is missing.
pub(super) async fn make(
    connection: &Connection,
    day: NaiveDate,
    now: DateTime<Utc>,
) -> Result<Made> {
    let mut attempt = 1;
    loop {
        match try_to_make(connection, day, now).await {
            Ok(made) => return Ok(Made::Open(made)),
            Err(error) if is_archived(&error) => return Ok(Made::Archived),
            Err(error) if attempt < ATTEMPTS && is_for_now(&error) => {
                attempt += 1;
                let pause = rand::rng().random_range(5..50);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn try_to_make(connection: &Connection, day: NaiveDate, now: DateTime<Utc>) -> Result<bool> {
    let made = db::query_one(connection, &queries::MAKE_DAY, &[&day, &now]).await?;
    Ok(made.try_get("made")?)
}

fn is_for_now(error: &Error) -> bool {
    matches!(
        error.sql_state(),
        Some(&(SqlState::LOCK_NOT_AVAILABLE | SqlState::T_R_DEADLOCK_DETECTED))
    )
}

/// Makes the partitions from today (of `now`) up to so many days ahead; gives how many were missing.
pub(super) async fn make_ahead(pool: &Pool, days_ahead: i64, now: DateTime<Utc>) -> Result<u64> {
    let connection = pool.get().await?;
    let today = now.date_naive();
    let mut missing = 0;
    for ahead in 0..=u64::try_from(days_ahead).unwrap_or_default() {
        let Some(day) = today.checked_add_days(Days::new(ahead)) else {
            break;
        };
        let made = make(&connection, day, now).await?;
        missing += u64::from(made == Made::Open(true));
    }
    Ok(missing)
}

/// The days whose partitions this process has seen.
#[derive(Debug, Default)]
pub(super) struct KnownDays(RwLock<BTreeSet<i64>>);

impl KnownDays {
    pub fn has(&self, day: i64) -> bool {
        let days = self.0.read().unwrap_or_else(PoisonError::into_inner);
        days.contains(&day)
    }

    pub fn add(&self, day: i64) {
        let mut days = self.0.write().unwrap_or_else(PoisonError::into_inner);
        days.insert(day);
    }

    /// Forgets all: a partition that was there is gone.
    pub fn clear(&self) {
        let mut days = self.0.write().unwrap_or_else(PoisonError::into_inner);
        days.clear();
    }
}

#[cfg(test)]
mod tests {
    use chrono::Datelike as _;

    use super::*;

    #[test]
    fn days_are_counted_from_the_epoch() {
        assert_eq!(date_of(0), NaiveDate::from_ymd_opt(1970, 1, 1));
        assert_eq!(date_of(20_000), NaiveDate::from_ymd_opt(2024, 10, 4));
        assert_eq!(date_of(i64::MAX), None);
        let day = date_of(20_000).unwrap();
        assert_eq!(day.num_days_from_ce() - 719_163, 20_000);
    }
}

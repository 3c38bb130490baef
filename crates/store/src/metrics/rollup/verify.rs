//! Proving that rollups equal their samples: computed again from samples, bucket by bucket, to the last bit.
//!
//! A day is *verified* when everything of it was compared in one snapshot and found equal, nothing waited to be rolled up
//! again, and nothing was written into it since. That last point is the day's row: a late write ends a verification under
//! way and undoes one that is over (`metric_note_late_days` in migration 0007), in its own transaction; and the
//! verification begins with a change of that row, for which it waits for the writers that were faster.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::{
    Interval, fold,
    rows::{self, Place, Rollup},
    turn::merged,
};
use crate::{
    clock::uuid_at,
    db::{self, Connection, OpenTransaction},
    error::{Error, Result},
    metrics::{Metrics, cold, queries},
};

/// Everything of a day is compared in one snapshot.
const BEGIN_READING: &str =
    "begin isolation level repeatable read read only; set local statement_timeout = '600s';
    lock table only system_metrics in access share mode";

/// The most differences that one repair is about.
const MADE_AGAIN: usize = 100_000;

/// The most differences that are named.
const NAMED: usize = 100;

/// How often marked hours are rolled up again after a repair.
const FOLDS: usize = 1_000;

/// A rollup that is not what its samples amount to.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The series.
    pub series_id: i32,
    /// The length of the bucket.
    pub interval: Interval,
    /// Its beginning.
    pub bucket: DateTime<Utc>,
    /// How many samples the rollup says; `None` where it is missing.
    pub stored_count: Option<u64>,
    /// How many there are; `None` where there are none.
    pub count: Option<u64>,
}

/// What verifying a day found.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The day.
    pub day: NaiveDate,
    /// How many rollups were compared.
    pub compared: u64,
    /// How many hours wait to be rolled up again, and were not compared.
    pub waiting: u64,
    /// What differs; at most 100 are named.
    pub differences: Vec<Difference>,
    /// How many differ.
    pub differing: u64,
    /// Whether the day is now known to be equal.
    pub is_verified: bool,
    /// Whether what differed was rolled up again, and is equal now.
    pub is_repaired: bool,
}

impl Metrics<'_> {
    /// Compares every rollup of a day with its samples, also that of the week where the day is a Sunday. What differs is told
    /// and, with `repair`, rolled up again.
    ///
    /// Fails with `not_rolled_up` for a day whose rollups are not all made, with `no_such_day` for one without samples.
    pub async fn verify(
        &self,
        day: NaiveDate,
        repair: bool,
        now: DateTime<Utc>,
    ) -> Result<Verified> {
        let name = uuid_at(now);
        self.begin_verifying(day, name).await?;
        let mut verified = self.compare(day).await?;
        if verified.differing == 0 && verified.waiting == 0 {
            let connection = self.pool.get().await?;
            let ended =
                db::execute(&connection, &queries::END_VERIFYING, &[&day, &name, &now]).await?;
            verified.is_verified = ended == 1;
        } else if repair && verified.differing > 0 {
            self.make_again(day, &verified.differences).await?;
            let again = self.compare(day).await?;
            verified.is_repaired = again.differing == 0 && again.waiting == 0;
        }
        verified.differences.truncate(NAMED);
        Ok(verified)
    }

    async fn compare(&self, day: NaiveDate) -> Result<Verified> {
        let open = OpenTransaction::begin(self.pool, BEGIN_READING).await?;
        let compared = compare(open.connection()?, day).await;
        open.end(compared).await
    }

    async fn begin_verifying(&self, day: NaiveDate, name: Uuid) -> Result<()> {
        let connection = &self.pool.get().await?;
        let rolled: DateTime<Utc> = db::query_one(connection, &queries::READ_STATE, &[])
            .await?
            .try_get("rolled_before")?;
        let day_end = Interval::Day.end(start_of(day));
        if day_end > rolled {
            return Err(Error::conflict(
                "not_rolled_up",
                format!(
                    "{day} is not rolled up yet: rollups are made up to {rolled}; try again later"
                ),
            ));
        }
        if db::execute(connection, &queries::BEGIN_VERIFYING, &[&day, &name]).await? == 0 {
            return Err(no_such_day(day));
        }
        Ok(())
    }

    /// Marks what differs, and rolls it up again, unless another roller is about to.
    async fn make_again(&self, day: NaiveDate, differences: &[Difference]) -> Result<()> {
        let connection = self.pool.get().await?;
        let ids: Vec<i32> = differences
            .iter()
            .map(|difference| difference.series_id)
            .collect();
        // Any hour of a day makes the day and its week anew; it is one of this day, whose samples are there.
        let hour = |difference: &Difference| match difference.interval {
            Interval::Hour => difference.bucket,
            Interval::Day | Interval::Week => start_of(day),
        };
        let hours: Vec<_> = differences.iter().map(hour).collect();
        db::execute(&connection, &queries::MARK, &[&ids, &hours]).await?;
        drop(connection);
        for _ in 0..FOLDS {
            if fold::fold_some(self).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The days that are rolled up and not verified, the oldest first.
    pub async fn unverified_days(&self, limit: i64) -> Result<Vec<NaiveDate>> {
        let connection = self.pool.get().await?;
        let rolled: DateTime<Utc> = db::query_one(&connection, &queries::READ_STATE, &[])
            .await?
            .try_get("rolled_before")?;
        let before = rolled.date_naive();
        let rows = db::query(&connection, &queries::UNVERIFIED_DAYS, &[&before, &limit]).await?;
        rows.iter().map(|row| Ok(row.try_get("day")?)).collect()
    }
}

fn no_such_day(day: NaiveDate) -> Error {
    Error::not_found(
        "no_such_day",
        format!("there are no samples of {day} here: it never had any, or they are archived"),
    )
}

fn start_of(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

/// Compares a day in the snapshot of the transaction.
async fn compare(connection: &Connection, day: NaiveDate) -> Result<Verified> {
    let from = start_of(day);
    let to = Interval::Day.end(from);
    // It may have been archived since it was open: its rollups are right, and no sample is here to say so.
    let range = (from.timestamp_micros(), to.timestamp_micros());
    if !cold::days(connection, range.0, range.1).await?.is_empty() {
        return Err(no_such_day(day));
    }
    let mut verified = Verified {
        day,
        compared: 0,
        waiting: 0,
        differences: Vec::new(),
        differing: 0,
        is_verified: false,
        is_repaired: false,
    };
    let week = (Interval::Week.floor(to) == to).then(|| Interval::Week.floor(from));
    let since = week.unwrap_or(from);
    let marks = db::query(connection, &queries::READ_ALL_MARKS, &[&since, &to]).await?;
    let marked = marks
        .iter()
        .map(|row| Ok((row.try_get("series_id")?, row.try_get("hour")?)))
        .collect::<Result<BTreeSet<(i32, DateTime<Utc>)>>>()?;
    verified.waiting = marked.len().try_into().unwrap_or(u64::MAX);
    let last: i32 = db::query_one(connection, &queries::LAST_SERIES, &[])
        .await?
        .try_get("id")?;
    for series in rows::pieces(last) {
        let mut there = from_samples(connection, from, to, series).await?;
        let mut stored = read(
            connection,
            &[Interval::Hour, Interval::Day],
            from,
            to,
            series,
        )
        .await?;
        if let Some(week) = week {
            let days = read(connection, &[Interval::Day], week, to, series).await?;
            there.extend(finished(merged(
                days.into_values().collect(),
                Interval::Week,
            )));
            stored.extend(read(connection, &[Interval::Week], week, to, series).await?);
        }
        verified.note(&there, &stored, &marked);
    }
    Ok(verified)
}

type Rollups = BTreeMap<Place, Rollup>;

fn by_place(rollups: Vec<Rollup>) -> Rollups {
    rollups
        .into_iter()
        .map(|rollup| (rollup.place(), rollup))
        .collect()
}

/// As they must be stored.
fn finished(rollups: Vec<Rollup>) -> Rollups {
    by_place(rollups.into_iter().map(Rollup::finished).collect())
}

/// The hours of a range and its day, from samples.
async fn from_samples(
    connection: &Connection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    series: (i32, i32),
) -> Result<Rollups> {
    let hours = rows::of_samples(connection, from, to, series).await?;
    let mut rollups = finished(merged(hours.clone(), Interval::Day));
    rollups.extend(finished(hours));
    Ok(rollups)
}

async fn read(
    connection: &Connection,
    intervals: &[Interval],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    series: (i32, i32),
) -> Result<Rollups> {
    let hours: Vec<i16> = intervals.iter().map(|interval| interval.hours()).collect();
    let params: db::Params<'_> = &[&series.0, &series.1, &hours, &from, &to];
    let rows = db::query(connection, &queries::READ_ALL_ROLLUPS, params).await?;
    let rollups = rows
        .iter()
        .map(Rollup::from_row)
        .collect::<Result<Vec<_>>>()?;
    Ok(by_place(rollups))
}

impl Verified {
    fn note(&mut self, there: &Rollups, stored: &Rollups, marked: &BTreeSet<(i32, DateTime<Utc>)>) {
        let places: BTreeSet<Place> = there.keys().chain(stored.keys()).copied().collect();
        for place in places {
            let (series_id, hours, bucket) = place;
            let Some(interval) = Interval::ALL
                .into_iter()
                .find(|interval| interval.hours() == hours)
            else {
                continue;
            };
            let until = interval.end(bucket);
            if marked
                .range((series_id, bucket)..(series_id, until))
                .next()
                .is_some()
            {
                continue;
            }
            self.compared += 1;
            let (there, stored) = (there.get(&place), stored.get(&place));
            if there == stored {
                continue;
            }
            self.differing += 1;
            if self.differences.len() < MADE_AGAIN {
                self.differences.push(Difference {
                    series_id,
                    interval,
                    bucket,
                    stored_count: stored.map(|rollup| rollup.summary.count),
                    count: there.map(|rollup| rollup.summary.count),
                });
            }
        }
    }
}

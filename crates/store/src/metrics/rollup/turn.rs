//! Hours in their turn: closed, and rolled up for the first time.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Interval, State, lock_state,
    rows::{self, Rollup},
};
use crate::{
    db::{self, Connection, OpenTransaction},
    error::Result,
    metrics::{Metrics, queries},
};

/// How many series are merged by one statement.
const SERIES_AT_ONCE: i64 = 500;

/// A statement of the roller may read a day of every series.
pub(super) const BEGIN: &str = "begin; set local statement_timeout = '600s'";

/// Closes the hours that are over, once what was closed before is rolled up; says whether it did.
pub(super) async fn close(metrics: &Metrics<'_>, now: DateTime<Utc>) -> Result<bool> {
    let closing = TimeDelta::try_seconds(metrics.settings.closing_seconds).unwrap_or_default();
    let target = Interval::Hour.floor(now.checked_sub_signed(closing).unwrap_or(now));
    let open = OpenTransaction::begin(metrics.pool, BEGIN).await?;
    let closed = close_in_tx(open.connection()?, target).await;
    let Some(target) = open.end(closed).await? else {
        return Ok(false);
    };
    // A transaction of its own, which gets its number after the sequence was set.
    let connection = metrics.pool.get().await?;
    Ok(db::execute(&connection, &queries::NOTE_CLOSED, &[&target]).await? > 0)
}

async fn close_in_tx(
    connection: &Connection,
    target: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let Some(state) = lock_state(connection).await? else {
        return Ok(None);
    };
    let is_closing = state.closing_before > state.rolled_before;
    // A restored database waits for a transaction of another cluster: there the wait begins anew.
    if is_closing && state.is_ours {
        return Ok(None);
    }
    if !is_closing && target <= state.closing_before {
        return Ok(None);
    }
    let target = target.max(state.closing_before);
    db::query_one(
        connection,
        &queries::CLOSE_HOURS,
        &[&(target.timestamp() / 3_600)],
    )
    .await?;
    Ok(Some(target))
}

/// Rolls up the next day, or hour where the day is not over; gives how many hours that were.
pub(super) async fn roll_next(metrics: &Metrics<'_>) -> Result<u64> {
    let open = OpenTransaction::begin(metrics.pool, BEGIN).await?;
    let rolled = roll_in_tx(open.connection()?).await;
    open.end(rolled).await
}

async fn roll_in_tx(connection: &Connection) -> Result<u64> {
    let Some(state) = lock_state(connection).await? else {
        return Ok(0);
    };
    if !state.are_ended {
        return Ok(0);
    }
    let from = begin(&state);
    if from >= state.closing_before {
        if from > state.rolled_before {
            db::execute(connection, &queries::NOTE_ROLLED, &[&state.closing_before]).await?;
        }
        return Ok(0);
    }
    let is_whole_day =
        from == Interval::Day.floor(from) && Interval::Day.end(from) <= state.closing_before;
    let interval = if is_whole_day {
        Interval::Day
    } else {
        Interval::Hour
    };
    let to = interval.end(from);
    roll_range(connection, from, to, is_whole_day).await?;
    if to == Interval::Day.floor(to) {
        if !is_whole_day {
            merge(
                connection,
                Interval::Hour,
                Interval::Day,
                Interval::Day.floor(from),
            )
            .await?;
        }
        if to == Interval::Week.floor(to) {
            merge(
                connection,
                Interval::Day,
                Interval::Week,
                Interval::Week.floor(from),
            )
            .await?;
        }
    }
    db::execute(connection, &queries::NOTE_ROLLED, &[&to]).await?;
    Ok(u64::try_from((to - from).num_hours()).unwrap_or_default())
}

/// Where rolling up goes on. Before the first day that has a partition there is nothing; what comes there later is marked.
fn begin(state: &State) -> DateTime<Utc> {
    match state.first_day {
        Some(day) => state.rolled_before.max(day).min(state.closing_before),
        None => state.closing_before,
    }
}

/// Rolls up the hours of a range, and the range itself where it is a day: some series after the other, so that what is in
/// memory is theirs, and one connection does.
async fn roll_range(
    connection: &Connection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    is_whole_day: bool,
) -> Result<()> {
    let last: i32 = db::query_one(connection, &queries::LAST_SERIES, &[])
        .await?
        .try_get("id")?;
    for series in rows::pieces(last) {
        let hours = rows::of_samples(connection, from, to, series).await?;
        if is_whole_day {
            rows::write(connection, &merged(hours.clone(), Interval::Day)).await?;
        }
        rows::write(connection, &hours).await?;
    }
    Ok(())
}

/// Merges the rollups of one bucket from those below it, for all series.
async fn merge(
    connection: &Connection,
    below: Interval,
    interval: Interval,
    bucket: DateTime<Utc>,
) -> Result<()> {
    let until = interval.end(bucket);
    let mut after = i32::MIN;
    loop {
        let params: db::Params<'_> = &[&below.hours(), &bucket, &until, &SERIES_AT_ONCE, &after];
        let found = db::query(connection, &queries::SERIES_WITH_ROLLUPS, params).await?;
        let ranges = found
            .iter()
            .map(|row| Ok((row.try_get("series_id")?, bucket, until)))
            .collect::<Result<Vec<_>>>()?;
        let Some((last, ..)) = ranges.last() else {
            return Ok(());
        };
        after = *last;
        let parts = rows::read(connection, below, &ranges).await?;
        rows::write(connection, &merged(parts, interval)).await?;
    }
}

/// Rollups merged into those of a longer interval; they are in the order of series and times.
pub(super) fn merged(parts: Vec<Rollup>, interval: Interval) -> Vec<Rollup> {
    let mut merged: Vec<Rollup> = Vec::new();
    for part in parts {
        let bucket = interval.floor(part.bucket);
        match merged.last_mut() {
            Some(last) if last.series_id == part.series_id && last.bucket == bucket => {
                last.summary.merge(&part.summary);
            }
            _ => merged.push(Rollup::new(part.series_id, interval, bucket, part.summary)),
        }
    }
    merged
}

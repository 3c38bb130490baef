//! Hours that were written into after they were rolled up.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{
    Interval, lock_state,
    rows::{self, Place, Rollup},
    turn::{BEGIN, merged},
};
use crate::{
    db::{self, Connection, OpenTransaction},
    error::Result,
    metrics::{Metrics, cold, queries},
};

/// How many marks one transaction takes.
const MARKS_AT_ONCE: i64 = 2_000;

/// A bucket of a series.
type Bucket = (i32, DateTime<Utc>);

/// Rolls some marked hours up again; gives how many hours of series that were.
pub(super) async fn fold_some(metrics: &Metrics<'_>) -> Result<u64> {
    let open = OpenTransaction::begin(metrics.pool, BEGIN).await?;
    let folded = fold_in_tx(open.connection()?).await;
    open.end(folded).await
}

async fn fold_in_tx(connection: &Connection) -> Result<u64> {
    let Some(state) = lock_state(connection).await? else {
        return Ok(0);
    };
    let rolled = state.rolled_before;
    // First the marks, then, with a later snapshot, the samples: see the parent module.
    let taken = db::query(connection, &queries::TAKE_MARKS, &[&rolled, &MARKS_AT_ONCE]).await?;
    let hours = taken
        .iter()
        .map(|row| Ok((row.try_get("series_id")?, row.try_get("hour")?)))
        .collect::<Result<BTreeSet<Bucket>>>()?;
    let hours = hot(connection, hours).await?;
    if hours.is_empty() {
        return Ok(0);
    }
    let (made, gone) = from_samples(connection, &hours).await?;
    rows::write(connection, &made).await?;
    rows::remove(connection, &gone).await?;
    let days = above(&hours, Interval::Day, rolled);
    again(connection, Interval::Hour, Interval::Day, &days).await?;
    let weeks = above(&hours, Interval::Week, rolled);
    again(connection, Interval::Day, Interval::Week, &weeks).await?;
    Ok(u64::try_from(hours.len()).unwrap_or(u64::MAX))
}

/// Those whose samples are in the database. Rollups of the others were compared with their samples before these were archived,
/// and are what is left of them here: they stay, whatever was marked.
async fn hot(connection: &Connection, mut hours: BTreeSet<Bucket>) -> Result<BTreeSet<Bucket>> {
    let times = || hours.iter().map(|(_, hour)| hour.timestamp_micros());
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Ok(hours);
    };
    // From here on no day goes cold.
    connection.batch_execute(queries::LOCK_DAYS).await?;
    let cold = cold::days(connection, first, last + 1).await?;
    hours.retain(|(_, hour)| !cold::has_day(&cold, *hour));
    Ok(hours)
}

/// The hours as their samples are now, and those that have none.
async fn from_samples(
    connection: &Connection,
    hours: &BTreeSet<Bucket>,
) -> Result<(Vec<Rollup>, Vec<Place>)> {
    let hours: Vec<Bucket> = hours.iter().copied().collect();
    let parts: Vec<_> = hours
        .iter()
        .map(|(id, hour)| (*id, *hour, Interval::Hour.end(*hour)))
        .collect();
    let summaries = rows::of_parts(connection, &parts).await?;
    let (mut made, mut gone) = (Vec::new(), Vec::new());
    for ((series_id, hour), summary) in hours.into_iter().zip(summaries) {
        match summary {
            Some(summary) => made.push(Rollup::new(series_id, Interval::Hour, hour, summary)),
            None => gone.push((series_id, Interval::Hour.hours(), hour)),
        }
    }
    Ok((made, gone))
}

/// The buckets of an interval that hours lie in, where these are rolled up.
fn above(
    hours: &BTreeSet<Bucket>,
    interval: Interval,
    rolled_before: DateTime<Utc>,
) -> BTreeSet<Bucket> {
    hours
        .iter()
        .map(|(series_id, hour)| (*series_id, interval.floor(*hour)))
        .filter(|(_, bucket)| interval.end(*bucket) <= rolled_before)
        .collect()
}

/// Merges buckets anew from what is below them.
async fn again(
    connection: &Connection,
    below: Interval,
    interval: Interval,
    buckets: &BTreeSet<Bucket>,
) -> Result<()> {
    let ranges: Vec<_> = buckets
        .iter()
        .map(|(id, bucket)| (*id, *bucket, interval.end(*bucket)))
        .collect();
    if ranges.is_empty() {
        return Ok(());
    }
    let made = merged(rows::read(connection, below, &ranges).await?, interval);
    let there: BTreeSet<Place> = made.iter().map(Rollup::place).collect();
    let gone: Vec<Place> = buckets
        .iter()
        .map(|(series_id, bucket)| (*series_id, interval.hours(), *bucket))
        .filter(|place| !there.contains(place))
        .collect();
    rows::write(connection, &made).await?;
    rows::remove(connection, &gone).await
}

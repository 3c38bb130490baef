//! Rollups as they lie in the database.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use super::Interval;
use crate::{
    db::{self, Connection, Copied},
    error::{Error, Result},
    metrics::{
        cached::time,
        queries::{self, Part},
        sketch::Sketch,
        summary::Summary,
    },
};

/// How many rollups one statement writes.
const AT_ONCE: usize = 2_000;

/// The summary of one bucket of one series.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::metrics) struct Rollup {
    pub series_id: i32,
    pub hours: i16,
    pub bucket: DateTime<Utc>,
    pub summary: Summary,
    /// Its p50, p95 and p99, as they are stored beside the sketch.
    pub percentiles: [f64; 3],
}

/// Where a rollup lies.
pub(super) type Place = (i32, i16, DateTime<Utc>);

impl Rollup {
    pub fn new(
        series_id: i32,
        interval: Interval,
        bucket: DateTime<Utc>,
        summary: Summary,
    ) -> Self {
        Self {
            series_id,
            hours: interval.hours(),
            bucket,
            summary,
            percentiles: [0.0; 3],
        }
    }

    /// With its percentiles, which are computed when all samples are in it.
    pub fn finished(mut self) -> Self {
        self.percentiles = [0.5, 0.95, 0.99].map(|q| self.summary.quantile(q));
        self
    }

    pub fn place(&self) -> Place {
        (self.series_id, self.hours, self.bucket)
    }

    pub fn from_row(row: &Row) -> Result<Self> {
        let micros = |column: &str| -> Result<i64> {
            Ok(row.try_get::<_, DateTime<Utc>>(column)?.timestamp_micros())
        };
        let count: i64 = row.try_get("count")?;
        Ok(Self {
            series_id: row.try_get("series_id")?,
            hours: row.try_get("hours")?,
            bucket: row.try_get("bucket")?,
            summary: Summary {
                count: u64::try_from(count)
                    .map_err(|_| Error::internal("a rollup of fewer than no samples"))?,
                sum: row.try_get("sum")?,
                sum_low: row.try_get("sum_low")?,
                min: row.try_get("min")?,
                min_at: micros("min_at")?,
                max: row.try_get("max")?,
                max_at: micros("max_at")?,
                last: row.try_get("last")?,
                last_at: micros("last_at")?,
                sketch: Sketch::decode(row.try_get("sketch")?)?,
            },
            percentiles: [
                row.try_get("p50")?,
                row.try_get("p95")?,
                row.try_get("p99")?,
            ],
        })
    }
}

/// Reads the rollups of an interval of some series in ranges of time, in that order.
pub(in crate::metrics) async fn read(
    connection: &Connection,
    interval: Interval,
    ranges: &[(i32, DateTime<Utc>, DateTime<Utc>)],
) -> Result<Vec<Rollup>> {
    let ids: Vec<i32> = ranges.iter().map(|range| range.0).collect();
    let since: Vec<DateTime<Utc>> = ranges.iter().map(|range| range.1).collect();
    let until: Vec<DateTime<Utc>> = ranges.iter().map(|range| range.2).collect();
    let params: db::Params<'_> = &[&ids, &interval.hours(), &since, &until];
    let rows = db::query(connection, &queries::READ_ROLLUPS, params).await?;
    rows.iter().map(Rollup::from_row).collect()
}

/// Writes rollups.
pub(super) async fn write(connection: &Connection, rollups: &[Rollup]) -> Result<()> {
    for part in rollups.chunks(AT_ONCE) {
        let column = |of: &dyn Fn(&Summary) -> f64| {
            part.iter().map(|r| of(&r.summary)).collect::<Vec<f64>>()
        };
        let times = |of: &dyn Fn(&Summary) -> i64| {
            part.iter()
                .map(|r| time(of(&r.summary)))
                .collect::<Vec<_>>()
        };
        let ids: Vec<i32> = part.iter().map(|rollup| rollup.series_id).collect();
        let hours: Vec<i16> = part.iter().map(|rollup| rollup.hours).collect();
        let buckets: Vec<_> = part.iter().map(|rollup| rollup.bucket).collect();
        let counts: Vec<i64> = part
            .iter()
            .map(|r| i64::try_from(r.summary.count).unwrap_or(i64::MAX))
            .collect();
        let sketches: Vec<Vec<u8>> = part
            .iter()
            .map(|rollup| rollup.summary.sketch.encode())
            .collect();
        let params: db::Params<'_> = &[
            &ids,
            &hours,
            &buckets,
            &counts,
            &column(&|s| s.sum),
            &column(&|s| s.sum_low),
            &column(&|s| s.min),
            &times(&|s| s.min_at),
            &column(&|s| s.max),
            &times(&|s| s.max_at),
            &column(&|s| s.last),
            &times(&|s| s.last_at),
            &column(&|s| s.quantile(0.5)),
            &column(&|s| s.quantile(0.95)),
            &column(&|s| s.quantile(0.99)),
            &sketches,
        ];
        db::execute(connection, &queries::WRITE_ROLLUPS, params).await?;
    }
    Ok(())
}

/// Removes rollups of what has no samples any more.
pub(super) async fn remove(connection: &Connection, places: &[Place]) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let ids: Vec<i32> = places.iter().map(|place| place.0).collect();
    let hours: Vec<i16> = places.iter().map(|place| place.1).collect();
    let buckets: Vec<_> = places.iter().map(|place| place.2).collect();
    db::execute(
        connection,
        &queries::REMOVE_ROLLUPS,
        &[&ids, &hours, &buckets],
    )
    .await?;
    Ok(())
}

/// How many series are read together: what is in memory is a day of them.
const SERIES_AT_ONCE: i32 = 500;

/// The numbers of series up to the last one, in pieces: the first and the last of each.
pub(super) fn pieces(last: i32) -> impl Iterator<Item = (i32, i32)> {
    let mut first = 1_i32;
    std::iter::from_fn(move || {
        let piece = (first, first.saturating_add(SERIES_AT_ONCE - 1));
        first = piece.1.checked_add(1)?;
        (piece.0 <= last).then_some(piece)
    })
}

/// The hours of a range from samples, in the order of series and times.
pub(super) async fn of_samples(
    connection: &Connection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    series: (i32, i32),
) -> Result<Vec<Rollup>> {
    let mut samples = Copied::begin(connection, &queries::copy_range(from, to, series)).await?;
    let mut hours: Vec<Rollup> = Vec::new();
    while let Some(mut fields) = samples.next().await? {
        let (series_id, at, value) = (fields.int4()?, fields.time()?, fields.float8()?);
        let bucket = Interval::Hour.floor(time(at));
        match hours.last_mut() {
            Some(hour) if hour.series_id == series_id && hour.bucket == bucket => {
                hour.summary.add(at, value);
            }
            _ => hours.push(Rollup::new(
                series_id,
                Interval::Hour,
                bucket,
                Summary::of(at, value),
            )),
        }
    }
    Ok(hours)
}

/// What parts of series amount to, in their order; `None` where there is no sample.
pub(in crate::metrics) async fn of_parts(
    connection: &Connection,
    parts: &[Part],
) -> Result<Vec<Option<Summary>>> {
    let mut summaries: Vec<Option<Summary>> = vec![None; parts.len()];
    let mut samples = Copied::begin(connection, &queries::copy_parts(parts)).await?;
    while let Some(mut fields) = samples.next().await? {
        let (place, at, value) = (fields.int4()?, fields.time()?, fields.float8()?);
        match usize::try_from(place)
            .ok()
            .and_then(|place| summaries.get_mut(place))
        {
            Some(Some(summary)) => summary.add(at, value),
            Some(empty) => *empty = Some(Summary::of(at, value)),
            None => {}
        }
    }
    Ok(summaries)
}

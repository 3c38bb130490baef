//! What series amount to, by hour, day or week (C3.4), in any range.
//!
//! # What it guarantees
//!
//! The answer is what the samples of the range amount to in one snapshot, whether they are rolled up or not: rollups serve
//! what they can, and the rest (the newest hours, the ends of a range that begin or end within an hour, and hours that wait
//! to be rolled up again) is computed from samples.
//!
//! # How
//!
//! Whole buckets that are rolled up come as they are. Everything else is cut into *parts*: whole hours that are rolled up, and
//! what is left of it, which is read as samples, those of each day by a statement of its own, so that no other day's
//! partition is touched. Two round trips, as a rule. Days that have no samples are not asked for.
//!
//! Rollups of archived days stay in the database, so that archives are asked for ends of ranges only. Such a read begins anew
//! when it has what it lacked ([`super::cold::parts`]).

pub(super) mod extremes;
mod parts;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio_postgres::Row;

use parts::{Marks, Parts};

use super::{
    Metrics,
    cached::time,
    cold::{ColdDay, parts::ColdParts, start_of},
    queries,
    read::Selector,
    rollup::{Interval, of_parts, read_rollups},
    summary::Summary,
};
use crate::{
    db::{self, Connection, OpenTransaction, TransactionId},
    error::{Error, Result},
};

/// The most buckets of one answer.
pub const MAX_BUCKETS: i64 = 20_000;

/// What the samples of a bucket amount to.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Where the bucket begins, which may be before the range does.
    pub start: DateTime<Utc>,
    /// How many samples.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Their mean.
    pub mean: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The latest.
    pub last: f64,
    /// The median, within 1 %.
    pub p50: f64,
    /// The 95th percentile, within 1 %.
    pub p95: f64,
    /// The 99th percentile, within 1 %.
    pub p99: f64,
    /// Whether the bucket is over and lies wholly in the range.
    pub is_complete: bool,
}

/// The buckets of a range that have samples, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregated {
    /// The buckets.
    pub buckets: Vec<Bucket>,
    /// Whether all of the range's buckets are over and lie wholly in it.
    pub is_complete: bool,
    /// When it was read.
    pub as_of: DateTime<Utc>,
    /// How many series it is about.
    pub series: usize,
}

impl Bucket {
    pub(super) fn of(start: DateTime<Utc>, summary: &Summary) -> Self {
        Self {
            start,
            count: summary.count,
            sum: summary.total(),
            mean: summary.mean(),
            min: summary.min,
            max: summary.max,
            last: summary.last,
            p50: summary.quantile(0.5),
            p95: summary.quantile(0.95),
            p99: summary.quantile(0.99),
            is_complete: false,
        }
    }

    fn from_row(row: &Row) -> Result<Self> {
        let count: i64 = row.try_get("count")?;
        let (sum, min, max): (f64, f64, f64) = (
            row.try_get("sum")?,
            row.try_get("min")?,
            row.try_get("max")?,
        );
        Ok(Self {
            start: row.try_get("bucket")?,
            count: u64::try_from(count).unwrap_or_default(),
            sum,
            mean: (sum / count as f64).max(min).min(max),
            min,
            max,
            last: row.try_get("last")?,
            p50: row.try_get("p50")?,
            p95: row.try_get("p95")?,
            p99: row.try_get("p99")?,
            is_complete: false,
        })
    }
}

impl Metrics<'_> {
    /// What all series that match, which are of one service and one type, amount to together, by hour, day or week. A series
    /// that another process made less than a second ago may be missing, unless `seen` names the transaction.
    ///
    /// Fails with `too_many_buckets` for a range that has more than [`MAX_BUCKETS`], and with `too_many_series_matched`
    /// where more series match than one read may be about.
    pub async fn aggregate(
        &self,
        selector: &Selector,
        interval: Interval,
        seen: Option<TransactionId>,
        now: DateTime<Utc>,
    ) -> Result<Aggregated> {
        let selector = &selector.clamped();
        let (from, to) = (time(selector.from), time(selector.to));
        if from < to && (to - from).num_hours() / i64::from(interval.hours()) > MAX_BUCKETS {
            return Err(Error::invalid(
                "too_many_buckets",
                format!(
                    "the range has more than {MAX_BUCKETS} buckets; ask for a shorter one, or by day or week"
                ),
            ));
        }
        let ids = self.ids_to_read(selector, seen).await?;
        let mut buckets = match ids.as_slice() {
            [id] if from < to => {
                self.reads
                    .run(|pool| {
                        let there = Self { pool, ..*self };
                        Box::pin(async move { there.of_one(*id, from, to, interval).await })
                    })
                    .await?
            }
            [_, ..] if from < to => {
                let ids = ids.as_slice();
                let merged = self
                    .reads
                    .run(|pool| {
                        let there = Self { pool, ..*self };
                        Box::pin(async move { there.of_all(ids, from, to, interval).await })
                    })
                    .await?;
                merged
                    .iter()
                    .map(|(start, summary)| Bucket::of(*start, summary))
                    .collect()
            }
            _ => Vec::new(),
        };
        for bucket in &mut buckets {
            let end = interval.end(bucket.start);
            bucket.is_complete = bucket.start >= from && end <= to && end <= now;
        }
        Ok(Aggregated {
            buckets,
            is_complete: interval.floor(from) == from && interval.floor(to) == to && to <= now,
            as_of: now,
            series: ids.len(),
        })
    }

    /// The numbers of the series that match, refused where they are too many.
    async fn ids_to_read(
        &self,
        selector: &Selector,
        seen: Option<TransactionId>,
    ) -> Result<Vec<i32>> {
        let max = usize::try_from(self.settings.max_series_per_read).unwrap_or(usize::MAX);
        let limit = max.saturating_add(1);
        let ids: Vec<i32> = if let Some(matched) = self.matching(selector, limit, seen).await? {
            matched.ids()
        } else {
            let all = self.series_matching(selector, 0, limit).await?;
            all.into_iter().map(|series| series.id).collect()
        };
        self.check_count(ids.len())?;
        Ok(ids)
    }

    /// One series: whole buckets come without their sketches.
    async fn of_one(
        &self,
        id: i32,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        interval: Interval,
    ) -> Result<Vec<Bucket>> {
        let mut cold = ColdParts::of_at_most(i64::MAX);
        loop {
            if let Some(buckets) = self.try_one(id, from, to, interval, &mut cold).await? {
                return Ok(buckets);
            }
            cold.fetch(&self.caches.cold).await?;
        }
    }

    /// `None` where parts of archives are lacking.
    async fn try_one(
        &self,
        id: i32,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        interval: Interval,
        cold: &mut ColdSummaries,
    ) -> Result<Option<Vec<Bucket>>> {
        let (inner, inner_end) = (interval.ceil(from), interval.floor(to));
        let open = OpenTransaction::on(self.pool.get().await?);
        let connection = open.connection()?;
        let ids = [id];
        let figures: db::Params<'_> = &[&id, &interval.hours(), &inner, &inner_end];
        let (begun, state, rows) = tokio::join!(
            biased;
            connection.batch_execute(BEGIN),
            read_state(connection, &ids, from, to),
            db::query(connection, &queries::READ_FIGURES, figures),
        );
        begun?;
        let read = async {
            let marks = state?;
            let parts = Parts::of(&ids, from, to, interval, &marks);
            if parts.lack(cold) {
                return Ok(None);
            }
            let mut merged = BTreeMap::new();
            for ((_, start), summary) in read_parts(connection, &parts, interval, cold).await? {
                merge_into(&mut merged, start, summary);
            }
            let mut buckets: BTreeMap<DateTime<Utc>, Bucket> = BTreeMap::new();
            for row in &rows? {
                let bucket = Bucket::from_row(row)?;
                if parts.is_whole(id, bucket.start) {
                    buckets.insert(bucket.start, bucket);
                }
            }
            buckets.extend(
                merged
                    .iter()
                    .map(|(start, summary)| (*start, Bucket::of(*start, summary))),
            );
            Ok(Some(buckets.into_values().collect()))
        };
        let buckets = read.await;
        open.end(buckets).await
    }

    /// All series together, a few at a time, in one snapshot.
    async fn of_all(
        &self,
        ids: &[i32],
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        interval: Interval,
    ) -> Result<BTreeMap<DateTime<Utc>, Summary>> {
        let buckets = (to - from).num_hours() / i64::from(interval.hours()) + 2;
        let at_once = usize::try_from(ROLLUPS_AT_ONCE / buckets)
            .unwrap_or(1)
            .max(1);
        let (open, marks, cold) = self.begin_with_cold(ids, from, to, interval).await?;
        let read = async {
            let connection = open.connection()?;
            let mut merged = BTreeMap::new();
            for some in ids.chunks(at_once) {
                let summaries =
                    each_in_tx(connection, some, from, to, interval, &marks, &cold).await?;
                for ((_, start), summary) in summaries {
                    merge_into(&mut merged, start, summary);
                }
            }
            Ok(merged)
        };
        let merged = read.await;
        open.end(merged).await
    }

    /// Begins a snapshot, with all parts of archives that it names at hand.
    async fn begin_with_cold(
        &self,
        ids: &[i32],
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        interval: Interval,
    ) -> Result<(OpenTransaction, Marks, ColdSummaries)> {
        let mut cold = ColdParts::of_at_most(i64::MAX);
        loop {
            let open = OpenTransaction::begin(self.pool, BEGIN).await?;
            let marks = read_state(open.connection()?, ids, from, to).await;
            let marks = match marks {
                Ok(marks) => marks,
                Err(error) => return open.end(Err(error)).await,
            };
            if !marks.has_cold() || !Parts::of(ids, from, to, interval, &marks).lack(&mut cold) {
                return Ok((open, marks, cold));
            }
            open.end(Ok(())).await?;
            cold.fetch(&self.caches.cold).await?;
        }
    }

    /// Each series for itself, with everything that can be merged.
    pub(super) async fn of_each(
        &self,
        ids: &[i32],
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        interval: Interval,
    ) -> Result<BTreeMap<(i32, DateTime<Utc>), Summary>> {
        let (open, marks, cold) = self.begin_with_cold(ids, from, to, interval).await?;
        let summaries =
            each_in_tx(open.connection()?, ids, from, to, interval, &marks, &cold).await;
        open.end(summaries).await
    }
}

/// Series by bucket, as the transaction sees them.
async fn each_in_tx(
    connection: &Connection,
    ids: &[i32],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    interval: Interval,
    marks: &Marks,
    cold: &ColdSummaries,
) -> Result<BTreeMap<(i32, DateTime<Utc>), Summary>> {
    let (inner, inner_end) = (interval.ceil(from), interval.floor(to));
    let parts = Parts::of(ids, from, to, interval, marks);
    let mut summaries = read_parts(connection, &parts, interval, cold).await?;
    if inner < inner_end {
        let ranges: Vec<_> = ids.iter().map(|id| (*id, inner, inner_end)).collect();
        for rollup in read_rollups(connection, interval, &ranges).await? {
            if parts.is_whole(rollup.series_id, rollup.bucket) {
                summaries.insert((rollup.series_id, rollup.bucket), rollup.summary);
            }
        }
    }
    Ok(summaries)
}

/// How many rollups with their sketches are in memory at once.
const ROLLUPS_AT_ONCE: i64 = 20_000;

/// State, marks, rollups and samples are read in one snapshot, which is taken when no day can be detached any more.
const BEGIN: &str = "begin isolation level repeatable read read only; lock table only system_metrics in access share mode";

/// Parts of archives, as aggregates need them.
type ColdSummaries = ColdParts<Option<Summary>>;

fn merge_into<K: Ord>(merged: &mut BTreeMap<K, Summary>, place: K, summary: Summary) {
    match merged.entry(place) {
        std::collections::btree_map::Entry::Occupied(mut there) => there.get_mut().merge(&summary),
        std::collections::btree_map::Entry::Vacant(place) => {
            place.insert(summary);
        }
    }
}

/// How far rollups are made, and which hours wait to be made again.
async fn read_state(
    connection: &Connection,
    ids: &[i32],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Marks> {
    let since = Interval::Hour.floor(from);
    let params: db::Params<'_> = &[&ids, &since, &to];
    let (first, last) = (from.date_naive(), to.date_naive());
    let days: db::Params<'_> = &[&first, &last];
    let (state, marks, days) = tokio::join!(
        biased;
        db::query_one(connection, &queries::READ_STATE, &[]),
        db::query(connection, &queries::READ_MARKS, params),
        db::query(connection, &queries::READ_DAYS, days),
    );
    let hours = marks?
        .iter()
        .map(|row| Ok((row.try_get("series_id")?, row.try_get("hour")?)))
        .collect::<Result<_>>()?;
    let days = days?
        .iter()
        .map(|row| {
            let day = time(start_of(row.try_get("day")?));
            Ok((day, ColdDay::from_row(row)?))
        })
        .collect::<Result<_>>()?;
    Ok(Marks {
        rolled_before: state?.try_get("rolled_before")?,
        hours,
        days,
    })
}

/// What parts amount to, by series and bucket.
async fn read_parts(
    connection: &Connection,
    parts: &Parts,
    interval: Interval,
    cold: &ColdSummaries,
) -> Result<BTreeMap<(i32, DateTime<Utc>), Summary>> {
    let mut summaries = BTreeMap::new();
    if !parts.hours.is_empty() {
        for rollup in read_rollups(connection, Interval::Hour, &parts.hours).await? {
            if !parts.marks.has(rollup.series_id, rollup.bucket) {
                let place = (rollup.series_id, interval.floor(rollup.bucket));
                merge_into(&mut summaries, place, rollup.summary);
            }
        }
    }
    for (archive, of_day) in parts.samples_by_day() {
        let read = match archive {
            Some(day) => cold.of_day(day, &of_day),
            None => of_parts(connection, &of_day).await?,
        };
        for ((id, since, _), summary) in of_day.into_iter().zip(read) {
            if let Some(summary) = summary {
                merge_into(&mut summaries, (id, interval.floor(since)), summary);
            }
        }
    }
    Ok(summaries)
}

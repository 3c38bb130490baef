//! Comparing series: the greatest ones, and those that got worse.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Bucket, Metrics,
    cached::Series,
    degradation::{self, Figures, Judgement},
    queries,
    read::Selector,
    rollup::Interval,
};
use crate::{db, error::Result};

/// How many series are read together.
const SERIES_AT_ONCE: usize = 200;

/// What series are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// The mean.
    Mean,
    /// The greatest value.
    Max,
    /// The median.
    P50,
    /// The 95th percentile.
    P95,
    /// The 99th percentile.
    P99,
}

impl Statistic {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "avg",
            Self::Max => "max",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
        }
    }

    fn of(self, bucket: &Bucket) -> f64 {
        match self {
            Self::Mean => bucket.mean,
            Self::Max => bucket.max,
            Self::P50 => bucket.p50,
            Self::P95 => bucket.p95,
            Self::P99 => bucket.p99,
        }
    }
}

/// What the greatest series are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopBy {
    /// The mean.
    Mean,
    /// The greatest value.
    Max,
    /// The greatest 95th percentile of an hour.
    P95,
    /// The sum.
    Sum,
    /// The number of samples.
    Count,
}

impl TopBy {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "avg",
            Self::Max => "max",
            Self::P95 => "p95",
            Self::Sum => "sum",
            Self::Count => "count",
        }
    }
}

/// One of the greatest series.
#[derive(Debug, Clone, PartialEq)]
pub struct TopSeries {
    /// The series.
    pub series: Series,
    /// How many samples.
    pub count: i64,
    /// Their sum.
    pub sum: f64,
    /// Their mean.
    pub mean: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The greatest 95th percentile of an hour.
    pub p95: f64,
}

/// The greatest series of whole hours.
#[derive(Debug, Clone, PartialEq)]
pub struct TopList {
    /// From this hour on.
    pub from: DateTime<Utc>,
    /// Before this hour: up to which rollups are made.
    pub to: DateTime<Utc>,
    /// The series, the greatest first.
    pub series: Vec<TopSeries>,
}

/// Which series to look at for degradations, and how.
#[derive(Debug, Clone)]
pub struct DegradationQuery {
    /// The series; its times are not looked at.
    pub selector: Selector,
    /// The window's length, in hours.
    pub hours: i64,
    /// The window's end.
    pub end: DateTime<Utc>,
    /// What is compared.
    pub statistic: Statistic,
    /// What counts as worse.
    pub settings: degradation::Settings,
}

/// A series that got worse.
#[derive(Debug, Clone, PartialEq)]
pub struct Degradation {
    /// The series.
    pub series: Series,
    /// What says so.
    pub figures: Figures,
}

/// What looking for degradations found.
#[derive(Debug, Clone, PartialEq)]
pub struct Degradations {
    /// The series that got worse, the worst (by z) first.
    pub degradations: Vec<Degradation>,
    /// How many series were judged.
    pub judged: usize,
    /// How many have samples in the window and too little history.
    pub not_enough_history: usize,
    /// How many have no samples in the window.
    pub silent: usize,
}

type Hours = BTreeMap<i32, Vec<degradation::Hour>>;

impl Metrics<'_> {
    /// The series with the greatest figure in the last hours that are rolled up, of a service and a type where given.
    pub async fn top(
        &self,
        by: TopBy,
        service_name: Option<&str>,
        metric_type: Option<&str>,
        hours: i64,
        limit: i64,
    ) -> Result<TopList> {
        self.reads
            .run(|pool| {
                let there = Self { pool, ..*self };
                Box::pin(async move {
                    there
                        .top_there(by, service_name, metric_type, hours, limit)
                        .await
                })
            })
            .await
    }

    async fn top_there(
        &self,
        by: TopBy,
        service_name: Option<&str>,
        metric_type: Option<&str>,
        hours: i64,
        limit: i64,
    ) -> Result<TopList> {
        let connection = self.pool.get().await?;
        let to: DateTime<Utc> = db::query_one(&connection, &queries::READ_STATE, &[])
            .await?
            .try_get("rolled_before")?;
        let from = TimeDelta::try_hours(hours)
            .and_then(|hours| to.checked_sub_signed(hours))
            .unwrap_or(to);
        let params: db::Params<'_> = &[
            &service_name,
            &metric_type,
            &from,
            &to,
            &by.as_str(),
            &limit,
        ];
        let rows = db::query(&connection, &queries::TOP, params).await?;
        let series = rows
            .iter()
            .map(|row| {
                Ok(TopSeries {
                    series: Series::from_row(row)?,
                    count: row.try_get("count")?,
                    sum: row.try_get("sum")?,
                    mean: row.try_get("avg")?,
                    min: row.try_get("min")?,
                    max: row.try_get("max")?,
                    p95: row.try_get("p95")?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(TopList { from, to, series })
    }

    /// The series whose window is worse than their own past; see [`degradation`] for how that is judged.
    ///
    /// Fails with `too_many_series_matched` where more series match than one read may be about.
    pub async fn degradations(&self, query: &DegradationQuery) -> Result<Degradations> {
        self.reads
            .run(|pool| {
                let there = Self { pool, ..*self };
                Box::pin(async move { there.degradations_there(query).await })
            })
            .await
    }

    async fn degradations_there(&self, query: &DegradationQuery) -> Result<Degradations> {
        let mut found = Degradations {
            degradations: Vec::new(),
            judged: 0,
            not_enough_history: 0,
            silent: 0,
        };
        let max = usize::try_from(self.settings.max_series_per_read).unwrap_or(usize::MAX);
        let series = self
            .series_matching(&query.selector, 0, max.saturating_add(1))
            .await?;
        self.check_count(series.len())?;
        for part in series.chunks(SERIES_AT_ONCE) {
            let ids: Vec<i32> = part.iter().map(|series| series.id).collect();
            let start = TimeDelta::try_hours(query.hours)
                .and_then(|hours| query.end.checked_sub_signed(hours))
                .unwrap_or(query.end);
            let windows = self.window(&ids, start, query).await?;
            let histories = self.history(&ids, start, query.statistic).await?;
            for series in part {
                let Some(window) = windows.get(&series.id) else {
                    found.silent += 1;
                    continue;
                };
                let history = histories
                    .get(&series.id)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                match degradation::judge(window, history, &query.settings) {
                    Judgement::NotEnoughHistory { .. } => found.not_enough_history += 1,
                    Judgement::Judged(figures) => {
                        found.judged += 1;
                        if figures.worse {
                            found.degradations.push(Degradation {
                                series: series.clone(),
                                figures,
                            });
                        }
                    }
                }
            }
        }
        found
            .degradations
            .sort_by(|a, b| b.figures.z.total_cmp(&a.figures.z));
        Ok(found)
    }

    /// The window's hours, the first and last of which may be parts, also such as are not rolled up.
    async fn window(
        &self,
        ids: &[i32],
        start: DateTime<Utc>,
        query: &DegradationQuery,
    ) -> Result<Hours> {
        let mut hours = Hours::new();
        let summaries = self.of_each(ids, start, query.end, Interval::Hour).await?;
        for ((id, bucket), summary) in summaries {
            let figures = Bucket::of(bucket, &summary);
            hours.entry(id).or_default().push(degradation::Hour {
                start: bucket.timestamp_micros(),
                count: figures.count,
                value: query.statistic.of(&figures),
            });
        }
        Ok(hours)
    }

    async fn history(
        &self,
        ids: &[i32],
        start: DateTime<Utc>,
        statistic: Statistic,
    ) -> Result<Hours> {
        let until = Interval::Hour.floor(start);
        let since = until - TimeDelta::hours(degradation::HISTORY_HOURS);
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&ids, &since, &until, &statistic.as_str()];
        let mut hours = Hours::new();
        for row in db::query(&connection, &queries::READ_STATISTIC, params).await? {
            let count: i64 = row.try_get("count")?;
            let bucket: DateTime<Utc> = row.try_get("bucket")?;
            hours
                .entry(row.try_get("series_id")?)
                .or_default()
                .push(degradation::Hour {
                    start: bucket.timestamp_micros(),
                    count: u64::try_from(count).unwrap_or_default(),
                    value: row.try_get("value")?,
                });
        }
        Ok(hours)
    }
}

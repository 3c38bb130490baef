//! The shapes of calls that aggregate and compare series.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utxoiq_store::metrics::{
    Bucket, Degradation, Difference, TopSeries, Verified, degradation::Season,
};

use super::wire_read::MetricSeries;

/// What to aggregate: the samples of all series that match, together.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct AggregateParams {
    /// Of this service.
    #[param(min_length = 1, max_length = 100)]
    service_name: String,
    /// Of this type.
    #[param(min_length = 1, max_length = 200)]
    metric_type: String,
    /// Only in this unit.
    #[param(min_length = 0, max_length = 63)]
    unit: Option<String>,
    /// Only with all of these labels: `host=a,region=b`.
    #[param(min_length = 1, max_length = 2_000)]
    labels: Option<String>,
    /// From this time on.
    start_time: DateTime<Utc>,
    /// Before this time.
    end_time: DateTime<Utc>,
    /// The length of a bucket (UTC; weeks begin on Mondays): hour, day or week.
    #[param(inline)]
    interval: Option<IntervalName>,
}

/// The length of a bucket.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)]
pub enum IntervalName {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// An ISO week.
    Week,
}

/// What the samples of a bucket amount to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AggregateBucket {
    /// Where the bucket begins.
    pub timestamp: DateTime<Utc>,
    /// The mean.
    pub avg_value: f64,
    /// The least value.
    pub min_value: f64,
    /// The greatest value.
    pub max_value: f64,
    /// How many samples.
    pub count: u64,
    /// The sum.
    pub sum_value: f64,
    /// The latest value.
    pub last_value: f64,
    /// The median, within 1 %.
    pub p50: f64,
    /// The 95th percentile, within 1 %.
    pub p95: f64,
    /// The 99th percentile, within 1 %.
    pub p99: f64,
    /// Whether the bucket is over and lies wholly between `start_time` and `end_time`.
    pub complete: bool,
}

impl From<Bucket> for AggregateBucket {
    fn from(bucket: Bucket) -> Self {
        Self {
            timestamp: bucket.start,
            avg_value: bucket.mean,
            min_value: bucket.min,
            max_value: bucket.max,
            count: bucket.count,
            sum_value: bucket.sum,
            last_value: bucket.last,
            p50: bucket.p50,
            p95: bucket.p95,
            p99: bucket.p99,
            complete: bucket.is_complete,
        }
    }
}

/// Buckets that have samples, in order.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MetricAggregate {
    /// The service.
    pub service_name: String,
    /// The type.
    pub metric_type: String,
    /// The length of a bucket: hour, day or week.
    pub interval: String,
    /// As it was asked.
    pub start_time: DateTime<Utc>,
    /// As it was asked.
    pub end_time: DateTime<Utc>,
    /// Whether every bucket of the range is over and lies wholly in it.
    pub complete: bool,
    /// When it was read: all that was acknowledged before is in it.
    pub as_of: DateTime<Utc>,
    /// How many series it is about.
    pub series: usize,
    /// The buckets.
    pub data: Vec<AggregateBucket>,
}

/// Which series are the greatest.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct TopParams {
    /// Only this service's.
    #[param(min_length = 1, max_length = 100)]
    service_name: Option<String>,
    /// Only of this type.
    #[param(min_length = 1, max_length = 200)]
    metric_type: Option<String>,
    /// By which figure: avg, max, p95 (the greatest of an hour), sum or count.
    #[param(inline)]
    by: Option<TopByName>,
    /// Over how many hours, up to the last one that is rolled up.
    #[param(minimum = 1, maximum = 2160, default = 24)]
    hours: Option<i64>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 20)]
    limit: Option<i64>,
}

/// What the greatest series are chosen by.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)]
pub enum TopByName {
    /// The mean.
    Avg,
    /// The greatest value.
    Max,
    /// The greatest 95th percentile of an hour.
    P95,
    /// The sum.
    Sum,
    /// The number of samples.
    Count,
}

/// One of the greatest series.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TopMetricSeries {
    /// The series.
    #[serde(flatten)]
    pub series: MetricSeries,
    /// The figure that it was chosen by.
    pub value: f64,
    /// How many samples.
    pub count: i64,
    /// Their mean.
    pub avg_value: f64,
    /// The least.
    pub min_value: f64,
    /// The greatest.
    pub max_value: f64,
    /// Their sum.
    pub sum_value: f64,
    /// The greatest 95th percentile of an hour.
    pub p95: f64,
}

impl TopMetricSeries {
    /// With the figure that was asked for.
    pub fn of(top: TopSeries, by: &str) -> Self {
        let value = match by {
            "max" => top.max,
            "p95" => top.p95,
            "sum" => top.sum,
            "count" => top.count as f64,
            _ => top.mean,
        };
        Self {
            value,
            count: top.count,
            avg_value: top.mean,
            min_value: top.min,
            max_value: top.max,
            sum_value: top.sum,
            p95: top.p95,
            series: top.series.into(),
        }
    }
}

/// The greatest series.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TopMetrics {
    /// By which figure.
    pub by: String,
    /// From this hour on.
    pub start_time: DateTime<Utc>,
    /// Before this hour: up to which rollups are made.
    pub as_of: DateTime<Utc>,
    /// The series, the greatest first.
    pub series: Vec<TopMetricSeries>,
}

/// Where to look for series that got worse.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct DegradationParams {
    /// Only this service's.
    #[param(min_length = 1, max_length = 100)]
    service_name: Option<String>,
    /// Only of this type.
    #[param(min_length = 1, max_length = 200)]
    metric_type: Option<String>,
    /// Only in this unit.
    #[param(min_length = 0, max_length = 63)]
    unit: Option<String>,
    /// Only with all of these labels: `host=a,region=b`.
    #[param(min_length = 1, max_length = 2_000)]
    labels: Option<String>,
    /// How long the window is that is compared with the past.
    #[param(minimum = 1, maximum = 168, default = 1)]
    hours: Option<i64>,
    /// Where it ends; now, if not said.
    end_time: Option<DateTime<Utc>>,
    /// What of each hour is compared: avg, max, p50, p95 (if not said) or p99.
    #[param(inline)]
    statistic: Option<StatisticName>,
    /// Which change is one to the worse: up (if not said), down or both.
    #[param(inline)]
    direction: Option<DirectionName>,
    /// The least robust z-score that counts.
    #[param(minimum = 1, maximum = 100, default = 4)]
    threshold: Option<f64>,
    /// The least change that counts, as a share of what was to be expected.
    #[param(minimum = 0, maximum = 100, default = 0.1)]
    min_change: Option<f64>,
}

/// What of each hour is compared.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)]
pub enum StatisticName {
    /// The mean.
    Avg,
    /// The greatest value.
    Max,
    /// The median.
    P50,
    /// The 95th percentile.
    P95,
    /// The 99th percentile.
    P99,
}

/// Which change is one to the worse.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)]
pub enum DirectionName {
    /// More is worse.
    Up,
    /// Less is worse.
    Down,
    /// Any change.
    Both,
}

/// A series that got worse, and the figures that say so.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DegradedSeries {
    /// The series.
    #[serde(flatten)]
    pub series: MetricSeries,
    /// The statistic in the window.
    pub current: f64,
    /// What the past lets expect.
    pub baseline: f64,
    /// By how much it changed, as a share of the baseline: 0.2 is a fifth more. Null where the baseline is zero.
    pub change: Option<f64>,
    /// How far that is beyond the usual, in robust standard deviations; more is worse.
    pub z: f64,
    /// The usual deviation.
    pub spread: f64,
    /// What it was compared with: the same hours of the `week`s or the `day`s before.
    pub season: String,
    /// How many hours of the past were used.
    pub history_hours: usize,
    /// How many samples the window has.
    pub count: u64,
}

impl From<Degradation> for DegradedSeries {
    fn from(degradation: Degradation) -> Self {
        let figures = degradation.figures;
        Self {
            series: degradation.series.into(),
            current: figures.current,
            baseline: figures.baseline,
            change: figures.change,
            z: figures.z,
            spread: figures.spread,
            season: match figures.season {
                Season::Week => "week".to_owned(),
                Season::Day => "day".to_owned(),
            },
            history_hours: figures.history_hours,
            count: figures.count,
        }
    }
}

/// The series that got worse.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MetricDegradations {
    /// When it was read.
    pub as_of: DateTime<Utc>,
    /// Where the window begins.
    pub start_time: DateTime<Utc>,
    /// Where it ends.
    pub end_time: DateTime<Utc>,
    /// What was compared.
    pub statistic: String,
    /// How many series were judged.
    pub judged: usize,
    /// How many have samples in the window and too little history.
    pub not_enough_history: usize,
    /// How many have no samples in the window.
    pub silent: usize,
    /// The series, the worst first.
    pub degradations: Vec<DegradedSeries>,
}

/// A day to verify.
#[derive(Debug, ToSchema)]
#[allow(dead_code)]
pub struct VerifyRequest {
    /// The day (UTC).
    pub day: NaiveDate,
    /// Whether what differs is rolled up again.
    pub repair: Option<bool>,
}

/// A rollup that is not what its samples amount to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RollupDifference {
    /// The series.
    pub series_id: i32,
    /// The length of the bucket: hour, day or week.
    pub interval: String,
    /// Where it begins.
    pub bucket: DateTime<Utc>,
    /// How many samples the rollup says; null where it is missing.
    pub stored_count: Option<u64>,
    /// How many there are; null where there are none.
    pub count: Option<u64>,
}

impl From<Difference> for RollupDifference {
    fn from(difference: Difference) -> Self {
        Self {
            series_id: difference.series_id,
            interval: difference.interval.as_str().to_owned(),
            bucket: difference.bucket,
            stored_count: difference.stored_count,
            count: difference.count,
        }
    }
}

/// What verifying a day found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DayVerified {
    /// The day.
    pub day: NaiveDate,
    /// How many rollups were compared with their samples.
    pub compared: u64,
    /// How many hours wait to be rolled up again, and were not compared.
    pub waiting: u64,
    /// How many rollups differ.
    pub differing: u64,
    /// The first hundred of them.
    pub differences: Vec<RollupDifference>,
    /// Whether everything of the day is now known to be equal.
    pub is_verified: bool,
    /// Whether what differed was rolled up again.
    pub is_repaired: bool,
}

impl From<Verified> for DayVerified {
    fn from(verified: Verified) -> Self {
        Self {
            day: verified.day,
            compared: verified.compared,
            waiting: verified.waiting,
            differing: verified.differing,
            differences: verified.differences.into_iter().map(Into::into).collect(),
            is_verified: verified.is_verified,
            is_repaired: verified.is_repaired,
        }
    }
}

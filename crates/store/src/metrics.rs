//! System metrics as a time series (C3).
//!
//! # What it guarantees
//!
//! * **Every accepted sample is kept once**, with its own time; a replay adds nothing ([`intake`]).
//! * **A day's samples lie together** in a partition that is made without stopping anyone ([`days`]).
//! * **A rollup equals its samples**, also after late ones, and whoever wrote them ([`rollup`]).

mod aggregate;
mod cached;
pub mod chart;
mod check;
mod cold;
mod compare;
mod days;
pub mod degradation;
mod intake;
pub mod queries;
pub mod read;
mod registry;
mod rollup;
mod sample;
pub mod sketch;
pub mod summary;

pub use aggregate::{Aggregated, Bucket, MAX_BUCKETS};
pub use cached::{HOUR, Hour, HourKey, MetricCaches, Rendered, Sample, Series, SeriesKey};
pub use compare::{
    Degradation, DegradationQuery, Degradations, Statistic, TopBy, TopList, TopSeries,
};
pub use intake::{Intake, IntakeSnapshot};
pub use rollup::{Difference, Interval, Rolled, Verified};
pub use sample::{
    Accept, Batch, MAX_METRIC_TYPE, MAX_SERVICE_NAME, MAX_UNIT, MAX_VALUE, NewSample, Outcome,
    Reason, Recorded, RecordedSample, Rejection, RequestKey, SeriesName, Tally, micros,
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    config::MetricsSettings,
    db::{self, Pool, Reads},
    error::Result,
};

/// The handle: `store.metrics()`.
#[derive(Debug, Clone, Copy)]
pub struct Metrics<'a> {
    pool: &'a Pool,
    reads: &'a Reads,
    settings: &'a MetricsSettings,
    intake: &'a Intake,
    caches: &'a MetricCaches,
}

/// How many days of samples are in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// All of them.
    pub hot: i64,
    /// Those after today, which have their partitions already.
    pub ahead: i64,
    /// Those that should have gone to archives the night before the last.
    pub overdue: i64,
    /// Those before yesterday whose rollups were not compared with their samples.
    pub unverified: i64,
}

impl<'a> Metrics<'a> {
    /// Metrics over a pool, long reads also over its replicas; what is recorded shares transactions with every handle on the same intake.
    pub fn new(
        pool: &'a Pool,
        reads: &'a Reads,
        settings: &'a MetricsSettings,
        intake: &'a Intake,
        caches: &'a MetricCaches,
    ) -> Self {
        Self {
            pool,
            reads,
            settings,
            intake,
            caches,
        }
    }

    /// Records samples; returns when what was accepted is committed.
    ///
    /// Fails with `queue_full` while too much waits, with `idempotency_key_reused` where the request's key was sent with
    /// another body. What is not accepted is no failure: it is told sample by sample.
    pub async fn record(
        &self,
        batch: Batch,
        accept: Accept,
        request: Option<RequestKey>,
        now: DateTime<Utc>,
    ) -> Result<Recorded> {
        // Noted when it is dropped: after the commit, also where the outcome is not known.
        let _noting = self.caches.noting(batch.names());
        self.intake.record(batch, accept, request, now).await
    }

    /// Makes the partitions from today up to `metrics.days_ahead` days ahead; gives how many were missing.
    pub async fn make_days_ahead(&self, now: DateTime<Utc>) -> Result<u64> {
        days::make_ahead(self.pool, self.settings.days_ahead, now).await
    }

    /// How many days of samples there are at `now`.
    pub async fn kept(&self, now: DateTime<Utc>) -> Result<Kept> {
        let today = now.date_naive();
        // What was due yesterday had a night to go.
        let days =
            TimeDelta::try_days(self.settings.hot_days.saturating_add(1)).unwrap_or_default();
        let horizon = today.checked_sub_signed(days).unwrap_or(today);
        let connection = self.pool.get().await?;
        let row = db::query_one(&connection, &queries::COUNT_DAYS, &[&today, &horizon]).await?;
        Ok(Kept {
            hot: row.try_get("hot")?,
            ahead: row.try_get("ahead")?,
            overdue: row.try_get("overdue")?,
            unverified: row.try_get("unverified")?,
        })
    }

    /// Forgets the requests that came more than `metrics.idempotency_hours` ago; gives how many. One that is sent again
    /// later is a new one.
    pub async fn prune_requests(&self, now: DateTime<Utc>) -> Result<u64> {
        let kept = TimeDelta::try_hours(self.settings.idempotency_hours).unwrap_or_default();
        let before = now.checked_sub_signed(kept).unwrap_or(now);
        let connection = self.pool.get().await?;
        db::execute(&connection, &queries::PRUNE_REQUESTS, &[&before]).await
    }
}

//! Metrics of six services: a rhythm by day and week, noise, incidents, gaps, and something that is wrong right now.
//!
//! They are laid a week at a time, and daily at the end; after each piece its hours are rolled up and retention runs as of that
//! night. So days become cold, and go, as they would have.

mod shape;

use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use futures_util::SinkExt as _;
use serde_json::json;
use tokio_postgres::types::Json;
use utxoiq_store::{
    Store,
    db::{self, Connection},
};

use self::shape::World;
use super::{Demo, Written, progress::Step, queries};

/// From how many days before the end on a piece is a day.
const DAILY: i64 = 14;

/// The days that are sampled closest, those that are in the database, and those that are in cold storage.
const CLOSEST: i64 = 7;
const HOT: i64 = 91;
const COLD: i64 = 456;

/// How many days are sampled at most: what is older went from cold storage weeks ago, and would be written for nothing.
const SEEN: i64 = 490;

/// When retention runs.
const NIGHT: TimeDelta = TimeDelta::hours(2);

/// How long to wait for other transactions of the cluster, of which the roller has to see the end.
const PATIENCE: Duration = Duration::from_mins(2);

/// Writes them, and runs retention each night of the history that it takes.
pub async fn lay(demo: &Demo, sample_minutes: i64, written: &mut Written) -> anyhow::Result<()> {
    let last = demo.as_of.date_naive();
    let first = demo.first_day().max(last - TimeDelta::days(SEEN));
    let world = World::new(demo.random(3), first, demo.as_of);
    let step = demo.progress.begin(
        "metrics and retention",
        u64::try_from((last - first).num_days()).unwrap_or_default() + 1,
    );
    written.series = world.series.len() as u64;
    let mut history = History {
        demo,
        ids: make_series(&demo.store, &world, midnight(first)).await?,
        world,
        sample_minutes,
        written,
        step,
    };
    let mut from = first;
    while from < last {
        let left = (last - from).num_days();
        let to = from
            + TimeDelta::days(if left > DAILY {
                (left - DAILY).min(7)
            } else {
                1
            });
        history.lay_days(from, to).await?;
        history
            .roll_up(midnight(to) + TimeDelta::minutes(10), midnight(to))
            .await?;
        if midnight(to) + NIGHT <= demo.as_of {
            history.run_retention(midnight(to) + NIGHT).await?;
        }
        from = to;
    }
    history.lay_days(last, last + TimeDelta::days(1)).await?;
    let closing = demo.as_of - TimeDelta::hours(1);
    history.roll_up(demo.as_of, closing).await?;
    if demo.as_of < midnight(last) + NIGHT {
        history.run_retention(demo.as_of).await?;
    }
    demo.store.metrics().make_days_ahead(demo.as_of).await?;
    let History { written, step, .. } = history;
    step.finish(format_args!(
        "{} samples of {} series, {} archives by {} runs of retention",
        written.samples, written.series, written.archives, written.retention_runs
    ));
    Ok(())
}

struct History<'a> {
    demo: &'a Demo,
    world: World,
    ids: Vec<i32>,
    sample_minutes: i64,
    written: &'a mut Written,
    step: Step,
}

impl History<'_> {
    async fn lay_days(&mut self, from: NaiveDate, to: NaiveDate) -> anyhow::Result<()> {
        let connection = self.demo.store.pool().get().await?;
        for day in from.iter_days().take_while(|day| *day < to) {
            let noon = midnight(day) + TimeDelta::hours(12);
            db::query_one(&connection, &queries::MAKE_DAY, &[&day, &noon]).await?;
            self.written.samples += self.copy(&connection, day).await?;
            self.step.done(day.to_string());
        }
        Ok(())
    }

    /// How far apart the samples of a day are.
    fn spacing(&self, day: NaiveDate) -> TimeDelta {
        let age = (self.demo.as_of.date_naive() - day).num_days();
        let minutes = if age < CLOSEST {
            (self.sample_minutes / 5).max(1)
        } else if age < HOT {
            self.sample_minutes
        } else if age < COLD {
            self.sample_minutes * 6
        } else {
            self.sample_minutes * 12
        };
        TimeDelta::minutes(minutes)
    }

    async fn copy(&mut self, connection: &Connection, day: NaiveDate) -> anyhow::Result<u64> {
        let (mut rows, mut count) = (Rows::new(), 0);
        let spacing = self.spacing(day);
        let mut at = midnight(day);
        let until = (at + TimeDelta::days(1)).min(self.demo.as_of);
        while at < until {
            for (series, id) in self.ids.iter().enumerate() {
                // Not all services report in the same second.
                let its = at + TimeDelta::milliseconds(i64::from(*id) * 1_370 % 50_000);
                if its >= until {
                    continue;
                }
                if let Some(value) = self.world.sample(series, its) {
                    rows.add(its, value, *id);
                    count += 1;
                }
            }
            at += spacing;
        }
        let sql = format!(
            "copy system_metrics_{} (sampled_at, value, series_id) from stdin (format binary)",
            day.format("%Y%m%d")
        );
        let sink = connection.copy_in::<_, bytes::Bytes>(&sql).await?;
        let mut sink = std::pin::pin!(sink);
        sink.send(rows.end()).await?;
        sink.finish().await?;
        Ok(count)
    }

    /// Rolls up as of a time until all before another one is.
    async fn roll_up(&self, now: DateTime<Utc>, before: DateTime<Utc>) -> anyhow::Result<()> {
        const STEPS: u32 = 500;
        let store = &self.demo.store;
        let started = Instant::now();
        self.demo.clock.set(now);
        let hour = TimeDelta::hours(1);
        let before = chrono::DurationRound::duration_trunc(before, hour).unwrap_or(before);
        loop {
            let rolled = store.metrics().roll_up(now, STEPS).await?;
            let connection = store.pool().get().await?;
            let row = db::query_one(&connection, &queries::IS_ROLLED, &[&before]).await?;
            if row.try_get("is_rolled")? {
                return Ok(());
            }
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "the hours before {before} could not be rolled up: another transaction of this PostgreSQL stays open; end it, and \
                 begin with a fresh database"
            );
            if !rolled.has_more {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    async fn run_retention(&mut self, now: DateTime<Utc>) -> anyhow::Result<()> {
        self.demo.clock.set(now);
        let retention = self.demo.store.retention()?;
        let report = retention.run(now, "schedule: run_retention").await?;
        if let Some(failure) = report.failures.first() {
            anyhow::bail!(
                "retention failed as of {now}: {} of {}: {}",
                failure.step,
                failure.dataset,
                failure.message
            );
        }
        self.written.archives += report.archived.len() as u64;
        self.written.retention_runs += 1;
        Ok(())
    }
}

async fn make_series(store: &Store, world: &World, at: DateTime<Utc>) -> anyhow::Result<Vec<i32>> {
    let connection = store.pool().get().await?;
    let services: Vec<&str> = shape::SERVICES.to_vec();
    db::execute(&connection, &queries::INSERT_SERVICES, &[&services, &at]).await?;
    let mut ids = Vec::new();
    for series in &world.series {
        let labels: serde_json::Map<_, _> = series
            .labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let params: db::Params<'_> = &[
            &series.service,
            &series.name,
            &series.unit,
            &Json(&labels),
            &at,
        ];
        let row = db::query_one(&connection, &queries::INSERT_SERIES, params).await?;
        ids.push(row.try_get("id")?);
    }
    Ok(ids)
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// Rows of a COPY in its binary form: time, value, series.
struct Rows(Vec<u8>);

impl Rows {
    fn new() -> Self {
        let mut bytes = b"PGCOPY\n\xff\r\n\0".to_vec();
        bytes.extend([0; 8]);
        Self(bytes)
    }

    fn add(&mut self, at: DateTime<Utc>, value: f64, series: i32) {
        let since = at.timestamp_micros() - db::POSTGRES_EPOCH;
        self.0.extend(3_i16.to_be_bytes());
        self.0.extend(8_i32.to_be_bytes());
        self.0.extend(since.to_be_bytes());
        self.0.extend(8_i32.to_be_bytes());
        self.0.extend(value.to_be_bytes());
        self.0.extend(4_i32.to_be_bytes());
        self.0.extend(series.to_be_bytes());
    }

    fn end(mut self) -> bytes::Bytes {
        self.0.extend((-1_i16).to_be_bytes());
        self.0.into()
    }
}

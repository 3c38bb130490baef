//! What processes measured, kept in the database and added up.
//!
//! # What it guarantees
//!
//! * **Each process writes rows of its own** (`instance`), so that no process can overwrite another's counts; reading adds them up.
//! * **A flush that is repeated counts nothing twice.** A row has the process's whole count for its bucket of time, not what came since
//!   the last flush: one whose answer was lost is written again as it is.
//! * **A killed process loses what it measured since its last flush**, `slo.flush_seconds`, and nothing else.
//! * **While the database is away** what was measured is kept in memory, for an hour at most, and written when it is back.
//!
//! # Why two widths
//!
//! Minutes say what is so at present, and go after some hours; hours reach as far back as a window does. A process adds to both, so
//! nothing has to be folded, and a window of a month is some thousand rows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use uuid::Uuid;

use super::queries;
use crate::{
    cache::{Cache, Figures, Kind},
    db::{self, Pool},
    error::Result,
    measure::{Meter, Tally},
};

/// For how long minutes are kept.
const KEEP_MINUTES: TimeDelta = TimeDelta::hours(3);

/// The most buckets that wait to be written: an hour of minutes of every meter, and some hours.
const MOST_WAITING: usize = 64 * Meter::ALL.len();

/// What of it is judged as the present.
pub const PRESENT: TimeDelta = TimeDelta::minutes(5);

/// A bucket of time: its width in seconds, its beginning, and what is counted in it.
type Bucket = (i32, DateTime<Utc>, Meter);

/// What this process measured and has not been relieved of.
#[derive(Debug)]
pub struct Facts {
    instance: Uuid,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The process's whole counts of buckets that are not over, or not written.
    counts: BTreeMap<Bucket, Tally>,
    /// What the cache's own counters of statistics said last.
    figures: Option<Figures>,
    /// Whether this process measures itself: a command that only looks does not.
    keeps: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            instance: Uuid::new_v4(),
            inner: Mutex::default(),
        }
    }
}

impl Facts {
    /// Whether this process keeps what it measures.
    pub fn is_kept(&self) -> bool {
        self.lock().keeps
    }

    /// Takes what was measured since the last time, and writes this process's counts.
    pub async fn flush(&self, pool: &Pool, cache: &Cache, now: DateTime<Utc>) -> Result<()> {
        let written = self.gather(pool, cache, now);
        if written.is_empty() {
            return Ok(());
        }
        let rows = Rows::of(&written);
        let connection = pool.get().await?;
        let params: db::Params<'_> = &[
            &rows.meters,
            &rows.widths,
            &rows.buckets,
            &self.instance,
            &rows.counts,
            &rows.worst,
        ];
        db::execute(&connection, &queries::ADD_FACTS, params).await?;
        self.settle(&written, now);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was measured to the buckets of now; gives all that is to be written.
    fn gather(&self, pool: &Pool, cache: &Cache, now: DateTime<Utc>) -> Vec<(Bucket, Tally)> {
        let mut inner = self.lock();
        inner.keeps = true;
        let mut figures = cache.figures().into_iter();
        if let Some(figures) = figures.find(|one| one.kind == Kind::FeedbackStats) {
            let before = inner.figures.replace(figures.clone());
            read_figures(cache, &figures, before.as_ref());
        }
        let drained = [pool.meters(), cache.meters()]
            .map(|meters| Meter::ALL.map(|meter| meters.drain(meter).map(|tally| (meter, tally))));
        for (meter, tally) in drained.into_iter().flatten().flatten() {
            for (width, bucket) in buckets(now) {
                let counts = inner.counts.entry((width, bucket, meter));
                counts.or_default().add(&tally);
            }
        }
        // The oldest go first: what is measured now says more than what was an hour ago.
        while inner.counts.len() > MOST_WAITING {
            inner.counts.pop_first();
        }
        inner
            .counts
            .iter()
            .map(|(bucket, tally)| (*bucket, *tally))
            .collect()
    }

    /// Lets go of what was written and is over.
    fn settle(&self, written: &[(Bucket, Tally)], now: DateTime<Utc>) {
        let mut inner = self.lock();
        let open = buckets(now);
        for (bucket, tally) in written {
            let is_over = !open.contains(&(bucket.0, bucket.1));
            if is_over && inner.counts.get(bucket) == Some(tally) {
                inner.counts.remove(bucket);
            }
        }
    }
}

/// The minute and the hour of a time.
fn buckets(now: DateTime<Utc>) -> [(i32, DateTime<Utc>); 2] {
    [60, 3_600].map(|width| {
        let floor = now.duration_trunc(TimeDelta::seconds(width.into()));
        (width, floor.unwrap_or(now))
    })
}

/// What is written, by columns.
#[derive(Default)]
struct Rows {
    meters: Vec<&'static str>,
    widths: Vec<i32>,
    buckets: Vec<DateTime<Utc>>,
    /// The counts of a bucket as one text: an array of arrays would have to be rectangular.
    counts: Vec<String>,
    worst: Vec<i64>,
}

impl Rows {
    fn of(written: &[(Bucket, Tally)]) -> Self {
        let mut rows = Self::default();
        for ((width, bucket, meter), tally) in written {
            let used = &tally.counts[..=meter.bounds().len()];
            let texts: Vec<String> = used.iter().map(u64::to_string).collect();
            rows.meters.push(meter.as_str());
            rows.widths.push(*width);
            rows.buckets.push(*bucket);
            rows.counts.push(format!("{{{}}}", texts.join(",")));
            rows.worst
                .push(i64::try_from(tally.worst).unwrap_or(i64::MAX));
        }
        rows
    }
}

/// Adds to the meters what the cache's own counters of statistics have grown by.
fn read_figures(cache: &Cache, now: &Figures, before: Option<&Figures>) {
    let grown = |of: fn(&Figures) -> u64| of(now).saturating_sub(before.map_or(0, of));
    let meters = cache.meters();
    let local = grown(|one| one.hits_local);
    meters.add(Meter::StatsHit, 0, local + grown(|one| one.hits_redis), 0);
    let misses = grown(|one| one.misses);
    meters.add(Meter::StatsHit, 1, misses, u64::from(misses > 0));
    // What lies in this process takes less than a microsecond: measuring it would take as long.
    meters.add(Meter::StatsRead, 0, local, u64::from(local > 0));
}

/// What all processes measured of one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// In the window.
    pub window: Tally,
    /// In the last five minutes.
    pub present: Tally,
    /// The beginning of the first bucket of time in the window that has something.
    pub first_at: Option<DateTime<Utc>>,
}

/// When a process measured something: its first and its last minute of those that are kept and looked at.
pub type Minutes = HashMap<Uuid, (DateTime<Utc>, DateTime<Utc>)>;

/// What all processes measured.
#[derive(Debug, Clone, Default)]
pub struct Read {
    merged: HashMap<Meter, Merged>,
    minutes: HashMap<Meter, Minutes>,
}

impl Read {
    /// What was measured of one thing; nothing where nothing was.
    pub fn of(&self, meter: Meter) -> Merged {
        self.merged.get(&meter).copied().unwrap_or_default()
    }

    /// When each process measured it lately.
    pub fn minutes(&self, meter: Meter) -> Minutes {
        self.minutes.get(&meter).cloned().unwrap_or_default()
    }

    /// Adds a row. One with other buckets is of another release, and is left out.
    pub fn push(&mut self, row: &Row, now: DateTime<Utc>) {
        let Some(meter) = Meter::named(&row.meter) else {
            return;
        };
        if row.counts.len() != meter.bounds().len() + 1 {
            return;
        }
        let mut tally = Tally {
            worst: row.worst.unsigned_abs(),
            ..Tally::default()
        };
        for (mine, theirs) in tally.counts.iter_mut().zip(&row.counts) {
            *mine = u64::try_from(*theirs).unwrap_or(0);
        }
        let merged = self.merged.entry(meter).or_default();
        if row.width_seconds == 3_600 {
            merged.window.add(&tally);
            merged.first_at = Some(
                merged
                    .first_at
                    .map_or(row.bucket_at, |at| at.min(row.bucket_at)),
            );
            return;
        }
        let minutes = self.minutes.entry(meter).or_default();
        let seen = minutes
            .entry(row.instance)
            .or_insert((row.bucket_at, row.bucket_at));
        *seen = (seen.0.min(row.bucket_at), seen.1.max(row.bucket_at));
        if row.bucket_at > now - PRESENT - TimeDelta::minutes(1) {
            merged.present.add(&tally);
        }
    }
}

/// A row as it is kept.
#[derive(Debug, Clone)]
pub struct Row {
    /// The meter's name.
    pub meter: String,
    /// 60 or 3,600.
    pub width_seconds: i32,
    /// The beginning of the bucket of time.
    pub bucket_at: DateTime<Utc>,
    /// Whose row it is.
    pub instance: Uuid,
    /// The counts of its buckets.
    pub counts: Vec<i64>,
    /// The largest value.
    pub worst: i64,
}

/// Reads what was measured in a window that ends now.
pub async fn read(
    connection: &db::Connection,
    now: DateTime<Utc>,
    window: TimeDelta,
) -> Result<Read> {
    let [_, (_, from)] = buckets(now.checked_sub_signed(window).unwrap_or(now));
    let minutes_from = now - PRESENT - TimeDelta::minutes(2);
    let rows = db::query(
        connection,
        &queries::READ_FACTS,
        &[&from, &minutes_from, &now],
    )
    .await?;
    let mut read = Read::default();
    for row in &rows {
        let row = Row {
            meter: row.try_get("meter")?,
            width_seconds: row.try_get("width_seconds")?,
            bucket_at: row.try_get("bucket_at")?,
            instance: row.try_get("instance")?,
            counts: row.try_get("counts")?,
            worst: row.try_get("worst")?,
        };
        read.push(&row, now);
    }
    Ok(read)
}

/// Deletes what is older than it is kept for; gives how many rows.
pub async fn prune(pool: &Pool, keep_days: i64, now: DateTime<Utc>) -> Result<u64> {
    let days = TimeDelta::try_days(keep_days).unwrap_or(TimeDelta::MAX);
    let hours = now
        .checked_sub_signed(days)
        .unwrap_or(DateTime::<Utc>::MIN_UTC);
    let minutes = now - KEEP_MINUTES;
    let connection = pool.get().await?;
    db::execute(&connection, &queries::PRUNE_FACTS, &[&minutes, &hours]).await
}

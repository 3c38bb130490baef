//! What a process measures about itself, for the criteria that are about time or about a share.
//!
//! # What it guarantees
//!
//! * **Recording is an addition or two on shared counters**: no lock, no allocation, no clock. Whatever is measured may record on
//!   its hottest path.
//! * **Counts only move on**: [`Meters::drain`] takes what was recorded since the last time, and nothing is taken twice.
//!
//! It stands in the lowest row so that any slice can hold a handle; it knows no criterion, no database and no time of day. Who
//! keeps what was drained, and judges by it, is `slo`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// As many buckets as a meter may have: its bounds, and what lies above.
pub const BUCKETS: usize = 13;

/// Bounds of a time, in microseconds: finer below each of the limits that the criteria name.
const TIMES: [u64; 12] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 200_000, 500_000, 2_000_000,
    5_000_000,
];

/// The bounds of the pool's own histogram of waiting, in microseconds.
const WAITS: [u64; 10] = [
    10, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000, 5_000_000,
];

/// The bounds of the cache's own histogram of invalidation, in milliseconds.
const INVALIDATIONS: [u64; 9] = [10, 20, 50, 75, 100, 200, 500, 700, 1_000];

/// One thing that is measured. Another meaning, or other bounds, get another name: what was kept under the old one stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meter {
    /// C1.2: from a progress update's call to its commit, in microseconds.
    ProgressWrite,
    /// C1.5: reading jobs from the database, in microseconds.
    JobRead,
    /// C2.1: from a rating's call to its commit, in microseconds.
    RatingWrite,
    /// C2.4: reading an insight's statistics, in microseconds.
    StatsRead,
    /// C3.3: reading at most 24 hours of samples, in microseconds.
    DayRead,
    /// C4.1: a read that the process's own memory did not answer: 0, Redis was asked first; 1, it was not.
    RedisFirst,
    /// C4.2: a read of an insight's statistics: 0 from a cache, 1 from the database.
    StatsHit,
    /// C4.3: from a change in the database to its being gone from a process's cache, in milliseconds.
    Invalidation,
    /// C4.5: a read without Redis: 0 was answered, 1 was not.
    WithoutRedis,
    /// C6.1: how many connections the pool has.
    PoolSize,
    /// C6.2: how long a connection that existed was waited for, in microseconds.
    PoolReuse,
    /// C6.3: connections above the minimum that are idle for longer than allowed, at one moment.
    PoolIdleTooLong,
    /// C6.4: after a failed attempt to connect: how often it was repeated, or [`GAVE_UP_EARLY`].
    ConnectRetries,
    /// C6.5: seconds between two lines of the pool's figures in the log.
    PoolLog,
    /// C8.5: from an alert's opening to its first receipt, in seconds.
    AlertReceipt,
}

/// Recorded as a time where no answer came at all: worse than any time.
pub const UNANSWERED: u64 = i64::MAX.unsigned_abs();

/// Recorded as [`Meter::ConnectRetries`] where connecting was given up before the retries that the settings allow.
pub const GAVE_UP_EARLY: u64 = 1_000;

impl Meter {
    /// Every meter.
    pub const ALL: [Self; 15] = [
        Self::ProgressWrite,
        Self::JobRead,
        Self::RatingWrite,
        Self::StatsRead,
        Self::DayRead,
        Self::RedisFirst,
        Self::StatsHit,
        Self::Invalidation,
        Self::WithoutRedis,
        Self::PoolSize,
        Self::PoolReuse,
        Self::PoolIdleTooLong,
        Self::ConnectRetries,
        Self::PoolLog,
        Self::AlertReceipt,
    ];

    /// Its name where it is kept.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProgressWrite => "progress_write",
            Self::JobRead => "job_read",
            Self::RatingWrite => "rating_write",
            Self::StatsRead => "stats_read",
            Self::DayRead => "day_read",
            Self::RedisFirst => "redis_first",
            Self::StatsHit => "stats_hit",
            Self::Invalidation => "invalidation",
            Self::WithoutRedis => "without_redis",
            Self::PoolSize => "pool_size",
            Self::PoolReuse => "pool_reuse",
            Self::PoolIdleTooLong => "pool_idle_too_long",
            Self::ConnectRetries => "connect_retries",
            Self::PoolLog => "pool_log",
            Self::AlertReceipt => "alert_receipt",
        }
    }

    /// The meter of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|meter| meter.as_str() == name)
    }

    /// The upper bounds of its buckets, in its own unit; what is above the last has a bucket, too.
    pub const fn bounds(self) -> &'static [u64] {
        match self {
            Self::ProgressWrite
            | Self::JobRead
            | Self::RatingWrite
            | Self::StatsRead
            | Self::DayRead => &TIMES,
            Self::PoolReuse => &WAITS,
            Self::Invalidation => &INVALIDATIONS,
            Self::RedisFirst | Self::StatsHit | Self::WithoutRedis | Self::PoolIdleTooLong => &[0],
            Self::PoolSize => &[4, 20],
            Self::ConnectRetries => &[0, 1, 2, 3],
            // A line that comes five seconds late was written by a busy machine, not by a broken loop.
            Self::PoolLog => &[30, 65, 120, 300],
            Self::AlertReceipt => &[10, 60, 300, 600],
        }
    }

    /// The buckets that hold what the criterion asks for: from the first to the last of them.
    pub const fn good(self) -> (usize, usize) {
        match self {
            Self::ProgressWrite => (0, 11),
            Self::JobRead | Self::StatsRead => (0, 7),
            Self::RatingWrite => (0, 10),
            Self::DayRead | Self::Invalidation => (0, 8),
            Self::RedisFirst | Self::StatsHit | Self::WithoutRedis | Self::PoolIdleTooLong => {
                (0, 0)
            }
            Self::PoolSize => (1, 1),
            Self::PoolReuse => (0, 5),
            Self::ConnectRetries => (0, 3),
            Self::PoolLog => (0, 1),
            Self::AlertReceipt => (0, 2),
        }
    }

    fn bucket(self, value: u64) -> usize {
        let bounds = self.bounds();
        let found = bounds.iter().position(|bound| value <= *bound);
        found.unwrap_or(bounds.len())
    }
}

/// What a meter recorded: how many values fell into each bucket, and the worst of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many, by bucket; as many buckets as the meter has bounds, and one.
    pub counts: [u64; BUCKETS],
    /// The largest value.
    pub worst: u64,
}

impl Tally {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of them are what the meter's criterion asks for.
    pub fn good(&self, meter: Meter) -> u64 {
        let (first, last) = meter.good();
        self.counts[first..=last].iter().sum()
    }

    /// The upper bound of the bucket with the given share (0 to 1) of all values; the worst one where that lies above the last.
    pub fn quantile(&self, meter: Meter, share: f64) -> Option<u64> {
        let wanted = self.count() as f64 * share;
        let mut below = 0.0;
        for (index, count) in self.counts.iter().enumerate() {
            below += *count as f64;
            if *count > 0 && below >= wanted {
                let bound = meter.bounds().get(index).copied();
                return Some(bound.unwrap_or(self.worst).min(self.worst));
            }
        }
        None
    }

    /// Adds what another one has.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.saturating_add(theirs);
        }
        self.worst = self.worst.max(other.worst);
    }
}

#[derive(Debug, Default)]
struct Counters {
    counts: [AtomicU64; BUCKETS],
    worst: AtomicU64,
}

/// The meters of a process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Meters(Arc<[Counters; Meter::ALL.len()]>);

impl Meters {
    /// Records a value in the meter's own unit.
    pub fn record(&self, meter: Meter, value: u64) {
        self.add(meter, meter.bucket(value), 1, value);
    }

    /// Records how long it took since then, of a meter in microseconds.
    pub fn since(&self, meter: Meter, began: Instant) {
        self.took(meter, began.elapsed());
    }

    /// Records how long it took, of a meter in microseconds.
    pub fn took(&self, meter: Meter, took: Duration) {
        self.record(meter, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Records so many values of one bucket, the largest of them being this one.
    pub fn add(&self, meter: Meter, bucket: usize, count: u64, worst: u64) {
        let counters = &self.0[meter as usize];
        if let Some(counter) = counters.counts.get(bucket) {
            counter.fetch_add(count, Relaxed);
        }
        // Read first: nearly always it is not the worst, and then nobody else's copy of the line is taken away.
        if worst > counters.worst.load(Relaxed) {
            counters.worst.fetch_max(worst, Relaxed);
        }
    }

    /// What was recorded since the last time; `None` where nothing was.
    pub fn drain(&self, meter: Meter) -> Option<Tally> {
        let counters = &self.0[meter as usize];
        let mut tally = Tally::default();
        for (copy, counter) in tally.counts.iter_mut().zip(&counters.counts) {
            *copy = counter.swap(0, Relaxed);
        }
        // A value whose count is in the next tally may have its size in this one: it is told one flush early, never lost.
        tally.worst = counters.worst.swap(0, Relaxed);
        (tally.count() > 0).then_some(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_meter_has_room_for_its_buckets_and_a_name_of_its_own() {
        for meter in Meter::ALL {
            let bounds = meter.bounds();
            assert!(bounds.len() < BUCKETS, "{meter:?}");
            assert!(bounds.is_sorted(), "{meter:?}");
            assert!(
                meter.good().0 <= meter.good().1 && meter.good().1 < bounds.len(),
                "{meter:?}"
            );
            assert_eq!(Meter::named(meter.as_str()), Some(meter));
            assert_eq!(Meter::ALL[meter as usize], meter);
        }
    }

    #[test]
    fn limits_are_those_of_the_criteria() {
        let limit = |meter: Meter| meter.bounds()[meter.good().1];
        for (meter, allowed) in [
            (Meter::ProgressWrite, 5_000_000),
            (Meter::JobRead, 100_000),
            (Meter::RatingWrite, 2_000_000),
            (Meter::StatsRead, 100_000),
            (Meter::DayRead, 200_000),
            (Meter::Invalidation, 1_000),
            (Meter::PoolReuse, 10_000),
            (Meter::ConnectRetries, 3),
            (Meter::AlertReceipt, 300),
        ] {
            assert_eq!(limit(meter), allowed, "{meter:?}");
            let meters = Meters::default();
            for value in [allowed - 1, allowed, allowed + 1] {
                meters.record(meter, value);
            }
            let tally = meters.drain(meter).unwrap();
            assert_eq!(
                (tally.count(), tally.good(meter), tally.worst),
                (3, 2, allowed + 1)
            );
        }
    }

    #[test]
    fn nothing_is_taken_twice() {
        let meters = Meters::default();
        assert_eq!(meters.drain(Meter::StatsHit), None);
        meters.record(Meter::StatsHit, 1);
        meters.clone().record(Meter::StatsHit, 0);
        assert_eq!(meters.drain(Meter::StatsHit).unwrap().count(), 2);
        assert_eq!(meters.drain(Meter::StatsHit), None);
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket_and_never_above_the_worst() {
        let meters = Meters::default();
        for value in [400, 600, 700, 9_000_000] {
            meters.record(Meter::JobRead, value);
        }
        let tally = meters.drain(Meter::JobRead).unwrap();
        assert_eq!(tally.quantile(Meter::JobRead, 0.25), Some(500));
        assert_eq!(tally.quantile(Meter::JobRead, 0.5), Some(1_000));
        assert_eq!(tally.quantile(Meter::JobRead, 1.0), Some(9_000_000));
        assert_eq!(Tally::default().quantile(Meter::JobRead, 0.5), None);
    }
}

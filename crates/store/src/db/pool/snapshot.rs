//! One snapshot struct for the pool: logged every minute (C6.5), exported at `/metrics`, served at `database/pool`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::ConnectCause;

/// Upper bounds of the wait histogram's buckets, in microseconds; one more bucket takes the rest.
pub const WAIT_BOUNDS_MICROSECONDS: [u64; 10] = [
    10, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000, 5_000_000,
];

/// The pool's figures at one moment.
#[derive(Debug, Clone)]
pub struct PoolSnapshot {
    /// When it was taken.
    pub at: DateTime<Utc>,
    /// The configured minimum of connections.
    pub min: usize,
    /// The configured maximum of connections.
    pub max: usize,
    /// Connections that exist, those being made included.
    pub size: usize,
    /// Connections ready to be taken.
    pub idle: usize,
    /// Connections in use or being made.
    pub active: usize,
    /// Requests waiting for a connection.
    pub waiting: usize,
    /// Connections handed out since the start.
    pub acquired_total: u64,
    /// Requests that gave up waiting.
    pub timed_out_total: u64,
    /// Connections made.
    pub created_total: u64,
    /// Connections closed because they were idle for too long.
    pub closed_idle_total: u64,
    /// Connections replaced because of their age.
    pub closed_aged_total: u64,
    /// Attempts to connect that followed a failed one.
    pub connect_retries_total: u64,
    /// Failed attempts by cause.
    pub connect_failures: Vec<(ConnectCause, u64)>,
    /// How long requests waited for their connection.
    pub wait: WaitHistogram,
}

/// Times waited, in buckets.
#[derive(Debug, Clone)]
pub struct WaitHistogram {
    /// (upper bound in microseconds, how many waited at most that long and longer than the bound before).
    pub buckets: Vec<(u64, u64)>,
    /// How many waited longer than the last bound.
    pub above: u64,
    /// The sum of all waits, in microseconds.
    pub sum_microseconds: u64,
}

impl WaitHistogram {
    /// How many waits were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.above
    }

    /// The upper bound, in microseconds, of the bucket that holds the given share (0 to 1) of all waits; `None`
    /// without waits or when it lies above the last bound.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let mut left = self.count() as f64 * share;
        if left <= 0.0 {
            return None;
        }
        for (bound, count) in &self.buckets {
            left -= *count as f64;
            if left <= 0.0 {
                return Some(*bound);
            }
        }
        None
    }
}

impl PoolSnapshot {
    /// Writes the figures as one log line.
    pub fn log(&self) {
        tracing::info!(
            active = self.active,
            idle = self.idle,
            waiting = self.waiting,
            size = self.size,
            timed_out_total = self.timed_out_total,
            connect_retries_total = self.connect_retries_total,
            wait_p99_microseconds = self.wait.quantile(0.99),
            "connection pool"
        );
    }
}

#[derive(Debug, Default)]
pub(super) struct WaitCounters {
    buckets: [AtomicU64; WAIT_BOUNDS_MICROSECONDS.len()],
    above: AtomicU64,
    sum: AtomicU64,
}

impl WaitCounters {
    pub(super) fn record(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let bucket = WAIT_BOUNDS_MICROSECONDS
            .iter()
            .zip(&self.buckets)
            .find_map(|(bound, bucket)| (micros <= *bound).then_some(bucket))
            .unwrap_or(&self.above);
        bucket.fetch_add(1, Relaxed);
        self.sum.fetch_add(micros, Relaxed);
    }

    pub(super) fn snapshot(&self) -> WaitHistogram {
        WaitHistogram {
            buckets: WAIT_BOUNDS_MICROSECONDS
                .iter()
                .zip(&self.buckets)
                .map(|(b, n)| (*b, n.load(Relaxed)))
                .collect(),
            above: self.above.load(Relaxed),
            sum_microseconds: self.sum.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_fall_into_the_bucket_that_bounds_them() {
        let counters = WaitCounters::default();
        for micros in [10, 11, 5_000_000, 5_000_001] {
            counters.record(Duration::from_micros(micros));
        }
        let histogram = counters.snapshot();
        assert_eq!((histogram.count(), histogram.above), (4, 1));
        assert_eq!(histogram.buckets[0], (10, 1));
        assert_eq!(histogram.buckets[1], (100, 1));
        assert_eq!(histogram.quantile(0.5), Some(100));
        assert_eq!(histogram.quantile(1.0), None);
    }
}

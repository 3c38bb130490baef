//! What the cache counts, for each kind of value.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::Kind;

/// Upper bounds of the histogram of invalidation latency, in milliseconds; C4.3 allows 1,000.
pub const LATENCY_BOUNDS: [u64; 9] = [10, 20, 50, 75, 100, 200, 500, 700, 1_000];

/// The counters of one kind.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub hits_local: AtomicU64,
    pub hits_redis: AtomicU64,
    pub misses: AtomicU64,
    pub joined: AtomicU64,
    pub loads: AtomicU64,
    pub stale_refused: AtomicU64,
    pub damaged: AtomicU64,
    pub fills: AtomicU64,
    pub fills_refused: AtomicU64,
    pub invalidations: AtomicU64,
    pub generations: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    latency_sum_milliseconds: AtomicU64,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counters {
    /// Notes how long it took from a change to its being gone from this process.
    pub fn observe_latency(&self, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS
            .iter()
            .position(|bound| millis <= *bound)
            .unwrap_or(LATENCY_BOUNDS.len());
        count(&self.latency[bucket]);
        self.latency_sum_milliseconds.fetch_add(millis, Relaxed);
    }

    /// All counters as they are now.
    pub fn read(&self, kind: Kind) -> Figures {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let mut latency = [0; LATENCY_BOUNDS.len() + 1];
        for (copy, counter) in latency.iter_mut().zip(&self.latency) {
            *copy = get(counter);
        }
        Figures {
            kind,
            hits_local: get(&self.hits_local),
            hits_redis: get(&self.hits_redis),
            misses: get(&self.misses),
            joined: get(&self.joined),
            loads: get(&self.loads),
            stale_refused: get(&self.stale_refused),
            damaged: get(&self.damaged),
            fills: get(&self.fills),
            fills_refused: get(&self.fills_refused),
            invalidations: get(&self.invalidations),
            generations: get(&self.generations),
            latency,
            latency_sum_milliseconds: get(&self.latency_sum_milliseconds),
        }
    }
}

/// What happened to the values of one kind since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Which kind.
    pub kind: Kind,
    /// Reads answered from this process.
    pub hits_local: u64,
    /// Reads answered from Redis.
    pub hits_redis: u64,
    /// Reads answered by the database, alone or with others.
    pub misses: u64,
    /// Of the hits in Redis and misses: reads that joined one that was under way.
    pub joined: u64,
    /// Queries sent to the database; one may load many values.
    pub loads: u64,
    /// Values found that were not served because of a change known here.
    pub stale_refused: u64,
    /// Values found in Redis that were none.
    pub damaged: u64,
    /// Values stored in Redis.
    pub fills: u64,
    /// Values not stored because something changed while they were read.
    pub fills_refused: u64,
    /// Changes heard of.
    pub invalidations: u64,
    /// How often everything was let go because changes may have been missed.
    pub generations: u64,
    /// How many changes were gone from this process within each of [`LATENCY_BOUNDS`], and after the last.
    pub latency: [u64; LATENCY_BOUNDS.len() + 1],
    /// The sum of those times.
    pub latency_sum_milliseconds: u64,
}

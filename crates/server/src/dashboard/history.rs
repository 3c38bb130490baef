//! What this process did in its last hour: a look at its own figures every ten seconds, kept in memory. It is what the pages
//! about the pool and the cache draw; for longer times there is `/metrics`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use utxoiq_store::Store;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many looks are kept.
const KEPT: usize = 360;

/// One look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// When, in seconds since 1970.
    pub at: i64,
    pub active: usize,
    pub idle: usize,
    pub waiting: usize,
    /// Since the start of the process.
    pub samples: u64,
    pub hits: u64,
    pub reads: u64,
}

impl Look {
    fn now(store: &Store) -> Self {
        let now = store.now();
        let pool = store.pool().snapshot(now);
        let figures = store.cache().figures();
        let hits = figures
            .iter()
            .map(|kind| kind.hits_local + kind.hits_redis)
            .sum();
        Self {
            at: now.timestamp(),
            active: pool.active,
            idle: pool.idle,
            waiting: pool.waiting,
            samples: store.metrics_intake().snapshot().stored_total,
            hits,
            reads: hits + figures.iter().map(|kind| kind.misses).sum::<u64>(),
        }
    }
}

/// The looks of the last hour. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct History(Arc<Mutex<VecDeque<Look>>>);

impl History {
    /// Begins to look; ends when nobody can ask any more.
    pub fn begin(store: &Store) -> Self {
        let history = Self::default();
        let (kept, store) = (Arc::downgrade(&history.0), store.clone());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(kept) = kept.upgrade() else { return };
                Self(kept).push(Look::now(&store));
            }
        });
        history
    }

    fn push(&self, look: Look) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(look);
    }

    /// All of them, the oldest first.
    pub fn looks(&self) -> Vec<Look> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().copied().collect()
    }
}

//! Group commit: concurrent writes share a transaction.

use crate::{config::FeedbackSettings, db::Pool};

/// Gathers concurrent writes into shared transactions. Clones share it.
#[derive(Debug, Clone)]
pub struct Writer {
    _pool: Pool,
}

/// What a writer has done, and what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterSnapshot {
    /// Writes that wait for a transaction.
    pub waiting: usize,
    /// Transactions under way.
    pub lanes: usize,
    /// Transactions committed.
    pub commits_total: u64,
    /// Writes committed with them.
    pub writes_total: u64,
    /// Writes refused because too many waited.
    pub refused_total: u64,
}

impl Writer {
    /// A writer over a pool. Nothing runs before the first write.
    pub fn new(pool: &Pool, _settings: &FeedbackSettings) -> Self {
        Self {
            _pool: pool.clone(),
        }
    }
}

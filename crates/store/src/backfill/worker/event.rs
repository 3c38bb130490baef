//! What a run tells whoever shows it.

use std::time::Duration;

use super::{BlockRange, Job};

/// What happens in a run, for whoever shows it.
#[derive(Debug, Clone)]
pub enum Event {
    /// The job as it stands now.
    Job(Box<Job>),
    /// A sub-range was claimed.
    Claimed(BlockRange),
    /// A chunk was done and recorded.
    Recorded(BlockRange),
    /// A chunk's work failed.
    Failed {
        /// Its blocks.
        blocks: BlockRange,
        /// Which try it was, from 1.
        attempted: i32,
        /// What went wrong.
        message: String,
        /// When it is tried again; `None` when that was the last try.
        retry_in: Option<Duration>,
    },
    /// A claim was lost; what was under way in it is dropped.
    Lost {
        /// Its blocks.
        blocks: BlockRange,
        /// Why.
        message: String,
    },
    /// Nothing is free: others hold what is missing.
    Waiting {
        /// Until the first of their leases ends.
        retry_in: Duration,
    },
    /// The job is paused; the worker waits.
    Paused,
    /// The coordinator is away.
    Away {
        /// What it, or the network, said.
        message: String,
    },
}

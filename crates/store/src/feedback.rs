//! Feedback of users on insights: rated, commented, flagged, withdrawn, searched and summarised (C2).
//!
//! # What it guarantees
//!
//! * **One row a user and insight**, however many first ratings come at once: each of them succeeds.
//! * **Rating, comment and flag are separate facts** with their own times; each can be withdrawn, and every change is in
//!   an append-only history. Triggers record it, so that it holds for psql, too.
//! * **Statistics are exact after every acknowledged write**, whoever writes, and take the same time to read for one
//!   rating and for a million: see migration 0005 for how they are kept without a row that writers wait for.

mod batch;
mod cached;
mod drift;
mod encode;
mod entry;
mod export;
mod fold;
mod lists;
mod page;
pub mod queries;
mod ranking;
mod review;
mod search;
mod stats;
mod trend;
mod write;

pub use batch::{Writer, WriterSnapshot};
pub use cached::{StatsCache, StatsKey};
pub use drift::Drift;
pub use encode::Format;
pub use entry::{Entry, Fact, FlagType};
pub use export::Export;
pub use fold::Folded;
pub use lists::{Act, Acts};
pub use page::{Cursor, MAX_PAGE, Page, Start};
pub use ranking::{Ranked, Ranking, Top, bayesian_mean, lower_bound};
pub use review::{FlagReason, FlaggedFilter, FlaggedInsight, FlaggedInsights};
pub use search::{Filter, FlagFilter, Found};
pub use stats::{Counts, Loaded, Stats, load_stats};
pub use trend::{MAX_TREND_DAYS, TrendDay};
pub use write::Written;

use crate::{
    config::FeedbackSettings,
    db::{Pool, Reads},
};

/// The handle: `store.feedback()`.
#[derive(Debug, Clone, Copy)]
pub struct Feedback<'a> {
    pool: &'a Pool,
    reads: &'a Reads,
    settings: &'a FeedbackSettings,
    writer: &'a Writer,
    stats: &'a StatsCache,
}

impl<'a> Feedback<'a> {
    /// Feedback over a pool, lists and rankings also over its replicas; its writes share transactions with those of every handle on the same writer.
    pub fn new(
        pool: &'a Pool,
        reads: &'a Reads,
        settings: &'a FeedbackSettings,
        writer: &'a Writer,
        stats: &'a StatsCache,
    ) -> Self {
        Self {
            pool,
            reads,
            settings,
            writer,
            stats,
        }
    }
}

//! Statistics through the cache.

use std::{borrow::Cow, sync::Arc};

use super::{Counts, Feedback, Stats, Writer, load_stats, stats::MANY_DELTAS};
use crate::{
    cache::{Cache, Cached, Key, Kind, Loaded, Space, Stale},
    db::{Pool, TransactionId},
    error::Result,
};

/// An insight whose statistics are cached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StatsKey(pub String);

impl Key for StatsKey {
    type Value = Stats;
    const KIND: Kind = Kind::FeedbackStats;

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }

    fn is_worth_sharing(stats: &Stats) -> bool {
        stats.live != Counts::default() || stats.retired != Counts::default()
    }

    fn stale(kind: &str, key: Option<&str>) -> Stale<Self> {
        match (kind, key) {
            ("feedback_stats", Some(insight_id)) => Stale::Keys(vec![Self(insight_id.to_owned())]),
            ("feedback_stats", None) => Stale::All,
            _ => Stale::Nothing,
        }
    }
}

/// The cached statistics of a process. Clones share them.
#[derive(Debug, Clone)]
pub struct StatsCache(Space<StatsKey>);

impl StatsCache {
    /// Over this cache, filled from this pool; asks the writer for a fold where much is not folded.
    pub fn new(cache: &Cache, pool: &Pool, writer: &Writer) -> Self {
        let (pool, writer) = (pool.clone(), writer.clone());
        Self(cache.space(Arc::new(move |keys: Vec<StatsKey>| {
            let (pool, writer) = (pool.clone(), writer.clone());
            Box::pin(async move {
                let ids: Vec<String> = keys.into_iter().map(|key| key.0).collect();
                let loaded = load_stats(&pool, &ids).await?;
                if loaded.open_deltas > MANY_DELTAS {
                    writer.fold_soon();
                }
                Ok(Loaded {
                    values: loaded.stats,
                    snapshot: loaded.snapshot,
                })
            })
        })))
    }
}

impl Feedback<'_> {
    /// The statistics of an insight, at most a second late; at once where they were changed through this process, and
    /// never older than `seen`, a transaction that wrote ([`super::Written::transaction`]).
    pub async fn stats_seen(
        &self,
        insight_id: &str,
        seen: Option<TransactionId>,
    ) -> Result<Arc<Cached<Stats>>> {
        self.stats
            .0
            .get(&StatsKey(insight_id.to_owned()), seen)
            .await
    }

    /// The statistics that this process holds and may serve now; loads nothing.
    pub fn stats_held(&self, insight_id: &str) -> Option<Arc<Cached<Stats>>> {
        self.stats.0.peek(&StatsKey(insight_id.to_owned()))
    }

    /// Notes, when it is dropped, that an insight's feedback was written: to be made first in every call that writes, so
    /// that it is dropped after the commit, also where the outcome is not known.
    pub(super) fn noting(&self, insight_id: &str) -> Noting<'_> {
        Noting {
            stats: self.stats,
            key: StatsKey(insight_id.to_owned()),
        }
    }
}

/// See [`Feedback::noting`].
pub(super) struct Noting<'a> {
    stats: &'a StatsCache,
    key: StatsKey,
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        self.stats.0.wrote(&self.key);
    }
}

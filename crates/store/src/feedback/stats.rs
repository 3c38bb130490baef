//! What users think of an insight.

use serde::{Deserialize, Serialize};

use super::Feedback;
use crate::{
    db::{Pool, Snapshot},
    error::{Error, Result},
};

/// Counts of feedback on one insight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How often each rating was given, from 1 to 5.
    pub ratings: [i64; 5],
    /// How many comments.
    pub comments: i64,
    /// How many flags of each type, in the order of [`super::FlagType::ALL`].
    pub flags: [i64; 5],
}

impl Counts {
    /// How many ratings.
    pub fn total_ratings(&self) -> i64 {
        self.ratings.iter().sum()
    }

    /// How many flags.
    pub fn total_flags(&self) -> i64 {
        self.flags.iter().sum()
    }

    /// The sum of all ratings.
    pub fn rating_sum(&self) -> i64 {
        (1..).zip(self.ratings).map(|(stars, n)| stars * n).sum()
    }

    /// The mean rating; 0 without ratings, as the contract has it.
    pub fn average_rating(&self) -> f64 {
        let total = self.total_ratings();
        if total == 0 {
            0.0
        } else {
            self.rating_sum() as f64 / total as f64
        }
    }
}

/// The statistics of one insight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The insight.
    pub insight_id: String,
    /// Of the rows that are there.
    pub live: Counts,
    /// Of the rows that retention has removed; with `live`, what was ever said. A user who rates again after that is
    /// counted anew.
    pub retired: Counts,
}

/// Statistics, and the snapshot that all of them were read in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// One for each id asked for, in that order; zeros for an insight that nobody spoke of.
    pub stats: Vec<Stats>,
    /// What was visible.
    pub snapshot: Snapshot,
    /// How many changes that are not folded yet were added up: many of them ask for a fold.
    pub open_deltas: i64,
}

/// Reads the statistics of insights, in one statement and one snapshot.
pub async fn load_stats(_pool: &Pool, _insight_ids: &[String]) -> Result<Loaded> {
    Err(Error::internal("not there yet"))
}

impl Feedback<'_> {
    /// The statistics of one insight, exact, from the database.
    pub async fn stats(&self, insight_id: &str) -> Result<Stats> {
        let loaded = load_stats(self.pool, &[insight_id.to_owned()]).await?;
        loaded
            .stats
            .into_iter()
            .next()
            .ok_or_else(|| Error::internal("no statistics were read"))
    }
}

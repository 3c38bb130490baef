//! What users think of an insight.

use serde::{Deserialize, Serialize};

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

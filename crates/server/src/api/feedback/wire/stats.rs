//! Statistics of an insight.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utxoiq_store::{
    config::FeedbackSettings,
    feedback::{self, FlagType, bayesian_mean, lower_bound},
};

/// How often each rating was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)] // the names say it
pub struct Distribution {
    #[serde(rename = "1")]
    pub one: i64,
    #[serde(rename = "2")]
    pub two: i64,
    #[serde(rename = "3")]
    pub three: i64,
    #[serde(rename = "4")]
    pub four: i64,
    #[serde(rename = "5")]
    pub five: i64,
}

impl Distribution {
    /// From one star to five.
    pub fn counts(&self) -> [i64; 5] {
        [self.one, self.two, self.three, self.four, self.five]
    }
}

/// Counts of feedback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FeedbackCounts)]
pub struct Counts {
    /// How many ratings.
    pub total_ratings: i64,
    /// Their mean; 0 without ratings.
    pub average_rating: f64,
    /// How often each rating was given.
    pub rating_distribution: Distribution,
    /// How many comments.
    pub total_comments: i64,
    /// How many flags.
    pub total_flags: i64,
    /// How many flags of each type that there is a flag of.
    pub flag_types: BTreeMap<String, i64>,
}

impl From<&feedback::Counts> for Counts {
    fn from(counts: &feedback::Counts) -> Self {
        let [one, two, three, four, five] = counts.ratings;
        Self {
            total_ratings: counts.total_ratings(),
            average_rating: counts.average_rating(),
            rating_distribution: Distribution {
                one,
                two,
                three,
                four,
                five,
            },
            total_comments: counts.comments,
            total_flags: counts.total_flags(),
            flag_types: flag_types(&counts.flags),
        }
    }
}

/// Counts by the names of their types, without zeros.
pub(super) fn flag_types(flags: &[i64; 5]) -> BTreeMap<String, i64> {
    let named = FlagType::ALL.into_iter().zip(flags);
    named
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| (kind.to_string(), *count))
        .collect()
}

/// The statistics of one insight. What users have said and not withdrawn counts, once for each user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FeedbackStats)]
pub struct Stats {
    /// The insight.
    pub insight_id: String,
    /// Of the feedback that is there.
    #[serde(flatten)]
    pub live: Counts,
    /// The mean rating, drawn towards the prior mean while there are few ratings; without any, the prior mean.
    pub bayesian_mean: f64,
    /// The lower end of the 90 % interval in which the mean rating lies.
    pub lower_bound: f64,
    /// The same counts with feedback that retention has removed.
    pub lifetime: Counts,
}

impl Stats {
    /// The statistics with their scores.
    pub fn new(stats: &feedback::Stats, settings: &FeedbackSettings) -> Self {
        Self {
            insight_id: stats.insight_id.clone(),
            live: (&stats.live).into(),
            bayesian_mean: bayesian_mean(settings.prior_mean, settings.prior_ratings, &stats.live),
            lower_bound: lower_bound(&stats.live),
            lifetime: (&sum(&stats.live, &stats.retired)).into(),
        }
    }
}

fn sum(live: &feedback::Counts, retired: &feedback::Counts) -> feedback::Counts {
    let add =
        |one: [i64; 5], other: [i64; 5]| std::array::from_fn(|index| one[index] + other[index]);
    feedback::Counts {
        ratings: add(live.ratings, retired.ratings),
        comments: live.comments + retired.comments,
        flags: add(live.flags, retired.flags),
    }
}

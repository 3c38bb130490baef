//! The best insights.

use std::{fmt, str::FromStr};

use super::{Cursor, Feedback, Page};
use crate::error::{Error, Result};

/// By which score insights are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ranking {
    /// The mean rating, drawn towards the prior mean while there are few.
    BayesianMean,
    /// The lower end of the 90 % interval in which the mean rating lies.
    LowerBound,
}

impl Ranking {
    /// Every ranking.
    pub const ALL: [Self; 2] = [Self::BayesianMean, Self::LowerBound];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BayesianMean => "bayesian_mean",
            Self::LowerBound => "lower_bound",
        }
    }
}

impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Ranking {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|ranking| ranking.as_str() == text)
            .ok_or_else(|| Error::field("ranking", "must be bayesian_mean or lower_bound"))
    }
}

/// An insight with its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The insight.
    pub insight_id: String,
    /// How many ratings it has.
    pub total_ratings: i64,
    /// Their mean.
    pub average_rating: f64,
    /// Its score in one ranking.
    pub bayesian_mean: f64,
    /// Its score in the other.
    pub lower_bound: f64,
}

/// A page of the ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct Top {
    /// The page.
    pub insights: Vec<Ranked>,
    /// Leads to the next page; `None` on the last one.
    pub next: Option<Cursor>,
}

impl Feedback<'_> {
    /// Insights with at least so many ratings (and at least one), the best first.
    pub async fn top(&self, _ranking: Ranking, _min_ratings: i64, _page: &Page) -> Result<Top> {
        Err(Error::internal("not built yet"))
    }
}

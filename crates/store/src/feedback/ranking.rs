//! The best insights, by two scores.
//!
//! A plain mean puts an insight with one rating of 5 above one with a thousand of which a few are 4. Both scores here make
//! few ratings count for less.
//!
//! * **Bayesian mean**: `(C m + sum) / (C + n)` for n ratings, with a prior mean m that counts for C ratings (the settings
//!   `feedback.prior_mean` and `feedback.prior_ratings`). It is the mean of the posterior when ratings are drawn around an
//!   unknown mean; lists of films have long been ranked so. Without ratings it is m, with many it is their mean.
//! * **Lower bound**: the lower end of the 90 % interval of the mean, after Evan Miller, *Ranking Items With Star Ratings*
//!   (2014). The shares of the ratings 1 to 5 have a Dirichlet posterior that begins with one rating of each value, so with
//!   n ratings, of which n(k) are k,
//!
//!   ```text
//!   p = sum k (n(k) + 1) / (n + 5)        q = sum k² (n(k) + 1) / (n + 5)
//!   score = p - 1.65 sqrt((q - p²) / (n + 6))
//!   ```
//!
//!   Nothing needs to be chosen, and what users disagree about ranks lower than what they agree about.
//!
//! One more 5 raises either score. Both are exact after every acknowledged write: what is not folded yet is added.
//!
//! The lower bound is stored with the folded counts and read from its index. The Bayesian mean depends on settings, so no
//! index can hold it: all folded counts are read, one row an insight.

use std::{fmt, str::FromStr};

use tokio_postgres::Row;

use super::{
    Counts, Cursor, Feedback, Page,
    page::{self, Position},
    queries,
};
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

/// The mean rating with the prior mean counted for so many ratings: `(C m + sum) / (C + n)`.
pub fn bayesian_mean(prior_mean: f64, prior_ratings: f64, counts: &Counts) -> f64 {
    let (sum, total) = (counts.rating_sum() as f64, counts.total_ratings() as f64);
    (prior_mean * prior_ratings + sum) / (prior_ratings + total)
}

/// The lower end of the 90 % interval of the mean rating, with one rating of each value beforehand.
pub fn lower_bound(counts: &Counts) -> f64 {
    const Z: f64 = 1.65;
    let total = counts.total_ratings() as f64;
    let sum = 15.0 + counts.rating_sum() as f64;
    let squares: i64 = (1..)
        .zip(counts.ratings)
        .map(|(stars, n)| stars * stars * n)
        .sum();
    let mean = sum / (total + 5.0);
    let square = (55.0 + squares as f64) / (total + 5.0);
    mean - Z * ((square - mean * mean) / (total + 6.0)).sqrt()
}

impl Feedback<'_> {
    /// Insights with at least so many ratings (and at least one), the best first; among equals by their ids.
    pub async fn top(&self, ranking: Ranking, min_ratings: i64, page: &Page) -> Result<Top> {
        let (limit, offset) = page.bounds()?;
        let (below, after) = match page.position() {
            None => (f64::INFINITY, ""),
            Some(Position::Ranked {
                ranking: of,
                score,
                insight_id,
            }) if *of == ranking => (*score, insight_id.as_str()),
            Some(_) => return Err(page::of_another_list()),
        };
        let statement = match ranking {
            Ranking::BayesianMean => &queries::TOP_BY_BAYESIAN_MEAN,
            Ranking::LowerBound => &queries::TOP_BY_LOWER_BOUND,
        };
        let rows = self
            .reads
            .query(
                statement,
                &[
                    &self.settings.prior_mean,
                    &self.settings.prior_ratings,
                    &min_ratings,
                    &below,
                    &after,
                    &limit,
                    &offset,
                ],
            )
            .await?;
        let mut insights = rows
            .iter()
            .map(Ranked::from_row)
            .collect::<Result<Vec<_>>>()?;
        let more = page.cut(&mut insights);
        let last = insights.last().filter(|_| more);
        let next = last.map(|last| {
            Cursor(Position::Ranked {
                ranking,
                score: last.score(ranking),
                insight_id: last.insight_id.clone(),
            })
        });
        Ok(Top { insights, next })
    }

    /// The `limit` insights with at least so many ratings (and at least one) whose mean rating, drawn towards the prior, is the
    /// least, the worst first.
    pub async fn bottom(&self, min_ratings: i64, limit: i64) -> Result<Vec<Ranked>> {
        let page = Page::first(limit);
        let (limit, offset) = page.bounds()?;
        let params: crate::db::Params<'_> = &[
            &self.settings.prior_mean,
            &self.settings.prior_ratings,
            &min_ratings,
            &0.0_f64,
            &"",
            &limit,
            &offset,
        ];
        let statement = &queries::BOTTOM_BY_BAYESIAN_MEAN;
        let rows = self.reads.query(statement, params).await?;
        let mut insights = rows
            .iter()
            .map(Ranked::from_row)
            .collect::<Result<Vec<_>>>()?;
        page.cut(&mut insights);
        Ok(insights)
    }
}

impl Ranked {
    /// Its score in a ranking.
    pub fn score(&self, ranking: Ranking) -> f64 {
        match ranking {
            Ranking::BayesianMean => self.bayesian_mean,
            Ranking::LowerBound => self.lower_bound,
        }
    }

    fn from_row(row: &Row) -> Result<Self> {
        let total_ratings: i64 = row.try_get("total_ratings")?;
        let rating_sum: i64 = row.try_get("rating_sum")?;
        Ok(Self {
            insight_id: row.try_get("insight_id")?,
            total_ratings,
            average_rating: rating_sum as f64 / total_ratings as f64,
            bayesian_mean: row.try_get("bayesian_mean")?,
            lower_bound: row.try_get("lower_bound")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts() -> impl Strategy<Value = Counts> {
        // Few and many of each value, also none.
        let count = || prop_oneof![Just(0), 0..5_i64, 0..1_000_i64, 0..1_000_000_i64];
        [count(), count(), count(), count(), count()].prop_map(|ratings| Counts {
            ratings,
            ..Counts::default()
        })
    }

    fn with(mut counts: Counts, stars: usize, more: i64) -> Counts {
        counts.ratings[stars - 1] += more;
        counts
    }

    proptest! {
        #[test]
        fn one_more_5_raises_either_score(counts in counts()) {
            let more = with(counts, 5, 1);
            prop_assert!(lower_bound(&more) > lower_bound(&counts));
            prop_assert!(bayesian_mean(3.0, 10.0, &more) > bayesian_mean(3.0, 10.0, &counts));
        }

        #[test]
        fn one_more_1_lowers_either_score(counts in counts()) {
            // The lower bound of few ratings may rise with any more, as less is left to chance: that of many does not.
            let less = with(counts, 1, 1);
            if counts.average_rating() > 3.0 {
                prop_assert!(lower_bound(&less) < lower_bound(&counts));
            }
            if counts.total_ratings() > 0 {
                let score = bayesian_mean(3.0, 10.0, &counts);
                prop_assert!(bayesian_mean(3.0, 10.0, &less) < score);
            }
        }

        #[test]
        fn scores_lie_between_1_and_5_and_the_lower_bound_below_the_mean(counts in counts()) {
            let mean = bayesian_mean(3.0, 10.0, &counts);
            prop_assert!((1.0..=5.0).contains(&mean));
            prop_assert!(lower_bound(&counts) < 5.0);
            // With many ratings both come near the mean.
            if counts.total_ratings() > 100_000 {
                prop_assert!((mean - counts.average_rating()).abs() < 0.01);
                prop_assert!((lower_bound(&counts) - counts.average_rating()).abs() < 0.02);
            }
        }

        #[test]
        fn a_few_5_rank_below_many_of_4_and_5(few in 1..4_i64, many in 100..100_000_i64) {
            // Four in five are a 5, the others a 4: 4.8 on average.
            let few = with(Counts::default(), 5, few);
            let many = with(with(Counts::default(), 5, many * 4), 4, many);
            prop_assert!(lower_bound(&few) < lower_bound(&many));
            prop_assert!(bayesian_mean(3.0, 10.0, &few) < bayesian_mean(3.0, 10.0, &many));
        }
    }

    #[test]
    fn without_ratings_the_scores_are_those_of_the_prior() {
        let none = Counts::default();
        assert!((bayesian_mean(3.25, 10.0, &none) - 3.25).abs() < 1e-12);
        // One rating of each value: mean 3, variance 2.
        let expected = 3.0 - 1.65 * (2.0_f64 / 6.0).sqrt();
        assert!((lower_bound(&none) - expected).abs() < 1e-12);
    }
}

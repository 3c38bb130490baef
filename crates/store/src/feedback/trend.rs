//! What users did day by day.
//!
//! An act counts on the day (UTC) on which it was done, also where it was changed or withdrawn later: the trend says what
//! happened, the [statistics](super::Stats) what has remained.

use chrono::{Datelike as _, NaiveDate};
use tokio_postgres::Row;

use super::{Feedback, queries};
use crate::{
    db,
    error::{Error, Result},
};

/// The longest trend, in days.
pub const MAX_TREND_DAYS: i64 = 1_100;

/// What users did on one day (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrendDay {
    /// The day.
    pub day: NaiveDate,
    /// Ratings given or changed.
    pub ratings: i64,
    /// Their sum.
    pub rating_sum: i64,
    /// Comments written or changed.
    pub comments: i64,
    /// Flags set or changed.
    pub flags: i64,
    /// Ratings, comments and flags withdrawn.
    pub withdrawals: i64,
}

impl TrendDay {
    /// The mean of the ratings given on the day; `None` without any.
    pub fn average_rating(&self) -> Option<f64> {
        (self.ratings > 0).then(|| self.rating_sum as f64 / self.ratings as f64)
    }

    fn without_acts(day: NaiveDate) -> Self {
        Self {
            day,
            ratings: 0,
            rating_sum: 0,
            comments: 0,
            flags: 0,
            withdrawals: 0,
        }
    }

    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            day: row.try_get("day")?,
            ratings: row.try_get("ratings")?,
            rating_sum: row.try_get("rating_sum")?,
            comments: row.try_get("comments")?,
            flags: row.try_get("flags")?,
            withdrawals: row.try_get("withdrawals")?,
        })
    }
}

impl Feedback<'_> {
    /// What users did on each day of `[from_day, to_day)`, to one insight or to all; one entry for each day, also for those
    /// on which nothing was done. At most [`MAX_TREND_DAYS`] days.
    pub async fn trend(
        &self,
        insight_id: Option<&str>,
        from_day: NaiveDate,
        to_day: NaiveDate,
    ) -> Result<Vec<TrendDay>> {
        let length = to_day.signed_duration_since(from_day).num_days();
        if length > MAX_TREND_DAYS {
            return Err(Error::field(
                "to",
                format!("must be at most {MAX_TREND_DAYS} days after the first day"),
            ));
        }
        if length <= 0 {
            return Ok(Vec::new());
        }
        if from_day.year() < 1 || to_day.year() > 9_999 {
            return Err(Error::field("from", "must be a day of the years 1 to 9999"));
        }
        let rows = match &insight_id {
            Some(insight_id) => {
                let params: db::Params<'_> = &[&from_day, &to_day, insight_id];
                self.reads.query(&queries::TREND_OF_INSIGHT, params).await?
            }
            None => {
                self.reads
                    .query(&queries::TREND_OVERALL, &[&from_day, &to_day])
                    .await?
            }
        };
        let mut known = rows
            .iter()
            .map(TrendDay::from_row)
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .peekable();
        let days = from_day.iter_days().take_while(|day| *day < to_day);
        Ok(days
            .map(|day| {
                known
                    .next_if(|known| known.day == day)
                    .unwrap_or_else(|| TrendDay::without_acts(day))
            })
            .collect())
    }
}

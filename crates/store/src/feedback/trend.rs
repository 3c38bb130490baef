//! What users did day by day.

use chrono::NaiveDate;

use super::Feedback;
use crate::error::{Error, Result};

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
}

impl Feedback<'_> {
    /// What users did on each day of `[from_day, to_day)`, to one insight or to all; one entry for each day, also for those
    /// on which nothing was done. At most [`MAX_TREND_DAYS`] days.
    pub async fn trend(
        &self,
        _insight_id: Option<&str>,
        _from_day: NaiveDate,
        _to_day: NaiveDate,
    ) -> Result<Vec<TrendDay>> {
        Err(Error::internal("not built yet"))
    }
}

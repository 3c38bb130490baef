//! Comparing the statistics with the rows that they count.

use super::{Counts, Feedback};
use crate::error::{Error, Result};

/// An insight whose statistics are wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The insight.
    pub insight_id: String,
    /// What the statistics say.
    pub counted: Counts,
    /// What the rows say.
    pub there: Counts,
}

impl Feedback<'_> {
    /// Compares every insight in one snapshot; at most `limit` differences, none when all is well.
    pub async fn drift(&self, _limit: i64) -> Result<Vec<Drift>> {
        Err(Error::internal("not there yet"))
    }
}

//! Folding what was counted into one row for each insight.

use super::Feedback;
use crate::error::{Error, Result};

/// What a fold has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// Changes of counts that were folded.
    pub deltas: i64,
    /// Changes of days that were folded.
    pub day_deltas: i64,
    /// Another fold was under way, so nothing was done.
    pub skipped: bool,
}

impl Feedback<'_> {
    /// Folds everything that is visible.
    pub async fn fold(&self) -> Result<Folded> {
        Err(Error::internal("not there yet"))
    }
}

//! The comments on an insight, and what a user did.

use chrono::{DateTime, Utc};

use super::{Cursor, Fact, Feedback, FlagType, Found, Page};
use crate::error::{Error, Result};

/// One thing that a user did: gave, changed or withdrew a rating, a comment or a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Later acts have higher ones.
    pub id: i64,
    /// The insight.
    pub insight_id: String,
    /// The user.
    pub user_id: String,
    /// Which of the three.
    pub fact: Fact,
    /// The rating given.
    pub rating: Option<i16>,
    /// The comment written.
    pub comment: Option<String>,
    /// The flag's type.
    pub flag_type: Option<FlagType>,
    /// The flag's reason.
    pub flag_reason: Option<String>,
    /// When.
    pub occurred_at: DateTime<Utc>,
}

impl Act {
    /// Whether it took the fact back.
    pub fn is_withdrawal(&self) -> bool {
        self.rating.is_none() && self.comment.is_none() && self.flag_type.is_none()
    }
}

/// A page of acts.
#[derive(Debug, Clone, PartialEq)]
pub struct Acts {
    /// The page.
    pub acts: Vec<Act>,
    /// Leads to the next page; `None` on the last one.
    pub next: Option<Cursor>,
}

impl Feedback<'_> {
    /// The entries of an insight that have a comment, the last written comment first. Each has a comment and its time.
    pub async fn comments(&self, _insight_id: &str, _page: &Page) -> Result<Found> {
        Err(Error::internal("not built yet"))
    }

    /// What a user did, on one insight or on all, the latest first; back to where retention has cut it.
    pub async fn history(
        &self,
        _user_id: &str,
        _insight_id: Option<&str>,
        _page: &Page,
    ) -> Result<Acts> {
        Err(Error::internal("not built yet"))
    }
}

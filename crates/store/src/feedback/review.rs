//! The review queue: insights that users have flagged.

use chrono::{DateTime, Utc};

use super::{Cursor, Feedback, FlagType, Page};
use crate::error::{Error, Result};

/// Which flags count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlaggedFilter {
    /// Only those of this type.
    pub flag_type: Option<FlagType>,
    /// Only those on this insight.
    pub insight_id: Option<String>,
    /// Only those set or last changed at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Only those set or last changed before this time.
    pub to: Option<DateTime<Utc>>,
}

/// A flagged insight.
#[derive(Debug, Clone, PartialEq)]
pub struct FlaggedInsight {
    /// The insight.
    pub insight_id: String,
    /// How many flags of each type match, in the order of [`FlagType::ALL`].
    pub flags: [i64; 5],
    /// How many match in all.
    pub total_flags: i64,
    /// When the oldest of them was set or last changed.
    pub first_flagged_at: DateTime<Utc>,
    /// When the latest of them was set or last changed.
    pub last_flagged_at: DateTime<Utc>,
    /// The latest five of them that have a reason, latest first.
    pub latest_reasons: Vec<FlagReason>,
    /// How many ratings the insight has.
    pub total_ratings: i64,
    /// Their mean; `None` without ratings.
    pub average_rating: Option<f64>,
}

/// Why a user flagged an insight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagReason {
    /// The flag's type.
    pub flag_type: FlagType,
    /// What the user wrote.
    pub reason: String,
    /// When the flag was set or last changed.
    pub flagged_at: DateTime<Utc>,
    /// Who.
    pub user_id: String,
}

/// A page of the review queue.
#[derive(Debug, Clone, PartialEq)]
pub struct FlaggedInsights {
    /// The page.
    pub insights: Vec<FlaggedInsight>,
    /// How many insights have a matching flag, on this page and others.
    pub total: i64,
    /// Leads to the next page; `None` on the last one.
    pub next: Option<Cursor>,
}

impl Feedback<'_> {
    /// Insights with matching flags: those with the most first, among equals the latest flagged.
    pub async fn flagged(&self, _filter: &FlaggedFilter, _page: &Page) -> Result<FlaggedInsights> {
        Err(Error::internal("not built yet"))
    }
}

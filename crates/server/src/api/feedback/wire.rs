//! The shapes of feedback calls.

mod lists;
mod requests;
mod stats;

pub use lists::*;
pub use requests::*;
pub use stats::*;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utxoiq_store::feedback::Entry;
use uuid::Uuid;

/// A user's present rating, comment and flag on one insight, as the contract's clients know it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Feedback {
    /// Its id, the same as long as anything is left of it.
    pub id: Uuid,
    /// The insight.
    pub insight_id: String,
    /// The user.
    pub user_id: String,
    /// 1 to 5.
    pub rating: Option<i16>,
    /// What the user wrote.
    pub comment: Option<String>,
    /// `inaccurate`, `misleading`, `spam`, `inappropriate` or `other`.
    pub flag_type: Option<String>,
    /// Why the user flagged it.
    pub flag_reason: Option<String>,
    /// When the user's first fact on the insight was stored.
    pub created_at: DateTime<Utc>,
    /// When any of them was given, changed or withdrawn last.
    pub updated_at: DateTime<Utc>,
}

impl From<Entry> for Feedback {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            insight_id: entry.insight_id,
            user_id: entry.user_id,
            rating: entry.rating,
            comment: entry.comment,
            flag_type: entry.flag_type.map(|kind| kind.to_string()),
            flag_reason: entry.flag_reason,
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        }
    }
}

/// Feedback with what the contract's clients do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FeedbackState {
    /// What all clients see.
    #[serde(flatten)]
    pub feedback: Feedback,
    /// When the rating was given or last changed.
    pub rated_at: Option<DateTime<Utc>>,
    /// When the comment was written or last changed.
    pub commented_at: Option<DateTime<Utc>>,
    /// When the flag was set or last changed.
    pub flagged_at: Option<DateTime<Utc>>,
}

impl From<Entry> for FeedbackState {
    fn from(entry: Entry) -> Self {
        Self {
            rated_at: entry.rated_at,
            commented_at: entry.commented_at,
            flagged_at: entry.flagged_at,
            feedback: entry.into(),
        }
    }
}

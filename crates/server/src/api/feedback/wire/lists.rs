//! Pages of feedback.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utxoiq_store::feedback::{self, Entry, Page, Start};
use uuid::Uuid;

use super::{FeedbackState, stats::flag_types};

/// Where a page stands in its list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FeedbackPage)]
pub struct Place {
    /// How many were asked for.
    pub limit: i64,
    /// How many were skipped; null where a cursor was given.
    pub offset: Option<i64>,
    /// Send it as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl Place {
    /// The place of this page, before the next one.
    pub fn new(page: &Page, next: Option<&feedback::Cursor>) -> Self {
        Self {
            limit: page.limit,
            offset: match page.start {
                Start::Offset(offset) => Some(offset),
                Start::After(_) => None,
            },
            next_cursor: next.map(ToString::to_string),
        }
    }
}

/// A comment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = InsightComment)]
pub struct CommentItem {
    /// The id of the feedback it belongs to.
    pub id: Uuid,
    /// Who wrote it.
    pub user_id: String,
    /// What.
    pub comment: String,
    /// When the user's feedback on the insight began.
    pub created_at: DateTime<Utc>,
    /// When the user's feedback on the insight changed last.
    pub updated_at: DateTime<Utc>,
}

impl From<Entry> for CommentItem {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            user_id: entry.user_id,
            comment: entry.comment.unwrap_or_default(),
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        }
    }
}

/// The comments on an insight, the last written first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = InsightComments)]
pub struct Comments {
    /// The insight.
    pub insight_id: String,
    /// The page.
    pub comments: Vec<CommentItem>,
    /// How many there are in all.
    pub total: i64,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub place: Place,
}

/// A user's feedback on an insight, as it is listed for that user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = UserFeedbackItem)]
pub struct UserItem {
    /// Its id.
    pub id: Uuid,
    /// The insight.
    pub insight_id: String,
    /// 1 to 5.
    pub rating: Option<i16>,
    /// What the user wrote.
    pub comment: Option<String>,
    /// What the user's flag says.
    pub flag_type: Option<String>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it changed last.
    pub updated_at: DateTime<Utc>,
}

impl From<Entry> for UserItem {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            insight_id: entry.insight_id,
            rating: entry.rating,
            comment: entry.comment,
            flag_type: entry.flag_type.map(|kind| kind.to_string()),
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        }
    }
}

/// A user's feedback, the last changed first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = UserFeedback)]
pub struct User {
    /// The user.
    pub user_id: String,
    /// The page.
    pub feedback: Vec<UserItem>,
    /// How many there are in all.
    pub total: i64,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub place: Place,
}

/// Feedback that was searched for, the last changed first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FoundFeedback)]
pub struct Found {
    /// The page.
    pub feedback: Vec<FeedbackState>,
    /// How many there are in all.
    pub total: i64,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub place: Place,
}

/// One thing that a user did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FeedbackAct)]
pub struct Act {
    /// The insight.
    pub insight_id: String,
    /// `rating`, `comment` or `flag`.
    pub fact: String,
    /// `given`, also where it replaced an earlier one, or `withdrawn`.
    pub action: String,
    /// The rating given.
    pub rating: Option<i16>,
    /// The comment written.
    pub comment: Option<String>,
    /// The flag's type.
    pub flag_type: Option<String>,
    /// The flag's reason.
    pub flag_reason: Option<String>,
    /// When.
    pub occurred_at: DateTime<Utc>,
}

impl From<feedback::Act> for Act {
    fn from(act: feedback::Act) -> Self {
        let action = if act.is_withdrawal() {
            "withdrawn"
        } else {
            "given"
        };
        Self {
            insight_id: act.insight_id,
            fact: act.fact.as_str().to_owned(),
            action: action.to_owned(),
            rating: act.rating,
            comment: act.comment,
            flag_type: act.flag_type.map(|kind| kind.to_string()),
            flag_reason: act.flag_reason,
            occurred_at: act.occurred_at,
        }
    }
}

/// What a user did, the latest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FeedbackHistory)]
pub struct History {
    /// The user.
    pub user_id: String,
    /// The page.
    pub acts: Vec<Act>,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub place: Place,
}

/// Why a user flagged an insight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlagReason {
    /// What the flag says.
    pub flag_type: String,
    /// What the user wrote.
    pub reason: String,
    /// When the flag was set or last changed.
    pub flagged_at: DateTime<Utc>,
    /// Who.
    pub user_id: String,
}

/// A flagged insight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlaggedInsight {
    /// The insight.
    pub insight_id: String,
    /// How many flags match.
    pub total_flags: i64,
    /// How many of them are of each type that there is one of.
    pub flag_types: BTreeMap<String, i64>,
    /// When the oldest of them was set or last changed.
    pub first_flagged_at: DateTime<Utc>,
    /// When the latest of them was set or last changed.
    pub last_flagged_at: DateTime<Utc>,
    /// The latest five of them that have a reason, latest first.
    pub latest_reasons: Vec<FlagReason>,
    /// How many ratings the insight has.
    pub total_ratings: i64,
    /// Their mean; null without ratings.
    pub average_rating: Option<f64>,
}

impl From<feedback::FlaggedInsight> for FlaggedInsight {
    fn from(flagged: feedback::FlaggedInsight) -> Self {
        let reasons = flagged.latest_reasons.into_iter().map(|flag| FlagReason {
            flag_type: flag.flag_type.to_string(),
            reason: flag.reason,
            flagged_at: flag.flagged_at,
            user_id: flag.user_id,
        });
        Self {
            insight_id: flagged.insight_id,
            total_flags: flagged.total_flags,
            flag_types: flag_types(&flagged.flags),
            first_flagged_at: flagged.first_flagged_at,
            last_flagged_at: flagged.last_flagged_at,
            latest_reasons: reasons.collect(),
            total_ratings: flagged.total_ratings,
            average_rating: flagged.average_rating,
        }
    }
}

/// The review queue: insights with the most flags first, among equals the latest flagged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FlaggedInsights)]
pub struct Flagged {
    /// The page.
    pub insights: Vec<FlaggedInsight>,
    /// How many insights there are in all.
    pub total: i64,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub place: Place,
}

/// An insight with its scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RankedInsight {
    /// The insight.
    pub insight_id: String,
    /// How many ratings it has.
    pub total_ratings: i64,
    /// Their mean.
    pub average_rating: f64,
    /// The mean, drawn towards the prior mean while there are few ratings.
    pub bayesian_mean: f64,
    /// The lower end of the 90 % interval in which the mean lies.
    pub lower_bound: f64,
}

impl From<feedback::Ranked> for RankedInsight {
    fn from(ranked: feedback::Ranked) -> Self {
        Self {
            insight_id: ranked.insight_id,
            total_ratings: ranked.total_ratings,
            average_rating: ranked.average_rating,
            bayesian_mean: ranked.bayesian_mean,
            lower_bound: ranked.lower_bound,
        }
    }
}

/// The ranking, the best insights first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopInsights)]
pub struct Top {
    /// By which score.
    pub ranking: String,
    /// The fewest ratings of an insight that is ranked.
    pub min_ratings: i64,
    /// The page.
    pub insights: Vec<RankedInsight>,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub place: Place,
}

/// What users did on one day (UTC), also where it was changed or withdrawn later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FeedbackDay)]
pub struct TrendDay {
    /// The day.
    pub day: NaiveDate,
    /// Ratings given or changed.
    pub ratings: i64,
    /// Their mean; null without any.
    pub average_rating: Option<f64>,
    /// Comments written or changed.
    pub comments: i64,
    /// Flags set or changed.
    pub flags: i64,
    /// Ratings, comments and flags withdrawn.
    pub withdrawals: i64,
}

impl From<&feedback::TrendDay> for TrendDay {
    fn from(day: &feedback::TrendDay) -> Self {
        Self {
            day: day.day,
            ratings: day.ratings,
            average_rating: day.average_rating(),
            comments: day.comments,
            flags: day.flags,
            withdrawals: day.withdrawals,
        }
    }
}

/// What users did day by day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = FeedbackTrend)]
pub struct Trend {
    /// The insight; null for all.
    pub insight_id: Option<String>,
    /// The first day.
    pub from_day: NaiveDate,
    /// The day after the last one.
    pub to_day: NaiveDate,
    /// Every day, also those on which nothing was done.
    pub days: Vec<TrendDay>,
}

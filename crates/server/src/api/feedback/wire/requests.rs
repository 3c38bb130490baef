//! What feedback calls take. Only the documentation of these shapes is used: requests are read field by field.
#![allow(dead_code, clippy::struct_field_names)] // the names are the contract's

use chrono::{DateTime, NaiveDate, Utc};
use utoipa::{IntoParams, ToSchema};

/// What is wrong with an insight.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum FlagType {
    /// Its numbers or statements are wrong.
    Inaccurate,
    /// True, but gives a wrong impression.
    Misleading,
    /// Not an insight.
    Spam,
    /// Should not be shown.
    Inappropriate,
    /// Something else; the reason says what.
    Other,
}

/// Which of the three things that a user can say of an insight.
#[derive(Debug, ToSchema)]
#[schema(as = FeedbackFact, rename_all = "lowercase")]
pub enum Fact {
    /// One to five stars.
    Rating,
    /// A text.
    Comment,
    /// That something is wrong with it.
    Flag,
}

/// A rating, and a comment where there is something to say.
#[derive(Debug, ToSchema)]
#[schema(as = RateInsight)]
pub struct Rate {
    /// The insight.
    #[schema(min_length = 1, max_length = 100)]
    insight_id: String,
    /// 1 to 5; replaces the user's earlier rating.
    #[schema(minimum = 1, maximum = 5)]
    rating: i32,
    /// Replaces the user's earlier comment; without it, that one stays.
    #[schema(min_length = 1, max_length = 1_000)]
    comment: Option<String>,
}

/// A comment.
#[derive(Debug, ToSchema)]
#[schema(as = CommentOnInsight)]
pub struct Comment {
    /// The insight.
    #[schema(min_length = 1, max_length = 100)]
    insight_id: String,
    /// Replaces the user's earlier comment.
    #[schema(min_length = 1, max_length = 1_000)]
    comment: String,
}

/// A flag.
#[derive(Debug, ToSchema)]
#[schema(as = FlagInsight)]
pub struct Flag {
    /// The insight.
    #[schema(min_length = 1, max_length = 100)]
    insight_id: String,
    // Undocumented: the document could not say more of it without saying that it is an object, too.
    #[schema(inline)]
    flag_type: FlagType,
    /// Why. Blank is the same as absent; an earlier flag's reason goes with that flag.
    #[schema(max_length = 500)]
    flag_reason: Option<String>,
}

/// What to take back.
#[derive(Debug, ToSchema)]
#[schema(as = WithdrawFeedback)]
pub struct Withdraw {
    /// The insight.
    #[schema(min_length = 1, max_length = 100)]
    insight_id: String,
    #[schema(inline)]
    fact: Fact,
}

/// The insight in a query.
#[derive(Debug, IntoParams)]
pub struct InsightQuery {
    /// The insight.
    #[param(min_length = 1, max_length = 100)]
    insight_id: String,
}

/// A flag, as a condition.
#[derive(Debug, ToSchema)]
#[schema(as = FlagCondition, rename_all = "lowercase")]
pub enum FlagCondition {
    /// Any flag.
    Any,
    /// A flag of this type.
    Inaccurate,
    /// A flag of this type.
    Misleading,
    /// A flag of this type.
    Spam,
    /// A flag of this type.
    Inappropriate,
    /// A flag of this type.
    Other,
}

/// Which feedback: all conditions given must hold.
#[derive(Debug, IntoParams)]
pub struct FilterQuery {
    /// Only this user's.
    #[param(min_length = 1, max_length = 100)]
    user_id: Option<String>,
    /// Only on this insight.
    #[param(min_length = 1, max_length = 100)]
    insight_id: Option<String>,
    /// Only what was last changed at this time or later.
    from: Option<DateTime<Utc>>,
    /// Only what was last changed before this time.
    to: Option<DateTime<Utc>>,
    /// Only with this rating.
    #[param(minimum = 1, maximum = 5)]
    rating: Option<i32>,
    /// Only with a flag: `any`, or one of a type.
    #[param(inline)]
    flag: Option<FlagCondition>,
    /// Only with a comment (`true`), or only without one (`false`).
    has_comment: Option<bool>,
}

/// Whose acts.
#[derive(Debug, IntoParams)]
pub struct HistoryQuery {
    /// Whose; without it, the caller's own. Anyone else's needs the scope `feedback:read_all`.
    #[param(min_length = 1, max_length = 100)]
    user_id: Option<String>,
    /// Only on this insight.
    #[param(min_length = 1, max_length = 100)]
    insight_id: Option<String>,
}

/// Which flags to review.
#[derive(Debug, IntoParams)]
pub struct FlaggedQuery {
    /// Only flags of this type.
    #[param(inline)]
    flag_type: Option<FlagType>,
    /// Only flags on this insight.
    #[param(min_length = 1, max_length = 100)]
    insight_id: Option<String>,
    /// Only flags set or last changed at this time or later.
    from: Option<DateTime<Utc>>,
    /// Only flags set or last changed before this time.
    to: Option<DateTime<Utc>>,
}

/// A score to rank by.
#[derive(Debug, ToSchema)]
#[schema(as = InsightRanking, rename_all = "snake_case")]
pub enum Ranking {
    /// The mean rating, drawn towards a prior mean while there are few ratings.
    BayesianMean,
    /// The lower end of the 90 % interval in which the mean rating lies.
    LowerBound,
}

/// Which ranking.
#[derive(Debug, IntoParams)]
pub struct TopQuery {
    /// By which score; `bayesian_mean` unless said.
    #[param(inline)]
    ranking: Option<Ranking>,
    /// Only insights with at least so many ratings.
    #[param(minimum = 1, default = 1)]
    min_ratings: Option<i64>,
}

/// Which days.
#[derive(Debug, IntoParams)]
pub struct TrendQuery {
    /// Only acts on this insight; without it, on all.
    #[param(min_length = 1, max_length = 100)]
    insight_id: Option<String>,
    /// The first day (UTC), such as `2026-01-31`; 30 days before `to_day` unless said.
    from_day: Option<NaiveDate>,
    /// The day after the last one; tomorrow unless said, so that today is the last.
    to_day: Option<NaiveDate>,
}

/// An export's format.
#[derive(Debug, ToSchema)]
#[schema(as = ExportFormat, rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// How to export.
#[derive(Debug, IntoParams)]
pub struct FormatQuery {
    /// The format; `csv` unless said.
    #[param(inline)]
    format: Option<Format>,
}

//! What retention's calls take and give.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utxoiq_store::{
    cold::Dataset,
    retention::{self, Action, Held},
};
use uuid::Uuid;

/// What a run did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionRun)]
pub struct RunAnswer {
    /// `success` when everything that was due is done, `failed` when a step was not, `running` when it still runs.
    pub status: &'static str,
    /// The same in words.
    pub message: String,
    /// What was done.
    pub results: Results,
}

/// What a run did, by dataset.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionResults)]
pub struct Results {
    /// When it began: the time for all its decisions.
    pub execution_time: DateTime<Utc>,
    /// Its number; null while it runs.
    pub run: Option<i64>,
    /// Backfill jobs.
    pub backfill_jobs: Archived,
    /// Feedback.
    pub feedback: Archived,
    /// History of feedback.
    pub feedback_history: Archived,
    /// Samples of metrics that went to cold storage.
    pub metrics_archive: MetricsArchived,
    /// Samples of metrics that were deleted from cold storage.
    pub metrics_delete: MetricsDeleted,
    /// What stayed although its time was up.
    pub kept: Vec<Step>,
    /// How many objects that ended were seen to be gone from cold storage.
    pub removed_objects: u64,
    /// What could not be done.
    pub failures: Vec<Failure>,
}

/// Rows of a dataset.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionArchived)]
pub struct Archived {
    /// How many rows went to cold storage.
    pub archived_count: i64,
    /// How many rows left the database: the same ones.
    pub deleted_count: i64,
    /// The last object that was written.
    pub archive_uri: Option<String>,
    /// Every object that was written.
    pub archive_uris: Vec<String>,
    /// How many rows were deleted from cold storage.
    pub expired_count: i64,
}

/// Samples that went to cold storage.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionMetricsArchived)]
pub struct MetricsArchived {
    /// How many samples.
    pub archived_count: i64,
    /// Every object that was written, one a day.
    pub archive_uris: Vec<String>,
}

/// Samples that were deleted from cold storage.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionMetricsDeleted)]
pub struct MetricsDeleted {
    /// How many samples.
    pub deleted_count: i64,
    /// Samples before this are gone, those under a legal hold excepted.
    pub cutoff_date: DateTime<Utc>,
}

/// Something that could not be done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionFailure)]
pub struct Failure {
    /// Of which dataset.
    pub dataset: &'static str,
    /// Of which day.
    pub day: Option<NaiveDate>,
    /// What was tried.
    pub step: &'static str,
    /// The error's code.
    pub code: &'static str,
    /// What happened, and what to do next.
    pub message: String,
}

impl From<&retention::Failure> for Failure {
    fn from(failure: &retention::Failure) -> Self {
        Self {
            dataset: failure.dataset,
            day: failure.day,
            step: failure.step,
            code: failure.code,
            message: failure.message.clone(),
        }
    }
}

/// On which day.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct PlanQuery {
    /// The time at which it would run; now, where it is not given.
    pub as_of: Option<DateTime<Utc>>,
}

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct StatusQuery {
    /// How many runs at most.
    #[param(default = 10, minimum = 1, maximum = 1000)]
    pub limit: Option<i64>,
}

/// Which hold.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct HoldPath {
    /// Its id.
    pub hold_id: Uuid,
}

/// What a run would do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionPlan)]
pub struct Plan {
    /// The day (UTC).
    pub today: NaiveDate,
    /// Where the lines are on that day.
    pub boundaries: Vec<Boundary>,
    /// What is to be done, in this order.
    pub steps: Vec<Step>,
}

/// Where the line is for a dataset.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionBoundary)]
pub struct Boundary {
    /// Of which dataset.
    pub dataset: &'static str,
    /// The first day that stays in the database.
    pub hot_from: NaiveDate,
    /// The first day that stays in cold storage.
    pub cold_from: NaiveDate,
}

/// One thing that a run would do, or leave.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionStep)]
pub struct Step {
    /// Of which dataset.
    pub dataset: &'static str,
    /// Of which day.
    pub day: NaiveDate,
    /// `archive`, `expire` or `keep`.
    pub action: &'static str,
    /// About how many rows.
    pub rows: i64,
    /// Why.
    pub reason: String,
    /// Of which archive, where it is about one.
    pub archive: Option<Uuid>,
}

impl From<&retention::Step> for Step {
    fn from(step: &retention::Step) -> Self {
        Self {
            dataset: step.dataset.name(),
            day: step.day,
            action: match step.action {
                Action::Archive => "archive",
                Action::Expire => "expire",
                Action::Keep => "keep",
            },
            rows: step.rows,
            reason: step.reason.clone(),
            archive: step.archive,
        }
    }
}

impl From<retention::Plan> for Plan {
    fn from(plan: retention::Plan) -> Self {
        Self {
            today: plan.today,
            boundaries: plan
                .boundaries
                .iter()
                .map(|line| Boundary {
                    dataset: line.dataset.name(),
                    hot_from: line.hot_from,
                    cold_from: line.cold_from,
                })
                .collect(),
            steps: plan.steps.iter().map(Into::into).collect(),
        }
    }
}

/// The latest runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionStatus)]
pub struct Status {
    /// The newest first.
    pub runs: Vec<Run>,
}

/// A run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetentionRecordedRun)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// Who asked for it.
    pub began_by: String,
    /// When it ended; null while it goes on.
    pub ended_at: Option<DateTime<Utc>>,
    /// `success`, `failed` or `lost`; null while it goes on.
    pub outcome: Option<String>,
    /// What it did.
    #[schema(value_type = Option<Object>)]
    pub results: Option<serde_json::Value>,
}

impl From<retention::Run> for Run {
    fn from(run: retention::Run) -> Self {
        Self {
            id: run.id,
            began_at: run.began_at,
            began_by: run.began_by,
            ended_at: run.ended_at,
            outcome: run.outcome,
            results: run.results,
        }
    }
}

/// A legal hold to place.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewLegalHold)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct NewHold {
    /// What it is on.
    pub scope: ShownScope,
    /// Of a hold on days: which dataset; all of them where it is not given.
    #[schema(inline)]
    pub dataset: Option<ShownDataset>,
    /// Of a hold on days: the first day.
    pub first_day: Option<NaiveDate>,
    /// Of a hold on days: the last day; the first one where it is not given.
    pub last_day: Option<NaiveDate>,
    /// Of a hold on a user.
    #[schema(min_length = 1, max_length = 100)]
    pub user_id: Option<String>,
    /// Of a hold on an insight.
    #[schema(min_length = 1, max_length = 100)]
    pub insight_id: Option<String>,
    /// Why; stays in the audit log.
    #[schema(min_length = 1, max_length = 1000)]
    pub reason: String,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What a hold is on.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LegalHoldScope, rename_all = "snake_case")]
#[allow(dead_code)] // the document is made of it; Input reads it
pub enum ShownScope {
    /// Days.
    Day,
    /// A user.
    User,
    /// An insight.
    Insight,
}

/// A kind of rows that leaves the database.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code)] // the document is made of it; Input reads it
pub enum ShownDataset {
    /// Samples.
    Metrics,
    /// Backfill jobs.
    BackfillJobs,
    /// Feedback as it stands.
    Feedback,
    /// What feedback was.
    FeedbackHistory,
}

/// Why a hold is released.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ReleaseLegalHold)]
#[allow(dead_code)] // the document is made of it; Input reads it
pub struct Release {
    /// Why; stays in the audit log.
    #[schema(min_length = 1, max_length = 1000)]
    pub reason: String,
}

/// The legal holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LegalHolds)]
pub struct Holds {
    /// The newest first.
    pub holds: Vec<Hold>,
}

/// A hold that was released.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReleasedLegalHold)]
pub struct Released {
    /// When.
    pub released_at: DateTime<Utc>,
    /// What it was.
    pub hold: Hold,
}

/// A legal hold.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = LegalHold)]
pub struct Hold {
    /// Its id.
    pub id: Uuid,
    /// `day`, `user` or `insight`.
    pub scope: &'static str,
    /// Of a hold on days: which dataset; null: all.
    pub dataset: Option<&'static str>,
    /// Of a hold on days: the first day.
    pub first_day: Option<NaiveDate>,
    /// Of a hold on days: the last day.
    pub last_day: Option<NaiveDate>,
    /// Of a hold on a user.
    pub user_id: Option<String>,
    /// Of a hold on an insight.
    pub insight_id: Option<String>,
    /// Why.
    pub reason: String,
    /// Who placed it.
    pub placed_by: String,
    /// When.
    pub placed_at: DateTime<Utc>,
    /// When it ends by itself; null: when it is released.
    pub expires_at: Option<DateTime<Utc>>,
}

impl From<retention::Hold> for Hold {
    fn from(hold: retention::Hold) -> Self {
        let common = Self {
            id: hold.id,
            reason: hold.reason,
            placed_by: hold.placed_by,
            placed_at: hold.placed_at,
            expires_at: hold.expires_at,
            ..Self::default()
        };
        match hold.held {
            Held::Day {
                dataset,
                first_day,
                last_day,
            } => Self {
                scope: "day",
                dataset: dataset.map(Dataset::name),
                first_day: Some(first_day),
                last_day: Some(last_day),
                ..common
            },
            Held::User { user_id } => Self {
                scope: "user",
                user_id: Some(user_id),
                ..common
            },
            Held::Insight { insight_id } => Self {
                scope: "insight",
                insight_id: Some(insight_id),
                ..common
            },
        }
    }
}

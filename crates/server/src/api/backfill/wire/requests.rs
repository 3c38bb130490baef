//! What the calls that know no lease take, and those that steer a job.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::JobState;

/// The job in a path.
#[derive(Debug, IntoParams)]
#[allow(dead_code)] // only its documentation is used
pub struct JobPath {
    /// The job's id, with or without dashes.
    job_id: Uuid,
}

/// The reporter script's id in a path.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct ReporterPath {
    /// The id the script chose, percent-encoded.
    #[param(min_length = 1, max_length = 255)]
    job_id: String,
}

/// The job in a query.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct JobQuery {
    /// The job's id, with or without dashes.
    job_id: Uuid,
}

/// Which jobs to list.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct ListQuery {
    /// Only jobs of this status; `failed` includes cancelled ones.
    #[param(inline)]
    status: Option<ShownStatus>,
    /// Only jobs of this type.
    #[param(min_length = 1, max_length = 50)]
    job_type: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 100, default = 10)]
    limit: Option<i64>,
    /// How many to skip.
    #[param(minimum = 0, default = 0)]
    offset: Option<i64>,
}

/// A status as the contract has it.
#[derive(Debug, ToSchema)]
#[schema(as = BackfillStatus, rename_all = "lowercase")]
#[allow(dead_code)]
pub enum ShownStatus {
    /// Being worked on.
    Running,
    /// Every block is finished.
    Completed,
    /// Ended with an error.
    Failed,
    /// Held.
    Paused,
}

/// A job to start.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StartBackfill)]
pub struct Start {
    /// What kind of work it is.
    #[schema(min_length = 1, max_length = 50)]
    pub job_type: String,
    /// The first block.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub start_block: i64,
    /// The last block, included.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub end_block: i64,
    /// Who starts it.
    #[schema(min_length = 1, max_length = 100)]
    pub created_by: Option<String>,
}

/// A job to go on with, or to start.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenBackfill)]
pub struct Open {
    /// The job.
    #[serde(flatten)]
    pub start: Start,
    /// Start a new job where the newest of this type and range is completed or cancelled.
    pub again: Option<bool>,
}

/// The answer to opening a job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = OpenedBackfill)]
pub struct Opened {
    /// The job.
    pub job: JobState,
    /// Whether this call started it.
    pub is_new: bool,
}

/// Progress of a worker that knows no lease.
#[derive(Debug, ToSchema)]
#[schema(as = BackfillProgress)]
#[allow(dead_code, clippy::struct_field_names)] // only its documentation is used; the names are the contract's
pub struct Progress {
    /// The block it is at: everything below is finished.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    current_block: i64,
    /// Checked and not stored: the server computes it from what is finished.
    #[schema(minimum = 0.0, maximum = 100.0)]
    progress_percentage: f64,
    /// Checked and not stored, likewise.
    estimated_completion: Option<DateTime<Utc>>,
    /// The status it wants.
    #[schema(inline)]
    status: Option<ShownStatus>,
    /// Its error.
    #[schema(max_length = 100_000)]
    error_message: Option<String>,
}

/// The reporter script's start.
#[derive(Debug, ToSchema)]
#[schema(as = ReporterStart)]
#[allow(dead_code)]
pub struct ReporterStart {
    /// The id it chose.
    #[schema(min_length = 1, max_length = 255)]
    job_id: String,
    /// The first block.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    start_block: i64,
    /// The last block, included.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    end_block: i64,
    /// The block it is at.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    current_block: Option<i64>,
    /// How many errors it met.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    error_count: Option<i64>,
    /// Checked and not stored: a started job is running.
    #[schema(inline)]
    status: Option<ShownStatus>,
    /// How many blocks it finished, by its own count: checked and not stored.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    blocks_processed: Option<i64>,
    /// How many blocks are left, by its own count: checked and not stored.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    blocks_remaining: Option<i64>,
    /// Its own percentage: checked and not stored, the server computes it from what is finished.
    #[schema(minimum = 0.0, maximum = 100.0)]
    progress_percent: Option<f64>,
    /// Its own rate: checked and not stored.
    #[schema(minimum = 0.0)]
    rate_blocks_per_sec: Option<f64>,
    /// Its own estimate: checked and not stored.
    estimated_completion: Option<DateTime<Utc>>,
    /// Its own clock: checked and not stored.
    updated_at: Option<DateTime<Utc>>,
    /// Its own clock, at its start: checked and not stored.
    started_at: Option<DateTime<Utc>>,
}

/// The reporter script's progress and its end.
#[derive(Debug, ToSchema)]
#[schema(as = ReporterProgress)]
#[allow(dead_code)]
pub struct ReporterProgress {
    /// `running`, `completed`, `failed` or `paused`.
    #[schema(inline)]
    status: Option<ShownStatus>,
    /// The block it is at: everything below is finished.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    current_block: Option<i64>,
    /// How many blocks it finished since it was started.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    blocks_processed: Option<i64>,
    /// How many errors it met; above 0 the blocks below its block have holes, and are not taken as finished.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    error_count: Option<i64>,
    /// Its error.
    #[schema(max_length = 100_000)]
    error_message: Option<String>,
    /// How many blocks are left, by its own count: checked and not stored.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    blocks_remaining: Option<i64>,
    /// Its own percentage: checked and not stored, the server computes it from what is finished.
    #[schema(minimum = 0.0, maximum = 100.0)]
    progress_percent: Option<f64>,
    /// Its own rate: checked and not stored.
    #[schema(minimum = 0.0)]
    rate_blocks_per_sec: Option<f64>,
    /// Its own estimate: checked and not stored.
    estimated_completion: Option<DateTime<Utc>>,
    /// Its own clock: checked and not stored.
    updated_at: Option<DateTime<Utc>>,
}

/// Why a job is ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FailBackfill)]
pub struct Fail {
    /// The error to keep; the first 4,000 characters are.
    #[schema(min_length = 1, max_length = 100_000)]
    pub error_message: String,
}

/// From where on a job is to be done again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RewindBackfill)]
pub struct Rewind {
    /// The first block to do again.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub from_block: i64,
}

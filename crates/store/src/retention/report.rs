//! What a run did, while it does it and afterwards.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::Value;

use super::{Plan, Step};
use crate::{cold::Dataset, error::Error};

/// What a run is doing.
#[derive(Debug, Clone)]
pub enum Event {
    /// This is what it will do.
    Planned(Plan),
    /// It begins with a day of a dataset.
    Began {
        /// Of which dataset.
        dataset: Dataset,
        /// Of which day.
        day: NaiveDate,
        /// What is done now.
        doing: &'static str,
    },
    /// A step is done.
    Done(Moved),
    /// A step could not be done.
    Failed(Failure),
}

/// Rows that were moved or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Of which dataset.
    pub dataset: &'static str,
    /// Of which day.
    pub day: NaiveDate,
    /// How many rows.
    pub rows: i64,
    /// The object's size.
    pub bytes: i64,
    /// Its key.
    pub object: String,
}

/// Something that could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Of which dataset.
    pub dataset: &'static str,
    /// Of which day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<NaiveDate>,
    /// What was tried.
    pub step: &'static str,
    /// The error's code.
    pub code: &'static str,
    /// What happened, and what to do next.
    pub message: String,
}

impl Failure {
    pub(super) fn of(dataset: Dataset, day: NaiveDate, step: &'static str, error: &Error) -> Self {
        Self {
            dataset: dataset.name(),
            day: Some(day),
            step,
            code: error.code(),
            message: error.message().to_owned(),
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The run's number.
    pub run: i64,
    /// When it began, the time for all its decisions.
    pub began_at: DateTime<Utc>,
    /// What went to cold storage and out of the database.
    pub archived: Vec<Moved>,
    /// What was deleted from cold storage.
    pub expired: Vec<Moved>,
    /// What stayed although its time was up, and why.
    pub kept: Vec<Step>,
    /// How many objects that ended were seen to be gone.
    pub removed_objects: u64,
    /// Objects that earlier runs had begun, and this one went on with or gave up.
    pub resumed: u64,
    /// Erasures that were begun before, and are finished now.
    pub erased: u64,
    /// What could not be done.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Whether everything that was due is done.
    pub fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    /// How many rows of a dataset were archived.
    pub fn archived_rows(&self, dataset: Dataset) -> i64 {
        rows(&self.archived, dataset)
    }

    /// How many rows of a dataset were deleted from cold storage.
    pub fn expired_rows(&self, dataset: Dataset) -> i64 {
        rows(&self.expired, dataset)
    }
}

fn rows(moved: &[Moved], dataset: Dataset) -> i64 {
    moved
        .iter()
        .filter(|moved| moved.dataset == dataset.name())
        .map(|moved| moved.rows)
        .sum()
}

/// A run as it was recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// Who asked for it.
    pub began_by: String,
    /// When it ended; none while it goes on.
    pub ended_at: Option<DateTime<Utc>>,
    /// success, failed or lost.
    pub outcome: Option<String>,
    /// Its [`Report`].
    pub results: Option<Value>,
}

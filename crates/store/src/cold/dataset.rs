//! What is archived, and with which columns.
//!
//! The columns of a dataset are those of the rows as COPY gives them, in that order; an archive of metrics has the names of
//! the series beside them. They are part of what is kept for years: a column is only ever added, at the end.

use std::fmt;

use parquet::basic::{Encoding, LogicalType, Repetition, TimeUnit, Type as PhysicalType};

/// A kind of rows that is archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dataset {
    /// Samples of metrics, by the day of their times.
    Metrics,
    /// Finished backfill jobs with all that is known of them, by the day of their end.
    BackfillJobs,
    /// Feedback as it was last, by the day of its last change.
    Feedback,
    /// What was said and withdrawn, by the day of it.
    FeedbackHistory,
}

/// The type of a column: PostgreSQL's, whose binary form is what the content digest is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// `int4`.
    Int4,
    /// `int8`.
    Int8,
    /// `float8`.
    Float8,
    /// `timestamptz`.
    Time,
    /// `text`.
    Text,
    /// `uuid`.
    Uuid,
}

/// What a column's values are like, which decides how they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Nothing special: numbers and times by their differences, texts by a dictionary.
    Plain,
    /// Texts that are long and seldom equal, or JSON: no dictionary, and no bounds.
    Long,
    /// What tells of a person: no bounds, which would outlive an erasure in manifests and in the database.
    Personal,
    /// As [`Values::Personal`], and looked for: with a Bloom filter.
    PersonalKey,
    /// Looked for, with a Bloom filter.
    Key,
}

/// One column of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name, in the database and in the Parquet file.
    pub name: &'static str,
    /// Its type.
    pub kind: ColumnKind,
    /// Whether it may be null.
    pub is_nullable: bool,
    /// What its values are like.
    pub values: Values,
}

const fn column(name: &'static str, kind: ColumnKind) -> Column {
    Column {
        name,
        kind,
        is_nullable: false,
        values: Values::Plain,
    }
}

impl Column {
    const fn null(mut self) -> Self {
        self.is_nullable = true;
        self
    }

    const fn values(mut self, values: Values) -> Self {
        self.values = values;
        self
    }

    /// Whether the least and the greatest value are told.
    pub const fn has_bounds(&self) -> bool {
        matches!(self.values, Values::Plain | Values::Key)
    }
}

use ColumnKind::{Float8, Int4, Int8, Text, Time, Uuid};
use Values::{Key, Long, Personal, PersonalKey};

const METRICS: &[Column] = &[
    column("series_id", Int4),
    column("sampled_at", Time),
    column("value", Float8),
    column("metadata", Text).null(),
];

const BACKFILL_JOBS: &[Column] = &[
    column("id", Uuid),
    column("job_type", Text),
    column("start_block", Int8),
    column("end_block", Int8),
    column("status", Text),
    column("covered", Text).values(Long),
    column("attempt", Int4),
    column("attempt_started_at", Time),
    column("attempt_covered_blocks", Int8),
    column("claim_epoch", Int8),
    column("external_id", Text).null(),
    column("created_by", Text).null().values(Personal),
    column("error_message", Text).null().values(Long),
    column("paused_by", Text).null().values(Personal),
    column("started_at", Time),
    column("progressed_at", Time),
    column("heard_at", Time),
    column("implicit_heard_at", Time).null(),
    column("reported_covered_blocks", Int8).null(),
    column("trusted_below", Int8).null(),
    column("ended_at", Time),
    column("attempts", Text).values(Long),
    column("errors", Text).values(Long),
    column("checkpoints", Text).values(Long),
];

const FEEDBACK: &[Column] = &[
    column("id", Uuid),
    column("insight_id", Text).values(Key),
    column("user_id", Text).values(PersonalKey),
    column("rating", Int4).null(),
    column("rated_at", Time).null(),
    column("comment", Text).null().values(Long),
    column("commented_at", Time).null(),
    column("flag_type", Text).null(),
    column("flag_reason", Text).null().values(Long),
    column("flagged_at", Time).null(),
    column("created_at", Time),
    column("updated_at", Time),
];

const FEEDBACK_HISTORY: &[Column] = &[
    column("id", Int8),
    column("insight_id", Text).values(Key),
    column("user_id", Text).values(PersonalKey),
    column("fact", Text),
    column("rating", Int4).null(),
    column("comment", Text).null().values(Long),
    column("flag_type", Text).null(),
    column("flag_reason", Text).null().values(Long),
    column("occurred_at", Time),
];

/// The names of a sample's series, which stand behind the columns of metrics in a Parquet file.
pub(super) const SERIES_NAMES: &[Column] = &[
    column("service_name", Text),
    column("metric_type", Text),
    column("unit", Text),
    column("labels", Text),
];

impl Dataset {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Metrics,
        Self::BackfillJobs,
        Self::Feedback,
        Self::FeedbackHistory,
    ];

    /// Its name: in keys, in the database and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::BackfillJobs => "backfill_jobs",
            Self::Feedback => "feedback",
            Self::FeedbackHistory => "feedback_history",
        }
    }

    /// The dataset of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dataset| dataset.name() == name)
    }

    /// Its columns, in the order of COPY.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Metrics => METRICS,
            Self::BackfillJobs => BACKFILL_JOBS,
            Self::Feedback => FEEDBACK,
            Self::FeedbackHistory => FEEDBACK_HISTORY,
        }
    }

    /// The columns that are in its Parquet files only.
    pub const fn names(self) -> &'static [Column] {
        match self {
            Self::Metrics => SERIES_NAMES,
            _ => &[],
        }
    }

    /// All columns of its Parquet files.
    pub(super) fn stored_columns(self) -> impl Iterator<Item = &'static Column> {
        self.columns().iter().chain(self.names())
    }

    /// How many columns, from the first, are the key by which its rows are ordered.
    pub(super) const fn key_columns(self) -> usize {
        match self {
            Self::Metrics => 2,
            _ => 1,
        }
    }

    /// Whether copies of its archives may stay in the cache: what tells of people goes when its reader does.
    pub(super) const fn is_kept_in_cache(self) -> bool {
        matches!(self, Self::Metrics)
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ColumnKind {
    /// PostgreSQL's number of the type.
    pub(super) const fn oid(self) -> u32 {
        match self {
            Int4 => 23,
            Int8 => 20,
            Float8 => 701,
            Time => 1184,
            Text => 25,
            Uuid => 2950,
        }
    }
}

impl Column {
    pub(super) fn physical(&self) -> PhysicalType {
        match self.kind {
            Int4 => PhysicalType::INT32,
            Int8 | Time => PhysicalType::INT64,
            Float8 => PhysicalType::DOUBLE,
            Text => PhysicalType::BYTE_ARRAY,
            Uuid => PhysicalType::FIXED_LEN_BYTE_ARRAY,
        }
    }

    pub(super) fn logical(&self) -> Option<LogicalType> {
        match self.kind {
            Int4 | Int8 | Float8 => None,
            Time => Some(LogicalType::timestamp(true, TimeUnit::MICROS)),
            Text => Some(LogicalType::String),
            Uuid => Some(LogicalType::Uuid),
        }
    }

    pub(super) fn repetition(&self) -> Repetition {
        if self.is_nullable {
            Repetition::OPTIONAL
        } else {
            Repetition::REQUIRED
        }
    }

    /// How it is stored; `None` for a dictionary.
    pub(super) fn encoding(&self) -> Option<Encoding> {
        match (self.kind, self.values) {
            (Int4 | Int8 | Time, _) => Some(Encoding::DELTA_BINARY_PACKED),
            (Float8, _) => Some(Encoding::BYTE_STREAM_SPLIT),
            (Uuid, _) => Some(Encoding::PLAIN),
            (Text, Long) => Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
            (Text, _) => None,
        }
    }

    pub(super) fn has_bloom_filter(&self) -> bool {
        matches!(self.values, Key | PersonalKey)
    }
}

//! What is reported: series by their names, and samples of them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The longest name of a service, in characters, as the contract has it.
pub const MAX_SERVICE_NAME: usize = 100;
/// The longest type of a metric, in characters. The contract's own calls take 50; names of OpenTelemetry and Prometheus are
/// longer.
pub const MAX_METRIC_TYPE: usize = 200;
/// The longest unit, in characters (OpenTelemetry's bound; the contract's own calls take 20).
pub const MAX_UNIT: usize = 63;
/// The greatest value, to either side: sums of such values stay finite.
pub const MAX_VALUE: f64 = 1e300;

/// What a series is called. Two series are the same if all four are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesName {
    /// Who reports.
    pub service_name: String,
    /// What is measured.
    pub metric_type: String,
    /// In which unit; may be empty.
    pub unit: String,
    /// What tells series of the same type apart.
    pub labels: BTreeMap<String, String>,
}

/// One sample, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSample {
    /// Which of the batch's series.
    pub series: usize,
    /// When, in microseconds since the epoch; without it the server's time, unlike that of any other sample of the series.
    pub at: Option<i64>,
    /// The value.
    pub value: f64,
    /// A JSON object that is kept with the sample, as text.
    pub metadata: Option<Box<str>>,
}

/// Samples that are recorded together, each series of them named once.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    series: Vec<SeriesName>,
    known: HashMap<SeriesName, usize>,
    samples: Vec<NewSample>,
}

impl Batch {
    /// The number of a series in this batch.
    pub fn series(&mut self, name: SeriesName) -> usize {
        if let Some(number) = self.known.get(&name) {
            return *number;
        }
        let number = self.series.len();
        self.series.push(name.clone());
        self.known.insert(name, number);
        number
    }

    /// Adds a sample of a series that [`Self::series`] has numbered.
    pub fn push(&mut self, sample: NewSample) {
        self.samples.push(sample);
    }

    /// The series.
    pub fn names(&self) -> &[SeriesName] {
        &self.series
    }

    /// Takes it apart.
    pub(super) fn into_parts(self) -> (Vec<SeriesName>, Vec<NewSample>) {
        (self.series, self.samples)
    }

    /// The samples, in the order in which they were added.
    pub fn samples(&self) -> &[NewSample] {
        &self.samples
    }
}

/// Why a sample is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// NaN or an infinity.
    NotANumber,
    /// Beyond [`MAX_VALUE`].
    ValueTooGreat,
    /// Before the hot horizon.
    TooOld,
    /// Too far in the future.
    TooFarAhead,
    /// Its day was archived.
    Archived,
    /// A name of the series is empty, too long, or has control characters.
    BadName,
    /// A label is empty, too long, or has control characters, or there are too many.
    BadLabels,
    /// The metadata is no object, or too large.
    BadMetadata,
    /// The service has as many series as it may have.
    TooManySeries,
    /// There are as many services as there may be.
    TooManyServices,
    /// A part of its histogram or its whole data point cannot be read as samples.
    Unsupported,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::NotANumber,
        Self::ValueTooGreat,
        Self::TooOld,
        Self::TooFarAhead,
        Self::Archived,
        Self::BadName,
        Self::BadLabels,
        Self::BadMetadata,
        Self::TooManySeries,
        Self::TooManyServices,
        Self::Unsupported,
    ];

    /// Its name in answers and figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotANumber => "not_a_number",
            Self::ValueTooGreat => "value_too_great",
            Self::TooOld => "too_old",
            Self::TooFarAhead => "too_far_ahead",
            Self::Archived => "archived",
            Self::BadName => "bad_name",
            Self::BadLabels => "bad_labels",
            Self::BadMetadata => "bad_metadata",
            Self::TooManySeries => "too_many_series",
            Self::TooManyServices => "too_many_services",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A sample that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// Which field of the contract's sample it is about: `metric_value`, `timestamp`, `service_name` …
    pub field: &'static str,
    /// What to do about it.
    pub message: String,
}

/// What became of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is stored and committed.
    Stored,
    /// The same sample was there already.
    Duplicate,
    /// The series has another value at that time: the first one, which stays.
    Conflict {
        /// The value that is stored.
        stored: f64,
    },
    /// It is not accepted.
    Rejected(Rejection),
    /// Nothing: another sample of the batch was not accepted, and the batch is recorded as a whole ([`Accept::Whole`]).
    Withheld,
}

/// What became of a batch.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// One for each sample, in their order.
    pub samples: Vec<RecordedSample>,
    /// The transaction that stored them, where any was stored.
    pub transaction: Option<crate::db::TransactionId>,
}

/// What became of one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedSample {
    /// The number of its series; 0 where it was rejected.
    pub series_id: i32,
    /// Its time, in microseconds since the epoch: its own or the one that it was given.
    pub at: i64,
    /// What became of it.
    pub outcome: Outcome,
}

/// Whether a batch is recorded in part where some of it is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// All or nothing: with a rejection in it, nothing is stored.
    Whole,
    /// What is right is stored, the rest is told.
    Partial,
}

/// How a repeated request is recognised: an `Idempotency-Key` of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Whose.
    pub caller: String,
    /// The key, at most 255 characters.
    pub key: String,
    /// SHA-256 of the request's body: the same key with another body is refused.
    pub digest: [u8; 32],
}

/// How many samples of a batch became what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Stored.
    pub stored: u64,
    /// Already there.
    pub duplicates: u64,
    /// There with another value.
    pub conflicts: u64,
    /// Not accepted, by reason, each with the message of the first.
    pub rejected: BTreeMap<Reason, (u64, String)>,
}

impl Recorded {
    /// How many became what.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for sample in &self.samples {
            match &sample.outcome {
                Outcome::Stored => tally.stored += 1,
                Outcome::Duplicate => tally.duplicates += 1,
                Outcome::Conflict { .. } => tally.conflicts += 1,
                Outcome::Rejected(rejection) => tally.reject(rejection.reason, &rejection.message),
                Outcome::Withheld => {}
            }
        }
        tally
    }
}

impl Tally {
    /// Counts one that was not accepted.
    pub fn reject(&mut self, reason: Reason, message: &str) {
        self.rejected
            .entry(reason)
            .or_insert_with(|| (0, message.to_owned()))
            .0 += 1;
    }

    /// How many were not accepted.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().map(|(count, _)| count).sum()
    }
}

/// A time as samples have it; beyond what microseconds can hold, the nearest.
pub fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

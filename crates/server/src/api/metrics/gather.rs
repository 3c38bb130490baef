//! What a request brings that is recorded in part, and what became of it.
//!
//! Everything here is bounded, since a small body can ask for much: a histogram with a thousand buckets is a thousand series,
//! each with all its labels. Beyond [`MAX_SAMPLES`] and [`MAX_NAME_BYTES`] the request is refused whole with 413, before
//! anything of it is stored.

use std::{collections::BTreeMap, fmt::Write as _};

use axum::http::StatusCode;
use chrono::DateTime;
use utxoiq_store::{
    db::TransactionId,
    metrics::{Accept, Batch, NewSample, Outcome, Reason, SeriesName},
};

use crate::{
    AppState,
    error::{ApiError, ApiResult},
};

/// The most samples that one request may bring.
pub(super) const MAX_SAMPLES: usize = 100_000;

/// The most bytes that the names and labels of one request's series may have together.
pub(super) const MAX_NAME_BYTES: usize = 32 << 20;

/// The most bytes that the name and labels of one series may have: far above what the store takes, so that it decides.
const MAX_BYTES_OF_ONE: usize = 64 << 10;

/// What a label costs beside its bytes.
const LABEL_OVERHEAD: usize = 64;

/// The longest example of a refusal, in characters.
const MAX_EXAMPLE: usize = 300;

/// What was told once of each reason for which something was not stored.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Refusals(BTreeMap<&'static str, Refusal>);

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// How many.
    pub count: u64,
    /// The place of the first in the request.
    pub place: usize,
    /// What is to be said of the first.
    pub first: String,
}

impl Refusals {
    /// Counts one; its text is made only where it is the first.
    pub fn note(&mut self, reason: &'static str, place: usize, text: impl Fn() -> String) {
        self.note_many(reason, 1, place, text);
    }

    /// Counts many.
    pub fn note_many(
        &mut self,
        reason: &'static str,
        count: u64,
        place: usize,
        text: impl Fn() -> String,
    ) {
        let new = || Refusal {
            count: 0,
            place: usize::MAX,
            first: String::new(),
        };
        let refusal = self.0.entry(reason).or_insert_with(new);
        refusal.count += count;
        if place < refusal.place {
            refusal.place = place;
            refusal.first = text().chars().take(MAX_EXAMPLE).collect();
        }
    }

    /// Takes a reason out.
    pub fn take(&mut self, reason: &'static str) -> Option<Refusal> {
        self.0.remove(reason)
    }

    /// The reasons.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Refusal)> {
        self.0.iter().map(|(reason, refusal)| (*reason, refusal))
    }

    /// `too_old: 5, the first: … ; bad_name: 1, the first: …`
    pub fn summary(&self) -> String {
        let all = self.iter().map(|(reason, refusal)| {
            format!("{reason}: {}, the first: {}", refusal.count, refusal.first)
        });
        all.collect::<Vec<_>>().join("; ")
    }
}

/// What a request brings.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub batch: Batch,
    /// Where in the request each sample is: a line, a data point.
    pub places: Vec<usize>,
    /// What was refused before the store saw it.
    pub refusals: Refusals,
    /// The places of what was refused.
    pub refused: Vec<usize>,
    name_bytes: usize,
}

/// What became of what a request brought.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub stored: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    /// What was refused, conflicts not counted.
    pub refusals: Refusals,
    /// The first conflict, where there is one.
    pub conflict: Option<Refusal>,
    /// The places of what was refused or is in conflict, each once.
    pub refused: Vec<usize>,
    pub transaction: Option<TransactionId>,
}

const CONFLICT: &str = "conflict";

/// 413: the request brings more samples than one may.
pub(super) fn too_many_samples() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_many_samples",
        format!(
            "one request brings at most {MAX_SAMPLES} samples, whose series' names and labels have at most {} MiB together; send it in parts",
            MAX_NAME_BYTES >> 20
        ),
    )
}

impl Gathered {
    /// The number of a series. `None` where it is refused, which is then noted for the place.
    pub fn series(&mut self, place: usize, name: SeriesName) -> ApiResult<Option<usize>> {
        let bytes = size(&name);
        if bytes > MAX_BYTES_OF_ONE {
            self.refuse(Reason::BadLabels.as_str(), place, || {
                format!("the names and labels of a series of {bytes} bytes are too long")
            });
            return Ok(None);
        }
        let known = self.batch.names().len();
        let number = self.batch.series(name);
        if number == known {
            self.name_bytes += bytes;
            if self.name_bytes > MAX_NAME_BYTES {
                return Err(too_many_samples());
            }
        }
        Ok(Some(number))
    }

    /// Adds a sample.
    pub fn push(&mut self, place: usize, sample: NewSample) -> ApiResult<()> {
        if self.places.len() >= MAX_SAMPLES {
            return Err(too_many_samples());
        }
        self.batch.push(sample);
        self.places.push(place);
        Ok(())
    }

    /// Notes that what is at a place is refused.
    pub fn refuse(&mut self, reason: &'static str, place: usize, text: impl Fn() -> String) {
        self.refusals.note(reason, place, text);
        if self.refused.last() != Some(&place) {
            self.refused.push(place);
        }
    }

    /// Records what is right, and tells what became of all.
    pub async fn record(self, state: &AppState) -> ApiResult<Written> {
        let mut written = Written {
            refusals: self.refusals,
            refused: self.refused,
            ..Written::default()
        };
        for (name, refusal) in written.refusals.iter() {
            // Its own refusals the store counts itself.
            if let Some(reason) = Reason::ALL.into_iter().find(|one| one.as_str() == name) {
                let intake = state.store.metrics_intake();
                intake.count_rejected(reason, refusal.count);
            }
        }
        if !self.places.is_empty() {
            let names = self.batch.names().to_vec();
            let series: Vec<_> = self.batch.samples().iter().map(|one| one.series).collect();
            let now = state.store.now();
            let recording = state.store.metrics();
            let recorded = recording
                .record(self.batch, Accept::Partial, None, now)
                .await?;
            written.transaction = recorded.transaction;
            for (index, sample) in recorded.samples.iter().enumerate() {
                let place = self.places.get(index).copied().unwrap_or_default();
                let name = series.get(index).and_then(|number| names.get(*number));
                written.tell(&sample.outcome, place, name, sample.at);
            }
        }
        written.conflict = written.refusals.take(CONFLICT);
        written.refused.sort_unstable();
        written.refused.dedup();
        Ok(written)
    }
}

impl Written {
    fn tell(&mut self, outcome: &Outcome, place: usize, name: Option<&SeriesName>, at: i64) {
        let (reason, message) = match outcome {
            Outcome::Stored => {
                self.stored += 1;
                return;
            }
            Outcome::Duplicate => {
                self.duplicates += 1;
                return;
            }
            Outcome::Conflict { stored } => {
                self.conflicts += 1;
                (CONFLICT, format!("its value at that time is {stored}"))
            }
            // What is recorded in part withholds nothing; if it did, it would have to be told.
            Outcome::Withheld => ("withheld", "was not stored".to_owned()),
            Outcome::Rejected(rejection) => (rejection.reason.as_str(), rejection.message.clone()),
        };
        let text = || format!("{}: {message}", example(name, at));
        self.refusals.note(reason, place, text);
        if self.refused.last() != Some(&place) {
            self.refused.push(place);
        }
    }

    /// All that was not stored, in words; conflicts among them.
    pub fn summary(&self) -> String {
        let mut all = self.refusals.clone();
        if let Some(conflict) = &self.conflict {
            all.note_many(CONFLICT, conflict.count, conflict.place, || {
                conflict.first.clone()
            });
        }
        all.summary()
    }
}

/// `job metric{label="value"} at 2026-01-31T12:00:00Z`
pub(super) fn example(name: Option<&SeriesName>, at: i64) -> String {
    let mut text = String::new();
    if let Some(name) = name {
        let labels = name.labels.iter().take(8);
        let labels: Vec<_> = labels
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        let _ = write!(text, "{} {}", name.service_name, name.metric_type);
        if !labels.is_empty() {
            let _ = write!(text, "{{{}}}", labels.join(","));
        }
    }
    if let Some(at) = DateTime::from_timestamp_micros(at) {
        let _ = write!(
            text,
            " at {}",
            at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
        );
    }
    text
}

fn size(name: &SeriesName) -> usize {
    let labels = name.labels.iter();
    let labels = labels.map(|(key, value)| key.len() + value.len() + LABEL_OVERHEAD);
    name.service_name.len() + name.metric_type.len() + name.unit.len() + labels.sum::<usize>()
}

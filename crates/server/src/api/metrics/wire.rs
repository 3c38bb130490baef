//! The shapes of metrics calls, and how samples are written.
//!
//! Answers to the contract's calls are written into one buffer: what all samples of a series share is made once.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utxoiq_store::metrics::{NewSample, Outcome, RecordedSample, SeriesName};
use uuid::{Builder, Uuid, Variant};

/// A sample to record. Only the documentation of this shape is used.
#[derive(Debug, ToSchema)]
#[allow(dead_code)]
pub struct NewMetric {
    /// Who reports.
    #[schema(min_length = 1, max_length = 100)]
    service_name: String,
    /// What is measured.
    #[schema(min_length = 1, max_length = 50)]
    metric_type: String,
    /// The value: finite, at most 1e300 to either side.
    #[schema(minimum = -1e300, maximum = 1e300)]
    metric_value: f64,
    /// In which unit; may be empty.
    #[schema(max_length = 20)]
    unit: String,
    /// When; without it, the server's time. Older than the hot horizon, or too far in the future, is refused.
    timestamp: Option<DateTime<Utc>>,
    /// An object that is kept with the sample.
    #[schema(value_type = Option<Object>)]
    metric_metadata: Option<BTreeMap<String, serde_json::Value>>,
    /// What tells this series from others of the same service, type and unit: an object of strings.
    labels: Option<BTreeMap<String, String>>,
}

/// What became of a sample that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = MetricOutcome)]
#[serde(rename_all = "lowercase")]
pub enum Became {
    /// It is stored.
    Stored,
    /// The same was stored before.
    Duplicate,
    /// The series has another value at that time: the first one, which stays and is shown.
    Conflict,
}

/// A sample as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metric {
    /// Its id: made from its series and its time.
    pub id: Uuid,
    /// Who reported it.
    pub service_name: String,
    /// What was measured.
    pub metric_type: String,
    /// The value.
    pub metric_value: f64,
    /// In which unit.
    pub unit: String,
    /// When.
    pub timestamp: DateTime<Utc>,
    /// What was sent with it.
    #[schema(value_type = Option<Object>)]
    pub metric_metadata: Option<BTreeMap<String, serde_json::Value>>,
    /// What tells its series from others.
    pub labels: BTreeMap<String, String>,
    /// What became of it.
    pub outcome: Became,
}

/// What became of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MetricsImported {
    /// How many samples were sent: lines or rows, blank ones and a header not counted.
    pub lines: u64,
    /// How many are new.
    pub stored: u64,
    /// How many were there already.
    pub duplicates: u64,
    /// For how many the series has another value at that time, which stays.
    pub conflicts: u64,
    /// Where the first of these is.
    pub first_conflict: Option<u64>,
    /// How many were refused.
    pub rejected_lines: u64,
    /// Why, and how many for each reason.
    pub rejected: Vec<LinesRejected>,
}

/// Lines that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinesRejected {
    /// Why: `unreadable`, `no_timestamp`, `too_old`, `too_far_ahead`, `archived`, `not_a_number`, `value_too_great`,
    /// `bad_name`, `bad_labels`, `bad_metadata`, `too_many_series` or `too_many_services`.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The number of the first such line; the first line of a file is 1.
    pub first_line: u64,
    /// What is wrong with that one.
    pub message: String,
}

const LOW_BITS: u32 = 62;
const SERIES_BITS: u32 = 32;

/// The id of a sample: a UUID of version 8 that holds the number of its series and its time in microseconds, so that it can
/// be made when the sample is shown and the sample found when it is named. Ids of one series sort by time.
pub fn sample_id(series_id: i32, at: i64) -> Uuid {
    let time = u128::from(at.cast_unsigned());
    let series = u128::from(series_id.cast_unsigned());
    // 48 bits of time, the version, 12 bits of time, the variant, 4 bits of time, 26 that are 0, 32 bits of series.
    let bits =
        (time >> 16) << 80 | (time >> 4 & 0xfff) << 64 | (time & 0xf) << (LOW_BITS - 4) | series;
    Builder::from_custom_bytes(bits.to_be_bytes()).into_uuid()
}

/// The series and the time of the sample with this id; `None` where no sample can have it.
pub fn sample_of(id: Uuid) -> Option<(i32, i64)> {
    let bits = id.as_u128();
    let zeros = bits >> SERIES_BITS & ((1 << (LOW_BITS - 4 - SERIES_BITS)) - 1);
    if id.get_version_num() != 8 || id.get_variant() != Variant::RFC4122 || zeros != 0 {
        return None;
    }
    let time = (bits >> 80) << 16 | (bits >> 64 & 0xfff) << 4 | (bits >> (LOW_BITS - 4) & 0xf);
    let series = u32::try_from(bits & u128::from(u32::MAX)).ok()?;
    Some((
        series.cast_signed(),
        u64::try_from(time).ok()?.cast_signed(),
    ))
}

/// What the samples of one series share, as it is written.
pub(super) struct Shared {
    names: String,
    unit: String,
    labels: String,
}

impl Shared {
    pub(super) fn of(name: &SeriesName) -> serde_json::Result<Self> {
        Ok(Self {
            names: format!(
                "\",\"service_name\":{},\"metric_type\":{},\"metric_value\":",
                serde_json::to_string(&name.service_name)?,
                serde_json::to_string(&name.metric_type)?
            ),
            unit: format!(
                ",\"unit\":{},\"timestamp\":\"",
                serde_json::to_string(&name.unit)?
            ),
            labels: format!(",\"labels\":{}", serde_json::to_string(&name.labels)?),
        })
    }
}

/// About how many bytes a sample is long in an answer.
pub const BYTES_OF_ONE: usize = 280;

/// Samples as the contract shows them, each with what became of it; an array, or the only one of them.
pub fn write(
    names: &[SeriesName],
    sent: &[NewSample],
    recorded: &[RecordedSample],
    as_array: bool,
) -> serde_json::Result<Vec<u8>> {
    let shared: Vec<Shared> = names.iter().map(Shared::of).collect::<Result<_, _>>()?;
    let mut out = Vec::with_capacity(sent.len() * BYTES_OF_ONE + 2);
    let mut clock = Clock::default();
    if as_array {
        out.push(b'[');
    }
    for (index, (sample, became)) in sent.iter().zip(recorded).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if let Some(shared) = shared.get(sample.series) {
            write_one(&mut out, &mut clock, shared, sample, became)?;
        }
    }
    if as_array {
        out.push(b']');
    }
    Ok(out)
}

fn write_one(
    out: &mut Vec<u8>,
    clock: &mut Clock,
    shared: &Shared,
    sample: &NewSample,
    recorded: &RecordedSample,
) -> serde_json::Result<()> {
    // Minus zero is stored as zero.
    let sent = sample.value + 0.0;
    let (value, became) = match &recorded.outcome {
        Outcome::Stored => (sent, "stored"),
        Outcome::Duplicate => (sent, "duplicate"),
        Outcome::Conflict { stored } => (*stored, "conflict"),
        // Of a batch that is recorded whole, none is answered for in this way.
        Outcome::Withheld | Outcome::Rejected(_) => (sent, "rejected"),
    };
    let (id, at) = (sample_id(recorded.series_id, recorded.at), recorded.at);
    write_sample(
        out,
        clock,
        shared,
        id,
        at,
        value,
        sample.metadata.as_deref(),
    )?;
    out.extend_from_slice(b",\"outcome\":\"");
    out.extend_from_slice(became.as_bytes());
    out.extend_from_slice(b"\"}");
    Ok(())
}

/// Writes a sample up to its labels; its last brace is left to the caller.
pub(super) fn write_sample(
    out: &mut Vec<u8>,
    clock: &mut Clock,
    shared: &Shared,
    id: Uuid,
    at: i64,
    value: f64,
    metadata: Option<&str>,
) -> serde_json::Result<()> {
    let mut buffer = Uuid::encode_buffer();
    let id = id.hyphenated().encode_lower(&mut buffer);
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(shared.names.as_bytes());
    serde_json::to_writer(&mut *out, &value)?;
    out.extend_from_slice(shared.unit.as_bytes());
    clock.write(out, at);
    out.extend_from_slice(b"\",\"metric_metadata\":");
    let metadata = metadata.unwrap_or("null");
    out.extend_from_slice(metadata.as_bytes());
    out.extend_from_slice(shared.labels.as_bytes());
    Ok(())
}

const MICROS_A_DAY: i64 = 86_400_000_000;

/// Writes times as RFC 3339 in UTC. Most are of the same day as the one before: its date is kept.
#[derive(Default)]
pub struct Clock {
    day: i64,
    date: String,
}

impl Clock {
    /// Writes a time in microseconds, with as many groups of three decimals as it needs.
    pub fn write(&mut self, out: &mut Vec<u8>, at: i64) {
        let (day, micros) = (at.div_euclid(MICROS_A_DAY), at.rem_euclid(MICROS_A_DAY));
        if self.date.is_empty() || day != self.day {
            let date = DateTime::from_timestamp_micros(at).unwrap_or_default();
            self.day = day;
            self.date = format!("{:04}-{:02}-{:02}T", date.year(), date.month(), date.day());
        }
        out.extend_from_slice(self.date.as_bytes());
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        digits(out, seconds / 3_600, 2);
        out.push(b':');
        digits(out, seconds / 60 % 60, 2);
        out.push(b':');
        digits(out, seconds % 60, 2);
        if micros % 1_000 != 0 {
            out.push(b'.');
            digits(out, micros, 6);
        } else if micros != 0 {
            out.push(b'.');
            digits(out, micros / 1_000, 3);
        }
        out.push(b'Z');
    }
}

fn digits(out: &mut Vec<u8>, number: i64, count: u32) {
    for place in (0..count).rev() {
        let digit = number / 10_i64.pow(place) % 10;
        out.push(b'0' + u8::try_from(digit).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_read_back_and_ids_of_a_series_sort_by_time(series: i32, at: i64, later in 1..i64::MAX) {
            let id = sample_id(series, at);
            prop_assert_eq!(sample_of(id), Some((series, at)));
            prop_assert_eq!(id.get_version_num(), 8);
            prop_assert_eq!(id.get_variant(), Variant::RFC4122);
            let at = at.checked_abs().unwrap_or(i64::MAX);
            if let Some(later) = at.checked_add(later) {
                prop_assert!(sample_id(series, at) < sample_id(series, later));
            }
        }

        #[test]
        fn a_time_is_written_as_everywhere_else(at in -62_135_596_800_000_000_i64..253_402_300_800_000_000, unit in 0..3_u32) {
            let at = at - at % 1_000_i64.pow(unit);
            let mut out = Vec::new();
            Clock::default().write(&mut out, at);
            let time = DateTime::from_timestamp_micros(at).unwrap();
            prop_assert_eq!(json!(String::from_utf8(out).unwrap()), json!(time));
        }
    }

    #[test]
    fn other_ids_are_no_samples() {
        for id in [Uuid::nil(), Uuid::max(), Uuid::new_v4()] {
            assert_eq!(sample_of(id), None);
        }
        let mut bytes = *sample_id(7, 1_700_000_000_000_000).as_bytes();
        bytes[10] |= 1;
        assert_eq!(sample_of(Uuid::from_bytes(bytes)), None);
    }

    #[test]
    fn samples_are_written_as_they_are_documented() {
        let name = |unit: &str| SeriesName {
            service_name: "a\"b".into(),
            metric_type: "c\\ä".into(),
            unit: unit.into(),
            labels: [("k\n".to_owned(), "v\u{1}".to_owned())].into(),
        };
        let names = [name(""), name("%")];
        let outcomes: [(Outcome, Became, f64); 3] = [
            (Outcome::Stored, Became::Stored, 1.5),
            (Outcome::Duplicate, Became::Duplicate, 1.5),
            (
                Outcome::Conflict { stored: -1e300 },
                Became::Conflict,
                -1e300,
            ),
        ];
        let at = |index: i64| 1_769_860_800_000_000 + index * 86_400_000_500;
        let (mut sent, mut recorded) = (Vec::new(), Vec::new());
        for (index, (outcome, ..)) in outcomes.iter().enumerate() {
            let time = at(i64::try_from(index).unwrap());
            sent.push(NewSample {
                series: index % 2,
                at: None,
                value: 1.5,
                metadata: (index == 1).then(|| r#"{"a": [1, null]}"#.into()),
            });
            recorded.push(RecordedSample {
                series_id: 7,
                at: time,
                outcome: outcome.clone(),
            });
        }
        let written = write(&names, &sent, &recorded, true).unwrap();
        let read: Vec<Metric> = serde_json::from_slice(&written).unwrap();
        assert_eq!(read.len(), 3);
        for (index, metric) in read.iter().enumerate() {
            let (_, became, value) = &outcomes[index];
            assert_eq!(metric.metric_value.to_bits(), (value + 0.0).to_bits());
            assert_eq!(metric.outcome, *became);
            let time = metric.timestamp.timestamp_micros();
            assert_eq!(sample_of(metric.id), Some((7, time)));
            assert_eq!(time, at(i64::try_from(index).unwrap()));
            assert_eq!(metric.labels, names[0].labels);
            assert_eq!(metric.unit, ["", "%", ""][index]);
        }
        assert_eq!(json!(read[1].metric_metadata), json!({"a": [1, null]}));
        let one = write(&names, &sent[..1], &recorded[..1], false).unwrap();
        assert_eq!(serde_json::from_slice::<Metric>(&one).unwrap(), read[0]);
        assert_eq!(write(&[], &[], &[], true).unwrap(), b"[]");
    }
}

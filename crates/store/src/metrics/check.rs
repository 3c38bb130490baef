//! What a sample may be: names, labels, values, times, metadata. Pure.

use serde_json::Value;

use super::sample::{
    MAX_METRIC_TYPE, MAX_SERVICE_NAME, MAX_UNIT, MAX_VALUE, NewSample, Reason, Rejection,
    SeriesName,
};
use crate::config::MetricsSettings;

const MICROS_A_SECOND: i64 = 1_000_000;
const MICROS_A_DAY: i64 = 86_400 * MICROS_A_SECOND;

/// How deeply metadata may be nested.
const MAX_DEPTH: usize = 32;

fn reject<T>(
    reason: Reason,
    field: &'static str,
    message: impl Into<String>,
) -> Result<T, Rejection> {
    Err(Rejection {
        reason,
        field,
        message: message.into(),
    })
}

/// Refuses a name that no series may have.
pub(super) fn name(name: &SeriesName, settings: &MetricsSettings) -> Result<(), Rejection> {
    for (field, text, min, max) in [
        ("service_name", &name.service_name, 1, MAX_SERVICE_NAME),
        ("metric_type", &name.metric_type, 1, MAX_METRIC_TYPE),
        ("unit", &name.unit, 0, MAX_UNIT),
    ] {
        if min > 0 && text.trim().is_empty() {
            return reject(Reason::BadName, field, "must not be empty");
        }
        if text.chars().nth(max).is_some() {
            return reject(
                Reason::BadName,
                field,
                format!("must have at most {max} characters"),
            );
        }
        if text.chars().any(char::is_control) {
            return reject(Reason::BadName, field, "must have no control characters");
        }
    }
    labels(name, settings)
}

fn labels(name: &SeriesName, settings: &MetricsSettings) -> Result<(), Rejection> {
    let max = settings.max_labels_per_series;
    let bad = |message: String| reject(Reason::BadLabels, "labels", message);
    if name.labels.len() > max {
        return bad(format!(
            "at most {max} labels are accepted, found {}",
            name.labels.len()
        ));
    }
    for (key, value) in &name.labels {
        if key.is_empty() {
            return bad("a label's name must not be empty".into());
        }
        for (what, text, longest) in [
            ("name", key, settings.max_label_name_characters),
            ("value", value, settings.max_label_value_characters),
        ] {
            if text.chars().nth(longest).is_some() {
                return bad(format!(
                    "a label's {what} must have at most {longest} characters"
                ));
            }
            if text.chars().any(char::is_control) {
                return bad(format!("a label's {what} must have no control characters"));
            }
        }
    }
    Ok(())
}

/// The times that are accepted: from, and up to and including.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    from: i64,
    to: i64,
    days: i64,
    ahead_seconds: i64,
}

impl Horizon {
    /// At this moment, in microseconds. Whole days, since samples are archived by days.
    pub fn at(now: i64, settings: &MetricsSettings) -> Self {
        let today = now.div_euclid(MICROS_A_DAY);
        Self {
            from: (today - settings.hot_days).saturating_mul(MICROS_A_DAY),
            to: now.saturating_add(settings.max_ahead_seconds.saturating_mul(MICROS_A_SECOND)),
            days: settings.hot_days,
            ahead_seconds: settings.max_ahead_seconds,
        }
    }

    fn admits(self, at: i64) -> Result<(), Rejection> {
        if at < self.from {
            let days = self.days;
            return reject(
                Reason::TooOld,
                "timestamp",
                format!("is more than {days} days old: samples that old are archived"),
            );
        }
        if at > self.to {
            let seconds = self.ahead_seconds;
            return reject(
                Reason::TooFarAhead,
                "timestamp",
                format!(
                    "is more than {seconds} seconds in the future: check the clock of the sender"
                ),
            );
        }
        Ok(())
    }
}

/// Refuses a sample that cannot be stored; its metadata comes back in the form in which it is stored.
pub(super) fn sample(
    sample: &NewSample,
    horizon: Horizon,
    settings: &MetricsSettings,
) -> Result<Option<Box<str>>, Rejection> {
    if !sample.value.is_finite() {
        return reject(
            Reason::NotANumber,
            "metric_value",
            "must be a finite number",
        );
    }
    if sample.value.abs() > MAX_VALUE {
        return reject(
            Reason::ValueTooGreat,
            "metric_value",
            "must be between -1e300 and 1e300, so that sums of it are numbers",
        );
    }
    if let Some(at) = sample.at {
        horizon.admits(at)?;
    }
    let Some(metadata) = sample.metadata.as_deref() else {
        return Ok(None);
    };
    let max = settings.max_metadata_bytes;
    let bad = |message: String| reject(Reason::BadMetadata, "metric_metadata", message);
    if metadata.len() > max {
        return bad(format!("must have at most {max} bytes"));
    }
    let Ok(value) = serde_json::from_str::<Value>(metadata) else {
        return bad("must be a JSON object".into());
    };
    if !value.is_object() {
        return bad("must be a JSON object".into());
    }
    if !is_storable(&value, MAX_DEPTH) {
        return bad(format!(
            "must have no NUL characters (\\u0000) and at most {MAX_DEPTH} levels"
        ));
    }
    Ok(Some(value.to_string().into()))
}

/// Whether the database can hold it.
fn is_storable(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.contains('\0'),
        _ if depth == 0 => false,
        Value::Array(items) => items.iter().all(|item| is_storable(item, depth - 1)),
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| !name.contains('\0') && is_storable(value, depth - 1)),
    }
}

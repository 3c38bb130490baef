//! Samples in every form that is accepted, and what is to be said of others.

use std::collections::BTreeMap;

use serde_json::Value;
use utxoiq_store::metrics::{Batch, NewSample, SeriesName, micros};

use super::Lengths;
use crate::{
    error::ApiResult,
    input::{self, FINITE, Input},
};

const NUL: &str = "must not contain NUL characters";

/// A sample that was read, and its series.
pub type Read = (SeriesName, NewSample);

/// A body that is one sample.
pub fn one(body: &[u8], lengths: Lengths) -> ApiResult<Batch> {
    let mut input = Input::body(input::document(body)?)?;
    let (name, sample) = sample(&mut input, lengths);
    input.finish()?;
    let mut batch = Batch::default();
    push(&mut batch, name, sample);
    Ok(batch)
}

/// A body that is an array of samples.
pub fn batch(body: &[u8], lengths: Lengths, most: usize) -> ApiResult<Batch> {
    let items = Input::items(input::document(body)?, most)?;
    let mut batch = Batch::default();
    let mut errors: Option<Input> = None;
    for mut item in items {
        let (name, sample) = sample(&mut item, lengths);
        push(&mut batch, name, sample);
        errors = Some(match errors {
            Some(errors) => errors.and(item),
            None => item,
        });
    }
    errors.map_or(Ok(()), Input::finish)?;
    Ok(batch)
}

/// Reads one sample. What it returns is right only if [`Input::finish`] says so.
pub fn sample(input: &mut Input, lengths: Lengths) -> Read {
    let name = SeriesName {
        service_name: input.name("service_name", 1..=lengths.service_name),
        metric_type: input.name("metric_type", 1..=lengths.metric_type),
        unit: input.name("unit", 0..=lengths.unit),
        labels: labels(input, "labels"),
    };
    let sample = NewSample {
        series: 0,
        value: input.float("metric_value", FINITE),
        at: input.optional_time("timestamp").map(micros),
        metadata: metadata(input, "metric_metadata"),
    };
    (name, sample)
}

/// Adds a sample to a batch.
fn push(batch: &mut Batch, name: SeriesName, sample: NewSample) {
    let series = batch.series(name);
    batch.push(NewSample { series, ..sample });
}

/// An object of strings.
fn labels(input: &mut Input, field: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    match input.raw(field) {
        None => {}
        Some(Value::Object(fields)) => {
            for (key, value) in fields {
                match value {
                    Value::String(value) if !key.contains('\0') && !value.contains('\0') => {
                        labels.insert(key, value);
                    }
                    Value::String(_) => input.refuse(field, NUL),
                    _ => input.refuse(field, format!("{key:?} must be a string")),
                }
            }
        }
        Some(_) => input.refuse(field, "must be an object of strings"),
    }
    labels
}

/// An object, as text. It goes into jsonb, which cannot hold NUL.
fn metadata(input: &mut Input, field: &str) -> Option<Box<str>> {
    match input.raw(field)? {
        object @ Value::Object(_) if has_nul(&object) => {
            input.refuse(field, NUL);
            None
        }
        object @ Value::Object(_) => Some(object.to_string().into()),
        _ => {
            input.refuse(field, "must be a JSON object");
            None
        }
    }
}

/// Whether there is a NUL in any text of a document. The parser has bounded its depth.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

//! What senders of samples may send.

use std::collections::BTreeMap;

use axum::body::Bytes;
use utxoiq_store::metrics::Batch;

use super::{
    body::unsnap,
    import, otlp,
    read::labels,
    remote_write,
    write::{Lengths, fast, fast_line, general},
};
use crate::{error::ApiResult, fuzz::refused};

/// What a body may become, decompressed.
const MOST_BYTES: usize = 1 << 20;

fn is_refused_rightly<T>(read: ApiResult<T>) -> Option<T> {
    read.map_err(|error| refused(&error)).ok()
}

/// OTLP in protocol buffers.
pub fn otlp_protobuf(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    is_refused_rightly(otlp::gather(&body, otlp::Encoding::Protobuf));
}

/// OTLP in JSON.
pub fn otlp_json(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    is_refused_rightly(otlp::gather(&body, otlp::Encoding::Json));
}

/// Remote write: a block of snappy, and what might be in one.
pub fn remote_write(bytes: &[u8]) {
    if let Some(message) = is_refused_rightly(unsnap(bytes, MOST_BYTES)) {
        assert!(message.len() <= MOST_BYTES);
        is_refused_rightly(remote_write::gather(&message));
    }
    is_refused_rightly(remote_write::gather(bytes));
}

/// What the quick reader takes, the general one takes as the same.
fn assert_same(fast: &Batch, general: Option<&Batch>) {
    let general = general.map(|general| (general.names(), format!("{:?}", general.samples())));
    let fast = (fast.names(), format!("{:?}", fast.samples()));
    assert_eq!(general, Some(fast));
}

/// Samples in JSON: one, and many.
pub fn samples(bytes: &[u8]) {
    let one = is_refused_rightly(general::one(bytes, Lengths::CONTRACT));
    if let Some(fast) = fast::one(bytes, Lengths::CONTRACT) {
        assert_same(&fast, one.as_ref());
    }
    let many = is_refused_rightly(general::batch(bytes, Lengths::CONTRACT, 100));
    if let Some(fast) = fast::batch(bytes, Lengths::CONTRACT, 100) {
        assert_same(&fast, many.as_ref());
    }
}

/// A file of lines.
pub fn lines(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(fast) = fast_line(line, Lengths::STORE) {
            let general = import::general_line(line).ok();
            assert_eq!(format!("{:?}", Some(fast)), format!("{general:?}"));
        }
    }
    is_refused_rightly(import::ndjson(&Bytes::copy_from_slice(bytes)));
}

/// A file of CSV.
pub fn csv(bytes: &[u8]) {
    is_refused_rightly(import::csv::rows(&Bytes::copy_from_slice(bytes)));
}

/// Conditions on labels: what was read can be asked for again.
pub fn labels(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(read) = labels::parse(text) {
        assert_eq!(labels::parse(&written(&read)), Ok(read));
    }
}

fn written(labels: &BTreeMap<String, String>) -> String {
    let escaped = |text: &str| {
        let escape = |c: char| {
            matches!(c, '\\' | ',' | '=')
                .then_some('\\')
                .into_iter()
                .chain([c])
        };
        text.chars().flat_map(escape).collect::<String>()
    };
    let pairs: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect();
    pairs.join(",")
}

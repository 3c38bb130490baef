//! What is tried on every parser of this crate that reads what a client sends; see `utxoiq_store::fuzz` for what a target is.

use std::net::IpAddr;

use axum::http::{Extensions, HeaderMap, HeaderValue};
use serde_json::Value;

use crate::{
    api::metrics,
    auth::{
        jwks::Keys,
        jwt::{self, Jwt},
    },
    client::{self, Peer},
    error::{ApiError, ApiResult},
    input::{self, FINITE, Input},
};

/// A name, and what is tried.
pub type Target = (&'static str, fn(&[u8]));

/// All targets of this crate. A parser that is added gets a line here and an input in `fuzz/corpus/<name>/`.
pub const TARGETS: &[Target] = &[
    ("forwarded_for", forwarded_for),
    ("import_csv", metrics::fuzz::csv),
    ("import_lines", metrics::fuzz::lines),
    ("json_body", json_body),
    ("jwks", key_set),
    ("jwt", user_token),
    ("labels", metrics::fuzz::labels),
    ("metrics_json", metrics::fuzz::samples),
    ("otlp_json", metrics::fuzz::otlp_json),
    ("otlp_protobuf", metrics::fuzz::otlp_protobuf),
    ("query", query),
    ("remote_write", metrics::fuzz::remote_write),
];

/// What is refused is refused as the client's fault.
pub(crate) fn refused(error: &ApiError) {
    assert!(error.status().is_client_error(), "{error:?}");
    assert!(!error.detail().is_empty());
}

/// Each kind of field.
fn read_fields(mut input: Input) -> ApiResult<()> {
    let text = input.text("text", 1..=10);
    let name = input.optional_name("name", 1..=10);
    let int = input.int_or("int", -5..=i64::MAX, 0);
    let float = input.optional_float("float", FINITE);
    let bounded = input.optional_float("percent", 0.0..=100.0);
    let time = input.optional_time("time");
    let day = input.optional_day("day");
    let id = input.optional_uuid("id");
    let choice = input.optional_one_of("choice", &[("a", 1), ("b", 2)]);
    input.optional_bool("flag");
    input.raw("raw");
    input.finish()?;
    assert!((1..=10).contains(&text.chars().count()) && !text.contains('\0'));
    assert!(name.is_none_or(|name| !name.contains(char::is_control)));
    assert!(int >= -5);
    assert!(float.is_none_or(f64::is_finite));
    assert!(bounded.is_none_or(|percent| (0.0..=100.0).contains(&percent)));
    // What was read can be written: into an answer, a cursor, a statement.
    if let Some(time) = time {
        assert!(!time.to_rfc3339().is_empty());
        assert_eq!(
            time.timestamp_subsec_nanos() % 1_000,
            0,
            "cut to microseconds"
        );
    }
    assert!(day.is_none_or(|day| !day.to_string().is_empty()));
    assert!(id.is_none_or(|id| !id.to_string().is_empty()));
    assert!(choice.is_none_or(|choice| (1..=2).contains(&choice)));
    Ok(())
}

/// A body of JSON, and its fields.
fn json_body(bytes: &[u8]) {
    let document = match input::document(bytes) {
        Ok(document) => document,
        Err(error) => return refused(&error),
    };
    let written = document.to_string();
    let again: Option<Value> = input::document(written.as_bytes()).ok();
    assert_eq!(again.as_ref(), Some(&document), "{written}");
    if let Ok(items) = Input::items(document.clone(), 100) {
        for item in items {
            let _ = read_fields(item).map_err(|error| refused(&error));
        }
    }
    let read = Input::body(document).and_then(read_fields);
    let _ = read.map_err(|error| refused(&error));
}

/// A query string, and its fields.
fn query(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let read = Input::query(text).and_then(read_fields);
        let _ = read.map_err(|error| refused(&error));
    }
}

/// An end user's token, before anything about it is believed.
fn user_token(bytes: &[u8]) {
    let read = jwt::read_untrusted(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(read.is_err());
        return;
    };
    if let Ok(token) = Jwt::read(text) {
        // What is signed is all but the signature, to the last byte.
        let signed = text.rsplit_once('.').map(|(signed, _)| signed.as_bytes());
        assert_eq!(Some(token.signed), signed);
        assert!(!token.key_id.is_empty());
    }
}

/// What an identity provider publishes.
fn key_set(bytes: &[u8]) {
    if let Ok(keys) = Keys::read(bytes) {
        assert!(keys.count() > 0);
    }
}

/// The header in which proxies name their clients.
fn forwarded_for(bytes: &[u8]) {
    let mut extensions = Extensions::new();
    extensions.insert(Peer(IpAddr::from([127, 0, 0, 1])));
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", value);
        }
    }
    for proxies in [0, 1, 3] {
        assert!(client::address(&extensions, &headers, proxies).is_some());
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_input_and_thousands_like_it_break_no_parser() {
        super::replay::all(TARGETS);
    }
}

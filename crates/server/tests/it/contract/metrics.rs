//! The recorded metrics calls (`recorded_metrics.json`), in the way of [`super`]: of the batch of 5,000, whose body and answer
//! were cut when they were recorded, the rows are as its name says.
//!
//! Here, too, calls are missing in the recording: samples of `cpu` with metadata, and those of `nanstr`. They are not guessed
//! into the replay.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{RECORDED_AT, Replay, check_refusal, naive, rejected_fields};
use crate::support::Answer;

/// What is answered instead.
enum Ours {
    /// A refusal: code, rejected fields. The status is 422 for all of them.
    Refusal(&'static str, &'static [&'static str]),
    /// So many samples: those of the recorded answer as far as there are any.
    Samples(usize),
    /// An aggregate of so many buckets, with its times.
    Buckets(usize),
}

/// Members that our samples and buckets have beyond the recorded ones.
const FURTHER: [&str; 8] = [
    "labels",
    "outcome",
    "sum_value",
    "last_value",
    "p50",
    "p95",
    "p99",
    "complete",
];

/// Where we answer otherwise: the call, our answer, the reason.
fn differences() -> Vec<(&'static str, Ours, &'static str)> {
    let aware = "times with an offset are times: the recorded server failed";
    let missing = "the call that recorded the second sample is not recorded";
    vec![
        (
            "metric with client timestamp (ignored)",
            Ours::Refusal("invalid_input", &["timestamp"]),
            "a client's time is kept, and refused beyond the hot horizon",
        ),
        (
            "metric 1e400",
            Ours::Refusal("malformed_json", &[]),
            "beyond a double: the recorded server failed",
        ),
        (
            "metric metadata with NUL",
            Ours::Refusal("invalid_input", &["metric_metadata"]),
            "PostgreSQL stores no NUL: the recorded server failed",
        ),
        (
            "batch one bad (whole batch rejected)",
            Ours::Refusal("invalid_input", &["1.metric_value"]),
            "the answer names the position",
        ),
        (
            "query naive, NaN row excluded by other type, limit 2",
            Ours::Samples(1),
            missing,
        ),
        ("query aware (Z) with service+type", Ours::Samples(1), aware),
        (
            "query aware (Z) without service/type",
            Ours::Samples(1_000),
            aware,
        ),
        ("query aware +00:00 url-encoded", Ours::Samples(1), aware),
        (
            "query unix seconds",
            Ours::Refusal("invalid_input", &["start_time", "end_time"]),
            "times are RFC 3339: the recorded server failed",
        ),
        (
            "query recent (within 1h: cache fill)",
            Ours::Samples(1),
            missing,
        ),
        (
            "query recent again (cache hit; note limit applies, offset ignored, value from the first fill)",
            Ours::Samples(0),
            "the offset counts, whatever is cached",
        ),
        (
            "query NaN/Inf rows",
            Ours::Samples(0),
            "there are none: NaN and infinities are refused",
        ),
        (
            "aggregate hour (naive)",
            Ours::Buckets(1),
            "the times are those asked for and the hour's",
        ),
        ("aggregate aware", Ours::Buckets(1), aware),
        (
            "aggregate empty result",
            Ours::Buckets(0),
            "the times are those asked for",
        ),
        (
            "aggregate over NaN",
            Ours::Buckets(0),
            "there are none: NaN and infinities are refused",
        ),
    ]
}

fn recorded() -> Vec<Value> {
    let mut calls: Vec<Value> =
        serde_json::from_str(include_str!("../recorded_metrics.json")).unwrap();
    for call in calls.iter_mut().filter(|call| call["truncated"] == true) {
        assert_eq!(call["name"], "batch 5000 rows");
        let row = json!({"service_name": "svc-509f65", "metric_type": "bulk", "metric_value": 45.5, "unit": "percent"});
        call["body"] = Value::Array(vec![row; 5_000]).to_string().into();
        let shown = json!({
            "id": "each has its own", "service_name": "svc-509f65", "metric_type": "bulk", "metric_value": 45.5,
            "unit": "percent", "timestamp": RECORDED_AT, "metric_metadata": null,
        });
        call["answer"] = Value::Array(vec![shown; 5_000]).to_string().into();
    }
    calls
}

/// A recorded time, at the time of the replay.
fn shifted(replay: &Replay, text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim_end_matches('Z').trim_end_matches("%2B00:00");
    Some(replay.began + (naive(text)? - naive(RECORDED_AT)?))
}

/// A recorded path with its times moved to now, written as they were.
fn shifted_path(replay: &Replay, path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else {
        return path.to_owned();
    };
    let pairs = query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        let Some(time) = shifted(replay, value) else {
            return pair.to_owned();
        };
        let zone = &value[RECORDED_AT.len()..];
        format!("{name}={}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.6f"))
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// Takes out of a sample or a bucket what only ours has.
fn without_further(mut part: Value) -> Value {
    if let Some(fields) = part.as_object_mut() {
        fields.retain(|name, _| !FURTHER.contains(&name.as_str()));
    }
    part
}

fn list(value: &Value) -> Vec<Value> {
    let parts = value.as_array().unwrap().iter().cloned();
    parts.map(without_further).collect()
}

/// Compares samples with the recorded ones; ids are noted where they were given.
fn check_samples(replay: &mut Replay, name: &str, expected: &Value, ours: &[Value]) {
    for (sample, recorded) in ours.iter().zip(expected.as_array().unwrap()) {
        let mut recorded = recorded.clone();
        let (id, own) = (recorded["id"].take(), sample["id"].clone());
        let id = id.as_str().unwrap().to_owned();
        let known = replay
            .ids
            .entry(id)
            .or_insert_with(|| own.as_str().unwrap().to_owned());
        if expected.as_array().unwrap().len() < 5_000 {
            assert_eq!(own, json!(known), "{name}");
        }
        recorded["id"] = own;
        replay.compare(name, &recorded, sample);
    }
}

fn check_buckets(name: &str, path: &str, expected: &Value, answer: &Answer) {
    let body = answer.json();
    for bound in ["start_time", "end_time"] {
        let shown: DateTime<Utc> = body[bound].as_str().unwrap().parse().unwrap();
        let asked = path.split(&format!("{bound}=")).nth(1).unwrap();
        let asked = asked.split('&').next().unwrap();
        assert_eq!(
            Some(shown.naive_utc()),
            naive(asked.trim_end_matches('Z')),
            "{name}"
        );
    }
    for field in ["service_name", "metric_type", "interval"] {
        if !expected[field].is_null() {
            assert_eq!(body[field], expected[field], "{name}");
        }
    }
    let recorded = expected["data"].as_array().cloned().unwrap_or_default();
    for (bucket, recorded) in list(&body["data"]).into_iter().zip(recorded) {
        let hour = bucket["timestamp"].as_str().unwrap();
        assert!(hour.ends_with(":00:00Z"), "{name}: {hour}");
        for field in ["avg_value", "min_value", "max_value", "count"] {
            assert_eq!(bucket[field], recorded[field], "{name}.{field}");
        }
    }
}

#[tokio::test]
async fn the_recorded_metrics_calls_are_answered_as_recorded_or_as_the_design_says() {
    let mut replay = Replay::empty().await;
    let mut differences: BTreeMap<_, _> = differences()
        .into_iter()
        .map(|(name, ours, why)| (name, (ours, why)))
        .collect();
    let calls = recorded();
    assert_eq!(calls.len(), 30);
    for mut call in calls {
        let name = call["name"].as_str().unwrap().to_owned();
        let path = shifted_path(&replay, call["path"].as_str().unwrap());
        call["path"] = json!(path);
        let status = u16::try_from(call["status"].as_u64().unwrap()).unwrap();
        let expected: Value = serde_json::from_str(call["answer"].as_str().unwrap()).unwrap();
        let answer = replay.send(&call).await;
        let difference = differences.remove(name.as_str());
        let why = difference.as_ref().map_or("as recorded", |row| row.1);
        let name = format!("{name} ({why})");
        if !matches!(difference, Some((Ours::Refusal(..), _)))
            && (status == 200 || difference.is_some())
        {
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
            answer.assert_common_headers();
        }
        match difference.map(|row| row.0) {
            Some(Ours::Refusal(code, fields)) => check_refusal(&name, &answer, 422, code, fields),
            None if status != 200 => {
                let fields = rejected_fields(&expected);
                assert!(!fields.is_empty(), "{name}");
                check_refusal(&name, &answer, status, "invalid_input", &fields);
            }
            Some(Ours::Buckets(count)) => {
                assert_eq!(
                    answer.json()["data"].as_array().unwrap().len(),
                    count,
                    "{name}"
                );
                check_buckets(&name, &path, &expected, &answer);
            }
            Some(Ours::Samples(count)) => {
                let ours = list(&answer.json());
                assert_eq!(ours.len(), count, "{name}");
                let more = answer.header("link").is_some();
                assert_eq!(more, count == 1_000, "{name}: never a silent cut");
                if status == 200 {
                    check_samples(&mut replay, &name, &expected, &ours);
                }
            }
            None => {
                let ours = list(&answer.json());
                assert_eq!(ours.len(), expected.as_array().unwrap().len(), "{name}");
                check_samples(&mut replay, &name, &expected, &ours);
                let stored = call["method"] == "POST" && !ours.is_empty();
                assert_eq!(answer.header("store-version").is_some(), stored, "{name}");
            }
        }
    }
    let unused: Vec<_> = differences.keys().collect();
    assert!(unused.is_empty(), "no call needs {unused:?}");
}

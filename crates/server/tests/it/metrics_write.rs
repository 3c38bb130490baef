//! Metrics that are written, each way in, over a database.

mod files;
mod opentelemetry;
mod prometheus;
mod torn;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::process::Command;
use utxoiq_store::clock::{Clock as _, SystemClock};
use utxoiq_store_server::api::metrics::wire::{Became, Metric, sample_of};

use crate::{
    live::{Live, answer},
    support::Answer,
};

const ONE: &str = "/api/v1/monitoring/metrics";
const BATCH: &str = "/api/v1/monitoring/metrics/batch";

/// A time that was, cut to seconds.
fn ago(seconds: i64) -> DateTime<Utc> {
    let now = SystemClock.now().timestamp();
    DateTime::from_timestamp(now, 0).unwrap() - TimeDelta::seconds(seconds)
}

fn metric(value: impl Into<Value>, at: Option<DateTime<Utc>>) -> Value {
    let value: Value = value.into();
    json!({"service_name": "web", "metric_type": "cpu", "metric_value": value, "unit": "percent", "timestamp": at})
}

/// Everything that is stored: service, type, unit, labels, microseconds, value, metadata; in order.
async fn stored(live: &Live) -> Vec<(String, String, String, Value, i64, f64, Option<Value>)> {
    let sql = "select s.service_name, s.metric_type, s.unit, s.labels, \
               (extract(epoch from m.sampled_at) * 1000000)::bigint, m.value, m.metadata \
               from system_metrics m join metric_series s on s.id = m.series_id \
               order by 1, 2, 3, s.labels::text, 5";
    let admin = live.db.admin().await;
    let rows = admin.query(sql, &[]).await.unwrap();
    let rows = rows.iter().map(|row| {
        let texts = (row.get(0), row.get(1), row.get(2));
        (
            texts.0,
            texts.1,
            texts.2,
            row.get(3),
            row.get(4),
            row.get(5),
            row.get(6),
        )
    });
    rows.collect()
}

async fn count(live: &Live) -> i64 {
    let admin = live.db.admin().await;
    let sql = "select count(*) from system_metrics";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

async fn send(live: &Live, path: &str, body: &Value) -> Answer {
    answer(live.authorized("POST", path).json(body)).await
}

fn metrics(answer: &Answer) -> Vec<Metric> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.assert_common_headers();
    match answer.json() {
        list @ Value::Array(_) => serde_json::from_value(list).unwrap(),
        one => vec![serde_json::from_value(one).unwrap()],
    }
}

fn outcomes(answer: &Answer) -> Vec<Became> {
    metrics(answer)
        .iter()
        .map(|metric| metric.outcome)
        .collect()
}

#[tokio::test]
async fn a_sample_is_stored_once_and_the_answer_says_what_became_of_it() {
    let live = Live::new(&[]).await;
    let at = ago(60);
    let mut body = metric("45.5", Some(at));
    body["metric_metadata"] = json!({"host": "h", "deep": [{"a": 1}]});
    body["labels"] = json!({"zone": "a"});
    let first = send(&live, ONE, &body).await;
    assert!(first.header("store-version").is_some(), "{first:?}");
    let shown = &metrics(&first)[0];
    assert_eq!((shown.metric_value, shown.timestamp), (45.5, at));
    assert_eq!(json!(shown.metric_metadata), body["metric_metadata"]);
    assert_eq!(json!(shown.labels), body["labels"]);
    assert_eq!(shown.outcome, Became::Stored);
    let (series, micros) = sample_of(shown.id).unwrap();
    assert_eq!(micros, at.timestamp_micros());
    let admin = live.db.admin().await;
    let sql = "select service_name from metric_series where id = $1";
    let named: String = admin.query_one(sql, &[&series]).await.unwrap().get(0);
    assert_eq!(named, "web");

    let again = send(&live, ONE, &body).await;
    assert_eq!(metrics(&again)[0].id, shown.id);
    assert_eq!(outcomes(&again), [Became::Duplicate]);
    body["metric_value"] = json!(46);
    let other = send(&live, ONE, &body).await;
    assert_eq!(outcomes(&other), [Became::Conflict]);
    assert_eq!(json!(metrics(&other)[0].metric_value), json!(45.5));
    // Without labels it is another series.
    let plain = send(&live, ONE, &metric(7, Some(at))).await;
    assert_eq!(outcomes(&plain), [Became::Stored]);
    let all = stored(&live).await;
    assert_eq!(all.len(), 2);
    let labelled = all
        .iter()
        .find(|one| one.3 == json!({"zone": "a"}))
        .unwrap();
    assert_eq!(labelled.6, Some(json!({"host": "h", "deep": [{"a": 1}]})));
    let values: BTreeSet<_> = all.iter().map(|one| one.5.to_string()).collect();
    assert_eq!(values, BTreeSet::from(["45.5".to_owned(), "7".to_owned()]));
}

#[tokio::test]
async fn samples_without_times_are_told_apart_and_their_replay_is_recognised_by_its_key() {
    let live = Live::new(&[]).await;
    let batch: Value = (0..10_000).map(|value| metric(value, None)).collect();
    let request = || {
        live.authorized("POST", BATCH)
            .header("idempotency-key", "k-1")
    };
    let first = metrics(&answer(request().json(&batch)).await);
    let distinct: BTreeSet<_> = first.iter().map(|metric| metric.timestamp).collect();
    assert_eq!(distinct.len(), 10_000);
    for (index, metric) in first.iter().enumerate() {
        assert!((metric.metric_value - index as f64).abs() < f64::EPSILON);
        assert_eq!(metric.outcome, Became::Stored);
    }
    let again = metrics(&answer(request().json(&batch)).await);
    let ids = |metrics: &[Metric]| metrics.iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&first));
    assert!(again.iter().all(|one| one.outcome == Became::Duplicate));
    let other = answer(request().json(&json!([metric(1, None)]))).await;
    assert_eq!(other.problem(409), "idempotency_key_reused");
    assert_eq!(count(&live).await, 10_000);

    let empty = send(&live, BATCH, &json!([])).await;
    assert_eq!((empty.status.as_u16(), empty.text.as_str()), (200, "[]"));
    let many: Value = (0..10_001).map(|value| metric(value, None)).collect();
    assert_eq!(
        send(&live, BATCH, &many).await.problem(422),
        "invalid_input"
    );
}

#[tokio::test]
async fn one_bad_sample_rejects_its_whole_batch_by_its_position() {
    let limits = [("UTXOIQ_STORE_METRICS__MAX_SERIES_PER_SERVICE", "2")];
    let live = Live::new(&limits).await;
    let at = Some(ago(60));
    let set = |field: &str, value: Value| {
        let mut body = metric(1, at);
        body[field] = value;
        body
    };
    let labels: Value = (0..33)
        .map(|n| (n.to_string(), json!("x")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let cases = [
        ("metric_value", metric("abc", at)),
        ("metric_value", metric("NaN", at)),
        ("metric_value", metric(Value::Null, at)),
        ("metric_value", metric(1.1e300, at)),
        ("timestamp", metric(1, Some(ago(91 * 86_400)))),
        ("timestamp", metric(1, Some(ago(-3_600)))),
        ("timestamp", set("timestamp", json!("yesterday"))),
        ("service_name", set("service_name", json!("s".repeat(101)))),
        ("service_name", set("service_name", json!(""))),
        ("metric_type", set("metric_type", json!("m".repeat(51)))),
        ("unit", set("unit", json!("u".repeat(21)))),
        ("metric_metadata", set("metric_metadata", json!([1]))),
        (
            "metric_metadata",
            set("metric_metadata", json!({"a": "x\0y"})),
        ),
        ("metric_metadata", set("metric_metadata", json!({"a\0": 1}))),
        (
            "metric_metadata",
            set("metric_metadata", json!({"a": "x".repeat(9_000)})),
        ),
        ("labels", set("labels", json!({"a": 1}))),
        ("labels", set("labels", json!({"a": "\0"}))),
        ("labels", set("labels", labels)),
    ];
    for (field, bad) in cases {
        let batch = json!([metric(1, at), bad, metric(2, None)]);
        let refused = send(&live, BATCH, &batch).await;
        assert_eq!(refused.problem(422), "invalid_input", "{bad}");
        assert_eq!(refused.fields(), [format!("1.{field}")], "{bad}");
        let refused = send(&live, ONE, &bad).await;
        assert_eq!(refused.problem(422), "invalid_input", "{bad}");
        assert_eq!(refused.fields(), [field], "{bad}");
    }
    for raw in ["NaN", "Infinity", "1e400", "\"\\ud800\"", "01"] {
        let raw = metric(1, at)
            .to_string()
            .replace(":1,", &format!(":{raw},"));
        for (path, body) in [(ONE, raw.clone()), (BATCH, format!("[{raw}]"))] {
            let request = live
                .authorized("POST", path)
                .header("content-type", "application/json");
            let refused = answer(request.body(body)).await;
            assert_eq!(refused.problem(422), "malformed_json", "{raw}");
        }
    }
    assert_eq!(count(&live).await, 0);
    let series: Value = (0..3)
        .map(|n| set("metric_type", json!(format!("m{n}"))))
        .collect();
    let refused = send(&live, BATCH, &series).await;
    assert_eq!(refused.problem(422), "too_many_series");
    assert_eq!(refused.fields().len(), 1, "{refused:?}");
    assert_eq!(count(&live).await, 0);
}

/// Where what real clients need is kept: below the folder that cargo builds in.
fn kept() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let target = exe
        .ancestors()
        .find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
    target.unwrap().parent().unwrap().join("real-clients")
}

/// Runs a program to its end; what it printed, or why it failed.
async fn run(
    program: impl AsRef<std::ffi::OsStr>,
    arguments: &[&str],
    folder: &Path,
) -> Result<String, String> {
    let running = Command::new(program.as_ref())
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let name = format!("{} {}", program.as_ref().display(), arguments.join(" "));
    let ended = tokio::time::timeout(Duration::from_mins(5), running).await;
    let output = ended
        .map_err(|_| format!("{name}: took too long"))?
        .map_err(|error| format!("{name}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!(
            "{name}: {}: {}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        ))
    }
}

/// A request with a body of a type, and compressed in a way.
fn typed(
    live: &Live,
    path: &str,
    content_type: &str,
    encoding: &str,
    body: Vec<u8>,
) -> RequestBuilder {
    let request = live
        .authorized("POST", path)
        .header("content-type", content_type);
    let request = if encoding.is_empty() {
        request
    } else {
        request.header("content-encoding", encoding)
    };
    request.body(body)
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// A field of a protocol buffer that holds bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

/// Says why a test with a real client was not made.
#[allow(clippy::print_stderr, reason = "a test that was skipped has to say so")]
fn skip(why: &str) {
    eprintln!("skipped, since the client cannot be had here: {why}");
}

//! Metrics that are read, over a database.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use utxoiq_store::clock::{Clock as _, SystemClock};
use utxoiq_store_server::api::metrics::wire_read::{MetricSamples, StoredMetric};

use crate::{
    live::{Live, answer, encode},
    support::Answer,
};

const METRICS: &str = "/api/v1/monitoring/metrics";
const SAMPLES: &str = "/api/v1/monitoring/metrics/samples";

/// A time that was, cut to seconds.
fn ago(seconds: i64) -> DateTime<Utc> {
    let now = SystemClock.now().timestamp();
    DateTime::from_timestamp(now, 0).unwrap() - TimeDelta::seconds(seconds)
}

fn written(at: DateTime<Utc>) -> String {
    encode(&at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
}

/// The range of the last hours, as a query.
fn range(hours: i64) -> String {
    let (start, end) = (ago(hours * 3_600), ago(-60));
    format!("start_time={}&end_time={}", written(start), written(end))
}

async fn get(live: &Live, target: &str) -> Answer {
    answer(live.authorized("GET", target)).await
}

async fn list(live: &Live, target: &str) -> (Vec<StoredMetric>, Option<String>) {
    let answer = get(live, target).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let length = answer.header("content-length").unwrap();
    assert_eq!(length, answer.text.len().to_string());
    let next = answer.header("link").map(|link| {
        let link = link.strip_prefix('<').unwrap();
        link.strip_suffix(">; rel=\"next\"").unwrap().to_owned()
    });
    (serde_json::from_str(&answer.text).unwrap(), next)
}

/// Writes samples a minute apart, the newest a minute ago; gives back what was answered and the version.
async fn write(live: &Live, host: &str, count: i64) -> (Vec<Value>, String) {
    let samples: Vec<Value> = (0..count)
        .map(|n| {
            json!({
                "service_name": "a&b <\"ä\">", "metric_type": "cpu", "metric_value": n as f64 / 4.0, "unit": "%",
                "timestamp": ago(60 + n * 60), "labels": {"host": host, "x=,\\": "1"},
                "metric_metadata": (n % 5 == 0).then(|| json!({"n": n, "deep": {"b": [1, 2.5, null, true, "₿"]}})),
            })
        })
        .collect();
    let request = live.authorized("POST", &format!("{METRICS}/batch"));
    let answer = answer(request.json(&samples)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let version = answer.header("store-version").unwrap().to_owned();
    (answer.json().as_array().unwrap().clone(), version)
}

fn of_service(more: &str) -> String {
    format!(
        "service_name={}&metric_type=cpu&{more}",
        encode("a&b <\"ä\">")
    )
}

#[tokio::test]
async fn a_sample_is_shown_as_it_was_answered_when_it_was_written() {
    let live = Live::new(&[]).await;
    let (mut sent, version) = write(&live, "h,1", 130).await;
    for sample in &mut sent {
        sample.as_object_mut().unwrap().remove("outcome");
    }
    let sent: Vec<StoredMetric> = sent
        .into_iter()
        .map(|sample| serde_json::from_value(sample).unwrap())
        .collect();
    let both = [
        of_service(&range(24)),
        // Not from cached hours: without a type, and for longer than a day.
        format!("service_name={}&{}", encode("a&b <\"ä\">"), range(24)),
        of_service(&range(48)),
        range(24),
    ];
    let mut texts = Vec::new();
    for query in &both {
        let request = live.authorized("GET", &format!("{METRICS}?{query}"));
        let answer = answer(request.header("Store-Version", &version)).await;
        let shown: Vec<StoredMetric> = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(shown, sent, "{query}");
        assert_eq!(answer.header("link"), None);
        texts.push(answer.text);
    }
    assert!(texts.windows(2).all(|two| two[0] == two[1]));
    assert!(!texts[0].contains(": ") || texts[0].contains("\"metric_metadata\":{"));
}

#[tokio::test]
async fn pages_are_followed_by_their_links_to_the_end() {
    let live = Live::new(&[]).await;
    write(&live, "h,1", 100).await;
    write(&live, "h2", 100).await;
    let host = encode(r"host=h\,1,x\=\,\\=1");
    for (query, total) in [
        (of_service(&range(24)), 200),
        (
            of_service(&format!("{}&labels={host}&unit=%25", range(24))),
            100,
        ),
        (range(24), 200),
        (format!("{}&labels={}", range(1), encode("host=h2")), 59),
    ] {
        let (whole, next) = list(&live, &format!("{METRICS}?{query}")).await;
        assert!(
            whole.len().abs_diff(total) <= 1 && next.is_none(),
            "{}",
            whole.len()
        );
        let (mut found, mut next) = (
            Vec::new(),
            Some(format!("{METRICS}?{query}&limit=33&offset=0")),
        );
        let mut pages = 0;
        while let Some(target) = next {
            let (page, after) = list(&live, &target).await;
            found.extend(page);
            next = after;
            pages += 1;
        }
        assert_eq!(found, whole, "{query}");
        assert_eq!(pages, whole.len().div_ceil(33));
    }
    let (none, next) = list(
        &live,
        &format!(
            "{METRICS}?start_time={}&end_time={}",
            written(ago(0)),
            written(ago(3_600))
        ),
    )
    .await;
    assert_eq!((none.len(), next), (0, None));
    let far = get(&live, &format!("{METRICS}?{}&offset=100001", range(1))).await;
    assert_eq!(far.problem(422), "invalid_input");
    assert!(far.text.contains("Link"), "{far:?}");
}

#[tokio::test]
async fn whole_series_stream_as_json_as_lines_and_as_charts() {
    let live = Live::new(&[("UTXOIQ_STORE_METRICS__MAX_SAMPLES_PER_READ", "150")]).await;
    write(&live, "h1", 100).await;
    write(&live, "h2", 100).await;
    let query = of_service(&range(24));
    let (mut samples, mut lines) = (Vec::new(), Vec::new());
    let mut next = Some(format!("{SAMPLES}?{query}"));
    let mut reads = 0;
    while let Some(target) = next {
        let answer = get(&live, &target).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let found: MetricSamples = serde_json::from_str(&answer.text).unwrap();
        for series in &found.series {
            assert_eq!(series.series.labels["x=,\\"], "1");
            let of_series = series.samples.iter();
            samples.extend(
                of_series.map(|sample| (series.series.labels["host"].clone(), sample.clone())),
            );
        }
        next = found.next;
        reads += 1;
    }
    assert_eq!((samples.len(), reads), (200, 2));
    assert!(samples.is_sorted_by_key(|(host, sample)| (host.clone(), sample.timestamp)));

    let mut next = Some(format!("{SAMPLES}?{query}"));
    while let Some(target) = next.take() {
        let request = live.authorized("GET", &target);
        let answer = answer(request.header("Accept", "application/x-ndjson")).await;
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        for line in answer.text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            match line.get("next") {
                Some(there) => next = there.as_str().map(str::to_owned),
                None => lines.push(serde_json::from_value::<StoredMetric>(line).unwrap()),
            }
        }
    }
    let (mut listed, _) = list(&live, &format!("{METRICS}?{query}")).await;
    let key = |metric: &StoredMetric| (metric.labels["host"].clone(), metric.timestamp);
    listed.sort_by_key(key);
    assert_eq!(lines, listed);
    assert!(lines.iter().zip(&samples).all(|(line, (_, sample))| {
        line.timestamp == sample.timestamp && line.metric_metadata == sample.metric_metadata
    }));

    let chart = get(&live, &format!("{SAMPLES}?{query}&points=4")).await;
    let chart: MetricSamples = serde_json::from_str(&chart.text).unwrap();
    assert_eq!((chart.series.len(), chart.next), (2, None));
    for series in chart.series {
        let values: Vec<f64> = series
            .samples
            .iter()
            .map(|sample| sample.metric_value)
            .collect();
        assert_eq!(values, [24.75, 0.0]);
    }
    let none = get(&live, &format!("{SAMPLES}?service_name=none&{}", range(1))).await;
    assert_eq!(none.json(), json!({"series": [], "next": null}));
}

#[tokio::test]
async fn services_and_series_are_listed() {
    let live = Live::new(&[]).await;
    write(&live, "h1", 1).await;
    write(&live, "h2", 1).await;
    let page = get(&live, &format!("{METRICS}/series?limit=1"))
        .await
        .json();
    let next = page["next_cursor"].as_str().unwrap();
    assert_eq!(page["series"][0]["labels"]["host"], "h1");
    let page = get(&live, &format!("{METRICS}/series?limit=1&cursor={next}"))
        .await
        .json();
    assert_eq!(page["series"][0]["labels"]["host"], "h2");
    assert_eq!(page["next_cursor"], Value::Null);
    let services = get(&live, &format!("{METRICS}/services")).await.json();
    assert_eq!(services["services"][0]["series"], 2);
    assert_eq!(services["max_series"], 10_000);
    assert_eq!(services["next_after"], Value::Null);
}

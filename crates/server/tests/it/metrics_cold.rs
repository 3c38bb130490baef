//! Metrics that are in cold storage, over HTTP.

use std::{fs, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tempfile::TempDir;
use utxoiq_store::{
    Store,
    clock::{Clock as _, SystemClock},
    db::roles,
};

use crate::live::{Live, answer, encode};

const METRICS: &str = "/api/v1/monitoring/metrics";

/// So many minutes before the last midnight but one, which a day to be archived and a day that stays have between them.
fn before_midnight(minutes: i64) -> DateTime<Utc> {
    let now = SystemClock.now().timestamp();
    let midnight = now - now.rem_euclid(86_400) - 86_400;
    DateTime::from_timestamp(midnight, 0).unwrap() - TimeDelta::minutes(minutes)
}

async fn write(live: &Live) {
    let samples: Vec<_> = (0..200_i64)
        .map(|n| {
            let at = before_midnight(n * 6 - 11);
            json!({
                "service_name": "api", "metric_type": "cpu", "metric_value": n as f64 / 7.0, "unit": "%",
                "timestamp": at.to_rfc3339(), "labels": {"host": format!("h{}", n % 3)},
                "metric_metadata": (n % 5 == 0).then(|| json!({"n": n, "ä": [1, 2.5, null]})),
            })
        })
        .collect();
    let request = live.authorized("POST", &format!("{METRICS}/batch"));
    let answer = answer(request.json(&samples)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Every kind of read from a time on and before another one.
fn reads(from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<String> {
    let written = |at: DateTime<Utc>| encode(&at.to_rfc3339());
    let range = format!("start_time={}&end_time={}", written(from), written(to));
    let of_one = format!("service_name=api&metric_type=cpu&{range}");
    vec![
        format!("{METRICS}?{of_one}&limit=1000"),
        format!("{METRICS}?{range}&limit=50&offset=20"),
        format!("{METRICS}/samples?{of_one}"),
        format!("{METRICS}/samples?{of_one}&format=ndjson"),
        format!("{METRICS}/samples?{of_one}&points=20"),
        format!("{METRICS}/aggregate?{of_one}&interval=hour"),
    ]
}

async fn bodies(live: &Live, targets: &[String]) -> Vec<(String, Option<String>)> {
    let mut bodies = Vec::new();
    for target in targets {
        let answer = answer(live.authorized("GET", target)).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        let mut text = answer.text.clone();
        if target.contains("/aggregate") {
            // With the rest it says when it was read.
            text = answer.json()["data"].to_string();
            assert!(text.len() > 100, "{text}");
        }
        bodies.push((text, answer.header("link").map(str::to_owned)));
    }
    bodies
}

#[tokio::test]
async fn archived_samples_are_answered_with_the_same_bytes_and_503_while_they_cannot_be() {
    let (objects, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let copies = copies.path().join("copies");
    let url = format!("file://{}", objects.path().display());
    let vars = [
        ("UTXOIQ_STORE_COLD__URL", url.as_str()),
        ("UTXOIQ_STORE_COLD__CACHE_DIR", copies.to_str().unwrap()),
        ("UTXOIQ_STORE_METRICS__HOT_DAYS", "2"),
    ];
    let live = Live::new(&vars).await;
    write(&live).await;
    let (ragged, middle) = (before_midnight(1_100), before_midnight(0));
    let both = reads(ragged, before_midnight(-10));
    let (cold, hot) = (
        reads(ragged, before_midnight(400)),
        reads(middle, before_midnight(-12)),
    );
    let before = bodies(&live, &both).await;
    let cold_before = bodies(&live, &cold).await;
    let hot_before = bodies(&live, &hot).await;
    assert!(hot_before[0].0.contains("api"));

    let retention_url = live.db.url_of(roles::RETENTION);
    let own = [
        (
            "UTXOIQ_STORE_DATABASE__RETENTION_URL",
            retention_url.as_str(),
        ),
        (
            "UTXOIQ_STORE_RETENTION__PSEUDONYM_KEY",
            "a key of at least thirty-two characters",
        ),
    ];
    let store = Store::open(live.db.settings_with(&[&vars[..], &own].concat())).unwrap();
    let tomorrow = SystemClock.now() + TimeDelta::days(1);
    let mut report = None;
    for _ in 0..100 {
        store.metrics().roll_up(tomorrow, 1_000).await.unwrap();
        let run = store.retention().unwrap().run(tomorrow, "test").await;
        let run = run.unwrap();
        if !run.archived.is_empty() {
            report = Some(run);
            break;
        }
        // Another test's transaction may delay the rollups.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(report.unwrap().archived.len(), 1);
    assert_eq!(bodies(&live, &both).await, before);
    assert_eq!(bodies(&live, &cold).await, cold_before);

    fs::remove_dir_all(objects.path().join("metrics")).unwrap();
    for copy in fs::read_dir(&copies).unwrap() {
        fs::remove_file(copy.unwrap().path()).unwrap();
    }
    for target in &cold[1..] {
        let answer = answer(live.authorized("GET", target)).await;
        assert_eq!(answer.problem(503), "cold_object_missing", "{target}");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(bodies(&live, &hot).await, hot_before);
}

//! OpenTelemetry, spoken by its own SDK.

use std::collections::BTreeMap;

use super::*;

/// The interpreter with the SDK, which is installed once.
async fn python() -> Result<PathBuf, String> {
    let folder = kept();
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let python = folder.join("otel/bin/python");
    let check = ["-c", "import opentelemetry.exporter.otlp.proto.http"];
    if run(&python, &check, &folder).await.is_err() {
        run("python3", &["-m", "venv", "otel"], &folder).await?;
        let wanted = [
            "opentelemetry-sdk",
            "opentelemetry-exporter-otlp-proto-http",
        ];
        let arguments = [&["-m", "pip", "install", "--quiet"][..], &wanted].concat();
        run(&python, &arguments, &folder).await?;
    }
    Ok(python)
}

/// What names a sample: service, type, unit, labels, time.
type Named = (String, String, String, String, i64);

#[tokio::test]
async fn every_sample_that_an_sdk_exports_is_found_again() {
    let python = match python().await {
        Ok(python) => python,
        Err(why) => return skip(&why),
    };
    let live = Live::new(&[]).await;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/metrics_write/export.py"
    );
    let address = format!("http://{}", live.address);
    let printed = run(&python, &[script, &address, &live.token], &kept())
        .await
        .unwrap();
    let mut exported: BTreeMap<Named, (f64, Value)> = BTreeMap::new();
    for line in printed.lines() {
        let sample: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| sample[field].as_str().unwrap().to_owned();
        let labels = sample["labels"]
            .to_string()
            .replace("[\\\"a\\\", ", "[\\\"a\\\",");
        let named = (
            text("service"),
            text("type"),
            text("unit"),
            labels,
            sample["at"].as_i64().unwrap(),
        );
        let value = (
            sample["value"].as_f64().unwrap(),
            sample["metadata"].clone(),
        );
        assert!(exported.insert(named, value).is_none(), "{line}");
    }
    let found: BTreeMap<Named, (f64, Value)> = stored(&live)
        .await
        .into_iter()
        .map(|(service, metric, unit, labels, at, value, metadata)| {
            let named = (service, metric, unit, labels.to_string(), at);
            (named, (value, metadata.unwrap_or_default()))
        })
        .collect();
    assert_eq!(found.len(), exported.len());
    for (named, value) in &exported {
        assert_eq!(found.get(named), Some(value), "{named:?}");
    }
    // Three services, three exports, and of each all five instruments.
    assert!(
        exported.len() > 3 * 3 * (2 + 2 + 1 + 4 + 16 + 4 - 2),
        "{}",
        exported.len()
    );
}

#[tokio::test]
async fn what_is_not_stored_of_an_export_is_told_in_its_encoding() {
    let live = Live::new(&[]).await;
    let at = |seconds: i64| (ago(seconds).timestamp_micros() * 1_000).to_string();
    let point =
        |value: Value, seconds: i64| json!({"asDouble": value, "timeUnixNano": at(seconds)});
    let points = json!([
        point(json!(1.5), 5), point(json!("NaN"), 6), point(json!(1), 91 * 86_400), {"asDouble": 1}, {"flags": 1}
    ]);
    let request = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": points}}]}]}]});
    let json = typed(
        &live,
        "/v1/metrics",
        "application/json",
        "gzip",
        gzip(request.to_string().as_bytes()),
    );
    let told = answer(json).await;
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(told.header("content-type"), Some("application/json"));
    let partial = &told.json()["partialSuccess"];
    assert_eq!(partial["rejectedDataPoints"], "3", "{told:?}");
    let message = partial["errorMessage"].as_str().unwrap();
    for reason in [
        "not_a_number: 1, the first: unknown_service m",
        "too_old: 1",
        "unsupported: 1",
    ] {
        assert!(message.contains(reason), "{message}");
    }
    assert_eq!(count(&live).await, 1);

    // The same in protocol buffers: a gauge "m" whose points have no time, or an old one.
    let old = [
        &[3 << 3 | 1][..],
        &1_000_000_000_u64.to_le_bytes(),
        &[4 << 3 | 1],
        &1.5_f64.to_le_bytes(),
    ]
    .concat();
    let gauge = [field(1, &old), field(1, b"")].concat();
    let metric = [field(1, b"m"), field(5, &gauge)].concat();
    let message = field(1, &field(2, &field(2, &metric)));
    let told = answer(typed(
        &live,
        "/v1/metrics",
        "application/x-protobuf",
        "",
        message,
    ))
    .await;
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(told.header("content-type"), Some("application/x-protobuf"));
    // partial_success { rejected_data_points: 2, error_message: … }
    assert!(told.text.contains("\u{8}\u{2}\u{12}"), "{told:?}");
    assert!(told.text.contains("too_old: 1"), "{told:?}");
    let whole = answer(typed(
        &live,
        "/v1/metrics",
        "application/x-protobuf",
        "",
        Vec::new(),
    ))
    .await;
    assert_eq!((whole.status.as_u16(), whole.text.as_str()), (200, ""));
}

//! What no client should send: refused or told, never a failure of ours, and nothing half stored.

use super::*;

const OTLP: &str = "/v1/metrics";
const WRITE: &str = "/api/v1/write";
const IMPORT: &str = "/api/v1/monitoring/metrics/import";
const PROTOBUF: &str = "application/x-protobuf";

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

/// Bytes without order, the same each time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Path, content type, encoding, body; status, code.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    Vec<u8>,
    u16,
    &'static str,
);

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table of requests")]
async fn nothing_torn_or_too_large_fails_us_or_is_stored() {
    let live = Live::new(&[]).await;
    let bomb = vec![b' '; 10_000_000];
    let deep = [&b"{\"resourceMetrics\": "[..], &b"[".repeat(1_000_000)].concat();
    let long = metric(1, Some(ago(1))).to_string();
    let batch = format!("[{}]", vec![long.as_str(); 100_000].join(","));
    let samples = field(2, b"").repeat(100_001);
    let sets: Vec<u8> = (0..100_000)
        .flat_map(|n: i32| {
            field(
                1,
                &[field(1, &label("n", &n.to_string())), field(2, b"")].concat(),
            )
        })
        .collect();
    let cases: Vec<Case> = vec![
        (ONE, "application/json", "", bomb.clone(), 413, "too_large"),
        (
            ONE,
            "application/json",
            "gzip",
            gzip(b"{}"),
            415,
            "unsupported_media_type",
        ),
        (
            BATCH,
            "application/json",
            "",
            batch.into_bytes(),
            413,
            "too_large",
        ),
        (
            BATCH,
            "text/plain",
            "",
            b"[]".to_vec(),
            415,
            "unsupported_media_type",
        ),
        (OTLP, PROTOBUF, "", bomb.clone(), 413, "too_large"),
        (OTLP, PROTOBUF, "gzip", gzip(&bomb), 413, "too_large"),
        (
            OTLP,
            PROTOBUF,
            "gzip",
            gzip(&bomb)[..100].to_vec(),
            400,
            "malformed_gzip",
        ),
        (
            OTLP,
            PROTOBUF,
            "deflate",
            vec![],
            415,
            "unsupported_media_type",
        ),
        (
            OTLP,
            PROTOBUF,
            "",
            vec![0x0a, 5, 1],
            400,
            "malformed_protobuf",
        ),
        (OTLP, "application/json", "", deep, 400, "malformed_json"),
        (
            OTLP,
            "application/json",
            "",
            b"\xff".to_vec(),
            400,
            "malformed_json",
        ),
        (
            OTLP,
            "text/plain",
            "",
            vec![],
            415,
            "unsupported_media_type",
        ),
        (WRITE, PROTOBUF, "snappy", bomb.clone(), 413, "too_large"),
        (WRITE, PROTOBUF, "snappy", snappy(&bomb), 413, "too_large"),
        (
            WRITE,
            PROTOBUF,
            "snappy",
            b"\xff\xff\xff\xff\x0f".to_vec(),
            413,
            "too_large",
        ),
        (
            WRITE,
            PROTOBUF,
            "snappy",
            b"x".to_vec(),
            400,
            "malformed_snappy",
        ),
        (WRITE, PROTOBUF, "snappy", vec![], 400, "malformed_snappy"),
        (
            WRITE,
            PROTOBUF,
            "snappy",
            snappy(&[0x0a, 5, 1]),
            400,
            "malformed_protobuf",
        ),
        (
            WRITE,
            PROTOBUF,
            "snappy",
            snappy(&field(1, &samples)),
            413,
            "too_many_samples",
        ),
        (
            WRITE,
            "application/json",
            "snappy",
            vec![],
            415,
            "unsupported_media_type",
        ),
        (
            WRITE,
            PROTOBUF,
            "gzip",
            vec![],
            415,
            "unsupported_media_type",
        ),
        (
            WRITE,
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "snappy",
            vec![],
            415,
            "unsupported_media_type",
        ),
        // Each has its own labels, no name and no time: all are told, in one sentence.
        (
            WRITE,
            PROTOBUF,
            "snappy",
            snappy(&sets),
            400,
            "partly_refused",
        ),
        (
            IMPORT,
            "application/x-ndjson",
            "",
            bomb.clone(),
            413,
            "too_large",
        ),
        (
            IMPORT,
            "application/x-ndjson",
            "gzip",
            gzip(&bomb),
            413,
            "too_large",
        ),
        (
            IMPORT,
            "application/x-ndjson",
            "gzip",
            b"x".to_vec(),
            400,
            "malformed_gzip",
        ),
        (
            IMPORT,
            "application/x-ndjson",
            "",
            b" \n\n".to_vec(),
            422,
            "invalid_input",
        ),
        (
            IMPORT,
            "text/csv",
            "",
            b"a,b\n1,2\n".to_vec(),
            422,
            "invalid_input",
        ),
        (
            IMPORT,
            "application/json",
            "",
            b"{}".to_vec(),
            415,
            "unsupported_media_type",
        ),
    ];
    for (path, content_type, encoding, body, status, code) in cases {
        let name = format!("{path} {content_type} {encoding} {} bytes", body.len());
        let refused = answer(typed(&live, path, content_type, encoding, body)).await;
        assert_eq!(refused.status.as_u16(), status, "{name}: {refused:?}");
        assert_eq!(refused.problem(status), code, "{name}");
        assert!(refused.text.len() < 2_000, "{name}: sends back what it got");
    }
    for seed in 0..200 {
        let body = noise(seed, usize::try_from(seed).unwrap());
        for (path, content_type, encoding, body) in [
            (ONE, "application/json", "", body.clone()),
            (BATCH, "application/json", "", body.clone()),
            (OTLP, PROTOBUF, "", body.clone()),
            (OTLP, "application/json", "gzip", gzip(&body)),
            (WRITE, PROTOBUF, "snappy", body.clone()),
            (WRITE, PROTOBUF, "snappy", snappy(&body)),
            (IMPORT, "application/x-ndjson", "", body.clone()),
            (
                IMPORT,
                "text/csv",
                "",
                [
                    &b"service_name,metric_type,metric_value,unit,timestamp\n"[..],
                    &body,
                ]
                .concat(),
            ),
        ] {
            let sent = answer(typed(&live, path, content_type, encoding, body)).await;
            assert!(!sent.status.is_server_error(), "{path} {seed}: {sent:?}");
        }
    }
    assert_eq!(count(&live).await, 0);
    let admin = live.db.admin().await;
    let series = admin
        .query_one("select count(*) from metric_series", &[])
        .await;
    assert_eq!(series.unwrap().get::<_, i64>(0), 0);
}

fn label(key: &str, value: &str) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, value.as_bytes())].concat()
}

/// A series of remote write.
fn series(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> Vec<u8> {
    let labels = labels
        .iter()
        .flat_map(|(key, value)| field(1, &label(key, value)));
    let samples = samples.iter().flat_map(|(value, millis)| {
        let mut sample = vec![1 << 3 | 1];
        sample.extend(value.to_bits().to_le_bytes());
        sample.push(2 << 3);
        prost::encoding::encode_varint(millis.cast_unsigned(), &mut sample);
        field(2, &sample)
    });
    field(1, &labels.chain(samples).collect::<Vec<_>>())
}

#[tokio::test]
async fn what_is_right_of_a_remote_write_is_stored_and_the_rest_is_told() {
    let live = Live::new(&[]).await;
    let (now, old) = (
        ago(5).timestamp_millis(),
        ago(91 * 86_400).timestamp_millis(),
    );
    let name = [("__name__", "up"), ("job", "node"), ("instance", "a:1")];
    let fine = [
        series(
            &name,
            &[(1.0, now), (f64::NAN, now + 1), (f64::INFINITY, now + 2)],
        ),
        series(&name, &[(f64::from_bits(0x7ff0_0000_0000_0002), now + 3)]),
    ];
    let write = async |message: &[u8]| {
        answer(typed(&live, WRITE, PROTOBUF, "snappy", snappy(message))).await
    };
    let written = write(&fine.concat()).await;
    assert_eq!(
        (written.status.as_u16(), written.text.as_str()),
        (204, ""),
        "{written:?}"
    );
    assert_eq!(
        written.header("samples-left-out"),
        Some("not_a_number=2, exemplars=0")
    );
    assert!(written.header("store-version").is_some());
    // Sent again: nothing new, and no refusal.
    assert_eq!(write(&fine.concat()).await.status, 204);
    let partly = [
        series(&name, &[(2.0, now), (3.0, now + 1)]),
        series(&[("__name__", "")], &[(1.0, now)]),
        series(
            &[("__name__", "a")],
            &[(1.0, old), (1.0, old + 1), (1.0, i64::MAX)],
        ),
    ];
    let refused = write(&partly.concat()).await;
    assert_eq!(refused.problem(400), "partly_refused");
    let body = refused.json();
    assert_eq!(body["stored"], 1);
    let rejected = body["rejected"].as_array().unwrap().iter();
    let rejected: BTreeSet<_> = rejected
        .map(|one| {
            (
                one["reason"].as_str().unwrap(),
                one["count"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("bad_name", 1),
        ("conflict", 1),
        ("too_far_ahead", 1),
        ("too_old", 2),
    ];
    assert_eq!(rejected, BTreeSet::from(expected));
    let values: Vec<_> = stored(&live)
        .await
        .into_iter()
        .map(|one| (one.0, one.1, one.5))
        .collect();
    let one = |value| ("node".to_owned(), "up".to_owned(), value);
    assert_eq!(values, [one(1.0), one(3.0)]);
}

#[tokio::test]
async fn of_100_000_label_sets_as_many_become_series_as_may() {
    let limits = [
        ("UTXOIQ_STORE_METRICS__MAX_SERIES_PER_SERVICE", "1000"),
        ("UTXOIQ_STORE_SERVER__MAX_BODY_BYTES", "8388608"),
    ];
    let live = Live::new(&limits).await;
    let now = ago(5).timestamp_millis();
    let sets: Vec<u8> = (0..100_000)
        .flat_map(|n: i32| {
            let number = n.to_string();
            series(&[("__name__", "a"), ("n", &number)], &[(1.0, now)])
        })
        .collect();
    let refused = answer(typed(&live, WRITE, PROTOBUF, "snappy", snappy(&sets))).await;
    assert_eq!(refused.problem(400), "partly_refused");
    let body = refused.json();
    assert_eq!(body["stored"], 1_000, "{body}");
    assert_eq!(body["rejected"][0]["reason"], "too_many_series");
    assert_eq!(body["rejected"][0]["count"], 99_000);
    assert_eq!(count(&live).await, 1_000);
    let admin = live.db.admin().await;
    let made = admin
        .query_one("select count(*) from metric_series", &[])
        .await;
    assert_eq!(made.unwrap().get::<_, i64>(0), 1_000);
    // What may be is still taken.
    let known = series(&[("__name__", "a"), ("n", "7")], &[(2.0, now + 1)]);
    let other = series(&[("__name__", "a"), ("job", "b")], &[(2.0, now + 1)]);
    let taken = [known, other].concat();
    let taken = answer(typed(&live, WRITE, PROTOBUF, "snappy", snappy(&taken))).await;
    assert_eq!(taken.status, 204, "{taken:?}");
}

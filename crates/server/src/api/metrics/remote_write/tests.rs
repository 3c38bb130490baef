use proptest::prelude::*;

use super::*;

/// A field of bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

fn label(key: &[u8], value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, key), field(2, value)].concat())
}

fn sample(value: f64, millis: i64) -> Vec<u8> {
    let mut sample = vec![1 << 3 | 1];
    sample.extend(value.to_bits().to_le_bytes());
    sample.push(2 << 3);
    prost::encoding::encode_varint(millis.cast_unsigned(), &mut sample);
    field(2, &sample)
}

fn series(parts: &[Vec<u8>]) -> Vec<u8> {
    field(1, &parts.concat())
}

const MILLIS: i64 = 1_769_860_800_123;

#[test]
fn a_series_is_named_by_its_job_and_its_name_and_the_rest_are_labels() {
    let message = [
        series(&[
            sample(1.5, MILLIS),
            label(b"__name__", b"node_disk_read_bytes_total"),
            label(b"job", b"node"),
            label(b"instance", "ä:9100".as_bytes()),
            label(b"empty", b""),
            sample(-0.0, -1),
        ]),
        series(&[label(b"__name__", b"up"), sample(1.0, i64::MAX)]),
        series(&[label(b"__name__", b"nothing")]),
        // Metadata and what is not known.
        field(3, b"x"),
        field(9, b"y"),
    ];
    let brought = gather(&message.concat()).unwrap();
    let batch = &brought.gathered.batch;
    let first = SeriesName {
        service_name: "node".into(),
        metric_type: "node_disk_read_bytes_total".into(),
        unit: "bytes".into(),
        labels: [("instance".to_owned(), "ä:9100".to_owned())].into(),
    };
    let second = SeriesName {
        service_name: "prometheus".into(),
        metric_type: "up".into(),
        unit: String::new(),
        labels: BTreeMap::new(),
    };
    assert_eq!(batch.names(), [first, second]);
    let samples: Vec<_> = batch
        .samples()
        .iter()
        .map(|sample| (sample.series, sample.at.unwrap(), sample.value))
        .collect();
    let expected = [
        (0, MILLIS * 1_000, 1.5),
        (0, -1_000, -0.0),
        (1, i64::MAX, 1.0),
    ];
    assert_eq!(samples, expected);
    assert!(brought.gathered.refused.is_empty());
}

#[test]
fn stale_markers_are_no_samples_and_what_is_no_number_is_counted() {
    let message = [series(&[
        label(b"__name__", b"a"),
        sample(f64::from_bits(STALE), MILLIS),
        sample(f64::NAN, MILLIS),
        sample(f64::INFINITY, MILLIS),
        sample(f64::NEG_INFINITY, MILLIS),
        sample(2.0, MILLIS),
        field(3, b""),
        field(4, b""),
    ])];
    let brought = gather(&message.concat()).unwrap();
    assert_eq!(brought.gathered.batch.samples().len(), 1);
    assert_eq!((brought.not_numbers, brought.exemplars), (3, 1));
    let summary = brought.gathered.refusals.summary();
    assert_eq!(
        summary,
        "unsupported: 1, the first: native histograms are not supported"
    );
}

#[test]
fn a_series_whose_labels_are_no_text_is_left_out_and_told() {
    let message = [
        series(&[
            label(b"__name__", b"\xff"),
            sample(1.0, MILLIS),
            sample(2.0, MILLIS),
        ]),
        series(&[
            label(b"__name__", b"a"),
            label(b"b", &b"x".repeat(100_000)),
            sample(1.0, MILLIS),
        ]),
        series(&[label(b"__name__", b"a"), sample(1.0, MILLIS)]),
    ];
    let brought = gather(&message.concat()).unwrap();
    assert_eq!(brought.gathered.batch.samples().len(), 1);
    let summary = brought.gathered.refusals.summary();
    assert!(
        summary.starts_with("bad_labels: 4, the first: a series' names and labels are no UTF-8"),
        "{summary}"
    );
    assert_eq!(brought.gathered.refused, [0, 1, 2]);
}

#[test]
fn units_are_what_names_end_in() {
    for (name, unit) in [
        ("process_cpu_seconds_total", "seconds"),
        ("process_resident_memory_bytes", "bytes"),
        ("request_duration_seconds", "seconds"),
        ("request_duration_seconds_sum", "seconds"),
        ("request_duration_seconds_count", ""),
        ("request_duration_seconds_bucket", ""),
        ("hit_ratio", "ratio"),
        ("cpu_percent", "percent"),
        ("up", ""),
        ("seconds", ""),
        ("go_goroutines", ""),
        ("http_requests_total", ""),
        ("", ""),
        ("_", ""),
    ] {
        assert_eq!(unit_of(name), unit, "{name}");
    }
}

#[test]
fn more_than_a_request_may_bring_is_refused() {
    let many = [
        label(b"__name__", b"a"),
        sample(1.0, MILLIS).repeat(100_001),
    ];
    assert_eq!(gather(&series(&many)).err().unwrap().status(), 413);
    let wide: Vec<u8> = (0..1_000)
        .flat_map(|number: i32| {
            let number = number.to_string();
            series(&[
                label(b"n", number.as_bytes()),
                label(b"w", &b"x".repeat(40_000)),
                sample(1.0, MILLIS),
            ])
        })
        .collect();
    assert_eq!(gather(&wide).err().unwrap().status(), 413);
}

#[test]
fn the_form_of_a_request_is_looked_at() {
    let check = |pairs: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        check_form(&headers).is_ok()
    };
    let right = ("content-type", "application/x-protobuf");
    let snappy = ("content-encoding", "snappy");
    assert!(check(&[right, snappy, (VERSION, "0.1.0")]));
    assert!(check(&[right, snappy]));
    assert!(check(&[right]));
    assert!(check(&[
        (
            "content-type",
            "application/x-protobuf;proto=prometheus.WriteRequest"
        ),
        snappy
    ]));
    let second = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    assert!(!check(&[("content-type", second), snappy]));
    assert!(!check(&[right, snappy, (VERSION, "2.0.0")]));
    assert!(!check(&[right, ("content-encoding", "gzip")]));
    assert!(!check(&[("content-type", "application/json"), snappy]));
    assert!(!check(&[]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..100_usize, byte: u8) {
        let parts = [label(b"__name__", b"a"), label(b"job", b"b"), sample(1.0, MILLIS)];
        let mut changed = series(&parts);
        if let Some(there) = changed.get_mut(at) {
            *there = byte;
        }
        for body in [bytes, changed] {
            let _ = unsnap(&body, 10_000);
            let _ = gather(&body);
        }
    }
}

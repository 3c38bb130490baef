use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message as _;
use utxoiq_store::metrics::Batch;

use super::*;
use crate::api::metrics::otlp::{Encoding, decode, proto::*};

/// Nanoseconds; the last three digits are cut off.
const NANOS: u64 = 1_769_860_800_123_456_789;
const AT: i64 = 1_769_860_800_123_456;

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(Box::new(value)),
    }
}

fn string(text: &str) -> AnyValue {
    AnyValue {
        string_value: Some(text.into()),
        ..AnyValue::default()
    }
}

fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: vec![
                    pair("service.name", string("web")),
                    pair("host.name", string("h-1")),
                    pair("telemetry.sdk.name", string("left out")),
                ],
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope { name: "lib".into() }),
                metrics,
            }],
        }],
    }
}

fn metric(name: &str, unit: &str) -> Metric {
    Metric {
        name: name.into(),
        unit: unit.into(),
        ..Metric::default()
    }
}

fn number(value: f64) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: NANOS,
        as_double: Some(value),
        ..NumberDataPoint::default()
    }
}

fn gauge(points: Vec<NumberDataPoint>) -> Metric {
    Metric {
        gauge: Some(Box::new(Gauge {
            data_points: points,
        })),
        ..metric("temperature", "Cel")
    }
}

/// Each sample as `type{labels beyond the resource's} unit = value`.
fn shown(batch: &Batch) -> Vec<String> {
    let samples = batch.samples().iter().map(|sample| {
        let name = &batch.names()[sample.series];
        assert_eq!(sample.at, Some(AT));
        assert_eq!(name.service_name, "web");
        let mut labels = name.labels.clone();
        assert_eq!(labels.remove("host.name").as_deref(), Some("h-1"));
        assert_eq!(labels.remove("otel.scope.name").as_deref(), Some("lib"));
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let (metric, unit) = (&name.metric_type, &name.unit);
        format!(
            "{metric}{{{}}} {unit:?} = {}",
            labels.join(","),
            sample.value
        )
    });
    samples.collect()
}

fn gathered(metrics: Vec<Metric>) -> Gathered {
    let request = request(metrics);
    let decoded = decode(&request.encode_to_vec(), Encoding::Protobuf).unwrap();
    // Not the messages themselves: NaN is not equal to itself.
    assert_eq!(decoded.encode_to_vec(), request.encode_to_vec());
    gather(&decoded).unwrap()
}

#[test]
fn a_number_is_a_sample_of_the_metric_with_its_attributes_as_labels() {
    let list = ArrayValue {
        values: vec![string("x"), AnyValue::default()],
    };
    let attributes = vec![
        pair("text", string("a b")),
        pair("none", string("")),
        pair(
            "yes",
            AnyValue {
                bool_value: Some(true),
                ..AnyValue::default()
            },
        ),
        pair(
            "int",
            AnyValue {
                int_value: Some(-7),
                ..AnyValue::default()
            },
        ),
        pair(
            "double",
            AnyValue {
                double_value: Some(0.5),
                ..AnyValue::default()
            },
        ),
        pair(
            "list",
            AnyValue {
                array_value: Some(list),
                ..AnyValue::default()
            },
        ),
        pair(
            "bytes",
            AnyValue {
                bytes_value: Some(vec![1, 2]),
                ..AnyValue::default()
            },
        ),
    ];
    let sum = |temporality, value| Metric {
        sum: Some(Box::new(Sum {
            data_points: vec![NumberDataPoint {
                as_double: None,
                as_int: Some(value),
                ..number(0.0)
            }],
            aggregation_temporality: temporality,
        })),
        ..metric("requests", "1")
    };
    let labelled = NumberDataPoint {
        attributes,
        ..number(21.5)
    };
    let all = gathered(vec![gauge(vec![labelled]), sum(2, 5), sum(1, 3)]);
    let expected = [
        r#"temperature{bytes=AQI=,double=0.5,int=-7,list=["x",null],text=a b,yes=true} "Cel" = 21.5"#,
        r#"requests{} "1" = 5"#,
        r#"requests{otel.temporality=delta} "1" = 3"#,
    ];
    assert_eq!(shown(&all.batch), expected);
    assert_eq!(all.places, [0, 1, 2]);
    assert!(all.refused.is_empty());
}

#[test]
fn a_histogram_is_count_sum_extremes_and_cumulative_buckets() {
    let point = HistogramDataPoint {
        time_unix_nano: NANOS,
        count: 6,
        sum: Some(12.5),
        min: Some(0.1),
        max: None,
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.005, 10.0],
        ..HistogramDataPoint::default()
    };
    let histogram = |point: HistogramDataPoint| Metric {
        histogram: Some(Box::new(Histogram {
            data_points: vec![point],
            aggregation_temporality: 2,
        })),
        ..metric("latency", "s")
    };
    let all = gathered(vec![histogram(point.clone())]);
    let expected = [
        r#"latency_count{} "" = 6"#,
        r#"latency_sum{} "s" = 12.5"#,
        r#"latency_min{} "s" = 0.1"#,
        r#"latency_bucket{le=0.005} "" = 1"#,
        r#"latency_bucket{le=10} "" = 3"#,
        r#"latency_bucket{le=+Inf} "" = 6"#,
    ];
    assert_eq!(shown(&all.batch), expected);
    assert_eq!(all.places, [0; 6]);
    for bad in [
        HistogramDataPoint {
            bucket_counts: vec![1],
            ..point.clone()
        },
        HistogramDataPoint {
            explicit_bounds: vec![2.0, 1.0],
            ..point.clone()
        },
        HistogramDataPoint {
            explicit_bounds: vec![1.0, f64::INFINITY],
            ..point.clone()
        },
        HistogramDataPoint {
            explicit_bounds: vec![f64::NAN, 1.0],
            ..point.clone()
        },
        HistogramDataPoint {
            time_unix_nano: 0,
            ..point
        },
    ] {
        let none = gathered(vec![histogram(bad)]);
        assert!(none.places.is_empty());
        assert!(
            none.refusals
                .summary()
                .starts_with("unsupported: 1, the first: web latency: ")
        );
    }
}

#[test]
fn an_exponential_histogram_keeps_its_buckets_beside_the_count() {
    let point = ExponentialHistogramDataPoint {
        time_unix_nano: NANOS,
        count: 4,
        sum: Some(9.0),
        max: Some(8.0),
        scale: -3,
        zero_count: 1,
        positive: Some(Buckets {
            offset: -2,
            bucket_counts: vec![u64::MAX, 2],
        }),
        ..ExponentialHistogramDataPoint::default()
    };
    let all = gathered(vec![Metric {
        exponential_histogram: Some(Box::new(ExponentialHistogram {
            data_points: vec![point],
            aggregation_temporality: 2,
        })),
        ..metric("size", "By")
    }]);
    let expected = [
        r#"size_count{} "" = 4"#,
        r#"size_sum{} "By" = 9"#,
        r#"size_max{} "By" = 8"#,
    ];
    assert_eq!(shown(&all.batch), expected);
    let samples = all.batch.samples();
    let metadata: Value = serde_json::from_str(samples[0].metadata.as_deref().unwrap()).unwrap();
    let expected = json!({"exponential_histogram": {
        "scale": -3, "zero_count": 1, "zero_threshold": 0.0,
        "positive": {"offset": -2, "bucket_counts": [u64::MAX, 2]}, "negative": null,
    }});
    assert_eq!(metadata, expected);
    assert!(samples[1].metadata.is_none());
}

#[test]
fn a_summary_has_a_series_for_each_quantile_and_none_where_it_has_no_value() {
    let point = SummaryDataPoint {
        time_unix_nano: NANOS,
        count: 2,
        sum: 3.0,
        quantile_values: vec![
            ValueAtQuantile {
                quantile: 0.5,
                value: 1.0,
            },
            ValueAtQuantile {
                quantile: 0.99,
                value: f64::NAN,
            },
        ],
        ..SummaryDataPoint::default()
    };
    let all = gathered(vec![Metric {
        summary: Some(Box::new(Summary {
            data_points: vec![point],
        })),
        ..metric("gc", "s")
    }]);
    let expected = [
        r#"gc_count{} "" = 2"#,
        r#"gc_sum{} "s" = 3"#,
        r#"gc{quantile=0.5} "s" = 1"#,
    ];
    assert_eq!(shown(&all.batch), expected);
}

#[test]
fn what_is_no_sample_is_told_unless_it_says_so_itself() {
    let all = gathered(vec![
        gauge(vec![
            NumberDataPoint {
                flags: 1,
                as_double: None,
                ..number(0.0)
            },
            number(1.0),
            NumberDataPoint {
                as_double: None,
                ..number(0.0)
            },
            NumberDataPoint {
                time_unix_nano: 0,
                ..number(0.0)
            },
        ]),
        metric("nothing", ""),
        Metric {
            name: String::new(),
            ..gauge(vec![number(0.0)])
        },
    ]);
    assert_eq!(shown(&all.batch).len(), 1);
    assert_eq!(all.places, [1]);
    assert_eq!(all.refused, [2, 3, 4, 5]);
    let summary = all.refusals.summary();
    assert!(
        summary.contains("unsupported: 3, the first: web temperature: a data point has no value"),
        "{summary}"
    );
    assert!(summary.contains("bad_name: 1"), "{summary}");
}

#[test]
fn a_resource_without_a_name_is_an_unknown_service() {
    let mut request = request(vec![gauge(vec![number(1.0)])]);
    request.resource_metrics[0].resource = None;
    request.resource_metrics[0].scope_metrics[0].scope = None;
    let all = gather(&request).unwrap();
    assert_eq!(all.batch.names()[0].service_name, "unknown_service");
    assert_eq!(all.batch.names()[0].labels, BTreeMap::new());
}

#[test]
fn the_json_form_says_the_same() {
    let json = br#"{"resourceMetrics": [{"resource": {"attributes": [
        {"key": "service.name", "value": {"stringValue": "web"}},
        {"key": "host.name", "value": {"stringValue": "h-1"}}], "droppedAttributesCount": 1, "unknown": {"a": [1]}},
      "scopeMetrics": [{"scope": {"name": "lib", "version": "1.0.0", "attributes": []}, "metrics": [
        {"name": "my.counter", "unit": "1", "description": "I am a Counter", "sum": {
          "aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [
            {"asDouble": 5, "startTimeUnixNano": "1769860800000000000", "timeUnixNano": "1769860800123456789",
             "attributes": [{"key": "my.counter.attr", "value": {"stringValue": "some value"}}]}]}},
        {"name": "my.gauge", "unit": "1", "gauge": {"dataPoints": [
            {"asInt": "9007199254740993", "timeUnixNano": 1769860800123456789,
             "attributes": [{"key": "n", "value": {"intValue": "3"}}, {"key": "b", "value": {"bytesValue": "AQI="}}]},
            {"asDouble": "Infinity", "timeUnixNano": "1769860800123456789", "attributes": null}]}},
        {"name": "my.histogram", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": "1769860800123456789", "count": 2, "sum": 2, "bucketCounts": [1, "1"], "explicitBounds": [1],
             "min": 0, "max": 2}]}},
        {"name": "my.exponential", "unit": "s", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": "1769860800123456789", "count": "3", "sum": 10, "scale": 0, "zeroCount": "1",
             "positive": {"offset": 1, "bucketCounts": [0, "2"]}, "zeroThreshold": 0}]}}]}]}]}"#;
    let decoded = decode(json, Encoding::Json).unwrap();
    let all = gather(&decoded).unwrap();
    let expected = [
        r#"my.counter{my.counter.attr=some value,otel.temporality=delta} "1" = 5"#,
        r#"my.gauge{b=AQI=,n=3} "1" = 9007199254740992"#,
        r#"my.gauge{} "1" = inf"#,
        r#"my.histogram_count{} "" = 2"#,
        r#"my.histogram_sum{} "s" = 2"#,
        r#"my.histogram_min{} "s" = 0"#,
        r#"my.histogram_max{} "s" = 2"#,
        r#"my.histogram_bucket{le=1} "" = 1"#,
        r#"my.histogram_bucket{le=+Inf} "" = 2"#,
        r#"my.exponential_count{} "" = 3"#,
        r#"my.exponential_sum{} "s" = 10"#,
    ];
    assert_eq!(shown(&all.batch), expected);
    let again = decode(&decoded.encode_to_vec(), Encoding::Protobuf).unwrap();
    assert_eq!(again, decoded);
}

#[test]
fn what_asks_for_too_much_is_refused_before_it_is_made() {
    let status = |body: &[u8], encoding| {
        let decoded = decode(body, encoding).and_then(|request| gather(&request));
        decoded.unwrap_err().status().as_u16()
    };
    // A million empty data points of two bytes each.
    let nested = |bytes: Vec<u8>, tag: u8| {
        let mut message = vec![tag];
        prost::encoding::encode_varint(bytes.len() as u64, &mut message);
        [message, bytes].concat()
    };
    let points = [0x0a, 0].repeat(1_000_000);
    let metric = nested(nested(points, 0x2a), 0x12);
    let body = nested(nested(metric, 0x12), 0x0a);
    assert_eq!(status(&body, Encoding::Protobuf), 413);
    let json = format!("{{\"resourceMetrics\": [{}{{}}]}}", "{},".repeat(1_000_000));
    assert_eq!(status(json.as_bytes(), Encoding::Json), 413);
    // A few attributes, each as a label of each of many series.
    let wide = HistogramDataPoint {
        time_unix_nano: NANOS,
        attributes: vec![pair("wide", string(&"x".repeat(50_000)))],
        bucket_counts: vec![0; 1_001],
        explicit_bounds: (0..1_000).map(f64::from).collect(),
        ..HistogramDataPoint::default()
    };
    let histogram = Histogram {
        data_points: vec![wide],
        aggregation_temporality: 2,
    };
    let wide = Metric {
        histogram: Some(Box::new(histogram)),
        ..metric_named("wide")
    };
    let body = request(vec![wide]).encode_to_vec();
    assert_eq!(status(&body, Encoding::Protobuf), 413);
    let many = gauge(vec![number(1.0); 100_001]);
    assert_eq!(
        status(&request(vec![many]).encode_to_vec(), Encoding::Protobuf),
        413
    );
    // Values in values.
    let deep = (0..5_000).fold(Vec::new(), |inner, _| nested(nested(inner, 0x0a), 0x2a));
    let attribute = nested(deep, 0x12);
    let body = nested(nested(nested(attribute, 0x0a), 0x0a), 0x0a);
    assert_eq!(status(&body, Encoding::Protobuf), 400);
    let deep = format!("{{\"resourceMetrics\": {}", "[".repeat(1_000_000));
    assert_eq!(status(deep.as_bytes(), Encoding::Json), 400);
}

fn metric_named(name: &str) -> Metric {
    metric(name, "")
}

#[test]
fn a_cut_message_is_refused() {
    let whole = request(vec![gauge(vec![number(1.0)])]).encode_to_vec();
    // Cut between fields of the outermost message it would be whole: there is one.
    for end in 1..whole.len() {
        let refused = decode(&whole[..end], Encoding::Protobuf).unwrap_err();
        assert_eq!(
            (refused.status().as_u16(), refused.code()),
            (400, "malformed_protobuf")
        );
    }
    assert!(decode(b"", Encoding::Protobuf).is_ok());
    for bad in [
        "",
        "5",
        "{\"resourceMetrics\": 5}",
        "{\"resourceMetrics\": [{\"scopeMetrics\": [{\"metrics\": [{\"gauge\":
        {\"dataPoints\": [{\"timeUnixNano\": -1}]}}]}]}]}",
    ] {
        let refused = decode(bad.as_bytes(), Encoding::Json).unwrap_err();
        assert_eq!(
            (refused.status().as_u16(), refused.code()),
            (400, "malformed_json"),
            "{bad}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..400_usize, byte: u8) {
        let whole = request(vec![gauge(vec![number(1.0), number(2.0)])]);
        let mut changed = whole.encode_to_vec();
        if let Some(there) = changed.get_mut(at) {
            *there = byte;
        }
        for body in [bytes, changed] {
            for encoding in [Encoding::Protobuf, Encoding::Json] {
                if let Ok(request) = decode(&body, encoding) {
                    let _ = gather(&request);
                }
            }
        }
    }
}

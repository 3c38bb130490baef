//! What is read here is read in general, too, and the same.

use proptest::prelude::*;
use serde_json::Value;

use super::{super::general, *};

const LENGTHS: Lengths = Lengths::CONTRACT;

/// One field as it is written: mostly right, sometimes in another form, sometimes wrong.
fn field(
    name: &'static str,
    plain: &[&str],
    odd: &[&str],
) -> impl Strategy<Value = Option<String>> + use<> {
    let own = |values: &[&str]| -> Vec<String> {
        let written = |value: &&str| format!("{name:?}: {value}");
        values.iter().map(written).collect()
    };
    prop_oneof![
        60 => proptest::sample::select(own(plain)).prop_map(Some),
        2 => proptest::sample::select(own(odd)).prop_map(Some),
        1 => Just(None),
    ]
}

#[allow(clippy::too_many_lines, reason = "a table of values")]
fn sample() -> impl Strategy<Value = String> {
    let long = format!("{:?}", "x".repeat(50));
    let too_long = format!("{:?}", "x".repeat(101));
    let fields = (
        field(
            "service_name",
            &["\"a\"", "\"web api\"", "\"~!\"", &long],
            &[
                "\"\"",
                "\" \"",
                "\"ä\"",
                "\"\\u0041\"",
                "\"a\\\\b\"",
                "\"\\u0000\"",
                "5",
                "null",
                "\"\x7f\"",
                &too_long,
            ],
        ),
        field(
            "metric_type",
            &["\"cpu\"", "\"m\"", &long],
            &["\"\"", "\"\\ud800\"", "[]", &too_long],
        ),
        field(
            "metric_value",
            &[
                "1",
                "-0",
                "0.1",
                "-1.5e-7",
                "18446744073709551615",
                "18446744073709551616",
                "1e300",
                "9007199254740993",
            ],
            &[
                "\"5\"",
                "\"NaN\"",
                "NaN",
                "1e400",
                "true",
                "null",
                "01",
                "\" 7.5 \"",
            ],
        ),
        field(
            "unit",
            &["\"\"", "\"%\"", "\"ms\""],
            &["null", "\" \"", "\"\\t\"", &long],
        ),
        field(
            "timestamp",
            &[
                "null",
                "\"2026-01-31T12:00:00Z\"",
                "\"2026-01-31T12:00:00.123456789Z\"",
                "\"2026-02-28T23:59:59.5\"",
                "\"0001-01-01T00:00:00+00:00\"",
                "\"9999-12-31T23:59:59.999999Z\"",
            ],
            &[
                "\"2026-01-31 12:00:00\"",
                "\"2026-01-31T12:00:00+02:00\"",
                "\"2026-02-30T00:00:00Z\"",
                "\"2026-01-31T12:00:60Z\"",
                "\"2026-01-31T24:00:00Z\"",
                "\"2026-01-31T12:00:00.Z\"",
                "\"2026-01-31\"",
                "5",
                "\"0000-01-01T00:00:00Z\"",
                "\"2026-01-31T12:00:00.1234567890Z\"",
                "\"+026-01-31T12:00:00Z\"",
            ],
        ),
        field(
            "metric_metadata",
            &[
                "null",
                "{}",
                "{ \"a\" : 1 , \"b\":\"x{[,:\" , \"c\": true, \"d\": null, \"e\": -0.50}",
            ],
            &[
                "[]",
                "5",
                "{\"a\": 1, \"a\": 2}",
                "{\"a\": {\"b\": [1]}}",
                "{\"a\": 1e400}",
                "{\"a\": 1e-20000}",
                "{\"a\": \"\\u0000\"}",
                "{\"a\": \"\\ud800\"}",
                "{\"\\u0061\": 1, \"a\": 2}",
                "{\"a\": 1E5}",
                "{\"\\u0000\": 1}",
                "{\"a\": 123456789012345678901234567890}",
            ],
        ),
        field(
            "labels",
            &[
                "null",
                "{}",
                "{\"host\": \"h-1\"}",
                "{\"b\": \"2\", \"a\": \"1\"}",
                "{\"a\": \"ä\"}",
            ],
            &[
                "{\"a\": 5}",
                "{\"a\": \"1\", \"a\": \"2\"}",
                "{\"a\": \"\\u0000\"}",
                "[]",
                "{\"\\u0061\": \"\"}",
                "{\"a\": null}",
            ],
        ),
        proptest::sample::select(vec![
            "",
            "",
            "",
            "",
            "",
            "",
            "\"more\": 1",
            "\"unit\": \"\"",
            "\"more\": \"\\ud800\"",
        ]),
    );
    fields.prop_map(|(a, b, c, d, e, f, g, more)| {
        let mut all: Vec<_> = [a, b, c, d, e, f, g].into_iter().flatten().collect();
        if !more.is_empty() {
            all.push(more.to_owned());
        }
        format!("{{{}}}", all.join(", "))
    })
}

fn metadata(sample: &NewSample) -> Option<Value> {
    let text = sample.metadata.as_deref()?;
    Some(serde_json::from_str(text).unwrap())
}

fn assert_same(fast: &Batch, general: &Batch) {
    assert_eq!(fast.names(), general.names());
    assert_eq!(fast.samples().len(), general.samples().len());
    for (fast, general) in fast.samples().iter().zip(general.samples()) {
        assert_eq!((fast.series, fast.at), (general.series, general.at));
        assert_eq!(fast.value.to_bits(), general.value.to_bits());
        assert_eq!(metadata(fast), metadata(general));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_read_fast_is_read_the_same_in_general(samples in proptest::collection::vec(sample(), 0..5), tail in "[ ]{0,2}|x") {
        let body = format!("[{}]{tail}", samples.join(","));
        if let Some(fast) = batch(body.as_bytes(), LENGTHS, 4) {
            assert_same(&fast, &general::batch(body.as_bytes(), LENGTHS, 4).expect(&body));
        }
        if let Some(first) = samples.first()
            && let Some(fast) = one(first.as_bytes(), LENGTHS) {
            assert_same(&fast, &general::one(first.as_bytes(), LENGTHS).expect(first));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..200_usize, byte: u8) {
        let _ = batch(&bytes, LENGTHS, 10);
        let mut body = PLAIN.as_bytes().to_vec();
        if let Some(there) = body.get_mut(at) {
            *there = byte;
        }
        if let Some(fast) = batch(&body, LENGTHS, 10) {
            assert_same(&fast, &general::batch(&body, LENGTHS, 10).unwrap());
        }
    }
}

const PLAIN: &str = r#"[{"service_name": "web", "metric_type": "cpu", "metric_value": 45.5, "unit": "percent",
  "timestamp": "2026-01-31T12:00:00.5Z", "metric_metadata": {"host": "h", "n": 1}, "labels": {"zone": "a"}},
  {"metric_value": 7, "unit": "", "metric_type": "cpu", "service_name": "web"}]"#;

#[test]
fn what_is_plainly_right_is_read_fast() {
    let read = batch(PLAIN.as_bytes(), LENGTHS, 2).unwrap();
    assert_eq!(read.names().len(), 2);
    assert_eq!(read.samples()[0].at, Some(1_769_860_800_500_000));
    assert!(batch(PLAIN.as_bytes(), LENGTHS, 1).is_none());
    assert!(batch(b"[]", LENGTHS, 1).unwrap().samples().is_empty());
}

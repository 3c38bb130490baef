//! Boundaries: the last accepted value, the first refused one, and what lies beside.

use serde_json::json;

use super::*;

const BIG: i64 = 9_007_199_254_740_992;

fn refused<T>(read: Result<T, String>) -> bool {
    read.is_err_and(|message| message.starts_with("must "))
}

#[test]
fn whole_numbers_stop_at_their_bounds() {
    let read = |value: Value| int(&value, &(0..=5));
    assert!(refused(read(json!(-1))));
    assert_eq!(read(json!(0)), Ok(0));
    assert_eq!(read(json!(1)), Ok(1));
    assert_eq!(read(json!(4)), Ok(4));
    assert_eq!(read(json!(5)), Ok(5));
    assert!(refused(read(json!(6))));
}

#[test]
fn whole_numbers_may_be_written_in_three_ways() {
    let read = |value: Value| int(&value, &(-9..=9));
    for value in [
        json!(5),
        json!(5.0),
        json!("5"),
        json!("5.0"),
        json!("+5"),
        json!(" 5 "),
        json!("05"),
    ] {
        assert_eq!(read(value.clone()), Ok(5), "{value}");
    }
    assert_eq!(read(json!("-5")), Ok(-5));
    assert_eq!(read(json!(-0.0)), Ok(0));
    for value in [
        json!(4.5),
        json!("4.5"),
        json!("abc"),
        json!(""),
        json!(" "),
        json!("5."),
        json!(".0"),
        json!("5e0"),
        json!("0x5"),
        json!("1_0"),
        json!("NaN"),
        json!("inf"),
        json!("\u{0665}"),
        json!("5\u{0}"),
        json!("--5"),
        json!(true),
        json!(null),
        json!([5]),
        json!({"n": 5}),
        json!("5".repeat(1_000_000)),
    ] {
        assert!(refused(read(value.clone())), "{value}");
    }
}

#[test]
fn whole_numbers_are_exact_up_to_64_bits_and_refused_beyond() {
    let read = |text: &str| int(&serde_json::from_str(text).unwrap(), &(i64::MIN..=i64::MAX));
    assert_eq!(read("9223372036854775806"), Ok(i64::MAX - 1));
    assert_eq!(read("9223372036854775807"), Ok(i64::MAX));
    assert!(refused(read("9223372036854775808")));
    assert_eq!(read("-9223372036854775808"), Ok(i64::MIN));
    assert!(refused(read("-9223372036854775809")));
    assert!(refused(read("18446744073709551615")));
    assert!(refused(read("18446744073709551616")));
    assert_eq!(read("\"9223372036854775807\""), Ok(i64::MAX));
    assert!(refused(read("\"9223372036854775808\"")));
    // A double says exactly which number was written only below 2^53.
    assert_eq!(read("9007199254740991.0"), Ok(BIG - 1));
    assert!(refused(read("9007199254740992.0")));
    assert!(refused(read("9007199254740993.0")));
    assert_eq!(read("9007199254740993"), Ok(BIG + 1));
    assert!(refused(read("1e300")));
}

#[test]
fn numbers_are_finite_and_stop_at_their_bounds() {
    let read = |value: Value| float(&value, &(0.0..=100.0));
    assert!(refused(read(json!(-0.000_001))));
    assert_eq!(read(json!(0)), Ok(0.0));
    assert_eq!(read(json!("0.5")), Ok(0.5));
    assert_eq!(read(json!("1e2")), Ok(100.0));
    assert_eq!(read(json!(100.0)), Ok(100.0));
    assert!(refused(read(json!(100.000_001))));
    let read = |value: Value| float(&value, &FINITE);
    assert_eq!(read(json!(f64::MAX)), Ok(f64::MAX));
    for value in [
        json!("NaN"),
        json!("nan"),
        json!("inf"),
        json!("Infinity"),
        json!("-infinity"),
        json!("1e400"),
        json!("abc"),
        json!(""),
        json!("1,5"),
        json!("0x1p3"),
        json!(true),
        json!([1.5]),
        json!({}),
    ] {
        assert!(refused(read(value.clone())), "{value}");
    }
}

#[test]
fn text_is_measured_in_characters() {
    let read = |text_: &str| text(&json!(text_), &(1..=50));
    for character in ["x", "ä", "😀"] {
        assert_eq!(read(character), Ok(character.to_owned()));
        assert!(read(&character.repeat(49)).is_ok());
        assert!(read(&character.repeat(50)).is_ok());
        assert!(refused(read(&character.repeat(51))));
        assert!(refused(read(&character.repeat(1 << 20))));
    }
    for blank in ["", " ", "\t\n", "\u{a0}\u{2003}"] {
        assert!(refused(read(blank)), "{blank:?}");
        assert!(text(&json!(blank), &(0..=50)).is_ok());
    }
    assert!(refused(read("a\0b")));
    for value in [json!(1), json!(true), json!(["a"]), json!({"a": 1})] {
        assert!(refused(text(&value, &(0..=50))), "{value}");
    }
}

#[test]
fn times_are_rfc_3339_and_utc_without_an_offset() {
    let read = |text: &str| time(&json!(text));
    let noon: DateTime<Utc> = "2026-01-31T12:00:00.123456Z".parse().unwrap();
    for text in [
        "2026-01-31T12:00:00.123456Z",
        "2026-01-31t12:00:00.123456z",
        "2026-01-31 12:00:00.123456Z",
        "2026-01-31T12:00:00.123456",
        "2026-01-31 12:00:00.123456",
        "2026-01-31T12:00:00.1234569Z",
        "2026-01-31T12:00:00.123456999999Z",
        "2026-01-31T14:00:00.123456+02:00",
        "2026-01-31T06:30:00.123456-05:30",
        "2026-01-31T12:00:00.123456-00:00",
        " 2026-01-31T12:00:00.123456Z ",
    ] {
        assert_eq!(read(text), Ok(noon), "{text}");
    }
    for text in [
        "",
        "soon",
        "yesterday",
        "2026-01-31",
        "2026-01-31T",
        "2026-01-31T12",
        "2026-01-31T12:00",
        "1764547200",
        "2026-02-30T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00 00:00",
        "2026-01-31T12:00:00.Z",
        "2026-01-31_12:00:00Z",
        "2026-01-31T12:00:00Z\0",
        "20260131T120000Z",
        "2026-01-31T12:00:00ZZ",
        "2026-01-3\u{661}T12:00:00Z",
        "+2026-01-31T12:00:00Z",
    ] {
        assert!(refused(read(text)), "{text}");
    }
    for value in [
        json!(1_764_547_200),
        json!(1.5),
        json!(true),
        json!([]),
        json!({}),
    ] {
        assert!(refused(time(&value)), "{value}");
    }
}

#[test]
fn times_stay_where_they_can_be_written_back() {
    let read = |text: &str| time(&json!(text));
    assert!(refused(read("0000-12-31T23:59:59.999999Z")));
    assert!(read("0001-01-01T00:00:00Z").is_ok());
    assert!(refused(read("0001-01-01T00:00:00+00:01")));
    assert!(read("9999-12-31T23:59:59.999999Z").is_ok());
    assert!(refused(read("9999-12-31T23:59:59.999999-00:01")));
    let leap = read("2016-12-31T23:59:60Z").unwrap();
    assert_eq!(
        leap,
        "2017-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap()
    );
    let early = read("1969-12-31T23:59:59.9999999Z").unwrap();
    assert_eq!(early.timestamp_micros(), -1);
}

#[test]
fn uuids_may_lack_their_dashes() {
    let id: Uuid = "cb9f6005-0980-421e-945b-c8a183c55e90".parse().unwrap();
    assert_eq!(uuid(&json!("cb9f6005-0980-421e-945b-c8a183c55e90")), Ok(id));
    assert_eq!(uuid(&json!("CB9F60050980421E945BC8A183C55E90")), Ok(id));
    for value in [
        json!(""),
        json!("nope"),
        json!("cb9f60050980421e945bc8a183c55e9"),
        json!("cb9f60050980421e945bc8a183c55e900"),
        json!("cb9f60050980421e945bc8a183c55e9g"),
        json!(5),
        json!(true),
    ] {
        assert!(refused(uuid(&value)), "{value}");
    }
}

fn input(fields: Value) -> Input {
    Input::body(fields).unwrap()
}

#[test]
fn all_rejected_fields_are_told_at_once() {
    let mut input = input(json!({"a": "", "b": 7, "c": null, "e": "x", "f": 1}));
    input.text("a", 1..=5);
    input.int("b", 0..=5);
    input.float("c", 0.0..=1.0);
    input.uuid("d");
    assert_eq!(input.one_of("e", &[("y", 1), ("z", 2)]), 1);
    input.one_of("g", &[("y", 1)]);
    assert!(input.bool_or("f", true));
    let error = input.finish().unwrap_err();
    assert_eq!(
        (error.status().as_u16(), error.code()),
        (422, "invalid_input")
    );
    let told: Vec<_> = error
        .errors()
        .iter()
        .map(|error| (error.field.as_str(), error.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("a", "must not be blank"),
            ("b", "must be a whole number from 0 to 5"),
            ("c", "is required"),
            ("d", "is required"),
            ("e", "must be one of y, z"),
            ("g", "is required"),
            ("f", "must be true or false"),
        ]
    );
}

#[test]
fn null_is_absent_and_unknown_fields_are_ignored() {
    let mut input = input(json!({"a": null, "unknown": [1, {"x": "y"}], "w": "yes"}));
    assert_eq!(input.optional_text("a", 1..=5), None);
    assert_eq!(input.optional_int("a", 0..=5), None);
    assert_eq!(input.int_or("a", 0..=5, 3), 3);
    assert_eq!(input.optional_float("a", 0.0..=1.0), None);
    assert_eq!(input.optional_time("a"), None);
    assert_eq!(input.optional_uuid("b"), None);
    assert_eq!(input.optional_one_of("a", &[("y", 1)]), None);
    assert_eq!(
        input.optional_one_of("w", &[("no", 0), ("yes", 1)]),
        Some(1)
    );
    assert_eq!(input.raw("a"), None);
    assert_eq!(input.raw("w"), Some(json!("yes")));
    input.finish().unwrap();
}

#[test]
fn only_an_object_has_fields() {
    for body in [
        json!([1, 2]),
        json!("x"),
        json!(1),
        json!(null),
        json!(true),
    ] {
        assert_eq!(Input::body(body).unwrap_err().status(), 422);
    }
}

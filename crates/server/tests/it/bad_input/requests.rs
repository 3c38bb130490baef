//! Bad requests: a good one with one bad thing in it.

use serde_json::{Value, json};

use super::{
    good::Good,
    values::{Kind, Named, of, parameter_values},
};
use crate::live::{encode, fill};

/// One bad request.
pub struct Bad {
    /// What is bad in it.
    pub what: String,
    /// Path and query.
    pub target: String,
    pub content_type: &'static str,
    pub body: Option<Vec<u8>>,
    /// In place of the good headers of these names.
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub status: u16,
    pub code: &'static str,
    /// The fields that the answer names.
    pub fields: Vec<String>,
}

/// A good body as it is written, with one field written otherwise.
fn with_raw(body: &Value, field: &str, raw: &[u8]) -> Vec<u8> {
    let fields = body.as_object().unwrap().iter();
    let mut written = Vec::from(b"{");
    for (name, value) in fields.filter(|(name, _)| *name != field) {
        written.extend(format!("{}: {value}, ", json!(name)).into_bytes());
    }
    written.extend(format!("{}: ", json!(field)).into_bytes());
    written.extend(raw);
    written.push(b'}');
    written
}

fn shown(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).chars().take(40).collect()
}

fn invalid(what: String, target: &str, body: Option<Vec<u8>>, field: &str) -> Bad {
    Bad {
        what,
        target: target.to_owned(),
        content_type: "application/json",
        body,
        headers: Vec::new(),
        status: 422,
        code: "invalid_input",
        fields: vec![field.to_owned()],
    }
}

fn malformed(what: String, target: &str, body: Vec<u8>) -> Bad {
    Bad {
        code: "malformed_json",
        fields: Vec::new(),
        ..invalid(what, target, Some(body), "")
    }
}

/// Each field of a body with each bad value, missing, and null.
pub fn bad_json(target: &str, body: &Value, fields: &[Named]) -> Vec<Bad> {
    let mut all = Vec::new();
    for field in fields {
        let name = &field.name;
        for (raw, is_json) in of(&field.kind) {
            let what = format!("{name} = {}", shown(&raw));
            let body = with_raw(body, name, &raw);
            all.push(if is_json {
                invalid(what, target, Some(body), name)
            } else {
                malformed(what, target, body)
            });
        }
        if field.required {
            let mut without = body.clone();
            without.as_object_mut().unwrap().remove(name);
            let without = without.to_string().into_bytes();
            all.push(invalid(format!("no {name}"), target, Some(without), name));
            let null = with_raw(body, name, b"null");
            all.push(invalid(format!("{name} = null"), target, Some(null), name));
        }
    }
    all
}

/// Bodies that are bad as a whole.
pub fn bodies(target: &str, good: &Value, max_bytes: usize) -> Vec<Bad> {
    let written = good.to_string();
    let mut all = Vec::new();
    for body in [
        &format!("[{written}]"),
        "[]",
        "null",
        "true",
        "5",
        "\"text\"",
        &json!(written).to_string(),
    ] {
        let what = format!("body {}", shown(body.as_bytes()));
        all.push(invalid(what, target, Some(body.as_bytes().to_vec()), ""));
    }
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let (name, value) = good.as_object().unwrap().iter().next().unwrap();
    let mut repeated = with_raw(good, name, value.to_string().as_bytes());
    repeated.splice(0..1, format!("{{{}: {value}, ", json!(name)).into_bytes());
    let half = written.len() / 2;
    for (what, body) in [
        ("no body", Vec::new()),
        ("blanks", b" \r\n".to_vec()),
        ("half a body", written.as_bytes()[..half].to_vec()),
        ("more after the body", format!("{written}x").into_bytes()),
        ("two bodies", format!("{written}{written}").into_bytes()),
        (
            "a byte order mark",
            format!("\u{feff}{written}").into_bytes(),
        ),
        (
            "UTF-16",
            written.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        ("a NUL at the end", format!("{written}\0").into_bytes()),
        ("a repeated field", repeated),
        ("a form", b"job_type=blocks&start_block=0".to_vec()),
        ("nested bodies", nested(100_000).into_bytes()),
        (
            "a nested unknown field",
            with_raw(good, "unknown", nested(200).as_bytes()),
        ),
        ("NaN in an unknown field", with_raw(good, "unknown", b"NaN")),
        (
            "a lone surrogate in an unknown field",
            with_raw(good, "unknown", br#""\udfff""#),
        ),
        (
            "a lone surrogate as a field's name",
            with_raw(good, "unknown", br#"1, "\ud800": 1"#),
        ),
        (
            "no UTF-8 in an unknown field",
            with_raw(good, "unknown", b"\"\xff\""),
        ),
    ] {
        all.push(malformed(what.to_owned(), target, body));
    }
    let other = |status: u16, code: &'static str, content_type: &'static str, body: String| Bad {
        content_type,
        status,
        code,
        ..malformed(
            format!("{content_type}, {} bytes", body.len()),
            target,
            body.into_bytes(),
        )
    };
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
    ] {
        all.push(other(
            415,
            "unsupported_media_type",
            content_type,
            written.clone(),
        ));
    }
    let padded = |bytes: usize| format!("{}{}", written, " ".repeat(bytes - written.len()));
    for bytes in [max_bytes + 1, 2 * max_bytes] {
        all.push(other(413, "too_large", "application/json", padded(bytes)));
    }
    all
}

/// The same in a list of one: what is bad in it is named by its position.
pub fn in_a_list(all: Vec<Bad>) -> Vec<Bad> {
    // A list of nothing is a list.
    let is_left = |bad: &Bad| !["no body", "blanks"].contains(&bad.what.as_str());
    let listed = all.into_iter().filter(is_left).map(|bad| {
        let within = |field: &String| match field.as_str() {
            "" => "0".to_owned(),
            field => format!("0.{field}"),
        };
        Bad {
            fields: bad.fields.iter().map(within).collect(),
            body: bad.body.map(|body| [b"[", &body[..], b"]"].concat()),
            ..bad
        }
    });
    listed.collect()
}

/// Bodies of other types than a call's documents may have, and ones that are too large.
pub fn documents(target: &str, content_type: &'static str, max_bytes: usize) -> Vec<Bad> {
    let bad = |status, code, content_type: &'static str, bytes: usize| Bad {
        content_type,
        status,
        code,
        ..malformed(
            format!("{content_type}, {bytes} bytes"),
            target,
            vec![b' '; bytes],
        )
    };
    vec![
        bad(415, "unsupported_media_type", "text/plain", 9),
        bad(415, "unsupported_media_type", "application/octet-stream", 9),
        bad(413, "too_large", content_type, max_bytes + 1),
        bad(413, "too_large", content_type, 2 * max_bytes),
    ]
}

/// What is not percent-encoded UTF-8.
const TORN: [&str; 9] = [
    "%",
    "%4",
    "%zz",
    "%+4",
    "a%",
    "%ff",
    "%c3",
    "%ed%a0%80",
    "%f5%80%80%80",
];

/// Each parameter with each bad value; a query's also empty and missing.
pub fn bad_parameters(
    template: &str,
    good: &Good,
    in_path: &[Named],
    in_query: &[Named],
) -> Vec<Bad> {
    let body = || (!good.body.is_null()).then(|| good.body.to_string().into_bytes());
    let target = good.target(template);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut all = Vec::new();
    for (index, parameter) in in_path.iter().enumerate() {
        let at = |raw: &str| {
            let mut fields: Vec<_> = good.path.iter().map(|value| encode(value)).collect();
            raw.clone_into(&mut fields[index]);
            fill(template, fields.iter().map(String::as_str))
        };
        let mut values = parameter_values(&parameter.kind);
        values.extend(["%20".to_owned(), "%09%0A".to_owned()]);
        for raw in values {
            all.push(invalid(
                format!("{} = {}", parameter.name, shown(raw.as_bytes())),
                &at(&raw),
                body(),
                &parameter.name,
            ));
        }
        for raw in TORN {
            all.push(invalid(
                format!("{} = {raw}", parameter.name),
                &at(raw),
                body(),
                "path",
            ));
        }
        let mut empty = invalid(
            format!("{} empty", parameter.name),
            &at(""),
            body(),
            &parameter.name,
        );
        // At its end, the path is another one.
        if template.ends_with('}') && index + 1 == in_path.len() {
            (empty.status, empty.code) = (404, "unknown_path");
            empty.fields.clear();
        }
        all.push(empty);
    }
    for parameter in in_query {
        let name = &parameter.name;
        let others: Vec<_> = query
            .split('&')
            .filter(|pair| !pair.starts_with(&format!("{name}=")))
            .collect();
        let with = |pair: &str| format!("{path}?{}", [&others[..], &[pair]].concat().join("&"));
        let mut values = parameter_values(&parameter.kind);
        // Of some things the name may be empty, and is then asked for so.
        let may_be_empty = matches!(parameter.kind, Kind::Text { min: 0, .. });
        if !may_be_empty {
            values.extend([String::new(), "%20".to_owned(), "+".to_owned()]);
        }
        values.extend(TORN.map(str::to_owned));
        for raw in values {
            let pair = format!("{name}={raw}");
            all.push(invalid(shown(pair.as_bytes()), &with(&pair), body(), name));
        }
        if !may_be_empty {
            let what = format!("{name} without =");
            all.push(invalid(what, &with(name), body(), name));
        }
        for pair in ["%ff=1", "%=1", "%zz"] {
            all.push(invalid(
                pair.to_owned(),
                &format!("{target}&{pair}"),
                body(),
                "",
            ));
        }
        if parameter.required {
            all.push(invalid(
                format!("no {name}"),
                &format!("{path}?{}", others.join("&")),
                body(),
                name,
            ));
        }
    }
    all
}

/// Each header with each bad value, and sent twice.
pub fn bad_headers(template: &str, good: &Good) -> Vec<Bad> {
    let target = good.target(template);
    let mut all = Vec::new();
    for (name, value) in &good.headers {
        let mut values: Vec<Vec<u8>> = [&b""[..], b" ", b"a\tb", b"\xff", b"\xed\xa0\x80"]
            .map(<[u8]>::to_vec)
            .into();
        match *name {
            "X-User-Id" => values.extend([
                "u".repeat(101).into_bytes(),
                "₿".repeat(101).into_bytes(),
                "u".repeat(20_000).into_bytes(),
                "a\u{85}b".into(),
            ]),
            "Store-Version" => values.extend(
                NO_VERSIONS
                    .split_whitespace()
                    .map(|text| text.as_bytes().to_vec()),
            ),
            "Idempotency-Key" => values.extend([
                "k".repeat(256).into_bytes(),
                b"a b".to_vec(),
                "ä".as_bytes().to_vec(),
            ]),
            _ => panic!("teach this test the header {name}"),
        }
        let bad = |what: String, sent: Vec<Vec<u8>>| Bad {
            headers: sent.into_iter().map(|value| (*name, value)).collect(),
            ..invalid(
                what,
                &target,
                (!good.body.is_null()).then(|| good.body.to_string().into_bytes()),
                name,
            )
        };
        for value in values {
            all.push(bad(format!("{name}: {}", shown(&value)), vec![value]));
        }
        let twice = vec![value.as_bytes().to_vec(); 2];
        all.push(bad(format!("{name} twice"), twice));
    }
    all
}

const NO_VERSIONS: &str =
    "abc -1 +1 1.0 1e3 0x1 18446744073709551616 99999999999999999999999999 1,2 null ٥ 1_000";

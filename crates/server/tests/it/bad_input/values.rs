//! Bad values for each kind of field, and where they are put.

use serde_json::{Map, Value, json};
use utxoiq_store_server::openapi;

use super::good::Good;

/// One bad request.
pub struct Bad {
    /// What is bad in it.
    pub what: String,
    /// Path and query.
    pub target: String,
    pub content_type: &'static str,
    pub body: Option<Vec<u8>>,
    pub status: u16,
    pub code: &'static str,
    /// The fields that the answer names.
    pub fields: Vec<String>,
}

/// What a field takes.
#[derive(Debug, Clone)]
pub enum Kind {
    Text { min: usize, max: Option<usize> },
    Int { min: i64, max: Option<i64> },
    Float { min: Option<f64>, max: Option<f64> },
    Bool,
    Time,
    Uuid,
    Choice,
}

/// A field of a body, a query or a path.
#[derive(Debug, Clone)]
pub struct Named {
    pub name: String,
    pub place: String,
    pub required: bool,
    pub kind: Kind,
}

impl Named {
    /// A parameter of the document.
    pub fn parameter(parameter: &Value) -> Self {
        let text = |field: &str| parameter[field].as_str().unwrap().to_owned();
        Self {
            name: text("name"),
            place: text("in"),
            required: parameter["required"] == true,
            kind: kind(&parameter["schema"]),
        }
    }

    /// The fields of a body.
    pub fn fields(schema: &Value) -> Vec<Self> {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        flatten(schema, &mut properties, &mut required);
        let fields = properties.iter().map(|(name, schema)| Self {
            name: name.clone(),
            place: "body".into(),
            required: required.contains(&json!(name)),
            kind: kind(schema),
        });
        fields.collect()
    }
}

/// Takes an object's schema apart that refers to others and is made up of others.
fn flatten(schema: &Value, properties: &mut Map<String, Value>, required: &mut Vec<Value>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let document: Value = serde_json::from_str(openapi::json()).unwrap();
        let pointer = reference.strip_prefix('#').unwrap();
        return flatten(document.pointer(pointer).unwrap(), properties, required);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        flatten(part, properties, required);
    }
    properties.extend(
        schema["properties"]
            .as_object()
            .cloned()
            .unwrap_or_default(),
    );
    required.extend(schema["required"].as_array().cloned().unwrap_or_default());
}

/// What a schema says of a field. A schema that says something else is to be taught here.
fn kind(schema: &Value) -> Kind {
    if let Some(choices) = schema["oneOf"].as_array() {
        let mut choices = choices.iter().filter(|choice| choice["type"] != "null");
        return kind(choices.next().unwrap());
    }
    let kind = match &schema["type"] {
        Value::Array(types) => types.iter().find(|one| *one != "null").unwrap(),
        one => one,
    };
    let text = |name: &str| {
        schema[name]
            .as_u64()
            .map(|length| usize::try_from(length).unwrap())
    };
    match (kind.as_str(), schema["format"].as_str()) {
        (Some("string"), _) if schema["enum"].is_array() => Kind::Choice,
        (Some("string"), Some("date-time")) => Kind::Time,
        (Some("string"), Some("uuid")) => Kind::Uuid,
        (Some("string"), None) => Kind::Text {
            min: text("minLength").unwrap_or(0),
            max: text("maxLength"),
        },
        (Some("integer"), format) => Kind::Int {
            min: schema["minimum"].as_i64().unwrap_or(0),
            max: schema["maximum"].as_i64().or(match format {
                Some("int32") => Some(i32::MAX.into()),
                _ => None,
            }),
        },
        (Some("number"), _) => Kind::Float {
            min: schema["minimum"].as_f64(),
            max: schema["maximum"].as_f64(),
        },
        (Some("boolean"), _) => Kind::Bool,
        _ => panic!("teach this test the schema {schema}"),
    }
}

/// What no kind of field takes: as it is written in JSON, and whether that is JSON at all.
fn common() -> Vec<(Vec<u8>, bool)> {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let mut values: Vec<_> = ["[]", "[1]", "{}", r#"{"a": 1}"#]
        .map(|raw| (raw.as_bytes().to_vec(), true))
        .into();
    values.push((format!("\"{}\"", "x".repeat(1_000_001)).into_bytes(), true));
    let malformed = [
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "1e400",
        "-1e400",
        "01",
        "+1",
        "0x1",
        "'a'",
        "",
        "undefined",
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\udc00\ud800""#,
        r#""a\ud800b""#,
        r#""\u00""#,
        r#""\x41""#,
        "\"a\0b\"",
        "\"a\nb\"",
        "\"",
        &deep,
    ];
    values.extend(malformed.map(|raw| (raw.as_bytes().to_vec(), false)));
    for raw in [
        &b"\"\xff\""[..],
        b"\"\xed\xa0\x80\"",
        b"\"\xc3\"",
        b"\"\xf5\x80\x80\x80\"",
        b"\xff",
    ] {
        values.push((raw.to_vec(), false));
    }
    values
}

/// The bad values of a kind of field, as [`common`] has them.
pub fn of(kind: &Kind) -> Vec<(Vec<u8>, bool)> {
    let mut values: Vec<String> = Vec::new();
    let mut add = |raw: &[&str]| values.extend(raw.iter().map(|raw| (*raw).to_owned()));
    if !matches!(kind, Kind::Bool) {
        add(&["true", "false"]);
    }
    if !matches!(kind, Kind::Int { .. } | Kind::Float { .. }) {
        add(&[
            "5",
            "-1",
            "0.5",
            "1e30",
            "99999999999999999999",
            r#""a\u0000b""#,
        ]);
    }
    if !matches!(kind, Kind::Text { .. }) {
        add(&[
            r#""""#,
            r#"" ""#,
            r#""abc""#,
            r#""5\u0000""#,
            r#""NaN""#,
            r#""\ud83d\ude00""#,
        ]);
    }
    match kind {
        Kind::Text { min, max } => {
            add(&[r#""\u0000""#, r#""trailing\u0000""#]);
            if *min > 0 {
                add(&[r#""""#, r#"" \t\r\n""#, "\"\u{a0}\u{3000}\""]);
            }
            if let Some(max) = max {
                add(&[
                    &json!("x".repeat(max + 1)).to_string(),
                    &json!("₿".repeat(max + 1)).to_string(),
                ]);
            }
        }
        Kind::Int { min, max } => {
            add(&[
                "4.5",
                "1e30",
                "-1e30",
                "99999999999999999999",
                "-99999999999999999999",
                "9223372036854775808",
                "-9223372036854775809",
                "9223372036854775807.5",
                r#""99999999999999999999""#,
                r#""1e3""#,
                r#""Infinity""#,
                r#""4.5""#,
                r#""0x10""#,
                r#""٥""#,
            ]);
            add(&[
                &(min - 1).to_string(),
                &format!("\"{}\"", min - 1),
                "-9223372036854775808",
            ]);
            if let Some(max) = max {
                add(&[&(max + 1).to_string(), "9223372036854775807"]);
            }
        }
        Kind::Float { min, max } => {
            add(&[r#""Infinity""#, r#""-inf""#, r#""1e400""#, r#""0x10""#]);
            if min.is_some() {
                add(&["-0.001", "-1e308", "-99999999999999999999"]);
            }
            if max.is_some() {
                add(&[
                    "100.001",
                    "1e30",
                    "99999999999999999999",
                    "1.7976931348623157e308",
                ]);
            }
        }
        Kind::Bool => add(&["0", "1", r#""yes""#, r#""True""#]),
        Kind::Time => add(&[
            r#""soon""#,
            r#""2026-11-01""#,
            r#""2026-02-30T00:00:00Z""#,
            r#""2026-11-01T24:00:01Z""#,
            r#""2026-11-01T00:00:00+99:00""#,
            r#""10000-01-01T00:00:00Z""#,
            r#""0000-01-01T00:00:00Z""#,
            r#""2026-11-01T00:00:00\u0000""#,
            r#""1764547200""#,
            "1764547200",
        ]),
        Kind::Uuid => add(&[r#""nope""#]),
        Kind::Choice => add(&[
            r#""bogus""#,
            r#""Running""#,
            r#""running ""#,
            r#""running\u0000""#,
            r#""cancelled""#,
        ]),
    }
    let own = values.into_iter().map(|raw| (raw.into_bytes(), true));
    own.chain(common()).collect()
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
        status,
        code,
        content_type,
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

/// The bad values of a kind of parameter, percent-encoded as far as they can be.
fn parameter_values(kind: &Kind) -> Vec<String> {
    let long = "a".repeat(5_000);
    let mut values = vec!["%00", "a%00", "%00a", &long];
    match kind {
        Kind::Int { .. } => values.extend([
            "-1",
            "4.5",
            "1e30",
            "1e3",
            "99999999999999999999",
            "9223372036854775808",
            "-9223372036854775809",
            "NaN",
            "Infinity",
            "-inf",
            "abc",
            "5%00",
            "0x1",
            "true",
            "5,",
            "%D9%A5",
        ]),
        Kind::Uuid => values.extend([
            "nope",
            "5",
            "-1",
            "NaN",
            "null",
            "cb9f6005-0980-421e-945b-c8a183c55e9",
            "%E2%82%BF",
            "cb9f6005-0980-421e-945b-c8a183c55e90%00",
            "cb9f6005_0980_421e_945b_c8a183c55e90",
            "1e30",
        ]),
        Kind::Choice => values.extend([
            "bogus",
            "Running",
            "running%20",
            "running%00",
            "cancelled",
            "null",
        ]),
        Kind::Text { .. } => {}
        _ => panic!("teach this test parameters of the kind {kind:?}"),
    }
    let mut values: Vec<_> = values.into_iter().map(str::to_owned).collect();
    match kind {
        Kind::Int { max: Some(max), .. } => values.push((max + 1).to_string()),
        Kind::Text { max: Some(max), .. } => {
            values.extend(["a".repeat(max + 1), "%E2%82%BF".repeat(max + 1)]);
        }
        _ => {}
    }
    values
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
            let mut fields: Vec<_> = good
                .path
                .iter()
                .map(|value| crate::live::encode(value))
                .collect();
            raw.clone_into(&mut fields[index]);
            let mut fields = fields.into_iter();
            let segments = template
                .split('/')
                .map(|segment| match segment.starts_with('{') {
                    true => fields.next().unwrap(),
                    false => segment.to_owned(),
                });
            segments.collect::<Vec<_>>().join("/")
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
        values.extend([String::new(), "%20".to_owned(), "+".to_owned()]);
        values.extend(TORN.map(str::to_owned));
        for raw in values {
            let pair = format!("{name}={raw}");
            all.push(invalid(shown(pair.as_bytes()), &with(&pair), body(), name));
        }
        all.push(invalid(
            format!("{name} without ="),
            &with(name),
            body(),
            name,
        ));
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

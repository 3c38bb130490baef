//! Kinds of fields, as the document has them, and bad values for each.

use serde_json::{Map, Value, json};
use utxoiq_store_server::openapi;

/// What a field takes.
#[derive(Debug, Clone)]
pub enum Kind {
    Text {
        min: usize,
        max: Option<usize>,
    },
    Int {
        min: i64,
        max: Option<i64>,
    },
    Float {
        min: Option<f64>,
        max: Option<f64>,
    },
    Bool,
    Time,
    Day,
    Uuid,
    Choice,
    /// An object; of strings only, or of anything.
    Object {
        of_texts: bool,
    },
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
    if let Some(named) = schema["$ref"].as_str() {
        let document: Value = serde_json::from_str(openapi::json()).unwrap();
        return kind(document.pointer(named.trim_start_matches('#')).unwrap());
    }
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
        (Some("string"), Some("date")) => Kind::Day,
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
        (Some("object"), None) => Kind::Object {
            of_texts: schema["additionalProperties"]["type"] == "string",
        },
        _ => panic!("teach this test the schema {schema}"),
    }
}

/// What is not JSON, apart from [`malformed_values`] with blanks or without UTF-8.
const MALFORMED: &str = r#"NaN Infinity -Infinity nan 1e400 -1e400 01 +1 0x1 'a' undefined "\ud800" "\udc00" "\udc00\ud800"
    "a\ud800b" "\u00" "\x41" ""#;

const NO_INTEGERS: &str = r#"4.5 1e30 -1e30 99999999999999999999 -99999999999999999999 9223372036854775808
    -9223372036854775809 9223372036854775807.5 -9223372036854775808 "99999999999999999999" "1e3" "Infinity" "4.5" "0x10"
    "٥""#;

const NO_TIMES: &str = r#""soon" "2026-11-01" "2026-02-30T00:00:00Z" "2026-11-01T24:00:01Z" "2026-11-01T00:00:00+99:00"
    "10000-01-01T00:00:00Z" "0000-01-01T00:00:00Z" "2026-11-01T00:00:00\u0000" "1764547200" 1764547200"#;

const NO_DAYS: &str = r#""2026-11-1" "2026-02-30" "2026-13-01" "0000-01-01" "10000-01-01" "20261101"
    "2026-11-01T00:00:00Z" "today" "2026-11-01\u0000" 1764547200"#;

/// What is not JSON, in place of any value.
fn malformed_values() -> Vec<Vec<u8>> {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let texts = ["", "\"a\0b\"", "\"a\nb\"", &deep].into_iter();
    let texts = texts.chain(MALFORMED.split_whitespace());
    let mut values: Vec<_> = texts.map(|raw| raw.as_bytes().to_vec()).collect();
    for bytes in [&b"\xff"[..], b"\xed\xa0\x80", b"\xc3", b"\xf5\x80\x80\x80"] {
        values.push([b"\"", bytes, b"\""].concat());
    }
    values.push(b"\xff".to_vec());
    values
}

/// What a kind of field does not take: as it is written in JSON, and whether that is JSON at all.
pub fn of(kind: &Kind) -> Vec<(Vec<u8>, bool)> {
    let wrong = other_types(kind).into_iter().chain(out_of_range(kind));
    let wrong = wrong.map(|raw| (raw.into_bytes(), true));
    let malformed = malformed_values().into_iter().map(|raw| (raw, false));
    wrong.chain(malformed).collect()
}

/// Values of other types, and a text that is too long for anything.
fn other_types(kind: &Kind) -> Vec<String> {
    let long = json!("x".repeat(1_000_001)).to_string();
    let mut values = vec!["[]", "[1]", "{}", r#"{"a": 1}"#, &long];
    if !matches!(kind, Kind::Bool) {
        values.extend(["true", "false"]);
    }
    if !matches!(kind, Kind::Int { .. } | Kind::Float { .. }) {
        values.extend(["5", "-1", "0.5", "1e30", "99999999999999999999"]);
    }
    if !matches!(kind, Kind::Text { .. }) {
        values.extend([r#""""#, r#"" ""#, r#""abc""#, r#""5\u0000""#, r#""NaN""#]);
    }
    if let Kind::Object { of_texts } = kind {
        values.retain(|value| !value.starts_with('{') || *of_texts && *value != "{}");
    }
    values.into_iter().map(str::to_owned).collect()
}

/// Values of the right type.
fn out_of_range(kind: &Kind) -> Vec<String> {
    let mut values = Vec::new();
    let mut add = |raw: &[&str]| values.extend(raw.iter().map(|raw| (*raw).to_owned()));
    match kind {
        Kind::Text { min, max } => {
            add(&[r#""\u0000""#, r#""a\u0000b""#, r#""trailing\u0000""#]);
            if *min > 0 {
                add(&[r#""""#, r#"" \t\r\n""#, "\"\u{a0}\u{3000}\""]);
            }
            for character in ["x", "₿"] {
                let long = max.map(|max| json!(character.repeat(max + 1)).to_string());
                add(&long.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
        Kind::Int { min, max } => {
            add(&NO_INTEGERS.split_whitespace().collect::<Vec<_>>());
            // A bound may be the type's own.
            let below = i128::from(*min) - 1;
            add(&[&below.to_string(), &format!("\"{below}\"")]);
            if let Some(max) = max {
                let above = i128::from(*max) + 1;
                add(&[&above.to_string(), "9223372036854775808"]);
            }
        }
        Kind::Float { min, max } => {
            add(&[r#""Infinity""#, r#""-inf""#, r#""1e400""#, r#""0x10""#]);
            let bounds = [(min.map(|min| -min), "-"), (*max, "")];
            for (bound, sign) in bounds {
                let Some(bound) = bound else { continue };
                for beyond in [bound + (bound.abs() * 1e-9).max(0.001), 1e21, 1e30, 1e308] {
                    if beyond > bound {
                        add(&[&format!("{sign}{beyond:?}")]);
                    }
                }
            }
        }
        Kind::Bool => add(&["0", "1", r#""yes""#, r#""True""#]),
        Kind::Day => add(&NO_DAYS.split_whitespace().collect::<Vec<_>>()),
        Kind::Time => add(&NO_TIMES.split_whitespace().collect::<Vec<_>>()),
        Kind::Uuid => add(&[r#""nope""#]),
        Kind::Object { of_texts } => {
            add(&[r#"{"a": "\u0000"}"#, r#"{"a\u0000": "b"}"#]);
            if *of_texts {
                add(&[r#"{"a": null}"#, r#"{"a": ["b"]}"#]);
            } else {
                add(&[r#"{"a": [{"b": "\u0000"}]}"#]);
            }
        }
        Kind::Choice => add(&[
            r#""bogus""#,
            r#""Running""#,
            r#""running ""#,
            r#""running\u0000""#,
            r#""cancelled""#,
        ]),
    }
    values
}

const NO_INTEGER_PARAMETERS: &str =
    "-1 4.5 1e30 1e3 99999999999999999999 9223372036854775808 -9223372036854775809 NaN
    Infinity -inf abc 5%00 0x1 true 5, %D9%A5";

const NO_FLOAT_PARAMETERS: &str = "NaN Infinity -inf 1e400 abc 5%00 0x1 true 5, 1,5 %D9%A5";

const NO_UUID_PARAMETERS: &str =
    "nope 5 -1 NaN null 1e30 %E2%82%BF cb9f6005-0980-421e-945b-c8a183c55e9
    cb9f6005-0980-421e-945b-c8a183c55e90%00 cb9f6005_0980_421e_945b_c8a183c55e90";

const NO_TIME_PARAMETERS: &str =
    "soon 2026-11-01 2026-02-30T00:00:00Z 2026-11-01T24:00:01Z 2026-11-01T00:00:00%2B99:00 10000-01-01T00:00:00Z
    0000-01-01T00:00:00Z 2026-11-01T00:00:00%00 1764547200 now infinity %D9%A5";

const NO_DAY_PARAMETERS: &str =
    "soon 2026-11-1 2026-02-30 2026-13-01 0000-01-01 10000-01-01 -026-01-01 %2B026-01-01 20261101 2026-11-01T00:00:00Z
    2026/11/01 2026-11-01%00 infinity today 1764547200 %D9%A5026-01-01";

const NO_BOOL_PARAMETERS: &str = "yes no 0 1 True TRUE t true%20 true%00 null";

const NO_CHOICE_PARAMETERS: &str = "bogus Running running%20 running%00 cancelled null";

/// The bad values of a kind of parameter, percent-encoded as far as they can be.
pub fn parameter_values(kind: &Kind) -> Vec<String> {
    let words = match kind {
        Kind::Int { .. } => NO_INTEGER_PARAMETERS,
        Kind::Uuid => NO_UUID_PARAMETERS,
        Kind::Choice => NO_CHOICE_PARAMETERS,
        Kind::Time => NO_TIME_PARAMETERS,
        Kind::Day => NO_DAY_PARAMETERS,
        Kind::Bool => NO_BOOL_PARAMETERS,
        Kind::Text { .. } => "",
        Kind::Float { .. } => NO_FLOAT_PARAMETERS,
        Kind::Object { .. } => {
            panic!("teach this test parameters of the kind {kind:?}")
        }
    };
    let words = words.split_whitespace().chain(["%00", "a%00", "%00a"]);
    let mut values: Vec<_> = words.map(str::to_owned).collect();
    values.push("a".repeat(5_000));
    match kind {
        Kind::Int { max: Some(max), .. } => values.push((i128::from(*max) + 1).to_string()),
        Kind::Float { min, max } => {
            values.extend(min.map(|min| (min - 0.001).to_string()));
            values.extend(max.map(|max| (max + 0.001).to_string()));
        }
        Kind::Text { max: Some(max), .. } => {
            values.push("a".repeat(max + 1));
            // A request's head has at most 64 KiB.
            if *max <= 5_000 {
                values.push("%E2%82%BF".repeat(max + 1));
            }
        }
        _ => {}
    }
    values
}

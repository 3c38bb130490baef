//! JSON as it is accepted here: strictly.
//!
//! The parser refuses what readers elsewhere understand differently: a repeated key, a lone surrogate, NaN, a number
//! beyond a double, nesting deeper than 128, bytes after the end. Each refusal says where.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses one JSON document, or says what is wrong with it and where.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("the body is empty: send a JSON document".into());
    }
    serde_json::from_slice::<Strict>(bytes)
        .map(|Strict(value)| value)
        .map_err(|error| format!("the body is not JSON that can be read: {error}"))
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("a key is given twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_misread_is_refused_with_its_position() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let mut refused: Vec<(&str, Vec<u8>)> = vec![
            ("empty", b"".to_vec()),
            ("blank", b" \r\n\t".to_vec()),
            ("torn", b"{\"a\": ".to_vec()),
            ("trailing", b"{} x".to_vec()),
            ("two documents", b"{}{}".to_vec()),
            ("single quotes", b"{'a': 1}".to_vec()),
            ("NaN", b"{\"a\": NaN}".to_vec()),
            ("Infinity", b"{\"a\": Infinity}".to_vec()),
            ("-Infinity", b"{\"a\": -Infinity}".to_vec()),
            ("1e400", b"{\"a\": 1e400}".to_vec()),
            ("leading zero", b"{\"a\": 01}".to_vec()),
            ("lone high surrogate", br#"{"a": "\ud800"}"#.to_vec()),
            ("lone low surrogate", br#"{"a": "\udc00"}"#.to_vec()),
            ("reversed surrogates", br#"{"a": "\udc00\ud800"}"#.to_vec()),
            ("raw control character", b"{\"a\": \"\x01\"}".to_vec()),
            ("not UTF-8", b"{\"a\": \"\xff\xfe\"}".to_vec()),
            ("UTF-8 surrogate", b"{\"a\": \"\xed\xa0\x80\"}".to_vec()),
            ("byte order mark", b"\xef\xbb\xbf{}".to_vec()),
            ("repeated key", br#"{"a": 1, "a": 2}"#.to_vec()),
            (
                "repeated nested key",
                br#"{"b": [{"a": 1, "\u0061": 2}]}"#.to_vec(),
            ),
        ];
        refused.push(("deep", deep(128).into_bytes()));
        refused.push(("very deep", deep(1_000_000).into_bytes()));
        for (name, bytes) in refused {
            let message = parse(&bytes).expect_err(name);
            assert!(
                message.contains("empty") || message.contains("line 1 column"),
                "{name}: {message}"
            );
        }
        assert!(parse(deep(127).as_bytes()).is_ok());
    }

    #[test]
    fn whole_numbers_are_kept_exactly() {
        let max = u64::MAX.to_string();
        assert_eq!(parse(max.as_bytes()).unwrap(), Value::from(u64::MAX));
        let min = i64::MIN.to_string();
        assert_eq!(parse(min.as_bytes()).unwrap(), Value::from(i64::MIN));
        assert_eq!(
            parse("\"\\ud83d\\ude00\"".as_bytes()).unwrap(),
            Value::from("😀")
        );
    }
}

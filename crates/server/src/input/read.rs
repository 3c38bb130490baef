//! Reading single fields.

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::Input;

/// The most characters of a written number or time that are looked at.
const MAX_LITERAL_CHARACTERS: usize = 64;

/// Above this a double no longer holds every whole number.
const MAX_EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;

/// Every finite number.
pub const FINITE: RangeInclusive<f64> = f64::MIN..=f64::MAX;

const REQUIRED: &str = "is required";

/// What a JSON value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl Input {
    /// Text of so many characters. A range that begins above 0 refuses blank text too.
    pub fn text(&mut self, field: &str, length: RangeInclusive<usize>) -> String {
        self.required(field, |value| text(value, &length))
    }

    /// As [`text`](Self::text), or absent.
    pub fn optional_text(&mut self, field: &str, length: RangeInclusive<usize>) -> Option<String> {
        self.optional(field, |value| text(value, &length))
    }

    /// A name of something, of so many characters: text without control characters, which no name has and logs break at.
    pub fn name(&mut self, field: &str, length: RangeInclusive<usize>) -> String {
        self.required(field, |value| name(value, &length))
    }

    /// As [`name`](Self::name), or absent.
    pub fn optional_name(&mut self, field: &str, length: RangeInclusive<usize>) -> Option<String> {
        self.optional(field, |value| name(value, &length))
    }

    /// A whole number in a range.
    pub fn int(&mut self, field: &str, range: RangeInclusive<i64>) -> i64 {
        self.required(field, |value| int(value, &range))
    }

    /// As [`int`](Self::int), or absent.
    pub fn optional_int(&mut self, field: &str, range: RangeInclusive<i64>) -> Option<i64> {
        self.optional(field, |value| int(value, &range))
    }

    /// As [`int`](Self::int), or a default.
    pub fn int_or(&mut self, field: &str, range: RangeInclusive<i64>, default: i64) -> i64 {
        self.optional_int(field, range).unwrap_or(default)
    }

    /// A finite number in a range.
    pub fn float(&mut self, field: &str, range: RangeInclusive<f64>) -> f64 {
        self.required(field, |value| float(value, &range))
    }

    /// As [`float`](Self::float), or absent.
    pub fn optional_float(&mut self, field: &str, range: RangeInclusive<f64>) -> Option<f64> {
        self.optional(field, |value| float(value, &range))
    }

    /// A boolean, or a default; the words `true` and `false` count, since a query has only words.
    pub fn bool_or(&mut self, field: &str, default: bool) -> bool {
        self.optional_bool(field).unwrap_or(default)
    }

    /// A boolean, or absent.
    pub fn optional_bool(&mut self, field: &str) -> Option<bool> {
        self.optional(field, boolean)
    }

    /// A moment in UTC, cut to microseconds.
    pub fn time(&mut self, field: &str) -> DateTime<Utc> {
        self.required(field, time)
    }

    /// As [`time`](Self::time), or absent.
    pub fn optional_time(&mut self, field: &str) -> Option<DateTime<Utc>> {
        self.optional(field, time)
    }

    /// A day.
    pub fn day(&mut self, field: &str) -> NaiveDate {
        self.required(field, day)
    }

    /// A day, or absent.
    pub fn optional_day(&mut self, field: &str) -> Option<NaiveDate> {
        self.optional(field, day)
    }

    /// A UUID, with or without dashes.
    pub fn uuid(&mut self, field: &str) -> Uuid {
        self.required(field, uuid)
    }

    /// As [`uuid`](Self::uuid), or absent.
    pub fn optional_uuid(&mut self, field: &str) -> Option<Uuid> {
        self.optional(field, uuid)
    }

    /// One of some words, as what it stands for.
    pub fn one_of<T: Clone, const N: usize>(&mut self, field: &str, choices: &[(&str, T); N]) -> T {
        const { assert!(N > 0, "a rejected field reads as the first choice") };
        let absent = self.fields.get(field).is_none_or(Value::is_null);
        if absent {
            self.refuse(field, REQUIRED);
        }
        self.optional_one_of(field, choices)
            .unwrap_or_else(|| choices[0].1.clone())
    }

    /// As [`one_of`](Self::one_of), or absent.
    pub fn optional_one_of<T: Clone, const N: usize>(
        &mut self,
        field: &str,
        choices: &[(&str, T); N],
    ) -> Option<T> {
        self.optional(field, |value| {
            choices
                .iter()
                .find(|(word, _)| value.as_str() == Some(*word))
                .map(|(_, meaning)| meaning.clone())
                .ok_or_else(|| {
                    let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
                    format!("must be one of {}", words.join(", "))
                })
        })
    }

    /// The field's value as it came, for shapes that these readers do not know.
    pub fn raw(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    fn required<T: Default>(
        &mut self,
        field: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> T {
        let found = self.fields.get(field).filter(|value| !value.is_null());
        let read = found.map_or_else(|| Err(REQUIRED.to_owned()), read);
        read.unwrap_or_else(|message| {
            self.refuse(field, message);
            T::default()
        })
    }

    fn optional<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let found = self.fields.get(field).filter(|value| !value.is_null())?;
        match read(found) {
            Ok(value) => Some(value),
            Err(message) => {
                self.refuse(field, message);
                None
            }
        }
    }
}

fn text(value: &Value, length: &RangeInclusive<usize>) -> Result<String, String> {
    let Value::String(text) = value else {
        return Err(format!("must be a string, found {}", kind(value)));
    };
    // A character has at most four bytes: a megabyte of text is refused without being counted.
    if text.len() / 4 > *length.end() || text.chars().count() > *length.end() {
        return Err(format!("must have at most {} characters", length.end()));
    }
    if *length.start() > 0 && text.trim().is_empty() {
        return Err("must not be blank".into());
    }
    if text.chars().count() < *length.start() {
        return Err(format!("must have at least {} characters", length.start()));
    }
    if text.contains('\0') {
        return Err("must not contain NUL characters".into());
    }
    Ok(text.clone())
}

fn name(value: &Value, length: &RangeInclusive<usize>) -> Result<String, String> {
    let text = text(value, length)?;
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    Ok(text)
}

fn int(value: &Value, range: &RangeInclusive<i64>) -> Result<i64, String> {
    let number = match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => int_literal(text),
        _ => None,
    };
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| match *range.end() {
            i64::MAX => format!("must be a whole number of at least {}", range.start()),
            end => format!("must be a whole number from {} to {end}", range.start()),
        })
}

/// A double that is a whole number and small enough to be exactly the one that was written.
#[allow(clippy::cast_possible_truncation)] // bounded before
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < MAX_EXACT_DOUBLE).then_some(number as i64)
}

/// `5`, `+5`, `-5` and `5.00`, with blanks around.
fn int_literal(text: &str) -> Option<i64> {
    let text = literal(text)?;
    let digits = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => {
            whole
        }
        Some(_) => return None,
        None => text,
    };
    digits.parse().ok()
}

fn float(value: &Value, range: &RangeInclusive<f64>) -> Result<f64, String> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => literal(text).and_then(|text| text.parse().ok()),
        _ => None,
    };
    number
        .filter(|number: &f64| number.is_finite() && range.contains(number))
        .ok_or_else(|| {
            if *range == FINITE {
                "must be a finite number".into()
            } else {
                format!("must be a number from {} to {}", range.start(), range.end())
            }
        })
}

fn literal(text: &str) -> Option<&str> {
    let text = text.trim();
    (text.len() <= MAX_LITERAL_CHARACTERS).then_some(text)
}

fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

fn time(value: &Value) -> Result<DateTime<Utc>, String> {
    let written = match value {
        Value::String(text) => literal(text).and_then(time_literal),
        _ => None,
    };
    written.ok_or_else(|| "must be an RFC 3339 time such as 2026-01-31T12:00:00Z".into())
}

fn time_literal(text: &str) -> Option<DateTime<Utc>> {
    if !text.is_ascii() || !matches!(text.as_bytes().get(10)?, b'T' | b't' | b' ') {
        return None;
    }
    let clock = &text[11..];
    let has_offset = clock.contains(['Z', 'z', '+', '-']);
    let zone = if has_offset { "" } else { "Z" };
    let parsed = DateTime::parse_from_rfc3339(&format!("{}T{clock}{zone}", &text[..10])).ok()?;
    // Cut by way of a count of microseconds, which also turns a leap second into the one after it.
    let time = DateTime::from_timestamp_micros(parsed.timestamp_micros())?;
    // Beyond four digits RFC 3339 could not write it back.
    (1..=9999).contains(&time.year()).then_some(time)
}

fn day(value: &Value) -> Result<NaiveDate, String> {
    let written = value.as_str().and_then(day_literal);
    written.ok_or_else(|| "must be a day such as 2026-01-31".into())
}

/// Exactly ten characters: `%Y` alone would take signs and further digits.
fn day_literal(text: &str) -> Option<NaiveDate> {
    let has_form = text.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    if text.len() != 10 || !has_form {
        return None;
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .ok()
        .filter(|day| day.year() > 0)
}

fn uuid(value: &Value) -> Result<Uuid, String> {
    let written = match value {
        Value::String(text) => Uuid::try_parse(text).ok(),
        _ => None,
    };
    written.ok_or_else(|| "must be a UUID".into())
}

#[cfg(test)]
mod tests;

//! Samples that are plainly right, read straight from the bytes.
//!
//! What is taken here is a part of what [`super::general`] takes, and is read as it reads it. `None` says nothing about a body
//! but that it is to be read there: it has an escape, a number as a string, a character beyond ASCII in a name, a field that
//! is not known, or is wrong.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fmt,
};

use chrono::NaiveDate;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use utxoiq_store::metrics::{Batch, NewSample, SeriesName};

use super::{Lengths, general::Read};

/// The most keys of an object that are compared with one another.
const MAX_KEYS: usize = 32;

/// The longest number of an object, in characters: it is taken over as it is written, and PostgreSQL's own limits are far.
const MAX_NUMBER: usize = 24;

/// An array of at most so many samples.
pub fn batch(body: &[u8], lengths: Lengths, most: usize) -> Option<Batch> {
    let mut builder = Builder::new(lengths, most);
    let mut json = serde_json::Deserializer::from_slice(body);
    (&mut builder).deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(builder.batch)
}

/// One sample.
pub fn one(body: &[u8], lengths: Lengths) -> Option<Batch> {
    let mut builder = Builder::new(lengths, 1);
    builder.push(&serde_json::from_slice(body).ok()?)?;
    Some(builder.batch)
}

/// One sample and its series.
pub fn line(line: &[u8], lengths: Lengths) -> Option<Read> {
    let sent: Sent<'_> = serde_json::from_slice(line).ok()?;
    Some((sent.name(lengths)?, sent.sample(0)?))
}

/// A sample as it was sent. Texts are borrowed, so that one with an escape in it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent<'a> {
    #[serde(borrow)]
    service_name: &'a str,
    #[serde(borrow)]
    metric_type: &'a str,
    metric_value: Number,
    #[serde(borrow)]
    unit: &'a str,
    #[serde(borrow, default)]
    timestamp: Option<&'a str>,
    #[serde(borrow, default)]
    metric_metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    labels: Option<&'a RawValue>,
}

impl<'a> Sent<'a> {
    fn key(&self) -> Key<'a> {
        let labels = self.labels.map(RawValue::get).unwrap_or_default();
        (self.service_name, self.metric_type, self.unit, labels)
    }

    fn name(&self, lengths: Lengths) -> Option<SeriesName> {
        let is_plain = is_name(self.service_name, lengths.service_name)
            && is_name(self.metric_type, lengths.metric_type)
            && (self.unit.is_empty() || is_name(self.unit, lengths.unit));
        if !is_plain {
            return None;
        }
        Some(SeriesName {
            service_name: self.service_name.to_owned(),
            metric_type: self.metric_type.to_owned(),
            unit: self.unit.to_owned(),
            labels: match self.labels {
                Some(raw) => labels(raw.get())?,
                None => BTreeMap::new(),
            },
        })
    }

    fn sample(&self, series: usize) -> Option<NewSample> {
        let at = match self.timestamp {
            Some(text) => Some(time(text)?),
            None => None,
        };
        let metadata = match self.metric_metadata.map(RawValue::get) {
            Some(raw) if is_plain_object(raw) => Some(raw.into()),
            Some(_) => return None,
            None => None,
        };
        Some(NewSample {
            series,
            at,
            value: self.metric_value.0,
            metadata,
        })
    }
}

/// What names a series, as it is written.
type Key<'a> = (&'a str, &'a str, &'a str, &'a str);

struct Builder<'a> {
    batch: Batch,
    known: HashMap<Key<'a>, usize>,
    lengths: Lengths,
    most: usize,
}

impl<'a> Builder<'a> {
    fn new(lengths: Lengths, most: usize) -> Self {
        Self {
            batch: Batch::default(),
            known: HashMap::new(),
            lengths,
            most,
        }
    }

    fn push(&mut self, sent: &Sent<'a>) -> Option<()> {
        if self.batch.samples().len() >= self.most {
            return None;
        }
        let series = match self.known.entry(sent.key()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(self.batch.series(sent.name(self.lengths)?)),
        };
        self.batch.push(sent.sample(series)?);
        Some(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Builder<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Builder<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of samples")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(sent) = items.next_element::<Sent<'de>>()? {
            self.push(&sent)
                .ok_or_else(|| A::Error::custom("to be read in general"))?;
        }
        Ok(())
    }
}

/// A number that is written as one.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numeric;
        impl Visitor<'_> for Numeric {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            #[allow(clippy::cast_precision_loss)] // as the general path has it
            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            #[allow(clippy::cast_precision_loss)]
            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value))
            }
        }
        deserializer.deserialize_f64(Numeric)
    }
}

/// Visible ASCII with spaces, not blank.
fn is_name(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && text.bytes().any(|byte| byte != b' ')
}

/// An object of strings without escapes and without a repeated key.
fn labels(raw: &str) -> Option<BTreeMap<String, String>> {
    struct Labels(BTreeMap<String, String>);
    impl<'de> Deserialize<'de> for Labels {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Pairs;
            impl<'de> Visitor<'de> for Pairs {
                type Value = Labels;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object of strings")
                }

                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut pairs: A,
                ) -> Result<Labels, A::Error> {
                    let mut labels = BTreeMap::new();
                    while let Some((key, value)) = pairs.next_entry::<&str, &str>()? {
                        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
                            return Err(A::Error::custom("a key is given twice"));
                        }
                    }
                    Ok(Labels(labels))
                }
            }
            deserializer.deserialize_map(Pairs)
        }
    }
    serde_json::from_str::<Labels>(raw)
        .ok()
        .map(|labels| labels.0)
}

/// Whether JSON that is well formed is an object without another in it, without escapes, repeated keys and odd numbers.
fn is_plain_object(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    if bytes.first() != Some(&b'{') || bytes.contains(&b'\\') {
        return false;
    }
    let mut keys: [&[u8]; MAX_KEYS] = [&[]; MAX_KEYS];
    let (mut known, mut at, mut is_key) = (0, 1, true);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let rest = bytes.get(at + 1..).unwrap_or_default();
                let Some(length) = rest.iter().position(|byte| *byte == b'"') else {
                    return false;
                };
                let text = &rest[..length];
                if is_key {
                    if known == MAX_KEYS || keys[..known].contains(&text) {
                        return false;
                    }
                    keys[known] = text;
                    known += 1;
                }
                at += length + 2;
                continue;
            }
            b':' => is_key = false,
            b',' => is_key = true,
            b'{' | b'[' => return false,
            b'-' | b'0'..=b'9' => {
                let rest = &bytes[at..];
                let is_part = |byte: &u8| matches!(byte, b'-' | b'.' | b'0'..=b'9');
                let length = rest.iter().take_while(|byte| is_part(byte)).count();
                if length > MAX_NUMBER || matches!(rest.get(length), Some(b'e' | b'E' | b'+')) {
                    return false;
                }
                at += length;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    true
}

/// `2026-01-31T12:00:00`, with a fraction of at most 9 digits, and `Z`, `+00:00` or no offset.
fn time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (date, clock) = bytes.split_at_checked(19)?;
    let is_written = date.iter().enumerate().all(|(at, byte)| match at {
        4 | 7 => *byte == b'-',
        10 => *byte == b'T',
        13 | 16 => *byte == b':',
        _ => byte.is_ascii_digit(),
    });
    let number = |from: usize, to: usize| {
        date[from..to]
            .iter()
            .fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'))
    };
    let (fraction, zone) = match clock {
        [b'.', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest.split_at_checked(digits)?
        }
        rest => (&b"0"[..], rest),
    };
    let is_utc = matches!(zone, b"" | b"Z" | b"+00:00");
    if !is_written || !is_utc || !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let (year, hour, minute, second) =
        (number(0, 4), number(11, 13), number(14, 16), number(17, 19));
    if year == 0 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(year.try_into().ok()?, number(5, 7), number(8, 10))?;
    let day = date.signed_duration_since(NaiveDate::default()).num_days();
    let micros = fraction
        .iter()
        .chain(b"000000")
        .take(6)
        .fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0'));
    let seconds = day * 86_400 + i64::from(hour * 3_600 + minute * 60 + second);
    Some(seconds * 1_000_000 + micros)
}

#[cfg(test)]
mod tests;

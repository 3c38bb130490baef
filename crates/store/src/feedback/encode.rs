//! Entries as text for other programs: pure, for whoever exports.
//!
//! Both formats have the same twelve fields in the same order, times in RFC 3339 (UTC, microseconds).
//!
//! * **NDJSON** is what is stored, to the letter; what is absent is null.
//! * **CSV** follows RFC 4180: a header, lines ended by CR LF, quotes where they are needed. What is absent is empty, which no
//!   stored text is.
//!
//! A spreadsheet takes a cell for a formula by its first character, and a user may have written
//! `=HYPERLINK("http://…", "more")`. So in CSV a text (insight, user, comment, reason) that begins with one of `= + - @`, their
//! full-width forms, a tab, CR or LF gets an apostrophe in front. A text that begins with an apostrophe gets one, too, so that
//! nothing is lost: to have what was stored, take one leading apostrophe off.

use std::{borrow::Cow, fmt, str::FromStr};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{Entry, FlagType};
use crate::error::{Error, Result};

/// The first characters that get an apostrophe in front.
const GUARDED: [char; 12] = [
    '\'', '=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠',
];

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Comma-separated values with a header (RFC 4180), safe to open with a spreadsheet.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Csv, Self::Ndjson];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// Appends what comes before the first entry.
    pub fn header(self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Csv => write_csv(out, std::iter::once(COLUMNS.map(Cow::Borrowed))),
            Self::Ndjson => Ok(()),
        }
    }

    /// Appends entries.
    pub fn encode(self, entries: &[Entry], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Csv => write_csv(out, entries.iter().map(record)),
            Self::Ndjson => {
                for entry in entries {
                    serde_json::to_writer(&mut *out, &Line::from(entry)).map_err(cannot_encode)?;
                    out.push(b'\n');
                }
                Ok(())
            }
        }
    }
}

const COLUMNS: [&str; 12] = [
    "id",
    "insight_id",
    "user_id",
    "rating",
    "rated_at",
    "comment",
    "commented_at",
    "flag_type",
    "flag_reason",
    "flagged_at",
    "created_at",
    "updated_at",
];

fn write_csv<'a>(
    out: &mut Vec<u8>,
    records: impl Iterator<Item = [Cow<'a, str>; COLUMNS.len()]>,
) -> Result<()> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(out);
    for record in records {
        writer
            .write_record(record.iter().map(|field| field.as_bytes()))
            .map_err(cannot_encode)?;
    }
    writer.flush().map_err(cannot_encode)
}

fn record(entry: &Entry) -> [Cow<'_, str>; COLUMNS.len()] {
    [
        Cow::Owned(entry.id.to_string()),
        guarded(&entry.insight_id),
        guarded(&entry.user_id),
        Cow::Owned(entry.rating.map_or_else(String::new, |n| n.to_string())),
        Cow::Owned(optional_time(entry.rated_at)),
        guarded(entry.comment.as_deref().unwrap_or_default()),
        Cow::Owned(optional_time(entry.commented_at)),
        Cow::Borrowed(entry.flag_type.map_or("", FlagType::as_str)),
        guarded(entry.flag_reason.as_deref().unwrap_or_default()),
        Cow::Owned(optional_time(entry.flagged_at)),
        Cow::Owned(time(entry.created_at)),
        Cow::Owned(time(entry.updated_at)),
    ]
}

/// What a user wrote, so that no spreadsheet takes it for a formula.
fn guarded(text: &str) -> Cow<'_, str> {
    if text.starts_with(GUARDED) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Microseconds, as stored.
fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn optional_time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(String::new, time)
}

/// An entry as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    id: Uuid,
    insight_id: &'a str,
    user_id: &'a str,
    rating: Option<i16>,
    rated_at: Option<String>,
    comment: Option<&'a str>,
    commented_at: Option<String>,
    flag_type: Option<&'static str>,
    flag_reason: Option<&'a str>,
    flagged_at: Option<String>,
    created_at: String,
    updated_at: String,
}

impl<'a> From<&'a Entry> for Line<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            id: entry.id,
            insight_id: &entry.insight_id,
            user_id: &entry.user_id,
            rating: entry.rating,
            rated_at: entry.rated_at.map(time),
            comment: entry.comment.as_deref(),
            commented_at: entry.commented_at.map(time),
            flag_type: entry.flag_type.map(FlagType::as_str),
            flag_reason: entry.flag_reason.as_deref(),
            flagged_at: entry.flagged_at.map(time),
            created_at: time(entry.created_at),
            updated_at: time(entry.updated_at),
        }
    }
}

fn cannot_encode(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("an entry could not be encoded").with_source(error)
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| Error::field("format", "must be csv or ndjson"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let at = DateTime::from_timestamp_micros(1_750_000_000_000_001).unwrap();
        Entry {
            id: Uuid::from_u128(7),
            insight_id: "insight-1".to_owned(),
            user_id: "@user".to_owned(),
            rating: Some(4),
            rated_at: Some(at),
            comment: Some("=1+1, \"so\"\r\nit is".to_owned()),
            commented_at: Some(at),
            flag_type: None,
            flag_reason: None,
            flagged_at: None,
            created_at: at,
            updated_at: at,
        }
    }

    fn encoded(format: Format, entries: &[Entry]) -> String {
        let mut out = b"before ".to_vec();
        format.header(&mut out).unwrap();
        format.encode(entries, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_has_a_header_and_quotes_what_needs_it() {
        assert_eq!(
            encoded(Format::Csv, &[entry()]),
            "before id,insight_id,user_id,rating,rated_at,comment,commented_at,flag_type,flag_reason,flagged_at,created_at,updated_at\r\n\
             00000000-0000-0000-0000-000000000007,insight-1,'@user,4,2025-06-15T15:06:40.000001Z,\
             \"'=1+1, \"\"so\"\"\r\nit is\",2025-06-15T15:06:40.000001Z,,,,\
             2025-06-15T15:06:40.000001Z,2025-06-15T15:06:40.000001Z\r\n"
        );
        assert!(encoded(Format::Csv, &[]).ends_with("updated_at\r\n"));
    }

    #[test]
    fn ndjson_has_what_is_stored_on_a_line_of_its_own() {
        let line = "{\"id\":\"00000000-0000-0000-0000-000000000007\",\"insight_id\":\"insight-1\",\"user_id\":\"@user\",\
             \"rating\":4,\"rated_at\":\"2025-06-15T15:06:40.000001Z\",\"comment\":\"=1+1, \\\"so\\\"\\r\\nit is\",\
             \"commented_at\":\"2025-06-15T15:06:40.000001Z\",\"flag_type\":null,\"flag_reason\":null,\"flagged_at\":null,\
             \"created_at\":\"2025-06-15T15:06:40.000001Z\",\"updated_at\":\"2025-06-15T15:06:40.000001Z\"}\n";
        let two = encoded(Format::Ndjson, &[entry(), entry()]);
        assert_eq!(two, format!("before {line}{line}"));
    }

    #[test]
    fn a_text_that_could_be_a_formula_gets_an_apostrophe_which_can_be_taken_off() {
        for text in [
            "=1", "+", "-1", "@a", "\t=1", "\r", "\n", "'", "''a", "＝1", "＠",
        ] {
            assert_eq!(guarded(text), format!("'{text}"));
        }
        for text in ["", "a=1", " =1", "1-1", "é", "\"="] {
            assert_eq!(guarded(text), text);
        }
    }
}

//! Rows of CSV as samples.

use axum::body::Bytes;
use csv::{ByteRecord, ErrorKind, ReaderBuilder};
use serde_json::{Map, Value};
use utxoiq_store::error::{Error, FieldError};

use super::{Lines, checked};
use crate::{
    api::metrics::write::general::Read,
    error::ApiResult,
    input::{self, Input},
};

/// The columns, and what the contract calls them.
const COLUMNS: [(&str, &str); 8] = [
    ("service_name", "service_name"),
    ("metric_type", "metric_type"),
    ("metric_value", "metric_value"),
    ("unit", "unit"),
    ("timestamp", "timestamp"),
    ("labels", "labels"),
    ("metadata", "metric_metadata"),
    ("metric_metadata", "metric_metadata"),
];

/// The mark that spreadsheets begin a file with.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How many of them there must be.
const REQUIRED: usize = 5;

/// Reads a file; the header is its first line.
pub(in crate::api::metrics) fn rows(body: &Bytes) -> ApiResult<Lines> {
    let body = body.strip_prefix(MARK).unwrap_or(body);
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(body);
    let header = match reader.byte_headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(Error::field("header", message_of(&error)).into()),
    };
    let columns: Vec<_> = header.iter().map(column).collect();
    let missing: Vec<_> = COLUMNS[..REQUIRED]
        .iter()
        .filter(|(name, _)| {
            !header
                .iter()
                .any(|column| trimmed(column) == name.as_bytes())
        })
        .map(|(name, _)| FieldError::new(format!("header.{name}"), "is required"))
        .collect();
    if !missing.is_empty() {
        return Err(Error::fields(missing).into());
    }
    let mut lines = Lines::default();
    let mut place = Place {
        body,
        at: 0,
        line: 1,
    };
    let mut record = ByteRecord::new();
    loop {
        let begins = reader.position().byte();
        match reader.read_byte_record(&mut record) {
            Ok(true) => lines.add(place.line_of(begins), row(&columns, &record))?,
            Ok(false) => break,
            Err(error) => lines.add(place.line_of(begins), Err(message_of(&error)))?,
        }
    }
    Ok(lines)
}

/// What the contract calls a column; `None` for one that is not known.
fn column(name: &[u8]) -> Option<&'static str> {
    let known = COLUMNS.iter();
    let mut known = known.filter(|(known, _)| trimmed(name) == known.as_bytes());
    known.next().map(|(_, field)| *field)
}

fn trimmed(name: &[u8]) -> &[u8] {
    name.trim_ascii()
}

/// Which line of a file a record begins in: cells may have line breaks, and where lines end in two characters the reader
/// stands between them.
struct Place<'a> {
    body: &'a [u8],
    at: usize,
    line: usize,
}

impl Place<'_> {
    fn line_of(&mut self, byte: u64) -> usize {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX);
        while let Some(there) = self.body.get(self.at) {
            if self.at >= byte && !matches!(there, b'\r' | b'\n') {
                break;
            }
            self.line += usize::from(*there == b'\n');
            self.at += 1;
        }
        self.line
    }
}

fn row(columns: &[Option<&'static str>], record: &ByteRecord) -> Result<Read, String> {
    if record.len() != columns.len() {
        return Err(format!(
            "has {} cells where the header has {}",
            record.len(),
            columns.len()
        ));
    }
    let mut fields = Map::new();
    for (field, cell) in columns.iter().zip(record) {
        let Some(field) = *field else { continue };
        let text = std::str::from_utf8(cell).map_err(|_| format!("{field}: must be UTF-8"))?;
        // An empty cell is an absent field, but for the unit, which may be empty.
        if text.is_empty() && field != "unit" {
            continue;
        }
        let value = match field {
            "labels" | "metric_metadata" => input::document(text.as_bytes())
                .map_err(|error| format!("{field}: {}", error.detail()))?,
            _ => Value::from(text),
        };
        fields.insert(field.to_owned(), value);
    }
    let fields = Input::body(Value::Object(fields)).map_err(|error| error.detail().to_owned())?;
    checked(fields)
}

fn message_of(error: &csv::Error) -> String {
    match error.kind() {
        ErrorKind::Utf8 { .. } => "must be UTF-8".into(),
        _ => format!("is no CSV: {error}"),
    }
}

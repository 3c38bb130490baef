//! Entries as text for other programs.

use std::{fmt, str::FromStr};

use super::Entry;
use crate::error::{Error, Result};

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

    /// What comes before the first entry.
    pub fn header(self, _out: &mut Vec<u8>) -> Result<()> {
        Err(Error::internal("not built yet"))
    }

    /// Appends entries.
    pub fn encode(self, _entries: &[Entry], _out: &mut Vec<u8>) -> Result<()> {
        Err(Error::internal("not built yet"))
    }
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

//! Where a page of samples begins, and where the next one does.
//!
//! A cursor names the last sample that was given, by what the list is ordered by. What is written meanwhile shifts nothing: a
//! sample that stays as it is comes exactly once.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::error::{Error, Result};

/// The longest page of samples, as the contract has it.
pub const MAX_SAMPLES_PAGE: i64 = 10_000;

/// The most samples that may be skipped: each is read for nothing.
pub const MAX_SAMPLES_OFFSET: i64 = 100_000;

/// Which samples of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SamplesPage {
    /// How many at most, 1 to [`MAX_SAMPLES_PAGE`].
    pub limit: i64,
    /// Where it begins.
    pub start: SamplesStart,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplesStart {
    /// After so many samples, at most [`MAX_SAMPLES_OFFSET`].
    Offset(i64),
    /// After this sample.
    After(SampleCursor),
}

/// A page as it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub limit: usize,
    pub skip: usize,
    pub after: Option<SampleCursor>,
}

impl SamplesPage {
    /// Refuses what is out of range.
    pub(super) fn bounds(&self) -> Result<Bounds> {
        if !(1..=MAX_SAMPLES_PAGE).contains(&self.limit) {
            let message = format!("must be between 1 and {MAX_SAMPLES_PAGE}");
            return Err(Error::field("limit", message));
        }
        let limit = usize::try_from(self.limit).unwrap_or_default();
        match self.start {
            SamplesStart::After(cursor) => Ok(Bounds {
                limit,
                skip: 0,
                after: Some(cursor),
            }),
            SamplesStart::Offset(offset) if (0..=MAX_SAMPLES_OFFSET).contains(&offset) => {
                Ok(Bounds {
                    limit,
                    skip: usize::try_from(offset).unwrap_or_default(),
                    after: None,
                })
            }
            SamplesStart::Offset(_) => Err(Error::field(
                "offset",
                format!(
                    "must be between 0 and {MAX_SAMPLES_OFFSET}; to go on from page to page, follow the Link instead: its cursor skips nothing"
                ),
            )),
        }
    }
}

/// A sample in the list that is ordered by time, then series, the greatest first: what follows it is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleCursor {
    /// Its time, in microseconds.
    pub at: i64,
    /// Its series.
    pub series_id: i32,
}

/// A place among whole series: the samples of a series from a time on, and those of all later series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamCursor {
    /// The series.
    pub series_id: i32,
    /// From when on, in microseconds.
    pub from: i64,
}

/// The last series of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesCursor(pub i32);

/// Raised when the bytes change their meaning: an old cursor is then refused instead of misread.
const VERSION: u8 = 1;

const SAMPLE: u8 = 1;
const STREAM: u8 = 2;
const SERIES: u8 = 3;

/// No cursor of ours is longer.
const MAX_TEXT: usize = 32;

fn encode(kind: u8, at: i64, series_id: i32) -> String {
    let mut bytes = vec![VERSION, kind];
    bytes.extend(at.to_be_bytes());
    bytes.extend(series_id.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(kind: u8, text: &str) -> Result<(i64, i32)> {
    let read = || {
        let bytes = Some(text)
            .filter(|text| text.len() <= MAX_TEXT)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())?;
        let (head, rest) = bytes.split_first_chunk::<2>()?;
        let (at, id) = rest.split_first_chunk::<8>()?;
        let id: [u8; 4] = id.try_into().ok()?;
        (*head == [VERSION, kind]).then(|| (i64::from_be_bytes(*at), i32::from_be_bytes(id)))
    };
    read().ok_or_else(|| {
        Error::field(
            "cursor",
            "must be the cursor that the page before gave; leave it out to begin anew",
        )
    })
}

impl fmt::Display for SampleCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(SAMPLE, self.at, self.series_id))
    }
}

impl FromStr for SampleCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        decode(SAMPLE, text).map(|(at, series_id)| Self { at, series_id })
    }
}

impl fmt::Display for StreamCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(STREAM, self.from, self.series_id))
    }
}

impl FromStr for StreamCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        decode(STREAM, text).map(|(from, series_id)| Self { series_id, from })
    }
}

impl fmt::Display for SeriesCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(SERIES, 0, self.0))
    }
}

impl FromStr for SeriesCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        decode(SERIES, text).map(|(_, id)| Self(id))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_back_as_it_was_written_and_by_no_other_list(at: i64, series_id: i32) {
            let sample = SampleCursor { at, series_id };
            let stream = StreamCursor { series_id, from: at };
            let text = sample.to_string();
            prop_assert!(text.len() <= MAX_TEXT);
            prop_assert_eq!(text.parse::<SampleCursor>().unwrap(), sample);
            prop_assert!(text.parse::<StreamCursor>().is_err() && text.parse::<SeriesCursor>().is_err());
            prop_assert_eq!(stream.to_string().parse::<StreamCursor>().unwrap(), stream);
            let series = SeriesCursor(series_id);
            prop_assert_eq!(series.to_string().parse::<SeriesCursor>().unwrap(), series);
        }

        #[test]
        fn rubbish_is_no_cursor(text in ".{0,40}") {
            if let Err(error) = text.parse::<SampleCursor>() {
                prop_assert_eq!(&error.field_errors()[0].field, "cursor");
            }
        }
    }
}

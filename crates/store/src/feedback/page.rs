//! Pages of a list, and the cursors that lead from one to the next.
//!
//! A cursor says where the page before ended: the values that the list is ordered by, down to a unique one. The page after
//! it begins at the next smaller row, so that what is written meanwhile at the top shifts nothing: a row that stays as it is
//! comes exactly once. An offset counts rows instead, and a row written at the top pushes one over the page's edge.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Datelike as _, Utc};
use tokio_postgres::types::Timestamp;
use uuid::Uuid;

use super::Ranking;
use crate::error::{Error, Result};

/// The longest page.
pub const MAX_PAGE: i64 = 100;

/// No list is longer: what lies beyond is as empty as what lies here, and sums with it stay in range.
const MAX_OFFSET: i64 = i64::MAX / 4;

/// Which rows of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// How many at most, 1 to [`MAX_PAGE`].
    pub limit: i64,
    /// Where it begins.
    pub start: Start,
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// After so many rows; not negative.
    Offset(i64),
    /// After the page that gave this cursor.
    After(Cursor),
}

impl Page {
    /// The first rows.
    pub fn first(limit: i64) -> Self {
        Self {
            limit,
            start: Start::Offset(0),
        }
    }

    /// The rows after another page.
    pub fn after(limit: i64, cursor: Cursor) -> Self {
        Self {
            limit,
            start: Start::After(cursor),
        }
    }

    /// The bounds that a statement takes: one row more than asked for, which tells whether there is a next page, and how
    /// many rows to skip. Refuses what is out of range.
    pub(super) fn bounds(&self) -> Result<(i64, i64)> {
        if !(1..=MAX_PAGE).contains(&self.limit) {
            return Err(Error::field(
                "limit",
                format!("must be between 1 and {MAX_PAGE}"),
            ));
        }
        match self.start {
            Start::Offset(offset) if offset < 0 => {
                Err(Error::field("offset", "must not be negative"))
            }
            Start::Offset(offset) => Ok((self.limit + 1, offset.min(MAX_OFFSET))),
            Start::After(_) => Ok((self.limit + 1, 0)),
        }
    }

    /// The position that the page begins after, if it is given by a cursor.
    pub(super) fn position(&self) -> Option<&Position> {
        match &self.start {
            Start::Offset(_) => None,
            Start::After(cursor) => Some(&cursor.0),
        }
    }

    /// Cuts the row too many off, and says whether there was one.
    pub(super) fn cut<T>(&self, rows: &mut Vec<T>) -> bool {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        more
    }
}

/// Where a page ended. On the wire an opaque text, good for the list that gave it only.
#[derive(Debug, Clone, PartialEq)]
pub struct Cursor(pub(super) Position);

/// The last row of a page, by what its list is ordered by.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Position {
    /// Entries by their last change.
    Entry { updated_at: DateTime<Utc>, id: Uuid },
    /// Comments by their time.
    Comment {
        commented_at: DateTime<Utc>,
        id: Uuid,
    },
    /// Acts by their number.
    Act { id: i64 },
    /// Flagged insights by how many flags they have, then by the latest.
    Flagged {
        total_flags: i64,
        last_flagged_at: DateTime<Utc>,
        insight_id: String,
    },
    /// Insights by one of their scores.
    Ranked {
        ranking: Ranking,
        score: f64,
        insight_id: String,
    },
}

/// Raised when the bytes change their meaning: an old cursor is then refused instead of misread.
const VERSION: u8 = 1;

/// No cursor of ours is longer: an insight's id has at most 100 characters of at most 4 bytes.
const MAX_TEXT: usize = 600;

impl Position {
    fn kind(&self) -> u8 {
        match self {
            Self::Entry { .. } => 1,
            Self::Comment { .. } => 2,
            Self::Act { .. } => 3,
            Self::Flagged { .. } => 4,
            Self::Ranked {
                ranking: Ranking::BayesianMean,
                ..
            } => 5,
            Self::Ranked {
                ranking: Ranking::LowerBound,
                ..
            } => 6,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.kind()];
        match self {
            Self::Entry { updated_at: at, id }
            | Self::Comment {
                commented_at: at,
                id,
            } => {
                bytes.extend(at.timestamp_micros().to_be_bytes());
                bytes.extend(id.as_bytes());
            }
            Self::Act { id } => bytes.extend(id.to_be_bytes()),
            Self::Flagged {
                total_flags,
                last_flagged_at,
                insight_id,
            } => {
                bytes.extend(total_flags.to_be_bytes());
                bytes.extend(last_flagged_at.timestamp_micros().to_be_bytes());
                bytes.extend(insight_id.as_bytes());
            }
            Self::Ranked {
                score, insight_id, ..
            } => {
                bytes.extend(score.to_bits().to_be_bytes());
                bytes.extend(insight_id.as_bytes());
            }
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [VERSION, kind, rest @ ..] = bytes else {
            return None;
        };
        Some(match kind {
            1 | 2 => {
                let (at, id) = take(rest)?;
                let (at, id) = (time(at)?, Uuid::from_slice(id).ok()?);
                if *kind == 1 {
                    Self::Entry { updated_at: at, id }
                } else {
                    Self::Comment {
                        commented_at: at,
                        id,
                    }
                }
            }
            3 => match take(rest)? {
                (id, []) => Self::Act {
                    id: i64::from_be_bytes(id),
                },
                _ => return None,
            },
            4 => {
                let (total, rest) = take(rest)?;
                let (at, insight) = take(rest)?;
                Self::Flagged {
                    total_flags: i64::from_be_bytes(total),
                    last_flagged_at: time(at)?,
                    insight_id: insight_id(insight)?,
                }
            }
            5 | 6 => {
                let (score, insight) = take(rest)?;
                let score = f64::from_bits(u64::from_be_bytes(score));
                Self::Ranked {
                    ranking: match kind {
                        5 => Ranking::BayesianMean,
                        _ => Ranking::LowerBound,
                    },
                    score: score.is_finite().then_some(score)?,
                    insight_id: insight_id(insight)?,
                }
            }
            _ => return None,
        })
    }
}

fn take(bytes: &[u8]) -> Option<([u8; 8], &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((*first, rest))
}

fn time(micros: [u8; 8]) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(i64::from_be_bytes(micros)).filter(|at| is_storable(*at))
}

/// Whether PostgreSQL and we can both hold the time.
fn is_storable(at: DateTime<Utc>) -> bool {
    (-4700..=262_000).contains(&at.year())
}

/// A bound of a range as PostgreSQL takes it: absent, or further away than any time that is stored, it is no bound.
pub(super) fn bound(
    at: Option<DateTime<Utc>>,
    absent: Timestamp<DateTime<Utc>>,
) -> Timestamp<DateTime<Utc>> {
    match at {
        None => absent,
        Some(at) if is_storable(at) => Timestamp::Value(at),
        Some(at) if at.year() < 0 => Timestamp::NegInfinity,
        Some(_) => Timestamp::PosInfinity,
    }
}

fn insight_id(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let fits = (1..=100).contains(&text.chars().count()) && !text.contains('\0');
    fits.then(|| text.to_owned())
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0.encode()))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Some(text)
            .filter(|text| text.len() <= MAX_TEXT)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .and_then(|bytes| Position::decode(&bytes))
            .map(Self)
            .ok_or_else(|| {
                Error::field(
                    "cursor",
                    "must be the cursor that the page before gave; leave it out to begin anew",
                )
            })
    }
}

/// A cursor of one list, given to another.
pub(super) fn of_another_list() -> Error {
    Error::field(
        "cursor",
        "is a cursor of another list; leave it out to begin anew",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position() -> impl Strategy<Value = Position> {
        let time = || {
            (-62_135_596_800_000_000_i64..253_402_300_800_000_000)
                .prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap())
        };
        let id = || any::<u128>().prop_map(Uuid::from_u128);
        let insight = || "[^\\x00]{1,100}";
        prop_oneof![
            (time(), id()).prop_map(|(updated_at, id)| Position::Entry { updated_at, id }),
            (time(), id()).prop_map(|(commented_at, id)| Position::Comment { commented_at, id }),
            any::<i64>().prop_map(|id| Position::Act { id }),
            (any::<i64>(), time(), insight()).prop_map(
                |(total_flags, last_flagged_at, insight_id)| Position::Flagged {
                    total_flags,
                    last_flagged_at,
                    insight_id,
                }
            ),
            (0..2_usize, 0.0..5.0, insight()).prop_map(|(ranking, score, insight_id)| {
                Position::Ranked {
                    ranking: Ranking::ALL[ranking],
                    score,
                    insight_id,
                }
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_back_as_it_was_written(position in position()) {
            let text = Cursor(position.clone()).to_string();
            prop_assert!(text.len() <= MAX_TEXT);
            let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            prop_assert!(text.chars().all(safe));
            prop_assert_eq!(text.parse::<Cursor>().unwrap(), Cursor(position));
        }

        #[test]
        fn a_damaged_cursor_is_refused_or_another_one(
            position in position(), at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_=+/ -]?",
        ) {
            let mut text = Cursor(position).to_string();
            let at = at.index(text.len());
            text.replace_range(at..=at, &with);
            if let Ok(cursor) = text.parse::<Cursor>() {
                // One text for each cursor.
                prop_assert_eq!(cursor.to_string(), text);
            }
        }

        #[test]
        fn rubbish_is_no_cursor(text in ".*") {
            if let Err(error) = text.parse::<Cursor>() {
                prop_assert_eq!(&error.field_errors()[0].field, "cursor");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_position_is_refused() {
        let entry = |micros: i64| [&[1, 1][..], &micros.to_be_bytes(), &[0; 16]].concat();
        let ranked = |score: f64, insight: &[u8]| {
            [&[1, 5][..], &score.to_bits().to_be_bytes(), insight].concat()
        };
        assert!(
            Position::decode(&entry(0)).is_some() && Position::decode(&ranked(1.0, b"a")).is_some()
        );
        let refused = [
            vec![],
            vec![1],
            vec![1, 1],
            vec![1, 9, 0],
            [&[2][..], &entry(0)[1..]].concat(),
            [&entry(0)[..], &[0]].concat(),
            entry(i64::MAX),
            entry(i64::MIN),
            vec![1, 3, 0, 0, 0, 0, 0, 0, 0, 1, 7],
            ranked(f64::NAN, b"a"),
            ranked(f64::INFINITY, b"a"),
            ranked(1.0, b""),
            ranked(1.0, b"a\0b"),
            ranked(1.0, &[0xff]),
            ranked(1.0, &[b'a'; 101]),
        ];
        for bytes in refused {
            assert_eq!(Position::decode(&bytes), None, "{bytes:?}");
            let text = URL_SAFE_NO_PAD.encode(&bytes);
            assert_eq!(text.parse::<Cursor>().unwrap_err().code(), "invalid_input");
        }
        let long = "A".repeat(1_000_000);
        assert!(long.parse::<Cursor>().is_err());
    }
}

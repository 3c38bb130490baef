//! One user's feedback on one insight.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::{Error, Result};

/// One of the three things that a user can say of an insight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fact {
    /// One to five stars.
    Rating,
    /// A text.
    Comment,
    /// That something is wrong with it.
    Flag,
}

impl Fact {
    /// Every fact.
    pub const ALL: [Self; 3] = [Self::Rating, Self::Comment, Self::Flag];

    /// Its name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rating => "rating",
            Self::Comment => "comment",
            Self::Flag => "flag",
        }
    }
}

/// What a flag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlagType {
    /// Its numbers or statements are wrong.
    Inaccurate,
    /// True, but gives a wrong impression.
    Misleading,
    /// Not an insight.
    Spam,
    /// Should not be shown.
    Inappropriate,
    /// Something else; the reason says what.
    Other,
}

impl FlagType {
    /// Every type, in the order of their counters.
    pub const ALL: [Self; 5] = [
        Self::Inaccurate,
        Self::Misleading,
        Self::Spam,
        Self::Inappropriate,
        Self::Other,
    ];

    /// Its name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inaccurate => "inaccurate",
            Self::Misleading => "misleading",
            Self::Spam => "spam",
            Self::Inappropriate => "inappropriate",
            Self::Other => "other",
        }
    }
}

impl FlagType {
    /// Reads what is stored, which a constraint holds to the known ones.
    pub(super) fn from_stored(text: &str) -> Result<Self> {
        text.parse()
            .map_err(|_| Error::internal(format!("unknown flag type {text}")))
    }
}

impl fmt::Display for FlagType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FlagType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                Error::field(
                    "flag_type",
                    "must be inaccurate, misleading, spam, inappropriate or other",
                )
            })
    }
}

/// One user's present rating, comment and flag on one insight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Given with the first fact.
    pub id: Uuid,
    /// The insight, 1 to 100 characters.
    pub insight_id: String,
    /// The user, 1 to 100 characters.
    pub user_id: String,
    /// 1 to 5.
    pub rating: Option<i16>,
    /// When the rating was given or last changed.
    pub rated_at: Option<DateTime<Utc>>,
    /// 1 to 1,000 characters.
    pub comment: Option<String>,
    /// When the comment was written or last changed.
    pub commented_at: Option<DateTime<Utc>>,
    /// What the flag says.
    pub flag_type: Option<FlagType>,
    /// 1 to 500 characters, where the user gave a reason.
    pub flag_reason: Option<String>,
    /// When it was flagged, or the flag last changed.
    pub flagged_at: Option<DateTime<Utc>>,
    /// When the user's first fact on the insight was stored.
    pub created_at: DateTime<Utc>,
    /// The last change; each change has a later time than the one before.
    pub updated_at: DateTime<Utc>,
}

impl Entry {
    /// Reads a row with the columns of [`super::queries::ENTRY_COLUMNS`].
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let flag_type: Option<&str> = row.try_get("flag_type")?;
        let flag_type = flag_type.map(FlagType::from_stored);
        Ok(Self {
            id: row.try_get("id")?,
            insight_id: row.try_get("insight_id")?,
            user_id: row.try_get("user_id")?,
            rating: row.try_get("rating")?,
            rated_at: row.try_get("rated_at")?,
            comment: row.try_get("comment")?,
            commented_at: row.try_get("commented_at")?,
            flag_type: flag_type.transpose()?,
            flag_reason: row.try_get("flag_reason")?,
            flagged_at: row.try_get("flagged_at")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

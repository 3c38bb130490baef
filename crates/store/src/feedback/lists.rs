//! The comments on an insight, and what a user did.

use chrono::{DateTime, Utc};
use tokio_postgres::{Row, types::Timestamp};
use uuid::Uuid;

use super::{
    Cursor, Fact, Feedback, FlagType, Found, Page,
    page::{self, Position},
    queries,
};
use crate::error::{Error, Result};

/// One thing that a user did: gave, changed or withdrew a rating, a comment or a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Later acts have higher ones.
    pub id: i64,
    /// The insight.
    pub insight_id: String,
    /// The user.
    pub user_id: String,
    /// Which of the three.
    pub fact: Fact,
    /// The rating given.
    pub rating: Option<i16>,
    /// The comment written.
    pub comment: Option<String>,
    /// The flag's type.
    pub flag_type: Option<FlagType>,
    /// The flag's reason.
    pub flag_reason: Option<String>,
    /// When.
    pub occurred_at: DateTime<Utc>,
}

impl Act {
    /// Whether it took the fact back.
    pub fn is_withdrawal(&self) -> bool {
        self.rating.is_none() && self.comment.is_none() && self.flag_type.is_none()
    }

    fn from_row(row: &Row) -> Result<Self> {
        let fact: &str = row.try_get("fact")?;
        Ok(Self {
            id: row.try_get("id")?,
            insight_id: row.try_get("insight_id")?,
            user_id: row.try_get("user_id")?,
            fact: Fact::ALL
                .into_iter()
                .find(|known| known.as_str() == fact)
                .ok_or_else(|| Error::internal(format!("unknown fact {fact}")))?,
            rating: row.try_get("rating")?,
            comment: row.try_get("comment")?,
            flag_type: row
                .try_get::<_, Option<&str>>("flag_type")?
                .map(FlagType::from_stored)
                .transpose()?,
            flag_reason: row.try_get("flag_reason")?,
            occurred_at: row.try_get("occurred_at")?,
        })
    }
}

/// A page of acts.
#[derive(Debug, Clone, PartialEq)]
pub struct Acts {
    /// The page.
    pub acts: Vec<Act>,
    /// Leads to the next page; `None` on the last one.
    pub next: Option<Cursor>,
}

impl Feedback<'_> {
    /// The entries of an insight that have a comment, the last written comment first. Each has a comment and its time.
    ///
    /// Withdrawn comments are gone before pages are cut, so that each page but the last is full, and the total is that of
    /// the statistics.
    pub async fn comments(&self, insight_id: &str, page: &Page) -> Result<Found> {
        let (limit, offset) = page.bounds()?;
        let (before, before_id) = match page.position() {
            None => (Timestamp::PosInfinity, Uuid::nil()),
            Some(Position::Comment { commented_at, id }) => (Timestamp::Value(*commented_at), *id),
            Some(_) => return Err(page::of_another_list()),
        };
        let rows = self
            .reads
            .query(
                &queries::COMMENTS,
                &[&insight_id, &before, &before_id, &limit, &offset],
            )
            .await?;
        Found::from_rows(&rows, page, |last| {
            Some(Position::Comment {
                commented_at: last.commented_at?,
                id: last.id,
            })
        })
    }

    /// What a user did, on one insight or on all, the latest first; back to where retention has cut it.
    pub async fn history(
        &self,
        user_id: &str,
        insight_id: Option<&str>,
        page: &Page,
    ) -> Result<Acts> {
        let (limit, offset) = page.bounds()?;
        let before = match page.position() {
            None => i64::MAX,
            Some(Position::Act { id }) => *id,
            Some(_) => return Err(page::of_another_list()),
        };
        let rows = self
            .reads
            .query(
                &queries::HISTORY,
                &[&user_id, &insight_id, &before, &limit, &offset],
            )
            .await?;
        let mut acts = rows.iter().map(Act::from_row).collect::<Result<Vec<_>>>()?;
        let more = page.cut(&mut acts);
        let last = acts.last().filter(|_| more);
        let next = last.map(|last| Cursor(Position::Act { id: last.id }));
        Ok(Acts { acts, next })
    }
}

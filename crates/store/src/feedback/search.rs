//! Finding entries: by user, insight, time, rating, flag and comment, alone and together (C2.5).
//!
//! Whatever is asked for, the rows are read from an index that begins with the condition which leaves the fewest of them, in
//! the order of the page: a user's entries, an insight's flagged ones, its commented ones, its ones of a rating, all of its
//! entries; else flagged ones, commented ones, those of a rating, and last those of a range of time. The other conditions
//! are looked up in the rows. Only *without a comment* has no index, as that is what most entries are.
//!
//! The total is counted, never estimated. Where one of the conditions above is all that was asked for, with a range of time
//! or without, it is counted in the index without its rows.

use chrono::{DateTime, Utc};
use tokio_postgres::{Row, types::Timestamp};
use uuid::Uuid;

use super::{
    Cursor, Entry, Feedback, FlagType, Page,
    page::{self, Position},
    queries,
};
use crate::{
    db::Statement,
    error::{Error, Result},
};

/// Which flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagFilter {
    /// Of any type.
    Any,
    /// Of one type.
    Of(FlagType),
}

/// Which entries: those for which every condition given holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this user's.
    pub user_id: Option<String>,
    /// Only on this insight.
    pub insight_id: Option<String>,
    /// Only those last changed at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Only those last changed before this time.
    pub to: Option<DateTime<Utc>>,
    /// Only those with this rating, 1 to 5.
    pub rating: Option<i16>,
    /// Only those with a flag.
    pub flag: Option<FlagFilter>,
    /// Only those with a comment, or only those without.
    pub has_comment: Option<bool>,
}

/// A page of entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The page.
    pub entries: Vec<Entry>,
    /// How many entries there are in all, on this page and others.
    pub total: i64,
    /// Leads to the next page; `None` on the last one.
    pub next: Option<Cursor>,
}

impl Filter {
    /// The statement that begins at the condition which leaves the fewest rows, and whether that condition, with the range of
    /// time, is all there is.
    fn plan(&self) -> (&'static Statement, bool) {
        let has_user = self.user_id.is_some();
        let has_insight = self.insight_id.is_some();
        let has_comment = self.has_comment == Some(true);
        let has_rating = self.rating.is_some();
        let (statement, begins_at) = match self.flag {
            _ if has_user && has_insight => (&queries::SEARCH_ONE, 2),
            _ if has_user => (&queries::SEARCH_USER, 1),
            Some(FlagFilter::Any) if has_insight => (&queries::SEARCH_INSIGHT_FLAGGED, 2),
            // The type is one condition more.
            Some(FlagFilter::Of(_)) if has_insight => (&queries::SEARCH_INSIGHT_FLAGGED, 1),
            None if has_insight && has_comment => (&queries::SEARCH_INSIGHT_COMMENTED, 2),
            None if has_insight && has_rating => (&queries::SEARCH_INSIGHT_RATING, 2),
            None if has_insight => (&queries::SEARCH_INSIGHT, 1),
            Some(FlagFilter::Of(_)) => (&queries::SEARCH_FLAG_TYPE, 1),
            Some(FlagFilter::Any) => (&queries::SEARCH_FLAGGED, 1),
            None if has_comment => (&queries::SEARCH_COMMENTED, 1),
            None if has_rating => (&queries::SEARCH_RATING, 1),
            None => (&queries::SEARCH_TIME, 0),
        };
        let conditions = [
            has_user,
            has_insight,
            has_rating,
            self.flag.is_some(),
            self.has_comment.is_some(),
        ];
        let given = conditions.iter().filter(|given| **given).count();
        (statement, given == begins_at)
    }

    pub(super) fn flag_type(&self) -> Option<&'static str> {
        match self.flag {
            Some(FlagFilter::Of(kind)) => Some(kind.as_str()),
            Some(FlagFilter::Any) | None => None,
        }
    }
}

impl Feedback<'_> {
    /// Entries, the last changed first.
    ///
    /// Page and total are of one moment. An entry that is changed while its list is paged through moves to the top: by
    /// cursor it may be missed, and what stays as it is comes exactly once.
    pub async fn search(&self, filter: &Filter, page: &Page) -> Result<Found> {
        let (limit, offset) = page.bounds()?;
        let from = page::bound(filter.from, Timestamp::NegInfinity);
        let to = page::bound(filter.to, Timestamp::PosInfinity);
        // The page lies before this position: no id is smaller than that of the end of the range.
        let (before, before_id) = match page.position() {
            Some(Position::Entry { updated_at, id })
                if filter.to.is_none_or(|to| *updated_at < to) =>
            {
                (Timestamp::Value(*updated_at), *id)
            }
            None | Some(Position::Entry { .. }) => (to, Uuid::nil()),
            Some(_) => return Err(page::of_another_list()),
        };
        let (statement, is_all) = filter.plan();
        let rows = self
            .reads
            .query(
                statement,
                &[
                    &from,
                    &to,
                    &before,
                    &before_id,
                    &limit,
                    &offset,
                    &is_all,
                    &filter.user_id,
                    &filter.insight_id,
                    &filter.rating,
                    &filter.flag.is_some(),
                    &filter.flag_type(),
                    &filter.has_comment,
                ],
            )
            .await?;
        Found::from_rows(&rows, page, |last| {
            Some(Position::Entry {
                updated_at: last.updated_at,
                id: last.id,
            })
        })
    }

    /// One user's entries, the last changed first.
    pub async fn of_user(&self, user_id: &str, page: &Page) -> Result<Found> {
        let filter = Filter {
            user_id: Some(user_id.to_owned()),
            ..Filter::default()
        };
        self.search(&filter, page).await
    }
}

impl Found {
    /// Reads a page of entries, each row of it with the total; an empty one is a row without an entry.
    pub(super) fn from_rows(
        rows: &[Row],
        page: &Page,
        position: impl Fn(&Entry) -> Option<Position>,
    ) -> Result<Self> {
        let first = rows
            .first()
            .ok_or_else(|| Error::internal("a page came without its total"))?;
        let total = first.try_get("total")?;
        let mut entries = match first.try_get::<_, Option<Uuid>>("id")? {
            None => Vec::new(),
            Some(_) => rows.iter().map(Entry::from_row).collect::<Result<_>>()?,
        };
        let more = page.cut(&mut entries);
        let last = entries.last().filter(|_| more);
        let next = last.and_then(position).map(Cursor);
        Ok(Self {
            entries,
            total,
            next,
        })
    }
}

//! Finding entries.

use chrono::{DateTime, Utc};

use super::{Cursor, Entry, Feedback, FlagType, Page};
use crate::error::{Error, Result};

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

impl Feedback<'_> {
    /// Entries, the last changed first.
    pub async fn search(&self, _filter: &Filter, _page: &Page) -> Result<Found> {
        Err(Error::internal("not built yet"))
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

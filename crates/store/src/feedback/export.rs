//! All entries that match a filter, however many.

use futures_util::Stream;

use super::{Entry, Feedback, Filter};
use crate::error::{Error, Result};

/// An export under way. Dropping it ends it.
#[derive(Debug)]
pub struct Export {
    total: i64,
}

impl Export {
    /// How many entries it will give in all.
    pub fn total(&self) -> i64 {
        self.total
    }

    /// The next entries; none when all were given.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>> {
        Err(Error::internal("not built yet"))
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Vec<Entry>>> + Send + 'static {
        futures_util::stream::try_unfold(self, |mut export| async move {
            Ok(export.next().await?.map(|entries| (entries, export)))
        })
    }
}

impl Feedback<'_> {
    /// All entries that match, as they are at this moment, the last changed first. Refused as `export_too_large` where they
    /// are more than `feedback.max_export_rows`, and as `export_busy` while two others run.
    pub async fn export(&self, _filter: &Filter) -> Result<Export> {
        Err(Error::internal("not built yet"))
    }
}

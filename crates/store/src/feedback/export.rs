//! All entries that match a filter, however many, as they were at one moment.
//!
//! # How
//!
//! The export is a cursor `WITH HOLD` on a connection of its own. One statement finds the entries in one snapshot and puts
//! them aside in the database (in memory, then in temporary files); then the snapshot and its transaction are over, and the
//! caller takes the entries a thousand at a time, as slowly as it likes.
//!
//! * An entry that was there at that moment comes exactly once, as it was, whatever is written meanwhile.
//! * Memory here is that of a thousand entries.
//! * Nothing is cut off: how many there are is known before the first is given, and more than `feedback.max_export_rows` are
//!   refused.
//!
//! # Why not otherwise
//!
//! A cursor in an open transaction would hold back vacuum until the slowest reader has its last row, which feedback and the
//! cache's outbox feel at once. Pages by cursor, each a query of its own, hold nothing; but ordered by the time of the last
//! change an entry that is changed during the export is lost or comes twice, and ordered by what never changes, an export of
//! yesterday's entries reads all there are.
//!
//! What it costs is room for temporary files, and a connection while it lasts. So at most [`PLACES`] run at once, counting all
//! processes; the places are session locks, so that one is free again when its connection ends, however it ends: the server
//! looks for that each second.

use std::{
    fmt,
    time::{Duration, Instant},
};

use deadpool_postgres::{ClientWrapper, Object};
use futures_util::Stream;
use tokio::sync::OwnedSemaphorePermit;

use super::{Entry, Feedback, Filter, queries};
use crate::{
    db::{self, Params, Statement},
    error::{Error, Result},
};

/// How many exports may run at once, counting all processes.
pub(super) const PLACES: i64 = 2;

/// The first place's lock.
const FIRST_PLACE: i64 = 0x6665_6564_0000_0000;

/// How long finding the entries may take: longer than a request's statements, and bounded.
const TIMEOUT_MILLISECONDS: &str = "600000";

/// How long giving all entries may take: a reader that is slower than that does not keep others from theirs.
const LONGEST: Duration = Duration::from_hours(1);

/// An export under way. Dropping it ends it.
pub struct Export {
    client: ClientWrapper,
    _place: OwnedSemaphorePermit,
    until: Instant,
    total: i64,
    left: i64,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("total", &self.total)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Export {
    /// How many entries it gives in all.
    pub fn total(&self) -> i64 {
        self.total
    }

    /// The next entries; none when all were given.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>> {
        if self.left == 0 {
            return Ok(None);
        }
        if Instant::now() > self.until {
            return Err(Error::unavailable(
                "export_too_slow",
                "the export was not read within an hour; export in parts, by ranges of time",
            ));
        }
        let fetch = &queries::FETCH_EXPORT;
        let prepared = self
            .client
            .prepare_typed_cached(fetch.sql, fetch.params)
            .await?;
        let fetching = async { Ok(self.client.query(&prepared, &[]).await?) };
        let rows = db::traced(fetch, fetching).await?;
        if rows.is_empty() {
            return Err(Error::internal("an export ended before its end"));
        }
        self.left -= i64::try_from(rows.len()).unwrap_or(self.left);
        rows.iter()
            .map(Entry::from_row)
            .collect::<Result<_>>()
            .map(Some)
    }

    /// The same as a stream. After an error it ends.
    pub fn into_stream(self) -> impl Stream<Item = Result<Vec<Entry>>> + Send + 'static {
        futures_util::stream::try_unfold(self, |mut export| async move {
            Ok(export.next().await?.map(|entries| (entries, export)))
        })
    }
}

impl Feedback<'_> {
    /// All entries that match, as they are at this moment, the last changed first.
    ///
    /// Refused as `export_too_large` where they are more than `feedback.max_export_rows`, and as `export_busy` while two
    /// others run.
    pub async fn export(&self, filter: &Filter) -> Result<Export> {
        let place = self.writer.export_place().ok_or_else(busy)?;
        // Taken out of the pool for good: what the session holds ends with it.
        let client = Object::take(self.pool.get().await?);
        take_place(&client).await?;
        execute(&client, &queries::SET_EXPORT, &[&TIMEOUT_MILLISECONDS]).await?;
        let max = self.settings.max_export_rows;
        execute(
            &client,
            &queries::DECLARE_EXPORT,
            &[
                &filter.user_id,
                &filter.insight_id,
                &filter.from,
                &filter.to,
                &filter.rating,
                &filter.flag.is_some(),
                &filter.flag_type(),
                &filter.has_comment,
                &max.saturating_add(1),
            ],
        )
        .await?;
        let found = execute(&client, &queries::COUNT_EXPORT, &[]).await?;
        let total = i64::try_from(found).unwrap_or(i64::MAX);
        if total > max {
            return Err(Error::invalid(
                "export_too_large",
                format!(
                    "more than {max} entries match; export them in parts, by ranges of time, or raise feedback.max_export_rows"
                ),
            ));
        }
        execute(&client, &queries::REWIND_EXPORT, &[]).await?;
        Ok(Export {
            client,
            _place: place,
            until: Instant::now() + LONGEST,
            total,
            left: total,
        })
    }
}

/// Takes a place, which the connection holds until it ends.
async fn take_place(client: &ClientWrapper) -> Result<()> {
    let lock = &queries::LOCK_EXPORT;
    let prepared = client.prepare_typed_cached(lock.sql, lock.params).await?;
    for place in FIRST_PLACE..FIRST_PLACE + PLACES {
        if client
            .query_one(&prepared, &[&place])
            .await?
            .try_get("locked")?
        {
            return Ok(());
        }
    }
    Err(busy())
}

fn busy() -> Error {
    Error::unavailable(
        "export_busy",
        format!(
            "{PLACES} exports are running, which is as many as may; try again when one has ended"
        ),
    )
}

async fn execute(client: &ClientWrapper, statement: &Statement, params: Params<'_>) -> Result<u64> {
    let prepared = client
        .prepare_typed_cached(statement.sql, statement.params)
        .await?;
    Ok(client.execute(&prepared, params).await?)
}

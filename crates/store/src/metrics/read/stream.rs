//! Whole series, streamed.
//!
//! # What it guarantees
//!
//! * Series after series by their numbers, each one's samples in the order of their times, `metrics.max_samples_per_read` in
//!   all at most; where samples remain, the place to go on from.
//! * Memory for a few thousand samples, however many are read and however slowly.
//! * Nothing is held back in the database between two parts: each COPY has a transaction of its own, of
//!   [`SAMPLES_A_COPY`] samples at most. A sample that is written meanwhile may come or not; what was there before comes.
//! * Bounded time: a reader that takes more than a minute for one part is told `read_too_slow`. At most [`PLACES`] reads
//!   run at once in a process, each on one connection; a further one waits [`PATIENCE`] and is told `reads_busy`.

use std::{fmt, sync::Arc, time::Duration};

use deadpool_postgres::Object;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::error::SqlState;

use super::{
    super::{
        Metrics,
        cached::{Sample, Series, time},
        queries,
    },
    Selector,
    page::StreamCursor,
};
use crate::{
    db::{Connection, Copied},
    error::{Error, Result},
};

/// How many reads run at once in a process.
const PLACES: usize = 4;

/// How long a further one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many samples one COPY gives at most.
pub const SAMPLES_A_COPY: i64 = 131_072;

/// How many samples are given at once, about.
const SAMPLES_A_PIECE: usize = 4_096;

/// The places for reads of a process.
#[derive(Debug, Clone)]
pub(in crate::metrics) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }
}

/// Some samples of a series, in the order of their times.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Of which series.
    pub series: Arc<Series>,
    /// At least one.
    pub samples: Vec<Sample>,
}

/// A read under way. Dropping it ends it.
pub struct SampleRead {
    link: Link,
    _place: OwnedSemaphorePermit,
    waiting: std::vec::IntoIter<Series>,
    /// The series at hand, and from when on it is still to be read.
    current: Option<(Arc<Series>, i64)>,
    copy: Option<Running>,
    from: i64,
    to: i64,
    resumed: Option<StreamCursor>,
    left: i64,
    rest: Option<StreamCursor>,
}

/// A COPY, how many samples it may give, how many it gave, and the time after the last of them.
struct Running {
    copy: Copied,
    limit: i64,
    given: i64,
    next: i64,
}

/// A connection that goes back to the pool only if nothing runs on it.
struct Link {
    connection: Option<Connection>,
    is_clean: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|_| !self.is_clean) {
            // Out of the pool: what is left of its COPY comes to nothing, and its transaction ends with it.
            drop(Object::take(connection));
        }
    }
}

impl Link {
    fn connection(&self) -> Result<&Connection> {
        let connection = self.connection.as_ref();
        connection.ok_or_else(|| Error::internal("a read without a connection"))
    }

    async fn copy(&mut self, sql: &str) -> Result<Copied> {
        self.is_clean = false;
        let connection = self.connection()?;
        let (begun, stream) = tokio::join!(
            biased;
            connection.batch_execute(queries::BEGIN_COPY),
            Copied::begin(connection, sql),
        );
        begun?;
        stream
    }

    async fn end(&mut self) -> Result<()> {
        self.connection()?.batch_execute("commit").await?;
        self.is_clean = true;
        Ok(())
    }
}

impl fmt::Debug for SampleRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleRead")
            .field("left", &self.left)
            .field("rest", &self.rest)
            .finish_non_exhaustive()
    }
}

impl SampleRead {
    /// The next samples; none when all were given, or as many as one read may give: [`Self::rest`] tells.
    pub async fn next(&mut self) -> Result<Option<Part>> {
        while self.rest.is_none() {
            let (series, copy) = match (self.current.clone(), self.copy.take()) {
                (Some((series, _)), Some(copy)) => (series, copy),
                (current, _) => match current.or_else(|| self.begin_series()) {
                    Some((series, from)) => (Arc::clone(&series), self.copy(&series, from).await?),
                    None => return Ok(None),
                },
            };
            let samples = self.take(&series, copy).await?;
            if !samples.is_empty() {
                return Ok(Some(Part { series, samples }));
            }
        }
        Ok(None)
    }

    /// When [`Self::next`] gave none: from where to go on, if samples remain.
    pub fn rest(&self) -> Option<StreamCursor> {
        self.rest
    }

    fn begin_series(&mut self) -> Option<(Arc<Series>, i64)> {
        let series = Arc::new(self.waiting.next()?);
        let resumed = self.resumed.filter(|at| at.series_id == series.id);
        let from = resumed.map_or(self.from, |at| at.from.max(self.from));
        self.current = Some((Arc::clone(&series), from));
        self.current.clone()
    }

    async fn copy(&mut self, series: &Series, from: i64) -> Result<Running> {
        // One more than may be given: it tells whether any remain.
        let limit = SAMPLES_A_COPY.min(self.left.saturating_add(1));
        let sql = queries::copy_series(series.id, time(from), time(self.to), limit);
        Ok(Running {
            copy: self.link.copy(&sql).await?,
            limit,
            given: 0,
            next: from,
        })
    }

    /// The next samples of a COPY, and what comes after them: more of it, more of the series, the next series, or the end.
    async fn take(&mut self, series: &Arc<Series>, mut running: Running) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        let mut has_more = gather(&mut running.copy, &mut samples).await?;
        let count = i64::try_from(samples.len()).unwrap_or(i64::MAX);
        running.given += count;
        running.next = samples.last().map_or(running.next, |last| last.0 + 1);
        self.left -= count;
        if self.left < 0 {
            self.left = 0;
            self.rest = samples.pop().map(|first| StreamCursor {
                series_id: series.id,
                from: first.0,
            });
            // Nothing comes after it but the end.
            has_more = has_more && gather(&mut running.copy, &mut Vec::new()).await?;
        }
        if has_more {
            self.copy = Some(running);
            return Ok(samples);
        }
        self.link.end().await?;
        // A series has one sample at a time: a full COPY goes on after its last one.
        let goes_on = running.given == running.limit;
        self.current = goes_on.then(|| (Arc::clone(series), running.next));
        Ok(samples)
    }
}

/// Adds samples, as many as a piece has; says whether there may be more.
async fn gather(copy: &mut Copied, samples: &mut Vec<Sample>) -> Result<bool> {
    while samples.len() < SAMPLES_A_PIECE {
        let Some(mut row) = copy.next().await.map_err(stopped)? else {
            return Ok(false);
        };
        let (at, value) = (row.time()?, row.float8()?);
        let metadata = row.bytes()?.map(|bytes| {
            let text = std::str::from_utf8(&bytes).map(Into::into);
            text.map_err(|error| Error::internal("metadata that is no text").with_source(error))
        });
        samples.push(Sample(at, value, metadata.transpose()?));
    }
    Ok(true)
}

/// Why a COPY ended early.
fn stopped(error: Error) -> Error {
    if error.sql_state() == Some(&SqlState::QUERY_CANCELED) {
        return Error::unavailable(
            "read_too_slow",
            "a part of the samples was not read within a minute; read shorter ranges of time",
        )
        .with_source(error);
    }
    error
}

impl Metrics<'_> {
    /// All samples of the series that match, the oldest first, series after series; from the place where an earlier read
    /// of the same selector stopped.
    ///
    /// Fails with `too_many_series_matched` where more than `metrics.max_series_per_read` do, and with `reads_busy` while as
    /// many reads run as may.
    pub async fn samples(
        &self,
        selector: &Selector,
        after: Option<StreamCursor>,
    ) -> Result<SampleRead> {
        self.read(selector, after, self.settings.max_samples_per_read)
            .await
    }

    /// As [`Self::samples`], with another limit.
    pub(super) async fn read(
        &self,
        selector: &Selector,
        after: Option<StreamCursor>,
        max_samples: i64,
    ) -> Result<SampleRead> {
        let selector = selector.clamped();
        let series = self.series_to_read(&selector, after).await?;
        let waiting = Arc::clone(&self.caches.reads.0).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(PATIENCE, waiting).await else {
            return Err(busy());
        };
        Ok(SampleRead {
            link: Link {
                connection: Some(self.pool.get().await?),
                is_clean: true,
            },
            _place: place,
            waiting: series.into_iter(),
            current: None,
            copy: None,
            from: selector.from,
            to: selector.to,
            resumed: after,
            left: max_samples,
            rest: None,
        })
    }

    /// A place for a long read, when one is free in time.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit> {
        let waiting = Arc::clone(&self.caches.reads.0).acquire_owned();
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(busy()),
        }
    }

    pub(super) async fn series_to_read(
        &self,
        selector: &Selector,
        after: Option<StreamCursor>,
    ) -> Result<Vec<Series>> {
        if selector.from >= selector.to {
            return Ok(Vec::new());
        }
        let max = usize::try_from(self.settings.max_series_per_read).unwrap_or(usize::MAX);
        let done = after.map_or(0, |after| after.series_id.saturating_sub(1).max(0));
        let series = self
            .series_matching(selector, done, max.saturating_add(1))
            .await?;
        self.check_count(series.len())?;
        Ok(series)
    }
}

fn busy() -> Error {
    Error::unavailable(
        "reads_busy",
        format!(
            "{PLACES} long reads are running, which is as many as may; try again when one has ended"
        ),
    )
}

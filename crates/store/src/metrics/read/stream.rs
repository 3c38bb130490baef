//! Whole series, streamed.
//!
//! # What it guarantees
//!
//! * Series after series by their numbers, each one's samples in the order of their times, `metrics.max_samples_per_read` in
//!   all at most; where samples remain, the place to go on from.
//! * Memory for a few thousand samples, however many are read and however slowly.
//! * Nothing is held back in the database between two parts: each COPY has a transaction of its own, of
//!   [`SAMPLES_A_COPY`] samples at most. A sample that is written meanwhile may come or not; what was there before comes.
//! * Days that are in the database and days that are in archives come alike ([`runs`]), whatever moves meanwhile.
//! * Bounded time: a reader that takes more than a minute for one part is told `read_too_slow`. At most [`PLACES`] reads
//!   run at once in a process, each on one connection; a further one waits [`PATIENCE`] and is told `reads_busy`.

mod runs;

use std::{fmt, sync::Arc, time::Duration};

use deadpool_postgres::Object;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::error::SqlState;

use super::{
    super::{
        Metrics,
        cached::{Sample, Series, time},
        cold::{self, ColdDay, ColdReads, Patience},
        queries,
    },
    Selector,
    page::StreamCursor,
};
use crate::{
    db::{Connection, Copied},
    error::{Error, Result},
    trace,
};
use runs::{Archived, Block, Runs};

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
    cold: ColdReads,
    patience: Patience,
    runs: Runs,
    block: Block,
    waiting: std::vec::IntoIter<Series>,
    /// The series at hand, and from when on it is still to be read.
    current: Option<(Arc<Series>, i64)>,
    source: Option<Running>,
    from: i64,
    to: i64,
    resumed: Option<StreamCursor>,
    left: i64,
    rest: Option<StreamCursor>,
}

/// Where samples come from at the moment.
struct Running {
    source: Source,
    /// How many samples it may give, and how many it gave.
    limit: i64,
    given: i64,
    /// The time after the last sample.
    next: i64,
    /// Up to where it gives the samples of the series, unless it gives as many as it may.
    until: i64,
}

enum Source {
    Copy(Copied),
    Archive(Archived),
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

    /// Begins a COPY; gives the days of its range that have gone to archives and are not in it.
    async fn copy(&mut self, sql: &str, range: (i64, i64)) -> Result<(Vec<ColdDay>, Copied)> {
        let connection = self.connection()?;
        // Prepared before: all the rest goes in one flight.
        let of_days = &queries::READ_COLD_DAYS;
        connection
            .prepare_typed_cached(of_days.sql, of_days.params)
            .await?;
        self.is_clean = false;
        let connection = self.connection()?;
        let (begun, cold, stream) = tokio::join!(
            biased;
            connection.batch_execute(queries::BEGIN_COPY),
            cold::days(connection, range.0, range.1),
            trace::within(trace::statement("metrics.copy_series"), Copied::begin(connection, sql)),
        );
        begun?;
        Ok((cold?, stream?))
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
            let (series, running) = match (self.current.clone(), self.source.take()) {
                (Some((series, _)), Some(running)) => (series, running),
                (current, _) => match current.or_else(|| self.begin_series()) {
                    Some((series, from)) => match self.begin(&series, from).await? {
                        Some(running) => (series, running),
                        None => continue,
                    },
                    None => return Ok(None),
                },
            };
            let samples = self.take(&series, running).await?;
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

    /// Begins to read a series from a time on; `None` where there is nothing more of it, or where it was found that days have
    /// moved.
    async fn begin(&mut self, series: &Arc<Series>, from: i64) -> Result<Option<Running>> {
        let Some(run) = self.runs.at(from).cloned() else {
            self.current = None;
            return Ok(None);
        };
        let from = from.max(run.from);
        // One more than may be given: it tells whether any remain.
        let limit = match run.archive {
            None => SAMPLES_A_COPY.min(self.left.saturating_add(1)),
            Some(_) => i64::MAX,
        };
        let source = match &run.archive {
            None => self
                .copy(series, from, run.to, limit)
                .await?
                .map(Source::Copy),
            Some(day) => self
                .archived(series, day, from, run.to)
                .await?
                .map(Source::Archive),
        };
        let Some(source) = source else {
            self.look_again().await?;
            return Ok(None);
        };
        Ok(Some(Running {
            source,
            limit,
            given: 0,
            next: from,
            until: run.to,
        }))
    }

    /// `None` where days of the range are in archives by now.
    async fn copy(
        &mut self,
        series: &Series,
        from: i64,
        to: i64,
        limit: i64,
    ) -> Result<Option<Copied>> {
        let sql = queries::copy_series(series.id, time(from), time(to), limit);
        let (moved, mut copy) = self.link.copy(&sql, (from, to)).await?;
        if moved.is_empty() {
            return Ok(Some(copy));
        }
        while copy.next().await.map_err(stopped)?.is_some() {}
        self.link.end().await?;
        Ok(None)
    }

    /// `None` where the archive is gone.
    async fn archived(
        &mut self,
        series: &Series,
        day: &ColdDay,
        from: i64,
        to: i64,
    ) -> Result<Option<Archived>> {
        if !self.block.knows(series.id) {
            let mut following = vec![series.id];
            following.extend(self.waiting.as_slice().iter().map(|series| series.id));
            let most = SAMPLES_A_COPY.min(self.left);
            let connection = self.link.connection()?;
            let mut block = Block::choose(connection, &self.runs, &following, most).await?;
            let filled = block.fill(&self.cold, &self.runs).await;
            if self.patience.unless_gone(filled)?.is_none() {
                return Ok(None);
            }
            self.block = block;
        }
        if let Some(samples) = self.block.take(series.id, day.start, from) {
            return Ok(Some(Archived::AtHand(samples.into_iter())));
        }
        let read = runs::open(&self.cold, series.id, day, from, to).await;
        self.patience.unless_gone(read)
    }

    /// Looks up where days are now.
    async fn look_again(&mut self) -> Result<()> {
        self.runs = Runs::read(self.link.connection()?, self.from, self.to).await?;
        self.block = Block::default();
        Ok(())
    }

    /// The next samples of a source, and what comes after them: more of it, more of the series, the next series, or the end.
    async fn take(&mut self, series: &Arc<Series>, mut running: Running) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        let mut has_more = gather(&mut running.source, &mut samples).await?;
        let count = i64::try_from(samples.len()).unwrap_or(i64::MAX);
        running.given += count;
        running.next = samples.last().map_or(running.next, |last| last.0 + 1);
        self.left -= count;
        if self.left < 0 {
            // An archive gives a piece at a time, a COPY one sample more than may be given.
            let beyond = usize::try_from(-self.left).unwrap_or_default();
            self.left = 0;
            let rest = samples.split_off(samples.len().saturating_sub(beyond));
            self.rest = rest.first().map(|first| StreamCursor {
                series_id: series.id,
                from: first.0,
            });
            // Nothing comes after it but the end.
            if let Source::Copy(_) = running.source {
                has_more = has_more && gather(&mut running.source, &mut Vec::new()).await?;
            } else {
                has_more = false;
            }
        }
        if has_more {
            self.source = Some(running);
            return Ok(samples);
        }
        if let Source::Copy(_) = running.source {
            self.link.end().await?;
        }
        // A series has one sample at a time: a full COPY goes on after its last one.
        let goes_on = running.given == running.limit;
        let next = if goes_on { running.next } else { running.until };
        self.current = Some((Arc::clone(series), next));
        Ok(samples)
    }
}

/// Adds samples, as many as a piece has; says whether there may be more.
async fn gather(source: &mut Source, samples: &mut Vec<Sample>) -> Result<bool> {
    let copy = match source {
        Source::Copy(copy) => copy,
        Source::Archive(archived) => return archived.gather(samples, SAMPLES_A_PIECE).await,
    };
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

    /// As [`Self::samples`], with another limit. What begins on a replica ends there.
    pub(super) async fn read(
        &self,
        selector: &Selector,
        after: Option<StreamCursor>,
        max_samples: i64,
    ) -> Result<SampleRead> {
        self.reads
            .run(|pool| {
                let there = Self { pool, ..*self };
                Box::pin(async move { there.read_there(selector, after, max_samples).await })
            })
            .await
    }

    async fn read_there(
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
        let connection = self.pool.get().await?;
        let runs = match &*series {
            [] => Runs::default(),
            _ => Runs::read(&connection, selector.from, selector.to).await?,
        };
        Ok(SampleRead {
            link: Link {
                connection: Some(connection),
                is_clean: true,
            },
            _place: place,
            cold: self.caches.cold.clone(),
            patience: Patience::default(),
            runs,
            block: Block::default(),
            waiting: series.into_iter(),
            current: None,
            source: None,
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

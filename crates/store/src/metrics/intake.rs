//! Taking samples in: checked, numbered, gathered, stored.
//!
//! # What it guarantees
//!
//! * **An acknowledged sample is committed**: an answer comes after the commit of the transaction that stored it.
//! * **A replay adds nothing.** Of one series and time the first value stays; what comes again is told as a duplicate, or as a
//!   conflict where its value is another. A request whose samples have no times is recognised by its key.
//! * **One bounded queue for every way in.** So many samples may be on their way; who brings more is told to come again
//!   (`queue_full`), before anything of theirs was done.
//! * **Nothing of one request harms another**: what the database refuses is tried request by request.
//! * **All or nothing, for each request.** The samples of one request share a transaction.
//!
//! # How
//!
//! A commit costs a flush of the log, so requests that come while others are written share the next transaction. Two
//! transactions are under way at once, so that one is written while the other's log is flushed. Each is written by COPY into
//! the partitions themselves, which takes no lock on the parent (but a reader's, when a connection first reads a day's bounds
//! there) and costs half of an INSERT; where a place turns out to be taken, it is undone and written again by INSERT … ON
//! CONFLICT DO NOTHING, which then says what was there.

mod lane;
mod rows;
mod store;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;
use tracing::Span;

use rows::{Row, State};

use super::{
    cached::MetricCaches,
    check,
    days::KnownDays,
    registry::{Numbered, Registry},
    sample::{
        Accept, Batch, NewSample, Outcome, Reason, Recorded, RecordedSample, Rejection, RequestKey,
    },
};
use crate::{
    config::MetricsSettings,
    db::{Pool, TransactionId},
    error::{Error, Result},
    trace,
};

/// Transactions under way at once.
const LANES: usize = 2;

/// The intake of a process. Clones share it.
#[derive(Clone)]
pub struct Intake {
    inner: Arc<Inner>,
}

/// What an intake has done, and what waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeSnapshot {
    /// Samples that are on their way.
    pub waiting: usize,
    /// Samples that were stored.
    pub stored_total: u64,
    /// Samples that were there already.
    pub duplicates_total: u64,
    /// Samples that were there with another value.
    pub conflicts_total: u64,
    /// Samples that were not accepted, by reason.
    pub rejected_total: [(Reason, u64); Reason::ALL.len()],
    /// Transactions committed.
    pub commits_total: u64,
    /// Requests refused because too much waited.
    pub refused_total: u64,
}

struct Inner {
    pool: Pool,
    settings: MetricsSettings,
    caches: MetricCaches,
    registry: Registry,
    days: KnownDays,
    waiting: AtomicUsize,
    state: Mutex<Queue>,
    /// The last time that was given to a sample without one.
    last_given: AtomicI64,
    stored: AtomicU64,
    duplicates: AtomicU64,
    conflicts: AtomicU64,
    rejected: [AtomicU64; Reason::ALL.len()],
    commits: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct Queue {
    loads: VecDeque<Load>,
    lanes: usize,
}

/// The samples of one request that are to be stored.
struct Load {
    rows: Vec<Row>,
    /// The table that their series' numbers are of.
    identity: Arc<str>,
    request: Option<RequestKey>,
    now: DateTime<Utc>,
    answer: oneshot::Sender<Result<Stored>>,
    /// What is being done where the samples come from.
    asked_by: Span,
    _room: Room,
}

/// The same after the commit.
struct Stored {
    rows: Vec<Row>,
    transaction: Option<TransactionId>,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// Room in the queue, given back when it is dropped. It goes with the samples and not with their sender, who may go away.
struct Room {
    inner: Arc<Inner>,
    samples: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.inner.waiting.fetch_sub(self.samples, Relaxed);
    }
}

impl Intake {
    /// An intake over a pool. Nothing runs before the first sample.
    pub fn new(pool: &Pool, settings: &MetricsSettings, caches: &MetricCaches) -> Self {
        Self {
            inner: Arc::new(Inner {
                pool: pool.clone(),
                settings: settings.clone(),
                caches: caches.clone(),
                registry: Registry::new(settings),
                days: KnownDays::default(),
                waiting: AtomicUsize::new(0),
                state: Mutex::default(),
                last_given: AtomicI64::new(0),
                stored: AtomicU64::new(0),
                duplicates: AtomicU64::new(0),
                conflicts: AtomicU64::new(0),
                rejected: Default::default(),
                commits: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            }),
        }
    }

    /// What it has done, and what waits.
    pub fn snapshot(&self) -> IntakeSnapshot {
        let inner = &self.inner;
        IntakeSnapshot {
            waiting: inner.waiting.load(Relaxed),
            stored_total: inner.stored.load(Relaxed),
            duplicates_total: inner.duplicates.load(Relaxed),
            conflicts_total: inner.conflicts.load(Relaxed),
            rejected_total: Reason::ALL
                .map(|reason| (reason, inner.rejected[reason as usize].load(Relaxed))),
            commits_total: inner.commits.load(Relaxed),
            refused_total: inner.refused.load(Relaxed),
        }
    }

    /// Counts samples that were not accepted before they became samples.
    pub fn count_rejected(&self, reason: Reason, samples: u64) {
        self.inner.rejected[reason as usize].fetch_add(samples, Relaxed);
    }

    /// Records samples; returns when what was accepted is committed.
    pub(super) async fn record(
        &self,
        batch: Batch,
        accept: Accept,
        request: Option<RequestKey>,
        now: DateTime<Utc>,
    ) -> Result<Recorded> {
        let inner = &self.inner;
        let (names, samples) = batch.into_parts();
        let room = inner.room(samples.len())?;
        let horizon = check::Horizon::at(now.timestamp_micros(), &inner.settings);
        let bad_names: Vec<Option<Rejection>> = names
            .iter()
            .map(|name| check::name(name, &inner.settings).err())
            .collect();
        let mut checked = Vec::with_capacity(samples.len());
        for sample in &samples {
            checked.push(match bad_names.get(sample.series) {
                None => return Err(Error::internal("a sample of no series")),
                Some(Some(rejection)) => Err(rejection.clone()),
                Some(None) => check::sample(sample, horizon, &inner.settings),
            });
        }
        if accept == Accept::Whole && checked.iter().any(Result::is_err) {
            return Ok(self.withhold(&samples, checked));
        }
        let is_used = used(&samples, &checked, names.len());
        let wanted: Vec<_> = names
            .into_iter()
            .zip(&is_used)
            .filter_map(|(name, used)| used.then_some(name))
            .collect();
        let resolved = inner.registry.resolve(&inner.pool, &wanted, now).await?;
        let mut resolved_numbers = resolved.numbers.into_iter();
        let numbers: Vec<Option<Numbered>> = is_used
            .iter()
            .map(|used| if *used { resolved_numbers.next() } else { None })
            .collect();
        for (sample, checked) in samples.iter().zip(&mut checked) {
            if let (Ok(_), Some(Err(rejection))) = (&checked, &numbers[sample.series]) {
                *checked = Err(rejection.clone());
            }
        }
        if accept == Accept::Whole && checked.iter().any(Result::is_err) {
            return Ok(self.withhold(&samples, checked));
        }
        let rows = inner.rows(&samples, &mut checked, &numbers, accept, now);
        let (answer, answered) = oneshot::channel();
        let load = Load {
            rows,
            identity: resolved.identity,
            request,
            now,
            answer,
            asked_by: trace::current(),
            _room: room,
        };
        let stored = inner.store(load, answered).await?;
        Ok(self.report(&samples, checked, stored))
    }

    /// What is told of samples of which none is stored.
    fn withhold(
        &self,
        samples: &[NewSample],
        checked: Vec<Result<Option<Box<str>>, Rejection>>,
    ) -> Recorded {
        let told = samples
            .iter()
            .zip(checked)
            .map(|(sample, checked)| RecordedSample {
                series_id: 0,
                at: sample.at.unwrap_or_default(),
                outcome: match checked {
                    Ok(_) => Outcome::Withheld,
                    Err(rejection) => self.reject(rejection),
                },
            });
        Recorded {
            samples: told.collect(),
            transaction: None,
        }
    }

    fn reject(&self, rejection: Rejection) -> Outcome {
        self.count_rejected(rejection.reason, 1);
        Outcome::Rejected(rejection)
    }

    fn report(
        &self,
        samples: &[NewSample],
        checked: Vec<Result<Option<Box<str>>, Rejection>>,
        stored: Stored,
    ) -> Recorded {
        let mut told = self.withhold(samples, checked).samples;
        for row in stored.rows {
            let Some(place) = usize::try_from(row.index)
                .ok()
                .and_then(|index| told.get_mut(index))
            else {
                continue;
            };
            place.series_id = row.series_id;
            place.at = row.at;
            place.outcome = self.outcome(&row);
        }
        Recorded {
            samples: told,
            transaction: stored.transaction,
        }
    }

    fn outcome(&self, row: &Row) -> Outcome {
        let inner = &self.inner;
        match row.state {
            State::New | State::Stored => {
                inner.stored.fetch_add(1, Relaxed);
                Outcome::Stored
            }
            State::Duplicate => {
                inner.duplicates.fetch_add(1, Relaxed);
                Outcome::Duplicate
            }
            State::Conflict(stored) => {
                inner.conflicts.fetch_add(1, Relaxed);
                Outcome::Conflict { stored }
            }
            State::Archived => self.reject(Rejection {
                reason: Reason::Archived,
                field: "timestamp",
                message: "is of a day whose samples are archived".into(),
            }),
            State::Withheld => Outcome::Withheld,
        }
    }
}

/// Which series have a sample that may be stored: only these are made.
fn used<T>(samples: &[NewSample], checked: &[Result<T, Rejection>], series: usize) -> Vec<bool> {
    let mut is_used = vec![false; series];
    for (sample, checked) in samples.iter().zip(checked) {
        is_used[sample.series] |= checked.is_ok();
    }
    is_used
}

impl Inner {
    fn room(self: &Arc<Self>, samples: usize) -> Result<Room> {
        let before = self.waiting.fetch_add(samples, Relaxed);
        let room = Room {
            inner: Arc::clone(self),
            samples,
        };
        // One request alone is always let in: how large it may be is decided where it comes in.
        if before > 0 && before.saturating_add(samples) > self.settings.max_waiting_samples {
            self.refused.fetch_add(1, Relaxed);
            return Err(queue_full());
        }
        Ok(room)
    }

    /// A time that no other sample was given by this process: the present, or just after the last one.
    fn next_time(&self, now: i64) -> i64 {
        let next = |last: i64| last.saturating_add(1).max(now);
        let last = self
            .last_given
            .fetch_update(Relaxed, Relaxed, |last| Some(next(last)));
        next(last.unwrap_or_else(|last| last))
    }

    fn rows(
        &self,
        samples: &[NewSample],
        checked: &mut [Result<Option<Box<str>>, Rejection>],
        numbers: &[Option<Numbered>],
        accept: Accept,
        now: DateTime<Utc>,
    ) -> Vec<Row> {
        let now = now.timestamp_micros();
        let mut rows = Vec::with_capacity(samples.len());
        for (index, (sample, checked)) in samples.iter().zip(checked).enumerate() {
            let (Ok(metadata), Some(Ok(series_id))) = (checked, &numbers[sample.series]) else {
                continue;
            };
            rows.push(Row {
                series_id: *series_id,
                at: sample.at.unwrap_or_else(|| self.next_time(now)),
                // Minus zero is zero: what compares equal must be equal in every byte.
                value: sample.value + 0.0,
                metadata: metadata.take(),
                is_timed: sample.at.is_some(),
                is_whole: accept == Accept::Whole,
                state: State::New,
                load: 0,
                index: u32::try_from(index).unwrap_or(u32::MAX),
            });
        }
        rows
    }

    /// Stores rows together with what else is there to be stored; returns after the commit.
    async fn store(
        self: &Arc<Self>,
        load: Load,
        answered: oneshot::Receiver<Result<Stored>>,
    ) -> Result<Stored> {
        if load.rows.is_empty() {
            return Ok(Stored {
                rows: Vec::new(),
                transaction: None,
            });
        }
        let opens = {
            let mut queue = self.queue();
            queue.loads.push_back(load);
            let opens = queue.lanes < LANES;
            queue.lanes += usize::from(opens);
            opens
        };
        if opens {
            lane::spawn(self);
        }
        answered.await.unwrap_or_else(|_| Err(interrupted()))
    }

    /// Nothing that can panic is done under this lock.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn queue_full() -> Error {
    Error::unavailable(
        "queue_full",
        "too many samples are waiting to be stored; send them again later",
    )
}

fn interrupted() -> Error {
    Error::unavailable(
        "write_interrupted",
        "the write was interrupted; whether it took effect is not known: send it again, samples with times of their own are not stored twice",
    )
}

//! Group commit: concurrent writes share a transaction.
//!
//! A commit costs a flush of the log, whatever is in it. So writes that come while others are being committed wait, and are
//! then written together, by one statement.
//!
//! # What it guarantees
//!
//! * **A lone write waits for nothing**: a lane takes what is there, and never waits for more.
//! * **An answer comes after the commit**, and is the row as that write left it: a user's second write on an insight is
//!   written only when the first has been answered, in the order in which they came.
//! * **No value of one write harms another**: it is refused before it gets here, and where the database refuses all the
//!   same, or one row is locked by someone else, the writes of that transaction are sent one by one, each for itself. Those whose
//!   row is locked come last. A caller that goes away takes nothing but its own answer along.
//! * **Nothing is sent twice** unless the database said that it rolled it back. When the connection is lost, the outcome is
//!   not known, and each caller is told so.
//! * **No caller is left waiting**: a lane that ends, by a panic or because its runtime does, drops the answers it owed, and
//!   callers take that as an outcome that is not known.
//!
//! # Lanes
//!
//! A lane is a task that writes batch after batch and ends when nothing waits: an idle store runs none. There are
//! [`LANES`], so that one batch is carried out while another's log is flushed. Where a batch is held up, by a row that psql
//! has locked, further lanes are opened for the others, up to [`LANES_AT_MOST`].

mod lane;
mod queue;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot};

use queue::{Key, Queue, Waiting};

use super::{FlagType, Written, export::PLACES, fold::fold_all};
use crate::{
    config::FeedbackSettings,
    db::Pool,
    error::{Error, Result},
    trace,
};

/// Batches under way when nothing holds them up.
const LANES: usize = 2;

/// Batches under way when some are held up.
const LANES_AT_MOST: usize = 8;

/// A lane that has been at its batch for so long is held up.
const HELD_UP: Duration = Duration::from_millis(100);

/// Withdrawals under way at once.
const WITHDRAWALS: usize = 4;

/// Facts of one user on one insight, checked.
#[derive(Debug)]
pub(super) struct Change {
    pub insight_id: String,
    pub user_id: String,
    pub rating: Option<i16>,
    pub comment: Option<String>,
    pub flag: Option<(FlagType, Option<String>)>,
    pub at: DateTime<Utc>,
}

/// Gathers concurrent writes into shared transactions. Clones share it.
#[derive(Clone)]
pub struct Writer {
    inner: Arc<Inner>,
}

/// What a writer has done, and what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterSnapshot {
    /// Writes that wait for a transaction.
    pub waiting: usize,
    /// Tasks that carry transactions out.
    pub lanes: usize,
    /// Transactions committed.
    pub commits_total: u64,
    /// Writes committed with them.
    pub writes_total: u64,
    /// Writes refused because too many waited.
    pub refused_total: u64,
}

struct Inner {
    pool: Pool,
    max_writes: usize,
    max_waiting: usize,
    fold_interval: Duration,
    state: Mutex<State>,
    commits: AtomicU64,
    writes: AtomicU64,
    refused: AtomicU64,
    folding: AtomicBool,
    /// This process's share of the places of exports, so that those who find none take no connection for asking.
    exports: Arc<Semaphore>,
    withdrawals: Semaphore,
}

struct State {
    queue: Queue,
    lanes: usize,
    /// How many of them are held up.
    held_up: usize,
    folded_at: Option<Instant>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

impl Writer {
    /// A writer over a pool. Nothing runs before the first write.
    pub fn new(pool: &Pool, settings: &FeedbackSettings) -> Self {
        Self {
            inner: Arc::new(Inner {
                pool: pool.clone(),
                max_writes: settings.max_writes_per_commit,
                max_waiting: settings.max_waiting_writes,
                fold_interval: Duration::from_millis(settings.fold_interval_milliseconds),
                state: Mutex::new(State {
                    queue: Queue::default(),
                    lanes: 0,
                    held_up: 0,
                    folded_at: None,
                }),
                commits: AtomicU64::new(0),
                writes: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                folding: AtomicBool::new(false),
                withdrawals: Semaphore::new(WITHDRAWALS),
                exports: Arc::new(Semaphore::new(usize::try_from(PLACES).unwrap_or_default())),
            }),
        }
    }

    /// What it has done, and what waits.
    pub fn snapshot(&self) -> WriterSnapshot {
        let inner = &self.inner;
        let state = inner.state();
        WriterSnapshot {
            waiting: state.queue.waiting(),
            lanes: state.lanes,
            commits_total: inner.commits.load(Relaxed),
            writes_total: inner.writes.load(Relaxed),
            refused_total: inner.refused.load(Relaxed),
        }
    }

    /// Writes a change together with what else is there to be written; returns when it is committed.
    pub(super) async fn write(&self, change: Change) -> Result<Written> {
        let (answer, answered) = oneshot::channel();
        let asked_by = trace::current();
        self.inner.enqueue(Waiting {
            change,
            answer,
            asked_by,
        })?;
        answered.await.unwrap_or_else(|_| Err(interrupted()))
    }

    /// A place for a withdrawal: each waits for its row on a connection of its own, and must leave others theirs.
    pub(super) async fn withdrawal_place(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.withdrawals.acquire().await.ok()
    }

    /// A place for an export, where one is free in this process.
    pub(super) fn export_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.exports).try_acquire_owned().ok()
    }

    /// Folds in the background, unless that was done within the interval or is being done.
    pub(super) fn fold_soon(&self) {
        self.inner.fold_soon();
    }
}

fn interrupted() -> Error {
    Error::unavailable(
        "write_interrupted",
        "the write was interrupted; whether it took effect is not known: read it back, then send the request again",
    )
}

impl Inner {
    /// Nothing that can panic is done under this lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(self: &Arc<Self>, waiting: Waiting) -> Result<()> {
        let opens = {
            let mut state = self.state();
            if state.queue.waiting() >= self.max_waiting {
                drop(state);
                self.refused.fetch_add(1, Relaxed);
                return Err(Error::unavailable(
                    "overloaded",
                    "too many writes of feedback are waiting; send the request again later",
                ));
            }
            let key = Key::of(&waiting.change);
            state.queue.push(key, waiting);
            state.opens_a_lane()
        };
        if opens {
            lane::spawn(self);
        }
        Ok(())
    }

    fn fold_soon(self: &Arc<Self>) {
        let due = {
            let state = self.state();
            state
                .folded_at
                .is_none_or(|at| at.elapsed() >= self.fold_interval)
        };
        if due && !self.folding.swap(true, Relaxed) {
            let folding = Folding(Arc::clone(self));
            tokio::spawn(async move {
                if let Err(error) = fold_all(&folding.0.pool).await {
                    tracing::warn!(error = %error.report(), "counts of feedback were not folded; the next write tries again");
                }
            });
        }
    }
}

/// A fold under way, ended by dropping it.
struct Folding(Arc<Inner>);

impl Drop for Folding {
    fn drop(&mut self) {
        self.0.state().folded_at = Some(Instant::now());
        self.0.folding.store(false, Relaxed);
    }
}

impl State {
    /// Counts one lane more where one is needed; the caller spawns it.
    fn opens_a_lane(&mut self) -> bool {
        let opens = self.queue.is_ready()
            && self.lanes < LANES_AT_MOST
            && self.lanes - self.held_up < LANES;
        self.lanes += usize::from(opens);
        opens
    }
}

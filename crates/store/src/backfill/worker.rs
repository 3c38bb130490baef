//! The worker's loop: claims sub-ranges of a job, works on their chunks in parallel, records each that succeeds.
//!
//! # What it guarantees
//!
//! * A chunk is recorded only after its work succeeded, and worked on again only if it was not recorded.
//! * A chunk that fails is tried again with growing pauses, up to a limit; its errors are in the job's history. The
//!   others go on meanwhile. At the end the job fails, naming what is missing, and can be resumed.
//! * It can die at any moment. What it recorded is in the ledger; what it held is free when its lease is over.
//! * A panic in the work is an error of its chunk like any other.
//! * When a lease is lost, the chunks under way in that claim are dropped: someone else may have them by now.
//!
//! The loop talks to a [`Coordinator`]: the store itself, or the HTTP API.

mod chunk;
mod event;
mod held;

use std::{fmt, future::Future, time::Duration};

use tokio::sync::watch;
use uuid::Uuid;

pub use event::Event;

use super::{BlockRange, CheckpointOutcome, Claim, ClaimKey, Claimed, Heard, Job, Status};
use crate::error::{Error, Kind, Result};
use held::Run;

/// Where a worker gets its work and reports it. Both implementations are in production use: [`crate::Store`] writes to the
/// database, the command line's speaks HTTP.
pub trait Coordinator: Clone + Send + Sync + 'static {
    /// See [`super::Backfill::claim`].
    fn claim(
        &self,
        id: Uuid,
        worker: &str,
        max_blocks: i64,
    ) -> impl Future<Output = Result<Claimed>> + Send;
    /// See [`super::Backfill::record`].
    fn record(
        &self,
        key: ClaimKey,
        blocks: BlockRange,
    ) -> impl Future<Output = Result<Heard>> + Send;
    /// See [`super::Backfill::heartbeat`].
    fn heartbeat(&self, key: ClaimKey) -> impl Future<Output = Result<Heard>> + Send;
    /// See [`super::Backfill::release`].
    fn release(&self, key: ClaimKey) -> impl Future<Output = Result<Job>> + Send;
    /// See [`super::Backfill::record_error`].
    fn record_error(
        &self,
        key: ClaimKey,
        blocks: BlockRange,
        attempted: i32,
        message: &str,
    ) -> impl Future<Output = Result<Heard>> + Send;
    /// See [`super::Backfill::checkpoint`].
    fn checkpoint(
        &self,
        key: ClaimKey,
        block: i64,
        block_hash: &str,
    ) -> impl Future<Output = Result<CheckpointOutcome>> + Send;
    /// See [`super::Backfill::fail`].
    fn fail(&self, id: Uuid, error_message: &str) -> impl Future<Output = Result<Job>> + Send;
    /// See [`super::Backfill::get`].
    fn job(&self, id: Uuid) -> impl Future<Output = Result<Option<Job>>> + Send;
    /// How many claims of the job are held now, by anyone.
    fn claims_held(&self, id: Uuid) -> impl Future<Output = Result<usize>> + Send;
}

/// How to work.
#[derive(Debug, Clone)]
pub struct Options {
    /// The worker's name, as others see it.
    pub worker: String,
    /// How many blocks one piece of work has.
    pub chunk: i64,
    /// How many pieces are worked on at once.
    pub parallel: usize,
    /// How often a piece is tried in all.
    pub tries: i32,
    /// The pause before the second try; doubled each time, plus up to a half at random.
    pub backoff: Duration,
    /// How long the coordinator may be away before the worker gives up.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            worker: "worker".to_owned(),
            chunk: 100,
            parallel: 1,
            tries: 5,
            backoff: Duration::from_secs(1),
            patience: Duration::from_mins(15),
        }
    }
}

/// Whether the worker is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Go on.
    No,
    /// Take no new work, finish and record what is under way, give the rest back.
    Finish,
    /// Drop what is under way, give everything back.
    Now,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The job is completed.
    Completed,
    /// The worker was told to stop; the job goes on without it.
    Stopped,
    /// Chunks failed too often. The job has failed, unless other workers are still at it.
    GaveUp {
        /// The blocks this worker could not do, lowest first.
        blocks: Vec<BlockRange>,
    },
    /// A chunk's hash contradicted an earlier checkpoint: the job was rewound. Compare its checkpoints with the chain,
    /// from the highest down, and run again.
    Reorganised {
        /// The first block that is missing again.
        from: i64,
    },
    /// The job was ended by someone else.
    Ended {
        /// As what.
        status: Status,
    },
}

/// Works on a job until nothing of it is left, it is ended, or the worker is told to stop.
///
/// `work` does one chunk: it gets the blocks and the number of the try (from 1), and gives the hash of the last block if
/// it knows it, or the message of what went wrong. It may be dropped at any `await`.
pub async fn run<C, W, F>(
    coordinator: &C,
    id: Uuid,
    options: &Options,
    work: W,
    on_event: impl FnMut(Event),
    stop: watch::Receiver<Stop>,
) -> Result<Outcome>
where
    C: Coordinator,
    W: Fn(BlockRange, i32) -> F + Clone + Send + 'static,
    F: Future<Output = std::result::Result<Option<String>, String>> + Send + 'static,
{
    Run::new(coordinator, id, options, work, on_event)
        .run(stop)
        .await
}

/// Asks until the coordinator answers, or was away for too long: for questions that may be asked twice.
pub async fn patiently<T, F: Future<Output = Result<T>>>(
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let started = tokio::time::Instant::now();
    let mut step = 0;
    loop {
        match ask().await {
            Err(error) if is_transient(&error) && started.elapsed() < patience => {
                tokio::time::sleep(
                    pause(Duration::from_millis(100), step).min(Duration::from_secs(3)),
                )
                .await;
                step += 1;
            }
            result => return result,
        }
    }
}

/// Whether asking again can help: the coordinator is away, or busy.
fn is_transient(error: &Error) -> bool {
    error.kind() == Kind::Unavailable
}

/// A doubling pause with jitter; `step` counts from 0.
fn pause(base: Duration, step: u32) -> Duration {
    use rand::RngExt as _;
    let pause = base
        .saturating_mul(2_u32.saturating_pow(step))
        .min(Duration::from_mins(5));
    pause + pause.mul_f64(rand::rng().random_range(0.0..0.5))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Stopped => f.write_str("stopped; the job can go on where it stands"),
            Self::GaveUp { blocks } => {
                let shown: Vec<String> = blocks.iter().take(10).map(ToString::to_string).collect();
                let more = blocks.len().saturating_sub(shown.len());
                write!(
                    f,
                    "{} chunks failed too often: {}",
                    blocks.len(),
                    shown.join(", ")
                )?;
                if more > 0 {
                    write!(f, " and {more} more")
                } else {
                    Ok(())
                }
            }
            Self::Reorganised { from } => {
                write!(
                    f,
                    "the chain was reorganised: the job goes on from block {from}"
                )
            }
            Self::Ended { status } => write!(f, "the job is {status}"),
        }
    }
}

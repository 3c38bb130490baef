//! One chunk: work, then record.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;

use tokio::time::Instant;

use super::{BlockRange, CheckpointOutcome, ClaimKey, Coordinator, Heard, is_transient, patiently};
use crate::error::Error;

/// A piece of work to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub key: ClaimKey,
    pub blocks: BlockRange,
    /// Which try this is, from 1.
    pub attempted: i32,
    /// Not before; chunks that failed wait.
    pub due: Instant,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Done {
    /// Worked on and recorded.
    Recorded(Heard),
    /// The work failed.
    Failed(String),
    /// Not recorded: the claim is lost, or the coordinator was away for too long.
    Refused(Error),
    /// Not recorded: its hash contradicted an earlier checkpoint.
    Reorganised {
        /// The first block that is missing again.
        from: i64,
    },
}

/// Why a chunk was not recorded.
enum Refusal {
    Error(Error),
    Reorganised { from: i64 },
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Whether a refusal says that the claim is not ours any more.
fn loses_claim(error: &Error) -> bool {
    ["stale_lease", "job_final", "not_running", "job_not_found"].contains(&error.code())
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the work panicked: {}", text.unwrap_or("without a message"))
}

/// Does a chunk and records it.
pub(super) async fn run<C, F>(
    coordinator: C,
    chunk: Chunk,
    patience: Duration,
    work: F,
) -> (Chunk, Done)
where
    C: Coordinator,
    F: Future<Output = std::result::Result<Option<String>, String>>,
{
    let worked = AssertUnwindSafe(work).catch_unwind().await;
    let done = match worked.unwrap_or_else(|panic| Err(panic_message(panic.as_ref()))) {
        Err(message) => {
            report_error(&coordinator, chunk, &message).await;
            Done::Failed(message)
        }
        Ok(hash) => match record(&coordinator, chunk, hash.as_deref(), patience).await {
            Ok(heard) => Done::Recorded(heard),
            Err(Refusal::Reorganised { from }) => Done::Reorganised { from },
            Err(Refusal::Error(error)) if is_transient(&error) || loses_claim(&error) => {
                Done::Refused(error)
            }
            // Doing it again will not help more often than any other failure: it counts as one.
            Err(Refusal::Error(error)) => {
                let message = format!("not recorded: {}", error.message());
                report_error(&coordinator, chunk, &message).await;
                Done::Failed(message)
            }
        },
    };
    (chunk, done)
}

/// The history of errors is for people: one that could not be written is not worth losing the claim for.
async fn report_error<C: Coordinator>(coordinator: &C, chunk: Chunk, message: &str) {
    if let Err(error) = coordinator
        .record_error(chunk.key, chunk.blocks, chunk.attempted, message)
        .await
    {
        tracing::warn!(blocks = %chunk.blocks, %error, "the error of a chunk could not be recorded");
    }
}

/// Recording is idempotent, so that it is sent again until it is answered. The checkpoint goes first: recording the
/// claim's last chunk closes the claim.
async fn record<C: Coordinator>(
    coordinator: &C,
    chunk: Chunk,
    hash: Option<&str>,
    patience: Duration,
) -> std::result::Result<Heard, Refusal> {
    if let Some(hash) = hash {
        let outcome = patiently(patience, || {
            coordinator.checkpoint(chunk.key, chunk.blocks.last(), hash)
        })
        .await?;
        if let CheckpointOutcome::Rewound { from, .. } = outcome {
            return Err(Refusal::Reorganised { from });
        }
    }
    Ok(patiently(patience, || coordinator.record(chunk.key, chunk.blocks)).await?)
}

//! One chunk: work, then record.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use super::{BlockRange, CheckpointOutcome, ClaimKey, Coordinator, Heard, is_transient, pause};
use crate::error::{Error, Result};

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
    let done = match work.await {
        Err(message) => {
            report_error(&coordinator, chunk, &message).await;
            Done::Failed(message)
        }
        Ok(hash) => match record(&coordinator, chunk, hash.as_deref(), patience).await {
            Ok(heard) => Done::Recorded(heard),
            Err(error) => Done::Refused(error),
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
) -> Result<Heard> {
    if let Some(hash) = hash {
        let outcome = retry(patience, || {
            coordinator.checkpoint(chunk.key, chunk.blocks.last(), hash)
        })
        .await?;
        if let CheckpointOutcome::Rewound { from, .. } = outcome {
            return Err(Error::conflict(
                "rewound",
                format!("the chain was reorganised: the job goes on from block {from}"),
            ));
        }
    }
    retry(patience, || coordinator.record(chunk.key, chunk.blocks)).await
}

/// Asks until the coordinator answers, or was away for too long.
pub(super) async fn retry<T, F: Future<Output = Result<T>>>(
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let started = Instant::now();
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

//! Answers that stream, piece by piece.
//!
//! * **Constant memory**: a piece is made when the one before it was taken; two are there at a time.
//! * **What ends early looks torn**: the body is sent in chunks, and where a piece fails to come the connection is cut before
//!   the last chunk, so that no client takes a part for the whole.
//! * **A reader that stands still is let go**: what is read from holds a connection to the database, so a piece that is not
//!   taken within `server.request_timeout_seconds` ends it.

use std::{io, time::Duration};

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::sync::mpsc;
use utxoiq_store::error::{Error, Result};

use crate::{AppState, observe::for_this_request};

/// What the task that reads hands to the one that sends.
enum Piece {
    Some(Vec<u8>),
    /// Everything was given. A channel that closes without it was given up.
    End,
}

/// Where pieces are given.
#[derive(Clone)]
pub(crate) struct Pieces {
    sender: mpsc::Sender<Piece>,
    patience: Duration,
}

impl Pieces {
    /// Gives a piece when the one before it was taken. `false` where the reader went away: it needs nothing more, and nobody
    /// needs to be told.
    pub(crate) async fn give(&self, piece: Vec<u8>) -> Result<bool> {
        if piece.is_empty() {
            return Ok(true);
        }
        self.send(Piece::Some(piece)).await
    }

    async fn send(&self, piece: Piece) -> Result<bool> {
        let given = tokio::time::timeout(self.patience, self.sender.send(piece)).await;
        let given =
            given.map_err(|_| Error::unavailable("reader_stalled", "its reader stands still"))?;
        Ok(given.is_ok())
    }
}

/// A body out of what `write` gives. When `write` fails, the body is cut off.
pub(crate) fn body<W>(state: &AppState, write: impl FnOnce(Pieces) -> W) -> Body
where
    W: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let patience = Duration::from_secs(state.store.config().server.request_timeout_seconds);
    let pieces = Pieces { sender, patience };
    let written = write(pieces.clone());
    let writing = async move {
        let ended = match written.await {
            Ok(()) => pieces.send(Piece::End).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(error = error.report(), "a streamed answer was cut off");
        }
    };
    tokio::spawn(for_this_request(writing));
    Body::from_stream(stream::try_unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Some(Piece::Some(bytes)) => Ok(Some((Bytes::from(bytes), receiver))),
            Some(Piece::End) => Ok(None),
            None => Err(io::Error::other("the answer was cut off")),
        }
    }))
}

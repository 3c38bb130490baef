//! Reading a request's body: how large it may be, how long it may take, and what all bodies may take together.
//!
//! # What it guarantees
//!
//! * No more than `server.max_body_bytes` of a body are read, whatever its head says; one whose head says more is refused
//!   before any of it is read.
//! * A body that is not there after `server.body_timeout_seconds` ends its request with 408, however busily it trickles.
//! * Bodies that do not come in one piece, which is up to what a connection buffers anyway, take no more than
//!   `server.max_body_memory_bytes` together, from their first byte until the call is done with them; one that would take
//!   more is answered 503. A body takes memory as it comes: what its head promises reserves nothing.
//! * Large bodies are worked on beside the threads that answer others, as many at once as there are processors: what is made
//!   of a body takes many times its memory while it is being looked at.
//! * A request that waits for its body has no place among those that are worked on: clients that send slowly keep nobody
//!   else out. When its body is there, it needs a place like any other.

use std::{
    future::poll_fn,
    num::NonZero,
    pin::{Pin, pin},
    sync::{Arc, LazyLock},
    task::Poll,
    time::Duration,
};

use axum::{
    body::{self, Bytes, HttpBody as _},
    extract::Request,
    http::{StatusCode, header},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utxoiq_store::{config::ServerSettings, error::Error};

use crate::{
    AppState,
    error::{ApiError, ApiResult},
    metrics::Metrics,
};

/// What memory is counted in, in bytes.
const UNIT: usize = 1024;

/// The first room that a body of several pieces gets, in bytes.
const FIRST_ROOM: usize = 64 * 1024;

/// The memory that bodies share.
#[derive(Debug, Clone)]
pub struct BodyMemory(Arc<Semaphore>);

impl BodyMemory {
    /// As much as the settings allow.
    pub fn new(settings: &ServerSettings) -> Self {
        let units = (settings.max_body_memory_bytes / UNIT).min(u32::MAX as usize);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    fn take(&self, bytes: usize) -> ApiResult<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.0)
            .try_acquire_many_owned(units)
            .map_err(|_| {
                ApiError::unavailable(
                    "overloaded",
                    "too many large bodies are being read; send the request again later",
                )
            })
    }
}

/// Reads a body whole.
pub(crate) async fn read(request: Request, state: &AppState) -> ApiResult<Bytes> {
    let settings = &state.store.config().server;
    let limit = settings.max_body_bytes;
    let promised = request.headers().get(header::CONTENT_LENGTH);
    let promised = promised.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if promised.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit))
    {
        return Err(ApiError::too_large(limit));
    }
    let mut reading = pin!(collect(request.into_body(), limit, &state.body_memory));
    // Nearly every body came with its head: no timer, and no coming and going.
    let at_once = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
    if let Poll::Ready(read) = at_once {
        return read;
    }
    let waiting = Waiting::begin(&state.metrics);
    // Never the whole of a request's time: it would not be known whose fault it is.
    let patience = Duration::from_secs(settings.body_timeout_seconds)
        .min(Duration::from_secs(settings.request_timeout_seconds) * 9 / 10);
    let read = tokio::time::timeout(patience, reading).await;
    let working = waiting.end();
    let read = read.unwrap_or_else(|_| Err(ApiError::body_timeout(patience)))?;
    if working > i64::try_from(settings.max_requests_in_flight).unwrap_or(i64::MAX) {
        return Err(ApiError::overloaded());
    }
    Ok(read)
}

/// A request that waits for its body, which is not worked on meanwhile.
struct Waiting<'a>(Option<&'a Metrics>);

impl<'a> Waiting<'a> {
    fn begin(metrics: &'a Metrics) -> Self {
        metrics.in_flight().dec();
        metrics.bodies_awaited().inc();
        Self(Some(metrics))
    }

    /// Goes back to work, and says how many do, with this one.
    fn end(mut self) -> i64 {
        self.0.take().map_or(0, Self::back)
    }

    fn back(metrics: &Metrics) -> i64 {
        metrics.bodies_awaited().dec();
        metrics.in_flight().inc() + 1
    }
}

impl Drop for Waiting<'_> {
    /// The request was given up while it waited; who counted it in counts it out.
    fn drop(&mut self) {
        if let Some(metrics) = self.0.take() {
            Self::back(metrics);
        }
    }
}

/// Up to here a body is worked on where it was read: handing it over would take longer.
const SMALL_BYTES: usize = 64 << 10;

/// Places for the work on large bodies.
static LARGE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new(processors))
});

/// Does work on a body of so many bytes; a large one beside the threads that answer others.
pub(crate) async fn aside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> ApiResult<T> + Send + 'static,
) -> ApiResult<T> {
    if bytes <= SMALL_BYTES {
        return work();
    }
    // The semaphore is never closed. The place goes with the work, which its request does not end when it is given up.
    let place = Arc::clone(&LARGE).acquire_owned().await;
    let work = move || {
        let _place = place;
        work()
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("a body's reader ended early").with_source(error))?
}

async fn collect(mut body: body::Body, limit: usize, memory: &BodyMemory) -> ApiResult<Bytes> {
    let Some(first) = next(&mut body).await? else {
        return Ok(Bytes::new());
    };
    if body.is_end_stream() {
        return checked(first, limit);
    }
    let mut whole = Whole::new(limit, memory);
    whole.push(&first)?;
    drop(first);
    while let Some(piece) = next(&mut body).await? {
        whole.push(&piece)?;
    }
    Ok(Bytes::from_owner(whole))
}

fn checked(bytes: Bytes, limit: usize) -> ApiResult<Bytes> {
    if bytes.len() > limit {
        return Err(ApiError::too_large(limit));
    }
    Ok(bytes)
}

/// The next piece with bytes in it; trailers are passed over.
async fn next(body: &mut body::Body) -> ApiResult<Option<Bytes>> {
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let frame = frame.map_err(|_| torn())?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn torn() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "torn_body",
        "the body ended before it was complete; send the request again",
    )
}

/// A body of several pieces, with the memory that it was given; it gives that back when the last of its users is done.
struct Whole {
    bytes: Vec<u8>,
    limit: usize,
    memory: BodyMemory,
    given: Option<OwnedSemaphorePermit>,
}

impl Whole {
    fn new(limit: usize, memory: &BodyMemory) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            memory: memory.clone(),
            given: None,
        }
    }

    fn push(&mut self, piece: &[u8]) -> ApiResult<()> {
        let needed = self.bytes.len() + piece.len();
        if needed > self.limit {
            return Err(ApiError::too_large(self.limit));
        }
        if needed > self.bytes.capacity() {
            let room = (self.bytes.capacity() * 2).clamp(FIRST_ROOM, self.limit.max(FIRST_ROOM));
            let room = room.max(needed);
            let more = self.memory.take(room - self.bytes.capacity())?;
            match &mut self.given {
                Some(given) => given.merge(more),
                None => self.given = Some(more),
            }
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    fn memory(bytes: usize) -> BodyMemory {
        BodyMemory(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    fn in_pieces(pieces: &[&'static [u8]]) -> Body {
        let pieces: Vec<Result<Bytes, std::io::Error>> = pieces
            .iter()
            .map(|piece| Ok(Bytes::from_static(piece)))
            .collect();
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test]
    async fn a_body_is_the_same_however_it_comes_and_gives_its_memory_back() {
        let memory = memory(1024 * 1024);
        let all = memory.0.available_permits();
        for pieces in [vec![&b"abc"[..]], vec![b"a", b"", b"bc"], vec![]] {
            let read = collect(in_pieces(&pieces), 3, &memory).await.unwrap();
            assert_eq!(read, pieces.concat());
            let kept = read.clone();
            drop(read);
            let is_given = memory.0.available_permits() < all;
            assert_eq!(is_given, !kept.is_empty(), "{pieces:?}");
            drop(kept);
            assert_eq!(memory.0.available_permits(), all);
        }
    }

    #[tokio::test]
    async fn a_byte_above_the_limit_is_too_large_in_one_piece_and_in_many() {
        let memory = memory(1024 * 1024);
        for pieces in [vec![&b"abcd"[..]], vec![b"ab", b"cd"]] {
            let refused = collect(in_pieces(&pieces), 3, &memory).await.unwrap_err();
            assert_eq!(refused.status(), 413);
        }
        let refused = collect(Body::from("abcd"), 3, &memory).await.unwrap_err();
        assert_eq!(refused.status(), 413);
    }

    #[tokio::test]
    async fn bodies_take_no_more_memory_together_than_there_is() {
        let memory = memory(2 * FIRST_ROOM);
        let some = || collect(in_pieces(&[b"a", b"b"]), FIRST_ROOM, &memory);
        let (first, _second) = (some().await.unwrap(), some().await.unwrap());
        assert_eq!(some().await.unwrap_err().status(), 503);
        // What came in one piece is in the connection's buffer already.
        collect(Body::from("ab"), FIRST_ROOM, &memory)
            .await
            .unwrap();
        drop(first);
        some().await.unwrap();
    }
}

//! The one layer around everything: what every request gets, and what every answer has.
//!
//! A request gets an id, a place among those in flight, a time limit and a net under panics. An answer has the id, the
//! problem form where it is an error, and the headers that keep it out of caches and of guesses about its type. Both
//! are counted, and written to the log in one line at level debug (`log.level = "info,utxoiq_store_server::access=debug"`
//! shows them); what fails on our side is logged as warning or error by [`crate::error`], with the same id.
//!
//! It is one layer rather than six because each layer costs an allocation and a clone of the service on the hot path.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use tracing::Instrument as _;
use utxoiq_store::clock::uuid_at;
use uuid::Uuid;

use crate::{
    AppState,
    error::{self, ApiError},
};

/// The header that carries a request's id, both ways.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a client.
const MAX_REQUEST_ID: usize = 64;

/// What a path that no call has is called in metrics and logs.
const UNMATCHED: &str = "unmatched";

pub(crate) async fn observe(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(&mut request, state.store.now());
    // What is logged about a request names it; the span adds that to what is logged on the way, where that is asked for.
    let span = tracing::debug_span!("request", request_id = id.to_str().unwrap_or_default());
    let under_way = UnderWay::begin(&state, &request);
    async move {
        let response = if under_way.is_one_too_many(&state) {
            ApiError::unavailable(
                "overloaded",
                "too many requests are being worked on; send the request again later",
            )
            .into_response()
        } else {
            bounded(&state, request, next).await
        };
        let mut response = error::render(response, id.to_str().unwrap_or_default());
        under_way.end(response.status(), id.to_str().unwrap_or_default());
        finish_headers(&mut response, id);
        response
    }
    .instrument(span)
    .await
}

/// Runs the request within the time limit; a panic becomes an answer.
async fn bounded(state: &AppState, request: Request, next: Next) -> Response {
    let limit = Duration::from_secs(state.store.config().server.request_timeout_seconds);
    let work = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => ApiError::panicked(panic_message(panic.as_ref())).into_response(),
        Err(_) => ApiError::unavailable(
            "timeout",
            "the request took too long; whether a write took effect is not known: read it back, then send it again",
        )
        .into_response(),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// The client's id where it is a sane one, so that its logs and ours can be joined; otherwise a new one that sorts by
/// time. Handlers find it in the request's headers.
fn request_id(request: &mut Request, now: DateTime<Utc>) -> HeaderValue {
    let theirs = request.headers().get(&REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        (1..=MAX_REQUEST_ID).contains(&bytes.len())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    });
    let id = theirs.cloned().unwrap_or_else(|| {
        let mut text = Uuid::encode_buffer();
        let id = uuid_at(now).as_hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    });
    request.headers_mut().insert(&REQUEST_ID, id.clone());
    id
}

fn finish_headers(response: &mut Response, id: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(&REQUEST_ID, id);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// A request being worked on; counted also when its client goes away and the work is dropped.
struct UnderWay {
    state: AppState,
    method: Method,
    route: Option<MatchedPath>,
    began: Instant,
    ended: bool,
    place: i64,
}

impl UnderWay {
    fn begin(state: &AppState, request: &Request) -> Self {
        Self {
            place: state.metrics.in_flight().inc(),
            state: state.clone(),
            method: request.method().clone(),
            route: request.extensions().get().cloned(),
            began: Instant::now(),
            ended: false,
        }
    }

    fn route(&self) -> &str {
        self.route.as_ref().map_or(UNMATCHED, MatchedPath::as_str)
    }

    /// Whether the service is full. Liveness and readiness are answered even then: they cost nothing, and a full
    /// process is not a dead one.
    fn is_one_too_many(&self, state: &AppState) -> bool {
        let limit = state.store.config().server.max_requests_in_flight;
        self.place >= i64::try_from(limit).unwrap_or(i64::MAX)
            && !matches!(self.route(), "/healthz" | "/readyz")
    }

    fn end(mut self, status: StatusCode, request_id: &str) {
        self.ended = true;
        let took = self.began.elapsed();
        self.state
            .metrics
            .record(&self.method, self.route(), Some(status), took);
        tracing::debug!(
            target: "utxoiq_store_server::access",
            request_id,
            method = %self.method,
            path = self.route(),
            status = status.as_u16(),
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "answered"
        );
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.state.metrics.in_flight().dec();
        if !self.ended {
            self.state
                .metrics
                .record(&self.method, self.route(), None, self.began.elapsed());
        }
    }
}

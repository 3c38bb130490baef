//! What stands around every call: what each request gets, and what each answer has.
//!
//! A request gets an id, a place among those in flight, a time limit and a net under panics. An answer has the id, the
//! problem form where it is an error, and the headers that keep it out of caches and of guesses about its type. Both
//! are counted, and written to the log in one line at level debug (`log.level = "info,utxoiq_store_server::access=debug"`
//! shows them); what fails on our side is logged as warning or error by [`crate::error`], with the same id.
//!
//! It is one handler around another rather than layers, because each layer of a router costs allocations and a copy of the
//! request on the hot path; and what need not be done for an answer that is there at once, such as setting a timer, is not.

use std::{
    any::Any,
    cell::Cell,
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::Poll,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request},
    handler::Handler,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    AppState, auth,
    dashboard::{Visit, session},
    error::{self, ApiError, ApiResult},
    metrics::MethodFigures,
    rate_limit::Standing,
    routes::Access,
    trace,
};

/// The header that carries a request's id, both ways.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who may load an answer into a page of theirs.
static RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The longest id that is taken over from a client.
const MAX_REQUEST_ID: usize = 64;

tokio::task_local! {
    /// The id of the request that the task works on.
    static CURRENT: HeaderValue;
}

/// Hands the id of the request that is being worked on here to a function: the log puts it into each line. A span would say
/// it as well, and cost a request more than all the rest of this module.
pub fn with_request_id<R>(read: impl FnOnce(&str) -> R) -> Option<R> {
    let read = |id: &HeaderValue| id.to_str().ok().map(read);
    CURRENT.try_with(read).ok().flatten()
}

/// The same work under the id of the request that is being worked on here, for a task of its own.
pub(crate) fn for_this_request<F: Future>(work: F) -> impl Future<Output = F::Output> {
    // Now: where the work begins, it is not known any more.
    let id = CURRENT.try_with(HeaderValue::clone).ok();
    let work = work.instrument(utxoiq_store::trace::current());
    async move {
        match id {
            Some(id) => CURRENT.scope(id, work).await,
            None => work.await,
        }
    }
}

/// What a path that no call has is called in metrics and logs.
const UNMATCHED: &str = "unmatched";

/// What a handler panicked with.
type Panic = Box<dyn Any + Send>;

/// The way in and out of a call, or of what no call answers; shared by all requests that take it.
struct Gate {
    state: AppState,
    access: Access,
    /// Whether clients come by TLS, as far as we know.
    is_tls: bool,
    /// The call's method and its figures, found once.
    method: Option<Method>,
    figures: OnceLock<MethodFigures>,
}

/// A handler behind its gate.
#[derive(Clone)]
pub(crate) struct Gated<H> {
    gate: Arc<Gate>,
    handler: H,
}

impl<H> Gated<H> {
    /// The handler of a call: only those may make it who have access.
    pub(crate) fn call(state: &AppState, access: Access, method: Method, handler: H) -> Self {
        Self::new(state, access, Some(method), handler)
    }

    /// What answers where no call does.
    pub(crate) fn no_call(state: &AppState, handler: H) -> Self {
        Self::new(state, Access::Open, None, handler)
    }

    fn new(state: &AppState, access: Access, method: Option<Method>, handler: H) -> Self {
        let gate = Arc::new(Gate {
            state: state.clone(),
            access,
            is_tls: is_tls(state),
            method,
            figures: OnceLock::new(),
        });
        Self { gate, handler }
    }
}

impl<H: Handler<T, AppState>, T> Handler<T, AppState> for Gated<H> {
    type Future = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn call(self, mut request: Request, state: AppState) -> Self::Future {
        let Self { gate, handler } = self;
        Box::pin(async move {
            let now = gate.state.store.now();
            let id = request_id(&request, now);
            let span = trace::of_request(&request, id.to_str().unwrap_or_default());
            let under_way = UnderWay::begin(&gate, &request);
            let is_one_too_many = under_way.is_one_too_many();
            let mut standing = None;
            let mut visit = Visit::of(gate.access, &request);
            let answering = async {
                let response = {
                    let work = async {
                        if is_one_too_many {
                            return ApiError::overloaded().into_response();
                        }
                        let admitted = gate.admit(&mut request, now, &mut standing).await;
                        if let Some(visit) = &mut visit {
                            visit.caller = request.extensions().get().cloned();
                        }
                        match admitted {
                            Ok(()) => handler.call(request, state).await,
                            Err(refusal) => refusal.into_response(),
                        }
                    };
                    gate.bounded(pin!(AssertUnwindSafe(work).catch_unwind()))
                        .await
                };
                let id = id.to_str().unwrap_or_default();
                let response = match visit {
                    Some(visit) => visit.render(response, id, gate.is_tls),
                    None => error::render(response, id),
                };
                under_way.end(response.status());
                response
            };
            let answering = answering.instrument(span.clone());
            let mut response = CURRENT.scope(id.clone(), answering).await;
            trace::answered(&span, response.status());
            finish_headers(&mut response, id, gate.is_tls, standing.as_deref());
            response
        })
    }
}

impl Gate {
    /// Lets a request in whose caller may make the call.
    async fn admit(
        &self,
        request: &mut Request,
        now: DateTime<Utc>,
        standing: &mut Option<Box<Standing>>,
    ) -> ApiResult<()> {
        let scope = match self.access {
            Access::Open => return Ok(()),
            Access::Authenticated => None,
            Access::Needs(scope) => Some(scope),
            Access::Page(scope) | Access::Fragment(scope) => {
                return Box::pin(session::admit(
                    &self.state,
                    scope,
                    request,
                    self.is_tls,
                    now,
                    standing,
                ))
                .await;
            }
        };
        auth::authorize(&self.state, scope, request, now, standing).await
    }

    /// Waits for the answer within the time limit; a panic becomes an answer.
    async fn bounded(
        &self,
        mut work: Pin<&mut impl Future<Output = Result<Response, Panic>>>,
    ) -> Response {
        // Most answers are there at once: they need no timer.
        let at_once = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        let answered = match at_once {
            Poll::Ready(answered) => Ok(answered),
            Poll::Pending => {
                let limit = self.state.store.config().server.request_timeout_seconds;
                tokio::time::timeout(Duration::from_secs(limit), work).await
            }
        };
        match answered {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => ApiError::panicked(panic_message(&*panic)).into_response(),
            Err(_) => ApiError::unavailable(
                "timeout",
                "the request took too long; whether a write took effect is not known: read it back, then send it again",
            )
            .into_response(),
        }
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
/// time.
fn request_id(request: &Request, now: DateTime<Utc>) -> HeaderValue {
    let theirs = request.headers().get(&REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        (1..=MAX_REQUEST_ID).contains(&bytes.len())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    });
    theirs.cloned().unwrap_or_else(|| new_request_id(now))
}

/// A UUID of version 7. Its random part is drawn once for each thread and then counted on, so that no two are the same and
/// none costs a call of the system; it is a name, not a secret.
fn new_request_id(now: DateTime<Utc>) -> HeaderValue {
    thread_local! {
        static NEXT: Cell<u128> = Cell::new(Uuid::new_v4().as_u128());
    }
    let number = NEXT.get();
    NEXT.set(number.wrapping_add(1));
    let mut bits = [0; 10];
    bits.copy_from_slice(&number.to_be_bytes()[6..]);
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &bits).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text))
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Whether clients come by TLS, as far as we know.
pub(crate) fn is_tls(state: &AppState) -> bool {
    let settings = &state.store.config().server;
    settings.behind_tls || settings.tls_certificate_file.is_some()
}

/// What a page may do: load our own styles, scripts, pictures and answers, and nothing else. For handlers that answer with
/// HTML, which send it along; every other answer may do nothing at all.
pub fn page_policy() -> (HeaderName, HeaderValue) {
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    )
}

/// The headers of every answer. What a handler has decided stays; all values are there already, so that none is made here.
/// `X-Frame-Options` would say to old browsers what `frame-ancestors` says to all others.
fn finish_headers(
    response: &mut Response,
    id: HeaderValue,
    is_tls: bool,
    standing: Option<&Standing>,
) {
    let headers = response.headers_mut();
    headers.reserve(7);
    if let Some(standing) = standing {
        standing.tell(headers);
    }
    headers.insert(&REQUEST_ID, id);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(&RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    if is_tls {
        // Browsers heed it only where it came by TLS.
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
}

/// A request being worked on; counted also when its client goes away and the work is dropped.
struct UnderWay<'a> {
    gate: &'a Gate,
    method: Method,
    route: Option<MatchedPath>,
    began: Instant,
    ended: bool,
    place: i64,
}

impl<'a> UnderWay<'a> {
    fn begin(gate: &'a Gate, request: &Request) -> Self {
        Self {
            place: gate.state.metrics.in_flight().inc(),
            gate,
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
    fn is_one_too_many(&self) -> bool {
        let limit = self.gate.state.store.config().server.max_requests_in_flight;
        self.place >= i64::try_from(limit).unwrap_or(i64::MAX)
            && !matches!(self.route(), "/healthz" | "/readyz")
    }

    /// Counts the request. A call's own method has figures at hand; others are HEAD, and what no call answers.
    fn count(&self, status: Option<StatusCode>) {
        let (metrics, took) = (&self.gate.state.metrics, self.began.elapsed());
        let figures = || metrics.figures(&self.method, self.route());
        if self.gate.method.as_ref() == Some(&self.method) {
            self.gate.figures.get_or_init(figures).count(status, took);
        } else {
            figures().count(status, took);
        }
    }

    fn end(mut self, status: StatusCode) {
        self.ended = true;
        self.count(Some(status));
        tracing::debug!(
            target: "utxoiq_store_server::access",
            method = %self.method,
            path = self.route(),
            status = status.as_u16(),
            micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            "answered"
        );
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.gate.state.metrics.in_flight().dec();
        if !self.ended {
            self.count(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn new_ids_are_uuids_of_version_7_and_no_two_are_the_same() {
        let now: DateTime<Utc> = "2026-01-31T12:00:00.123Z".parse().unwrap();
        let make = move || {
            let ids = (0..1_000).map(|_| new_request_id(now).to_str().unwrap().to_owned());
            ids.collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let all: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), 4_000);
        for id in &all {
            let id = Uuid::parse_str(id).unwrap();
            assert_eq!(id.get_version_num(), 7);
        }
        let later = new_request_id(now + chrono::TimeDelta::milliseconds(1));
        assert!(all.iter().all(|id| id.as_str() < later.to_str().unwrap()));
    }

    #[tokio::test]
    async fn a_task_of_its_own_keeps_the_id_of_its_request() {
        let id = || with_request_id(str::to_owned);
        assert_eq!(id(), None);
        let spawned = async { tokio::spawn(for_this_request(async move { id() })).await };
        let kept = CURRENT.scope(HeaderValue::from_static("r-1"), spawned);
        assert_eq!(kept.await.unwrap().as_deref(), Some("r-1"));
        assert_eq!(for_this_request(async move { id() }).await, None);
    }
}

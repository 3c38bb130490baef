//! What a caller is told when a request fails (RFC 9457), and where it is logged.
//!
//! # What it guarantees
//!
//! * Every answer of 400 and above has the same form: `application/problem+json` with a stable `code`, a `detail`
//!   that says what to do next, the `request_id` of the log lines and, for bad input, all rejected fields. This holds
//!   for the framework's own refusals too: [`render`] rebuilds what is not a problem yet.
//! * A fault of ours is logged once, with all causes, and told to the caller without any of them.
//!
//! A handler returns an [`ApiError`]. Its response carries the [`Problem`] as an extension and no body: the outermost
//! layer ([`crate::observe`]) knows the request's id, logs, and writes the body, in one place.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utxoiq_store::token::Scope;
use utxoiq_store::{Error, Kind, error::FieldError};

/// The content type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// How soon a caller may try again after an error that passes by itself, in seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The code with which a bounded queue takes nothing more for now.
const QUEUE_FULL: &str = "queue_full";

/// A handler's result.
pub type ApiResult<T> = Result<T, ApiError>;

/// A refused or failed request.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

/// All there is to say about a failed request.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: String,
    errors: Vec<FieldError>,
    headers: HeaderMap,
    members: Map<String, Value>,
    /// What the log is told and the caller is not.
    report: Option<String>,
    /// Whether the log already knows.
    is_logged: bool,
}

/// The body of every error (RFC 9457), as the OpenAPI document shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// Always `about:blank`: programs decide by `code`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What went wrong and what to do next, for people.
    detail: &'a str,
    /// What went wrong, for programs; these words do not change.
    code: &'a str,
    /// For malformed input: every rejected field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemField<'a>>,
    /// The request's id, as in the header `X-Request-Id` and in the log.
    request_id: &'a str,
    #[serde(flatten)]
    #[schema(ignore)]
    members: &'a Map<String, Value>,
}

/// One rejected field.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemField<'a> {
    /// Its name; nested ones are joined with dots, list positions are numbers.
    field: &'a str,
    /// What would be right.
    message: &'a str,
}

impl ApiError {
    /// A problem of a status, with its stable code and its detail.
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self(Box::new(Problem {
            status,
            code: code.into(),
            detail: detail.into(),
            errors: Vec::new(),
            headers: HeaderMap::new(),
            members: Map::new(),
            report: None,
            is_logged: false,
        }))
    }

    /// 401: no token.
    pub fn unauthorized() -> Self {
        Self::challenge("Bearer")
    }

    /// 401: a token that does not let in. The same words for whatever is wrong with it, so that nobody learns by trying.
    pub fn invalid_token() -> Self {
        Self::challenge("Bearer error=\"invalid_token\"")
    }

    fn challenge(challenge: &'static str) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "send a valid token in the header Authorization: Bearer …: a service token, uqs_…, which utxoiq-store token create makes, or an end user's token where the service takes them",
        )
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 403: the token lacks the scope that the call needs.
    pub fn forbidden(scope: Scope) -> Self {
        Self::forbidden_to("this call", scope)
    }

    /// 403: the token lacks the scope that something about the call needs.
    pub fn forbidden_to(what: &str, scope: Scope) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "missing_scope",
            format!("{what} needs a token with the scope {scope}"),
        )
        .with_member("scope", scope.to_string())
    }

    /// 404: no call has this path.
    pub fn unknown_path() -> Self {
        Self::of_status(StatusCode::NOT_FOUND)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body is larger than {limit} bytes; send it in parts"),
        )
    }

    /// 408: the body has not arrived whole in time.
    pub fn body_timeout(limit: Duration) -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!(
                "the body had not arrived after {} s, and nothing was done; send it faster, or in parts",
                limit.as_secs_f64()
            ),
        )
    }

    /// 415: the body is not JSON.
    pub fn unsupported_media_type() -> Self {
        Self::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }

    /// 422: the body or the query cannot be read at all.
    pub fn malformed(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 429: the caller's limit of `quota` requests in `window_seconds` is used up for `wait_seconds` more.
    pub fn rate_limited(quota: u64, window_seconds: u64, wait_seconds: u64) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            format!(
                "the limit of {quota} requests in {window_seconds} s is used up; send the request again in {wait_seconds} s"
            ),
        )
        .retry_after(wait_seconds)
    }

    /// 429: too many requests without a valid token came from the client's address.
    pub fn too_many_failed_logins(wait_seconds: u64) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_failed_logins",
            format!(
                "too many requests with tokens that are not valid came from this address; send a valid one in {wait_seconds} s"
            ),
        )
        .retry_after(wait_seconds)
    }

    /// 503: what is needed is not there now.
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(RETRY_AFTER_SECONDS)
    }

    /// 503: the service is full.
    pub fn overloaded() -> Self {
        Self::unavailable(
            "overloaded",
            "too many requests are being worked on; send the request again later",
        )
    }

    /// 500 after a panic; the message is for the log only.
    pub fn panicked(message: &str) -> Self {
        Self::internal(format!("a handler panicked: {message}"))
    }

    fn internal(report: String) -> Self {
        let mut error = Self::of_status(StatusCode::INTERNAL_SERVER_ERROR);
        error.0.report = Some(report);
        error
    }

    /// What a status says by itself, for answers that the framework made without a body of ours.
    fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::NOT_FOUND => (
                "unknown_path",
                "no call has this path; /openapi.json lists them",
            ),
            StatusCode::METHOD_NOT_ALLOWED => (
                "method_not_allowed",
                "this path does not take this method; the header Allow names those it takes",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => {
                ("too_large", "the body is too large; send it in parts")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (
                "unsupported_media_type",
                "send the body as plain JSON with the header Content-Type: application/json, not compressed",
            ),
            StatusCode::INTERNAL_SERVER_ERROR => (
                "internal",
                "the service failed; report the request_id to its operators",
            ),
            StatusCode::SERVICE_UNAVAILABLE => (
                "unavailable",
                "the service cannot answer now; send the request again later",
            ),
            status if status.is_server_error() => (
                "internal",
                "the service failed; send the request again later",
            ),
            _ => (
                "bad_request",
                "the request cannot be read; /openapi.json has each call's form",
            ),
        };
        Self::new(status, code, detail)
    }

    /// The same problem with a header on its answer.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// The same problem under another code.
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = code.into();
        self
    }

    /// The same problem with one more member in its body.
    pub fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// The same problem without a line in the log: what is polled is logged where it changes.
    pub fn quietly(mut self) -> Self {
        self.0.is_logged = true;
        self
    }

    fn retry_after(self, seconds: u64) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// What is told to people.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The rejected fields.
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Invalid if error.field_errors().is_empty() => StatusCode::BAD_REQUEST,
            Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Unavailable => {
                let mut made = Self::unavailable(error.code(), error.message());
                // What waits is the callers' own: they are told to send less, not that something is away.
                if error.code() == QUEUE_FULL {
                    made.0.status = StatusCode::TOO_MANY_REQUESTS;
                }
                made.0.report = Some(error.report());
                return made;
            }
            Kind::Internal => return Self::internal(error.report()),
        };
        let mut made = Self::new(status, error.code(), error.message());
        made.0.errors = error.field_errors().to_vec();
        made
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(Arc::new(*self.0));
        response
    }
}

/// Beside a failed answer that says what went wrong in its own form.
#[derive(Clone, Copy)]
pub(crate) struct Told;

/// What went wrong, of a failed answer that does not say so yet.
fn problem_of(response: &mut Response) -> Option<Arc<Problem>> {
    let status = response.status();
    let is_failed = status.is_client_error() || status.is_server_error();
    if !is_failed || response.extensions().get::<Told>().is_some() {
        return None;
    }
    let problem = response.extensions_mut().remove::<Arc<Problem>>();
    Some(problem.unwrap_or_else(|| Arc::new(*ApiError::of_status(status).0)))
}

/// As [`render`], with an answer for people, whom the dashboard tells.
pub(crate) fn render_for_people(
    mut response: Response,
    request_id: &str,
    tell: impl FnOnce(&Problem) -> Response,
) -> Response {
    let Some(problem) = problem_of(&mut response) else {
        return response;
    };
    problem.log(request_id);
    let mut told = tell(&problem);
    let mut kept = problem.headers.clone();
    kept.remove(header::WWW_AUTHENTICATE);
    told.headers_mut().extend(kept);
    told
}

/// Gives a failed answer its form and logs it; leaves any other as it is.
pub fn render(mut response: Response, request_id: &str) -> Response {
    let Some(problem) = problem_of(&mut response) else {
        return response;
    };
    let status = response.status();
    problem.log(request_id);
    // Headers of an answer that the framework made are kept (Allow), except those about its body.
    let mut headers = std::mem::take(response.headers_mut());
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONTENT_ENCODING,
    ] {
        headers.remove(name);
    }
    headers.extend(problem.headers.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    let mut rendered = Response::new(Body::from(problem.body(request_id)));
    *rendered.status_mut() = status;
    *rendered.headers_mut() = headers;
    rendered
}

impl Problem {
    /// The status it is answered with.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// What is told to people.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The rejected fields.
    pub(crate) fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// One more member of the body, where it is text.
    pub(crate) fn member(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }

    fn body(&self, request_id: &str) -> Vec<u8> {
        let body = ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: &self.code,
            errors: self
                .errors
                .iter()
                .map(|error| ProblemField {
                    field: &error.field,
                    message: &error.message,
                })
                .collect(),
            request_id,
            members: &self.members,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// Internal faults are errors, a part that is away is a warning, and what the caller did wrong is for debugging.
    fn log(&self, request_id: &str) {
        let code = self.code.as_ref();
        let report = self.report.as_deref().unwrap_or(&self.detail);
        if self.is_logged {
            return;
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(request_id, code, "{report}");
        } else if self.status.is_server_error() {
            tracing::error!(request_id, code, "{report}");
        } else {
            tracing::debug!(request_id, code, "{report}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(error: Error) -> (u16, bool) {
        let error = ApiError::from(error);
        (
            error.status().as_u16(),
            error.0.headers.contains_key(header::RETRY_AFTER),
        )
    }

    #[test]
    fn each_kind_has_its_status() {
        assert_eq!(status_of(Error::not_found("a", "b")), (404, false));
        assert_eq!(status_of(Error::conflict("a", "b")), (409, false));
        assert_eq!(status_of(Error::invalid("a", "b")), (400, false));
        assert_eq!(status_of(Error::field("a", "b")), (422, false));
        assert_eq!(status_of(Error::unavailable("a", "b")), (503, true));
        assert_eq!(
            status_of(Error::unavailable("queue_full", "b")),
            (429, true)
        );
        assert_eq!(status_of(Error::internal("b")), (500, false));
    }

    #[test]
    fn an_internal_error_tells_the_caller_nothing_about_its_cause() {
        let error = Error::internal("column x is missing").with_source("password=s3cret");
        let error = ApiError::from(error);
        let body = String::from_utf8(error.0.body("r-1")).unwrap();
        assert!(
            !body.contains("s3cret") && !body.contains("column"),
            "{body}"
        );
        assert!(body.contains("\"request_id\":\"r-1\""), "{body}");
        assert!(error.0.report.unwrap().contains("s3cret"));
    }

    #[test]
    fn an_answer_without_our_form_is_given_it_and_keeps_its_headers() {
        let framework = (
            StatusCode::METHOD_NOT_ALLOWED,
            [(header::ALLOW, "GET")],
            "no",
        )
            .into_response();
        let rendered = render(framework, "r-1");
        assert_eq!(rendered.status(), 405);
        assert_eq!(rendered.headers()[header::ALLOW], "GET");
        assert_eq!(rendered.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    }
}

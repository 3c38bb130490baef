//! A service to ask, in this process.

use axum::{
    Json, Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    response::Html,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use utxoiq_store::{
    Store,
    config::{Config, Loader},
    schedule::Scheduler,
    worker,
};
use utxoiq_store_server::{
    AppState,
    error::ApiResult,
    input, observe, router_of,
    routes::{Call, Routes},
};

/// A database address at which nothing listens.
pub const NOWHERE: &str = "postgresql://nobody@127.0.0.1:1/none";

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Checks the form that every failed answer has, and returns its code.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let body = self.json();
        assert_eq!(body["status"], status, "{self:?}");
        assert_eq!(body["type"], "about:blank");
        for member in ["title", "detail", "code", "request_id"] {
            assert!(
                body[member].as_str().is_some_and(|text| !text.is_empty()),
                "{member}: {self:?}"
            );
        }
        assert_eq!(self.header("x-request-id"), body["request_id"].as_str());
        self.assert_common_headers();
        body["code"].as_str().unwrap().to_owned()
    }

    pub fn assert_common_headers(&self) {
        assert!(self.header("x-request-id").is_some(), "{self:?}");
        assert_eq!(
            self.header("x-content-type-options"),
            Some("nosniff"),
            "{self:?}"
        );
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
    }

    /// The names of the rejected fields.
    pub fn fields(&self) -> Vec<String> {
        let body = self.json();
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|error| error["field"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// A configuration with other values, and no database.
pub fn settings(vars: &[(&str, &str)]) -> Config {
    let vars = [
        ("DATABASE_URL", NOWHERE),
        ("UTXOIQ_STORE_DATABASE__POOL_MIN", "0"),
    ]
    .iter()
    .chain(vars)
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Loader::default().env(vars).unwrap().finish().unwrap()
}

/// The state of a service with this configuration.
pub fn state(config: Config) -> AppState {
    let store = Store::open(config).unwrap();
    let scheduler = Scheduler::new(
        store.pool().clone(),
        store.clock(),
        worker::tasks(&store),
        store.config().schedule.clone(),
        "test",
    );
    AppState::new(store, scheduler.unwrap()).unwrap()
}

/// Calls that exist for tests only: they need no token, so that what is tested is the machinery around them.
pub fn test_routes() -> Routes {
    Routes::new("test", "For tests")
        .add(Call::open("/test/ok", "answers"), async || {
            Json(json!({"ok": true}))
        })
        .add(Call::open("/test/panic", "panics"), panics)
        .add(Call::open("/test/slow", "takes 1.5 s"), async || {
            tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
            "done"
        })
        .add(Call::open("/test/page", "is a page"), async || {
            ([observe::page_policy()], Html("<!doctype html>"))
        })
        .add(Call::open("/test/query", "reads a query"), read_query)
        .add(Call::open("/test/path/{id}", "reads a path"), read_path)
        .add(Call::open_post("/test/body", "reads a body"), read_body)
        .add(Call::open_post("/test/batch", "reads an array"), read_batch)
}

async fn panics() -> &'static str {
    panic!("s3cret on purpose")
}

/// One field of each type, in ranges that the wire contract has.
fn read_all(input: &mut input::Input) -> Value {
    json!({
        "text": input.text("text", 1..=50),
        "comment": input.optional_text("comment", 1..=1_000),
        "block": input.int("block", 0..=i64::MAX),
        "percentage": input.float("percentage", 0.0..=100.0),
        "value": input.optional_float("value", input::FINITE),
        "at": input.optional_time("at"),
        "id": input.optional_uuid("id"),
        "status": input.optional_one_of("status", &[("running", "R"), ("failed", "F")]),
        "flag": input.bool_or("flag", false),
    })
}

async fn read_body(input::Body(mut body): input::Body) -> ApiResult<Json<Value>> {
    let all = read_all(&mut body);
    body.finish()?;
    Ok(Json(all))
}

async fn read_batch(input::Document(document): input::Document) -> ApiResult<Json<usize>> {
    let items = input::Input::items(document, 3)?;
    let count = items.len();
    let all = items.into_iter().map(|mut item| {
        read_all(&mut item);
        item
    });
    if let Some(all) = all.reduce(input::Input::and) {
        all.finish()?;
    }
    Ok(Json(count))
}

async fn read_query(input::Query(mut query): input::Query) -> ApiResult<Json<Value>> {
    let all = read_all(&mut query);
    query.finish()?;
    Ok(Json(all))
}

async fn read_path(input::Path(mut path): input::Path) -> ApiResult<Json<Value>> {
    let id = path.uuid("id");
    path.finish()?;
    Ok(Json(json!(id)))
}

/// A service of the tests' own calls.
pub fn test_service(vars: &[(&str, &str)]) -> Router {
    router_of(&state(settings(vars)), vec![test_routes()])
}

/// Asks a service.
pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status,
        headers: head.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

/// Asks a service without a body.
pub async fn call(router: &Router, method: &str, path: &str, token: Option<&str>) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    send(router, request.body(Body::empty()).unwrap()).await
}

/// Posts bytes as JSON.
pub async fn post(router: &Router, path: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(path)
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )
        .body(body.into())
        .unwrap();
    send(router, request).await
}

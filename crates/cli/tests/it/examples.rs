//! examples/: each is run as its README says, against a real store, which is asked afterwards what has come of it.
//!
//! `UTXOIQ_EXAMPLES_PYTHON` names a Python that has what the examples ask for; `./dev test` makes one.

use std::{
    env,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use utxoiq_store::clock::{Clock as _, SystemClock};
use utxoiq_store_testkit::{Proc, Receiver, collector::spans, ports::free_port};

use crate::{
    book,
    support::{Service, text, until},
};

const PATIENCE: Duration = Duration::from_mins(1);

/// The Python that runs examples; says so where there is none.
pub fn python() -> Option<String> {
    let named = env::var("UTXOIQ_EXAMPLES_PYTHON").ok();
    if named.is_none() {
        println!("SKIPPED: UTXOIQ_EXAMPLES_PYTHON does not name a Python; ./dev test makes one");
    }
    named
}

fn folder(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(example)
}

/// A store behind a gate that loses an answer now and then: the example meets it there.
struct Gate {
    store: String,
    /// How many ratings were sent, and how many batches of samples.
    ratings: AtomicUsize,
    batches: AtomicUsize,
    keys: std::sync::Mutex<Vec<HeaderValue>>,
}

async fn gate(service: &Service) -> (String, Arc<Gate>) {
    let gate = Arc::new(Gate {
        store: service.url(""),
        ratings: AtomicUsize::new(0),
        batches: AtomicUsize::new(0),
        keys: std::sync::Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(pass).with_state(Arc::clone(&gate));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, gate)
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.to_string();
    if path.ends_with("/feedback/rate") && gate.ratings.fetch_add(1, SeqCst) == 0 {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response();
    }
    let mut headers = parts.headers;
    headers.remove("host");
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let sent = reqwest::Client::new()
        .request(parts.method, format!("{}{path}", gate.store))
        .headers(headers.clone())
        .body(body);
    let answer = sent.send().await.unwrap();
    if path.ends_with("/metrics/batch") {
        gate.keys
            .lock()
            .unwrap()
            .push(headers["idempotency-key"].clone());
        // It was stored, and nobody hears of it.
        if gate.batches.fetch_add(1, SeqCst) == 0 {
            return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response();
        }
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = Body::from(answer.bytes().await.unwrap());
    response
}

/// The FastAPI example on a port.
struct Insights {
    process: Proc,
    url: String,
}

impl Insights {
    async fn start(python: &str, service: &Service, store: &str) -> Self {
        let port = free_port().to_string();
        let place = folder("fastapi");
        let arguments = [
            "-m",
            "uvicorn",
            "insights.main:app",
            "--app-dir",
            text(&place),
            "--port",
            &port,
        ];
        let environment = [
            ("INSIGHTS_STORE_URL", store),
            ("INSIGHTS_STORE_TOKEN", service.token()),
            ("INSIGHTS_REPORT_SECONDS", "0.2"),
        ];
        let process = Proc::spawn(python, arguments, environment);
        let url = format!("http://127.0.0.1:{port}");
        until("the example listens", async || {
            assert!(process.status().is_none(), "{}", process.output());
            reqwest::get(format!("{url}/openapi.json")).await.is_ok()
        })
        .await;
        Self { process, url }
    }

    async fn post(&self, path: &str, user: Option<&str>, body: Value) -> (u16, Value) {
        let mut sent = reqwest::Client::new()
            .post(format!("{}{path}", self.url))
            .json(&body);
        if let Some(user) = user {
            sent = sent.header("x-demo-user", user);
        }
        let answer = sent.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn job(&self, id: &str) -> Value {
        let answer = reqwest::get(format!("{}/backfills/{id}", self.url))
            .await
            .unwrap();
        answer.json().await.unwrap()
    }

    async fn until_job(&self, id: &str, status: &str) {
        until(status, async || self.job(id).await["status"] == status).await;
    }

    /// Stops it as its supervisor would.
    async fn stop(self) {
        self.process.terminate();
        assert!(
            self.process.wait(PATIENCE).await.is_some(),
            "{}",
            self.process.output()
        );
    }
}

/// The hour about now, as a query.
fn lately() -> String {
    let now = SystemClock.now();
    let at = |minutes| (now + TimeDelta::minutes(minutes)).format("%FT%TZ");
    format!("start_time={}&end_time={}", at(-60), at(5))
}

async fn asked(service: &Service, path: &str) -> Value {
    let answer = service
        .get(path)
        .bearer_auth(service.token())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.json().await.unwrap()
}

#[tokio::test]
async fn the_fastapi_example_forwards_feedback_and_its_figures_arrive_once() {
    let Some(python) = python() else { return };
    let service = Service::start(&[]).await;
    let (store, gate) = gate(&service).await;
    let insights = Insights::start(&python, &service, &store).await;

    let (status, answer) = insights
        .post(
            "/insights/i-1/rating",
            Some("ann"),
            json!({ "rating": 5, "comment": "useful" }),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["yours"]["user_id"], &answer["all"]["total_ratings"]),
        (&json!("ann"), &json!(1))
    );
    assert_eq!(
        gate.ratings.load(SeqCst),
        2,
        "once refused with 429, sent again after a second"
    );
    let (status, _) = insights
        .post("/insights/i-1/rating", Some("bob"), json!({ "rating": 2 }))
        .await;
    assert_eq!(status, 200);
    let (status, answer) = insights
        .post(
            "/insights/i-1/flag",
            Some("bob"),
            json!({ "type": "spam", "reason": "twice" }),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    // What a user does wrong, and what is wrong with us.
    assert_eq!(
        insights
            .post("/insights/i-1/rating", None, json!({ "rating": 2 }))
            .await
            .0,
        401
    );
    assert_eq!(
        insights
            .post("/insights/i-1/rating", Some("ann"), json!({ "rating": 6 }))
            .await
            .0,
        422
    );
    let (status, answer) = insights
        .post(
            "/insights/i-1/flag",
            Some("ann"),
            json!({ "type": "boring" }),
        )
        .await;
    assert_eq!((status, &answer["code"]), (422, &json!("invalid_input")));

    let stats = asked(&service, "/api/v1/feedback/stats?insight_id=i-1").await;
    assert_eq!(
        (
            &stats["total_ratings"],
            &stats["average_rating"],
            &stats["total_flags"]
        ),
        (&json!(2), &json!(3.5), &json!(1))
    );
    let comments = asked(&service, "/api/v1/feedback/comments?insight_id=i-1").await;
    assert_eq!(
        (
            &comments["comments"][0]["user_id"],
            &comments["comments"][0]["comment"]
        ),
        (&json!("ann"), &json!("useful"))
    );
    let shown: Value = reqwest::get(format!("{}/insights/i-1/statistics", insights.url))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(shown["total_flags"], 1);

    insights.stop().await;
    its_figures_arrived(&service).await;
    let keys = gate.keys.lock().unwrap().clone();
    assert!(
        keys.len() >= 2 && keys[0] == keys[1],
        "the batch whose answer was lost came again under its key: {keys:?}"
    );
}

/// Each request was measured once, though an answer to a batch was lost.
async fn its_figures_arrived(service: &Service) {
    let path = format!(
        "/api/v1/monitoring/metrics?service_name=insights&metric_type=request_duration&{}",
        lately()
    );
    let samples = asked(service, &path).await;
    let samples = samples.as_array().unwrap();
    let of = |route: &str, status: &str| {
        let is_it = |sample: &&Value| {
            sample["labels"]["route"] == route && sample["labels"]["status"] == status
        };
        samples.iter().filter(is_it).count()
    };
    assert_eq!(of("/insights/{insight}/rating", "200"), 2, "{samples:#?}");
    assert_eq!(of("/insights/{insight}/rating", "401"), 1);
    assert_eq!(of("/insights/{insight}/rating", "422"), 1);
    assert_eq!(of("/insights/{insight}/flag", "422"), 1);
}

#[tokio::test]
async fn the_fastapi_examples_backfill_goes_on_after_a_failure_and_after_a_kill() {
    let Some(python) = python() else { return };
    let service = Service::start(&[]).await;
    let insights = Insights::start(&python, &service, &service.url("")).await;
    // What the README tells to send, on this port: a rating, statistics, a backfill.
    let blocks = book::blocks("examples/fastapi/README.md");
    let calls = blocks.iter().find(|block| block.text.starts_with("curl"));
    let calls = calls.unwrap().text.replace("http://", "");
    let calls = calls.replace("localhost:8100", &insights.url);
    let output = tokio::process::Command::new("bash")
        .args(["-e", "-c", &calls])
        .output();
    let output = output.await.unwrap();
    let answers: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(answers.len(), 3, "{output:?}");
    assert_eq!(answers[0]["yours"]["comment"], "useful", "{answers:?}");
    assert_eq!(answers[1]["total_ratings"], 1, "{answers:?}");
    let id = answers[2]["id"].as_str().unwrap();
    insights.until_job(id, "failed").await;
    let failed = insights.job(id).await;
    assert_eq!(failed["current_block"], 600, "{failed}");
    assert_eq!(
        failed["error_message"],
        "RuntimeError: block 666 could not be read"
    );
    let (_, again) = insights
        .post("/backfills", None, json!({ "start": 0, "end": 1_999 }))
        .await;
    assert_eq!(again["id"], id, "the same job goes on");
    insights.until_job(id, "completed").await;
    let state = asked(&service, &format!("/api/v1/monitoring/backfill/{id}/state")).await;
    assert_eq!(
        (&state["attempt"], &state["progress_percentage"]),
        (&json!(2), &json!(100.0)),
        "{state}"
    );

    // Killed in the middle: the next process goes on with what was not reported.
    let range = json!({ "start": 10_000, "end": 19_999 });
    let (_, job) = insights.post("/backfills", None, range.clone()).await;
    let id = job["id"].as_str().unwrap();
    until("some blocks are done", async || {
        insights.job(id).await["current_block"].as_i64() > Some(10_500)
    })
    .await;
    insights.process.kill9();
    let before =
        asked(&service, &format!("/api/v1/monitoring/backfill/{id}")).await["current_block"]
            .as_i64();
    let insights = Insights::start(&python, &service, &service.url("")).await;
    let (_, again) = insights.post("/backfills", None, range).await;
    assert_eq!(again["id"], id);
    assert!(again["current_block"].as_i64() >= before && before > Some(10_500));
    insights.until_job(id, "completed").await;
    let details = asked(
        &service,
        &format!("/api/v1/monitoring/backfill/{id}/details"),
    )
    .await;
    assert_eq!(
        details["covered"],
        json!([{ "start_block": 10_000, "end_block": 19_999 }])
    );
    assert_eq!(
        asked(&service, &format!("/api/v1/monitoring/backfill/{id}")).await["progress_percentage"],
        100.0
    );
}

#[tokio::test]
async fn the_opentelemetry_examples_metrics_are_in_the_store_and_its_traces_go_through_it() {
    let Some(python) = python() else { return };
    let collector = Receiver::start().await;
    let place = collector.url("");
    let service = Service::start_in(
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &place),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ],
        &[],
    )
    .await;
    let script = folder("opentelemetry").join("service.py");
    let metrics = service.url("/v1/metrics");
    let authorization = format!("authorization=Bearer%20{}", service.token());
    let store = service.url("");
    let traces = collector.url("/v1/traces");
    let environment = [
        ("OTEL_SERVICE_NAME", "worker"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", metrics.as_str()),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", &authorization),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &traces),
        ("STORE_URL", &store),
        ("STORE_TOKEN", service.token()),
    ];
    let process = Proc::spawn(&python, [text(&script), "20"], environment);
    let ended = process.wait(PATIENCE).await.unwrap();
    assert!(ended.success(), "{}", process.output());

    let newest = async |metric: &str| {
        let path = format!(
            "/api/v1/monitoring/metrics?service_name=worker&metric_type={metric}&limit=1&{}",
            lately()
        );
        asked(&service, &path).await[0]["metric_value"].as_f64()
    };
    assert_eq!(newest("blocks_processed").await, Some(20.0));
    assert_eq!(newest("chain_height").await, Some(800_019.0));
    assert_eq!(newest("block_duration_count").await, Some(20.0));

    let spans_of = |name: &str| {
        spans(&collector)
            .into_iter()
            .filter(|span| span.name == name)
            .collect::<Vec<_>>()
    };
    let name = "GET /api/v1/feedback/stats";
    until("all spans have come", async || {
        spans_of("process block").len() == 20 && spans_of(name).len() == 20
    })
    .await;
    for ours in spans_of(name) {
        let theirs = spans_of("process block")
            .into_iter()
            .find(|span| span.span_id == ours.parent_id);
        let theirs = theirs.expect("each request is a part of a block's span");
        assert_eq!(theirs.trace_id, ours.trace_id);
        assert_eq!(
            (
                theirs.resource("service.name"),
                ours.resource("service.name")
            ),
            (Some("worker"), Some("utxoiq-store"))
        );
    }
}

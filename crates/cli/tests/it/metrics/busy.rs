//! Imports into a service that is busy, strict or away: a straw one, which says what it is told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde_json::json;
use tokio::net::TcpListener;
use utxoiq_store_testkit::process::Proc;

use crate::support::BINARY;

/// How the straw service behaves.
#[derive(Clone)]
struct Manner {
    requests: Arc<AtomicU64>,
    lines: Arc<AtomicU64>,
    /// Of so many requests each but the last is sent away.
    busy_of: u64,
    largest: usize,
}

impl Manner {
    fn new(busy_of: u64, largest: usize) -> Self {
        Self {
            requests: Arc::default(),
            lines: Arc::default(),
            busy_of,
            largest,
        }
    }

    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/api/v1/monitoring/metrics/import", post(import))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }
}

async fn import(State(manner): State<Manner>, body: Bytes) -> Response {
    let number = manner.requests.fetch_add(1, SeqCst) + 1;
    if !number.is_multiple_of(manner.busy_of) {
        let problem = json!({"code": "queue_full", "detail": "too many samples are waiting"});
        let status = if number.is_multiple_of(2) {
            StatusCode::TOO_MANY_REQUESTS
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        return (status, [("retry-after", "0")], Json(problem)).into_response();
    }
    if body.len() > manner.largest {
        let problem = json!({"code": "too_large", "detail": "the body is too large"});
        return (StatusCode::PAYLOAD_TOO_LARGE, Json(problem)).into_response();
    }
    let lines = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .count() as u64;
    manner.lines.fetch_add(lines, SeqCst);
    let first_line =
        json!([{"reason": "unreadable", "count": 1, "first_line": 1, "message": "no"}]);
    let rejected = if body.starts_with(b"first") {
        first_line
    } else {
        json!([])
    };
    Json(json!({
        "lines": lines, "stored": lines, "duplicates": 0, "conflicts": 0, "first_conflict": null, "rejected_lines": 0,
        "rejected": rejected,
    }))
    .into_response()
}

fn spawn(url: &str, file: &std::path::Path, more: &[&str]) -> Proc {
    let args = ["metrics", "import", "--format", "ndjson", "--url", url];
    let args = args.iter().chain(more).map(|arg| (*arg).to_owned());
    let args = args.chain([file.to_str().unwrap().to_owned()]);
    Proc::spawn(BINARY, args, [("UTXOIQ_STORE_TOKEN", "uqs_x")])
}

async fn run(url: &str, file: &std::path::Path, more: &[&str]) -> (i32, String) {
    let process = spawn(url, file, more);
    let status = process.wait(Duration::from_mins(1)).await;
    let status = status.unwrap_or_else(|| panic!("{}", process.output()));
    (status.code().unwrap_or(-1), process.output())
}

/// The document that it prints, without what it says beside it.
async fn answer(url: &str, file: &std::path::Path) -> (i32, serde_json::Value) {
    let run = tokio::process::Command::new(BINARY)
        .args([
            "metrics", "import", "--format", "ndjson", "--json", "--url", url,
        ])
        .arg(file)
        .env("UTXOIQ_STORE_TOKEN", "uqs_x")
        .kill_on_drop(true)
        .output();
    let limit = Duration::from_mins(1);
    let output = tokio::time::timeout(limit, run).await.unwrap().unwrap();
    let told = serde_json::from_slice(&output.stdout);
    let told = told.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().unwrap_or(-1), told)
}

#[tokio::test]
async fn an_import_waits_for_a_busy_service_and_halves_what_is_too_large() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("lines");
    let lines: Vec<String> = (1..=3_000).map(|n| format!("line {n}")).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let manner = Manner::new(4, 2_000);
    let url = manner.serve().await;
    let (code, output) = run(&url, &file, &["--piece", "16"]).await;
    assert!(
        code == 0 && output.contains("stored      3,000"),
        "{code} {output}"
    );
    assert_eq!(manner.lines.load(SeqCst), 3_000);

    // A row that is too large alone is told, and the rest is sent; first lines are those of the file.
    let long = format!("a\nb\n{}\nfirst of a half\nlast", "x".repeat(3_000));
    std::fs::write(&file, long).unwrap();
    let manner = Manner::new(1, 20);
    let url = manner.serve().await;
    let (code, told) = answer(&url, &file).await;
    assert_eq!((code, manner.lines.load(SeqCst)), (1, 4), "{told}");
    let firsts: Vec<_> = told["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["reason"].as_str().unwrap(),
                one["first"]["line"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(firsts, [("too_long", 3), ("unreadable", 4)]);
}

#[tokio::test]
async fn an_import_gives_up_after_a_while_and_can_be_interrupted() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("lines");
    std::fs::write(&file, "1\n2\n").unwrap();
    let url = Manner::new(u64::MAX, 0).serve().await;
    let began = Instant::now();
    let (code, output) = run(&url, &file, &["--patience", "1"]).await;
    assert!(
        code == 1
            && output.contains("took nothing for 1 seconds")
            && output.contains("too many samples are waiting"),
        "{code} {output}"
    );
    assert!(began.elapsed() > Duration::from_secs(1));
    let process = spawn(&url, &file, &[]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    process.interrupt();
    let status = process.wait(Duration::from_secs(5)).await.unwrap();
    let output = process.output();
    assert!(
        status.code() == Some(130) && output.contains("run it again"),
        "{output}"
    );
}

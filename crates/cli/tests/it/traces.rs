//! Traces of a real service, in front of a stand-in for a collector.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use utxoiq_store_testkit::{
    Receiver, RedisServer,
    collector::{CollectedSpan, spans},
};

use crate::support::{Service, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A service that exports to this collector, quickly.
async fn traced(endpoint: &str, more: &[(&str, &str)]) -> Service {
    let standard = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "api-key=secret-of-the-collector",
        ),
        ("OTEL_SERVICE_NAME", "store-under-test"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
    ];
    let all: Vec<_> = standard.into_iter().chain(more.iter().copied()).collect();
    Service::start_in(&all, &[("LOG__FORMAT", "json")]).await
}

async fn rate(service: &Service, user: &str, comment: &str) -> reqwest::StatusCode {
    let sent = reqwest::Client::new()
        .post(service.url("/api/v1/feedback/rate"))
        .bearer_auth(service.token())
        .header("x-user-id", user)
        .header("x-request-id", "traced-1")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .json(&json!({ "insight_id": "insight-of-a-secret", "rating": 4, "comment": comment }))
        .send();
    sent.await.unwrap().status()
}

fn named<'a>(all: &'a [CollectedSpan], name: &str) -> Option<&'a CollectedSpan> {
    all.iter().find(|span| span.name == name)
}

#[tokio::test]
async fn a_request_is_a_part_of_its_callers_trace_and_its_statements_are_parts_of_it() {
    let collector = Receiver::start().await;
    let redis = RedisServer::start().await;
    let url = redis.url();
    let service = traced(&collector.url(""), &[("REDIS_URL", &url)]).await;
    let (user, comment) = ("user-nobody-may-see", "a comment nobody may see");
    assert!(rate(&service, user, comment).await.is_success());
    // Before that nobody looks there.
    service
        .server()
        .wait_for_line(
            |line| line.contains("Redis answers"),
            Duration::from_mins(1),
        )
        .await
        .unwrap();
    // An insight that no cache has: a look into Redis, and the database.
    let stats = service
        .get("/api/v1/feedback/stats?insight_id=insight-of-a-secret")
        .bearer_auth(service.token());
    assert!(stats.send().await.unwrap().status().is_success());

    let all = || spans(&collector);
    until("the spans of both requests have come", async || {
        let all = all();
        [
            "POST /api/v1/feedback/rate",
            "feedback.batch",
            "feedback.write",
            "GET /api/v1/feedback/stats",
            "look",
            "cache.load",
            "pool.acquire",
        ]
        .iter()
        .all(|name| named(&all, name).is_some())
    })
    .await;
    let all = all();
    let request = named(&all, "POST /api/v1/feedback/rate").unwrap();
    assert_eq!(request.trace_id, TRACE);
    assert_eq!(request.parent_id, CALLER);
    assert!(request.is_server && !request.is_error);
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/api/v1/feedback/rate"),
        ("http.response.status_code", "200"),
        ("utxoiq.request_id", "traced-1"),
    ] {
        assert_eq!(request.attribute(name), Some(value), "{name}");
    }
    assert_eq!(request.resource("service.name"), Some("store-under-test"));
    assert_eq!(
        request.resource("deployment.environment.name"),
        Some("test")
    );
    assert!(request.resource("service.version").is_some());

    // The shared transaction is a trace of its own, linked with the request that it is for.
    let batch = named(&all, "feedback.batch").unwrap();
    assert_eq!(batch.links, std::slice::from_ref(&request.span_id));
    assert_eq!(batch.parent_id, "");
    let write = named(&all, "feedback.write").unwrap();
    assert_eq!(write.parent_id, batch.span_id);
    assert_eq!(write.attribute("db.system.name"), Some("postgresql"));
    let reading = named(&all, "GET /api/v1/feedback/stats").unwrap();
    assert_ne!(reading.trace_id, TRACE);
    let look = named(&all, "look").unwrap();
    assert_eq!(look.parent_id, reading.span_id);
    assert_eq!(look.attribute("db.system.name"), Some("redis"));
    let load = named(&all, "cache.load").unwrap();
    assert_eq!(load.links, std::slice::from_ref(&reading.span_id));
    assert!(all.iter().any(|span| span.name == "pool.acquire"));
    assert!(request.nanos > 0);
    // What is asked all the time is no trace: the readiness check of the start, pings, polls.
    assert!(
        all.iter()
            .all(|span| !span.name.contains("/readyz") && span.name != "PING")
    );

    nothing_secret(
        &collector,
        &[user, comment, service.token(), "insight-of-a-secret"],
    );
    assert!(collector.taken().iter().all(|sent| {
        sent.target == "/v1/traces" && sent.headers["api-key"] == "secret-of-the-collector"
    }));
    assert!(
        !service
            .server()
            .output()
            .contains("secret-of-the-collector")
    );
}

fn nothing_secret(collector: &Receiver, secrets: &[&str]) {
    for sent in collector.requests() {
        for secret in secrets {
            let is_in = sent
                .body
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!is_in, "{secret} was exported: {}", sent.text());
        }
    }
}

#[tokio::test]
async fn a_fault_is_marked_the_log_names_the_trace_and_a_sampled_out_request_is_not_exported() {
    let collector = Receiver::start().await;
    let service = traced(&collector.url(""), &[]).await;
    // The database goes: what needs it fails, and the trace says where.
    service.cluster.stop().await;
    let status = rate(&service, "u-1", "lost").await;
    assert!(status.is_server_error(), "{status}");
    until("the failed request has come", async || {
        named(&spans(&collector), "POST /api/v1/feedback/rate").is_some()
    })
    .await;
    let all = spans(&collector);
    let request = named(&all, "POST /api/v1/feedback/rate").unwrap();
    assert!(request.is_error);
    assert_eq!(request.attribute("error.type"), Some(status.as_str()));
    let acquire = all
        .iter()
        .find(|span| span.name == "pool.acquire" && span.parent_id == request.span_id);
    assert!(acquire.is_some_and(|span| span.is_error), "{all:#?}");
    // A line about the request carries the ids that the collector has.
    let output = service.server().output();
    let lines = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let about: Vec<_> = lines
        .filter(|line| line["request_id"] == "traced-1")
        .collect();
    assert!(!about.is_empty(), "{output}");
    assert!(
        about
            .iter()
            .all(|line| line["trace_id"] == TRACE && line["span_id"] != ""),
        "{about:?}"
    );

    let before = spans(&collector).len();
    let unsampled = service
        .get("/api/v1/whoami")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-00"));
    unsampled.send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        spans(&collector).len(),
        before,
        "the caller did not sample it"
    );
}

#[tokio::test]
async fn a_collector_that_is_away_or_hangs_costs_no_request_anything_and_what_is_lost_is_counted() {
    let mut collector = Receiver::start().await;
    let small = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "20"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        // Whoever waited for it would be seen.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
    ];
    let mut service = traced(&collector.url(""), &small).await;
    let burst = async |service: &Service| {
        let began = Instant::now();
        for number in 0..100 {
            assert!(
                rate(service, &format!("u-{number}"), "fine")
                    .await
                    .is_success()
            );
        }
        began.elapsed()
    };
    let there = burst(&service).await;
    collector.down().await;
    let away = burst(&service).await;
    collector.up().await;
    collector.hang(true);
    let hanging = burst(&service).await;
    println!(
        "100 requests: {there:?} with the collector there, {away:?} with it away, {hanging:?} with one that hangs"
    );
    // They make some 500 spans: with a wait for every ten of them this would be 50 s more.
    let patience = there * 3 + Duration::from_secs(10);
    assert!(away < patience && hanging < patience);
    let figures = service.get("/metrics").bearer_auth(service.token());
    let figures = figures.send().await.unwrap().text().await.unwrap();
    let count = |line: &str| {
        let found = figures.lines().find_map(|text| text.strip_prefix(line));
        found
            .unwrap_or_else(|| panic!("{line} in {figures}"))
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    assert!(count("utxoiq_store_spans_exported_total") > 0);
    assert!(count("utxoiq_store_spans_dropped_total{reason=\"queue_full\"}") > 0);
    assert!(count("utxoiq_store_spans_dropped_total{reason=\"not_taken\"}") > 0);
    let told = |output: &str| output.matches("spans of traces were dropped").count();
    assert_eq!(told(&service.server().output()), 1, "once a minute");

    // The collector is back: what is queued when the process is told to stop still arrives.
    collector.hang(false);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let before = spans(&collector).len();
    assert!(rate(&service, "u-last", "the last").await.is_success());
    let began = Instant::now();
    service.stop_server().await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert!(named(&spans(&collector)[before..], "POST /api/v1/feedback/rate").is_some());
}

#[tokio::test]
async fn a_scheduled_task_and_a_command_are_traces() {
    let collector = Receiver::start().await;
    let service = traced(&collector.url(""), &[]).await;
    service
        .ok(&["schedule", "run", "prune_schedule_history"])
        .await;
    until("the spans have come", async || {
        let all = spans(&collector);
        named(&all, "task prune_schedule_history").is_some()
            && named(&all, "utxoiq-store schedule").is_some()
    })
    .await;
    let all = spans(&collector);
    let task = named(&all, "task prune_schedule_history").unwrap();
    let parts: Vec<_> = all
        .iter()
        .filter(|span| span.parent_id == task.span_id)
        .collect();
    assert!(!parts.is_empty(), "{all:#?}");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_and_the_service_runs() {
    let service = traced(
        "http://127.0.0.1:9",
        &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
    )
    .await;
    let output = service.server().output();
    assert!(output.contains("set it to http/protobuf"), "{output}");
    let service = traced("http://127.0.0.1:9", &[("OTEL_TRACES_EXPORTER", "none")]).await;
    assert!(rate(&service, "u-1", "fine").await.is_success());
    assert!(!service.server().output().contains("trace_id"));
}

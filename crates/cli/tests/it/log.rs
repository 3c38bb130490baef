//! The log of a service.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Service;

const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for readiness under an id, and gives the log's line about it.
async fn line_about(service: &Service, id: &str) -> String {
    let asked = service.get("/healthz").header("x-request-id", id);
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], id);
    let server = service.server();
    let is_it = |line: &str| line.contains(id);
    server.wait_for_line(is_it, PATIENCE).await.unwrap()
}

const LEVEL: (&str, &str) = ("LOG__LEVEL", "info,utxoiq_store_server::access=debug");

#[tokio::test]
async fn a_line_about_a_request_carries_its_id_in_text_and_in_json() {
    let service = Service::start(&[LEVEL]).await;
    let line = line_about(&service, "joined-1").await;
    assert!(
        line.contains("answered") && line.contains("path=\"/healthz\""),
        "{line}"
    );
    assert!(line.ends_with(" request_id=joined-1"), "{line}");

    let service = Service::start(&[LEVEL, ("LOG__FORMAT", "json")]).await;
    let line = line_about(&service, "joined-2").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["request_id"], &line["fields"]["path"]),
        (&json!("joined-2"), &json!("/healthz"))
    );
    assert_eq!(
        (&line["level"], &line["fields"]["message"]),
        (&json!("DEBUG"), &json!("answered"))
    );
}

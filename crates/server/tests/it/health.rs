//! Liveness and readiness.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use utxoiq_store_server::{AppState, router};

use crate::{
    database::{TestDb, connect, with_database},
    support::{Answer, call, settings, state},
};

/// Asks until the answer says this, at most for some seconds: `ok`, or a problem's code.
async fn ready_with(state: &AppState, wanted: &str) -> Answer {
    let service = router(state);
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let answer = call(&service, "GET", "/readyz", None).await;
        assert!(
            asked.elapsed() < Duration::from_millis(1_500),
            "{:?}",
            asked.elapsed()
        );
        let said = if answer.status == 200 {
            "ok".to_owned()
        } else {
            answer.problem(503)
        };
        if said == wanted {
            return answer;
        }
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "{wanted} expected: {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_service_with_its_database_is_ready() {
    let db = TestDb::new().await;
    let state = state(db.settings());
    let answer = ready_with(&state, "ok").await;
    let body = answer.json();
    assert_eq!(
        (&body["status"], &body["database"]),
        (&"ok".into(), &"ok".into())
    );
    assert_eq!(
        (&body["schema"], &body["cache"]),
        (&"ready".into(), &"off".into())
    );
    assert!(body["schema_version"].as_i64().unwrap() >= 3, "{body}");
    state.readiness.drain();
    let answer = call(&router(&state), "GET", "/readyz", None).await;
    assert_eq!(answer.problem(503), "draining");
}

#[tokio::test]
async fn without_a_database_the_service_lives_and_is_not_ready() {
    let state = state(settings(&[]));
    let service = router(&state);
    let answer = call(&service, "GET", "/healthz", None).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text.as_str()),
        (200, r#"{"status":"ok"}"#)
    );
    let answer = call(&service, "GET", "/readyz", None).await;
    assert_eq!(answer.problem(503), "database_unavailable");
    assert_eq!(answer.json()["schema"], "unknown");
    let answer = call(&service, "GET", "/metrics", Some("uqs_x")).await;
    assert_eq!(answer.problem(503), "starting");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_database_that_accepts_and_never_answers_delays_no_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgresql://nobody@{}/none", silent.local_addr().unwrap());
    let state = state(settings(&[("DATABASE_URL", &url)]));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let answer = ready_with(&state, "database_unavailable").await;
    assert_eq!(answer.json()["database"], "unreachable");
}

#[tokio::test]
async fn a_database_that_goes_and_comes_is_noticed() {
    let db = TestDb::new().await;
    let state = state(db.settings());
    ready_with(&state, "ok").await;
    let elsewhere = with_database(&db.admin_url(), "postgres");
    let admin = connect(&elsewhere).await;
    let refuse = format!("alter database {} allow_connections false", db.name());
    admin.batch_execute(&refuse).await.unwrap();
    let end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1";
    admin.query(end, &[&db.name()]).await.unwrap();
    let answer = ready_with(&state, "database_unavailable").await;
    assert_eq!(answer.json()["schema"], "ready", "the schema is remembered");
    assert!(
        state.readiness.admit().is_ok(),
        "each call finds out for itself"
    );
    let accept = format!("alter database {} allow_connections true", db.name());
    admin.batch_execute(&accept).await.unwrap();
    ready_with(&state, "ok").await;
}

#[tokio::test]
async fn on_a_schema_that_is_too_old_calls_are_refused_until_it_is_migrated() {
    let db = TestDb::empty().await;
    let state = state(db.settings());
    let answer = ready_with(&state, "schema_mismatch").await;
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("utxoiq-store migrate up")
    );
    let answer = call(&router(&state), "GET", "/metrics", Some("uqs_x")).await;
    assert_eq!(answer.problem(503), "schema_mismatch");
    utxoiq_store::db::migrate::Migrator::embedded()
        .unwrap()
        .up(&db.admin_url(), &utxoiq_store::clock::SystemClock)
        .await
        .unwrap();
    ready_with(&state, "ok").await;
    let answer = call(&router(&state), "GET", "/metrics", Some("uqs_x")).await;
    assert_eq!(answer.problem(401), "unauthorized");
}

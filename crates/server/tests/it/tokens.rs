//! Who may call what.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::Value;
use utxoiq_store::{
    clock::{Clock as _, SystemClock},
    config::Loader,
    db::Pool,
    token::{NewToken, Scope, Tokens},
};
use utxoiq_store_server::{
    AppState,
    auth::UserId,
    router, router_of,
    routes::{Call, Routes},
};

use crate::{
    database::TestDb,
    support::{Answer, call, send, state},
};

/// A token of these scopes, named after them.
async fn token(db: &TestDb, scopes: &[Scope]) -> String {
    let name: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    token_named(db, &name.join("+"), scopes).await
}

/// A token of these scopes.
pub async fn token_named(db: &TestDb, name: &str, scopes: &[Scope]) -> String {
    let vars = [("DATABASE_URL".to_owned(), db.admin_url())];
    let config = Loader::default().env(vars).unwrap().finish().unwrap();
    let pool = Pool::open(&config.database).unwrap();
    let new = NewToken {
        subject: Some(format!("owner of {name}")),
        name: name.to_owned(),
        scopes: scopes.iter().copied().collect(),
        rate_tier: None,
        expires_at: None,
        created_by: "test".into(),
    };
    let (_, secret) = Tokens::new(&pool)
        .create(new, SystemClock.now())
        .await
        .unwrap();
    secret.expose().to_owned()
}

async fn served(db: &TestDb) -> AppState {
    let state = state(db.settings());
    while state.readiness.admit().is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    state
}

#[tokio::test]
async fn a_user_is_named_only_with_act_as() {
    let db = TestDb::new().await;
    let whoami = Routes::new("test", "For tests").add(
        Call::get("/test/whoami", Scope::FeedbackWrite, "the user").for_user(),
        async |UserId(user): UserId| user,
    );
    let service = router_of(&served(&db).await, vec![whoami]);
    let own = token(&db, &[Scope::FeedbackWrite]).await;
    let proxy = token(&db, &[Scope::FeedbackWrite, Scope::ActAs]).await;
    let ask = async |token: &str, user: Option<&[u8]>| -> Answer {
        let mut request =
            Request::get("/test/whoami").header(header::AUTHORIZATION, format!("Bearer {token}"));
        if let Some(user) = user {
            request = request.header("X-User-Id", user);
        }
        send(&service, request.body(Body::empty()).unwrap()).await
    };
    assert_eq!(ask(&own, None).await.text, "owner of feedback:write");
    let refused = ask(&own, Some(b"u-1")).await;
    assert_eq!(refused.problem(403), "missing_scope");
    assert_eq!(refused.json()["scope"], "act_as");
    assert_eq!(ask(&proxy, Some(b"u-1")).await.text, "u-1");
    assert_eq!(
        ask(&proxy, None).await.text,
        "owner of feedback:write+act_as"
    );
    let too_long = "x".repeat(101);
    for bad in [b"".as_slice(), b" ", b"a\tb", b"\xff", too_long.as_bytes()] {
        let answer = ask(&proxy, Some(bad)).await;
        answer.problem(422);
        assert_eq!(answer.fields(), ["X-User-Id"]);
    }
}

#[tokio::test]
async fn the_pools_figures_are_told_in_the_platforms_shape_and_for_prometheus() {
    let db = TestDb::new().await;
    let service = router(&served(&db).await);
    let token = token(&db, &[Scope::PoolRead]).await;
    let answer = call(
        &service,
        "GET",
        "/api/v1/monitoring/database/pool",
        Some(&token),
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.assert_common_headers();
    let body = answer.json();
    assert_eq!(body["status"], "success");
    let figures = &body["metrics"];
    let number = |name: &str| {
        figures[name]
            .as_i64()
            .unwrap_or_else(|| panic!("{name}: {figures}"))
    };
    assert_eq!((number("size"), number("max"), number("min")), (20, 20, 5));
    assert_eq!(number("checked_in"), number("idle"));
    assert_eq!(number("checked_out"), number("active"));
    assert_eq!(
        number("total_connections"),
        number("idle") + number("active")
    );
    assert_eq!(number("overflow"), number("total_connections") - 20);
    assert_eq!(number("waiting"), 0);
    assert!(figures["timestamp"].as_str().unwrap().ends_with('Z'));
    assert!(figures["wait"]["count"].as_u64().unwrap() > 0);

    let answer = call(&service, "GET", "/metrics", Some(&token)).await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    for line in [
        "utxoiq_store_pool_connections_max 20",
        "utxoiq_store_pool_connections{state=\"idle\"}",
        "utxoiq_store_pool_connect_failures_total{cause=\"refused\"} 0",
        "utxoiq_store_pool_wait_seconds_bucket{le=\"0.00001\"}",
        "utxoiq_store_pool_wait_seconds_bucket{le=\"+Inf\"}",
        "utxoiq_store_intake_waiting 0",
        "utxoiq_store_intake_stored_total 0",
        "utxoiq_store_intake_rejected_total{reason=\"too_old\"} 0",
        "utxoiq_store_intake_refused_total 0",
        "utxoiq_store_http_requests_in_flight 1",
        "utxoiq_store_http_requests_total{method=\"GET\",route=\"/api/v1/monitoring/database/pool\",status=\"2xx\"} 1",
        "utxoiq_store_http_request_duration_seconds_count{method=\"GET\",route=\"/api/v1/monitoring/database/pool\"} 1",
        "utxoiq_store_build_info{version=",
        "# EOF",
    ] {
        assert!(
            answer.text.contains(line),
            "{line} is not in\n{}",
            answer.text
        );
    }
    let count = |name: &str| -> f64 {
        let line = answer
            .text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let total = count("utxoiq_store_pool_wait_seconds_count");
    assert!(
        (count("utxoiq_store_pool_wait_seconds_bucket{le=\"+Inf\"}") - total).abs() < 0.5,
        "buckets are cumulative"
    );
}

#[tokio::test]
async fn the_schedule_is_run_and_shown_from_outside() {
    let db = TestDb::new().await;
    let service = router(&served(&db).await);
    let token = token(&db, &[Scope::ScheduleRun]).await;
    let answer = call(
        &service,
        "POST",
        "/api/v1/monitoring/schedule/tick",
        Some(&token),
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["status"], "success");
    let answer = call(&service, "GET", "/api/v1/monitoring/schedule", Some(&token)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(matches!(answer.json()["tasks"], Value::Array(_)));
}

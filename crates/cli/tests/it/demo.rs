//! `demo`: what it writes holds before every check that the product has, and it never mixes with real data.

use serde_json::Value;

use crate::support::Service;

/// A history in which samples become cold, small enough for every run.
const SMALL: [&str; 6] = ["demo", "--days", "97", "--sample-minutes", "60", "--json"];

#[tokio::test(flavor = "multi_thread")]
async fn a_demonstration_passes_every_check_of_the_product_and_is_not_laid_twice() {
    let service = Service::start(&[]).await;
    let written = service.json(&SMALL).await;
    for (what, least) in [
        ("backfill_jobs", 20),
        ("feedback", 5_000),
        ("insights", 30),
        ("series", 30),
        ("samples", 50_000),
        ("archives", 5),
        ("retention_runs", 20),
        ("scheduled_runs", 500),
        ("alerts", 4),
    ] {
        assert!(
            written[what].as_u64().unwrap() >= least,
            "{what}: {written}"
        );
    }
    let plan = service.json(&["retention", "plan", "--json"]).await;
    assert_eq!(plan["steps"], Value::Array(Vec::new()));
    service.ok(&["audit", "verify"]).await;
    service.ok(&["archive", "verify"]).await;
    service
        .ok(&["schedule", "run", "check_feedback_statistics"])
        .await;
    let from = written["from"].as_str().unwrap();
    let verified = service.ok(&["metrics", "verify", "--from", from]).await;
    assert!(verified.contains(" 0 differences"), "{verified}");
    let drift = service.store().feedback().drift(10).await.unwrap();
    assert!(drift.is_empty(), "{drift:?}");
    // Every way in which a job can stand, and claims that live on.
    let jobs = service
        .json(&["backfill", "list", "--limit", "100", "--json"])
        .await;
    let jobs = jobs.as_array().unwrap();
    for state in ["running", "paused", "completed", "failed"] {
        assert!(
            jobs.iter().any(|job| job["status"] == state),
            "no job is {state}"
        );
    }
    let degraded = service.ok(&["metrics", "degradations"]).await;
    assert!(degraded.contains("web-api"), "{degraded}");
    let (code, told) = service.run(&SMALL).await;
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("has its demonstration data already"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_data_of_its_own_is_left_as_it_is() {
    let service = Service::start(&[]).await;
    service
        .ok(&[
            "backfill", "start", "--type", "blocks", "--from", "1", "--to", "9",
        ])
        .await;
    let (code, told) = service.run(&SMALL).await;
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("has data of its own (backfill_jobs)"),
        "{told}"
    );
    assert!(told.contains("./dev reset"), "{told}");
    let admin = service.admin().await;
    let count = |table: &str| format!("select count(*) from {table}");
    for table in [
        "insight_feedback",
        "metric_series",
        "audit_log where action = 'demo'",
    ] {
        let rows: i64 = admin.query_one(&count(table), &[]).await.unwrap().get(0);
        assert_eq!(rows, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demonstration_says_which_setting_it_lacks_and_asks_twice_before_another_machine() {
    let service = Service::start(&[]).await;
    for (variable, value, told) in [
        (
            "UTXOIQ_STORE_DATABASE__RETENTION_URL",
            "",
            "database.retention_url",
        ),
        ("UTXOIQ_STORE_COLD__URL", "", "cold.url"),
        (
            "DATABASE_URL",
            "postgresql://utxoiq_app:x@db.example.com/utxoiq?sslmode=require",
            "demo --yes",
        ),
    ] {
        let (code, output) = service.run_with(&[(variable, value)], &SMALL).await;
        assert_eq!(code, 1, "{output}");
        assert!(output.contains(told), "{variable}: {output}");
    }
}

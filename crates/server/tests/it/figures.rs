//! `/metrics`, what is written about it, and what is built on it: the document, the alert rules and the dashboard name what a
//! real service exports, all of it, and nothing else.

mod document;

mod exposition;
mod expression;
mod grafana;
mod rules;

use std::{fs, path::Path};

use serde_json::json;
use utxoiq_store_testkit::{IdentityProvider, Signer};

use self::exposition::Exposition;
use crate::live::Live;

/// What a service with everything configured exports, after a request of each kind.
async fn scraped() -> Exposition {
    let signer = Signer::p256("figures");
    let provider = IdentityProvider::start(&[&signer]).await;
    let url = provider.keys_url();
    let service = Live::new(&[
        ("UTXOIQ_STORE_OIDC__ISSUER", "https://issuer"),
        ("UTXOIQ_STORE_OIDC__AUDIENCE", "store"),
        ("UTXOIQ_STORE_OIDC__JWKS_URL", &url),
        ("UTXOIQ_STORE_ALERT__WEBHOOK_URL", "http://127.0.0.1:9/"),
        // Nobody listens there: the database answers instead, the primary.
        ("REDIS_URL", "redis://127.0.0.1:9/0"),
        (
            "DATABASE_READ_URLS",
            "postgresql://utxoiq_app:x@127.0.0.1:9/away",
        ),
        (
            "UTXOIQ_STORE_ALERT__WEBHOOK_SECRET",
            "a secret of at least thirty-two characters",
        ),
    ])
    .await;
    let rating = service
        .authorized("POST", "/api/v1/feedback/rate")
        .header("x-user-id", "u")
        .json(&json!({ "insight_id": "i", "rating": 5 }));
    assert!(rating.send().await.unwrap().status().is_success());
    let stats = service.authorized("GET", "/api/v1/feedback/stats?insight_id=i");
    assert!(stats.send().await.unwrap().status().is_success());
    fill(&service).await;
    let text = service.authorized("GET", "/metrics").send().await.unwrap();
    Exposition::parse(&text.text().await.unwrap())
}

/// A file of the repository.
fn file(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A day's history: what ran, what was backed up and proved, and what is wrong.
async fn fill(service: &Live) {
    let tick = service.authorized("POST", "/api/v1/monitoring/schedule/tick");
    assert!(tick.send().await.unwrap().status().is_success());
    let admin = service.db.admin().await;
    let slot = "insert into schedule_slots (task, slot_at, on_demand, state, epoch, runner, attempts, missed, started_at, heartbeat_at, finished_at, outcome)
        select task, '2025-03-02 01:00Z', false, 'succeeded', 1, 'host:1', 1, 0, '2025-03-02 01:00Z', '2025-03-02 01:00Z', '2025-03-02 01:01Z', '{}' from schedule_tasks";
    admin.batch_execute(slot).await.unwrap();
    let alerts = file("crates/store/tests/it/rows/0011.sql");
    admin.batch_execute(&alerts).await.unwrap();
    let backups = file("crates/store/tests/it/rows/0012.sql")
        .replace("'pruned'", "'verified'")
        .replace("'2025-02-09 01:00Z'", "null");
    admin.batch_execute(&backups).await.unwrap();
}

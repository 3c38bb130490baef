//! `doctor`: nothing is wrong with what is healthy, and what is broken is found, with what mends it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use utxoiq_store::alert::{Condition, Severity};
use utxoiq_store_testkit::{authority::Authority, ports::free_port, redis::RedisServer};

use crate::support::{PASSWORD, Service};

struct Told {
    code: i32,
    findings: Vec<Value>,
}

/// What it finds with these variables of the environment, and these arguments.
async fn doctor(service: &Service, variables: &[(&str, &str)], arguments: &str) -> Told {
    let variables: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{name}='{value}'"))
        .collect();
    let variables = variables.join(" ");
    let admin = service.cluster.admin_url("postgres");
    let line = format!("DATABASE_ADMIN_URL='{admin}' {variables} \"$0\" doctor --json {arguments}");
    let (code, out, err) = service.shell(&line).await;
    let told: Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let findings = told["findings"].as_array().unwrap().clone();
    let count = |state: &str| {
        findings
            .iter()
            .filter(|finding| finding["state"] == state)
            .count()
    };
    for (name, state) in [
        ("ok", "ok"),
        ("warnings", "warning"),
        ("failed", "failed"),
        ("skipped", "skipped"),
    ] {
        assert_eq!(told[name], count(state), "{told}");
    }
    Told { code, findings }
}

impl Told {
    /// That a check says this, and how to mend it; the exit code is that of a failure, or of none.
    fn assert(&self, check: &str, state: &str, says: &str, mend: &str) {
        let has = |finding: &Value, name: &str, words: &str| {
            finding[name].as_str().unwrap_or_default().contains(words)
        };
        let is_it = |finding: &&Value| finding["check"] == check && finding["state"] == state;
        let found = self
            .findings
            .iter()
            .filter(is_it)
            .any(|finding| has(finding, "says", says) && has(finding, "mend", mend));
        assert!(
            found,
            "{check} is not {state} ({says}; {mend}): {:#?}",
            self.findings
        );
        if state == "failed" {
            assert_eq!(self.code, 1);
        }
    }

    fn assert_nothing_failed(&self) {
        let failed: Vec<_> = self
            .findings
            .iter()
            .filter(|finding| finding["state"] == "failed")
            .collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!(self.code, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_fails_where_all_is_well_and_what_is_broken_is_found_with_its_mend() {
    let redis = RedisServer::start().await;
    let service = Service::start(&[]).await;
    let url = redis.url();
    let healthy = [("REDIS_URL", url.as_str())];
    let told = doctor(&service, &healthy, "").await;
    told.assert_nothing_failed();
    told.assert("database.url", "ok", "utxoiq_app", "");
    told.assert("cold", "ok", "written, read and removed", "");
    told.assert("redis", "ok", "answers", "");
    // It left nothing behind, and says the same again.
    let names = |told: &Told| {
        told.findings
            .iter()
            .map(|finding| finding["check"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&told), names(&doctor(&service, &healthy, "").await));
    let (_, left, _) = service
        .shell(&format!(
            "find '{}' -type f",
            service.path("cold").display()
        ))
        .await;
    assert_eq!(left, "");

    addresses(&service).await;
    surroundings(&service).await;
    clocks_and_certificates(&service, &redis).await;
}

async fn addresses(service: &Service) {
    let wrong = service
        .cluster
        .url("utxoiq_app", "not-this-one", "postgres");
    let told = doctor(service, &[("DATABASE_URL", &wrong)], "").await;
    told.assert(
        "database.url",
        "failed",
        "password",
        "alter role utxoiq_app password",
    );
    let superuser = service.cluster.admin_url("postgres");
    let told = doctor(service, &[("DATABASE_URL", &superuser)], "").await;
    told.assert(
        "database.url",
        "failed",
        "a superuser",
        "connect as utxoiq_app",
    );
    let app = service.cluster.url("utxoiq_app", PASSWORD, "postgres");
    let told = doctor(
        service,
        &[("UTXOIQ_STORE_DATABASE__RETENTION_URL", &app)],
        "",
    )
    .await;
    told.assert(
        "database.retention_url",
        "failed",
        "not utxoiq_retention",
        "connect as utxoiq_retention",
    );
    let nowhere = format!(
        "postgresql://utxoiq_app:x@127.0.0.1:{}/postgres",
        free_port()
    );
    let told = doctor(service, &[("DATABASE_URL", &nowhere)], "").await;
    told.assert("database.url", "failed", "", "start PostgreSQL");
    told.assert("schedule", "skipped", "cannot be asked", "");
}

async fn surroundings(service: &Service) {
    let nowhere = format!("redis://127.0.0.1:{}/0", free_port());
    let told = doctor(service, &[("REDIS_URL", &nowhere)], "").await;
    told.assert("redis", "failed", "cannot be reached", "start Redis");
    let full = RedisServer::start_with("maxmemory 64mb\nmaxmemory-policy noeviction\n").await;
    let told = doctor(service, &[("REDIS_URL", &full.url())], "").await;
    told.assert("redis memory", "warning", "noeviction", "allkeys-lru");
    let missing = format!("file://{}", service.path("missing").display());
    let told = doctor(service, &[("UTXOIQ_STORE_COLD__URL", &missing)], "").await;
    told.assert("cold", "failed", "not there", "make what cold.url names");
    let told = doctor(service, &[("UTXOIQ_STORE_TOKEN", "uqs_wrong")], "").await;
    told.assert("token", "failed", "refused", "token create");
    let told = doctor(
        service,
        &[],
        &format!("--url http://127.0.0.1:{}", free_port()),
    )
    .await;
    told.assert("service", "warning", "nobody answers", "utxoiq-store serve");
    let told = doctor(service, &[("UTXOIQ_STORE_DATABASE__POOL_MAX", "many")], "").await;
    told.assert(
        "configuration",
        "failed",
        "database.pool_max",
        "config example",
    );
}

async fn clocks_and_certificates(service: &Service, redis: &RedisServer) {
    let tomorrow = "--as-of $(date -u -d '+1 day' +%Y-%m-%dT%H:%M:%SZ)";
    let told = doctor(service, &[("REDIS_URL", &redis.url())], tomorrow).await;
    told.assert("database clock", "failed", "behind this machine", "NTP");
    told.assert("redis clock", "failed", "behind this machine", "NTP");
    let authority = Authority::new();
    let issued = authority.issue_expired(&["localhost"]);
    let (certificate, key) = (
        issued.certificate_file.display().to_string(),
        issued.key_file.display().to_string(),
    );
    let files = [
        (
            "UTXOIQ_STORE_SERVER__TLS_CERTIFICATE_FILE",
            certificate.as_str(),
        ),
        ("UTXOIQ_STORE_SERVER__TLS_KEY_FILE", key.as_str()),
    ];
    let told = doctor(service, &files, "").await;
    told.assert("certificates", "failed", "run out", "renew it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_the_database_is_found_with_its_mend() {
    let service = Service::start(&[]).await;
    let admin = service.admin().await;
    admin
        .batch_execute("grant connect on database postgres to public")
        .await
        .unwrap();
    let told = doctor(&service, &[], "").await;
    told.assert(
        "database grants",
        "warning",
        "everybody",
        "utxoiq-store init",
    );
    let condition = Condition {
        key: "test:something".to_owned(),
        severity: Severity::Critical,
        title: "something is wrong".to_owned(),
        detail: String::new(),
        runbook: "docs/operations/alerts.md",
        labels: BTreeMap::new(),
    };
    let store = service.store();
    store
        .alerts()
        .observe(store.pool(), "test", &[condition], store.now())
        .await
        .unwrap();
    let told = doctor(&service, &[], "").await;
    told.assert(
        "alerts",
        "failed",
        "something is wrong",
        "alert ack test:something",
    );
    admin
        .batch_execute("select metric_make_day((now() - interval '120 days')::date, now())")
        .await
        .unwrap();
    let told = doctor(&service, &[], "").await;
    told.assert("retention", "failed", "by yesterday", "retention run --yes");
    service.server().terminate();
    service
        .server()
        .wait(Duration::from_secs(30))
        .await
        .unwrap();
    admin
        .batch_execute(
            "delete from schedule_slots; update schedule_tasks set first_seen_at = now() - interval '3 days';
             insert into schedule_slots (task, slot_at, on_demand, state, epoch, runner, attempts, missed, started_at, heartbeat_at, finished_at, error)
             values ('fold_feedback', now() - interval '1 hour', false, 'failed', 1, 'gone', 3, 0, now(), now(), now(), 'the disk was full')",
        )
        .await
        .unwrap();
    let told = doctor(&service, &[], "").await;
    told.assert(
        "schedule",
        "failed",
        "run_retention is overdue",
        "schedule run run_retention",
    );
    told.assert(
        "schedule",
        "failed",
        "fold_feedback failed: the disk was full",
        "schedule run fold_feedback",
    );
    service.ok(&["migrate", "down", "--allow-data-loss"]).await;
    let told = doctor(&service, &[], "").await;
    told.assert(
        "schema",
        "failed",
        "1 migrations are not applied",
        "migrate up",
    );
}

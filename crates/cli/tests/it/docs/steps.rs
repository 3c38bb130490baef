//! The blocks of commands in their order: exit code, words of what they say, and what there must be before.

use std::fs;

use serde_json::{Value, json};

use super::Scene;

/// Each block: its exit code, and words of what it says.
pub const STEPS: &[(&str, i32, &[&str])] = &[
    ("README.md#two-commands/1", 0, &[]),
    (
        "README.md#a-backfill-that-survives-anything/1",
        0,
        &["blocks 800000 to 800099", "completed"],
    ),
    (
        "README.md#a-backfill-that-survives-anything/2",
        0,
        &["completed", "\"job_type\":\"blocks\""],
    ),
    (
        "README.md#what-users-think/1",
        0,
        &["ratings", "misleading"],
    ),
    (
        "README.md#what-services-report/1",
        0,
        &["stored      3", "duplicates  0", "0 differences"],
    ),
    (
        "README.md#what-leaves-and-the-proof-of-it/1",
        0,
        &["nothing is due", "is whole"],
    ),
    (
        "README.md#backups-that-are-proved/1",
        0,
        &["verified", "proved"],
    ),
    ("README.md#the-other-commands/1", 0, &["make_backup"]),
    ("access.md#service-tokens/1", 0, &["uqs_"]),
    ("access.md#rotate/1", 0, &["uqs_"]),
    ("access.md#rotate/2", 0, &["ingest"]),
    ("access.md#rotate/3", 0, &["uqs_"]),
    ("access.md#revoke/1", 0, &["revoked"]),
    ("dashboard.md#log-in/1", 0, &["uqs_"]),
    ("examples/fastapi/README.md#run-it/3", 0, &["uqs_"]),
    ("feedback.md#who-may-read-what/1", 0, &["uqs_"]),
    ("backfill.md#see-how-it-stands/1", 0, &["completed"]),
    (
        "feedback.md#what-users-think-of-an-insight/1",
        0,
        &["ratings"],
    ),
    ("feedback.md#the-review-queue/1", 0, &["flag"]),
    ("feedback.md#export/1", 0, &[]),
    ("metrics.md#looking-at-metrics/1", 0, &["web-api"]),
    (
        "metrics.md#importing-files/1",
        0,
        &["stored      3", "stored      1"],
    ),
    ("metrics.md#when-/1", 0, &["0 differences"]),
    ("retention.md#what-happens-when/1", 0, &["nothing was due"]),
    (
        "retention.md#legal-holds/1",
        0,
        &["incident 12", "is released"],
    ),
    ("retention.md#archives/1", 0, &["metrics"]),
    ("retention.md#restoring/1", 0, &["10 rows of feedback"]),
    ("retention.md#erasing-a-person/1", 0, &["erased"]),
    ("audit.md#the-audit-log/1", 0, &["is whole"]),
    ("audit.md#verifying-with-anchors/1", 0, &["is whole"]),
    ("limits.md#redis/1", 0, &[]),
];

/// What there must be before a block is run.
pub async fn before(name: &str, scene: &mut Scene) {
    let service = &scene.house.service;
    let day = |days: i64| {
        let day = service.store().now() + chrono::TimeDelta::days(days);
        day.format("%Y-%m-%d").to_string()
    };
    let set = match name {
        "README.md#what-users-think/1" => {
            let top = service.json(&["feedback", "top", "--json"]).await;
            vec![("INSIGHT", found(&top, "insight_id"))]
        }
        "README.md#what-services-report/1" => {
            samples(scene, "samples.csv", 1);
            Vec::new()
        }
        "README.md#backups-that-are-proved/1" => {
            let made = scene.house.shell("\"$0\" backup create").await;
            assert!(made.status.success(), "{made:?}");
            Vec::new()
        }
        "metrics.md#importing-files/1" => {
            samples(scene, "2026-03-01.csv", 2);
            let at = service.store().now() - chrono::TimeDelta::hours(1);
            let sample = json!({"service_name": "api", "metric_type": "piped", "metric_value": 1, "unit": "ms", "timestamp": at});
            service.script("bin/producer", &format!("echo '{sample}'"));
            Vec::new()
        }
        "backfill.md#see-how-it-stands/1" => {
            let completed = ["--status", "completed", "--json"];
            let jobs = [&["backfill", "list"][..], &completed].concat();
            vec![("JOB", found(&service.json(&jobs).await, "id"))]
        }
        "retention.md#what-happens-when/1" => vec![("DAY", day(100))],
        "retention.md#legal-holds/1" => {
            let hold = ["--insight", "i-1", "--reason", "a case", "--json"];
            let hold = [&["retention", "hold", "add"][..], &hold].concat();
            let held = service.json(&hold).await;
            vec![
                ("DAY", day(100)),
                ("HOLD", held["id"].as_str().unwrap().to_owned()),
            ]
        }
        "retention.md#archives/1" => {
            let archives = service.json(&["archive", "list", "--json"]).await;
            vec![("ARCHIVE", found(&archives, "id"))]
        }
        "retention.md#restoring/1" => {
            old_feedback(scene).await;
            vec![("DAY", day(-800))]
        }
        "retention.md#erasing-a-person/1" => vec![("PERSON", "u-4712".to_owned())],
        "audit.md#verifying-with-anchors/1" => {
            let verified = service.json(&["audit", "verify", "--json"]).await;
            let (sequence, hash) = (&verified["head"]["sequence"], &verified["head"]["hash"]);
            let line = json!({"sequence": sequence, "hash": hash, "found_in": "a mail"});
            fs::write(service.path("heads.jsonl"), format!("{line}\n")).unwrap();
            vec![
                ("SEQUENCE", sequence.to_string()),
                ("HASH", hash.as_str().unwrap().to_owned()),
            ]
        }
        "limits.md#redis/1" => {
            rate(scene).await;
            Vec::new()
        }
        _ => Vec::new(),
    };
    for (name, value) in set {
        scene.house.set(name, value);
    }
}

/// Feedback that has to leave the database, and has left it.
async fn old_feedback(scene: &Scene) {
    let service = &scene.house.service;
    let sql = "insert into insight_feedback (insight_id, user_id, rating, rated_at, created_at, updated_at)
               select 'old', 'user-' || n, n % 5 + 1, t, t, t
               from generate_series(1, 10) n, (values (now() - interval '800 days')) as v (t)";
    service.admin().await.batch_execute(sql).await.unwrap();
    service.ok(&["retention", "run", "--yes"]).await;
}

/// A rating by the user whose count is looked at.
async fn rate(scene: &Scene) {
    let service = &scene.house.service;
    let rated = reqwest::Client::new()
        .post(service.url("/api/v1/feedback/rate"))
        .bearer_auth(service.token())
        .header("X-User-Id", "alice")
        .json(&json!({"insight_id": "i-1", "rating": 4}))
        .send()
        .await;
    assert!(rated.unwrap().status().is_success());
}

/// The first text of a name in an answer.
fn found(answer: &Value, name: &str) -> String {
    let within = |value: &Value| match value {
        Value::Object(members) => members.get(name).and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let lists = answer
        .as_object()
        .into_iter()
        .flat_map(|members| members.values())
        .chain([answer]);
    let found = lists.filter_map(Value::as_array).flatten().find_map(within);
    found.unwrap_or_else(|| panic!("no {name} in {answer}"))
}

/// A gzip'd file of three samples, so many days ago.
fn samples(scene: &Scene, name: &str, days: i64) {
    let service = &scene.house.service;
    let at = service.store().now() - chrono::TimeDelta::days(days);
    let mut lines = vec!["service_name,metric_type,metric_value,unit,timestamp,labels".to_owned()];
    lines.extend((0..3).map(|minute| {
        let at = at + chrono::TimeDelta::minutes(minute);
        format!(
            "api,imported,{minute},ms,{},",
            at.format("%Y-%m-%dT%H:%M:%SZ")
        )
    }));
    fs::write(service.path(name), lines.join("\n") + "\n").unwrap();
    let status = std::process::Command::new("gzip")
        .arg("-f")
        .arg(service.path(name))
        .status();
    assert!(status.unwrap().success());
}

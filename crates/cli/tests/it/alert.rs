//! `utxoiq-store alert`.

use serde_json::{Value, json};
use tokio::process::Command;
use utxoiq_store_testkit::Receiver;

use crate::support::{BINARY, Service};

const MARK: &str = "s3cr3t-mark";

/// `alert test` of a process that knows a webhook and no database: its exit code, and what it printed.
async fn test(receiver: &Receiver, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(BINARY)
        .args(["alert", "test"])
        .args(arguments)
        .env_clear()
        .env(
            "UTXOIQ_STORE_ALERT__WEBHOOK_URL",
            receiver.url(&format!("/{MARK}")),
        )
        .env(
            "UTXOIQ_STORE_ALERT__WEBHOOK_SECRET",
            format!("{MARK}-of-the-webhook"),
        )
        .output()
        .await
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(printed).unwrap(),
    )
}

#[tokio::test]
async fn a_trial_needs_no_database_and_fails_when_a_receiver_does_not_take_it() {
    let receiver = Receiver::start().await;
    let (code, printed) = test(&receiver, &[]).await;
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.contains("webhook") && printed.contains("took it"),
        "{printed}"
    );
    let taken: Value = serde_json::from_slice(&receiver.taken()[0].body).unwrap();
    assert_eq!(taken["kind"], "test");
    receiver.fail(1);
    let (code, printed) = test(&receiver, &["--json"]).await;
    assert_eq!(code, 1);
    assert!(!printed.contains(MARK));
    let tested: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(tested[1]["error"], "it answered 503");
}

#[tokio::test]
async fn alerts_are_listed_and_taken_by_a_command_and_over_http() {
    let service = Service::start(&[]).await;
    let admin = service.admin().await;
    admin
        .batch_execute(
            "insert into alerts (id, key, source, severity, title, detail, runbook, labels, opened_at, seen_at, resolved_at)
             select gen_random_uuid(), key, 'test', 'critical', key || E' is wrong\\x1b', 'since today', '', '{\"a\": \"b\"}',
                    '2026-11-23Z'::timestamptz + n * interval '1 minute', '2026-11-24Z',
                    case key when 'over' then '2026-11-25Z'::timestamptz end
             from unnest(array['over', 'late', 'failed']) with ordinality as t (key, n)",
        )
        .await
        .unwrap();
    let listed = service.ok(&["alert", "list"]).await;
    assert!(listed.contains("late is wrong\u{fffd}") && !listed.contains("over is wrong"));
    assert!(
        service
            .ok(&["alert", "list", "--all"])
            .await
            .contains("over is wrong")
    );
    let said = service
        .ok(&["alert", "ack", "late", "--note", "on it"])
        .await;
    assert!(said.contains("is yours: late is wrong"), "{said}");
    let said = service.ok(&["alert", "ack", "late"]).await;
    assert!(said.contains("was taken before, by cli: "), "{said}");
    let (code, said) = service.run(&["alert", "ack", "over"]).await;
    assert!(code == 1 && said.contains("the alert is over"), "{said}");

    let get = async |query: &str| -> Value {
        let asked = service.get(&format!("/api/v1/monitoring/alerts{query}"));
        let answer = asked.bearer_auth(service.token()).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let page = get("").await;
    let keys: Vec<&Value> = page["alerts"]
        .as_array()
        .unwrap()
        .iter()
        // The service's own watch tells that there are no backups.
        .filter(|one| one["source"] == "test")
        .map(|one| &one["key"])
        .collect();
    assert_eq!(
        (keys, &page["has_more"]),
        (vec![&json!("failed"), &json!("late")], &json!(false))
    );
    let late = |page: &Value| {
        let alerts = page["alerts"].as_array().unwrap();
        let at = alerts.iter().position(|one| one["key"] == "late").unwrap();
        (at, alerts[at].clone())
    };
    let (_, taken) = late(&page);
    assert_eq!(
        (&taken["note"], &taken["labels"]),
        (&json!("on it"), &json!({"a": "b"}))
    );
    let (at, _) = late(&get("?state=all").await);
    let page = get(&format!("?state=all&limit=1&offset={at}")).await;
    assert_eq!(
        (&page["alerts"][0]["key"], &page["has_more"]),
        (&json!("late"), &json!(true))
    );
}

//! The audit log over HTTP.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use utxoiq_store::audit::{Action, Entry};

use crate::{
    live::{Live, answer},
    support::Answer,
};

const PATH: &str = "/api/v1/monitoring/audit";

async fn live_with(entries: i64) -> Live {
    let live = Live::new(&[]).await;
    let store = live.db.store().await;
    let noon: DateTime<Utc> = "2026-11-23T12:00:00.5Z".parse().unwrap();
    for number in 1..=entries {
        let entry = Entry {
            at: noon + TimeDelta::seconds(number),
            actor: "retention".to_owned(),
            action: [Action::Archive, Action::Drop][usize::from(number % 5 == 0)],
            subject: format!("metrics day {number}"),
            details: json!({"rows": number}),
        };
        store.audit().append(&entry).await.unwrap();
    }
    live
}

async fn get(live: &Live, target: &str) -> Answer {
    answer(live.authorized("GET", target)).await
}

/// Every entry's number, page after page by the links.
async fn followed(live: &Live, query: &str) -> Vec<i64> {
    let (mut target, mut sequences) = (format!("{PATH}?{query}"), Vec::new());
    loop {
        let page = get(live, &target).await;
        assert_eq!(page.status, 200, "{}", page.text);
        for entry in page.json().as_array().unwrap() {
            sequences.push(entry["sequence"].as_i64().unwrap());
        }
        let Some(link) = page.header("link") else {
            return sequences;
        };
        let (next, _) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        next.clone_into(&mut target);
    }
}

#[tokio::test]
async fn entries_are_listed_newest_first_and_their_pages_followed_by_links() {
    let live = live_with(12).await;
    let newest = get(&live, &format!("{PATH}?limit=1")).await;
    let entry = &newest.json()[0];
    assert_eq!(entry["at"], "2026-11-23T12:00:12.500Z");
    assert_eq!(entry["details"], json!({"rows": 12}));
    assert_eq!(entry["database_role"], "utxoiq_app");
    assert_eq!(entry["hash"].as_str().unwrap().len(), 64);
    let all: Vec<i64> = (1..=12).rev().collect();
    for limit in [1, 5, 12, 1_000] {
        assert_eq!(followed(&live, &format!("limit={limit}")).await, all);
    }
    assert_eq!(followed(&live, "limit=1&action=drop").await, [10, 5]);
    assert_eq!(
        followed(&live, "subject=metrics%20day%201&limit=2").await,
        [12, 11, 10, 1]
    );
    let range = "from=2026-11-23T12:00:03.5Z&to=2026-11-23T12:00:05.5Z";
    assert_eq!(followed(&live, range).await, [4, 3]);
    assert_eq!(followed(&live, "actor=nobody").await, [0_i64; 0]);
    for (query, field) in [
        ("action=steal", "action"),
        ("cursor=nonsense", "cursor"),
        ("limit=1001", "limit"),
    ] {
        let refused = get(&live, &format!("{PATH}?{query}")).await;
        assert_eq!(
            (refused.problem(422).as_str(), refused.fields()),
            ("invalid_input", vec![field.to_owned()])
        );
    }
}

#[tokio::test]
async fn a_broken_chain_is_named_and_an_export_has_every_entry_and_the_head() {
    let live = live_with(12).await;
    let verified = get(&live, &format!("{PATH}/verify")).await.json();
    assert_eq!(
        (&verified["valid"], &verified["entries"]),
        (&json!(true), &json!(12))
    );
    let head = &verified["head"];
    let anchor = format!("12:{}", head["hash"].as_str().unwrap());

    let export = get(&live, &format!("{PATH}/export")).await;
    assert_eq!(export.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = export
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 13);
    assert_eq!(lines[0]["at"], "2026-11-23T12:00:01.500000Z");
    assert_eq!(lines[0]["details"], "{\"rows\":1}");
    assert_eq!(lines[12], json!({"head": head, "entries": 12}));

    let admin = live.db.admin().await;
    let tamper = "update audit_log set actor = 'nobody' where sequence = 3; delete from audit_log where sequence = 12;
                  update audit_head set sequence = 11, hash = (select hash from audit_log where sequence = 11)";
    admin.batch_execute(tamper).await.unwrap();
    let verified = get(&live, &format!("{PATH}/verify?anchors={anchor}")).await;
    let verified = verified.json();
    assert_eq!(verified["valid"], false);
    let faults: Vec<_> = verified["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| (fault["fault"].as_str().unwrap(), fault["first"].as_i64()))
        .collect();
    assert_eq!(faults, [("changed", Some(3)), ("anchor_missing", Some(12))]);
    let refused = get(&live, &format!("{PATH}/verify?anchors=12:abc")).await;
    assert_eq!(refused.problem(422), "invalid_input");
}

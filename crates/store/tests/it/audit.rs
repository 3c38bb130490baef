//! The audit log: that it stays one chain, that nobody but its function writes it, and that every tampering is named.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use utxoiq_store::{
    Error, Store,
    audit::{self, Action, Audit, Entry, Filter},
    db::{Pool, roles},
};

use crate::support::TestDb;

mod rights;
mod storm;
mod tampering;

fn noon() -> DateTime<Utc> {
    "2026-11-23T12:00:00.123456Z".parse().unwrap()
}

fn entry(number: i64) -> Entry {
    Entry {
        at: noon() + TimeDelta::seconds(number),
        actor: "retention".to_owned(),
        action: Action::Archive,
        subject: format!("metrics 2026-01-{number:02}"),
        details: json!({"rows": number, "note": "größer \"als\" \u{1F9FE}"}),
    }
}

async fn append(store: &Store, count: i64) {
    for number in 1..=count {
        let sequence = store.audit().append(&entry(number)).await.unwrap();
        assert_eq!(sequence, number);
    }
}

/// A pool of one connection as one of the login roles.
fn pool_as(db: &TestDb, role: &str) -> Pool {
    let url = db.url_of(role);
    let config = db.settings_with(&[
        ("DATABASE_URL", &url),
        ("UTXOIQ_STORE_DATABASE__POOL_MIN", "1"),
    ]);
    Pool::open(&config.database).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_is_read_back_and_belongs_to_its_transaction() {
    let db = TestDb::new().await;
    let store = db.store().await;
    let mut connection = store.pool().get().await.unwrap();
    let tx = connection.transaction().await.unwrap();
    let undone = audit::append_in_tx(&tx, &entry(1)).await.unwrap();
    assert_eq!(undone, 1);
    assert_eq!(audit::head(&tx).await.unwrap().sequence, 1);
    tx.rollback().await.unwrap();
    assert_eq!(store.audit().head().await.unwrap().sequence, 0);

    append(&store, 3).await;
    let refusal = Error::conflict("on_hold", "the day is on hold");
    let log = store.audit();
    let denied = log.denied(noon(), "ci", Action::Drop, "metrics 2026-01-01", &refusal);
    assert_eq!(denied.await.unwrap(), 4);

    let page = store
        .audit()
        .list(&Filter::default(), 10, None)
        .await
        .unwrap();
    assert_eq!(page.next, None);
    let sequences: Vec<i64> = page.entries.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, [4, 3, 2, 1]);
    let newest = &page.entries[0];
    assert_eq!(
        (newest.action.as_str(), newest.database_role.as_str()),
        ("denied", "utxoiq_app")
    );
    assert_eq!(
        newest.details,
        r#"{"attempted":"drop","code":"on_hold","reason":"the day is on hold"}"#
    );
    let first = &page.entries[3];
    assert_eq!(first.at(), Some(entry(1).at));
    assert_eq!(first.details, entry(1).details.to_string());
    assert!(page.entries.iter().all(audit::Record::is_itself));
    let verification = store.audit().verify(&[]).await.unwrap();
    assert!(verification.is_clean(), "{verification:?}");
    assert_eq!(verification.entries, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_the_table_would_refuse_are_refused_with_their_fields() {
    let db = TestDb::new().await;
    let store = db.store().await;
    let wrong = [
        (
            "actor",
            Entry {
                actor: String::new(),
                ..entry(1)
            },
        ),
        (
            "actor",
            Entry {
                actor: "x".repeat(201),
                ..entry(1)
            },
        ),
        (
            "subject",
            Entry {
                subject: "a\nb".to_owned(),
                ..entry(1)
            },
        ),
        (
            "subject",
            Entry {
                subject: "ä".repeat(1_001),
                ..entry(1)
            },
        ),
        (
            "details",
            Entry {
                details: json!([]),
                ..entry(1)
            },
        ),
        (
            "details",
            Entry {
                details: json!({"a": "\0"}),
                ..entry(1)
            },
        ),
        (
            "details",
            Entry {
                details: json!({"a": "x".repeat(65_536)}),
                ..entry(1)
            },
        ),
    ];
    for (field, entry) in wrong {
        let refused = store.audit().append(&entry).await.unwrap_err();
        assert_eq!(refused.field_errors()[0].field, field, "{refused}");
    }
    let greatest = Entry {
        actor: "ä".repeat(200),
        subject: "ö".repeat(1_000),
        details: json!({"a": "x".repeat(65_528)}),
        ..entry(1)
    };
    assert_eq!(greatest.details.to_string().len(), 65_536);
    store.audit().append(&greatest).await.unwrap();
    for action in Action::ALL {
        let named = Entry {
            action: *action,
            ..entry(1)
        };
        store.audit().append(&named).await.unwrap();
    }
    assert!(store.audit().verify(&[]).await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_what_matches_come_whole_and_in_order() {
    let db = TestDb::new().await;
    let store = db.store().await;
    for number in 1..=30 {
        let made = Entry {
            action: [Action::Archive, Action::Drop][usize::from(number % 3 == 0)],
            actor: ["retention", "ci"][usize::from(number % 2 == 0)].to_owned(),
            subject: format!(
                "{} {number}",
                ["metrics", "meters_%"][usize::from(number > 20)]
            ),
            ..entry(number)
        };
        store.audit().append(&made).await.unwrap();
    }
    let all = async |filter: Filter, limit: i64| {
        let (mut sequences, mut after) = (Vec::new(), None);
        loop {
            let page = store.audit().list(&filter, limit, after).await.unwrap();
            assert!(page.entries.len() <= usize::try_from(limit).unwrap());
            sequences.extend(page.entries.iter().map(|entry| entry.sequence));
            let Some(next) = page.next else {
                return sequences;
            };
            // As it goes over the wire.
            after = Some(next.to_string().parse().unwrap());
        }
    };
    let expected =
        |matches: fn(i64) -> bool| (1..=30).rev().filter(|n| matches(*n)).collect::<Vec<i64>>();
    for limit in [1, 7, 30] {
        assert_eq!(all(Filter::default(), limit).await, expected(|_| true));
        let drops = Filter {
            action: Some(Action::Drop),
            ..Filter::default()
        };
        assert_eq!(all(drops, limit).await, expected(|n| n % 3 == 0));
        let subject = Filter {
            subject_prefix: Some("meters_%".to_owned()),
            ..Filter::default()
        };
        assert_eq!(all(subject, limit).await, expected(|n| n > 20));
        let actor = Filter {
            actor: Some("ci".to_owned()),
            ..Filter::default()
        };
        assert_eq!(all(actor, limit).await, expected(|n| n % 2 == 0));
        let times = Filter {
            from: Some(entry(5).at),
            to: Some(entry(8).at),
            ..Filter::default()
        };
        assert_eq!(all(times, limit).await, expected(|n| (5..8).contains(&n)));
        let ever = Filter {
            from: Some(DateTime::<Utc>::MIN_UTC),
            to: Some(DateTime::<Utc>::MAX_UTC),
            ..Filter::default()
        };
        assert_eq!(all(ever, limit).await, expected(|_| true));
    }
    for limit in [0, 1_001] {
        assert!(
            store
                .audit()
                .list(&Filter::default(), limit, None)
                .await
                .is_err()
        );
    }
    for text in ["", "AAAA", "!", "AQAAAAAAAAAAAA"] {
        assert!(text.parse::<audit::Cursor>().is_err(), "{text}");
    }
}

/// The program out of the runbook, and what it says to an export.
async fn python(lines: &[u8]) -> (bool, String) {
    use std::io::Write as _;
    let runbook = include_str!("../../../../docs/operations/audit.md");
    let program = runbook.split("```python\n").nth(1).unwrap();
    let program = program.split("```").next().unwrap().to_owned();
    let lines = lines.to_vec();
    tokio::task::spawn_blocking(move || {
        let mut child = std::process::Command::new("python3")
            .args(["-c", &program])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // It stops reading at the first fault.
        let _ = child.stdin.take().unwrap().write_all(&lines);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), said)
    })
    .await
    .unwrap()
}

async fn export(audit: Audit<'_>) -> Vec<u8> {
    let mut export = audit.export().await.unwrap();
    let mut lines = Vec::new();
    while let Some(piece) = export.next().await.unwrap() {
        lines.extend(piece);
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_verified_by_the_program_in_the_runbook() {
    let db = TestDb::new().await;
    let store = db.store().await;
    let empty = export(store.audit()).await;
    assert_eq!(
        python(&empty).await,
        (true, format!("0 entries, head 0:{}\n", "0".repeat(64)))
    );
    append(&store, 250).await;
    let early = Entry {
        at: "1999-12-31T23:59:59.999999Z".parse().unwrap(),
        ..entry(1)
    };
    store.audit().append(&early).await.unwrap();

    let retention = pool_as(&db, roles::RETENTION);
    let lines = export(Audit::new(&retention)).await;
    let head = store.audit().head().await.unwrap();
    assert_eq!(
        python(&lines).await,
        (true, format!("251 entries, head {head}\n"))
    );
    // What was cut off or changed does not pass.
    let text = String::from_utf8(lines).unwrap();
    let whole: Vec<&str> = text.lines().collect();
    assert_eq!(whole.len(), 252);
    let cut = whole[..251].join("\n");
    assert!(!python(cut.as_bytes()).await.0);
    let changed = text.replacen("retention", "somebody", 1);
    let (passed, said) = python(changed.as_bytes()).await;
    assert!(!passed && said.contains("entry 1 "), "{said}");
}

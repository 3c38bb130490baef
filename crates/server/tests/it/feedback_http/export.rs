//! Exports: all that a search finds, and never a part that looks whole.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Caller, each};
use crate::{live::Live, support::Answer};

/// More than fits into the buffers between a stalled reader and the database: some 30 MB.
const MANY: i64 = 25_000;

async fn fill(live: &Live, rows: i64) {
    let sql = format!(
        "insert into insight_feedback (insight_id, user_id, comment, commented_at, created_at, updated_at)
         select 'insight ' || n % 7, 'user ' || n, repeat('c', 1000), t, t, t
         from (select n, timestamptz '2026-01-01Z' + n * interval '1 second' as t from generate_series(1, {rows}) as n) as made"
    );
    live.db.admin().await.batch_execute(&sql).await.unwrap();
}

/// Every page of a search.
async fn searched(caller: &Caller<'_>, conditions: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = caller
            .read(&format!("search?limit=100&{conditions}{cursor}"))
            .await;
        found.extend(page["feedback"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

fn lines(export: &Answer) -> Vec<Value> {
    assert_eq!(export.status, 200, "{}", export.text);
    assert_eq!(export.header("content-type"), Some("application/x-ndjson"));
    let lines = export
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// Times as numbers: a search writes as few decimals as it can, an export six.
fn comparable(mut entry: Value) -> Value {
    for (name, value) in entry.as_object_mut().unwrap() {
        if let (true, Some(time)) = (name.ends_with("_at"), value.as_str()) {
            let time = chrono::DateTime::parse_from_rfc3339(time).unwrap();
            *value = json!(time.timestamp_micros());
        }
    }
    entry
}

#[tokio::test]
async fn an_export_is_what_a_search_finds() {
    let live = Live::new(&[]).await;
    fill(&live, 2_345).await;
    let user = Caller::of(&live, "=cmd|' /C calc'!A0");
    let nasty = "\"quoted\", and\r\nanother line; ₿\t=1+1";
    user.comment("insight 3", nasty).await;
    user.rate("insight 3", 5).await;
    for conditions in [
        "",
        "insight_id=insight+3",
        "rating=5",
        "has_comment=false",
        "flag=any",
        "from=2026-01-01T00:10:00Z&to=2026-01-01T00:20:00Z&insight_id=insight+1",
    ] {
        let export = user
            .get(&format!("export?format=ndjson&{conditions}"))
            .await;
        export.assert_common_headers();
        let (exported, found) = (lines(&export), searched(&user, conditions).await);
        assert_eq!(
            export.header("export-rows").unwrap(),
            exported.len().to_string()
        );
        let exported: Vec<_> = exported.into_iter().map(comparable).collect();
        let found: Vec<_> = found.into_iter().map(comparable).collect();
        assert!(
            exported == found,
            "{conditions}: {} and {}",
            exported.len(),
            found.len()
        );
    }
    let export = user.get("export?insight_id=insight+3").await;
    assert_eq!(export.status, 200);
    assert!(
        export
            .header("content-type")
            .unwrap()
            .starts_with("text/csv")
    );
    let name = export.header("content-disposition").unwrap();
    assert!(
        name.starts_with("attachment; filename=\"feedback-20") && name.ends_with(".csv\""),
        "{name}"
    );
    assert!(export.text.starts_with("id,insight_id,user_id,rating,"));
    // Quoted as RFC 4180 has it, and no formula.
    assert!(
        export
            .text
            .contains(&format!("\"{}\"", nasty.replace('"', "\"\""))),
        "{}",
        &export.text[..500]
    );
    assert!(export.text.contains(",'=cmd|"));
    let rows: usize = export.header("export-rows").unwrap().parse().unwrap();
    assert_eq!(rows, 336);
}

#[tokio::test]
async fn more_than_an_export_may_have_is_refused_and_not_cut() {
    let live = Live::new(&[("UTXOIQ_STORE_FEEDBACK__MAX_EXPORT_ROWS", "3")]).await;
    fill(&live, 4).await;
    let user = Caller::of(&live, "u");
    let refused = user.get("export").await;
    assert_eq!(refused.problem(400), "export_too_large");
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("more than 3"),
        "{refused:?}"
    );
    let three = user
        .get("export?format=ndjson&from=2026-01-01T00:00:02Z")
        .await;
    assert_eq!(lines(&three).len(), 3);
    assert_eq!(user.get("export?format=ndjson&rating=1").await.text, "");
}

/// The sessions that export now.
const EXPORTING: &str =
    "select pid from pg_stat_activity where datname = current_database() and query ilike 'fetch%'";

#[tokio::test]
async fn an_export_that_loses_its_database_ends_torn() {
    let live = Live::new(&[]).await;
    fill(&live, MANY).await;
    for format in ["csv", "ndjson"] {
        let user = Caller::of(&live, "u");
        let mut response = user
            .request("GET", &format!("export?format={format}"))
            .send()
            .await
            .unwrap();
        assert_eq!(
            (
                response.status().as_u16(),
                &response.headers()["export-rows"]
            ),
            (200, &MANY.to_string().parse().unwrap())
        );
        let first = response.chunk().await.unwrap().unwrap();
        assert!(!first.is_empty());
        let admin = live.db.admin().await;
        let ended = admin
            .execute(
                &format!("select pg_terminate_backend(pid) from ({EXPORTING}) as s"),
                &[],
            )
            .await
            .unwrap();
        assert_eq!(ended, 1);
        let rest = response.bytes().await;
        assert!(rest.is_err(), "{format}: a part looks like the whole");
    }
}

#[tokio::test]
async fn a_reader_that_stands_still_does_not_keep_its_connection() {
    let live = Live::new(&[
        ("UTXOIQ_STORE_SERVER__REQUEST_TIMEOUT_SECONDS", "3"),
        (
            "UTXOIQ_STORE_DATABASE__STATEMENT_TIMEOUT_MILLISECONDS",
            "2500",
        ),
        ("UTXOIQ_STORE_DATABASE__LOCK_TIMEOUT_MILLISECONDS", "2000"),
    ])
    .await;
    fill(&live, MANY).await;
    let user = Caller::of(&live, "u");
    let response = user.request("GET", "export").send().await.unwrap();
    let admin = live.db.admin().await;
    let exporting = async || admin.query(EXPORTING, &[]).await.unwrap().len();
    assert_eq!(exporting().await, 1);
    let begun = std::time::Instant::now();
    while exporting().await > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "it holds its connection"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        response.bytes().await.is_err(),
        "what was cut off looks torn"
    );
    // And one that reads slowly, but reads, gets everything.
    let mut response = user
        .request("GET", "export?format=ndjson")
        .send()
        .await
        .unwrap();
    let mut newlines = 0;
    let mut pauses = 0;
    while let Some(piece) = response.chunk().await.unwrap() {
        newlines += String::from_utf8_lossy(&piece).matches('\n').count();
        if pauses < 5 {
            pauses += 1;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    assert_eq!(i64::try_from(newlines).unwrap(), MANY);
    let comments = user.read("comments?insight_id=insight+1&limit=2").await;
    assert_eq!(each(&comments, "comments", "user_id").len(), 2);
}

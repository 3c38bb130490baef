//! Pages that follow what changes.

use std::time::{Duration, Instant};

use reqwest::Response;
use utxoiq_store::{
    clock::{Clock as _, SystemClock},
    token::{Scope, Tokens},
};

use super::Browser;
use crate::{
    access::pool,
    live::{Live, answer, start},
    tokens::token_named,
};

/// Reads on until a text has come; tells how long it took and everything read.
async fn until(stream: &mut Response, text: &str, within: Duration) -> (Duration, String) {
    let began = Instant::now();
    let mut read = String::new();
    while !read.contains(text) {
        let left = within.saturating_sub(began.elapsed());
        let piece = tokio::time::timeout(left, stream.chunk()).await;
        let piece = piece.unwrap_or_else(|_| panic!("no {text:?} in {read}"));
        match piece.unwrap() {
            Some(piece) => read.push_str(std::str::from_utf8(&piece).unwrap()),
            None => panic!("it ended without {text:?}: {read}"),
        }
    }
    (began.elapsed(), read)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_within_two_seconds_and_nothing_else_is_sent() {
    let live = Live::new(&[]).await;
    let browser = Browser::with(&live.token);
    let job = live.ok("POST /start", &[], start("followed", 0, 9)).await;
    let id = job["id"].as_str().unwrap();
    let page = format!("/dashboard/live/backfill/{id}");
    let mut stream = browser.ask(&live, "get", &page).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let (_, first) = until(&mut stream, "data: errors\n", Duration::from_secs(5)).await;
    for section in ["head", "map", "work"] {
        assert!(
            first.contains(&format!("event: section\ndata: {section}\n")),
            "{first}"
        );
    }
    live.ok("POST /{id}/pause", &[id], serde_json::Value::Null)
        .await;
    let (took, second) = until(&mut stream, "The job is paused", Duration::from_secs(5)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(
        !second.contains("data: map\n"),
        "the map has not changed: {second}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let live = Live::new(&[]).await;
    let token = token_named(&live.db, "short", &[Scope::PoolRead]).await;
    let stream = Browser::with(&token)
        .ask(&live, "get", "/dashboard/live/pool")
        .send()
        .await;
    let mut stream = stream.unwrap();
    until(&mut stream, "data: totals\n", Duration::from_secs(5)).await;
    Tokens::new(&pool(&live.db))
        .revoke("short", SystemClock.now())
        .await
        .unwrap();
    let (took, _) = until(&mut stream, "event: end\n", Duration::from_secs(10)).await;
    assert!(took < Duration::from_secs(10));
    let rest = tokio::time::timeout(Duration::from_secs(2), stream.chunk()).await;
    assert_eq!(rest.unwrap().unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_streams_are_open_than_the_settings_allow_and_calls_are_answered() {
    let live = Live::new(&[
        ("UTXOIQ_STORE_SERVER__MAX_LIVE_STREAMS", "2"),
        ("UTXOIQ_STORE_SERVER__MAX_REQUESTS_IN_FLIGHT", "2"),
        ("UTXOIQ_STORE_SERVER__REQUEST_TIMEOUT_SECONDS", "2"),
        (
            "UTXOIQ_STORE_DATABASE__STATEMENT_TIMEOUT_MILLISECONDS",
            "1500",
        ),
        ("UTXOIQ_STORE_DATABASE__LOCK_TIMEOUT_MILLISECONDS", "1000"),
    ])
    .await;
    let browser = Browser::with(&live.token);
    let open = async || {
        browser
            .ask(&live, "get", "/dashboard/live/pool")
            .send()
            .await
            .unwrap()
    };
    let (mut one, two) = (open().await, open().await);
    assert_eq!(
        (one.status(), two.status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    // A third one would never end.
    let third = browser.ask(&live, "get", "/dashboard/live/pool");
    let refused = answer(third.timeout(Duration::from_secs(5))).await;
    assert_eq!(refused.problem(503), "too_many_live_pages");
    // They take no place of those that are worked on, nor does a request's time end them.
    browser.get(&live, "/dashboard/pool").await.page(200);
    tokio::time::sleep(Duration::from_secs(3)).await;
    live.ok("POST /start", &[], start("beside", 0, 9)).await;
    until(&mut one, "data: cards\n", Duration::from_secs(5)).await;
    drop((one, two));
    let began = Instant::now();
    while open().await.status() != 200 {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "its place is not free"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_does_not_hold_up_the_end_of_the_process() {
    let mut live = Live::new(&[]).await;
    let browser = Browser::with(&live.token);
    let stream = browser
        .ask(&live, "get", "/dashboard/live/overview")
        .send()
        .await;
    let mut stream = stream.unwrap();
    until(&mut stream, "data: below\n", Duration::from_secs(5)).await;
    let began = Instant::now();
    live.stop().await;
    while stream.chunk().await.unwrap_or(None).is_some() {}
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_what_cannot_be_read_is_refused_at_once() {
    let live = Live::new(&[]).await;
    let browser = Browser::with(&live.token);
    let refused = browser
        .get(&live, "/dashboard/live/backfill?state=%ff")
        .await;
    assert_eq!(refused.problem(422), "invalid_input");
}

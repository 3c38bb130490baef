//! What is told to somebody outside.

use std::time::Duration;

use utxoiq_store::{alert::Heartbeat, config::Secret};
use utxoiq_store_testkit::Receiver;
use uuid::Uuid;

fn heartbeat(url: &str) -> Heartbeat {
    Heartbeat::new(Some(&Secret::new(url)), Duration::from_millis(300)).unwrap()
}

#[tokio::test]
async fn a_start_a_success_and_a_failure_are_told_with_their_run() {
    let receiver = Receiver::start().await;
    let run = Uuid::from_u128(7);
    for (path, slash) in [("/ping/abc", ""), ("/ping/abc/", "/")] {
        let beat = heartbeat(&receiver.url(path));
        assert!(beat.is_configured());
        assert!(beat.start(run).await);
        assert!(beat.success(run, "12 tables\n").await);
        assert!(beat.failure(run, &"x".repeat(100_000)).await);
        let told = receiver.taken().split_off(receiver.taken().len() - 3);
        let targets: Vec<&str> = told.iter().map(|told| told.target.as_str()).collect();
        let expected = ["/start", slash, "/fail"].map(|what| format!("/ping/abc{what}?rid={run}"));
        assert_eq!(targets, expected);
        assert_eq!(
            (told[1].text().as_str(), told[2].body.len()),
            ("12 tables\n", 5_000)
        );
    }
    let nobody = Heartbeat::new(None, Duration::from_secs(1)).unwrap();
    assert!(!nobody.is_configured() && !nobody.success(run, "").await);
}

#[tokio::test]
async fn it_is_tried_four_times_and_never_holds_its_caller_up_for_long() {
    let receiver = Receiver::start().await;
    let beat = heartbeat(&receiver.url("/ping"));
    let run = Uuid::from_u128(7);
    receiver.fail(3);
    assert!(beat.success(run, "").await);
    assert_eq!(receiver.requests().len(), 4);
    receiver.fail(4);
    assert!(!beat.success(run, "").await);
    assert_eq!(receiver.requests().len(), 8);
    receiver.hang(true);
    let began = std::time::Instant::now();
    assert!(!beat.start(run).await);
    let took = began.elapsed();
    assert!((4_500..9_000).contains(&took.as_millis()), "{took:?}");
}

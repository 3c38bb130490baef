//! Several processes on one database.

use std::{collections::BTreeMap, time::Duration};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_several_processes_see_and_send_at_once_is_told_once() {
    let house = Arc::new(House::new().await);
    let processes: Vec<Arc<Process>> = (0..3)
        .map(|_| Arc::new(house.process(&["webhook", "slack"])))
        .collect();
    let conditions: Vec<Condition> = (0..40).map(|n| wrong(&format!("wrong {n}"))).collect();
    for round in 0..5_i32 {
        let now = start() + minutes(60) * round;
        let mut observing = tokio::task::JoinSet::new();
        for process in processes.iter().cycle().take(9) {
            let (process, conditions) = (Arc::clone(process), conditions.clone());
            observing.spawn(async move { process.observe(&conditions, now).await.opened });
        }
        let opened: usize = observing.join_all().await.into_iter().sum();
        assert_eq!(opened, if round == 0 { 40 } else { 0 });
        let together = Arc::new(tokio::sync::Barrier::new(9));
        let mut sending = tokio::task::JoinSet::new();
        for process in processes.iter().cycle().take(9) {
            let (process, together) = (Arc::clone(process), Arc::clone(&together));
            sending.spawn(async move {
                together.wait().await;
                process.deliver(now).await.sent
            });
        }
        let sent: usize = sending.join_all().await.into_iter().sum();
        assert_eq!(
            sent,
            3 * 40,
            "round {round}: the log, the webhook and Slack"
        );
    }
    let mut times = BTreeMap::<String, usize>::new();
    for notice in told(&house.webhook) {
        *times.entry(notice["notice_id"].to_string()).or_default() += 1;
    }
    assert_eq!(times.len(), 5 * 40);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    assert_eq!(processes[0].list(Filter::All).await.len(), 40);
}

#[tokio::test]
async fn what_a_process_was_sending_when_it_died_is_sent_by_another_one() {
    let house = House::new().await;
    let (dying, other) = (house.process(&["webhook"]), house.process(&["webhook"]));
    dying.observe(&[wrong("late")], start()).await;
    house.webhook.hang(true);
    let dropped = tokio::time::timeout(Duration::from_millis(500), dying.deliver(start())).await;
    assert!(dropped.is_err(), "it was sending");
    assert_eq!(house.webhook.requests().len(), 1);
    house.webhook.hang(false);
    // A second for an answer, and a minute for clocks that differ.
    let claimed_until = start() + seconds(61);
    for (now, told) in [
        (claimed_until - MICROSECOND, 0),
        (claimed_until, 1),
        (claimed_until + MICROSECOND, 0),
    ] {
        assert_eq!(other.deliver(now).await, sent(told, 0), "{now}");
    }
    assert_eq!(kinds(&house.webhook), ["firing"]);
}

#[tokio::test]
async fn the_end_is_not_told_while_the_beginning_is_being_sent() {
    let house = House::new().await;
    let (sending, other) = (house.process(&["webhook"]), house.process(&["webhook"]));
    sending.observe(&[wrong("late")], start()).await;
    house.webhook.hang(true);
    let dropped = tokio::time::timeout(Duration::from_millis(500), sending.deliver(start())).await;
    assert!(dropped.is_err());
    house.webhook.hang(false);
    other.observe(&[], start() + seconds(1)).await;
    assert_eq!(
        other.deliver(start() + seconds(60)).await,
        sent(1, 0),
        "the log"
    );
    assert_eq!(other.deliver(start() + seconds(61)).await, sent(1, 0));
    assert_eq!(kinds(&house.webhook), ["resolved"]);
}

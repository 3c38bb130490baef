//! Without the database.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use futures_util::FutureExt as _;
use utxoiq_store::alert::{AlertSink, Notice, Sent};

use super::*;

impl Process {
    async fn without(&self, conditions: &[Condition], now: DateTime<Utc>) -> Delivered {
        self.alerts
            .deliver_without_database("test", conditions, now)
            .await
    }
}

#[tokio::test]
async fn it_is_told_repeated_and_ended_from_memory_and_then_all_is_in_the_database() {
    let house = House::new().await;
    let process = house.process(&["webhook"]);
    let gone = [wrong("database_gone"), wrong("backup_late")];
    house.webhook.fail(1);
    assert_eq!(process.without(&gone, start()).await, sent(3, 1));
    let hour = start() + minutes(60);
    for (now, expected) in [
        (start() + seconds(30) - MICROSECOND, sent(0, 0)),
        (start() + seconds(30), sent(1, 0)),
        (hour - MICROSECOND, sent(0, 0)),
        (hour, sent(3, 0)),
        (hour + seconds(30), sent(1, 0)),
    ] {
        assert_eq!(process.without(&gone, now).await, expected, "{now}");
    }
    // One is over while the database is still away; it began without it, so that can be told.
    let over = hour + minutes(1);
    assert_eq!(process.without(&gone[..1], over).await, sent(2, 0));

    // The database is back, which ends the other one; what was told is not told again.
    let back = hour + minutes(2);
    let observed = process.observe(&[], back).await;
    assert_eq!(
        observed,
        Observed {
            opened: 0,
            resolved: 1
        }
    );
    assert_eq!(process.deliver(back).await, sent(2, 0));
    let all = process.list(Filter::All).await;
    assert_eq!(all.len(), 2);
    for listed in &all {
        assert_eq!(listed.alert.opened_at, start());
        let ended = if listed.alert.key == "backup_late" {
            over
        } else {
            back
        };
        assert_eq!(listed.alert.resolved_at, Some(ended));
        assert_eq!(progress(listed, "webhook", What::Firing).deliveries, 2);
        assert_eq!(progress(listed, "webhook", What::Resolved).deliveries, 1);
    }
    assert_eq!(process.deliver(back + minutes(90)).await, sent(0, 0));
    let mut kinds = kinds(&house.webhook);
    kinds.sort();
    assert_eq!(
        kinds,
        [
            "firing", "firing", "repeated", "repeated", "resolved", "resolved"
        ]
    );
}

#[tokio::test]
async fn it_goes_on_from_what_was_told_through_the_database_and_back_again() {
    let house = House::new().await;
    let (process, other) = (house.process(&["webhook"]), house.process(&["webhook"]));
    let both = [wrong("late"), wrong("taken")];
    process.observe(&both, start()).await;
    process.acknowledge("taken", start()).await;
    // Another process tells it, and this one has heard of it.
    assert_eq!(other.deliver(start()).await, sent(2, 0));
    assert_eq!(process.deliver(start() + minutes(1)).await, sent(0, 0));

    let hour = start() + minutes(60);
    for (now, told) in [
        (start() + minutes(2), 0),
        (hour - MICROSECOND, 0),
        (hour, 2),
        (hour + MICROSECOND, 0),
    ] {
        assert_eq!(process.without(&both, now).await, sent(told, 0), "{now}");
    }
    // What the database knows is over when it is back.
    assert_eq!(process.without(&[], hour + minutes(1)).await, sent(0, 0));

    // Back: nobody repeats what was repeated meanwhile.
    let back = hour + minutes(2);
    process.observe(&both, back).await;
    assert_eq!(other.deliver(back).await, sent(0, 0));
    assert_eq!(
        other.deliver(hour + minutes(60) - MICROSECOND).await,
        sent(0, 0)
    );
    assert_eq!(other.deliver(hour + minutes(60)).await, sent(2, 0));
    assert_eq!(kinds(&house.webhook), ["firing", "repeated", "repeated"]);
    assert_eq!(process.list(Filter::All).await.len(), 2);
}

#[tokio::test]
async fn what_another_process_opened_meanwhile_is_the_same_alert() {
    let house = House::new().await;
    let (process, other) = (house.process(&["webhook"]), house.process(&["webhook"]));
    let late = [wrong("late")];
    assert_eq!(process.without(&late, start()).await, sent(2, 0));
    // The other one reaches the database first, and knows of nothing.
    let now = start() + minutes(1);
    other.observe(&late, now).await;
    assert_eq!(other.deliver(now).await, sent(2, 0));
    process.observe(&late, now).await;
    assert_eq!(process.deliver(now).await, sent(0, 0));
    assert_eq!(process.one().await.alert.opened_at, now);
    // And it is the one that is remembered.
    process.acknowledge("late", now).await;
    assert_eq!(
        process.without(&late, start() + minutes(90)).await,
        sent(0, 0)
    );
}

/// Takes the database away while it takes a notice.
struct Taking {
    pool: Pool,
    armed: AtomicBool,
}

impl AlertSink for Taking {
    fn name(&self) -> &'static str {
        "taking"
    }

    fn deliver<'a>(&'a self, _: &'a Notice) -> Sent<'a> {
        if self.armed.load(SeqCst) {
            self.pool.close();
        }
        async { Ok(()) }.boxed()
    }
}

#[tokio::test]
async fn what_was_sent_while_the_database_went_away_is_not_sent_again() {
    let house = House::new().await;
    let config = house.config(&[]);
    let (pool, good) = (
        Pool::open(&config.database).unwrap(),
        Pool::open(&config.database).unwrap(),
    );
    let taking = Arc::new(Taking {
        pool: pool.clone(),
        armed: AtomicBool::new(true),
    });
    let alerts = Alerts::with_sinks(&config.alert, vec![taking.clone()]).unwrap();
    let late = [wrong("late")];
    alerts.observe(&pool, "test", &late, start()).await.unwrap();
    assert!(
        alerts.deliver(&pool, start()).await.is_err(),
        "it could not be recorded"
    );
    taking.armed.store(false, SeqCst);
    let without = alerts.deliver_without_database("test", &late, start() + seconds(5));
    assert_eq!(without.await, sent(0, 0));
    // Beyond the claim that nobody has ended.
    let back = start() + minutes(10);
    alerts.observe(&good, "test", &late, back).await.unwrap();
    assert_eq!(alerts.deliver(&good, back).await.unwrap(), sent(0, 0));
    assert_eq!(
        alerts.deliver(&good, start() + minutes(60)).await.unwrap(),
        sent(1, 0)
    );
}

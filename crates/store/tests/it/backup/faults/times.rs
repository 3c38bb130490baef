//! Schedules that stop, clocks that jump, receivers that are away, and processes that are gone.

use utxoiq_store::{schedule::Scheduler, worker};

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-03-{text}Z").parse().unwrap()
}

#[tokio::test]
async fn a_backup_that_no_schedule_begins_is_told_by_five_past_one() {
    let (_house, mut night) = Night::new(&[]).await;
    night.clock.set(at("02T00:40:00"));
    // Nobody ever ran the schedule; and one who did, the night before.
    for day in ["02", "03"] {
        while night
            .notices(&format!("backup_missing:2026-03-{day}"))
            .is_empty()
        {
            night.look().await;
            night.clock.advance(STEP);
            assert!(
                night.now() <= at(&format!("{day}T01:05:30")),
                "it is not told"
            );
        }
        let told = night.notices(&format!("backup_missing:2026-03-{day}"));
        let sent_at: DateTime<Utc> = told[0]["sent_at"].as_str().unwrap().parse().unwrap();
        assert!(sent_at <= at(&format!("{day}T01:05:00")), "{sent_at}");
        assert!(sent_at > at(&format!("{day}T01:03:00")), "{sent_at}");
        night.is_made_good("backup_missing").await;
        night.next_night();
        night.clock.set(night.slot - TimeDelta::minutes(5));
    }
}

#[tokio::test]
async fn a_clock_that_jumps_prunes_nothing_needed_and_is_told_once() {
    let (house, mut night) = Night::new(&[
        ("UTXOIQ_STORE_BACKUP__KEEP_DAILY", "3"),
        ("UTXOIQ_STORE_BACKUP__KEEP_WEEKLY", "0"),
    ])
    .await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(night.make().await.unwrap());
        night.next_night();
    }
    let pruned = async |night: &Night| {
        let backups = night.store.backups();
        let plan = backups.prune(night.now(), ACTOR).await.unwrap();
        let gone = plan.iter().filter(|one| !one.verdict.keep);
        gone.map(|one| one.backup.id).collect::<Vec<_>>()
    };
    // Three days ahead: the newest slot is missing, and not all of them.
    night.clock.set(at("07T12:00:00"));
    let told = night.is_told("backup_missing").await;
    assert_eq!(told["alert"]["key"], "backup_missing:2026-03-07");
    assert_eq!(night.notices("backup_missing").len(), 1);
    assert!(pruned(&night).await.is_empty());
    // It is right again, and then a day behind.
    for time in ["04T01:06:00", "03T01:10:00", "01T00:00:00"] {
        night.clock.set(at(time));
        night.look().await;
        assert!(pruned(&night).await.is_empty(), "{time}");
    }
    assert!(night.open().await.iter().all(|key| !key.contains("03-07")));
    // A year ahead a backup is made: one takes the oldest one's place, as it would on any day.
    night.clock.set(at("04T01:00:00") + TimeDelta::days(365));
    night.slot = night.now();
    night.look().await;
    night.make().await.unwrap();
    night.look().await;
    assert_eq!(pruned(&night).await, [made[0].id]);
    // Back, with a backup from the future: what is made now is made, and nothing is taken for it.
    night.slot = at("04T01:00:00");
    night.clock.set(night.slot);
    let now = night.make().await.unwrap();
    assert_eq!(now.state.as_str(), "verified");
    night.look().await;
    assert!(pruned(&night).await.is_empty());
    for kept in &made[1..] {
        assert!(house.file(kept.key).exists());
    }
}

/// Somebody else to tell, beside the webhook.
async fn with_another(more: &[(&str, &str)]) -> (House, Night, Receiver) {
    let other = Receiver::start().await;
    let url = other.url("/slack");
    let more = [&[("UTXOIQ_STORE_ALERT__SLACK_URL", url.as_str())], more].concat();
    let (house, night) = Night::new(&more).await;
    (house, night, other)
}

/// What lets each backup fail.
const NO_TOOLS: (&str, &str) = ("UTXOIQ_STORE_BACKUP__TOOLS_DIR", "/nonexistent");

#[tokio::test]
async fn with_one_receiver_down_the_other_is_told_and_the_first_one_when_it_is_back() {
    let (_house, mut night, other) = with_another(&[NO_TOOLS]).await;
    night.hook.down().await;
    night.make().await.unwrap_err();
    for _ in 0..4 {
        night.look().await;
        night.clock.advance(STEP);
    }
    let told = || {
        let taken = other.taken().into_iter();
        taken.filter(|one| one.text().contains("failed")).count()
    };
    assert_eq!(told(), 1);
    assert!(night.notices("").is_empty());
    night.hook.up().await;
    night.is_told("backup_failed").await;
    assert_eq!(told(), 1, "nobody is told twice");
}

#[tokio::test]
async fn it_is_told_again_until_it_is_taken_and_tomorrow_is_another_day() {
    let (house, mut night) = Night::new(&[NO_TOOLS]).await;
    night.make().await.unwrap_err();
    let told = night.is_told("backup_failed").await;
    let kinds = |night: &Night| {
        let told = night.notices("backup_failed").into_iter();
        told.map(|one| one["kind"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let hours = async |night: &mut Night, hours: i64| {
        for _ in 0..hours * 120 {
            night.clock.advance(STEP);
            night.look().await;
        }
    };
    // Every hour.
    hours(&mut night, 2).await;
    assert_eq!(kinds(&night), ["firing", "repeated", "repeated"]);
    let (alerts, pool) = (night.store.alerts(), night.store.pool());
    let key = told["alert"]["key"].as_str().unwrap();
    let taken = alerts.acknowledge(pool, key, "ann", Some("on it"), night.now());
    taken.await.unwrap();
    hours(&mut night, 2).await;
    assert_eq!(kinds(&night).len(), 3);
    night.next_night();
    night.make().await.unwrap_err();
    night.is_told("backup_failed").await;
    assert_eq!(kinds(&night), ["firing", "repeated", "repeated", "firing"]);
    // Both are made good by one, and both ends are told.
    let good = house.another(&night.and_told(&[]));
    night.change(good);
    night.is_made_good("backup_failed").await;
    assert_eq!(kinds(&night)[4..], ["resolved", "resolved"]);
    assert_eq!(night.open().await, [""; 0]);
}

/// Somebody outside who listens, in the form of healthchecks.io: it raises the alarm when nothing comes, or a failure does.
struct Outside {
    listens: Receiver,
    heard: Vec<(DateTime<Utc>, String)>,
}

impl Outside {
    /// Notes what came since the last time.
    fn note(&mut self, now: DateTime<Utc>) {
        let all = self.listens.taken();
        let new = all[self.heard.len()..].iter();
        let path = |target: &str| target.split('?').next().unwrap_or_default().to_owned();
        self.heard.extend(new.map(|one| (now, path(&one.target))));
    }

    /// Whether there is an alarm about something that is due at a time, and may be late by so much.
    fn misses(&self, due_at: DateTime<Utc>, grace: TimeDelta, now: DateTime<Utc>) -> bool {
        let came = self.heard.iter().any(|(at, _)| *at >= due_at);
        now >= due_at + grace && !came
    }

    /// What was told last.
    fn last(&self) -> &str {
        self.heard.last().map_or("", |(_, path)| path)
    }
}

#[tokio::test]
async fn with_the_last_process_gone_somebody_outside_raises_the_alarm_at_five_past_one() {
    let mut outside = Outside {
        listens: Receiver::start().await,
        heard: Vec::new(),
    };
    let mut life = Outside {
        listens: Receiver::start().await,
        heard: Vec::new(),
    };
    let (backup, watch) = (outside.listens.url("/ping/b"), life.listens.url("/ping/w"));
    let (house, mut night) = Night::new(&[
        ("UTXOIQ_STORE_ALERT__BACKUP_HEARTBEAT_URL", &backup),
        ("UTXOIQ_STORE_ALERT__WATCH_HEARTBEAT_URL", &watch),
    ])
    .await;
    night.clock.set(night.slot - TimeDelta::minutes(2));
    let scheduler = |store: &Store| {
        let tasks = worker::tasks(store).into_iter();
        let tasks = tasks.filter(|task| task.name == "make_backup").collect();
        let settings = store.config().schedule.clone();
        Scheduler::new(store.pool().clone(), store.clock(), tasks, settings, "test").unwrap()
    };
    // The first night goes well.
    let schedule = scheduler(&night.store);
    for _ in 0..12 {
        schedule.tick(night.now()).await.unwrap();
        night.look().await;
        outside.note(night.now());
        life.note(night.now());
        let last = life.heard.last().unwrap().0;
        assert!(night.now() - last <= TimeDelta::seconds(60));
        night.clock.advance(STEP);
    }
    assert_eq!(outside.heard.len(), 2);
    assert_eq!(outside.heard[0], (night.slot, "/ping/b/start".to_owned()));
    assert_eq!(outside.last(), "/ping/b");
    assert!(night.notices("").is_empty(), "{:?}", night.notices(""));
    let five = TimeDelta::minutes(5);
    assert!(!outside.misses(night.slot, five, night.now()));

    // In the second one a backup fails, which is told outside, too.
    night.next_night();
    let failing = house.another(&night.and_told(&[
        NO_TOOLS,
        ("UTXOIQ_STORE_ALERT__BACKUP_HEARTBEAT_URL", &backup),
    ]));
    scheduler(&failing).tick(night.now()).await.unwrap();
    outside.note(night.now());
    assert_eq!(outside.last(), "/ping/b/fail");
    night.is_told("backup_failed").await;

    // In the third one nobody is there.
    let gone_at = night.now();
    night.next_night();
    let mut now = gone_at;
    let mut raised = (None, None);
    while now < night.slot + TimeDelta::minutes(10) {
        outside.note(now);
        life.note(now);
        if outside.misses(night.slot, five, now) {
            raised.0.get_or_insert(now);
        }
        if life.misses(gone_at + TimeDelta::seconds(1), five, now) {
            raised.1.get_or_insert(now);
        }
        now += STEP;
    }
    assert_eq!(raised.0, Some(night.slot + five));
    assert!(raised.1.unwrap() <= gone_at + five + STEP);
}

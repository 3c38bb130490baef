//! Alerts: what is wrong is told to everyone, again and again, until it is taken or over.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use utxoiq_store::{
    alert::{Alerts, Condition, Delivered, Filter, Listed, Observed, Progress, Severity, What},
    config::Config,
    db::Pool,
};
use utxoiq_store_testkit::{Mailbox, Receiver};

use crate::support::TestDb;

mod away;
mod heartbeat;
mod receivers;
mod repeats;
mod together;

/// What every secret of these tests has in it.
const MARK: &str = "s3cr3t-mark";
const SECRET: &str = "s3cr3t-mark-of-the-webhook";
const TO: [&str; 2] = ["ops@example.com", "night@example.com"];

fn start() -> DateTime<Utc> {
    "2026-11-23T01:05:00Z".parse().unwrap()
}

fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

const MICROSECOND: TimeDelta = TimeDelta::microseconds(1);

fn condition(key: &str, severity: Severity) -> Condition {
    Condition {
        key: key.to_owned(),
        severity,
        title: format!("{key} is wrong"),
        detail: "since <yesterday> & today".to_owned(),
        runbook: "docs/operations/alerts.md",
        labels: BTreeMap::from([("the task".to_owned(), "make_backup".to_owned())]),
    }
}

fn wrong(key: &str) -> Condition {
    condition(key, Severity::Critical)
}

/// A database, and everyone who may be told.
struct House {
    db: TestDb,
    webhook: Receiver,
    slack: Receiver,
    manager: Receiver,
    mailbox: Mailbox,
}

impl House {
    async fn new() -> Self {
        Self {
            db: TestDb::new().await,
            webhook: Receiver::start().await,
            slack: Receiver::start().await,
            manager: Receiver::start().await,
            mailbox: Mailbox::start().await,
        }
    }

    fn config(&self, names: &[&str]) -> Config {
        let all = [
            (
                "webhook",
                "WEBHOOK_URL",
                self.webhook.url(&format!("/hook/{MARK}?token={MARK}")),
            ),
            ("webhook", "WEBHOOK_SECRET", SECRET.to_owned()),
            (
                "slack",
                "SLACK_URL",
                self.slack.url(&format!("/services/{MARK}")),
            ),
            (
                "manager",
                "ALERTMANAGER_URL",
                self.manager.url(&format!("/{MARK}/")),
            ),
            ("mail", "SMTP_URL", self.mailbox.url("user", MARK)),
            (
                "mail",
                "EMAIL_FROM",
                "utxoIQ Store <alerts@example.com>".to_owned(),
            ),
            ("mail", "EMAIL_TO", TO.join(", ")),
        ];
        let mut vars: Vec<(String, String)> = all
            .into_iter()
            .filter(|(sink, _, _)| names.contains(sink))
            .map(|(_, key, value)| (format!("UTXOIQ_STORE_ALERT__{key}"), value))
            .collect();
        vars.push(("UTXOIQ_STORE_ALERT__TIMEOUT_SECONDS".into(), "1".into()));
        vars.push(("UTXOIQ_STORE_DATABASE__POOL_MIN".into(), "1".into()));
        let vars: Vec<(&str, &str)> = vars.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        self.db.settings_with(&vars)
    }

    /// Alerts and a pool as a process has them, with some receivers.
    fn process(&self, names: &[&str]) -> Process {
        let config = self.config(names);
        Process {
            alerts: Alerts::open(&config).unwrap(),
            pool: Pool::open(&config.database).unwrap(),
        }
    }
}

struct Process {
    alerts: Alerts,
    pool: Pool,
}

impl Process {
    async fn observe(&self, conditions: &[Condition], now: DateTime<Utc>) -> Observed {
        let observed = self.alerts.observe(&self.pool, "test", conditions, now);
        observed.await.unwrap()
    }

    async fn deliver(&self, now: DateTime<Utc>) -> Delivered {
        self.alerts.deliver(&self.pool, now).await.unwrap()
    }

    async fn list(&self, filter: Filter) -> Vec<Listed> {
        let page = self.alerts.list(&self.pool, filter, 100, 0).await.unwrap();
        assert!(!page.has_more);
        page.alerts
    }

    async fn one(&self) -> Listed {
        let mut all = self.list(Filter::All).await;
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    async fn acknowledge(&self, which: &str, now: DateTime<Utc>) {
        let acknowledged = self
            .alerts
            .acknowledge(&self.pool, which, "ann", Some("on it"), now);
        acknowledged.await.unwrap();
    }
}

fn sent(sent: usize, failed: usize) -> Delivered {
    Delivered { sent, failed }
}

fn progress<'a>(listed: &'a Listed, sink: &str, what: What) -> &'a Progress {
    let mut all = listed.deliveries.iter();
    all.find(|progress| progress.sink == sink && progress.what == what)
        .unwrap_or_else(|| panic!("{sink} was not told: {listed:?}"))
}

/// The notices that a webhook took.
fn told(receiver: &Receiver) -> Vec<Value> {
    let taken = receiver.taken();
    let told = taken
        .iter()
        .map(|taken| serde_json::from_slice(&taken.body).unwrap());
    told.collect()
}

/// What they were, in order.
fn kinds(receiver: &Receiver) -> Vec<String> {
    let kinds = told(receiver);
    let kinds = kinds
        .iter()
        .map(|notice| notice["kind"].as_str().unwrap().to_owned());
    kinds.collect()
}

#[tokio::test]
async fn a_condition_is_one_alert_while_it_holds() {
    let house = House::new().await;
    let process = house.process(&[]);
    let (late, failed) = (wrong("late"), condition("failed", Severity::Warning));
    let both = [late.clone(), failed.clone()];
    assert_eq!(
        process.observe(&both, start()).await,
        Observed {
            opened: 2,
            resolved: 0
        }
    );
    let first = process.list(Filter::Open).await;
    assert_eq!(first.len(), 2);

    // Again: nothing but what is known of it.
    let mut more = late.clone();
    more.detail = "since\u{0}the day before\nyesterday\u{7}".to_owned();
    more.labels.insert("new".into(), "label".into());
    let later = start() + minutes(1);
    assert_eq!(
        process
            .observe(&[more.clone(), failed.clone()], later)
            .await,
        Observed::default()
    );
    let second = process.list(Filter::Open).await;
    let late_alert = |all: &[Listed]| {
        all.iter()
            .find(|one| one.alert.key == "late")
            .unwrap()
            .alert
            .clone()
    };
    let (before, after) = (late_alert(&first), late_alert(&second));
    assert_eq!(
        (after.id, after.opened_at, after.seen_at),
        (before.id, start(), later)
    );
    assert_eq!(after.detail, "since the day before\nyesterday ");
    assert_eq!(
        after.labels, before.labels,
        "collectors tell alerts apart by them"
    );

    // No longer named: over. Named again: a new one.
    let over = start() + minutes(2);
    assert_eq!(
        process.observe(std::slice::from_ref(&failed), over).await,
        Observed {
            opened: 0,
            resolved: 1
        }
    );
    assert_eq!(
        late_alert(&process.list(Filter::All).await).resolved_at,
        Some(over)
    );
    let back = start() + minutes(3);
    assert_eq!(
        process.observe(&both, back).await,
        Observed {
            opened: 1,
            resolved: 0
        }
    );
    let open = late_alert(&process.list(Filter::Open).await);
    assert_ne!(open.id, before.id);
    assert_eq!(process.list(Filter::All).await.len(), 3);

    // Other sources' alerts are theirs.
    let other = process.alerts.observe(&process.pool, "other", &[], back);
    assert_eq!(other.await.unwrap(), Observed::default());
    let theirs = [wrong("late"), wrong("mine")];
    let taken = process
        .alerts
        .observe(&process.pool, "other", &theirs, back);
    assert!(
        taken
            .await
            .unwrap_err()
            .to_string()
            .contains("other sources")
    );
    assert_eq!(
        process.list(Filter::Open).await.len(),
        3,
        "what was right is told"
    );
}

#[tokio::test]
async fn an_observation_from_before_the_latest_is_none_unless_a_clock_was_wrong() {
    let house = House::new().await;
    let process = house.process(&[]);
    process.observe(&[wrong("late")], start()).await;
    // A slower process saw that all was well, before.
    assert_eq!(
        process.observe(&[], start() - MICROSECOND).await,
        Observed::default()
    );
    assert_eq!(
        process.observe(&[], start() - minutes(5)).await,
        Observed::default()
    );
    assert_eq!(process.list(Filter::Open).await.len(), 1);
    // The clock had jumped ahead and is right again: it is heard at once.
    let back = start() - minutes(5) - MICROSECOND;
    assert_eq!(
        process.observe(&[], back).await,
        Observed {
            opened: 0,
            resolved: 1
        }
    );
    assert_eq!(
        process.one().await.alert.resolved_at,
        Some(start()),
        "not before it opened"
    );
    // The same moment twice is no contradiction.
    assert_eq!(process.observe(&[wrong("late")], back).await.opened, 1);
}

#[tokio::test]
async fn what_is_too_long_is_told_shortened() {
    let house = House::new().await;
    let process = house.process(&["webhook"]);
    let mut long = wrong(&"k".repeat(300));
    long.title = "ä".repeat(300);
    long.detail = "ß".repeat(5_000);
    long.labels = BTreeMap::from([("n".repeat(200), "v".repeat(900))]);
    let mut empty = wrong("");
    empty.title = "\u{0}".to_owned();
    let twice = condition("", Severity::Warning);
    process.observe(&[long, twice, empty], start()).await;
    assert_eq!(process.deliver(start()).await, sent(4, 0));
    let told = told(&house.webhook);
    let of =
        |key: &str| told.iter().find(|one| one["alert"]["key"] == key).unwrap()["alert"].clone();
    let characters = |value: &Value| value.as_str().unwrap().chars().count();
    let cut = of(&"k".repeat(200));
    assert_eq!(
        (characters(&cut["title"]), characters(&cut["detail"])),
        (200, 4_000)
    );
    let nameless = of("unnamed");
    assert_eq!(
        (&nameless["severity"], &nameless["title"]),
        (&"critical".into(), &"unnamed".into())
    );
}

#[tokio::test]
async fn resolved_alerts_are_removed_after_400_days() {
    let house = House::new().await;
    let process = house.process(&[]);
    process
        .observe(&[wrong("late"), wrong("failed")], start())
        .await;
    process.deliver(start()).await;
    process.observe(&[wrong("failed")], start()).await;
    let end = start() + TimeDelta::days(400);
    for (now, removed, left) in [
        (end - MICROSECOND, 0, 2),
        (end, 0, 2),
        (end + MICROSECOND, 1, 1),
    ] {
        assert_eq!(
            process.alerts.prune(&process.pool, now).await.unwrap(),
            removed
        );
        assert_eq!(process.list(Filter::All).await.len(), left);
    }
    assert_eq!(
        process.one().await.alert.key,
        "failed",
        "what is open stays"
    );
}

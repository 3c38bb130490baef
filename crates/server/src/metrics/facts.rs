//! What the database knows of the tasks, the backups, the alerts and what is kept: asked when somebody scrapes, at most every
//! [`FOR`], by one at a time, and for [`WITHIN`] at the longest.
//!
//! All of it are times and not ages, so that a figure is right however long ago it was asked for. Where the database does not
//! answer, what was known last is told, and `facts_timestamp_seconds` says since when.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use utxoiq_store::{
    Result, Store,
    alert::{Filter, Severity},
    metrics::Kept,
    schedule::{Scheduler, SlotState, TaskStatus},
};

use super::{gauge, signed};

/// How long facts are told again before they are asked for anew.
const FOR: Duration = Duration::from_secs(10);

/// How long a scrape waits for them.
const WITHIN: Duration = Duration::from_secs(2);

/// The most open alerts that are counted.
const MOST_ALERTS: i64 = 1_000;

/// So many of the newest backups are looked at: more than are ever kept.
const MOST_BACKUPS: i64 = 60;

/// The facts, and how they are asked for. Clones share them.
#[derive(Clone)]
pub(super) struct Facts {
    store: Store,
    scheduler: Scheduler,
    known: Arc<Mutex<Option<Known>>>,
    asking: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

/// What was found.
#[derive(Clone)]
struct Known {
    at: DateTime<Utc>,
    tasks: Vec<TaskStatus>,
    alerts: Alerts,
    backups: Backups,
    kept: Kept,
}

#[derive(Clone, Default)]
struct Alerts {
    warning: usize,
    critical: usize,
    unacknowledged: usize,
    failing: BTreeMap<String, usize>,
}

#[derive(Clone, Default)]
struct Backups {
    is_configured: bool,
    kept: usize,
    verified_at: Option<DateTime<Utc>>,
    proved_at: Option<DateTime<Utc>>,
    copied_at: Option<DateTime<Utc>>,
    bytes: u64,
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Facts")
    }
}

impl Facts {
    pub(super) fn new(store: &Store, scheduler: &Scheduler) -> Self {
        Self {
            store: store.clone(),
            scheduler: scheduler.clone(),
            known: Arc::default(),
            asking: Arc::default(),
        }
    }

    /// Asks again, if that was not done lately. Whoever comes meanwhile waits for the one who asks.
    pub(super) async fn refresh(&self) {
        let asked = async {
            let mut asking = self.asking.lock().await;
            if asking.is_some_and(|at| at.elapsed() < FOR) {
                return;
            }
            // Also where it fails: a database that is away is not asked at each scrape.
            *asking = Some(Instant::now());
            match self.ask(self.store.now()).await {
                Ok(known) => {
                    *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
                }
                Err(error) => {
                    tracing::debug!(error = %error.report(), "facts for a scrape could not be asked for");
                }
            }
        };
        // What is not there in time comes with the next scrape.
        let _ = tokio::time::timeout(WITHIN, asked).await;
    }

    async fn ask(&self, now: DateTime<Utc>) -> Result<Known> {
        Ok(Known {
            at: now,
            tasks: self.scheduler.status(now).await?,
            alerts: self.alerts().await?,
            backups: self.backups().await?,
            kept: self.store.metrics().kept(now).await?,
        })
    }

    async fn alerts(&self) -> Result<Alerts> {
        let pool = self.store.pool();
        let page = self
            .store
            .alerts()
            .list(pool, Filter::Open, MOST_ALERTS, 0)
            .await?;
        let mut found = Alerts::default();
        // A receiver that is told nothing wrong is told of, too.
        for sink in self.store.alerts().sinks() {
            found.failing.insert(sink, 0);
        }
        for listed in page.alerts {
            match listed.alert.severity {
                Severity::Warning => found.warning += 1,
                Severity::Critical => found.critical += 1,
            }
            found.unacknowledged += usize::from(listed.alert.acknowledged_at.is_none());
            for told in listed.deliveries.iter().filter(|told| told.failures > 0) {
                *found.failing.entry(told.sink.clone()).or_default() += 1;
            }
        }
        Ok(found)
    }

    async fn backups(&self) -> Result<Backups> {
        let backups = self.store.backups();
        let listed = backups.list(false, MOST_BACKUPS, 0).await?;
        let sound: Vec<_> = listed
            .iter()
            .filter(|one| one.damaged_at.is_none() && one.pruned_at.is_none())
            .collect();
        let newest = sound.iter().filter(|one| one.verified_at.is_some());
        Ok(Backups {
            is_configured: backups.is_configured(),
            kept: newest.clone().count(),
            verified_at: sound.iter().filter_map(|one| one.verified_at).max(),
            proved_at: sound.iter().filter_map(|one| one.proved_at).max(),
            copied_at: sound.iter().filter_map(|one| one.copied_at).max(),
            bytes: newest
                .max_by_key(|one| one.started_at)
                .map_or(0, |one| one.stored_bytes),
        })
    }
}

type Encoded = std::result::Result<(), fmt::Error>;

impl Collector for Facts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        runs(&mut encoder, &self.scheduler)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.clone() else {
            return Ok(());
        };
        let at = [(Vec::new(), Some(known.at))];
        times(
            &mut encoder,
            "facts",
            "When the figures of tasks, alerts, backups and of what is kept were asked for",
            &at,
        )?;
        tasks(&mut encoder, &known.tasks)?;
        alerts(&mut encoder, &known.alerts)?;
        backups(&mut encoder, &known.backups)?;
        kept(&mut encoder, &known.kept)
    }
}

/// Runs that ended in this process.
fn runs(encoder: &mut DescriptorEncoder<'_>, scheduler: &Scheduler) -> Encoded {
    let mut family = encoder.encode_descriptor(
        "task_runs",
        "Runs of scheduled tasks that ended in this process",
        None,
        MetricType::Counter,
    )?;
    for (task, result, count) in scheduler.runs() {
        let labels = [("task", task), ("result", result)];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn tasks(encoder: &mut DescriptorEncoder<'_>, tasks: &[TaskStatus]) -> Encoded {
    let times_of = |of: fn(&TaskStatus) -> Option<DateTime<Utc>>| {
        let labelled = |task: &TaskStatus| (vec![("task", task.task)], of(task));
        tasks.iter().map(labelled).collect::<Vec<_>>()
    };
    times(
        encoder,
        "task_last_success",
        "The newest scheduled slot that succeeded, in any process",
        &times_of(|task| task.last_success_at),
    )?;
    times(
        encoder,
        "task_next",
        "The next slot",
        &times_of(|task| Some(task.next_slot_at)),
    )?;
    let has_failed = |task: &TaskStatus| {
        let last = task.last.as_ref();
        last.is_some_and(|last| last.state == SlotState::Failed)
    };
    flags(
        encoder,
        "task_overdue",
        "Whether a slot is owed for longer than a lease and two ticks, and nobody is running it",
        tasks.iter().map(|task| (task.task, task.overdue)),
    )?;
    flags(
        encoder,
        "task_failed",
        "Whether the newest run failed",
        tasks.iter().map(|task| (task.task, has_failed(task))),
    )
}

fn alerts(encoder: &mut DescriptorEncoder<'_>, alerts: &Alerts) -> Encoded {
    let mut family = encoder.encode_descriptor(
        "alerts_open",
        "What is wrong now, by severity",
        None,
        MetricType::Gauge,
    )?;
    for (severity, count) in [
        (Severity::Warning, alerts.warning),
        (Severity::Critical, alerts.critical),
    ] {
        let labels = [("severity", severity.as_str())];
        ConstGauge::new(signed(count)).encode(family.encode_family(&labels)?)?;
    }
    gauge(
        encoder,
        "alerts_unacknowledged",
        "Of what is wrong now, that which nobody has taken",
        signed(alerts.unacknowledged),
    )?;
    let mut family = encoder.encode_descriptor(
        "alert_deliveries_failing",
        "Notices that a receiver did not take, the last time that it was tried",
        None,
        MetricType::Gauge,
    )?;
    for (sink, count) in &alerts.failing {
        let labels = [("sink", sink.as_str())];
        ConstGauge::new(signed(*count)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn backups(encoder: &mut DescriptorEncoder<'_>, backups: &Backups) -> Encoded {
    gauge(
        encoder,
        "backup_configured",
        "Whether this process knows where backups lie",
        i64::from(backups.is_configured),
    )?;
    gauge(
        encoder,
        "backups_kept",
        "Backups that were read back and found right, and are there",
        signed(backups.kept),
    )?;
    for (name, help, at) in [
        (
            "backup_last_verified",
            "When a backup was last read back and found right",
            backups.verified_at,
        ),
        (
            "backup_last_proved",
            "When a restored backup was last found equal",
            backups.proved_at,
        ),
        (
            "backup_last_copied",
            "When a backup was last copied to the second store",
            backups.copied_at,
        ),
    ] {
        times(encoder, name, help, &[(Vec::new(), at)])?;
    }
    let size = encoder.encode_descriptor(
        "backup_last_size",
        "The size of the newest verified backup as it is stored",
        Some(&Unit::Bytes),
        MetricType::Gauge,
    )?;
    ConstGauge::new(i64::try_from(backups.bytes).unwrap_or(i64::MAX)).encode(size)
}

fn kept(encoder: &mut DescriptorEncoder<'_>, kept: &Kept) -> Encoded {
    for (name, help, count) in [
        (
            "metric_days_hot",
            "Days of samples in the database, those to come included",
            kept.hot,
        ),
        (
            "metric_days_ahead",
            "Days to come that have a partition",
            kept.ahead,
        ),
        (
            "metric_days_overdue",
            "Days of samples that should have been archived yesterday",
            kept.overdue,
        ),
        (
            "metric_days_unverified",
            "Days before yesterday whose rollups were not compared with their samples",
            kept.unverified,
        ),
    ] {
        gauge(encoder, name, help, count)?;
    }
    Ok(())
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

/// Times as seconds of the epoch; what never was, is left out.
fn times(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    at: &[(Labels<'_>, Option<DateTime<Utc>>)],
) -> Encoded {
    let name = format!("{name}_timestamp");
    let mut family =
        encoder.encode_descriptor(&name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for (labels, at) in at {
        if let Some(at) = at {
            let seconds = at.timestamp_micros() as f64 / 1e6;
            let labels = labels.as_slice();
            ConstGauge::new(seconds).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn flags<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    tasks: impl Iterator<Item = (&'a str, bool)>,
) -> Encoded {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (task, is) in tasks {
        let labels = [("task", task)];
        ConstGauge::new(i64::from(is)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

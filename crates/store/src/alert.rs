//! Alerts: what is wrong is told, by several ways at once, again and again until somebody has taken it or it is over (C8.5).
//!
//! A watcher says what is wrong now ([`Condition`]), as often as it looks; [`Alerts::observe`] makes alerts of it, and
//! [`Alerts::deliver`] sends what is due. Nothing here knows what is watched.
//!
//! # What it guarantees
//!
//! * **One alert for one thing.** While a condition holds it is one open alert, however many processes see it. When it is no
//!   longer named the alert is resolved; when it comes back that is a new alert, which nobody has acknowledged.
//! * **Told until it is taken.** At once, and every `alert.repeat_minutes` until it is acknowledged or resolved; whoever was
//!   told is told of the end, too. A warning that becomes critical is told at once, and has to be acknowledged anew.
//! * **Confirmed.** Sent is what the receiver said it took: 2xx, or 250. Anything else is tried again after 30 seconds, then
//!   after twice as long each time, 10 minutes at most, and can be seen in [`Alerts::list`].
//! * **Each receiver for itself.** All are spoken to at the same time, and none for longer than `alert.timeout_seconds`.
//! * **By one process.** What is due is claimed first. Where the process that claimed it is gone, another one sends it when the
//!   claim has ended, so a notice may come twice, and never not at all; it carries an id by which that is seen.
//! * **Without the database, too.** [`Alerts::deliver_without_database`] goes on from what this process saw last, and what it
//!   did is in the database as soon as that is back.
//! * **No secret gets out.** Addresses and keys are in no log, error or table.
//!
//! # Why so
//!
//! An alert that is sent by a process about itself is worth nothing when that process is gone: its absence has to be noticed
//! elsewhere, which is what a [`Heartbeat`] is for.

mod adopt;
mod deliver;
mod heartbeat;
mod memory;
mod observe;
mod progress;
pub mod queries;
mod read;
mod sink;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use uuid::Uuid;

pub use heartbeat::Heartbeat;
pub use progress::{Progress, What};
pub use read::{Filter, Listed, MAX_NOTE, Page};
pub use sink::{AlertSink, Failure, Sent};

use crate::{
    config::{AlertSettings, Config},
    error::{Error, Result},
};
use memory::Memory;

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be looked at today.
    Warning,
    /// To be looked at now.
    Critical,
}

impl Severity {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    fn from_name(name: &str) -> Result<Self> {
        match name {
            "warning" => Ok(Self::Warning),
            "critical" => Ok(Self::Critical),
            _ => Err(Error::internal("an alert has a severity that is none")),
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its name, at most 200 characters: the same as long as it is the same thing, and no other source's.
    pub key: String,
    /// How grave it is. While the alert is open this may rise and does not fall.
    pub severity: Severity,
    /// What is wrong, in a line of at most 200 characters.
    pub title: String,
    /// What is known of it, at most 4,000 characters.
    pub detail: String,
    /// What to do: `docs/operations/backups.md#a-backup-failed`.
    pub runbook: &'static str,
    /// What collectors group by. Kept as they are when the alert is opened.
    pub labels: BTreeMap<String, String>,
}

/// Something that is or was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its id.
    pub id: Uuid,
    /// The condition's key.
    pub key: String,
    /// Who watches it.
    pub source: String,
    /// The gravest it was.
    pub severity: Severity,
    /// What is wrong, in a line.
    pub title: String,
    /// What is known of it.
    pub detail: String,
    /// What to do.
    pub runbook: String,
    /// What collectors group by.
    pub labels: BTreeMap<String, String>,
    /// Since when.
    pub opened_at: DateTime<Utc>,
    /// When it was seen last.
    pub seen_at: DateTime<Utc>,
    /// When it became critical, where it began as a warning.
    pub escalated_at: Option<DateTime<Utc>>,
    /// Since when it is over.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Since when somebody has taken it.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Who has.
    pub acknowledged_by: Option<String>,
    /// What they said.
    pub note: Option<String>,
}

/// What a notice tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something is wrong.
    Firing,
    /// It still is.
    Repeated,
    /// It is over.
    Resolved,
    /// Nothing is wrong: somebody tries whether notices arrive.
    Test,
}

impl Kind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Repeated => "repeated",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }
}

/// What is sent to a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The same for each attempt to send this notice, and for no other one: what came twice is told by it.
    pub id: String,
    /// What it tells.
    pub kind: Kind,
    /// The alert.
    pub alert: Alert,
    /// When it is sent.
    pub at: DateTime<Utc>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Notices that their receivers took.
    pub sent: usize,
    /// Those that they did not; they are tried again.
    pub failed: usize,
}

/// What an observation changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    /// Alerts that are new.
    pub opened: usize,
    /// Alerts that are over.
    pub resolved: usize,
}

/// What became of a notice that was sent to try it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tested {
    /// To whom.
    pub sink: String,
    /// Whether it was taken.
    pub accepted: bool,
    /// Why not.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub took_milliseconds: u64,
}

/// Alerts, and whom they are sent to. Clones share everything.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    sinks: Vec<Arc<dyn AlertSink>>,
    repeat: TimeDelta,
    timeout: Duration,
    memory: Mutex<Memory>,
    backup_heartbeat: Heartbeat,
    watch_heartbeat: Heartbeat,
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sinks: Vec<&str> = self.0.sinks.iter().map(|sink| sink.name()).collect();
        f.debug_struct("Alerts")
            .field("sinks", &sinks)
            .finish_non_exhaustive()
    }
}

impl Alerts {
    /// With the receivers of the settings. Speaks to none yet.
    pub fn open(config: &Config) -> Result<Self> {
        let settings = &config.alert;
        Self::with_sinks(settings, sink::of(settings)?)
    }

    /// With receivers of the caller's.
    pub fn with_sinks(settings: &AlertSettings, sinks: Vec<Arc<dyn AlertSink>>) -> Result<Self> {
        let heartbeat =
            |url| Heartbeat::new(url, Duration::from_secs(settings.timeout_seconds.min(5)));
        Ok(Self(Arc::new(Inner {
            sinks,
            repeat: TimeDelta::minutes(i64::from(settings.repeat_minutes)),
            timeout: Duration::from_secs(settings.timeout_seconds),
            memory: Mutex::default(),
            backup_heartbeat: heartbeat(settings.backup_heartbeat_url.as_ref())?,
            watch_heartbeat: heartbeat(settings.watch_heartbeat_url.as_ref())?,
        })))
    }

    /// The names of the receivers.
    pub fn sinks(&self) -> Vec<String> {
        let names = self.0.sinks.iter().map(|sink| sink.name().to_owned());
        names.collect()
    }

    /// What is told of each backup; does nothing where none is configured.
    pub fn backup_heartbeat(&self) -> &Heartbeat {
        &self.0.backup_heartbeat
    }

    /// What is told that this process watches; does nothing where none is configured.
    pub fn watch_heartbeat(&self) -> &Heartbeat {
        &self.0.watch_heartbeat
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        let memory = self.0.memory.lock();
        memory.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// The same as it may be kept and sent: without control characters, and no longer than said. An alert is never refused for
    /// its length.
    fn fitted(&self) -> Self {
        let labels = self.labels.iter();
        Self {
            key: fitted(&self.key, 200),
            title: fitted(&self.title, 200),
            detail: fitted(&self.detail, 4_000),
            labels: labels
                .map(|(name, value)| (fitted(name, 100), fitted(value, 500)))
                .collect(),
            ..self.clone()
        }
    }

    /// As an alert that opens now.
    fn opened(&self, id: Uuid, source: &str, now: DateTime<Utc>) -> Alert {
        Alert {
            id,
            key: self.key.clone(),
            source: source.to_owned(),
            severity: self.severity,
            title: self.title.clone(),
            detail: self.detail.clone(),
            runbook: self.runbook.to_owned(),
            labels: self.labels.clone(),
            opened_at: now,
            seen_at: now,
            escalated_at: None,
            resolved_at: None,
            acknowledged_at: None,
            acknowledged_by: None,
            note: None,
        }
    }
}

/// At most so many characters, none of which moves a cursor or is refused by a database; `unnamed` for nothing.
fn fitted(text: &str, most: usize) -> String {
    let kept = text.chars().map(|c| match c {
        '\n' if most > 500 => c,
        c if c.is_control() => ' ',
        c => c,
    });
    let fitted: String = kept.take(most).collect();
    if fitted.trim().is_empty() && most <= 500 {
        "unnamed".to_owned()
    } else {
        fitted
    }
}

//! How far a receiver is told of an alert, and when it is to be told next.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::Kind;
use crate::error::{Error, Result};

/// The pause after the first failure; doubled each time.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(30);
/// The longest pause.
const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(10);

/// What a receiver is told: each has its own way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// That something is wrong, again and again.
    Firing,
    /// That it is over, once.
    Resolved,
}

impl What {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }

    pub(super) fn from_name(name: &str) -> Result<Self> {
        match name {
            "firing" => Ok(Self::Firing),
            "resolved" => Ok(Self::Resolved),
            _ => Err(Error::internal("a delivery tells what is nothing")),
        }
    }
}

/// What a receiver was told, and what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The receiver.
    pub sink: String,
    /// What it is told.
    pub what: What,
    /// How often sending began.
    pub attempts: i64,
    /// How often it succeeded.
    pub deliveries: i64,
    /// How often in a row it has failed since.
    pub failures: i64,
    /// When it is to be sent next, unless somebody acknowledges the alert; null when nothing is left to send.
    pub next_at: Option<DateTime<Utc>>,
    /// When it succeeded last.
    pub delivered_at: Option<DateTime<Utc>>,
    /// Why it failed last, while it does.
    pub last_error: Option<String>,
}

impl Progress {
    /// Nothing told yet.
    pub(super) fn begun(sink: &str, what: What, now: DateTime<Utc>) -> Self {
        Self {
            sink: sink.to_owned(),
            what,
            attempts: 0,
            deliveries: 0,
            failures: 0,
            next_at: Some(now),
            delivered_at: None,
            last_error: None,
        }
    }

    /// What the next notice is.
    pub(super) fn kind(&self) -> Kind {
        match self.what {
            What::Resolved => Kind::Resolved,
            What::Firing if self.deliveries == 0 => Kind::Firing,
            What::Firing => Kind::Repeated,
        }
    }

    /// The receiver took it.
    pub(super) fn succeeded(&mut self, now: DateTime<Utc>, again: Option<TimeDelta>) {
        self.deliveries += 1;
        self.failures = 0;
        self.delivered_at = Some(now);
        self.next_at = again.map(|pause| now + pause);
        self.last_error = None;
    }

    /// It did not.
    pub(super) fn failed(&mut self, now: DateTime<Utc>, error: &str) {
        self.failures += 1;
        self.next_at = Some(now + pause(self.failures));
        self.last_error = Some(error.to_owned());
    }
}

/// How long after so many failures in a row it is tried again.
fn pause(failures: i64) -> TimeDelta {
    let doublings = (failures - 1).clamp(0, 10);
    (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end_at_ten_minutes() {
        let seconds: Vec<i64> = (1..=8).map(|n| pause(n).num_seconds()).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 600, 600, 600]);
        assert_eq!(pause(i64::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let now = DateTime::UNIX_EPOCH;
        let mut progress = Progress::begun("log", What::Firing, now);
        assert_eq!(progress.kind(), Kind::Firing);
        progress.failed(now, "it answered 503");
        assert_eq!(progress.kind(), Kind::Firing);
        progress.succeeded(now, Some(TimeDelta::minutes(60)));
        assert_eq!(progress.kind(), Kind::Repeated);
        assert_eq!(
            (
                progress.failures,
                progress.deliveries,
                &progress.last_error,
                progress.next_at
            ),
            (0, 1, &None, Some(now + TimeDelta::minutes(60)))
        );
    }
}

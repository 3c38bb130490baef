//! The acceptance criteria, each with how it stands: met, missed, or not to be said yet.
//!
//! # What it guarantees
//!
//! * **No verdict is a constant.** Each of the 40 [`criteria`] is judged at every report from what processes have [measured](facts), from
//!   rows, catalogue and history as they are now, or from the last time that it was [tried](probes) in a scratch database.
//! * **What is not known is said to be not known**, with what to do for it: no evidence is no good evidence.
//! * **A breach shows within a minute**: processes keep what they measured every ten seconds, reports are at most two seconds old,
//!   and beside the whole window the last five minutes are judged by themselves, so that a good day does not hide a bad minute.
//! * **A report is bounded**: so many statements, whatever is stored, each with a time of its own. What could not be read makes the
//!   criteria that need it unknown, not the report fail.
//!
//! # How it is built
//!
//! [`evidence`] reads, [`judge`] has a pure function for each criterion, [`Verdict`] says what several findings come to. A report is
//! the same for every instance on a database, but for what only a process's own settings say.

mod criteria;
mod evidence;
mod finding;
mod judge;
pub mod queries;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio::sync::Mutex;

pub use criteria::{CHAPTERS, CRITERIA, Definition, of};
pub use finding::{Finding, Measured, Source, State, Verdict};

use crate::{
    config::Config,
    db::Pool,
    error::{Error, Result},
};
use evidence::Gathered;

/// How old a report may be that is given again.
const FRESH_FOR: TimeDelta = TimeDelta::seconds(2);

/// The longest window, in hours: for so long is kept what processes measured.
pub const MAX_WINDOW_HOURS: i64 = 744;

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// What kind it is.
    pub kind: Source,
    /// What it says by itself.
    pub state: State,
    /// A sentence.
    pub text: String,
    /// The page of the dashboard that shows it.
    pub page: &'static str,
    /// The call that shows it.
    pub call: &'static str,
}

/// A criterion, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Criterion {
    /// `C1.1` … `C8.5`.
    pub id: &'static str,
    /// Its chapter, from 1 to 8.
    pub chapter: usize,
    /// Its chapter's name.
    pub chapter_title: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// What it asks for.
    pub target: &'static str,
    /// How it stands.
    pub state: State,
    /// What was measured, as a sentence.
    pub summary: String,
    /// What was measured, where it is a number.
    pub measured: Option<Measured>,
    /// Of how many values, rows or runs.
    pub sample_size: Option<u64>,
    /// How long the window is that was judged; `None` where the present is.
    pub window_seconds: Option<i64>,
    /// The first evidence in the window.
    pub first_evidence_at: Option<DateTime<Utc>>,
    /// Since when it is known to be in this state.
    pub since: Option<DateTime<Utc>>,
    /// When it was judged.
    pub judged_at: DateTime<Utc>,
    /// Why it is missed, or why it cannot be judged yet and what to do for it.
    pub reason: Option<String>,
    /// What the verdict is made of.
    pub evidence: Vec<Evidence>,
}

/// How many criteria are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Met.
    pub met: usize,
    /// Missed.
    pub missed: usize,
    /// Not to be said yet.
    pub unknown: usize,
}

/// All criteria at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// When it was made.
    pub judged_at: DateTime<Utc>,
    /// How far back it looks at what processes measured.
    pub window_seconds: i64,
    /// How many are in each state.
    pub counts: Counts,
    /// All of them, in order.
    pub criteria: Vec<Criterion>,
}

/// What reports of a process share.
#[derive(Debug, Default)]
pub struct Shared {
    /// The latest report; locked while one is being made, so that many who ask at once get the same.
    latest: Mutex<Option<Arc<Report>>>,
}

/// The criteria of a store.
#[derive(Clone)]
pub struct Slo<'a> {
    pool: &'a Pool,
    config: &'a Config,
    shared: &'a Shared,
}

impl<'a> Slo<'a> {
    /// Over what a store has.
    pub fn new(pool: &'a Pool, config: &'a Config, shared: &'a Shared) -> Self {
        Self {
            pool,
            config,
            shared,
        }
    }

    /// All criteria as of `now`, judged over the configured window or this one. At most two seconds old.
    ///
    /// It does not fail: while the database is away, what needs it is unknown.
    pub async fn report(&self, now: DateTime<Utc>, window: Option<TimeDelta>) -> Arc<Report> {
        let window = window.unwrap_or(TimeDelta::hours(self.config.slo.window_hours));
        let mut latest = self.shared.latest.lock().await;
        if let Some(report) = latest.as_ref() {
            let age = now - report.judged_at;
            let is_fresh = age >= TimeDelta::zero() && age < FRESH_FOR;
            if is_fresh && report.window_seconds == window.num_seconds() {
                return Arc::clone(report);
            }
        }
        let report = Arc::new(self.judge(now, window).await);
        *latest = Some(Arc::clone(&report));
        report
    }

    /// One criterion of the report; fails with `criterion_not_found`.
    pub async fn criterion(
        &self,
        id: &str,
        now: DateTime<Utc>,
        window: Option<TimeDelta>,
    ) -> Result<Criterion> {
        let definition = of(id).ok_or_else(|| {
            Error::not_found(
                "criterion_not_found",
                "there is no such criterion: they are C1.1 to C8.5",
            )
        })?;
        let report = self.report(now, window).await;
        let found = report.criteria.iter().find(|one| one.id == definition.id);
        found
            .cloned()
            .ok_or_else(|| Error::internal("a criterion is missing from the report"))
    }

    async fn judge(&self, now: DateTime<Utc>, window: TimeDelta) -> Report {
        let gathered = Gathered::read(self.pool, self.config, now, window).await;
        let criteria: Vec<Criterion> = CRITERIA
            .iter()
            .map(|definition| criterion(definition, &gathered))
            .collect();
        let in_state = |state| criteria.iter().filter(|one| one.state == state).count();
        Report {
            judged_at: now,
            window_seconds: window.num_seconds(),
            counts: Counts {
                met: in_state(State::Met),
                missed: in_state(State::Missed),
                unknown: in_state(State::Unknown),
            },
            criteria,
        }
    }
}

fn criterion(definition: &'static Definition, gathered: &Gathered) -> Criterion {
    let verdict = (definition.judge)(gathered);
    let is_windowed = verdict.leading.source == Source::Histogram;
    Criterion {
        id: definition.id,
        chapter: definition.chapter(),
        chapter_title: definition.chapter_title(),
        title: definition.title,
        target: definition.target,
        state: verdict.state,
        summary: verdict.leading.text.clone(),
        measured: verdict.leading.measured,
        sample_size: verdict.leading.samples,
        window_seconds: is_windowed.then(|| gathered.window.num_seconds()),
        first_evidence_at: verdict.leading.first_at,
        since: None,
        judged_at: gathered.now,
        reason: verdict.reason,
        evidence: verdict
            .findings
            .into_iter()
            .map(|finding| Evidence {
                kind: finding.source,
                state: finding.state,
                text: finding.text,
                page: definition.page,
                call: definition.call,
            })
            .collect(),
    }
}

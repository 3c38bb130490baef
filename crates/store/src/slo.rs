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
pub mod facts;
mod finding;
mod judge;
pub mod probes;
pub mod queries;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio::sync::Mutex;

pub use criteria::{CHAPTERS, CRITERIA, Definition, of};
pub use finding::{Finding, Measured, Source, State, Verdict};

use crate::{
    alert::Alerts,
    backup::{Backups, watch::Place},
    cache::Cache,
    config::Config,
    db::{self, Pool},
    error::{Error, Result},
};
use evidence::{Gathered, Sources};
use facts::Facts;

/// How old a report may be that is given again.
const FRESH_FOR: TimeDelta = TimeDelta::seconds(2);

/// How long writing down what was measured may hold a report up.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// For how long it is believed where backups lie, and how long asking may take.
const PLACES_FOR: TimeDelta = TimeDelta::minutes(10);
const PLACES_WITHIN: Duration = Duration::from_secs(3);

/// For how many days changes of states are kept.
const KEEP_CHANGES_DAYS: i64 = 400;

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
    pub since: DateTime<Utc>,
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

/// A change of a criterion's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The state that it went into.
    pub state: State,
    /// When that was seen.
    pub at: DateTime<Utc>,
    /// What was found then.
    pub summary: String,
}

/// What reports of a process share.
#[derive(Debug, Default)]
pub struct Shared {
    /// The latest report; locked while one is being made, so that many who ask at once get the same.
    latest: Mutex<Option<Arc<Report>>>,
    /// What this process measured.
    facts: Facts,
    /// Where backups lie, and when that was asked.
    places: Mutex<Option<(DateTime<Utc>, Vec<Place>)>>,
}

/// What the criteria are judged from.
#[derive(Clone)]
pub struct Slo<'a> {
    pool: &'a Pool,
    config: &'a Config,
    cache: &'a Cache,
    alerts: &'a Alerts,
    backups: Backups<'a>,
    shared: &'a Shared,
}

impl<'a> Slo<'a> {
    /// Over what a store has.
    pub fn new(
        pool: &'a Pool,
        config: &'a Config,
        cache: &'a Cache,
        alerts: &'a Alerts,
        backups: Backups<'a>,
        shared: &'a Shared,
    ) -> Self {
        Self {
            pool,
            config,
            cache,
            alerts,
            backups,
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
        // In a box: what reads everything is wide, and would widen everything that asks.
        let report = Arc::new(Box::pin(self.judge(now, window)).await);
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

    /// The latest changes of a criterion's state, the newest first.
    pub async fn changes(&self, id: &str) -> Result<Vec<Change>> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::CHANGES, &[&id]).await?;
        let changes = rows.iter().map(|row| {
            let state: &str = row.try_get("state")?;
            Ok(Change {
                state: State::named(state)
                    .ok_or_else(|| Error::internal("a criterion has a state that there is not"))?,
                at: row.try_get("changed_at")?,
                summary: row.try_get("summary")?,
            })
        });
        changes.collect()
    }

    /// Takes what this process has measured, and what its pool is like now, and writes it down.
    pub async fn keep(&self, now: DateTime<Utc>) -> Result<()> {
        self.pool.measure();
        self.shared.facts.flush(self.pool, self.cache, now).await
    }

    /// Notes which criteria are in another state than before; gives how many there were.
    pub async fn note(&self, report: &Report) -> Result<u64> {
        let column =
            |of: fn(&Criterion) -> &str| -> Vec<&str> { report.criteria.iter().map(of).collect() };
        let (ids, states, summaries) = (
            column(|one| one.id),
            column(|one| one.state.as_str()),
            column(|one| one.reason.as_deref().unwrap_or(&one.summary)),
        );
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[&ids, &states, &summaries, &report.judged_at];
        db::execute(&connection, &queries::SET_STATE, params).await
    }

    /// Deletes what is older than it is kept for; gives how many rows.
    pub async fn prune(&self, now: DateTime<Utc>) -> Result<u64> {
        let facts = facts::prune(self.pool, self.config.slo.keep_days, now).await?;
        let probes = probes::prune(self.pool, now).await?;
        let connection = self.pool.get().await?;
        let before = now - TimeDelta::days(KEEP_CHANGES_DAYS);
        let changes = db::execute(&connection, &queries::PRUNE_CHANGES, &[&before]).await?;
        Ok(facts + probes + changes)
    }

    /// The newest probes, the newest first.
    pub async fn probes(&self, limit: i64) -> Result<Vec<probes::Probe>> {
        let connection = self.pool.get().await?;
        probes::Probe::newest(&connection, limit).await
    }

    /// Where backups lie: asked at most every ten minutes, and within the time of a report.
    async fn places(&self, now: DateTime<Utc>) -> Vec<Place> {
        let mut places = self.shared.places.lock().await;
        let is_known = |asked_at: DateTime<Utc>| {
            let age = now - asked_at;
            age >= TimeDelta::zero() && age < PLACES_FOR
        };
        match places.as_ref() {
            Some((asked_at, places)) if is_known(*asked_at) => return places.clone(),
            _ => {}
        }
        if let Ok(found) = tokio::time::timeout(PLACES_WITHIN, self.backups.places()).await {
            *places = Some((now, found));
        }
        places
            .as_ref()
            .map(|(_, places)| places.clone())
            .unwrap_or_default()
    }

    async fn judge(&self, now: DateTime<Utc>, window: TimeDelta) -> Report {
        // Of a process that serves, what it measured a moment ago belongs to the report.
        if self.shared.facts.is_kept() {
            let kept = tokio::time::timeout(FLUSH_WITHIN, self.keep(now)).await;
            if !matches!(kept, Ok(Ok(()))) {
                tracing::debug!("what was measured could not be written before a report");
            }
        }
        let sources = Sources {
            pool: self.pool,
            config: self.config,
            cache: self.cache,
            backups: self.backups.clone(),
            places: self.places(now).await,
            receivers: self.alerts.sinks(),
        };
        let gathered = Gathered::read(sources, now, window).await;
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
    let known = gathered.states.get(definition.id);
    let since = known.filter(|(state, _)| *state == verdict.state);
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
        since: since.map_or(gathered.now, |(_, at)| *at),
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

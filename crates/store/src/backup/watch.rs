//! What is wrong with the backups, as a function of what is known and of the time (C8.5). Pure.
//!
//! # What it guarantees
//!
//! * **Within 5 minutes.** Each condition holds at the latest 4 minutes and 30 seconds after its fact, where whoever calls
//!   [`conditions`] does so every 30 seconds. A fact that is a limit (late after 3 hours, overdue after 8 days) is the moment in
//!   which the limit is reached.
//! * **Until it is made good.** A condition holds until what is wrong is over; what failed, came not or was not verified is over
//!   once a run that began later is verified, and not because time went by.
//! * **Each failure is an incident of its own.** The key has the slot, or the run's id, so tomorrow's failure is told though
//!   somebody has taken today's.
//! * **It needs nothing but its arguments**: with the database away it goes on with what was known last. No clock, however wrong,
//!   makes it panic.
//!
//! # What holds when
//!
//! | key | since | until |
//! |---|---|---|
//! | `backup_missing:day` | no run for the slot of 01:00 has begun by 01:03:30 | a run that began since is verified |
//! | `backup_failed:run` | it failed, was abandoned, or is not heard of for [`Settings::silent_after`] | a later one is verified |
//! | `backup_late:run` | it began 3 hours ago and is not verified | it is, or a later one |
//! | `backup_unverified:run` | it is stored, and was not read back: at once where that failed, else after 30 minutes | it is, or a later one |
//! | `backup_shrunken:run` | it has less than half the bytes or rows of the one before | the newest is at par with the one before, or 7 days |
//! | `backup_copy_missing:run` | it is verified, and not in the second store: at once where copying failed, else after an hour | it is, or a later one |
//! | `backup_object_missing:key`, `backup_manifest_missing:key` | it is not in the store | it is, or nothing expects it any more |
//! | `proof_failed:proof` | a restore failed, or what was restored differs | a later one succeeds |
//! | `proof_overdue` | something waits to be proved, and nothing was for 8 days | a proof succeeds |
//! | `database_unreachable` | two looks in a row and 60 seconds | it answers |
//! | `backup_location_same:store`, `backup_location_unknown:store` | it is judged so | it is judged otherwise |
//! | `backups_not_configured` | nobody said where to and as whom | somebody did |
//!
//! # Why so
//!
//! * *Missing* is asked of the newest slot that had its 4 minutes and 30 seconds, and not of all that ever were: after a clock
//!   jumped ahead by a month, one backup is missing and not thirty. Older slots stay missing where that was told already
//!   ([`Facts::open`]), so that yesterday's alert does not end because today's slot came. A fresh installation misses nothing that
//!   was due before it was configured, and the first slot after that counts.
//! * *Missing* does not end when a run begins late: a run that begins is no backup. A run that began in time and fails is *failed*.
//! * A clock that went back finds runs in the future. They count as later runs, so a slot before them is not missing.
//! * *Shrunken* compares with the newest verified one before the shrink, and goes on doing so for 7 days, or the second small
//!   backup would be at par with the first one and the alarm over. After that, small is the new normal.
//! * The row of a run whose process was killed says *running* for ever: only the lease tells. For a run that is stored the same
//!   holds, as long as it is being read back.

mod proofs;
mod runs;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use uuid::Uuid;

use super::region::Judgement;
use crate::alert::{Condition, Severity};

/// What a key has at most.
const LONGEST_KEY: usize = 200;
/// What a title has at most.
const LONGEST_TITLE: usize = 200;
/// What a detail has at most.
const LONGEST_DETAIL: usize = 4_000;

/// After how long what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When the daily backup is due (UTC).
    pub slot_time: NaiveTime,
    /// How long after that it must have begun.
    pub missing_after: TimeDelta,
    /// How long a run that is heard of no more is believed to go on: the length of its lease.
    pub silent_after: TimeDelta,
    /// How long after its begin a run must be verified.
    pub late_after: TimeDelta,
    /// How long after it was stored it must have been read back.
    pub unverified_after: TimeDelta,
    /// What of the bytes and rows of the one before is too few, in percent.
    pub shrink_percent: u32,
    /// How long the one before the shrink is what others are compared with.
    pub shrink_for: TimeDelta,
    /// How long after it was verified the second copy must be there.
    pub copy_after: TimeDelta,
    /// How old the last proof may be: 8 days where proofs are weekly, 2 where they are daily.
    pub proof_within: TimeDelta,
    /// How long the database must be away.
    pub unreachable_after: TimeDelta,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slot_time: NaiveTime::from_hms_opt(1, 0, 0).unwrap_or(NaiveTime::MIN),
            missing_after: TimeDelta::seconds(210),
            silent_after: TimeDelta::minutes(2),
            late_after: TimeDelta::hours(3),
            unverified_after: TimeDelta::minutes(30),
            shrink_percent: 50,
            shrink_for: TimeDelta::days(7),
            copy_after: TimeDelta::hours(1),
            proof_within: TimeDelta::days(8),
            unreachable_after: TimeDelta::seconds(60),
        }
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It dumps and uploads.
    Running,
    /// Its object and its manifest are in the store, and it is being read back.
    Stored,
    /// What lies in the store is what was dumped.
    Verified,
    /// It ended without a backup.
    Failed,
    /// Its process was gone, and another one gave it up.
    Abandoned,
}

/// A run, as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: Uuid,
    /// The slot that it is for; nothing where it was begun by hand.
    pub slot_at: Option<DateTime<Utc>>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When its process was heard of last; until it is verified or has ended.
    pub heard_at: DateTime<Utc>,
    /// How far it has come.
    pub state: State,
    /// Why it failed, or why reading it back did.
    pub error: Option<String>,
    /// When it was in the store.
    pub stored_at: Option<DateTime<Utc>>,
    /// When it had been read back.
    pub verified_at: Option<DateTime<Utc>>,
    /// Whether it is to be in a second store, too.
    pub copy_expected: bool,
    /// When it was there.
    pub copied_at: Option<DateTime<Utc>>,
    /// What was dumped, before it was compressed.
    pub plain_bytes: Option<u64>,
    /// What lies in the store.
    pub stored_bytes: Option<u64>,
    /// The rows of all tables.
    pub rows: Option<u64>,
}

/// A restore to prove a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Its id.
    pub id: Uuid,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; nothing while it runs.
    pub ended_at: Option<DateTime<Utc>>,
    /// Whether everything was equal.
    pub ok: bool,
    /// What was proved, or what differed.
    pub what: String,
}

/// What is not where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The dump.
    Object,
    /// Its manifest.
    Manifest,
    /// The dump's bytes: it is there, and is not what was read back.
    Content,
    /// The second copy.
    Copy,
}

/// Something that the table has and the store has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it is.
    pub part: Part,
    /// Its key in the store.
    pub key: String,
}

/// A database that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable {
    /// Since when.
    pub since: DateTime<Utc>,
    /// How many looks in a row found it so.
    pub looks: u32,
}

/// Where one of the stores lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The section of the settings: `backup_store`.
    pub store: &'static str,
    /// What is thought of it.
    pub judgement: Judgement,
}

/// All that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// When this product ran with backups configured for the first time; nothing where they are not configured.
    pub configured_at: Option<DateTime<Utc>>,
    /// The runs of at least the last 15 days, in any order: twice as many as a shrink is remembered.
    pub runs: Vec<Run>,
    /// The proofs of these days, and the last one that succeeded.
    pub proofs: Vec<Proof>,
    /// What should be in the store and is not.
    pub missing: Vec<Missing>,
    /// Whether the database answers.
    pub unreachable: Option<Unreachable>,
    /// Whether the stores can be listed.
    pub unlisted: Option<Unreachable>,
    /// Where the stores lie.
    pub places: Vec<Place>,
    /// The keys of the alerts that are open.
    pub open: BTreeSet<String>,
}

/// All that is wrong now, in an order that is always the same.
pub fn conditions(now: DateTime<Utc>, facts: &Facts, settings: &Settings) -> Vec<Condition> {
    let mut found = Vec::new();
    found.extend(proofs::unreachable(now, facts, settings));
    found.extend(proofs::unlisted(now, facts, settings));
    let Some(configured_at) = facts.configured_at else {
        found.push(proofs::not_configured());
        return found;
    };
    found.extend(runs::missing(now, configured_at, facts, settings));
    let mut runs: Vec<&Run> = facts.runs.iter().collect();
    runs.sort_by_key(|run| (run.started_at, run.id));
    found.extend(runs::troubled(now, &runs, settings));
    found.extend(runs::shrunken(&runs, settings));
    found.extend(facts.missing.iter().map(proofs::gone));
    found.extend(proofs::failed(&facts.proofs));
    found.extend(proofs::overdue(now, facts, settings));
    found.extend(facts.places.iter().filter_map(proofs::place));
    // Two runs of one slot are one incident: the first one tells it.
    let mut told = BTreeSet::new();
    found.retain(|condition| told.insert(condition.key.clone()));
    found
}

/// Whether so much time has gone by since then. Never, where the clock is before it.
fn has_passed(now: DateTime<Utc>, since: DateTime<Utc>, limit: TimeDelta) -> bool {
    now.signed_duration_since(since) >= limit
}

/// A kind of condition.
struct Kind {
    name: &'static str,
    severity: Severity,
    runbook: &'static str,
}

const fn critical(name: &'static str, runbook: &'static str) -> Kind {
    Kind {
        name,
        severity: Severity::Critical,
        runbook,
    }
}

const fn warning(name: &'static str, runbook: &'static str) -> Kind {
    Kind {
        name,
        severity: Severity::Warning,
        runbook,
    }
}

impl Kind {
    /// The condition of this kind about something, which is nothing where there can be only one.
    fn about(&self, subject: &str, title: impl AsRef<str>, detail: impl AsRef<str>) -> Condition {
        let key = if subject.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}:{subject}", self.name)
        };
        let mut labels = BTreeMap::from([
            ("component".to_owned(), "backup".to_owned()),
            ("condition".to_owned(), self.name.to_owned()),
        ]);
        if !subject.is_empty() {
            labels.insert("subject".to_owned(), cut(subject, LONGEST_KEY));
        }
        Condition {
            key: cut(&key, LONGEST_KEY),
            severity: self.severity,
            title: cut(title.as_ref(), LONGEST_TITLE),
            detail: cut(detail.as_ref(), LONGEST_DETAIL),
            runbook: self.runbook,
            labels,
        }
    }
}

/// A time, for people.
fn second(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The beginning of a text.
fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

#[cfg(test)]
mod tests;

//! Which backups are kept (C8.2), as a function of what there is. Pure.
//!
//! # What it guarantees
//!
//! * **The newest verified and the newest proved backup are kept**, whatever their age and whatever `now` says.
//! * **Only what is verified replaces something.** Slots are filled by verified backups alone; so a second backup of a day
//!   removes the first one only once it was read back, and a week of failures removes nothing.
//! * **Nothing is pruned after a run that is not verified** ([`may_prune`]).
//! * **What is pruned is not needed later.** Pruning every day leaves the same as pruning once at the end.
//! * **A wrong clock prunes nothing that a right one would keep.** Days and weeks are counted by the backups that there are, not
//!   by the calendar: `now` decides only what is in the future, and that is never pruned, and how long an unverified one is
//!   left alone.
//!
//! # The rules
//!
//! | kept | until |
//! |---|---|
//! | the newest verified one of a day (UTC) | 7 later days have a verified one |
//! | the newest verified one of an ISO week that is over | 4 later weeks that are over have one |
//! | the newest verified one, the newest proved one | a later one is verified, or proved |
//! | one that is not verified | a later one is verified, and it is 2 days old: until then it may be being read back |
//! | one that began after `now` | `now` has reached it |
//!
//! # Why so
//!
//! A week is over once a verified backup of a later week is there. By the calendar it would be over at midnight already, when its
//! last backup is still the newest one of all and needs no second slot; and a clock that jumps ahead would end the week too
//! early and cost the oldest weekly one. While a week runs, its newest backup is the newest one of the latest day, so it is there
//! when the week ends: that is why pruning in steps loses nothing.
//!
//! A backup that began in the future was made under a clock that was wrong, then or now. It takes no slot, so that it does not
//! push out an older one, and it is kept. One that is made while the clock is ahead does count as long as the clock is: it ends
//! the running week early, which costs at most the oldest daily and the oldest weekly one.

use std::{collections::BTreeSet, fmt};

use chrono::{DateTime, IsoWeek, NaiveDate, TimeDelta, Utc};
use uuid::Uuid;

/// How long a backup that is not verified is left alone, though a later one is verified.
const LEFT_ALONE: TimeDelta = TimeDelta::days(2);

/// A backup whose object lies in the store, or may lie there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: Uuid,
    /// When its run began: its day and its week are those of this time.
    pub started_at: DateTime<Utc>,
    /// When the stored object had been read back and was equal; `None` where it was not, or not yet.
    pub verified_at: Option<DateTime<Utc>>,
    /// When it had been restored and compared.
    pub proved_at: Option<DateTime<Utc>>,
}

/// How many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The latest days that have a verified one.
    pub daily: u32,
    /// The latest weeks that are over and have a verified one.
    pub weekly: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            daily: 7,
            weekly: 4,
        }
    }
}

/// Why a backup is kept or pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Kept: the newest verified one of a day, which is the nth latest of so many.
    Daily {
        /// Its day.
        day: NaiveDate,
        /// Counted from the latest, from 1.
        nth: u32,
        /// How many days are kept.
        of: u32,
    },
    /// Kept: the newest verified one of a week, which is the nth latest of so many.
    Weekly {
        /// Its week.
        week: IsoWeek,
        /// Counted from the latest that is over, from 1.
        nth: u32,
        /// How many weeks are kept.
        of: u32,
    },
    /// Kept: no later one is verified.
    NewestVerified,
    /// Kept: no later one is proved.
    NewestProved,
    /// Kept: it is not verified, but no later one is, either.
    NothingLater,
    /// Kept: it is not verified, but so young that it may be being read back.
    MayBeUnderWay,
    /// Kept: it began after now, by the clock that made it.
    InTheFuture,
    /// Kept: it was verified, and the store has, or may have, something else by now, or nothing. Somebody has to look at it:
    /// objects may come back, and a second copy may be the only one.
    Suspect,
    /// Kept: it would be pruned, but the newest run is not verified.
    Waiting,
    /// Pruned: a later one of its day is verified.
    Replaced {
        /// Its day.
        day: NaiveDate,
    },
    /// Pruned: all slots are taken by later ones.
    Beyond {
        /// Its day.
        day: NaiveDate,
        /// What is kept.
        keep: Keep,
    },
    /// Pruned: it is not verified, and a later one is.
    NeverVerified {
        /// Its day.
        day: NaiveDate,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daily { day, nth, of } => write!(f, "newest of {day} (daily {nth} of {of})"),
            Self::Weekly { week, nth, of } => {
                write!(f, "newest of week {week:?} (weekly {nth} of {of})")
            }
            Self::NewestVerified => f.write_str("newest verified one"),
            Self::NewestProved => f.write_str("newest proved one"),
            Self::NothingLater => f.write_str("not verified, but nothing later is"),
            Self::MayBeUnderWay => {
                f.write_str("not verified, but younger than 2 days: it may be being read back")
            }
            Self::InTheFuture => {
                f.write_str("it began in the future: a clock is wrong, or was when it was made")
            }
            Self::Suspect => f.write_str(
                "it is not in the store as it was verified: look at it, and verify it; it is not pruned by itself",
            ),
            Self::Waiting => {
                f.write_str("nothing is pruned as long as the newest run is not verified")
            }
            Self::Replaced { day } => write!(f, "a later one of {day} is verified"),
            Self::Beyond { day, keep } => write!(
                f,
                "{day} is beyond {} daily and {} weekly",
                keep.daily, keep.weekly
            ),
            Self::NeverVerified { day } => {
                write!(f, "the one of {day} was never verified, and a later one is")
            }
        }
    }
}

/// What becomes of a backup, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which one.
    pub id: Uuid,
    /// Whether it is kept; otherwise it is to be pruned.
    pub keep: bool,
    /// Every reason; at least one.
    pub reasons: Vec<Reason>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.keep { "kept: " } else { "pruned: " })?;
        for (at, reason) in self.reasons.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            reason.fmt(f)?;
        }
        Ok(())
    }
}

/// Whether anything may be pruned: the newest run is verified. What is in the future is not looked at: it cannot tell how last
/// night went.
pub fn may_prune(candidates: &[Candidate], now: DateTime<Utc>) -> bool {
    newest_first(candidates, now)
        .first()
        .is_some_and(|newest| newest.verified_at.is_some())
}

/// The verdict on each backup, in the order in which they were given.
pub fn plan(candidates: &[Candidate], keep: Keep, now: DateTime<Utc>) -> Vec<Verdict> {
    let kept = Kept::of(&newest_first(candidates, now), keep, now);
    let may_prune = may_prune(candidates, now);
    candidates
        .iter()
        .map(|candidate| {
            let mut reasons = if candidate.started_at > now {
                vec![Reason::InTheFuture]
            } else {
                kept.reasons(candidate)
            };
            let mut is_kept = !reasons.is_empty();
            if !is_kept && !may_prune {
                is_kept = true;
                reasons.push(Reason::Waiting);
            }
            if !is_kept {
                reasons.push(kept.why_pruned(candidate));
            }
            Verdict {
                id: candidate.id,
                keep: is_kept,
                reasons,
            }
        })
        .collect()
}

/// What began by now, the newest first; of two that began at once the order is that of their ids, always the same.
fn newest_first(candidates: &[Candidate], now: DateTime<Utc>) -> Vec<&Candidate> {
    let mut begun: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.started_at <= now)
        .collect();
    begun.sort_by_key(|candidate| std::cmp::Reverse((candidate.started_at, candidate.id)));
    begun
}

fn day(candidate: &Candidate) -> NaiveDate {
    candidate.started_at.date_naive()
}

fn week(candidate: &Candidate) -> IsoWeek {
    use chrono::Datelike as _;
    day(candidate).iso_week()
}

/// What fills the slots.
struct Kept {
    keep: Keep,
    now: DateTime<Utc>,
    /// The newest verified one of each of the latest days.
    daily: Vec<(Uuid, NaiveDate)>,
    /// The newest verified one of each of the latest weeks that are over.
    weekly: Vec<(Uuid, IsoWeek)>,
    newest_verified: Option<(DateTime<Utc>, Uuid)>,
    newest_proved: Option<Uuid>,
}

impl Kept {
    fn of(newest_first: &[&Candidate], keep: Keep, now: DateTime<Utc>) -> Self {
        let verified = || newest_first.iter().filter(|one| one.verified_at.is_some());
        let newest = verified().next();
        let running = newest.map(|newest| week(newest));
        let mut days = BTreeSet::new();
        let mut weeks = BTreeSet::new();
        Self {
            keep,
            now,
            daily: verified()
                .map(|one| (one.id, day(one)))
                .filter(|(_, day)| days.insert(*day))
                .take(keep.daily as usize)
                .collect(),
            weekly: verified()
                .map(|one| (one.id, week(one)))
                .filter(|(_, week)| Some(*week) != running && weeks.insert(*week))
                .take(keep.weekly as usize)
                .collect(),
            newest_verified: newest.map(|one| (one.started_at, one.id)),
            newest_proved: newest_first
                .iter()
                .find(|one| one.proved_at.is_some())
                .map(|one| one.id),
        }
    }

    /// Why one is kept; nothing where it is not.
    fn reasons(&self, candidate: &Candidate) -> Vec<Reason> {
        let id = candidate.id;
        let daily = nth(&self.daily, id).map(|(nth, day)| Reason::Daily {
            day,
            nth,
            of: self.keep.daily,
        });
        let weekly = nth(&self.weekly, id).map(|(nth, week)| Reason::Weekly {
            week,
            nth,
            of: self.keep.weekly,
        });
        let verified = self
            .newest_verified
            .is_some_and(|(_, newest)| newest == id)
            .then_some(Reason::NewestVerified);
        let proved = (self.newest_proved == Some(id)).then_some(Reason::NewestProved);
        [daily, weekly, verified, proved, self.left_alone(candidate)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Why one that is not verified is kept.
    fn left_alone(&self, candidate: &Candidate) -> Option<Reason> {
        if candidate.verified_at.is_some() {
            return None;
        }
        let this = (candidate.started_at, candidate.id);
        if self.newest_verified.is_none_or(|newest| newest < this) {
            return Some(Reason::NothingLater);
        }
        let age = self.now.signed_duration_since(candidate.started_at);
        (age < LEFT_ALONE).then_some(Reason::MayBeUnderWay)
    }

    fn why_pruned(&self, candidate: &Candidate) -> Reason {
        let day = day(candidate);
        if candidate.verified_at.is_none() {
            return Reason::NeverVerified { day };
        }
        if self.daily.iter().any(|(_, kept)| *kept == day) {
            return Reason::Replaced { day };
        }
        Reason::Beyond {
            day,
            keep: self.keep,
        }
    }
}

/// Where one is among those that are kept, counted from 1.
fn nth<T: Copy>(kept: &[(Uuid, T)], id: Uuid) -> Option<(u32, T)> {
    (1..)
        .zip(kept)
        .find(|(_, (kept, _))| *kept == id)
        .map(|(nth, (_, of))| (nth, *of))
}

#[cfg(test)]
mod tests;

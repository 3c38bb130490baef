//! What a process knows of one caller: what it admitted itself, what Redis said last, and what it has yet to tell Redis.
//!
//! ```text
//! Redis answers    every request is asked of Redis; what it admitted is noted here as well
//! Redis is away    admitted here, while what this process admitted in the window and what others had at the last answer is
//!                  below the quota; noted as owed
//! Redis is back    what is owed goes with the next question, or is told by a task that looks for a new connection
//! Redis forgot     the key was made at another time than before: all that this process admitted in the window is owed
//! ```
//!
//! Each request is owed at most once, since what a question carries is taken out of the entry under its lock, and put back only
//! where no answer came. Should Redis have counted it nevertheless, it counts twice for one window: as many requests as were under
//! way when the connection broke.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::{
    Verdict,
    script::Answer,
    window::{Rule, Window, micros},
};

/// What a process knows of one caller.
#[derive(Debug)]
pub(super) struct Entry {
    pub rule: Rule,
    /// Its key in Redis.
    pub redis_key: String,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// What this process admitted.
    own: Window,
    /// What of it Redis has not counted.
    owed: u64,
    /// When the key was made that the rest is counted in; 0: none was.
    made: i64,
    /// What other processes had, and until when that is believed.
    others: u64,
    others_until: i64,
    /// Redis refused the caller: from when and until when it would do so again.
    refused: Option<(i64, i64)>,
}

/// A question to Redis under way. Dropped without an answer, it is as if it had not been asked.
pub(super) struct Question {
    entry: Arc<Entry>,
    pub owed: u64,
    made: i64,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.entry.lock().owed += self.owed;
    }
}

impl Entry {
    pub fn new(rule: Rule, redis_key: String) -> Self {
        Self {
            rule,
            redis_key,
            known: Mutex::new(Known {
                own: Window::new(rule),
                owed: 0,
                made: 0,
                others: 0,
                others_until: 0,
                refused: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The refusal that Redis would repeat: until the time that it gave, counted from before it was asked. A clock that went back
    /// proves nothing, so then it is asked again.
    pub fn refused(&self, now: DateTime<Utc>) -> Option<Verdict> {
        let now = now.timestamp_micros();
        let (from, until) = self.lock().refused?;
        (from..until)
            .contains(&now)
            .then(|| Verdict::refused(micros(until - now)))
    }

    /// What to ask Redis; what it carries is taken out of the entry.
    pub fn question(self: &Arc<Self>, now: DateTime<Utc>) -> Question {
        let known = &mut *self.lock();
        // What does not count any more need not be told.
        let owed = std::mem::take(&mut known.owed).min(known.own.used(now.timestamp_micros()));
        Question {
            entry: Arc::clone(self),
            owed,
            made: known.made,
        }
    }

    /// Whether something counts here that Redis may not know.
    pub fn is_used(&self, now: DateTime<Utc>) -> bool {
        self.lock().own.used(now.timestamp_micros()) > 0
    }

    /// Whether something is owed.
    pub fn owes(&self) -> bool {
        self.lock().owed > 0
    }

    /// Decides without Redis.
    pub fn decide(&self, now: DateTime<Utc>) -> Verdict {
        let now = now.timestamp_micros();
        let (quota, window) = (self.rule.quota, self.rule.window);
        let known = &mut *self.lock();
        // Beyond a window the clock was set back: what was believed then is not known to be so.
        if known.others_until <= now || known.others_until - now > window {
            known.others = 0;
        }
        let others_end = micros(known.others_until - now);
        let room = quota.saturating_sub(known.others);
        let used = known.own.used(now);
        if used < room {
            known.own.add(now, 1);
            known.owed += 1;
            return Verdict {
                is_admitted: true,
                remaining: room - used - 1,
                wait: known.own.until_release(now),
            };
        }
        let with_others = (room > 0).then(|| known.own.until_below(room, now));
        let without = known.own.until_below(quota, now).max(others_end);
        Verdict::refused(with_others.map_or(without, |wait| wait.min(without)))
    }
}

impl Question {
    /// Takes what Redis answered; the time is that before the question.
    pub fn answered(mut self, answer: Answer, take: bool, now: DateTime<Utc>) -> Verdict {
        let now = now.timestamp_micros();
        let owed = std::mem::take(&mut self.owed);
        let entry = Arc::clone(&self.entry);
        let known = &mut *entry.lock();
        let counted = owed + u64::from(answer.admitted);
        if answer.made != known.made {
            if known.made == self.made {
                // Redis forgot, or is asked for the first time: it knows of this question only.
                known.made = answer.made;
                known.owed = known.own.used(now).saturating_sub(owed);
            } else {
                // Another question has met a newer key meanwhile: what this one counted is gone.
                known.owed += counted;
            }
        }
        if answer.admitted {
            known.own.add(now, 1);
        }
        let own_there = known.own.used(now).saturating_sub(known.owed);
        known.others = answer.used.saturating_sub(own_there);
        known.others_until = now + entry.rule.window;
        if take && !answer.admitted {
            known.refused = Some((now, now + answer.release));
            return Verdict::refused(micros(answer.release));
        }
        Verdict {
            is_admitted: answer.admitted,
            remaining: entry.rule.quota.saturating_sub(answer.used),
            wait: micros(answer.release),
        }
    }
}

//! Judges a recorded history; pure.
//!
//! Each insight has one writer, and no two states of an insight are equal, so an answer says which state it is. States
//! are numbered from 0, no ratings; state `k` is what the `k`-th write led to. Where a commit lies between a write's
//! begin and its acknowledgement is not known, so each rule takes the end that cannot blame the innocent:
//!
//! * **No value that never was.** An answer is a state whose write had begun when the answer came.
//! * **No value more than a second old.** It is no older than the newest state that was acknowledged a second before the
//!   read was sent. (The one who answers looks later than that, so a correct server cannot fail by a slow machine.)
//! * **One's own writes are seen**, through the same server, and through any other that is sent the write's version.
//! * **No failure** of a server that is not excused, and never a 500 or a body that says nothing.
//! * **No delay** beyond a bound of a server that is not excused; pauses of the machine itself are taken off.

use std::{collections::HashMap, fmt, time::Duration};

use super::history::{Call, Failure, History, Purpose, Stats, Time, Write};

/// What is demanded.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How old an answer may be when it is asked for.
    pub staleness: Duration,
    /// How long a read may take.
    pub slow: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            staleness: Duration::from_secs(1),
            slow: Duration::from_secs(1),
        }
    }
}

/// A broken promise. States are numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Violation {
    /// The answer is no state of the insight.
    NeverWas { call: usize, answer: Stats },
    /// The answer is a state that nobody had begun to write.
    NotYet { call: usize, state: usize },
    /// A newer state was acknowledged so long before the read was sent.
    Stale {
        call: usize,
        state: usize,
        age: Duration,
    },
    /// The caller had written this state itself, and sees an older one.
    NotOwn {
        call: usize,
        state: usize,
        own: usize,
    },
    /// A server that had no excuse did not answer, or any server answered what none may.
    Failed { call: usize, failure: Failure },
    /// A server that had no excuse took so long.
    Slow { call: usize, took: Duration },
}

/// What the checker found.
#[derive(Debug, Default)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    pub reads: usize,
    /// Reads that failed with an excuse.
    pub excused: usize,
    pub writes: usize,
    /// The oldest answer: how long before it was asked for the next newer state was acknowledged.
    pub oldest: Duration,
    /// How long reads took that had no excuse; sorted.
    pub durations: Vec<Duration>,
}

impl Verdict {
    /// How many violations there are of a kind.
    pub fn count(&self, kind: impl Fn(&Violation) -> bool) -> usize {
        self.violations
            .iter()
            .filter(|violation| kind(violation))
            .count()
    }

    /// How many answers were too old.
    pub fn stale(&self) -> usize {
        self.count(|violation| matches!(violation, Violation::Stale { .. }))
    }

    /// How many reads without an excuse took longer than this.
    pub fn slower_than(&self, bound: Duration) -> usize {
        self.durations.len() - self.durations.partition_point(|took| *took <= bound)
    }

    /// The duration below which this share of the reads is.
    pub fn quantile(&self, share: f64) -> Duration {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an index
        let index = (self.durations.len() as f64 * share) as usize;
        let last = self.durations.len().saturating_sub(1);
        self.durations
            .get(index.min(last))
            .copied()
            .unwrap_or_default()
    }

    /// The first violations, each with its time, and with what was broken then.
    pub fn explain(&self, history: &History) -> String {
        let mut text = format!("{} violations", self.violations.len());
        for violation in self.violations.iter().take(12) {
            let call = &history.calls[violation.call()];
            let broken: Vec<&str> = history
                .windows
                .iter()
                .filter(|window| {
                    window.from <= call.end && window.to.is_none_or(|to| to >= call.start)
                })
                .map(|window| window.what.as_str())
                .collect();
            text += &format!(
                "\n  {:?} – {:?} server {} {:?}: {violation}; broken: {broken:?}",
                call.start, call.end, call.server, call.purpose
            );
            if let Purpose::Read { insight, .. } = call.purpose {
                text += &around(&history.insights[insight], call);
            }
        }
        text
    }
}

/// The states of an insight around a call.
fn around(writes: &[Write], call: &Call) -> String {
    let next = writes.partition_point(|write| write.begun <= call.end);
    let mut text = String::new();
    for (index, write) in writes
        .iter()
        .enumerate()
        .take(next + 1)
        .skip(next.saturating_sub(3))
    {
        text += &format!(
            "\n      state {} {} {:?} begun {:?} acknowledged {:?}",
            index + 1,
            write.stats,
            write.path,
            write.begun,
            write.acknowledged
        );
    }
    text
}

impl Violation {
    fn call(&self) -> usize {
        match self {
            Self::NeverWas { call, .. }
            | Self::NotYet { call, .. }
            | Self::Stale { call, .. }
            | Self::NotOwn { call, .. }
            | Self::Failed { call, .. }
            | Self::Slow { call, .. } => *call,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverWas { answer, .. } => write!(f, "{answer} never was"),
            Self::NotYet { state, .. } => write!(f, "state {state} was not begun yet"),
            Self::Stale { state, age, .. } => write!(f, "state {state} is too old, by {age:?}"),
            Self::NotOwn { state, own, .. } => {
                write!(f, "state {state}, having written state {own}")
            }
            Self::Failed { failure, .. } => write!(f, "{failure:?}"),
            Self::Slow { took, .. } => write!(f, "took {took:?}"),
        }
    }
}

/// Judges a run.
///
/// Panics when two states of an insight are equal: then the harness itself is wrong.
pub fn check(history: &History, limits: Limits) -> Verdict {
    let states: Vec<HashMap<Stats, usize>> = history
        .insights
        .iter()
        .map(|writes| numbered(writes))
        .collect();
    let mut verdict = Verdict {
        writes: history.insights.iter().map(Vec::len).sum(),
        ..Verdict::default()
    };
    for (index, call) in history.calls.iter().enumerate() {
        let excused = is_excused(history, call);
        let is_read = matches!(call.purpose, Purpose::Read { .. });
        verdict.reads += usize::from(is_read);
        if let Err(failure) = &call.outcome {
            if excused && failure.is_unavailability() {
                verdict.excused += usize::from(is_read);
            } else {
                let failure = failure.clone();
                verdict.violations.push(Violation::Failed {
                    call: index,
                    failure,
                });
            }
        }
        let Purpose::Read { insight, own } = call.purpose else {
            continue;
        };
        if !excused {
            let took = duration(history, call);
            verdict.durations.push(took);
            if took > limits.slow {
                verdict
                    .violations
                    .push(Violation::Slow { call: index, took });
            }
        }
        if let Ok(answer) = call.outcome {
            let judged = judge(
                &history.insights[insight],
                states[insight].get(&answer).copied(),
                index,
                call,
                own,
                answer,
                limits,
            );
            verdict.oldest = verdict.oldest.max(judged.age);
            verdict.violations.extend(judged.violation);
        }
    }
    verdict.durations.sort_unstable();
    verdict
}

fn numbered(writes: &[Write]) -> HashMap<Stats, usize> {
    let mut states = HashMap::from([(Stats::default(), 0)]);
    for (index, write) in writes.iter().enumerate() {
        let before = states.insert(write.stats, index + 1);
        assert!(before.is_none(), "two states are equal: {}", write.stats);
    }
    states
}

struct Judged {
    /// How old the answer was.
    age: Duration,
    violation: Option<Violation>,
}

fn judge(
    writes: &[Write],
    state: Option<usize>,
    call: usize,
    read: &Call,
    own: Option<usize>,
    answer: Stats,
    limits: Limits,
) -> Judged {
    let broken = |violation| Judged {
        age: Duration::ZERO,
        violation: Some(violation),
    };
    let Some(state) = state else {
        return broken(Violation::NeverWas { call, answer });
    };
    if state > 0 && writes[state - 1].begun > read.end {
        return broken(Violation::NotYet { call, state });
    }
    // Writes are in order, so the first one after the answer's own was acknowledged first.
    let superseded = writes.get(state).and_then(|next| next.acknowledged);
    let age = superseded.map_or(Duration::ZERO, |at| read.start.saturating_sub(at));
    let violation = if age >= limits.staleness && superseded.is_some() {
        Some(Violation::Stale { call, state, age })
    } else {
        own.filter(|own| state < *own)
            .map(|own| Violation::NotOwn { call, state, own })
    };
    Judged { age, violation }
}

fn is_excused(history: &History, call: &Call) -> bool {
    history.windows.iter().any(|window| {
        window.excused.contains(&call.server)
            && window.from <= call.end
            && window.to.is_none_or(|to| to >= call.start)
    })
}

/// How long a call took, without the machine's pauses (which are in order and do not overlap).
fn duration(history: &History, call: &Call) -> Duration {
    let first = history.pauses.partition_point(|(_, to)| *to < call.start);
    let paused: Duration = history.pauses[first..]
        .iter()
        .take_while(|(from, _)| *from < call.end)
        .map(|&(from, to)| overlap((from, to), (call.start, call.end)))
        .sum();
    call.end.saturating_sub(call.start).saturating_sub(paused)
}

fn overlap(one: (Time, Time), other: (Time, Time)) -> Duration {
    one.1.min(other.1).saturating_sub(one.0.max(other.0))
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;

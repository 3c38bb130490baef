//! What was seen during a run, on one monotonic clock.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Since the run's begin.
pub type Time = Duration;

/// An insight's statistics: how many ratings of 1, 2, 3, 4 and 5 it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stats(pub [u64; 5]);

impl Stats {
    /// How many ratings there are.
    pub fn total(self) -> u64 {
        self.0.iter().sum()
    }

    /// The mean, 0 without ratings.
    pub fn average(self) -> f64 {
        let sum: u64 = (1..)
            .zip(self.0)
            .map(|(rating, count)| rating * count)
            .sum();
        if sum == 0 {
            0.0
        } else {
            sum as f64 / self.total() as f64
        }
    }

    /// With one more, or one fewer, of a rating from 1 to 5.
    pub fn changed(mut self, rating: i16, by: i64) -> Self {
        let count = &mut self.0[usize::try_from(rating - 1).unwrap()];
        *count = count.checked_add_signed(by).unwrap();
        self
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Who changed an insight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// A call to a server.
    Api,
    /// SQL by the tables' owner, as with psql.
    Sql,
}

/// One change of an insight, by its only writer: it leads from the state before it to `stats`.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    /// What the insight has from its commit on.
    pub stats: Stats,
    /// Before it was first sent.
    pub begun: Time,
    /// When its writer knew of the commit.
    pub acknowledged: Option<Time>,
    /// The way it went.
    pub path: Path,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Another status than 200.
    Status(u16, String),
    /// 200 with a body that says no statistics, or contradicts itself.
    Malformed(String),
    /// The connection broke, or was refused.
    NoAnswer(String),
    /// The client gave up.
    TimedOut,
}

impl Failure {
    /// Whether a client must reckon with it from a server that is broken. Everything else is wrong at any time.
    pub fn is_unavailability(&self) -> bool {
        match self {
            Self::Status(status, _) => *status == 503,
            Self::Malformed(_) => false,
            Self::NoAnswer(_) | Self::TimedOut => true,
        }
    }
}

/// What a call was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Reading an insight's statistics.
    Read {
        insight: usize,
        /// The state that the caller had written itself, and must see.
        own: Option<usize>,
    },
    /// Writing. What became of it is in the [`Write`]; here is only whether and when it was answered.
    Write,
}

/// One call to a server.
#[derive(Debug, Clone)]
pub struct Call {
    pub server: usize,
    pub purpose: Purpose,
    pub start: Time,
    pub end: Time,
    /// A write's answer has no statistics: its value is the default.
    pub outcome: Result<Stats, Failure>,
}

/// A span of time in which something was broken.
#[derive(Debug, Clone)]
pub struct Window {
    pub what: String,
    pub from: Time,
    /// It is still broken without it.
    pub to: Option<Time>,
    /// The servers that may fail meanwhile.
    pub excused: Vec<usize>,
}

/// A run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// For each insight its changes in order. Before the first it has no ratings.
    pub insights: Vec<Vec<Write>>,
    pub calls: Vec<Call>,
    pub windows: Vec<Window>,
    /// Spans in which the machine itself did not let the harness run, though it wanted to.
    pub pauses: Vec<(Time, Time)>,
    /// How often each fault was injected.
    pub faults: BTreeMap<String, u32>,
}

/// A history that many tasks write.
#[derive(Debug)]
pub struct Recorder {
    origin: Instant,
    history: Mutex<History>,
}

impl Recorder {
    /// An empty history of so many insights; its time begins now.
    pub fn new(insights: usize) -> Self {
        Self {
            origin: Instant::now(),
            history: Mutex::new(History {
                insights: vec![Vec::new(); insights],
                ..History::default()
            }),
        }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.origin.elapsed()
    }

    /// The history, to be added to.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change is about to be sent; gives the number of the state it leads to.
    pub fn begins(&self, insight: usize, stats: Stats, path: Path) -> usize {
        let mut history = self.history();
        // Read under the lock, and before anything is sent.
        let begun = self.now();
        history.insights[insight].push(Write {
            stats,
            begun,
            acknowledged: None,
            path,
        });
        history.insights[insight].len()
    }

    /// The insight's newest change is known to be committed.
    pub fn acknowledged(&self, insight: usize) {
        let now = self.now();
        let mut history = self.history();
        let write = history.insights[insight].last_mut().unwrap();
        write.acknowledged = Some(now);
    }

    /// Something breaks; gives the window's number for [`ends`](Self::ends).
    pub fn breaks(&self, what: &str, excused: &[usize]) -> usize {
        let mut history = self.history();
        *history.faults.entry(what.to_owned()).or_default() += 1;
        let window = Window {
            what: what.to_owned(),
            from: self.now(),
            to: None,
            excused: excused.to_vec(),
        };
        history.windows.push(window);
        history.windows.len() - 1
    }

    /// What broke is whole again.
    pub fn ends(&self, window: usize) {
        let now = self.now();
        self.history().windows[window].to = Some(now);
    }

    /// Watches whether the machine lets this process run, on a thread of its own, as long as `self` lives.
    pub fn watch_the_machine(self: &std::sync::Arc<Self>) {
        const STEP: Duration = Duration::from_millis(5);
        const PAUSE: Duration = Duration::from_millis(40);
        let recorder = std::sync::Arc::downgrade(self);
        std::thread::spawn(move || {
            while let Some(recorder) = recorder.upgrade() {
                let before = recorder.now();
                std::thread::sleep(STEP);
                let after = recorder.now();
                if after.saturating_sub(before) > PAUSE {
                    recorder.history().pauses.push((before, after));
                }
            }
        });
    }
}

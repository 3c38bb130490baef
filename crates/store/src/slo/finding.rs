//! What is found out about a criterion, and how findings make a verdict.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// How a criterion stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// What was measured is what it asks for.
    Met,
    /// It is not.
    Missed,
    /// It cannot be judged yet; the reason says what to do for it.
    Unknown,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Met, Self::Missed, Self::Unknown];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Unknown => "unknown",
        }
    }

    /// The state of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What kind of evidence something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Measured by the processes that serve, and merged.
    Histogram,
    /// Counted in the tables.
    Rows,
    /// Read from the database's catalogue: constraints, triggers, partitions.
    Catalogue,
    /// Tried in a scratch database.
    Probe,
    /// A run of a scheduled task, or a backup or a proof.
    Run,
    /// The audit log.
    Audit,
    /// The manifest of an archive or a backup.
    Manifest,
    /// A setting of this process.
    Setting,
}

impl Source {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Histogram => "histogram",
            Self::Rows => "rows",
            Self::Catalogue => "catalogue",
            Self::Probe => "probe",
            Self::Run => "run",
            Self::Audit => "audit",
            Self::Manifest => "manifest",
            Self::Setting => "setting",
        }
    }
}

/// A number with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// The number.
    pub value: f64,
    /// What it counts: `ms`, `%`, `days` …
    pub unit: &'static str,
}

/// One thing that was found out.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What it means for the criterion.
    pub state: State,
    /// What kind of evidence it is.
    pub source: Source,
    /// A sentence.
    pub text: String,
    /// The number in it.
    pub measured: Option<Measured>,
    /// Of how many.
    pub samples: Option<u64>,
    /// When the first of them was.
    pub first_at: Option<DateTime<Utc>>,
}

impl Finding {
    /// A finding of a state.
    pub fn new(state: State, source: Source, text: impl Into<String>) -> Self {
        Self {
            state,
            source,
            text: text.into(),
            measured: None,
            samples: None,
            first_at: None,
        }
    }

    /// What is as it should be.
    pub fn met(source: Source, text: impl Into<String>) -> Self {
        Self::new(State::Met, source, text)
    }

    /// What is not.
    pub fn missed(source: Source, text: impl Into<String>) -> Self {
        Self::new(State::Missed, source, text)
    }

    /// What is not known.
    pub fn unknown(source: Source, text: impl Into<String>) -> Self {
        Self::new(State::Unknown, source, text)
    }

    /// Met or missed.
    pub fn holds(
        is_so: bool,
        source: Source,
        met: impl Into<String>,
        missed: impl Into<String>,
    ) -> Self {
        if is_so {
            Self::met(source, met)
        } else {
            Self::missed(source, missed)
        }
    }

    /// With the number that was measured.
    #[must_use]
    pub fn measuring(mut self, value: f64, unit: &'static str) -> Self {
        self.measured = Some(Measured { value, unit });
        self
    }

    /// With how many were looked at.
    #[must_use]
    pub fn of(mut self, samples: u64) -> Self {
        self.samples = Some(samples);
        self
    }

    /// With when the first of them was.
    #[must_use]
    pub fn from(mut self, first_at: Option<DateTime<Utc>>) -> Self {
        self.first_at = first_at;
        self
    }
}

/// What the findings about a criterion come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// The finding that the number is from: the first one that decides.
    pub leading: Finding,
    /// Why it is missed or not known; `None` where it is met.
    pub reason: Option<String>,
    /// All findings, the leading one first.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// The verdict of findings: `main` says whether the criterion is met, or that it cannot be said; each of the others can only
    /// say that it is not.
    ///
    /// What cannot be found out beside is shown and changes nothing: else one criterion would be unknown because of what
    /// another one is about.
    pub fn of(main: Finding, others: impl IntoIterator<Item = Finding>) -> Self {
        let mut findings = vec![main];
        findings.extend(others);
        let missed: Vec<&Finding> = findings
            .iter()
            .filter(|one| one.state == State::Missed)
            .collect();
        let (state, leading, reason) = if let Some(first) = missed.first() {
            let texts: Vec<&str> = missed.iter().map(|one| one.text.as_str()).collect();
            (State::Missed, (*first).clone(), Some(texts.join("; ")))
        } else {
            let main = findings[0].clone();
            let reason = (main.state == State::Unknown).then(|| main.text.clone());
            (main.state, main, reason)
        };
        Self {
            state,
            leading,
            reason,
            findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        State::{Met, Missed, Unknown},
        *,
    };

    #[test]
    fn the_main_finding_decides_and_the_others_can_only_turn_it_red() {
        let of = |main: State, other: State| {
            let finding = |state| Finding::new(state, Source::Rows, state.as_str());
            Verdict::of(finding(main), [finding(other)]).state
        };
        for (main, other, is) in [
            (Met, Met, Met),
            (Met, Unknown, Met),
            (Met, Missed, Missed),
            (Unknown, Met, Unknown),
            (Unknown, Unknown, Unknown),
            (Unknown, Missed, Missed),
            (Missed, Met, Missed),
            (Missed, Unknown, Missed),
        ] {
            assert_eq!(of(main, other), is, "{main:?} {other:?}");
        }
    }

    #[test]
    fn a_reason_names_everything_that_is_wrong() {
        let wrong = |text: &str| Finding::missed(Source::Rows, text);
        let verdict = Verdict::of(
            wrong("one"),
            [Finding::met(Source::Rows, "fine"), wrong("two")],
        );
        assert_eq!(verdict.reason.as_deref(), Some("one; two"));
        assert_eq!(
            Verdict::of(Finding::met(Source::Rows, "fine"), []).reason,
            None
        );
    }
}

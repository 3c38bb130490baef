//! What a check found, and how it is shown.

use serde::Serialize;
use serde_json::{Value, json};

use crate::output::{Colour, painted};

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    Warning,
    Failed,
    /// It was not looked at, for a reason.
    Skipped,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// As wide as the widest, and in its colour on a terminal.
    fn shown(self) -> String {
        let colour = match self {
            Self::Ok => Colour::Green,
            Self::Warning => Colour::Yellow,
            Self::Failed => Colour::Red,
            Self::Skipped => Colour::Grey,
        };
        let text = format!("{:<7}", self.as_str());
        painted(&text, colour, &std::io::stdout())
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name: the same as long as it is the same check.
    pub check: &'static str,
    pub state: State,
    /// In a sentence.
    pub says: String,
    /// What to do: a command, a setting, or a page of the documentation. None where there is nothing to do.
    pub mend: Option<String>,
}

impl Finding {
    pub fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, State::Ok, says, None)
    }

    pub fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, State::Skipped, why, None)
    }

    pub fn warning(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(check, State::Warning, says, Some(mend.into()))
    }

    pub fn failed(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(check, State::Failed, says, Some(mend.into()))
    }

    fn new(
        check: &'static str,
        state: State,
        says: impl Into<String>,
        mend: Option<String>,
    ) -> Self {
        Self {
            check,
            state,
            says: says.into(),
            mend,
        }
    }
}

fn count(findings: &[Finding], state: State) -> usize {
    findings
        .iter()
        .filter(|finding| finding.state == state)
        .count()
}

pub fn as_json(findings: &[Finding]) -> Value {
    json!({
        "ok": count(findings, State::Ok),
        "warnings": count(findings, State::Warning),
        "failed": count(findings, State::Failed),
        "skipped": count(findings, State::Skipped),
        "findings": findings,
    })
}

pub fn as_text(findings: &[Finding]) -> String {
    let widest = findings
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let says = crate::output::plain(&finding.says);
        text.push_str(&format!(
            "{}  {:<widest$}  {says}\n",
            finding.state.shown(),
            finding.check
        ));
        if let Some(mend) = &finding.mend {
            text.push_str(&format!(
                "{:9}{:<widest$}  → {}\n",
                "",
                "",
                crate::output::plain(mend)
            ));
        }
    }
    text.push_str(&format!(
        "{} ok, {} warnings, {} failed, {} skipped\n",
        count(findings, State::Ok),
        count(findings, State::Warning),
        count(findings, State::Failed),
        count(findings, State::Skipped)
    ));
    text
}

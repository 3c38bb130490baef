//! A function for each criterion, a file for each chapter: from what was read to a verdict, and nothing else.
//!
//! # The rules
//!
//! * **What is measured** is met when 99 of 100 values of the window are within the limit *and* 99 of 100 of the last five minutes are.
//!   Of fewer than 100 in five minutes each single one counts, so a present breach shows at once, and goes five minutes after the
//!   last one. Nothing measured is unknown.
//! * **What is tried** is missed as soon as the newest probe that tried it failed, and unknown where that is older than two cadences.
//! * **What must be there** (a constraint, a trigger, a partition) is missed when it is not.
//! * **What could not be read** is unknown, with the reason.

pub(super) mod backfill;
pub(super) mod backups;
pub(super) mod cache;
pub(super) mod feedback;
pub(super) mod metrics;
pub(super) mod migrations;
pub(super) mod pool;
pub(super) mod retention;
#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Finding, Source,
    evidence::{Gathered, Part, Task},
};
use crate::measure::{Meter, Tally, UNANSWERED};

/// Which share of what is measured must be within the limit.
const OBJECTIVE: f64 = 0.99;

/// How a measured value is told.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// What one value is: `progress updates`.
    what: &'static str,
    /// The unit that it is shown in, and how many of the meter's own make one.
    unit: &'static str,
    per_unit: f64,
    /// What to do for there being any.
    how: &'static str,
}

impl Told {
    const fn milliseconds(what: &'static str, how: &'static str) -> Self {
        Self {
            what,
            unit: "ms",
            per_unit: 1_000.0,
            how,
        }
    }

    fn value(self, value: u64) -> String {
        if value >= UNANSWERED {
            return "never answered".to_owned();
        }
        format!("{} {}", number(value as f64 / self.per_unit), self.unit)
    }
}

/// A number with as many places as say something.
fn number(value: f64) -> String {
    let text = match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    };
    let is_round = text.contains('.') && text.ends_with('0');
    if is_round {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn percent(share: f64) -> f64 {
    // Rounded down: 99.99 % is not all.
    (share * 10_000.0).floor() / 100.0
}

fn share_of(tally: &Tally, meter: Meter) -> f64 {
    tally.good(meter) as f64 / tally.count().max(1) as f64
}

/// Could not be read.
fn unread(source: Source, why: &str) -> Finding {
    Finding::unknown(source, format!("it could not be asked: {why}"))
}

/// What of something that was read.
fn of<T>(part: &Part<T>, source: Source) -> Result<&T, Finding> {
    part.as_ref().map_err(|why| unread(source, why))
}

/// The finding of something that may have failed to be read.
fn found(outcome: Result<Finding, Finding>) -> Finding {
    outcome.unwrap_or_else(|finding| finding)
}

/// Whether a measured value stays within its limit, by 99 of 100.
fn within(gathered: &Gathered, meter: Meter, told: Told) -> Finding {
    measured(gathered, meter, told, OBJECTIVE)
}

fn measured(gathered: &Gathered, meter: Meter, told: Told, objective: f64) -> Finding {
    let facts = match of(&gathered.facts, Source::Histogram) {
        Ok(facts) => facts.of(meter),
        Err(finding) => return finding,
    };
    let (window, count) = (facts.window, facts.window.count());
    let Some(p99) = window.quantile(meter, 0.99) else {
        let hours = gathered.window.num_hours();
        return Finding::unknown(
            Source::Histogram,
            format!("no {} in the last {hours} h: {}", told.what, told.how),
        );
    };
    let limit = told.value(meter.bounds()[meter.good().1]);
    let share = share_of(&window, meter);
    let text = format!(
        "{} % of {count} {} within {limit}, 99 % within {}, the worst {}",
        number(percent(share)),
        told.what,
        told.value(p99),
        told.value(window.worst)
    );
    let present = facts.present;
    let is_present_bad = present.count() > 0 && share_of(&present, meter) < objective;
    let finding = if is_present_bad {
        let over = present.count() - present.good(meter);
        Finding::missed(
            Source::Histogram,
            format!(
                "in the last five minutes {over} of {} {} were beyond {limit}, the worst {}",
                present.count(),
                told.what,
                told.value(present.worst)
            ),
        )
    } else {
        Finding::holds(share >= objective, Source::Histogram, text.clone(), text)
    };
    let shown = if is_present_bad { present.worst } else { p99 };
    let finding = if shown < UNANSWERED {
        finding.measuring(round(shown as f64 / told.per_unit), told.unit)
    } else {
        finding
    };
    finding.of(count).from(facts.first_at)
}

/// Whether a share of what is measured is as it should be.
fn share(gathered: &Gathered, meter: Meter, objective: f64, told: Told) -> Finding {
    let facts = match of(&gathered.facts, Source::Histogram) {
        Ok(facts) => facts.of(meter),
        Err(finding) => return finding,
    };
    let (window, count) = (facts.window, facts.window.count());
    if count == 0 {
        let hours = gathered.window.num_hours();
        return Finding::unknown(
            Source::Histogram,
            format!("nothing of it in the last {hours} h: {}", told.how),
        );
    }
    let in_window = share_of(&window, meter);
    let present = (facts.present.count() > 0).then(|| share_of(&facts.present, meter));
    let worst = present.map_or(in_window, |present| present.min(in_window));
    let text = match present {
        Some(present) if present < objective => format!(
            "{} % of {} {} in the last five minutes, {} % of {count} in the window",
            number(percent(present)),
            facts.present.count(),
            told.what,
            number(percent(in_window))
        ),
        _ => format!("{} % of {count} {}", number(percent(in_window)), told.what),
    };
    Finding::holds(worst >= objective, Source::Histogram, text.clone(), text)
        .measuring(percent(worst), "%")
        .of(count)
        .from(facts.first_at)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// What the newest probe found out about a criterion.
fn probed(gathered: &Gathered, criterion: &str) -> Finding {
    let probes = match of(&gathered.probes, Source::Probe) {
        Ok(probes) => probes,
        Err(finding) => return finding,
    };
    let tried = probes.iter().find_map(|probe| {
        let ended_at = probe.ended_at?;
        let steps = probe
            .steps
            .iter()
            .filter(|step| step.criterion == criterion);
        let steps: Vec<_> = steps.collect();
        (!steps.is_empty()).then_some((ended_at, steps))
    });
    let Some((at, steps)) = tried else {
        return Finding::unknown(Source::Probe, never_tried(gathered, criterion));
    };
    let count = steps.len() as u64;
    let failed: Vec<String> = steps
        .iter()
        .filter(|step| !step.ok)
        .map(|step| format!("{}: {}", step.step, step.message))
        .collect();
    let when = at.format("%Y-%m-%d %H:%M:%S UTC");
    if !failed.is_empty() {
        return Finding::missed(
            Source::Probe,
            format!("tried at {when}: {}", failed.join("; ")),
        )
        .of(count)
        .from(Some(at));
    }
    let cadence = TimeDelta::minutes(gathered.config.slo.probe_minutes.into());
    if gathered.now - at > cadence * 2 {
        return Finding::unknown(
            Source::Probe,
            format!(
                "it was last tried at {when}, more than two cadences ago: look whether the task check_criteria runs, or run \
                 `utxoiq-store slo --probe`"
            ),
        )
        .of(count)
        .from(Some(at));
    }
    let tried: Vec<&str> = steps.iter().map(|step| step.step.as_str()).collect();
    let took: u64 = steps.iter().map(|step| step.took_milliseconds).sum();
    Finding::met(
        Source::Probe,
        format!(
            "tried at {when} in a scratch database, in {took} ms: {}",
            tried.join("; ")
        ),
    )
    .measuring(took as f64, "ms")
    .of(count)
    .from(Some(at))
}

/// What to do for a probe.
fn never_tried(gathered: &Gathered, criterion: &str) -> String {
    // Connecting needs no database.
    if gathered.config.database.drill_url.is_none() && criterion != "C6.4" {
        return "it was never tried: set database.drill_url to the drill's connection (docs/operations/backups.md), so that it can be \
                tried in a scratch database"
            .to_owned();
    }
    let last = gathered
        .probes
        .as_ref()
        .ok()
        .and_then(|probes| probes.first());
    match last.and_then(|probe| probe.error.as_deref()) {
        Some(error) => format!("the last probe could not try it: {error}"),
        None => {
            "it was not tried yet: the task check_criteria does so, or `utxoiq-store slo --probe`"
                .to_owned()
        }
    }
}

/// Whether what keeps a guarantee is in the database and in force.
fn guarded(gathered: &Gathered, wanted: &[&'static str]) -> Finding {
    match of(&gathered.catalogue, Source::Catalogue) {
        Err(finding) => finding,
        Ok(catalogue) => {
            let missing = catalogue.missing(wanted);
            Finding::holds(
                missing.is_empty(),
                Source::Catalogue,
                format!("in force: {}", wanted.join(", ")),
                format!(
                    "not in force: {}; see `utxoiq-store migrate status` for what changed in the schema",
                    missing.join(", ")
                ),
            )
            .of(wanted.len() as u64)
        }
    }
}

/// Whether no row is there that must not be.
fn no_rows(wrong: u64, of: u64, from: Option<DateTime<Utc>>, what: &str) -> Finding {
    let text = format!("{wrong} of {of} {what}");
    Finding::holds(wrong == 0, Source::Rows, text.clone(), text)
        .measuring(wrong as f64, "rows")
        .of(of)
        .from(from)
}

/// A task; unknown where no schedule knows of it.
fn task<'a>(gathered: &'a Gathered, name: &str, how: &str) -> Result<&'a Task, Finding> {
    let tasks = of(&gathered.tasks, Source::Run)?;
    tasks.get(name).ok_or_else(|| {
        Finding::unknown(
            Source::Run,
            format!("no schedule knows the task {name}: {how}"),
        )
    })
}

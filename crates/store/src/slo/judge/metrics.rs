//! Metrics (C3).

use chrono::{Days, TimeDelta};

use super::{Told, found, guarded, of, probed, retention, task, within};
use crate::{
    measure::Meter,
    slo::{
        Finding, Source, Verdict,
        evidence::{Catalogue, Gathered},
    },
};

/// For how many days ahead there must be a partition: a week without a schedule stops no intake.
const DAYS_AHEAD: u64 = 7;

/// By how much rollups may be behind the clock before somebody should look.
const BEHIND: TimeDelta = TimeDelta::hours(3);

/// C3.1.
pub fn storing(gathered: &Gathered) -> Verdict {
    let rows = found(of(&gathered.rows, Source::Rows).map(|rows| {
        let text = if rows.has_samples {
            "there are samples of the window in system_metrics"
        } else {
            "nobody has reported a metric in the window"
        };
        if rows.has_samples {
            Finding::met(Source::Rows, text)
        } else {
            Finding::unknown(Source::Rows, text)
        }
    }));
    let guards = [
        "required system_metrics.sampled_at",
        "required system_metrics.value",
        "required system_metrics.series_id",
        "constraint system_metrics_pkey",
    ];
    Verdict::of(probed(gathered, "C3.1"), [rows, guarded(gathered, &guards)])
}

/// C3.2.
pub fn partitions(gathered: &Gathered) -> Verdict {
    let divided = found(
        of(&gathered.catalogue, Source::Catalogue).map(|catalogue| days(gathered, catalogue)),
    );
    Verdict::of(divided, [])
}

fn days(gathered: &Gathered, catalogue: &Catalogue) -> Finding {
    if !catalogue.is_divided {
        return Finding::missed(
            Source::Catalogue,
            "system_metrics is not divided by ranges of sampled_at",
        );
    }
    if catalogue.has_default {
        return Finding::missed(
            Source::Catalogue,
            "system_metrics has a default partition: samples in it are in no day, and attaching a day locks everybody out",
        );
    }
    if let Some(bounds) = catalogue.other_bounds.first() {
        return Finding::missed(
            Source::Catalogue,
            format!("a partition is not one day's: {bounds}"),
        );
    }
    let count = catalogue.days.len() as u64;
    let Some(first) = catalogue.days.first().filter(|_| count > 0) else {
        return Finding::unknown(
            Source::Catalogue,
            "no partition was made yet: the task make_metric_partitions makes them, from the first hour of a process that serves on",
        );
    };
    let today = gathered.now.date_naive();
    let missing = today
        .iter_days()
        .take_while(|day| *day <= today + Days::new(DAYS_AHEAD))
        .find(|day| !catalogue.days.contains(day));
    let ahead = catalogue.days.range(today..).skip(1).count();
    Finding::holds(
        missing.is_none(),
        Source::Catalogue,
        format!("{count} partitions of one day each from {first} on, {ahead} days ahead of today"),
        missing.map_or_else(String::new, |day| {
            format!("{day} has no partition, of the next {DAYS_AHEAD} days: look whether the task make_metric_partitions runs")
        }),
    )
    .measuring(ahead as f64, "days ahead")
    .of(count)
}

/// C3.3.
pub fn reading(gathered: &Gathered) -> Verdict {
    let told = Told::milliseconds(
        "reads of at most 24 hours",
        "it is measured when somebody reads a day of samples",
    );
    Verdict::of(within(gathered, Meter::DayRead, told), [])
}

/// C3.4.
pub fn aggregation(gathered: &Gathered) -> Verdict {
    Verdict::of(probed(gathered, "C3.4"), [rolled_up(gathered)])
}

/// Whether what is closed is rolled up.
fn rolled_up(gathered: &Gathered) -> Finding {
    let known = match task(
        gathered,
        "roll_up_metrics",
        "no process that serves has run here yet",
    ) {
        Ok(task) => task.first_seen_at,
        Err(finding) => return finding,
    };
    found(of(&gathered.rows, Source::Rows).map(|rows| {
        let Some(before) = rows.rolled_before else {
            return Finding::missed(Source::Rows, "it is not known how far rollups are made");
        };
        let behind = gathered.now - before.max(known);
        let text = format!(
            "rollups are made up to {}",
            before.format("%Y-%m-%d %H:%M UTC")
        );
        Finding::holds(
            !rows.has_samples || behind < BEHIND,
            Source::Rows,
            text.clone(),
            format!("{text}: look whether the task roll_up_metrics runs"),
        )
    }))
}

/// C3.5.
pub fn archiving(gathered: &Gathered) -> Verdict {
    let hot = retention::leaves_in_time(
        gathered,
        &[("metrics", "days of samples older than 90 days")],
        &["metrics"],
    );
    Verdict::of(hot, [])
}

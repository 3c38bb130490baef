//! Plans, reports and runs, as a terminal shows them.

use chrono::{DateTime, Utc};
use utxoiq_store::retention::{Action, Moved, Plan, Report, Run, Step};

use crate::{
    output::{note, out, outln, plain},
    table::{Side, table},
};

pub fn plan(plan: &Plan) -> anyhow::Result<()> {
    outln!("on {} (UTC)", plan.today);
    let rows: Vec<[String; 3]> = plan
        .boundaries
        .iter()
        .map(|line| {
            [
                line.dataset.name().to_owned(),
                line.hot_from.to_string(),
                line.cold_from.to_string(),
            ]
        })
        .collect();
    let columns = ["DATASET", "IN THE DATABASE FROM", "IN COLD STORAGE FROM"];
    outln!("{}", table(columns.map(|name| (name, Side::Left)), &rows));
    if plan.steps.is_empty() {
        note("nothing is due");
        return Ok(());
    }
    out!("{}", steps(&plan.steps));
    Ok(())
}

fn steps(steps: &[Step]) -> String {
    let rows: Vec<[String; 5]> = steps
        .iter()
        .map(|step| {
            let action = match step.action {
                Action::Archive => "archive",
                Action::Expire => "delete",
                Action::Keep => "keep",
            };
            // Of samples in the database it is only known about how many there are.
            let about = step.action == Action::Archive && step.dataset.name() == "metrics";
            [
                action.to_owned(),
                step.dataset.name().to_owned(),
                step.day.to_string(),
                format!("{}{}", if about { "about " } else { "" }, step.rows),
                step.reason.clone(),
            ]
        })
        .collect();
    let columns = [
        ("ACTION", Side::Left),
        ("DATASET", Side::Left),
        ("DAY", Side::Left),
        ("ROWS", Side::Right),
        ("WHY", Side::Left),
    ];
    table(columns, &rows)
}

pub fn report(report: &Report) -> anyhow::Result<()> {
    let moved = |what: &str, moved: &[Moved]| {
        moved
            .iter()
            .map(|moved| {
                [
                    what.to_owned(),
                    moved.dataset.to_owned(),
                    moved.day.to_string(),
                    moved.rows.to_string(),
                    moved.bytes.to_string(),
                    moved.object.clone(),
                ]
            })
            .collect::<Vec<_>>()
    };
    let rows = [
        moved("archived", &report.archived),
        moved("deleted", &report.expired),
    ]
    .concat();
    if rows.is_empty() {
        note("nothing was due");
    } else {
        let columns = [
            ("DONE", Side::Left),
            ("DATASET", Side::Left),
            ("DAY", Side::Left),
            ("ROWS", Side::Right),
            ("BYTES", Side::Right),
            ("OBJECT", Side::Left),
        ];
        out!("{}", table(columns, &rows));
    }
    if !report.kept.is_empty() {
        out!("{}", steps(&report.kept));
    }
    if report.removed_objects > 0 {
        note(format!(
            "{} objects were removed, and seen to be gone",
            report.removed_objects
        ));
    }
    for failure in &report.failures {
        let day = failure
            .day
            .map_or_else(String::new, |day| format!(" of {day}"));
        note(format!(
            "{} of {}{day} failed: {} ({})",
            failure.step, failure.dataset, failure.message, failure.code
        ));
    }
    Ok(())
}

pub fn runs(runs: &[Run]) -> anyhow::Result<()> {
    if runs.is_empty() {
        note("retention has never run here");
        return Ok(());
    }
    let short = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M:%S").to_string();
    let count = |run: &Run, of: &str| {
        let list = run
            .results
            .as_ref()
            .and_then(|results| results.get(of)?.as_array());
        list.map_or_else(String::new, |list| list.len().to_string())
    };
    let rows: Vec<[String; 8]> = runs
        .iter()
        .map(|run| {
            [
                run.id.to_string(),
                short(run.began_at),
                run.ended_at.map_or_else(String::new, short),
                run.outcome.clone().unwrap_or_else(|| "running".to_owned()),
                count(run, "archived"),
                count(run, "expired"),
                count(run, "failures"),
                plain(&run.began_by),
            ]
        })
        .collect();
    let columns = [
        ("RUN", Side::Right),
        ("BEGAN", Side::Left),
        ("ENDED", Side::Left),
        ("OUTCOME", Side::Left),
        ("ARCHIVED", Side::Right),
        ("DELETED", Side::Right),
        ("FAILED", Side::Right),
        ("BY", Side::Left),
    ];
    out!("{}", table(columns, &rows));
    for run in runs.iter().take(1) {
        let failures = run
            .results
            .as_ref()
            .and_then(|results| results.get("failures")?.as_array());
        for failure in failures.into_iter().flatten() {
            let text = |key: &str| {
                failure
                    .get(key)
                    .and_then(|value| value.as_str())
                    .unwrap_or_default()
            };
            note(format!(
                "{} of {} {} failed: {}",
                text("step"),
                text("dataset"),
                text("day"),
                plain(text("message"))
            ));
        }
    }
    Ok(())
}

//! Retention (C7).

use chrono::{DateTime, TimeDelta, Utc};

use super::{found, number, of, task};
use crate::slo::{
    Finding, Source, Verdict,
    evidence::{Gathered, Task},
};

/// How long ago retention may have succeeded for what it keeps true to be said: two nights and some.
const LATELY: TimeDelta = TimeDelta::hours(50);

/// How late a slot may begin: a process may have to be started.
const PUNCTUAL: TimeDelta = TimeDelta::minutes(15);

/// What to do for retention to run.
const HOW: &str =
    "set database.retention_url and cold.url where `utxoiq-store serve` or the tick runs";

/// Whether nothing is there that should have left, and what makes it leave runs. `kinds` is what may be owed, with what that is;
/// `datasets` whose archives are shown.
pub fn leaves_in_time(
    gathered: &Gathered,
    kinds: &[(&'static str, &'static str)],
    datasets: &[&'static str],
) -> Finding {
    let overdue = match of(&gathered.overdue, Source::Rows) {
        Ok(overdue) => overdue,
        Err(finding) => return finding,
    };
    for (kind, what) in kinds {
        let owed = overdue.get(*kind).copied().unwrap_or_default();
        if owed.due > 0 {
            let oldest = owed
                .oldest
                .map_or_else(String::new, |day| format!(", the oldest of {day}"));
            let text = format!(
                "{what}: {} should have left by now{oldest}; see what `utxoiq-store retention plan` says, and {HOW}",
                owed.due
            );
            return Finding::missed(Source::Rows, text).measuring(owed.due as f64, "overdue");
        }
    }
    let ran_at = gathered
        .tasks
        .as_ref()
        .ok()
        .and_then(|tasks| tasks.get("run_retention")?.succeeded_at);
    let archives = gathered.archives.as_ref().ok();
    let of_datasets = datasets.iter().filter_map(|name| archives?.get(*name));
    let (count, last_at) = of_datasets.fold((0, None::<DateTime<Utc>>), |(count, last), one| {
        (count + one.looked_at, last.max(one.archived_at))
    });
    let Some(ran_at) = ran_at.filter(|at| gathered.now - *at < LATELY) else {
        let text = format!(
            "nothing is overdue, but retention has not succeeded in the last two nights: {HOW}"
        );
        return Finding::unknown(Source::Run, text);
    };
    let archived = last_at.map_or("nothing was due to be archived yet".to_owned(), |at| {
        format!(
            "the last archive was made at {}",
            at.format("%Y-%m-%d %H:%M UTC")
        )
    });
    Finding::met(
        Source::Rows,
        format!(
            "nothing is overdue; retention succeeded at {}; {archived}",
            ran_at.format("%Y-%m-%d %H:%M UTC")
        ),
    )
    .measuring(0.0, "overdue")
    .of(count)
    .from(Some(ran_at))
}

/// C7.1.
pub fn jobs(gathered: &Gathered) -> Verdict {
    let kinds = [("backfill_jobs", "jobs that ended more than 180 days ago")];
    Verdict::of(leaves_in_time(gathered, &kinds, &["backfill_jobs"]), [])
}

/// C7.2: deleted in time, and after it was archived.
pub fn feedback(gathered: &Gathered) -> Verdict {
    let kinds = [
        (
            "feedback",
            "rows of feedback whose last change is more than 2 years ago",
        ),
        (
            "feedback_history",
            "acts of feedback of more than 2 years ago",
        ),
    ];
    let datasets = ["feedback", "feedback_history"];
    let proved_first = found(of(&gathered.archives, Source::Manifest).map(|archives| {
        let of_feedback = || datasets.iter().filter_map(|name| archives.get(*name));
        let wrong: u64 = of_feedback().map(|one| one.deleted_unproved).sum();
        let count: u64 = of_feedback().map(|one| one.looked_at).sum();
        Finding::holds(
            wrong == 0,
            Source::Manifest,
            format!("{count} archives of feedback were read back before their rows were deleted"),
            format!("of {wrong} archives rows were deleted before the archive was read back"),
        )
        .of(count)
    }));
    Verdict::of(leaves_in_time(gathered, &kinds, &datasets), [proved_first])
}

/// C7.3.
pub fn metrics(gathered: &Gathered) -> Verdict {
    let kinds = [
        ("metrics", "days of samples older than 90 days"),
        ("cold_metrics", "archives of days older than 455 days"),
        ("not_removed", "objects of archives that have ended"),
    ];
    Verdict::of(leaves_in_time(gathered, &kinds, &["metrics"]), [])
}

/// C7.4.
pub fn daily(gathered: &Gathered) -> Verdict {
    let ran = task(gathered, "run_retention", HOW).map(|task| punctual(gathered, task, 2));
    Verdict::of(found(ran), [])
}

/// The last time that an hour was full.
pub fn last_at_hour(now: DateTime<Utc>, hour: i64) -> DateTime<Utc> {
    let today =
        now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc() + TimeDelta::hours(hour);
    if today <= now {
        today
    } else {
        today - TimeDelta::days(1)
    }
}

/// Whether a task runs daily at an hour.
fn punctual(gathered: &Gathered, task: &Task, hour: i64) -> Finding {
    let name = &task.name;
    let wanted = format!("daily at {hour:02}:00 UTC");
    if task.cadence != wanted {
        return Finding::missed(
            Source::Run,
            format!("{name} is due {}, not {wanted}", task.cadence),
        );
    }
    if !task.enabled {
        return Finding::missed(
            Source::Run,
            format!("{name} is switched off in schedule_tasks"),
        );
    }
    let due = last_at_hour(gathered.now, hour);
    let when = due.format("%Y-%m-%d %H:%M UTC");
    let slot = task.slot.as_ref().filter(|slot| slot.at >= due);
    let Some(slot) = slot else {
        if task.first_seen_at > due {
            let next = due + TimeDelta::days(1);
            return Finding::unknown(
                Source::Run,
                format!(
                    "it is due for the first time at {}",
                    next.format("%Y-%m-%d %H:%M UTC")
                ),
            );
        }
        let is_late = gathered.now - due > PUNCTUAL;
        let text = format!(
            "the run of {when} has not begun: look whether a process that serves, or the tick, runs"
        );
        return if is_late {
            Finding::missed(Source::Run, text)
        } else {
            Finding::new(
                previous(task),
                Source::Run,
                format!("the run of {when} is about to begin"),
            )
        };
    };
    let late = slot.started_at - slot.at;
    if slot.state == "failed" {
        let error = slot.error.as_deref().unwrap_or("the log says why");
        return Finding::missed(Source::Run, format!("the run of {when} failed: {error}")).of(1);
    }
    // What is tried again begins later than what began in time.
    if slot.error.is_none() && late > PUNCTUAL {
        let minutes = number(late.num_seconds() as f64 / 60.0);
        return Finding::missed(
            Source::Run,
            format!("the run of {when} began {minutes} minutes late"),
        )
        .measuring(late.num_seconds() as f64, "s late")
        .of(1);
    }
    let end = match slot.finished_at {
        Some(at) if slot.state == "succeeded" => format!("succeeded at {}", at.format("%H:%M:%S")),
        _ => "is under way".to_owned(),
    };
    Finding::met(
        Source::Run,
        format!(
            "the run of {when} began at {} and {end}",
            slot.started_at.format("%H:%M:%S")
        ),
    )
    .measuring(late.num_seconds().max(0) as f64, "s late")
    .of(1)
    .from(Some(slot.started_at))
}

/// How the night before went, while tonight's run is about to begin.
fn previous(task: &Task) -> crate::slo::State {
    match &task.slot {
        Some(slot) if slot.state == "succeeded" => crate::slo::State::Met,
        Some(_) => crate::slo::State::Missed,
        None => crate::slo::State::Unknown,
    }
}

/// C7.5: what was done is in the log, and the log is whole.
pub fn audited(gathered: &Gathered) -> Verdict {
    let logged = found(of(&gathered.archives, Source::Audit).map(|archives| {
        let unlogged: u64 = archives.values().map(|one| one.unlogged).sum();
        let count: u64 = archives.values().map(|one| one.looked_at).sum();
        let from = archives.values().filter_map(|one| one.from_at).min();
        if count == 0 {
            return Finding::unknown(Source::Audit, "nothing was archived or deleted yet");
        }
        Finding::holds(
            unlogged == 0,
            Source::Audit,
            format!("every archival, deletion and expiry of the newest {count} archives is in the audit log"),
            format!("{unlogged} archivals, deletions or expiries of the newest {count} archives are not in the audit log"),
        )
        .measuring(unlogged as f64, "not logged")
        .of(count)
        .from(from)
    }));
    let chain = found(of(&gathered.audit, Source::Audit).map(|tail| {
        Finding::holds(
            tail.wrong.is_none(),
            Source::Audit,
            format!(
                "the last {} of {} entries are a chain that ends where its head says",
                tail.verified, tail.last
            ),
            format!(
                "the audit log was tampered with: {}; run `utxoiq-store audit verify`",
                tail.wrong.as_deref().unwrap_or_default()
            ),
        )
        .of(tail.verified)
    }));
    Verdict::of(logged, [chain])
}

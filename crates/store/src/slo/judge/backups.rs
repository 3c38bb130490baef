//! Backups (C8).

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Told, found, measured, of, retention::last_at_hour, task};
use crate::{
    backup::{
        Backup, State as BackupState,
        policy::{Candidate, Keep, Reason, plan},
        region::Judgement,
        watch::{Run, State as RunState},
    },
    measure::Meter,
    slo::{
        Finding, Source, State, Verdict,
        evidence::{Gathered, TOLD_WITHIN},
    },
};

/// How late a backup may begin.
const PUNCTUAL: TimeDelta = TimeDelta::minutes(15);

/// How old the last proof may be: a week and a day.
const PROVED_WITHIN: TimeDelta = TimeDelta::days(8);

/// What C8.2 asks for, whatever is configured.
const KEEP: Keep = Keep {
    daily: 7,
    weekly: 4,
};

const HOW: &str =
    "set backup_store.url and database.backup_url where `utxoiq-store serve` or the tick runs";

fn minute(time: DateTime<Utc>) -> impl std::fmt::Display {
    time.format("%Y-%m-%d %H:%M UTC")
}

/// C8.1.
pub fn daily(gathered: &Gathered) -> Verdict {
    let made = task(gathered, "make_backup", HOW).and_then(|task| {
        if task.cadence != "daily at 01:00 UTC" {
            return Err(Finding::missed(
                Source::Run,
                format!("backups are due {}, not daily at 01:00 UTC", task.cadence),
            ));
        }
        if !task.enabled {
            return Err(Finding::missed(
                Source::Run,
                "make_backup is switched off in schedule_tasks",
            ));
        }
        let history = of(&gathered.backups, Source::Run)?;
        let due = last_at_hour(gathered.now, 1);
        Ok(of_slot(gathered, &history.runs, due, task.first_seen_at))
    });
    Verdict::of(found(made), [])
}

fn of_slot(
    gathered: &Gathered,
    runs: &[Run],
    due: DateTime<Utc>,
    known_at: DateTime<Utc>,
) -> Finding {
    let tries: Vec<&Run> = runs.iter().filter(|run| run.slot_at == Some(due)).collect();
    let late_after = TimeDelta::minutes(gathered.config.backup.late_minutes.into());
    let Some(first) = tries.iter().map(|run| run.started_at).min() else {
        if known_at > due {
            let next = due + TimeDelta::days(1);
            return Finding::unknown(
                Source::Run,
                format!("the first one is due at {}", minute(next)),
            );
        }
        if gathered.now - due <= PUNCTUAL {
            let before = due - TimeDelta::days(1);
            return of_earlier(runs, before);
        }
        return Finding::missed(
            Source::Run,
            format!("the backup of {} was not begun", minute(due)),
        );
    };
    let late = first - due;
    let began = format!(
        "the backup of {} began {} s after its time",
        minute(due),
        late.num_seconds()
    );
    let verified = tries.iter().find(|run| run.state == RunState::Verified);
    let finding = if late > PUNCTUAL {
        Finding::missed(Source::Run, began)
    } else if let Some(run) = verified {
        let rows = run.rows.unwrap_or_default();
        Finding::met(
            Source::Run,
            format!("{began}, has {rows} rows, and all of it was read back"),
        )
    } else if let Some(run) = tries
        .iter()
        .find(|run| matches!(run.state, RunState::Failed | RunState::Abandoned))
    {
        let error = run.error.as_deref().unwrap_or("the log says why");
        Finding::missed(
            Source::Run,
            format!("the backup of {} failed: {error}", minute(due)),
        )
    } else if gathered.now - due > late_after {
        Finding::missed(Source::Run, format!("{began} and is not verified yet"))
    } else {
        Finding::met(Source::Run, format!("{began} and is under way"))
    };
    finding
        .measuring(late.num_seconds() as f64, "s late")
        .of(tries.len() as u64)
        .from(Some(first))
}

/// While tonight's is about to begin: how yesterday's went.
fn of_earlier(runs: &[Run], slot: DateTime<Utc>) -> Finding {
    let verified = runs
        .iter()
        .any(|run| run.slot_at == Some(slot) && run.state == RunState::Verified);
    let state = if verified { State::Met } else { State::Unknown };
    Finding::new(
        state,
        Source::Run,
        format!(
            "tonight's backup is about to begin; that of {} {}",
            minute(slot),
            if verified {
                "was read back"
            } else {
                "was not verified"
            }
        ),
    )
}

/// C8.2: what the policy of seven days and four weeks would keep of all that was ever verified is there, and as it was.
pub fn kept(gathered: &Gathered) -> Verdict {
    Verdict::of(
        found(of(&gathered.kept, Source::Manifest).map(|all| of_kept(all, gathered.now))),
        [],
    )
}

fn of_kept(all: &[Backup], now: DateTime<Utc>) -> Finding {
    let by_id: HashMap<_, &Backup> = all.iter().map(|one| (one.id, one)).collect();
    let candidates: Vec<Candidate> = all
        .iter()
        .filter(|one| one.verified_at.is_some())
        .map(|one| Candidate {
            id: one.id,
            started_at: one.started_at,
            verified_at: one.verified_at,
            proved_at: one.proved_at,
        })
        .collect();
    let (mut daily, mut weekly, mut gone) = (0_u64, 0_u64, Vec::new());
    for verdict in plan(&candidates, KEEP, now) {
        let (mut is_daily, mut is_weekly) = (false, false);
        for reason in &verdict.reasons {
            is_daily |= matches!(reason, Reason::Daily { .. });
            is_weekly |= matches!(reason, Reason::Weekly { .. });
        }
        let Some(backup) = by_id.get(&verdict.id).filter(|_| is_daily || is_weekly) else {
            continue;
        };
        if backup.state == BackupState::Verified && backup.damaged_at.is_none() {
            daily += u64::from(is_daily);
            weekly += u64::from(is_weekly);
        } else {
            gone.push(format!("that of {}", minute(backup.started_at)));
        }
    }
    let text = format!("{daily} of 7 daily and {weekly} of 4 weekly backups are there, read back");
    let finding = if !gone.is_empty() {
        Finding::missed(
            Source::Manifest,
            format!(
                "to be kept, and not there or damaged: {}; {text}",
                gone.join(", ")
            ),
        )
    } else if daily >= 7 && weekly >= 4 {
        Finding::met(Source::Manifest, text)
    } else if daily == 0 {
        Finding::unknown(
            Source::Manifest,
            format!("there is no verified backup yet: {HOW}"),
        )
    } else {
        Finding::unknown(
            Source::Manifest,
            format!("{text}: the others come with time, the last after four weeks"),
        )
    };
    let first = candidates.iter().map(|one| one.started_at).min();
    finding
        .measuring(daily as f64, "daily")
        .of(candidates.len() as u64)
        .from(first)
}

/// C8.3.
pub fn proved(gathered: &Gathered) -> Verdict {
    let proof = of(&gathered.backups, Source::Run).map(|history| {
        let mut ended: Vec<_> = history.proofs.iter().filter_map(|one| Some((one.ended_at?, one))).collect();
        ended.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let count = ended.len() as u64;
        let Some((at, newest)) = ended.first().copied() else {
            let first = history.runs.iter().filter(|run| run.state == RunState::Verified).map(|run| run.started_at).min();
            let how = "set database.drill_url and backup.drill_identity where the task prove_backup is to run";
            return match first {
                Some(first) if gathered.now - first > PROVED_WITHIN => {
                    Finding::missed(Source::Run, format!("no backup was ever restored to prove it, the first is of {}: {how}", minute(first)))
                }
                _ => Finding::unknown(Source::Run, format!("no backup was restored to prove it yet: {how}")),
            };
        };
        let age = gathered.now - at;
        let finding = if !newest.ok {
            Finding::missed(Source::Run, format!("the proof of {} failed: {}", minute(at), newest.what))
        } else if age > PROVED_WITHIN {
            Finding::missed(Source::Run, format!("the last proof is of {}, {} days ago", minute(at), age.num_days()))
        } else {
            Finding::met(Source::Run, format!("a restore of {} gave what was backed up", minute(at)))
        };
        finding
            .measuring(super::round(age.num_minutes() as f64 / 1_440.0), "days ago")
            .of(count)
            .from(ended.last().map(|(at, _)| *at))
    });
    Verdict::of(found(proof), [])
}

/// C8.4.
pub fn region(gathered: &Gathered) -> Verdict {
    if gathered.places.is_empty() {
        let text = format!("this process does not know where backups lie: {HOW}");
        return Verdict::of(Finding::unknown(Source::Setting, text), []);
    }
    let count = gathered.places.len() as u64;
    let found = gathered.places.iter().map(|place| {
        let say = |what: &str| format!("{}: {what}", place.store);
        let finding = match &place.judgement {
            Judgement::Separate => {
                Finding::met(Source::Setting, say("in another region than the database"))
            }
            Judgement::Same { reason } => Finding::missed(Source::Setting, say(reason)),
            Judgement::CannotJudge { reason } => Finding::unknown(
                Source::Setting,
                say(&format!("it cannot be judged: {reason}")),
            ),
        };
        finding.of(count)
    });
    let mut findings: Vec<Finding> = found.collect();
    // One copy elsewhere is enough, wherever the other is.
    findings.sort_by_key(|finding| finding.state);
    let main = findings.remove(0);
    Verdict::of(main, findings)
}

/// C8.5.
pub fn alerted(gathered: &Gathered) -> Verdict {
    let watched = found(of(&gathered.untold, Source::Rows).map(|untold| {
        if gathered.receivers.is_empty() {
            return Finding::unknown(
                Source::Setting,
                "alerts are only logged: set alert.webhook_url, alert.slack_url, alert.alertmanager_url or alert.smtp_url",
            );
        }
        let names = gathered.receivers.join(", ");
        match untold.observed_at {
            None => Finding::unknown(Source::Run, "nobody watches the backups yet: every process that serves does"),
            Some(at) if gathered.now - at > TOLD_WITHIN => Finding::missed(
                Source::Run,
                format!("nobody has watched the backups since {}: look whether a process serves", minute(at)),
            ),
            Some(at) => Finding::met(Source::Run, format!("backups were looked at {} s ago; told are {names}", (gathered.now - at).num_seconds()))
                .of(gathered.receivers.len() as u64)
                .from(Some(at)),
        }
    }));
    let failures = found(of(&gathered.failures, Source::Rows).map(|failures| {
        let is_late = |one: &&crate::slo::evidence::Failure| {
            let failed_at = one.ended_at.unwrap_or(one.started_at);
            let opened_in_time = one.opened_at.is_some_and(|at| at - failed_at <= TOLD_WITHIN);
            gathered.now - failed_at > TOLD_WITHIN && !(opened_in_time && one.is_taken)
        };
        let late = failures.iter().filter(is_late).count();
        let count = failures.len() as u64;
        Finding::holds(
            late == 0,
            Source::Rows,
            format!("{count} backups failed in the last 31 days, each alerted within 5 minutes"),
            format!("{late} of {count} backups that failed in the last 31 days were not alerted within 5 minutes"),
        )
        .of(count)
    }));
    let untold = found(of(&gathered.untold, Source::Rows).map(|untold| {
        Finding::holds(
            untold.untold == 0,
            Source::Rows,
            "every open alert about backups was taken by a receiver",
            format!(
                "{} open alerts about backups were taken by no receiver within 5 minutes",
                untold.untold
            ),
        )
    }));
    let told = Told {
        what: "alerts were taken",
        unit: "s",
        per_unit: 1.0,
        how: "there were none",
    };
    let received = measured(gathered, Meter::AlertReceipt, told, 1.0);
    Verdict::of(watched, [failures, untold, received])
}

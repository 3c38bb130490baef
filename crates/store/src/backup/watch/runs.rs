//! What is wrong with runs.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};

use super::{Facts, Kind, Run, Settings, State, critical, has_passed, second, warning};
use crate::alert::Condition;

const MISSING: Kind = critical(
    "backup_missing",
    "docs/operations/backups.md#a-backup-did-not-begin",
);
const FAILED: Kind = critical(
    "backup_failed",
    "docs/operations/backups.md#a-backup-failed",
);
const LATE: Kind = critical("backup_late", "docs/operations/backups.md#a-backup-is-late");
const UNVERIFIED: Kind = critical(
    "backup_unverified",
    "docs/operations/backups.md#a-backup-is-not-verified",
);
const SHRUNKEN: Kind = critical(
    "backup_shrunken",
    "docs/operations/backups.md#a-backup-shrank",
);
const COPY_MISSING: Kind = warning(
    "backup_copy_missing",
    "docs/operations/backups.md#a-second-copy-is-missing",
);

/// The slots for which no run began in time and that nothing has made good: the newest that had its time, and those before it
/// that were told.
pub(super) fn missing(
    now: DateTime<Utc>,
    configured_at: DateTime<Utc>,
    facts: &Facts,
    settings: &Settings,
) -> Vec<Condition> {
    let Some(newest) = newest_slot(now, settings) else {
        return Vec::new();
    };
    let told = facts.open.iter().filter_map(|key| {
        let day: NaiveDate = key
            .strip_prefix(MISSING.name)?
            .strip_prefix(':')?
            .parse()
            .ok()?;
        Some(day.and_time(settings.slot_time).and_utc())
    });
    let slots: BTreeSet<DateTime<Utc>> = told
        .filter(|slot| *slot < newest)
        .chain([newest])
        .filter(|slot| *slot >= configured_at && is_missing(*slot, facts, settings))
        .collect();
    let last = newest_verified(facts);
    slots
        .into_iter()
        .map(|slot| {
            let day = slot.date_naive().to_string();
            MISSING.about(
                &day,
                format!("the backup of {} has not begun", minute(slot)),
                format!(
                    "no run had begun {} seconds after it was due, and none that began since is verified; {last}",
                    settings.missing_after.num_seconds()
                ),
            )
        })
        .collect()
}

/// The newest slot that had its time to begin.
fn newest_slot(now: DateTime<Utc>, settings: &Settings) -> Option<DateTime<Utc>> {
    let until = now.checked_sub_signed(settings.missing_after)?;
    let of = |day: NaiveDate| day.and_time(settings.slot_time).and_utc();
    let day = until.date_naive();
    let slot = of(day);
    if slot <= until {
        Some(slot)
    } else {
        day.pred_opt().map(of)
    }
}

fn is_missing(slot: DateTime<Utc>, facts: &Facts, settings: &Settings) -> bool {
    !facts.runs.iter().any(|run| {
        let in_time =
            run.slot_at == Some(slot) && !has_passed(run.started_at, slot, settings.missing_after);
        in_time || (run.started_at >= slot && run.state == State::Verified)
    })
}

fn newest_verified(facts: &Facts) -> String {
    let verified = facts.runs.iter().filter(|run| run.state == State::Verified);
    match verified.map(|run| run.started_at).max() {
        Some(newest) => format!("the newest verified backup is that of {}", minute(newest)),
        None => "there is no verified backup of the last days".to_owned(),
    }
}

/// What is wrong with the runs after which nothing was verified, and with the copies after which nothing was copied. The runs are
/// given in the order in which they began.
pub(super) fn troubled(now: DateTime<Utc>, runs: &[&Run], settings: &Settings) -> Vec<Condition> {
    let verified = runs.iter().rposition(|run| run.state == State::Verified);
    let copied = runs.iter().rposition(|run| run.copied_at.is_some());
    let mut found = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        if verified.is_none_or(|verified| verified < at) {
            found.extend(ended_badly(now, run, settings));
            found.extend(late(now, run, settings));
        }
        if copied.is_none_or(|copied| copied < at) {
            found.extend(not_copied(now, run, settings));
        }
    }
    found
}

/// A run that failed, or of which nothing is heard, or which is not what was dumped.
fn ended_badly(now: DateTime<Utc>, run: &Run, settings: &Settings) -> Option<Condition> {
    let is_silent = has_passed(now, run.heard_at, settings.silent_after);
    let error = run.error.as_deref();
    match run.state {
        State::Failed => Some(failed(run, "failed", error.unwrap_or("it says no reason"))),
        State::Abandoned => {
            let why = error.unwrap_or("its process was gone, and it was given up");
            Some(failed(run, "was given up", why))
        }
        State::Running if is_silent => {
            let why = format!(
                "its process was heard of last at {}: it was killed, or it hangs",
                second(run.heard_at)
            );
            Some(failed(run, "is not heard of any more", &why))
        }
        State::Stored => not_verified(now, run, is_silent, settings),
        State::Running | State::Verified => None,
    }
}

fn failed(run: &Run, how: &str, why: &str) -> Condition {
    FAILED.about(&name(run), format!("{} {how}", title(run)), why)
}

fn not_verified(
    now: DateTime<Utc>,
    run: &Run,
    is_silent: bool,
    settings: &Settings,
) -> Option<Condition> {
    let is_over = run
        .stored_at
        .is_some_and(|stored| has_passed(now, stored, settings.unverified_after));
    let why = match &run.error {
        Some(error) => error.clone(),
        None if is_over => format!(
            "it was not read back in {} minutes",
            settings.unverified_after.num_minutes()
        ),
        None if is_silent => format!(
            "the process that read it back was heard of last at {}",
            second(run.heard_at)
        ),
        None => return None,
    };
    Some(UNVERIFIED.about(
        &name(run),
        format!("{} is stored and not verified", title(run)),
        why,
    ))
}

fn late(now: DateTime<Utc>, run: &Run, settings: &Settings) -> Option<Condition> {
    let is_under_way = matches!(run.state, State::Running | State::Stored);
    (is_under_way && has_passed(now, run.started_at, settings.late_after)).then(|| {
        LATE.about(
            &name(run),
            format!("{} is late", title(run)),
            format!(
                "it began at {} and is not verified after {} minutes",
                second(run.started_at),
                settings.late_after.num_minutes()
            ),
        )
    })
}

fn not_copied(now: DateTime<Utc>, run: &Run, settings: &Settings) -> Option<Condition> {
    let verified_at = run
        .verified_at
        .filter(|_| run.copy_expected && run.copied_at.is_none())?;
    let why = match &run.error {
        Some(error) => error.clone(),
        None if has_passed(now, verified_at, settings.copy_after) => format!(
            "it was verified at {} and is in one store only",
            second(verified_at)
        ),
        None => return None,
    };
    Some(COPY_MISSING.about(
        &name(run),
        format!("{} is not in the second store", title(run)),
        why,
    ))
}

/// The first of the small backups, where the newest verified one is small beside the one before them. The runs are given in the
/// order in which they began.
pub(super) fn shrunken(runs: &[&Run], settings: &Settings) -> Option<Condition> {
    let mut normal: Option<&Run> = None;
    let mut small: Option<&Run> = None;
    let mut newest: Option<&Run> = None;
    for run in runs.iter().filter(|run| run.state == State::Verified) {
        let first = small.unwrap_or(run);
        let is_remembered = !has_passed(run.started_at, first.started_at, settings.shrink_for);
        if is_remembered && normal.is_some_and(|normal| is_small(run, normal, settings)) {
            small = Some(first);
        } else {
            normal = Some(run);
            small = None;
        }
        newest = Some(run);
    }
    let (normal, small, newest) = (normal?, small?, newest?);
    let size = |run: &Run| {
        let told = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
        format!(
            "{} bytes ({} stored) and {} rows",
            told(run.plain_bytes),
            told(run.stored_bytes),
            told(run.rows)
        )
    };
    Some(SHRUNKEN.about(
        &name(small),
        format!("{} is much smaller than the one before", title(small)),
        format!(
            "the newest, of {}, has {}; that of {} had {}; below {} % of either is taken for a loss",
            minute(newest.started_at),
            size(newest),
            minute(normal.started_at),
            size(normal),
            settings.shrink_percent
        ),
    ))
}

fn is_small(run: &Run, normal: &Run, settings: &Settings) -> bool {
    let is_below = |now: Option<u64>, before: Option<u64>| match (now, before) {
        (Some(now), Some(before)) => {
            u128::from(now) * 100 < u128::from(before) * u128::from(settings.shrink_percent)
        }
        _ => false,
    };
    is_below(run.plain_bytes, normal.plain_bytes) || is_below(run.rows, normal.rows)
}

/// What a run is called in a key: its slot, so that a second try at it is the same incident, or its id.
fn name(run: &Run) -> String {
    match run.slot_at {
        Some(slot) => slot.format("%Y-%m-%dT%H:%MZ").to_string(),
        None => run.id.simple().to_string(),
    }
}

/// What a run is called in a title.
fn title(run: &Run) -> String {
    match run.slot_at {
        Some(slot) => format!("the backup of {}", minute(slot)),
        None => format!("the backup begun by hand at {}", minute(run.started_at)),
    }
}

fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

mod beside;
mod simulation;

use super::*;
use crate::alert::Severity;

/// A Sunday.
const SLOT: &str = "2026-11-22T01:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn slot() -> DateTime<Utc> {
    at(SLOT)
}

/// A run of the slot so many days before [`SLOT`], verified after 20 minutes.
fn verified(days_ago: i64) -> Run {
    let slot_at = slot() - TimeDelta::days(days_ago);
    Run {
        id: Uuid::from_u128(u128::from(days_ago.unsigned_abs()) + 1),
        slot_at: Some(slot_at),
        started_at: slot_at + TimeDelta::seconds(5),
        heard_at: slot_at + TimeDelta::minutes(20),
        state: State::Verified,
        error: None,
        stored_at: Some(slot_at + TimeDelta::minutes(15)),
        verified_at: Some(slot_at + TimeDelta::minutes(20)),
        copy_expected: false,
        copied_at: None,
        plain_bytes: Some(1_000),
        stored_bytes: Some(300),
        rows: Some(100),
    }
}

fn in_state(state: State) -> Run {
    Run {
        state,
        verified_at: None,
        ..verified(0)
    }
}

fn facts(runs: Vec<Run>) -> Facts {
    Facts {
        configured_at: Some(at("2026-01-01T00:00:00Z")),
        runs,
        ..Facts::default()
    }
}

fn keys_at(now: DateTime<Utc>, facts: &Facts) -> Vec<String> {
    conditions(now, facts, &Settings::default())
        .into_iter()
        .map(|condition| condition.key)
        .collect()
}

/// The second before, the second itself and the second after: nothing, and twice this condition.
fn begins_at(limit: DateTime<Utc>, facts: &Facts, key: &str) {
    for (seconds, holds) in [(-1, false), (0, true), (1, true)] {
        let now = limit + TimeDelta::seconds(seconds);
        let keys = keys_at(now, facts);
        assert_eq!(
            keys.iter().any(|found| found == key),
            holds,
            "{now} {keys:?}"
        );
    }
}

fn holds(now: DateTime<Utc>, facts: &Facts, key: &str) -> bool {
    keys_at(now, facts).iter().any(|found| found == key)
}

fn succeeded(started_at: DateTime<Utc>) -> Proof {
    Proof {
        id: Uuid::from_u128(7),
        started_at,
        ended_at: Some(started_at + TimeDelta::minutes(10)),
        ok: true,
        what: "everything equal".to_owned(),
    }
}

fn minutes(count: i64) -> TimeDelta {
    TimeDelta::minutes(count)
}

#[test]
fn nothing_is_wrong_when_the_night_went_well() {
    let facts = facts(vec![verified(1), verified(0)]);
    for now in ["2026-11-22T01:20:00Z", "2026-11-23T01:03:29Z"] {
        assert_eq!(keys_at(at(now), &facts), Vec::<String>::new());
    }
}

#[test]
fn a_slot_without_a_run_is_missing_after_three_and_a_half_minutes() {
    let mut facts = facts(vec![verified(1)]);
    let key = "backup_missing:2026-11-22";
    let limit = slot() + TimeDelta::seconds(210);
    begins_at(limit, &facts, key);
    let detail = &conditions(limit, &facts, &Settings::default())[0].detail;
    assert!(detail.contains("that of 2026-11-21 01:00 UTC"), "{detail}");
    // The slot's own run has begun, in time or not.
    for (seconds, is_in_time) in [(209, true), (210, false), (211, false)] {
        let mut run = in_state(State::Running);
        run.started_at = slot() + TimeDelta::seconds(seconds);
        run.heard_at = slot() + minutes(9);
        facts.runs = vec![verified(1), run];
        assert_eq!(
            holds(slot() + minutes(9), &facts, key),
            !is_in_time,
            "{seconds}"
        );
    }
    // It is made good by one that is verified, whatever began it, and not by one that only runs.
    let mut by_hand = verified(0);
    by_hand.slot_at = None;
    by_hand.started_at = slot() + minutes(500);
    for state in [
        State::Running,
        State::Stored,
        State::Failed,
        State::Abandoned,
    ] {
        facts.runs = vec![
            verified(1),
            Run {
                state,
                ..by_hand.clone()
            },
        ];
        assert!(holds(slot() + minutes(520), &facts, key), "{state:?}");
    }
    facts.runs = vec![verified(1), by_hand];
    assert!(!holds(slot() + minutes(520), &facts, key));
}

#[test]
fn a_fresh_installation_misses_what_was_due_after_it_and_nothing_before() {
    let now = slot() + minutes(5);
    for (seconds, is_missing) in [(-1, true), (0, true), (1, false)] {
        let mut facts = facts(Vec::new());
        facts.configured_at = Some(slot() + TimeDelta::seconds(seconds));
        assert_eq!(!keys_at(now, &facts).is_empty(), is_missing, "{seconds}");
    }
}

#[test]
fn each_missing_day_is_told_until_it_is_made_good_but_a_jump_ahead_tells_the_newest_alone() {
    let mut facts = facts(vec![verified(0)]);
    let ahead = at("2026-12-24T12:00:00Z");
    let newest_alone = keys_at(ahead, &facts);
    let missing: Vec<&String> = newest_alone
        .iter()
        .filter(|key| key.starts_with("backup_missing"))
        .collect();
    assert_eq!(missing, ["backup_missing:2026-12-24"]);
    // Back again: the day that was told is not due yet.
    facts.open = newest_alone.into_iter().collect();
    assert_eq!(keys_at(slot() + minutes(60), &facts), Vec::<String>::new());
    // Two days in a row, of which the first was told; strange keys are not looked at.
    facts.open = [
        "backup_missing:2026-11-23",
        "backup_missing:x",
        "backup_missing",
        "other:2026-11-23",
    ]
    .map(str::to_owned)
    .into();
    let days = || {
        vec![
            "backup_missing:2026-11-23".to_owned(),
            "backup_missing:2026-11-24".to_owned(),
        ]
    };
    assert_eq!(keys_at(at("2026-11-24T01:03:29Z"), &facts), days()[..1]);
    assert_eq!(keys_at(at("2026-11-24T01:03:30Z"), &facts), days());
    facts.runs.push(verified(-2));
    assert_eq!(
        keys_at(at("2026-11-24T01:30:00Z"), &facts),
        Vec::<String>::new()
    );
}

#[test]
fn no_clock_makes_it_panic_and_one_that_went_back_raises_no_alarm() {
    let mut facts = facts(vec![verified(1), verified(0), in_state(State::Running)]);
    facts.runs[2].heard_at = slot() + minutes(30);
    facts.proofs = vec![succeeded(slot())];
    facts.unreachable = Some(Unreachable {
        since: slot(),
        looks: 1,
    });
    for now in [
        DateTime::<Utc>::MIN_UTC,
        DateTime::<Utc>::MAX_UTC,
        DateTime::UNIX_EPOCH,
    ] {
        let _ = keys_at(now, &facts);
    }
    for back in [
        "2026-11-22T00:10:00Z",
        "2026-11-10T12:00:00Z",
        "2026-02-01T00:00:00Z",
    ] {
        assert_eq!(keys_at(at(back), &facts), Vec::<String>::new(), "{back}");
    }
}

#[test]
fn a_run_that_failed_is_told_at_once_and_until_a_later_one_is_verified() {
    let key = "backup_failed:2026-11-22T01:00Z";
    for state in [State::Failed, State::Abandoned] {
        let mut failed = in_state(state);
        failed.error = Some("pg_dump was killed".to_owned());
        let mut facts = facts(vec![failed, verified(1)]);
        let found = conditions(slot() + minutes(1), &facts, &Settings::default());
        assert_eq!(found[0].key, key);
        assert_eq!(found[0].severity, Severity::Critical);
        assert_eq!(found[0].detail, "pg_dump was killed");
        assert!(
            found[0]
                .title
                .starts_with("the backup of 2026-11-22 01:00 UTC")
        );
        assert!(found[0].runbook.starts_with("docs/operations/backups.md#"));
        // The next try at the same slot is the same incident, and ends it only when it is verified.
        let mut again = in_state(State::Failed);
        again.id = Uuid::from_u128(50);
        again.started_at += minutes(30);
        facts.runs.push(again.clone());
        assert_eq!(keys_at(slot() + minutes(40), &facts), [key]);
        again.state = State::Verified;
        facts.runs[2] = again;
        assert_eq!(keys_at(slot() + minutes(60), &facts), Vec::<String>::new());
    }
    let mut by_hand = in_state(State::Failed);
    by_hand.slot_at = None;
    by_hand.id = Uuid::from_u128(0xabc);
    let keys = keys_at(slot() + minutes(1), &facts(vec![verified(1), by_hand]));
    assert_eq!(keys, ["backup_failed:00000000000000000000000000000abc"]);
}

#[test]
fn a_run_that_is_heard_of_no_more_has_failed_when_its_lease_is_over() {
    let mut run = in_state(State::Running);
    run.heard_at = slot() + minutes(7);
    let key = "backup_failed:2026-11-22T01:00Z";
    begins_at(
        slot() + minutes(9),
        &facts(vec![verified(1), run.clone()]),
        key,
    );
    run.state = State::Stored;
    let key = "backup_unverified:2026-11-22T01:00Z";
    begins_at(slot() + minutes(9), &facts(vec![verified(1), run]), key);
}

#[test]
fn a_run_that_is_not_verified_after_three_hours_is_late() {
    let key = "backup_late:2026-11-22T01:00Z";
    let limit = slot() + TimeDelta::seconds(5) + TimeDelta::hours(3);
    for state in [State::Running, State::Stored] {
        let mut run = in_state(state);
        run.heard_at = limit;
        let mut facts = facts(vec![verified(1), run]);
        begins_at(limit, &facts, key);
        facts.runs[1].state = State::Verified;
        assert!(!holds(limit + minutes(1), &facts, key));
    }
}

#[test]
fn a_stored_run_is_unverified_at_once_where_reading_it_back_failed_and_after_half_an_hour_else() {
    let key = "backup_unverified:2026-11-22T01:00Z";
    let mut run = in_state(State::Stored);
    run.heard_at = slot() + minutes(45);
    begins_at(
        slot() + minutes(45),
        &facts(vec![verified(1), run.clone()]),
        key,
    );
    run.error = Some("one byte differs".to_owned());
    let mut facts = facts(vec![verified(1), run]);
    let found = conditions(slot() + minutes(16), &facts, &Settings::default());
    assert_eq!(
        (found[0].key.as_str(), found[0].detail.as_str()),
        (key, "one byte differs")
    );
    facts.runs.push(verified(-1));
    assert!(!holds(slot() + minutes(1_500), &facts, key));
}

#[test]
fn a_backup_of_less_than_half_is_shrunken_until_it_is_at_par_or_seven_days_old() {
    let sized = |days_ago: i64, bytes: u64, rows: u64| Run {
        plain_bytes: Some(bytes),
        rows: Some(rows),
        ..verified(days_ago)
    };
    let key = "backup_shrunken:2026-11-22T01:00Z";
    let now = slot() + minutes(30);
    for (bytes, rows, is_small) in [
        (499, 100, true),
        (500, 100, false),
        (501, 100, false),
        (1_000, 49, true),
        (1_000, 50, false),
        (1_000, 51, false),
        (u64::MAX, u64::MAX, false),
    ] {
        let facts = facts(vec![verified(1), sized(0, bytes, rows)]);
        assert_eq!(holds(now, &facts, key), is_small, "{bytes} {rows}");
    }
    // Each later small one is compared with the last large one, for seven days; then small is normal.
    let mut all = facts(vec![verified(1), sized(0, 100, 10)]);
    for day in 1..=7 {
        all.runs.push(sized(-day, 101, 10));
        let now = now + TimeDelta::days(day);
        assert_eq!(holds(now, &all, key), day < 7, "{day}");
    }
    all.runs.push(sized(-8, 49, 10));
    assert!(holds(
        now + TimeDelta::days(8),
        &all,
        "backup_shrunken:2026-11-30T01:00Z"
    ));
    // At par again, before that.
    let all = facts(vec![verified(1), sized(0, 100, 10), sized(-1, 990, 100)]);
    assert!(!holds(now + TimeDelta::days(1), &all, key));
    // What is not known or was empty says nothing, nor does what is not verified.
    let mut unknown = sized(0, 0, 0);
    (unknown.plain_bytes, unknown.rows) = (None, None);
    assert!(!holds(now, &facts(vec![verified(1), unknown]), key));
    assert!(!holds(
        now,
        &facts(vec![sized(1, 0, 0), sized(0, 0, 0)]),
        key
    ));
    let stored = Run {
        state: State::Stored,
        ..sized(0, 1, 1)
    };
    assert!(!holds(now, &facts(vec![verified(1), stored]), key));
}

#[test]
fn a_second_copy_is_missing_after_an_hour_until_it_or_a_later_one_is_there() {
    let key = "backup_copy_missing:2026-11-22T01:00Z";
    let mut facts = facts(vec![verified(1), verified(0)]);
    assert!(
        !holds(slot() + minutes(600), &facts, key),
        "none is expected"
    );
    facts.runs[1].copy_expected = true;
    begins_at(slot() + minutes(80), &facts, key);
    facts.runs[1].copied_at = Some(slot() + minutes(90));
    assert!(!holds(slot() + minutes(91), &facts, key));
    facts.runs[1].copied_at = None;
    facts.runs.push(Run {
        copied_at: Some(slot() + minutes(1_500)),
        ..verified(-1)
    });
    assert!(!holds(slot() + minutes(1_501), &facts, key));
}

#[test]
fn every_runbook_is_a_heading_of_the_operators_manual() {
    let manual = include_str!("../../../../../docs/operations/backups.md");
    let anchors: BTreeSet<String> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("## ").or(line.strip_prefix("### ")))
        .map(|heading| {
            heading
                .to_lowercase()
                .replace(' ', "-")
                .replace(['\'', ','], "")
        })
        .collect();
    let sources = [include_str!("runs.rs"), include_str!("proofs.rs")].concat();
    let mut count = 0;
    for part in sources.split("docs/operations/backups.md#").skip(1) {
        let anchor = part.split('"').next().unwrap();
        assert!(anchors.contains(anchor), "{anchor}");
        count += 1;
    }
    assert_eq!(count, 17);
}

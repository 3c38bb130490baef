use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike as _, Days, NaiveTime};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The night of a day: 01:00 UTC.
fn night(day: &str) -> DateTime<Utc> {
    at(&format!("{day}T01:00:00Z"))
}

/// The time of day as the number in the id, so that a test sees which one it is.
fn backup(number: u128, started_at: DateTime<Utc>) -> Candidate {
    Candidate {
        id: Uuid::from_u128(number),
        started_at,
        verified_at: Some(started_at + TimeDelta::minutes(20)),
        proved_at: None,
    }
}

fn unverified(number: u128, started_at: DateTime<Utc>) -> Candidate {
    Candidate {
        verified_at: None,
        ..backup(number, started_at)
    }
}

/// Verified backups of so many nights up to a day, the newest with number 0, each older one with one more.
fn nights(until: &str, count: u64) -> Vec<Candidate> {
    (0..count)
        .map(|ago| backup(u128::from(ago), night(until) - Days::new(ago)))
        .collect()
}

fn kept(candidates: &[Candidate], now: DateTime<Utc>) -> BTreeSet<u128> {
    plan(candidates, Keep::default(), now)
        .into_iter()
        .filter(|verdict| verdict.keep)
        .map(|verdict| verdict.id.as_u128())
        .collect()
}

fn said(candidates: &[Candidate], now: DateTime<Utc>, number: u128) -> String {
    plan(candidates, Keep::default(), now)
        .into_iter()
        .find(|verdict| verdict.id.as_u128() == number)
        .unwrap()
        .to_string()
}

#[test]
fn seven_days_and_four_weeks_are_kept_and_each_verdict_says_why() {
    // 22 November 2026 is a Sunday.
    let all = nights("2026-11-22", 60);
    let now = at("2026-11-22T02:00:00Z");
    // The weeks before end on the 15th, 8th and 1st, and on 25 October.
    assert_eq!(
        kept(&all, now),
        BTreeSet::from([0, 1, 2, 3, 4, 5, 6, 7, 14, 21, 28])
    );
    assert_eq!(
        said(&all, now, 0),
        "kept: newest of 2026-11-22 (daily 1 of 7); newest verified one"
    );
    assert_eq!(
        said(&all, now, 7),
        "kept: newest of week 2026-W46 (weekly 1 of 4)"
    );
    assert_eq!(
        said(&all, now, 52),
        "pruned: 2026-10-01 is beyond 7 daily and 4 weekly"
    );
}

#[test]
fn the_week_before_counts_from_the_first_backup_of_the_new_one() {
    let weekly = |until: &str| {
        plan(&nights(until, 40), Keep::default(), night(until))
            .iter()
            .flat_map(|verdict| verdict.reasons.clone())
            .filter_map(|reason| match reason {
                Reason::Weekly { week, .. } => Some(format!("{week:?}")),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(weekly("2026-11-21")[0], "2026-W46", "the day before");
    assert_eq!(weekly("2026-11-22")[0], "2026-W46", "the week's last day");
    assert_eq!(weekly("2026-11-23")[0], "2026-W47", "the day after");
    // The week in which 2026 ends has 1, 2 and 3 January of 2027 and is the 53rd.
    assert_eq!(weekly("2027-01-02")[0], "2026-W52");
    assert_eq!(weekly("2027-01-03")[0], "2026-W52");
    let first = weekly("2027-01-04");
    assert_eq!(first, ["2026-W53", "2026-W52", "2026-W51", "2026-W50"]);
}

#[test]
fn a_day_leaves_with_the_eighth_and_days_without_a_backup_do_not_count() {
    let mut all = nights("2026-11-22", 7);
    let oldest = 6;
    assert!(kept(&all, at("2026-11-22T02:00:00Z")).contains(&oldest));
    // Ten days of nothing.
    assert_eq!(kept(&all, at("2026-12-02T00:59:00Z")).len(), 7);
    // Wednesday 2 December: the oldest, Monday the 16th, is no week's newest.
    all.push(backup(100, night("2026-12-02")));
    assert_eq!(
        kept(&all, night("2026-12-02")),
        BTreeSet::from([0, 1, 2, 3, 4, 5, 100])
    );
}

#[test]
fn the_first_backup_of_a_day_is_replaced_once_the_second_is_verified() {
    let now = at("2026-11-22T10:00:00Z");
    let first = backup(1, night("2026-11-22"));
    let second = unverified(2, at("2026-11-22T09:00:00Z"));
    assert_eq!(kept(&[first, second], now), BTreeSet::from([1, 2]));
    let second = backup(2, second.started_at);
    assert_eq!(kept(&[first, second], now), BTreeSet::from([2]));
    assert_eq!(
        said(&[first, second], now, 1),
        "pruned: a later one of 2026-11-22 is verified"
    );
}

#[test]
fn what_is_not_verified_is_left_alone_for_two_days_and_as_long_as_nothing_later_is_verified() {
    let bad = unverified(1, night("2026-11-20"));
    for now in [
        "2026-11-22T00:59:59Z",
        "2026-11-22T01:00:00Z",
        "2030-01-01T00:00:00Z",
    ] {
        assert_eq!(
            said(&[bad], at(now), 1),
            "kept: not verified, but nothing later is"
        );
    }
    let good = backup(2, night("2026-11-21"));
    assert!(said(&[bad, good], at("2026-11-22T00:59:59Z"), 1).contains("younger than 2 days"));
    for now in ["2026-11-22T01:00:00Z", "2026-11-22T01:00:01Z"] {
        assert_eq!(
            said(&[bad, good], at(now), 1),
            "pruned: the one of 2026-11-20 was never verified, and a later one is"
        );
    }
}

#[test]
fn nothing_is_pruned_unless_the_newest_run_is_verified() {
    let mut all = nights("2026-11-22", 60);
    let now = at("2026-11-23T02:00:00Z");
    all.push(unverified(100, night("2026-11-23")));
    assert!(!may_prune(&all, now));
    assert_eq!(kept(&all, now).len(), 61);
    assert!(said(&all, now, 52).contains("newest run is not verified"));
    all[60].verified_at = Some(now);
    assert!(may_prune(&all, now));
    // On a Monday the last weekly one is the second daily one, too.
    assert_eq!(kept(&all, now).len(), 10);
    assert!(!may_prune(&[], now), "there is no run at all");
}

#[test]
fn the_newest_verified_and_the_newest_proved_one_are_kept_beyond_all_slots() {
    let mut all = nights("2026-11-22", 100);
    all[80].proved_at = Some(at("2026-09-10T00:00:00Z"));
    all[90].proved_at = Some(at("2026-11-20T00:00:00Z"));
    let now = at("2026-11-22T02:00:00Z");
    assert_eq!(said(&all, now, 80), "kept: newest proved one");
    assert!(said(&all, now, 90).starts_with("pruned"), "an older state");
    let nothing = Keep {
        daily: 0,
        weekly: 0,
    };
    let kept: Vec<u128> = plan(&all, nothing, now)
        .iter()
        .filter(|verdict| verdict.keep)
        .map(|verdict| verdict.id.as_u128())
        .collect();
    assert_eq!(kept, [0, 80]);
}

#[test]
fn a_clock_that_is_wrong_prunes_nothing_that_a_right_one_keeps() {
    let all = nights("2026-11-22", 60);
    let right = kept(&all, at("2026-11-22T02:00:00Z"));
    for ahead in [
        at("2026-11-23T00:00:00Z"),
        at("2027-06-01T00:00:00Z"),
        DateTime::<Utc>::MAX_UTC,
    ] {
        assert!(kept(&all, ahead).is_superset(&right), "{ahead}");
    }
    for back in [
        at("2026-11-22T00:59:59Z"),
        at("2026-10-20T00:00:00Z"),
        at("1970-01-01T00:00:00Z"),
        DateTime::<Utc>::MIN_UTC,
    ] {
        assert!(kept(&all, back).is_superset(&right), "{back}");
        assert!(said(&all, back, 0).contains("began in the future"));
    }
    // One from the future pushes out nothing, verified or not, and does not keep the others from being pruned.
    for strange in [
        backup(100, at("2099-01-01T00:00:00Z")),
        unverified(100, at("2099-01-01T00:00:00Z")),
    ] {
        let mut with = all.clone();
        with.push(strange);
        let mut expected = right.clone();
        expected.insert(100);
        assert_eq!(kept(&with, at("2026-11-22T02:00:00Z")), expected);
    }
}

/// A small generator, so that a failing seed can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// The same rules, said in another way: each one is asked how many later days and weeks there are.
fn is_kept_by_the_naive_model(one: &Candidate, all: &[Candidate], now: DateTime<Utc>) -> bool {
    let place = |one: &Candidate| (one.started_at, one.id);
    let later: Vec<&Candidate> = all
        .iter()
        .filter(|other| other.started_at <= now && place(other) > place(one))
        .collect();
    let later_verified = || later.iter().filter(|other| other.verified_at.is_some());
    let days: BTreeSet<NaiveDate> = later_verified()
        .map(|other| other.started_at.date_naive())
        .collect();
    let mut weeks: BTreeSet<(i32, u32)> = later_verified()
        .map(|other| other.started_at.iso_week())
        .map(|week| (week.year(), week.week()))
        .collect();
    let own_week = (
        one.started_at.iso_week().year(),
        one.started_at.iso_week().week(),
    );
    let newest_of_its_day = !days.contains(&one.started_at.date_naive());
    let newest_of_its_week = !weeks.contains(&own_week);
    let is_verified = one.verified_at.is_some();
    let weeks_later = weeks.len();
    let running = weeks.pop_last();
    let daily = is_verified && newest_of_its_day && days.len() < 7;
    let weekly = is_verified && newest_of_its_week && running.is_some() && weeks_later <= 4;
    let newest_verified = is_verified && later_verified().next().is_none();
    let newest_proved =
        one.proved_at.is_some() && later.iter().all(|other| other.proved_at.is_none());
    let left_alone = !is_verified
        && (later_verified().next().is_none() || one.started_at + TimeDelta::hours(48) > now);
    let newest = all
        .iter()
        .filter(|other| other.started_at <= now)
        .max_by_key(|other| place(other));
    let must_wait = newest.is_none_or(|newest| newest.verified_at.is_none());
    one.started_at > now
        || must_wait
        || daily
        || weekly
        || newest_verified
        || newest_proved
        || left_alone
}

/// What the store has after 400 days, pruned daily, and all that was ever made, both with the same facts.
struct Simulation {
    dice: Dice,
    made: u128,
    pruned_daily: Vec<Candidate>,
    everything: Vec<Candidate>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            made: 0,
            pruned_daily: Vec::new(),
            everything: Vec::new(),
        }
    }

    fn make(&mut self, started_at: DateTime<Utc>, is_verified: bool) {
        self.made += 1;
        let mut one = backup(self.made, started_at);
        if !is_verified {
            one.verified_at = None;
        }
        self.pruned_daily.push(one);
        self.everything.push(one);
    }

    /// Changes one that is still there, in both.
    fn note(&mut self, id: Uuid, change: impl Fn(&mut Candidate)) {
        for list in [&mut self.pruned_daily, &mut self.everything] {
            list.iter_mut().filter(|one| one.id == id).for_each(&change);
        }
    }

    /// A day's runs: nothing, a failure, one verified or not, and one by hand; late verifications; now and then a proof.
    fn live(&mut self, day: NaiveDate) {
        let begin = day.and_time(NaiveTime::MIN).and_utc();
        match self.dice.roll(10) {
            0 => {}
            1 => self.make(begin + TimeDelta::hours(1), false),
            _ => self.make(begin + TimeDelta::hours(1), true),
        }
        if self.dice.roll(6) == 0 {
            let is_verified = self.dice.roll(3) > 0;
            self.make(begin + TimeDelta::hours(15), is_verified);
        }
        if self.dice.roll(4) == 0 {
            let late = self.pruned_daily.iter().rev();
            if let Some(id) = late
                .filter(|one| one.verified_at.is_none())
                .map(|one| one.id)
                .next()
            {
                self.note(id, |one| one.verified_at = Some(begin));
            }
        }
        let proves = self.made % 200 < 100; // for months there is no proof at all
        if proves && day.weekday().num_days_from_monday() == 6 {
            let newest = self.pruned_daily.iter().rev();
            if let Some(id) = newest
                .filter(|one| one.verified_at.is_some())
                .map(|one| one.id)
                .next()
            {
                self.note(id, |one| one.proved_at = Some(begin));
            }
        }
    }

    /// Prunes, and checks what is left against the model and against what was promised.
    fn prune(&mut self, now: DateTime<Utc>) {
        let before = self.pruned_daily.clone();
        let verdicts: BTreeMap<Uuid, Verdict> = plan(&before, Keep::default(), now)
            .into_iter()
            .map(|verdict| (verdict.id, verdict))
            .collect();
        for one in &before {
            let verdict = &verdicts[&one.id];
            let expected = is_kept_by_the_naive_model(one, &before, now);
            assert_eq!(verdict.keep, expected, "{now} {one:?} {verdict}");
            assert!(!verdict.reasons.is_empty());
        }
        self.pruned_daily.retain(|one| verdicts[&one.id].keep);
        let count = |list: &[Candidate]| {
            let verified = || list.iter().filter(|one| one.verified_at.is_some());
            let days: BTreeSet<NaiveDate> =
                verified().map(|one| one.started_at.date_naive()).collect();
            let weeks: BTreeSet<IsoWeek> =
                verified().map(|one| one.started_at.iso_week()).collect();
            (days.len().min(7), weeks.len().min(5))
        };
        // Counted against all that was ever made: what was pruned earlier is missing nowhere.
        assert_eq!(count(&self.pruned_daily), count(&self.everything), "{now}");
        let newest = |list: &[Candidate], has: fn(&Candidate) -> bool| {
            list.iter()
                .filter(|one| has(one))
                .max_by_key(|one| (one.started_at, one.id))
                .map(|one| one.id)
        };
        for has in [
            |one: &Candidate| one.verified_at.is_some(),
            |one: &Candidate| one.proved_at.is_some(),
        ] {
            assert_eq!(
                newest(&self.pruned_daily, has),
                newest(&self.everything, has)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn four_hundred_days_keep_what_the_model_keeps_and_pruning_in_steps_is_pruning_at_the_end(
        seed in any::<u64>(), begin in 0_u64..400,
    ) {
        let mut simulation = Simulation::new(seed);
        let first = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() + Days::new(begin);
        for day in first.iter_days().take(400) {
            simulation.live(day);
            let now = day.and_hms_opt(16, 0, 0).unwrap().and_utc();
            // Now and then the clock is wrong while something prunes; it is right again afterwards.
            let now_as_told = match simulation.dice.roll(20) {
                0 => now + TimeDelta::days(400),
                1 => now - TimeDelta::days(400),
                2 => now + TimeDelta::days(3),
                3 => now - TimeDelta::days(3),
                _ => now,
            };
            simulation.prune(now_as_told);
        }
        let end = first + Days::new(400);
        simulation.make(end.and_hms_opt(1, 0, 0).unwrap().and_utc(), true);
        // Four days later, so that a wrong clock has left no unverified one that a right one would still leave alone.
        let now = (end + Days::new(4)).and_time(NaiveTime::MIN).and_utc();
        let verdicts = plan(&simulation.everything, Keep::default(), now);
        let at_the_end: BTreeSet<Uuid> = verdicts
            .into_iter()
            .filter(|verdict| verdict.keep)
            .map(|verdict| verdict.id)
            .collect();
        simulation.prune(now);
        let in_steps: BTreeSet<Uuid> = simulation.pruned_daily.iter().map(|one| one.id).collect();
        prop_assert_eq!(in_steps, at_the_end);
    }
}

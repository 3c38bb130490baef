//! Sixty days of accidents, looked at every 30 seconds. What should have been told when is worked out from the accidents alone.
//! Hours in which nothing happens and nothing is due are looked at every 10 minutes, to be quick.

use chrono::{Datelike as _, Days, NaiveDate, Weekday};

use super::*;

/// A small generator, so that a failing seed can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn seconds(&mut self, from: u64, to: u64) -> TimeDelta {
        TimeDelta::seconds(i64::try_from(from + self.roll(to - from)).unwrap())
    }
}

/// What happens to a run, and when.
#[derive(Clone)]
struct Planned {
    run: Run,
    dies_at: Option<DateTime<Utc>>,
    /// It fails, or another process gives it up.
    ends: Option<(DateTime<Utc>, State)>,
    read_back_fails_at: Option<DateTime<Utc>>,
}

/// What has to be told: not before the first, at the latest 5 minutes after the fact, and until the last.
struct Expected {
    key: String,
    fact_at: DateTime<Utc>,
    not_before: DateTime<Utc>,
    until: DateTime<Utc>,
}

#[derive(Default)]
struct World {
    runs: Vec<Planned>,
    proofs: Vec<Proof>,
    /// What is gone, and from when to when.
    gone: Vec<(Missing, DateTime<Utc>, DateTime<Utc>)>,
    /// When the database is away.
    away: Vec<(DateTime<Utc>, DateTime<Utc>)>,
}

const NEVER: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

/// It has to be told at once.
const NONE: TimeDelta = TimeDelta::zero();

#[derive(Default)]
struct Expectations(Vec<Expected>);

impl Expectations {
    /// Something has to be told so long after a fact, unless it is over by then.
    fn add(&mut self, key: String, fact_at: DateTime<Utc>, after: TimeDelta, until: DateTime<Utc>) {
        let not_before = fact_at + after;
        if not_before < until {
            self.0.push(Expected {
                key,
                fact_at,
                not_before,
                until,
            });
        }
    }
}

impl World {
    /// A run that goes well, of which an accident may change something.
    fn plan(&mut self, slot_at: Option<DateTime<Utc>>, started_at: DateTime<Utc>) -> &mut Planned {
        let number = self.runs.len() as u128 + 1;
        self.runs.push(Planned {
            run: Run {
                id: Uuid::from_u128(number),
                slot_at,
                started_at,
                stored_at: Some(started_at + minutes(20)),
                verified_at: Some(started_at + minutes(25)),
                copy_expected: true,
                copied_at: Some(started_at + minutes(50)),
                ..verified(0)
            },
            dies_at: None,
            ends: None,
            read_back_fails_at: None,
        });
        self.runs.last_mut().unwrap()
    }

    fn accident(&mut self, dice: &mut Dice, slot: DateTime<Utc>) {
        let begins = slot + dice.seconds(0, 200);
        let soon = begins + dice.seconds(10, 1_000);
        let kind = dice.roll(16);
        if kind == 0 {
            // It does not begin; sometimes somebody notices.
            if dice.roll(2) == 0 {
                self.plan(None, slot + dice.seconds(3_600, 30_000));
            }
            return;
        }
        if kind == 1 {
            self.plan(Some(slot), slot + dice.seconds(280, 3_000));
            return;
        }
        let run = self.plan(Some(slot), begins);
        let spoil = |run: &mut Planned| {
            run.run.stored_at = None;
            run.run.verified_at = None;
            run.run.copied_at = None;
        };
        match kind {
            2 | 3 => {
                spoil(run);
                run.ends = Some((soon, State::Failed));
                if kind == 3 {
                    self.plan(Some(slot), slot + minutes(60));
                }
            }
            4 => {
                spoil(run);
                run.dies_at = Some(soon);
                run.ends = Some((soon + minutes(40), State::Abandoned));
            }
            5 => {
                run.run.stored_at = Some(begins + TimeDelta::hours(4));
                run.run.verified_at = Some(begins + TimeDelta::hours(5));
                run.run.copied_at = Some(begins + TimeDelta::hours(5));
            }
            6 | 7 => {
                run.run.verified_at = None;
                run.run.copied_at = None;
                if kind == 6 {
                    run.read_back_fails_at = Some(begins + minutes(22));
                }
            }
            8 => run.run.copied_at = None,
            9 => {
                let part = [Part::Object, Part::Manifest][usize::from(dice.roll(2) == 0)];
                let key = format!("backups/{}", run.run.id);
                let from = slot + dice.seconds(10_000, 40_000);
                let until = from + dice.seconds(600, 30_000);
                self.gone.push((Missing { part, key }, from, until));
            }
            10 => {
                let from = slot + dice.seconds(20_000, 40_000);
                self.away.push((from, from + dice.seconds(30, 3_000)));
            }
            _ => {}
        }
    }

    fn live(dice: &mut Dice, first: NaiveDate, days: u64) -> Self {
        let mut world = Self::default();
        for day in first.iter_days().take(usize::try_from(days).unwrap()) {
            let slot = day.and_hms_opt(1, 0, 0).unwrap().and_utc();
            world.accident(dice, slot);
            let kind = dice.roll(3);
            if day.weekday() == Weekday::Sun && kind > 0 {
                world.proofs.push(Proof {
                    id: Uuid::from_u128(10_000 + world.proofs.len() as u128),
                    ok: kind > 1,
                    ..succeeded(slot + minutes(150))
                });
            }
        }
        world
    }

    fn facts(&self, now: DateTime<Utc>, open: BTreeSet<String>) -> Facts {
        let seen = |time: Option<DateTime<Utc>>| time.filter(|time| *time <= now);
        let recent = |time: DateTime<Utc>| time <= now && now - time < TimeDelta::days(15);
        let runs = self
            .runs
            .iter()
            .filter(|planned| recent(planned.run.started_at))
            .map(|planned| {
                let mut run = planned.run.clone();
                run.stored_at = seen(run.stored_at);
                run.verified_at = seen(run.verified_at);
                run.copied_at = seen(run.copied_at);
                run.heard_at = planned.dies_at.map_or(now, |dies| dies.min(now));
                run.error = seen(planned.read_back_fails_at).map(|_| "it differs".to_owned());
                run.state = match planned.ends {
                    Some((ended, state)) if ended <= now => state,
                    _ if run.verified_at.is_some() => State::Verified,
                    _ if run.stored_at.is_some() => State::Stored,
                    _ => State::Running,
                };
                run
            })
            .collect();
        let proofs = self.proofs.iter().filter(|proof| proof.started_at <= now);
        Facts {
            configured_at: Some(at("2026-11-22T00:00:00Z")),
            runs,
            proofs: proofs
                .map(|proof| Proof {
                    ended_at: seen(proof.ended_at),
                    ..proof.clone()
                })
                .collect(),
            missing: self
                .gone
                .iter()
                .filter(|(_, from, until)| *from <= now && now < *until)
                .map(|(missing, _, _)| missing.clone())
                .collect(),
            unlisted: None,
            unreachable: self
                .away
                .iter()
                .find(|(from, until)| *from <= now && now < *until)
                .map(|(from, _)| Unreachable {
                    since: *from,
                    looks: 2,
                }),
            places: Vec::new(),
            open,
        }
    }

    /// When the first run is verified that began at a time, or after it.
    fn verified_since(&self, time: DateTime<Utc>, strictly: bool) -> DateTime<Utc> {
        let later = self.runs.iter().filter(|planned| {
            let started = planned.run.started_at;
            started > time || (!strictly && started == time)
        });
        later
            .filter_map(|planned| planned.run.verified_at)
            .min()
            .unwrap_or(NEVER)
    }

    fn expected(&self, first: NaiveDate, days: u64) -> Vec<Expected> {
        let mut all = Expectations::default();
        for day in first.iter_days().take(usize::try_from(days).unwrap()) {
            self.expect_of_day(day, &mut all);
        }
        for planned in &self.runs {
            self.expect_of_run(planned, &mut all);
        }
        self.expect_of_others(&mut all);
        all.0
    }

    fn expect_of_day(&self, day: NaiveDate, all: &mut Expectations) {
        let slot = day.and_hms_opt(1, 0, 0).unwrap().and_utc();
        let in_time = |planned: &Planned| {
            planned.run.slot_at == Some(slot)
                && planned.run.started_at < slot + TimeDelta::seconds(210)
        };
        if !self.runs.iter().any(in_time) {
            let key = format!("backup_missing:{day}");
            all.add(
                key,
                slot,
                TimeDelta::seconds(210),
                self.verified_since(slot, false),
            );
        }
    }

    fn expect_of_run(&self, planned: &Planned, all: &mut Expectations) {
        let run = &planned.run;
        let name = run.slot_at.map_or_else(
            || run.id.simple().to_string(),
            |slot| slot.format("%Y-%m-%dT%H:%MZ").to_string(),
        );
        let later = self.verified_since(run.started_at, true);
        if let Some(dies) = planned.dies_at {
            all.add(format!("backup_failed:{name}"), dies, minutes(2), later);
        } else if let Some((ended, _)) = planned.ends {
            all.add(format!("backup_failed:{name}"), ended, NONE, later);
        }
        let own = run.verified_at.unwrap_or(NEVER).min(later);
        let over = planned.ends.map_or(own, |(ended, _)| ended.min(own));
        all.add(
            format!("backup_late:{name}"),
            run.started_at + TimeDelta::hours(3),
            NONE,
            over,
        );
        if let Some(fails) = planned.read_back_fails_at {
            all.add(format!("backup_unverified:{name}"), fails, NONE, own);
        } else if let Some(stored) = run.stored_at {
            all.add(
                format!("backup_unverified:{name}"),
                stored + minutes(30),
                NONE,
                own,
            );
        }
        if let Some(verified) = run.verified_at {
            let copied = self
                .runs
                .iter()
                .filter(|other| other.run.started_at >= run.started_at);
            let until = copied
                .filter_map(|other| other.run.copied_at)
                .min()
                .unwrap_or(NEVER);
            all.add(
                format!("backup_copy_missing:{name}"),
                verified + minutes(60),
                NONE,
                until,
            );
        }
    }

    fn expect_of_others(&self, all: &mut Expectations) {
        for (missing, from, until) in &self.gone {
            let kind = if missing.part == Part::Object {
                "object"
            } else {
                "manifest"
            };
            all.add(
                format!("backup_{kind}_missing:{}", missing.key),
                *from,
                NONE,
                *until,
            );
        }
        for (from, until) in &self.away {
            all.add("database_unreachable".to_owned(), *from, minutes(1), *until);
        }
        for proof in self.proofs.iter().filter(|proof| !proof.ok) {
            let better = self
                .proofs
                .iter()
                .filter(|other| other.ok && other.started_at > proof.started_at);
            let until = better
                .filter_map(|other| other.ended_at)
                .min()
                .unwrap_or(NEVER);
            all.add(
                format!("proof_failed:{}", proof.id.simple()),
                proof.ended_at.unwrap(),
                NONE,
                until,
            );
        }
    }
}

/// Looks at one world every 30 seconds, and says how many accidents there were and how long the slowest was not told.
fn watch(seed: u64) -> (usize, TimeDelta) {
    const DAYS: u64 = 60;
    let first = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();
    let mut dice = Dice(seed);
    let world = World::live(&mut dice, first, DAYS);
    let expected = world.expected(first, DAYS);
    let settings = Settings::default();
    let begin = first.and_hms_opt(0, 0, 0).unwrap().and_utc();
    let mut first_told: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
    let moments: BTreeSet<DateTime<Utc>> = expected
        .iter()
        .flat_map(|one| [one.fact_at, one.not_before, one.until])
        .chain(world.runs.iter().map(|planned| planned.run.started_at))
        .collect();
    let mut open = BTreeSet::new();
    let mut now = begin + dice.seconds(0, 30);
    while now < begin + Days::new(DAYS) {
        let facts = world.facts(now, open);
        let told: BTreeSet<String> = conditions(now, &facts, &settings)
            .into_iter()
            .map(|condition| condition.key)
            .filter(|key| key != "proof_overdue") // has its own test: it depends on what is remembered
            .collect();
        let due: BTreeSet<String> = expected
            .iter()
            .filter(|expected| expected.not_before <= now && now < expected.until)
            .map(|expected| expected.key.clone())
            .collect();
        assert_eq!(told, due, "seed {seed}, {now}");
        for key in &told {
            first_told.entry(key.clone()).or_insert(now);
        }
        open = told;
        let near = moments.range(now - minutes(6)..now + minutes(11)).next();
        now += near.map_or(minutes(10), |_| TimeDelta::seconds(30));
    }
    let mut slowest = TimeDelta::zero();
    for one in &expected {
        // What was over before anybody looked, or lies after the end, need not have been told.
        if one.until - one.not_before.min(one.until) < TimeDelta::seconds(30)
            || one.not_before > now - TimeDelta::seconds(30)
        {
            continue;
        }
        slowest = slowest.max(first_told[&one.key] - one.fact_at);
    }
    (expected.len(), slowest)
}

#[test]
fn sixty_days_of_accidents_are_each_told_within_five_minutes_and_nothing_else_is() {
    let mut accidents = 0;
    for seed in 1..=4 {
        let (count, slowest) = watch(seed);
        assert!(slowest < minutes(5), "{slowest}");
        accidents += count;
    }
    assert!(accidents > 120, "{accidents}");
}

//! What makes a verdict, in threes: within, at, and beyond; before, at, and after.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Days, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    backup::{self, region::Judgement, watch::Place},
    cache::CacheState,
    config::Loader,
    measure::{Meter, Meters, UNANSWERED},
    slo::{
        CRITERIA, State, Verdict,
        evidence::{AuditTail, Catalogue, Gathered, Overdue, Rows, Slot, Task, Untold},
        facts::{Read, Row},
        probes::{Probe, Step},
    },
};

fn noon() -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// What a database that was just made has: nothing is wrong, and nothing has happened.
fn nothing() -> Gathered {
    Gathered {
        now: noon(),
        window: TimeDelta::hours(24),
        config: Loader::default().finish().unwrap(),
        facts: Ok(Read::default()),
        probes: Ok(Vec::new()),
        tasks: Ok(HashMap::new()),
        rows: Ok(Rows::default()),
        catalogue: Ok(Catalogue::default()),
        migrations: Ok(Some(Vec::new())),
        overdue: Ok(HashMap::new()),
        archives: Ok(HashMap::new()),
        audit: Ok(AuditTail::default()),
        backups: Ok(backup::History::default()),
        kept: Ok(Vec::new()),
        places: Vec::new(),
        failures: Ok(Vec::new()),
        untold: Ok(Untold::default()),
        receivers: Vec::new(),
        redis: CacheState::Off,
        lives: Ok(Vec::new()),
        states: HashMap::new(),
    }
}

fn verdict(id: &str, gathered: &Gathered) -> Verdict {
    (crate::slo::of(id).unwrap().judge)(gathered)
}

fn state(id: &str, gathered: &Gathered) -> State {
    verdict(id, gathered).state
}

/// Values that were measured so long ago.
fn measured(meter: Meter, ago: TimeDelta, values: &[u64], into: &mut Read) {
    let meters = Meters::default();
    for value in values {
        meters.record(meter, *value);
    }
    let tally = meters.drain(meter).unwrap();
    let row = |width_seconds| Row {
        meter: meter.as_str().to_owned(),
        width_seconds,
        bucket_at: noon() - ago,
        instance: Uuid::from_u128(1),
        counts: tally.counts[..=meter.bounds().len()]
            .iter()
            .map(|count| i64::try_from(*count).unwrap())
            .collect(),
        worst: i64::try_from(tally.worst).unwrap(),
    };
    into.push(&row(3_600), noon());
    into.push(&row(60), noon());
}

fn with(meter: Meter, ago: TimeDelta, values: &[u64]) -> Gathered {
    let mut read = Read::default();
    measured(meter, ago, values, &mut read);
    Gathered {
        facts: Ok(read),
        ..nothing()
    }
}

#[test]
fn what_is_measured_is_met_up_to_the_limit() {
    for (id, meter, limit) in [
        ("C1.5", Meter::JobRead, 100_000),
        ("C2.4", Meter::StatsRead, 100_000),
        ("C3.3", Meter::DayRead, 200_000),
        ("C4.3", Meter::Invalidation, 1_000),
        ("C6.2", Meter::PoolReuse, 10_000),
    ] {
        for (value, is) in [
            (limit - 1, State::Met),
            (limit, State::Met),
            (limit + 1, State::Missed),
            (UNANSWERED, State::Missed),
        ] {
            let gathered = with(meter, TimeDelta::hours(2), &[value]);
            assert_eq!(state(id, &gathered), is, "{id} {value}");
        }
        assert_eq!(state(id, &nothing()), State::Unknown, "{id}");
    }
}

#[test]
fn one_of_a_hundred_may_be_slow_but_not_two() {
    for (slow, is) in [(0, State::Met), (1, State::Met), (2, State::Missed)] {
        let mut values = vec![1_000; 100 - slow];
        values.extend(vec![900_000; slow]);
        assert_eq!(
            state("C1.5", &with(Meter::JobRead, TimeDelta::hours(2), &values)),
            is,
            "{slow}"
        );
    }
}

#[test]
fn a_good_day_does_not_hide_a_bad_minute() {
    for (ago, is) in [
        (TimeDelta::zero(), State::Missed),
        (TimeDelta::minutes(4), State::Missed),
        (TimeDelta::minutes(7), State::Met),
    ] {
        let mut read = Read::default();
        measured(
            Meter::JobRead,
            TimeDelta::hours(3),
            &vec![1_000; 10_000],
            &mut read,
        );
        measured(Meter::JobRead, ago, &[900_000], &mut read);
        let gathered = Gathered {
            facts: Ok(read),
            ..nothing()
        };
        assert_eq!(state("C1.5", &gathered), is, "{ago}");
    }
}

#[test]
fn what_another_release_measured_in_other_buckets_is_left_out() {
    let mut read = Read::default();
    let row = Row {
        meter: "job_read".to_owned(),
        width_seconds: 3_600,
        bucket_at: noon(),
        instance: Uuid::from_u128(1),
        counts: vec![1, 2],
        worst: 1,
    };
    read.push(&row, noon());
    read.push(
        &Row {
            meter: "of_old".to_owned(),
            ..row
        },
        noon(),
    );
    assert_eq!(
        read.of(Meter::JobRead),
        crate::slo::facts::Merged::default()
    );
}

fn probe(ago: TimeDelta, ok: bool) -> Probe {
    Probe {
        id: Uuid::from_u128(1),
        started_at: noon() - ago,
        started_by: "test".to_owned(),
        lease_expires_at: noon(),
        ended_at: Some(noon() - ago),
        outcome: Some("ok".to_owned()),
        steps: vec![Step {
            criterion: "C2.5".to_owned(),
            step: "search".to_owned(),
            ok,
            message: "seen".to_owned(),
            took_milliseconds: 1,
        }],
        error: None,
    }
}

#[test]
fn what_was_tried_says_something_for_two_cadences() {
    let catalogue = Catalogue {
        there: [
            "index insight_feedback_user_updated_idx",
            "index insight_feedback_insight_updated_idx",
            "index insight_feedback_updated_idx",
            "index insight_feedback_rating_updated_idx",
        ]
        .map(str::to_owned)
        .into(),
        ..Catalogue::default()
    };
    let of = |probes: Vec<Probe>| {
        let gathered = Gathered {
            probes: Ok(probes),
            catalogue: Ok(catalogue.clone()),
            ..nothing()
        };
        verdict("C2.5", &gathered)
    };
    for (minutes, is) in [(29, State::Met), (30, State::Met), (31, State::Unknown)] {
        assert_eq!(
            of(vec![probe(TimeDelta::minutes(minutes), true)]).state,
            is,
            "{minutes}"
        );
    }
    // A failure stays one, however old, until it is tried again.
    assert_eq!(
        of(vec![probe(TimeDelta::days(3), false)]).state,
        State::Missed
    );
    let mended = vec![
        probe(TimeDelta::zero(), true),
        probe(TimeDelta::minutes(15), false),
    ];
    assert_eq!(of(mended).state, State::Met);
    let never = of(Vec::new());
    assert_eq!(never.state, State::Unknown);
    assert!(never.reason.unwrap().contains("database.drill_url"));
}

#[test]
fn a_week_of_partitions_must_be_there() {
    let with_days = |days: u64| {
        let today = noon().date_naive();
        let days: BTreeSet<_> = (0..days).map(|ahead| today + Days::new(ahead)).collect();
        let catalogue = Catalogue {
            is_divided: true,
            days,
            ..Catalogue::default()
        };
        state(
            "C3.2",
            &Gathered {
                catalogue: Ok(catalogue),
                ..nothing()
            },
        )
    };
    for (days, is) in [
        (0, State::Unknown),
        (1, State::Missed),
        (7, State::Missed),
        (8, State::Met),
        (15, State::Met),
    ] {
        assert_eq!(with_days(days), is, "{days}");
    }
}

fn ran(slot_at: &str, late: TimeDelta, its_state: &str) -> Gathered {
    let at: DateTime<Utc> = slot_at.parse().unwrap();
    let task = Task {
        name: "run_retention".to_owned(),
        cadence: "daily at 02:00 UTC".to_owned(),
        first_seen_at: at - TimeDelta::days(30),
        enabled: true,
        slot: Some(Slot {
            at,
            state: its_state.to_owned(),
            started_at: at + late,
            finished_at: Some(at + late),
            error: (its_state == "failed").then(|| "no space".to_owned()),
        }),
        succeeded_at: Some(at + late),
    };
    Gathered {
        tasks: Ok(HashMap::from([(task.name.clone(), task)])),
        ..nothing()
    }
}

#[test]
fn retention_runs_at_two_o_clock_every_night() {
    let tonight = "2026-11-23T02:00:00Z";
    for (minutes, is) in [(0, State::Met), (15, State::Met), (16, State::Missed)] {
        assert_eq!(
            state(
                "C7.4",
                &ran(tonight, TimeDelta::minutes(minutes), "succeeded")
            ),
            is,
            "{minutes}"
        );
    }
    assert_eq!(
        state("C7.4", &ran(tonight, TimeDelta::zero(), "failed")),
        State::Missed
    );
    assert_eq!(
        state("C7.4", &ran(tonight, TimeDelta::zero(), "running")),
        State::Met
    );
    let last_night = ran("2026-11-22T02:00:00Z", TimeDelta::zero(), "succeeded");
    for (now, is) in [
        ("2026-11-23T01:59:59Z", State::Met),
        ("2026-11-23T02:15:00Z", State::Met),
        ("2026-11-23T02:15:01Z", State::Missed),
    ] {
        let gathered = Gathered {
            now: now.parse().unwrap(),
            ..last_night.clone()
        };
        assert_eq!(state("C7.4", &gathered), is, "{now}");
    }
}

#[test]
fn what_is_overdue_is_missed_and_what_nobody_moves_is_unknown() {
    let overdue = |due| {
        Ok(HashMap::from([(
            "backfill_jobs".to_owned(),
            Overdue { due, oldest: None },
        )]))
    };
    let lately = || ran("2026-11-23T02:00:00Z", TimeDelta::zero(), "succeeded");
    assert_eq!(
        state(
            "C7.1",
            &Gathered {
                overdue: overdue(0),
                ..lately()
            }
        ),
        State::Met
    );
    assert_eq!(
        state(
            "C7.1",
            &Gathered {
                overdue: overdue(1),
                ..lately()
            }
        ),
        State::Missed
    );
    assert_eq!(
        state(
            "C7.1",
            &Gathered {
                overdue: overdue(0),
                ..nothing()
            }
        ),
        State::Unknown
    );
    assert_eq!(
        state(
            "C7.1",
            &Gathered {
                overdue: overdue(1),
                ..nothing()
            }
        ),
        State::Missed
    );
    let unread = Gathered {
        overdue: Err("no answer".to_owned()),
        ..lately()
    };
    assert!(
        verdict("C7.1", &unread)
            .reason
            .unwrap()
            .contains("no answer")
    );
}

#[test]
fn one_copy_in_another_region_is_enough_and_one_in_the_same_is_too_many() {
    let separate = || Judgement::Separate;
    let unknown = || Judgement::CannotJudge {
        reason: "a folder".to_owned(),
    };
    let same = || Judgement::Same {
        reason: "the same".to_owned(),
    };
    for (places, is) in [
        (vec![], State::Unknown),
        (vec![unknown()], State::Unknown),
        (vec![unknown(), separate()], State::Met),
        (vec![separate()], State::Met),
        (vec![separate(), same()], State::Missed),
    ] {
        let places = places.into_iter().map(|judgement| Place {
            store: "backup_store",
            judgement,
        });
        let gathered = Gathered {
            places: places.collect(),
            ..nothing()
        };
        assert_eq!(state("C8.4", &gathered), is, "{:?}", gathered.places);
    }
}

#[test]
fn a_database_that_does_not_answer_makes_nothing_red_and_says_so() {
    let away = || Err("the database refuses connections".to_owned());
    let gathered = Gathered {
        facts: away().map(|()| Read::default()),
        probes: away().map(|()| Vec::new()),
        tasks: away().map(|()| HashMap::new()),
        rows: away().map(|()| Rows::default()),
        catalogue: away().map(|()| Catalogue::default()),
        migrations: away().map(|()| None),
        overdue: away().map(|()| HashMap::new()),
        archives: away().map(|()| HashMap::new()),
        audit: away().map(|()| AuditTail::default()),
        backups: away().map(|()| backup::History::default()),
        kept: away().map(|()| Vec::new()),
        failures: away().map(|()| Vec::new()),
        untold: away().map(|()| Untold::default()),
        ..nothing()
    };
    for definition in &CRITERIA {
        let verdict = (definition.judge)(&gathered);
        assert_ne!(verdict.state, State::Missed, "{}", definition.id);
        // What a setting says is known all the same.
        let is_said = verdict.state == State::Met || verdict.reason.is_some();
        assert!(is_said, "{}", definition.id);
    }
}

#[test]
fn nothing_known_is_never_met_but_by_settings() {
    let met = CRITERIA
        .iter()
        .filter(|one| (one.judge)(&nothing()).state == State::Met);
    let met: Vec<&str> = met.map(|one| one.id).collect();
    assert_eq!(met, ["C4.4"]);
}

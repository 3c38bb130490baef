use super::*;

const DAILY: Cadence = Cadence::DailyAt { hour: 1, minute: 0 };

fn at(day: u32, hour: u32) -> DateTime<Utc> {
    format!("2025-03-{day:02}T{hour:02}:00:00Z")
        .parse()
        .unwrap()
}

fn state() -> TaskState {
    TaskState {
        cadence: DAILY.to_string(),
        first_seen_at: at(1, 12),
        enabled: true,
        running: None,
        newest: None,
        succeeded_slot_at: None,
    }
}

fn slot(day: u32, attempts: i32) -> Attempted {
    Attempted {
        id: i64::from(day),
        slot_at: at(day, 1),
        on_demand: false,
        epoch: 1,
        attempts,
        missed: 0,
    }
}

fn start(day: u32, missed: i64) -> Run {
    Run::Start {
        slot_at: at(day, 1),
        on_demand: false,
        missed,
    }
}

#[test]
fn a_new_task_owes_nothing_from_before_it_was_seen() {
    assert!(due(DAILY, &state(), at(1, 12), 5).is_nothing());
    assert!(due(DAILY, &state(), at(2, 0), 5).is_nothing());
    assert_eq!(due(DAILY, &state(), at(2, 1), 5).run, Some(start(2, 0)));
    let on_the_dot = TaskState {
        first_seen_at: at(2, 1),
        ..state()
    };
    assert_eq!(due(DAILY, &on_the_dot, at(2, 1), 5).run, Some(start(2, 0)));
    let just_after = TaskState {
        first_seen_at: at(2, 1) + TimeDelta::microseconds(1),
        ..state()
    };
    assert!(due(DAILY, &just_after, at(2, 2), 5).is_nothing());
}

#[test]
fn missed_slots_are_one_run_that_says_how_many() {
    assert_eq!(due(DAILY, &state(), at(9, 7), 5).run, Some(start(9, 7)));
    let once = TaskState {
        newest: Some(Newest {
            slot: slot(4, 1),
            retry_at: None,
        }),
        succeeded_slot_at: Some(at(4, 1)),
        ..state()
    };
    assert!(due(DAILY, &once, at(5, 0), 5).is_nothing());
    assert_eq!(due(DAILY, &once, at(5, 1), 5).run, Some(start(5, 0)));
    assert_eq!(due(DAILY, &once, at(9, 7), 5).run, Some(start(9, 4)));
}

#[test]
fn a_running_slot_lets_nothing_start_until_its_lease_is_over() {
    let running = Running {
        slot: slot(2, 1),
        lease_expires_at: at(2, 3),
    };
    let held = TaskState {
        running: Some(running),
        newest: Some(Newest {
            slot: slot(2, 1),
            retry_at: None,
        }),
        ..state()
    };
    assert!(due(DAILY, &held, at(2, 3) - TimeDelta::microseconds(1), 5).is_nothing());
    let again = Some(Run::Again {
        slot: slot(2, 1),
        error: Some(LOST),
    });
    assert_eq!(
        due(DAILY, &held, at(2, 3), 5),
        Decision {
            vacate: None,
            run: again
        }
    );
    assert!(on_demand(&held, at(2, 2), 5).is_none());
    let preempted = on_demand(&held, at(2, 3), 5).unwrap().vacate.unwrap();
    assert_eq!(preempted.retry_at, Some(at(2, 3)));
}

#[test]
fn a_newer_slot_stands_for_one_whose_runner_was_lost() {
    let lost = TaskState {
        running: Some(Running {
            slot: slot(2, 1),
            lease_expires_at: at(2, 3),
        }),
        newest: Some(Newest {
            slot: slot(2, 1),
            retry_at: None,
        }),
        ..state()
    };
    let decision = due(DAILY, &lost, at(3, 1), 5);
    assert_eq!(decision.vacate.unwrap().error, SUPERSEDED);
    assert_eq!(decision.run, Some(start(3, 1)));
}

#[test]
fn a_slot_that_lost_its_runner_too_often_is_given_up() {
    let lost = TaskState {
        running: Some(Running {
            slot: slot(2, 5),
            lease_expires_at: at(2, 3),
        }),
        newest: Some(Newest {
            slot: slot(2, 5),
            retry_at: None,
        }),
        ..state()
    };
    let decision = due(DAILY, &lost, at(2, 4), 5);
    assert_eq!(
        (decision.vacate.unwrap().error, decision.run),
        (GIVEN_UP, None)
    );
}

#[test]
fn a_failed_slot_waits_for_its_time_and_a_newer_one_goes_first() {
    let failed = TaskState {
        newest: Some(Newest {
            slot: slot(2, 1),
            retry_at: Some(at(2, 5)),
        }),
        ..state()
    };
    assert!(due(DAILY, &failed, at(2, 4), 5).is_nothing());
    let again = Some(Run::Again {
        slot: slot(2, 1),
        error: None,
    });
    assert_eq!(due(DAILY, &failed, at(2, 5), 5).run, again);
    assert_eq!(due(DAILY, &failed, at(3, 1), 5).run, Some(start(3, 1)));
}

#[test]
fn a_disabled_task_is_not_started_by_the_schedule_but_on_demand() {
    let disabled = TaskState {
        enabled: false,
        ..state()
    };
    assert!(due(DAILY, &disabled, at(9, 9), 5).is_nothing());
    assert!(on_demand(&disabled, at(9, 9), 5).is_some());
}

#[test]
fn a_clock_that_went_back_starts_no_older_slot() {
    let ahead = TaskState {
        newest: Some(Newest {
            slot: slot(9, 1),
            retry_at: None,
        }),
        ..state()
    };
    assert!(due(DAILY, &ahead, at(8, 12), 5).is_nothing());
}

#[test]
fn pauses_double_up_to_an_hour_and_end_with_the_last_attempt() {
    let text = "[schedule]\nmax_attempts = 9\nretry_backoff_seconds = 60";
    let settings = crate::config::Loader::default()
        .text(text)
        .unwrap()
        .finish()
        .unwrap()
        .schedule;
    let pauses: Vec<Option<i64>> = (1..=9)
        .map(|attempts| {
            retry_at(&settings, attempts, at(2, 1)).map(|retry| (retry - at(2, 1)).num_minutes())
        })
        .collect();
    let expected = [
        Some(1),
        Some(2),
        Some(4),
        Some(8),
        Some(16),
        Some(32),
        Some(60),
        Some(60),
        None,
    ];
    assert_eq!(pauses, expected);
}

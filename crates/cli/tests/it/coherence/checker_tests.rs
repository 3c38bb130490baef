//! The checker on histories made by hand: a harness that cannot fail proves nothing.

use super::super::history::{Path, Window};
use super::*;

fn ms(milliseconds: u64) -> Time {
    Duration::from_millis(milliseconds)
}

/// The state with so many ratings of 5.
fn fives(count: u64) -> Stats {
    Stats([0, 0, 0, 0, count])
}

fn write(state: u64, begun: u64, acknowledged: Option<u64>) -> Write {
    Write {
        stats: fives(state),
        begun: ms(begun),
        acknowledged: acknowledged.map(ms),
        path: Path::Api,
    }
}

fn read(start: u64, end: u64, outcome: Result<Stats, Failure>) -> Call {
    Call {
        server: 0,
        purpose: Purpose::Read {
            insight: 0,
            own: None,
        },
        start: ms(start),
        end: ms(end),
        outcome,
    }
}

/// One insight: state 1 from 100..200, state 2 from 1000..1100, state 3 begun at 5000 and never acknowledged.
fn history(calls: Vec<Call>) -> History {
    let writes = vec![
        write(1, 100, Some(200)),
        write(2, 1_000, Some(1_100)),
        write(3, 5_000, None),
    ];
    History {
        insights: vec![writes],
        calls,
        ..History::default()
    }
}

fn violations(history: &History) -> Vec<Violation> {
    check(history, Limits::default()).violations
}

fn one(call: Call) -> Vec<Violation> {
    violations(&history(vec![call]))
}

#[test]
fn the_present_state_and_any_that_was_superseded_less_than_a_second_ago_are_right() {
    for (start, state) in [
        (0, 0),
        (300, 1),
        (1_200, 2),
        (1_199, 0),
        (2_099, 1),
        (4_000, 2),
    ] {
        assert_eq!(
            one(read(start, start + 10, Ok(fives(state)))),
            [],
            "{start} {state}"
        );
    }
}

#[test]
fn a_state_may_be_seen_as_soon_as_its_write_was_begun_even_if_it_is_never_acknowledged() {
    assert_eq!(one(read(90, 100, Ok(fives(1)))), []);
    assert_eq!(one(read(4_900, 5_000, Ok(fives(3)))), []);
    assert_eq!(
        one(read(9_000, 9_010, Ok(fives(2)))),
        [],
        "nobody knows of a commit of 3"
    );
    let early = one(read(90, 99, Ok(fives(1))));
    assert_eq!(early, [Violation::NotYet { call: 0, state: 1 }]);
}

#[test]
fn a_value_that_never_was_is_found() {
    let answer = Stats([1, 0, 0, 0, 1]);
    assert_eq!(
        one(read(1_200, 1_210, Ok(answer))),
        [Violation::NeverWas { call: 0, answer }]
    );
}

#[test]
fn a_value_is_stale_a_second_after_the_next_was_acknowledged_judged_by_when_it_was_asked_for() {
    let stale = |state, age| Violation::Stale {
        call: 0,
        state,
        age: ms(age),
    };
    assert_eq!(one(read(2_100, 2_101, Ok(fives(1)))), [stale(1, 1_000)]);
    assert_eq!(one(read(2_100, 2_101, Ok(fives(0)))), [stale(0, 1_900)]);
    assert_eq!(one(read(1_200, 1_201, Ok(fives(0)))), [stale(0, 1_000)]);
    assert_eq!(
        one(read(2_099, 9_000, Ok(fives(1)))).len(),
        1,
        "slow, and not stale"
    );
}

#[test]
fn no_excuse_covers_a_stale_or_wrong_value() {
    let mut history = history(vec![
        read(3_000, 3_010, Ok(fives(1))),
        read(3_000, 3_010, Ok(fives(9))),
        read(3_000, 3_010, Err(Failure::Status(500, String::new()))),
        read(3_000, 3_010, Err(Failure::Malformed(String::new()))),
        read(3_000, 3_010, Err(Failure::Status(503, String::new()))),
        read(3_000, 7_000, Err(Failure::TimedOut)),
        read(3_000, 7_000, Ok(fives(2))),
    ]);
    history.windows.push(Window {
        what: "all".to_owned(),
        from: ms(0),
        to: None,
        excused: vec![0],
    });
    let found: Vec<usize> = violations(&history).iter().map(Violation::call).collect();
    assert_eq!(found, [0, 1, 2, 3]);
    assert_eq!(check(&history, Limits::default()).excused, 2);
}

#[test]
fn ones_own_write_is_seen_at_once() {
    let own = |state| Call {
        purpose: Purpose::Read {
            insight: 0,
            own: Some(2),
        },
        ..read(1_101, 1_102, Ok(fives(state)))
    };
    assert_eq!(one(own(2)), []);
    assert_eq!(
        one(own(1)),
        [Violation::NotOwn {
            call: 0,
            state: 1,
            own: 2
        }]
    );
}

#[test]
fn failures_and_delays_need_an_excuse_of_their_own_server_at_their_own_time() {
    let failed = read(3_000, 3_010, Err(Failure::Status(503, String::new())));
    let slow = read(3_000, 4_500, Ok(fives(2)));
    for call in [failed, slow] {
        assert_eq!(one(call.clone()).len(), 1);
        for (server, from, to, excuses) in [
            (0, 2_000, Some(3_000), true),
            (0, 2_000, Some(2_999), false),
            (0, 3_005, None, true),
            (0, 4_501, None, false),
            (1, 2_000, None, false),
        ] {
            let mut history = history(vec![call.clone()]);
            history.windows.push(Window {
                what: "one".to_owned(),
                from: ms(from),
                to: to.map(ms),
                excused: vec![server],
            });
            assert_eq!(
                violations(&history).is_empty(),
                excuses,
                "{server} {from} {to:?}"
            );
        }
    }
    let failed_write = Call {
        purpose: Purpose::Write,
        ..read(3_000, 3_010, Err(Failure::TimedOut))
    };
    assert_eq!(one(failed_write).len(), 1);
}

#[test]
fn a_pause_of_the_machine_is_no_delay() {
    let mut history = history(vec![read(3_000, 4_500, Ok(fives(2)))]);
    history.pauses = vec![(ms(2_900), ms(3_300)), (ms(4_000), ms(4_200))];
    assert_eq!(violations(&history), []);
    history.pauses.pop();
    assert_eq!(
        violations(&history),
        [Violation::Slow {
            call: 0,
            took: ms(1_200)
        }]
    );
}

#[test]
#[should_panic(expected = "two states are equal")]
fn a_writer_that_comes_back_to_a_state_is_a_fault_of_the_harness() {
    let mut history = history(Vec::new());
    history.insights[0].push(write(1, 6_000, None));
    check(&history, Limits::default());
}

#[test]
fn what_a_run_was_like_is_told() {
    let history = history(vec![
        read(1_150, 1_160, Ok(fives(1))),
        read(1_900, 1_902, Ok(fives(1))),
        read(3_000, 3_001, Ok(fives(2))),
    ]);
    let verdict = check(&history, Limits::default());
    assert_eq!(
        (verdict.reads, verdict.writes, verdict.oldest),
        (3, 3, ms(800))
    );
    assert_eq!(
        (verdict.quantile(0.5), verdict.quantile(1.0)),
        (ms(2), ms(10))
    );
    assert_eq!(verdict.slower_than(ms(2)), 1);
}

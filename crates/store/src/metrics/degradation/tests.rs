mod made;

use made::{Kind, Random, SEASONS, Samples, Shift, kinds, series};

use super::*;

fn figures(window: &[Hour], history: &[Hour], settings: &Settings) -> Figures {
    match judge(window, history, settings) {
        Judgement::Judged(figures) => figures,
        Judgement::NotEnoughHistory { history_hours } => {
            panic!("{history_hours} hours are too few")
        }
    }
}

fn worse(window: &[Hour], history: &[Hour], direction: Direction) -> bool {
    let settings = Settings {
        direction,
        ..Settings::default()
    };
    figures(window, history, &settings).worse
}

/// How many of so many shifts of one hour's level by a factor are found, after so many days without one.
fn hits(kind: &Kind, days: i64, factor: f64, tries: u64) -> u64 {
    let found = (0..tries).filter(|seed| {
        let hour = days * 24 + Random::new(seed + 1_000_000).below(24);
        let shift: Shift = (hour..hour + 1, factor);
        let series = series(kind, hour + 1, seed * 31 + 5, Some(&shift));
        let (window, history) = series.split_last().unwrap();
        let figures = figures(&[*window], history, &Settings::default());
        assert_eq!(figures.count, kind.an_hour.cast_unsigned());
        figures.worse
    });
    found.count() as u64
}

/// How many hours of all kinds of series without a shift were judged, and how many of them to be worse.
fn false_positives(seeds: u64, direction: Direction) -> (u64, u64) {
    let (mut judged, mut found) = (0, 0);
    for (_, kind) in kinds() {
        for (days, seed) in [7, 28]
            .into_iter()
            .flat_map(|days| (0..seeds).map(move |seed| (days, seed)))
        {
            let series = series(
                &kind,
                (days + 3) * 24,
                seed * 7_919 + days.cast_unsigned(),
                None,
            );
            let first = usize::try_from(days * 24).unwrap();
            for at in first..series.len() {
                judged += 1;
                found += u64::from(worse(&series[at..=at], &series[..at], direction));
            }
        }
    }
    (judged, found)
}

fn noise(sigma: f64) -> Kind {
    Kind {
        samples: Samples::Lognormal(sigma),
        ..SEASONS
    }
}

#[test]
fn a_shift_of_a_fifth_held_for_an_hour_is_found_after_seven_days() {
    let flat = |sigma| Kind {
        daily: 0.0,
        weekend: 0.0,
        ..noise(sigma)
    };
    // Measured with 400: see the module's text.
    assert_eq!(hits(&noise(0.03), 7, 1.2, 60), 60);
    assert!(hits(&noise(0.05), 7, 1.2, 60) >= 58);
    assert_eq!(hits(&flat(0.05), 7, 1.2, 60), 60);
    assert_eq!(hits(&noise(0.05), 28, 1.2, 30), 30);
    // A shift well within the noise is not told from it.
    assert!(hits(&noise(0.3), 7, 1.2, 30) <= 5);
}

#[test]
fn hours_without_a_shift_are_not_reported() {
    for direction in [Direction::Up, Direction::Down, Direction::Both] {
        let (judged, found) = false_positives(1, direction);
        assert!(judged > 2_500);
        assert!(found <= 4, "{found} of {judged} {direction:?}");
    }
}

#[test]
#[ignore = "takes minutes: it measures the rates that the module's text states"]
fn of_fifty_thousand_hours_without_a_shift_less_than_one_in_a_thousand_is_reported() {
    for direction in [Direction::Up, Direction::Down, Direction::Both] {
        let (judged, found) = false_positives(20, direction);
        assert!(judged > 50_000);
        assert!(found * 1_000 <= judged, "{found} of {judged} {direction:?}");
    }
}

#[test]
fn the_figures_say_what_happened() {
    let shift: Shift = (170..171, 1.5);
    let series = series(&SEASONS, 171, 3, Some(&shift));
    let figures = figures(&series[170..], &series[..170], &Settings::default());
    let change = figures.change.unwrap();
    assert!((change - 0.5).abs() < 0.05, "{figures:?}");
    assert!(
        (figures.baseline * 1.5 / figures.current - 1.0).abs() < 0.05,
        "{figures:?}"
    );
    assert!(
        figures.worse && figures.z > 8.0 && figures.spread < 0.05,
        "{figures:?}"
    );
    assert_eq!((figures.season, figures.history_hours), (Season::Day, 170));
}

#[test]
fn the_direction_decides_what_is_worse() {
    for (factor, [up, down, both]) in [
        (1.4, [true, false, true]),
        (0.7, [false, true, true]),
        (1.0, [false, false, false]),
    ] {
        let shift: Shift = (700..701, factor);
        let series = series(&SEASONS, 701, 8, Some(&shift));
        let found = [Direction::Up, Direction::Down, Direction::Both]
            .map(|direction| worse(&series[700..], &series[..700], direction));
        assert_eq!(found, [up, down, both], "{factor}");
    }
}

#[test]
fn a_degradation_is_still_reported_after_half_a_day() {
    let shift: Shift = (24 * 7..24 * 8, 1.4);
    let flat = Kind {
        weekend: 0.0,
        ..SEASONS
    };
    let series = series(&flat, 24 * 8, 11, Some(&shift));
    for at in 24 * 7..24 * 7 + 20 {
        assert!(
            worse(&series[at..=at], &series[..at], Direction::Up),
            "{at}"
        );
    }
    // The same as one window.
    assert!(worse(&series[24 * 7..], &series[..24 * 7], Direction::Up));
}

#[test]
fn a_degradation_days_ago_hides_none_today() {
    let mut series = series(&SEASONS, 24 * 7 + 13, 5, None);
    for hour in &mut series[60..63] {
        hour.value *= 3.0;
    }
    let last = series.len() - 1;
    series[last].value *= 1.4;
    assert!(worse(&series[last..], &series[..last], Direction::Up));
}

#[test]
fn a_window_of_a_few_minutes_is_judged_by_how_few_samples_it_has() {
    let (mut thin, mut whole) = (0, 0);
    for seed in 0..60 {
        let few = Kind {
            an_hour: 6,
            ..noise(0.15)
        };
        let history = series(&noise(0.15), 24 * 8, seed, None);
        let window = series(&few, 24 * 8, seed, None)[24 * 8 - 1];
        // Had it as many samples as the others, the same value would more often seem unusual.
        let full = Hour {
            count: 60,
            ..window
        };
        for direction in [Direction::Up, Direction::Down] {
            thin += u64::from(worse(&[window], &history[..24 * 8 - 1], direction));
            whole += u64::from(worse(&[full], &history[..24 * 8 - 1], direction));
        }
    }
    assert!(thin <= 1 && whole > 10, "{thin} {whole}");
}

#[test]
fn windows_of_several_hours_without_a_shift_are_not_reported_and_find_smaller_ones() {
    let (mut found, mut judged, mut shifted) = (0, 0, 0);
    for seed in 0..20 {
        let series = series(&noise(0.1), 24 * 10, seed, None);
        for at in (24 * 7..24 * 10 - 6).step_by(6) {
            judged += 1;
            found += u64::from(worse(&series[at..at + 6], &series[..at], Direction::Up));
            let window: Vec<Hour> = series[at..at + 6]
                .iter()
                .map(|hour| Hour {
                    value: hour.value * 1.3,
                    ..*hour
                })
                .collect();
            shifted += u64::from(worse(&window, &series[..at], Direction::Up));
        }
    }
    assert!(
        found <= judged / 100 && shifted * 10 >= judged * 9,
        "{found} {shifted} {judged}"
    );
}

#[test]
fn errors_where_there_never_were_any_are_a_degradation_without_a_ratio() {
    let zero = Kind {
        samples: Samples::Constant(0.0),
        ..SEASONS
    };
    let history = series(&zero, 24 * 7, 1, None);
    let next = history.last().unwrap().start + HOUR;
    let window = Hour {
        start: next,
        count: 60,
        value: 5.0,
    };
    let figures = figures(&[window], &history, &Settings::default());
    assert!(figures.worse && figures.change.is_none(), "{figures:?}");
    assert!(!worse(
        &[Hour {
            value: 0.0,
            ..window
        }],
        &history,
        Direction::Both
    ));
}

#[test]
fn values_below_zero_are_compared_by_their_difference() {
    let mut series = series(&SEASONS, 24 * 9, 2, None);
    for hour in &mut series {
        hour.value = -hour.value;
    }
    let last = series.len() - 1;
    assert!(!worse(&series[last..], &series[..last], Direction::Both));
    series[last].value *= 0.5;
    assert!(worse(&series[last..], &series[..last], Direction::Up));
    assert!(!worse(&series[last..], &series[..last], Direction::Down));
}

#[test]
fn a_small_change_of_a_quiet_series_is_none() {
    let constant = Kind {
        samples: Samples::Constant(3.0),
        ..SEASONS
    };
    let history = series(&constant, 24 * 7, 1, None);
    let next = history.last().unwrap().start + HOUR;
    for (value, expected) in [(3.2, false), (3.4, true)] {
        let window = Hour {
            start: next,
            count: 60,
            value,
        };
        assert_eq!(
            worse(&[window], &history, Direction::Up),
            expected,
            "{value}"
        );
    }
}

#[test]
fn weeks_are_compared_with_weeks_where_there_are_three() {
    let series = series(&SEASONS, 24 * 28, 4, None);
    for (hours, season) in [(24 * 20, Season::Day), (24 * 22, Season::Week)] {
        let found = figures(
            &series[hours..=hours],
            &series[..hours],
            &Settings::default(),
        );
        assert_eq!((found.season, found.history_hours), (season, hours));
    }
}

#[test]
fn too_little_history_is_said_to_be_too_little() {
    let series = series(&SEASONS, 24 * 5, 4, None);
    let settings = Settings::default();
    for history in [0, 1, 24, 24 * 3 - 1] {
        let found = judge(&series[history..=history], &series[..history], &settings);
        assert_eq!(
            found,
            Judgement::NotEnoughHistory {
                history_hours: history
            }
        );
    }
    assert!(matches!(
        judge(&series[73..74], &series[..73], &settings),
        Judgement::Judged(_)
    ));
    // What is older than four weeks, or not older than the window, is no history.
    let late = Hour {
        start: series[0].start + 40 * 24 * HOUR,
        ..series[0]
    };
    assert_eq!(
        judge(&[late], &series, &settings),
        Judgement::NotEnoughHistory { history_hours: 0 }
    );
    assert_eq!(
        judge(&series[..1], &series, &settings),
        Judgement::NotEnoughHistory { history_hours: 0 }
    );
    assert_eq!(
        judge(&[], &series, &settings),
        Judgement::NotEnoughHistory { history_hours: 0 }
    );
}

#[test]
fn a_series_with_gaps_is_judged_by_what_there_is() {
    let series = series(&SEASONS, 24 * 12, 6, None);
    let (window, history) = series.split_last().unwrap();
    let mut random = Random::new(1);
    let mut kept = history.to_vec();
    kept.retain(|_| random.below(4) > 0);
    assert!(!worse(&[*window], &kept, Direction::Both));
    let shifted = Hour {
        value: window.value * 1.4,
        ..*window
    };
    assert!(worse(&[shifted], &kept, Direction::Up));
}

use proptest::prelude::*;

use super::*;

/// A series in order of time, with few different values, so that extremes repeat.
fn series() -> impl Strategy<Value = Vec<(i64, f64)>> {
    prop::collection::vec((1_i64..50, -20_i32..20), 0..400).prop_map(|steps| {
        let mut now = -500;
        let sample = |(step, value)| {
            now += step;
            (now, f64::from(value))
        };
        steps.into_iter().map(sample).collect()
    })
}

fn chart(start: i64, end: i64, points: usize, series: &[(i64, f64)]) -> Vec<(i64, f64)> {
    let mut chart = Chart::new(start, end, points);
    for (at, value) in series {
        chart.push(*at, *value);
    }
    chart.finish()
}

fn extremes(series: &[(i64, f64)]) -> (f64, f64) {
    let values = series.iter().map(|sample| sample.1);
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| {
        (min.min(value), max.max(value))
    })
}

/// What M4 keeps, written down as its definition reads.
fn by_definition(start: i64, end: i64, slots: i64, series: &[(i64, f64)]) -> Vec<(i64, f64)> {
    let mut points: Vec<(i64, f64)> = Vec::new();
    for slot in 0..slots {
        let within: Vec<(i64, f64)> = series
            .iter()
            .copied()
            .filter(|(at, _)| (at - start) * slots / (end - start) == slot)
            .collect();
        let (min, max) = extremes(&within);
        points.extend(within.first());
        points.extend(within.iter().find(|sample| sample.1 <= min));
        points.extend(within.iter().find(|sample| sample.1 >= max));
        points.extend(within.last());
    }
    points.sort_by_key(|sample| sample.0);
    points.dedup();
    points
}

proptest! {
    #[test]
    fn points_are_those_that_m4_defines(series in series(), slots in 1_i64..40) {
        let (start, end) = (-500, series.last().map_or(0, |last| last.0) + 1);
        let points = usize::try_from(slots * 4).unwrap();
        let found = chart(start, end, points, &series);
        if series.len() <= points {
            prop_assert_eq!(found, series);
        } else {
            prop_assert_eq!(found, by_definition(start, end, slots, &series));
        }
    }

    #[test]
    fn no_extreme_is_lost_and_no_point_too_many_or_made_up(
        series in series(), points in 0_usize..120, start in -1_000_i64..5_000, length in -10_i64..20_000,
    ) {
        let found = chart(start, start + length, points, &series);
        prop_assert!(found.len() <= points.max(4));
        prop_assert!(found.iter().all(|point| series.contains(point)));
        prop_assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        prop_assert_eq!(extremes(&found), extremes(&series));
        prop_assert_eq!(found.first(), series.first());
        prop_assert_eq!(found.last(), series.last());
    }
}

#[test]
fn a_spike_of_one_second_in_a_day_is_among_a_hundred_points() {
    let mut chart = Chart::new(0, 86_400, 100);
    for at in 0..86_400 {
        chart.push(at, if at == 54_321 { 9.0 } else { 1.0 });
    }
    let points = chart.finish();
    assert!(points.contains(&(54_321, 9.0)) && points.len() <= 100);
}

#[test]
fn a_sample_that_is_least_greatest_and_last_of_a_summary_is_one_point() {
    let points = chart(0, 10, 100, &[(1, 5.0), (1, 5.0), (1, 5.0), (2, 4.0)]);
    assert_eq!(points, [(1, 5.0), (2, 4.0)]);
}

#[test]
fn times_at_the_ends_of_the_calendar_do_not_overflow() {
    let series: Vec<(i64, f64)> = (0..9).map(|step| (i64::MIN + step, 1.0)).collect();
    let mut chart = Chart::new(i64::MIN, i64::MAX, 8);
    for (at, value) in series {
        chart.push(at, value);
    }
    chart.push(i64::MAX, 2.0);
    assert_eq!(chart.finish().last(), Some(&(i64::MAX, 2.0)));
}

#[test]
fn as_many_samples_as_points_come_back_whole_and_one_more_does_not() {
    let series: Vec<(i64, f64)> = (0..9).map(|at| (at, 1.0)).collect();
    assert_eq!(chart(0, 1_000, 8, &series[..8]), series[..8]);
    assert_eq!(chart(0, 1_000, 8, &series), [(0, 1.0), (8, 1.0)]);
}

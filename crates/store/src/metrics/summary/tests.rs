use proptest::prelude::*;

use super::*;

/// Samples whose values span nine powers of ten, at times that repeat.
fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let size = prop_oneof![
        4 => (-3.0_f64..6.0).prop_map(|power| 10_f64.powf(power)),
        1 => (0..20_i32).prop_map(|tenths| f64::from(tenths) * 0.1),
    ];
    let value =
        (size, any::<bool>()).prop_map(|(size, negative)| if negative { -size } else { size });
    let alike = (-3_i32..3).prop_map(f64::from);
    let at = 0_i64..100;
    prop_oneof![
        prop::collection::vec((at.clone(), value), 1..200),
        prop::collection::vec((at, alike), 1..200),
    ]
}

/// Every bit of a summary.
fn bits(summary: &Summary) -> (Vec<u64>, Vec<u8>) {
    let values = [
        summary.sum,
        summary.sum_low,
        summary.min,
        summary.max,
        summary.last,
        summary.mean(),
        summary.total(),
    ];
    let times = [summary.min_at, summary.max_at, summary.last_at].map(i64::cast_unsigned);
    let mut words: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
    words.extend(times);
    words.push(summary.count);
    (words, summary.sketch.encode())
}

/// The samples split at random into summaries, which are merged in a random order.
fn merged(samples: &[(i64, f64)], choices: &[prop::sample::Index]) -> Summary {
    let mut parts: Vec<Summary> = Vec::new();
    for ((at, value), choice) in samples.iter().zip(choices.iter().cycle()) {
        match parts.get_mut(choice.index(8)) {
            Some(part) => part.add(*at, *value),
            None => parts.push(Summary::of(*at, *value)),
        }
    }
    let mut choices = choices.iter().cycle();
    while parts.len() > 1 {
        let one = parts.swap_remove(choices.next().unwrap().index(parts.len()));
        let into = choices.next().unwrap().index(parts.len());
        parts[into].merge(&one);
    }
    parts.remove(0)
}

proptest! {
    #[test]
    fn a_summary_is_the_same_to_the_last_bit_in_any_order_and_any_split(
        (samples, shuffled) in samples().prop_flat_map(|samples| (Just(samples.clone()), Just(samples).prop_shuffle())),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 7..40),
    ) {
        let whole = Summary::of_all(samples).unwrap();
        prop_assert_eq!(bits(&Summary::of_all(shuffled.clone()).unwrap()), bits(&whole));
        prop_assert_eq!(bits(&merged(&shuffled, &choices)), bits(&whole));
    }

    #[test]
    fn a_sum_is_exact_and_its_main_part_correctly_rounded(
        parts in prop::collection::vec((any::<i64>(), 0_u32..40), 1..200),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 7..40),
    ) {
        // Whole numbers of 53 bits times up to 2^39, summed by integers beside.
        let whole: Vec<i128> = parts.iter().map(|(part, power)| i128::from(part >> 11) << power).collect();
        let samples: Vec<(i64, f64)> = whole.iter().map(|value| (0, *value as f64)).collect();
        let exact: i128 = whole.iter().sum();
        let summary = merged(&samples, &choices);
        let high = exact as f64;
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^106")]
        let low = (exact - high as i128) as f64;
        prop_assert_eq!((summary.sum, summary.sum_low), (high, low));
        prop_assert_eq!(summary.total().to_bits(), high.to_bits());
    }

    #[test]
    fn a_mean_is_exact_where_it_can_be(mean in any::<i64>(), offsets in prop::collection::vec(0_i32..1_000_000, 1..100)) {
        let mean = (mean >> 12) as f64;
        let pairs = offsets.iter().flat_map(|offset| [mean + f64::from(*offset), mean - f64::from(*offset)]);
        let summary = Summary::of_all(pairs.chain([mean]).map(|value| (0, value))).unwrap();
        prop_assert_eq!(summary.mean().to_bits(), mean.to_bits());
    }

    #[test]
    fn whatever_is_added_stays_finite_and_mean_and_quantiles_within_the_extremes(
        samples in prop::collection::vec((any::<i64>(), -1e300_f64..=1e300), 1..50), q in 0.0_f64..=1.0,
        constant in -1e9_f64..1e9, times in 1_i64..500,
    ) {
        let summary = Summary::of_all(samples.clone()).unwrap();
        for value in [summary.mean(), summary.quantile(q)] {
            prop_assert!((summary.min..=summary.max).contains(&value));
        }
        let (min_at, min) = samples.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0))).unwrap();
        let (max_at, max) = samples.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).unwrap();
        let (last_at, last) = samples.iter().copied().max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).unwrap();
        prop_assert_eq!((summary.min, summary.min_at, summary.max, summary.max_at), (min, min_at, max, max_at));
        prop_assert_eq!((summary.last, summary.last_at), (last, last_at));
        let constant_summary = Summary::of_all((0..times).map(|at| (at, constant))).unwrap();
        prop_assert_eq!((constant_summary.mean(), constant_summary.quantile(q)), (constant, constant));
    }
}

#[test]
fn zero_has_no_sign() {
    let summary = Summary::of_all([(1, -0.0), (2, -0.0), (3, -0.0)]).unwrap();
    for value in [
        summary.sum,
        summary.sum_low,
        summary.min,
        summary.max,
        summary.last,
        summary.mean(),
        summary.quantile(0.5),
    ] {
        assert_eq!(value.to_bits(), 0);
    }
}

#[test]
fn a_sum_beyond_all_numbers_stays_the_greatest_number() {
    let mut summary = Summary::of(0, 1e300);
    for _ in 0..40 {
        let same = summary.clone();
        summary.merge(&same);
    }
    assert_eq!((summary.sum, summary.sum_low), (f64::MAX, 0.0));
    assert!(summary.mean().is_finite());
}

#[test]
fn small_samples_are_not_lost_beside_great_ones() {
    let mut summary = Summary::of(0, 1e16);
    for at in 1..=1_000 {
        summary.add(at, 0.1);
    }
    summary.add(1_001, -1e16);
    assert!((summary.total() - 100.0).abs() < 1e-12);
}

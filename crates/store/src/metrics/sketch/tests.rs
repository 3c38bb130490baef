use proptest::prelude::*;

use super::*;

/// Values of every kind that a sample may have: ordinary ones, all exponents, both signs, zeros, the borders of bins.
fn value() -> impl Strategy<Value = f64> {
    let magnitude = prop_oneof![
        4 => 0.1_f64..1_000.0,
        2 => (-1022_i32..996, 1.0_f64..2.0).prop_map(|(exponent, s)| s * power_of_two(exponent)),
        2 => (1..=HIGHEST_BIN, -2_i64..=2).prop_map(|(bin, off)| beside(border(bin), off).min(1e300)),
        1 => (0_u64..1 << 52).prop_map(f64::from_bits),
        1 => Just(0.0),
        1 => Just(1e300),
        1 => Just(f64::MIN_POSITIVE),
    ];
    (magnitude, any::<bool>()).prop_map(|(size, negative)| if negative { -size } else { size })
}

/// The lower end of a bin, as near as arithmetic comes.
fn border(bin: i32) -> f64 {
    let (exponent, within) = ((bin - 1) / BINS + LOWEST, (bin - 1) % BINS);
    let mantissa = 1.0 + at_position(f64::from(within) / f64::from(BINS));
    mantissa * power_of_two(exponent.max(-1000)) * power_of_two((exponent + 1000).min(0))
}

/// The value so many steps of f64 above another.
fn beside(value: f64, steps: i64) -> f64 {
    f64::from_bits(value.to_bits().saturating_add_signed(steps))
}

fn close(estimate: f64, value: f64) -> bool {
    let slack = if value.abs() < f64::MIN_POSITIVE {
        f64::from_bits(1)
    } else {
        0.0
    };
    (estimate - value).abs() <= value.abs() * ALPHA + slack
}

fn sketch(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::default();
    for value in values {
        sketch.add(*value);
    }
    sketch
}

#[test]
fn every_border_of_every_bin_is_within_one_percent_of_its_estimate() {
    let mut worst = 0.0_f64;
    for bin in 1..=HIGHEST_BIN {
        for off in -3..=3 {
            let value = beside(border(bin), off);
            if value == 0.0 || !value.is_finite() {
                continue;
            }
            let found = key(value);
            assert!(
                bin.abs_diff(found) <= 1 || value < f64::MIN_POSITIVE,
                "{value:e} {bin} {found}"
            );
            let estimate = estimate(found);
            assert!(
                close(estimate, value),
                "{value:e} is taken for {estimate:e}"
            );
            assert_eq!(key(-value), -found);
            if value >= f64::MIN_POSITIVE {
                worst = worst.max((estimate - value).abs() / value);
            }
        }
    }
    // The bound is used, so bins are no smaller than they need to be.
    assert!((0.009_999..ALPHA).contains(&worst), "{worst}");
}

#[test]
fn the_last_value_before_a_power_of_two_stays_below_it() {
    for exponent in -1022..=1023 {
        let power = power_of_two(exponent);
        let (below, above) = (key(beside(power, -1)), key(power));
        assert!(below == above - 1 || exponent == -1022, "{exponent}");
        assert!(below < above);
    }
    assert_eq!(key(f64::MAX), HIGHEST_BIN);
    assert_eq!(key(f64::from_bits(1)), 1);
    assert_eq!((key(0.0), key(-0.0)), (0, 0));
}

#[test]
fn a_sketch_has_the_bytes_it_always_had() {
    // Stored sketches are compared with computed ones: whoever changes these bytes has to migrate them.
    let some = sketch(&[1.0, 1.0, 1.5, 12.25, -3.0, 0.0]);
    let bytes = [
        0x01, 0x9b, 0xcc, 0x04, 0x01, 0x8d, 0xa6, 0x02, 0x01, 0xd6, 0xa5, 0x02, 0x02, 0x13, 0x01,
        0x69, 0x01,
    ];
    assert_eq!(some.encode(), bytes);
    assert_eq!(Sketch::default().encode(), [FORMAT]);
}

#[test]
fn a_bin_takes_two_to_three_bytes() {
    let mut all = Sketch::default();
    for step in 0..86_400 {
        all.add((f64::from(step) * 0.37).sin().mul_add(0.8, 4.0).exp());
    }
    let bytes = all.encode().len();
    assert!(bytes <= 3 * all.bins() + 5, "{bytes} for {}", all.bins());
    let mut hour = Sketch::default();
    for step in 0..60 {
        hour.add((f64::from(step) * 0.37).sin().mul_add(0.8, 4.0).exp());
    }
    let bytes = hour.encode().len();
    assert!(bytes <= 2 * hour.bins() + 5, "{bytes} for {}", hour.bins());
}

#[test]
fn what_is_no_number_is_left_out() {
    let none = sketch(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    assert_eq!(none, Sketch::default());
    assert_eq!(none.quantile(0.5), None);
}

#[test]
fn numbers_in_more_bytes_than_they_need_are_damage() {
    for bytes in [
        &[][..],
        &[2],
        &[1, 0],
        &[1, 0, 0],
        &[1, 0x80, 0, 1],
        &[1, 0, 0x81, 0],
        &[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1],
        &[
            1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
        ],
        &[
            1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 1,
        ],
    ] {
        assert!(Sketch::decode(bytes).is_err(), "{bytes:?}");
    }
    assert!(Sketch::decode(&[1, 0, 1]).is_ok());
}

proptest! {
    #[test]
    fn a_quantile_is_within_one_percent_of_the_sample_of_its_rank(
        mut values in prop::collection::vec(value(), 1..300), q in 0.0_f64..=1.0,
    ) {
        let sketch = sketch(&values);
        prop_assert_eq!(sketch.count(), values.len() as u64);
        values.sort_by(f64::total_cmp);
        for q in [0.0, 0.5, 0.95, 0.99, 1.0, q] {
            let rank = q * values.len() as f64;
            let exact = (1..=values.len()).find(|at| *at as f64 >= rank).unwrap();
            let exact = values[exact - 1];
            let estimate = sketch.quantile(q).unwrap();
            prop_assert!(close(estimate, exact), "{estimate:e} instead of {exact:e} at {q}");
        }
    }

    #[test]
    fn merged_sketches_equal_the_sketch_of_all_samples_in_any_order(
        mut values in prop::collection::vec(value(), 0..200), cut in any::<prop::sample::Index>(),
    ) {
        let whole = sketch(&values);
        let (left, right) = values.split_at(cut.index(values.len() + 1));
        let (left, right) = (sketch(left), sketch(right));
        let (mut one, mut other) = (left.clone(), right.clone());
        one.merge(&right);
        other.merge(&left);
        prop_assert_eq!(one.encode(), whole.encode());
        prop_assert_eq!(&one, &whole);
        prop_assert_eq!(&other, &whole);
        values.reverse();
        prop_assert_eq!(sketch(&values).encode(), whole.encode());
    }

    #[test]
    fn a_sketch_is_read_back_as_it_was_written_and_no_other_bytes_stand_for_it(
        values in prop::collection::vec(value(), 0..200),
        at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let sketch = sketch(&values);
        let bytes = sketch.encode();
        prop_assert_eq!(Sketch::decode(&bytes).unwrap(), sketch);
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] = with;
        damaged.truncate(cut.index(bytes.len()) + 1);
        if let Ok(other) = Sketch::decode(&damaged) {
            prop_assert_eq!(other.encode(), damaged);
        }
    }

    #[test]
    fn rubbish_is_refused_or_is_what_its_sketch_is_written_as(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        bytes.insert(0, FORMAT);
        if let Ok(sketch) = Sketch::decode(&bytes) {
            prop_assert_eq!(sketch.encode(), bytes);
            prop_assert!(sketch.quantile(0.5).is_none_or(f64::is_finite));
        }
    }
}

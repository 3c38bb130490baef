//! Made series: known seasons, known noise, known shifts.

use super::super::{HOUR, Hour};
use crate::metrics::summary::Summary;

/// Numbers at random from a seed, the same on every machine and with every version of every library (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, bound: i64) -> i64 {
        (self.next() >> 1).cast_signed() % bound
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    fn poisson(&mut self, mean: f64) -> f64 {
        let (mut product, mut count) = (self.unit(), 0.0);
        while product > (-mean).exp() {
            product *= self.unit();
            count += 1.0;
        }
        count
    }
}

/// What the samples of a series are.
#[derive(Debug, Clone, Copy)]
pub enum Samples {
    /// Lognormal around the level, with this standard deviation of the logarithm.
    Lognormal(f64),
    /// As above, but one sample in a hundred is five times as large.
    Spiky(f64),
    /// As above, around a level that drifts from hour to hour by this much.
    Wandering(f64, f64),
    /// Pareto, with this exponent.
    Pareto(f64),
    /// How often something happened, at this mean.
    Count(f64),
    /// A normal distribution around zero.
    AroundZero,
    /// Always the same.
    Constant(f64),
}

/// A kind of series.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub samples: Samples,
    pub an_hour: i64,
    /// By how much the level rises by day and falls by night.
    pub daily: f64,
    /// By how much it is lower at weekends.
    pub weekend: f64,
    /// By how much it grows each day.
    pub growth: f64,
    /// By how much it is higher from three to four at night.
    pub night: f64,
}

pub const SEASONS: Kind = Kind {
    samples: Samples::Lognormal(0.05),
    an_hour: 60,
    daily: 0.3,
    weekend: 0.3,
    growth: 0.0,
    night: 0.0,
};

/// A shift: the level's factor from one hour to before another.
pub type Shift = (std::ops::Range<i64>, f64);

/// The p95 of each hour of a series. Hour 0 is one of a Monday.
pub fn series(kind: &Kind, hours: i64, seed: u64, shift: Option<&Shift>) -> Vec<Hour> {
    let mut random = Random::new(seed);
    let first = random.below(24 * 7);
    let mut drift = 0.0;
    let mut made = Vec::new();
    for number in 0..hours {
        let clock = first + number;
        let by_day = (std::f64::consts::TAU * (clock % 24) as f64 / 24.0).sin();
        let mut level = 50.0 * (kind.daily * by_day).exp();
        if clock / 24 % 7 >= 5 {
            level *= 1.0 - kind.weekend;
        }
        if clock % 24 == 3 {
            level *= 1.0 + kind.night;
        }
        level *= (kind.growth * number as f64 / 24.0).exp();
        if let Samples::Wandering(_, by) = kind.samples {
            drift = 0.8 * drift + 0.6 * by * random.normal();
            level *= f64::exp(drift);
        }
        let factor = shift.map_or(
            1.0,
            |(held, factor)| {
                if held.contains(&number) { *factor } else { 1.0 }
            },
        );
        let samples =
            (0..kind.an_hour).map(|at| (at, factor * sample(kind.samples, level, &mut random)));
        let summary = Summary::of_all(samples).unwrap();
        made.push(Hour {
            start: (500_000 + clock) * HOUR,
            count: summary.count,
            value: summary.quantile(0.95),
        });
    }
    made
}

fn sample(samples: Samples, level: f64, random: &mut Random) -> f64 {
    match samples {
        Samples::Lognormal(sigma) | Samples::Wandering(sigma, _) => {
            level * (sigma * random.normal()).exp()
        }
        Samples::Spiky(sigma) => {
            let spike = if random.below(100) == 0 { 5.0 } else { 1.0 };
            level * spike * (sigma * random.normal()).exp()
        }
        Samples::Pareto(exponent) => level * random.unit().powf(-1.0 / exponent),
        Samples::Count(mean) => random.poisson(mean * level / 50.0),
        Samples::AroundZero => level / 50.0 * random.normal(),
        Samples::Constant(value) => value,
    }
}

/// Kinds of series without any shift.
pub fn kinds() -> Vec<(&'static str, Kind)> {
    let with = |samples| Kind { samples, ..SEASONS };
    let flat = Kind {
        daily: 0.0,
        weekend: 0.0,
        ..SEASONS
    };
    vec![
        ("lognormal 0.05", SEASONS),
        ("lognormal 0.1", with(Samples::Lognormal(0.1))),
        ("lognormal 0.3", with(Samples::Lognormal(0.3))),
        ("lognormal 1.0", with(Samples::Lognormal(1.0))),
        (
            "no season",
            Kind {
                samples: Samples::Lognormal(0.1),
                ..flat
            },
        ),
        ("spiky", with(Samples::Spiky(0.1))),
        ("wandering", with(Samples::Wandering(0.1, 0.1))),
        ("pareto", with(Samples::Pareto(2.0))),
        ("rare counts", with(Samples::Count(0.05))),
        ("few counts", with(Samples::Count(1.0))),
        ("counts", with(Samples::Count(20.0))),
        ("around zero", with(Samples::AroundZero)),
        (
            "constant",
            Kind {
                samples: Samples::Constant(3.0),
                ..flat
            },
        ),
        (
            "zero",
            Kind {
                samples: Samples::Constant(0.0),
                ..flat
            },
        ),
        (
            "one an hour",
            Kind {
                an_hour: 1,
                ..SEASONS
            },
        ),
        (
            "five an hour",
            Kind {
                an_hour: 5,
                samples: Samples::Lognormal(0.3),
                ..SEASONS
            },
        ),
        (
            "growing",
            Kind {
                growth: 0.01,
                ..SEASONS
            },
        ),
        (
            "nightly batch",
            Kind {
                night: 2.0,
                ..SEASONS
            },
        ),
    ]
}

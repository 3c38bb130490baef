//! HEADDOC

use std::collections::BTreeMap;

/// An hour in microseconds.
pub const HOUR: i64 = 3_600_000_000;
/// How far back history counts, in hours: four weeks.
pub const HISTORY_HOURS: i64 = 28 * DAY;

const DAY: i64 = 24;
const WEEK: i64 = 7 * DAY;

/// How many values a baseline needs.
const BASELINE_VALUES: usize = 3;
/// How many residuals the spread needs: those of two days.
const SPREAD_RESIDUALS: usize = 48;
/// How many hours before and after an hour make its level.
const LEVEL_REACH: i64 = 3;
/// The least spread: what the percentiles of a sketch may be wrong by.
const SPREAD_FLOOR: f64 = super::sketch::ALPHA;
/// The median absolute deviation of a normal distribution, in standard deviations.
const NORMAL_MAD: f64 = 0.6745;
/// The share of residuals that the tail's quantile leaves out, and where that quantile lies in a normal distribution.
const TAIL_SHARE: f64 = 0.02;
const NORMAL_TAIL: f64 = 2.0537;
/// The share of hours at or below zero that a series judged by ratios may have; they are left out.
const ODD_SHARE: f64 = 0.02;

/// The statistic of a series over an hour or, at the ends of a window, a part of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hour {
    /// When the hour began, in microseconds since the epoch.
    pub start: i64,
    /// How many samples it has.
    pub count: u64,
    /// Their statistic: p95, say. It is finite.
    pub value: f64,
}

/// Which change is one to the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// More is worse: latencies, errors.
    #[default]
    Up,
    /// Less is worse: throughput, hit rates.
    Down,
    /// Any change.
    Both,
}

/// When a window counts as worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Which change is one to the worse.
    pub direction: Direction,
    /// The least z that counts.
    pub threshold: f64,
    /// The least change that counts, as a share of the baseline.
    pub min_change: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            direction: Direction::Up,
            threshold: 4.0,
            min_change: 0.1,
        }
    }
}

/// What a window was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Season {
    /// The same hours of the weeks before.
    Week,
    /// The same hours of the days before.
    Day,
}

/// What became of judging a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judgement {
    /// It was compared; the figures say whether it got worse.
    Judged(Figures),
    /// There is too little to compare with.
    NotEnoughHistory {
        /// How many hours of history there are.
        history_hours: usize,
    },
}

/// What a judgement rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Whether the series got worse: `z` and `change` both reach their least.
    pub worse: bool,
    /// The statistic in the window: of several hours, the mean by count.
    pub current: f64,
    /// What history lets expect of it.
    pub baseline: f64,
    /// By how much it changed, as a share of the baseline (0.2 is 20 % more); `None` where the baseline is zero.
    pub change: Option<f64>,
    /// The robust z-score of the change: above zero is to the worse.
    pub z: f64,
    /// The spread that z is measured in: the median absolute deviation, or what stands in for it. It is a share of the
    /// baseline for a series above zero, else one of the series' typical size.
    pub spread: f64,
    /// What the window was compared with.
    pub season: Season,
    /// How many hours of history were used.
    pub history_hours: usize,
    /// How many samples the window has.
    pub count: u64,
}

/// Judges whether a series got worse in a window, from the window's hours (the first and last may be partial) and those of
/// the four weeks before; hours without samples are left out of both. See the module's text for how.
pub fn judge(window: &[Hour], history: &[Hour], settings: &Settings) -> Judgement {
    let Some(start) = window.iter().map(|hour| number(hour.start)).min() else {
        return Judgement::NotEnoughHistory { history_hours: 0 };
    };
    let history: Vec<Hour> = history
        .iter()
        .filter(|hour| (start - HISTORY_HOURS..start).contains(&number(hour.start)))
        .copied()
        .collect();
    compare(window, &history, start, settings).map_or(
        Judgement::NotEnoughHistory {
            history_hours: history.len(),
        },
        Judgement::Judged,
    )
}

/// The figures of a window that begins with the hour `start`; `None` where there is too little to compare with.
fn compare(window: &[Hour], history: &[Hour], start: i64, settings: &Settings) -> Option<Figures> {
    let scale = Scale::of(window, history);
    let history: Vec<Hour> = history
        .iter()
        .filter(|hour| scale.has(hour.value))
        .copied()
        .collect();
    let week = Baselines::of(&history, Season::Week, scale);
    let day = Baselines::of(&history, Season::Day, scale);
    let (by_week, by_day) = (week.window(window), day.window(window));
    let (baselines, window) = if by_day.len() > by_week.len() {
        (day, by_day)
    } else {
        (week, by_week)
    };
    let past = baselines.history(&history);
    let assess = |window: &[Compared], past: Vec<Compared>| {
        let before = |compared: &Compared| number(compared.hour.start) < start - DAY;
        let past: Vec<Compared> = past.into_iter().filter(before).collect();
        Some(Assessment {
            season: baselines.season,
            history_hours: history.len(),
            ..Assessment::of(window, &past, settings.direction)?
        })
    };
    let plain = assess(&window, past.clone())?;
    let levelled = match baselines.season {
        Season::Week => None,
        Season::Day => {
            let past = baselines.whole(&history);
            let levels = Levels::of(&past);
            let window = levels.window(&window, start, settings.direction);
            window.and_then(|window| assess(&window, levels.history(&past)))
        }
    };
    let clearest = levelled
        .filter(|levelled| levelled.z > plain.z)
        .unwrap_or(plain);
    Some(clearest.figures(scale, settings))
}

/// A window compared with its baselines, and how usual the difference is.
struct Assessment {
    window: Mean,
    z: f64,
    spread: f64,
    season: Season,
    history_hours: usize,
}

impl Assessment {
    /// Measures a window's residuals by those of the past.
    fn of(window: &[Compared], past: &[Compared], direction: Direction) -> Option<Self> {
        let usual = means(past, window.len());
        if usual.len() < SPREAD_RESIDUALS {
            return None;
        }
        let window = Mean::of(window)?;
        let residuals: Vec<f64> = usual.iter().map(|mean| mean.residual).collect();
        let centre = median(residuals.clone())?;
        let spread = spread(&residuals, centre, direction)? * thinness(window.count, &usual);
        Some(Self {
            window,
            z: NORMAL_MAD * direction.worse(window.residual - centre) / spread,
            spread,
            season: Season::Week,
            history_hours: 0,
        })
    }

    fn figures(self, scale: Scale, settings: &Settings) -> Figures {
        let current = self.window.value;
        let baseline = scale.baseline(current, self.window.residual);
        let change = (baseline != 0.0).then(|| (current - baseline) / baseline.abs());
        let to_the_worse = change.map_or(f64::INFINITY, |change| settings.direction.worse(change));
        Figures {
            worse: self.z >= settings.threshold && to_the_worse >= settings.min_change,
            current,
            baseline,
            change,
            z: self.z,
            spread: self.spread,
            season: self.season,
            history_hours: self.history_hours,
            count: self.window.count,
        }
    }
}

/// The residuals of the past by the number of their hour, from which levels are read: by how much a stretch of hours lies
/// above or below its baselines as a whole.
struct Levels(BTreeMap<i64, f64>);

impl Levels {
    fn of(past: &[Compared]) -> Self {
        let residuals = past.iter();
        Self(
            residuals
                .map(|past| (number(past.hour.start), past.residual))
                .collect(),
        )
    }

    /// The level of a range of hours: the median of their residuals, where there are more than half of them.
    fn of_hours(&self, hours: std::ops::Range<i64>) -> Option<f64> {
        let length = hours.end - hours.start;
        let residuals: Vec<f64> = self.0.range(hours).map(|entry| *entry.1).collect();
        let enough = i64::try_from(residuals.len()).is_ok_and(|known| 2 * known > length);
        enough.then(|| median(residuals)).flatten()
    }

    /// The level around an hour. Where the level steps, it steps with it.
    fn around(&self, hour: i64) -> Option<f64> {
        self.of_hours(hour - LEVEL_REACH..hour + LEVEL_REACH + 1)
    }

    /// The window's residuals against the level of its hours a week ago, moved by what the level has changed since then if
    /// that explains more; `None` where the levels are not known.
    fn window(
        &self,
        window: &[Compared],
        start: i64,
        direction: Direction,
    ) -> Option<Vec<Compared>> {
        let before = |start: i64| self.of_hours(start - 2 * LEVEL_REACH..start);
        let then = before(start - WEEK).or_else(|| self.around(start - WEEK));
        let drift = before(start)? - then?;
        let against_level = |compared: &Compared| {
            let level = self.around(number(compared.hour.start) - WEEK)?;
            let residual = compared.residual - level;
            let moved = residual - drift;
            let explained = direction.worse(moved) < direction.worse(residual);
            Some(Compared {
                residual: if explained { moved } else { residual },
                ..*compared
            })
        };
        window.iter().map(against_level).collect()
    }

    /// The past's residuals against the levels around them.
    fn history(&self, past: &[Compared]) -> Vec<Compared> {
        let against_level = |compared: &Compared| {
            let level = self.around(number(compared.hour.start))?;
            let residual = compared.residual - level;
            Some(Compared {
                residual,
                ..*compared
            })
        };
        past.iter().filter_map(against_level).collect()
    }
}

/// The number of the hour that a time lies in.
fn number(at: i64) -> i64 {
    at.div_euclid(HOUR)
}

impl Direction {
    /// A difference, turned so that above zero is to the worse.
    fn worse(self, difference: f64) -> f64 {
        match self {
            Self::Up => difference,
            Self::Down => -difference,
            Self::Both => difference.abs(),
        }
    }
}

impl Season {
    fn hours(self) -> i64 {
        match self {
            Self::Week => WEEK,
            Self::Day => DAY,
        }
    }
}

/// How values are compared.
#[derive(Debug, Clone, Copy)]
enum Scale {
    /// By their ratio: residuals are differences of logarithms.
    Ratio,
    /// By their difference, as a share of the series' typical size.
    Difference { unit: f64 },
}

impl Scale {
    /// By ratio where the window and nearly all hours of history are above zero.
    fn of(window: &[Hour], history: &[Hour]) -> Self {
        let odd = history.iter().filter(|hour| hour.value <= 0.0).count() as f64;
        let above = window.iter().all(|hour| hour.value > 0.0);
        if above && odd <= ODD_SHARE * history.len() as f64 {
            return Self::Ratio;
        }
        let sizes = |hours: &[Hour]| -> Vec<f64> {
            let sizes = hours.iter().map(|hour| hour.value.abs());
            sizes.filter(|size| *size > 0.0).collect()
        };
        // A series that was always zero has no size of its own.
        let unit = median(sizes(history)).or_else(|| median(sizes(window)));
        Self::Difference {
            unit: unit.unwrap_or(1.0),
        }
    }

    /// Whether a value can be compared.
    fn has(self, value: f64) -> bool {
        match self {
            Self::Ratio => value > 0.0,
            Self::Difference { .. } => true,
        }
    }

    fn place(self, value: f64) -> f64 {
        match self {
            Self::Ratio => value.ln(),
            Self::Difference { unit } => value / unit,
        }
    }

    /// The value from which another lies a residual away.
    fn baseline(self, value: f64, residual: f64) -> f64 {
        match self {
            Self::Ratio => value * (-residual).exp(),
            Self::Difference { unit } => value - residual * unit,
        }
    }
}

/// An hour and how far it lies from its baseline.
#[derive(Debug, Clone, Copy)]
struct Compared {
    hour: Hour,
    residual: f64,
}

/// The hours of history by their place in the season, each with its number and the place of its value.
struct Baselines {
    season: Season,
    scale: Scale,
    by_slot: BTreeMap<i64, Vec<(i64, f64)>>,
}

impl Baselines {
    fn of(history: &[Hour], season: Season, scale: Scale) -> Self {
        let mut by_slot: BTreeMap<i64, Vec<(i64, f64)>> = BTreeMap::new();
        for hour in history {
            let number = number(hour.start);
            let slot = by_slot
                .entry(number.rem_euclid(season.hours()))
                .or_default();
            slot.push((number, scale.place(hour.value)));
        }
        Self {
            season,
            scale,
            by_slot,
        }
    }

    /// The hours of the window that have a baseline, compared with it.
    fn window(&self, window: &[Hour]) -> Vec<Compared> {
        let compared = window.iter().map(|hour| self.apart(hour, BASELINE_VALUES));
        compared.flatten().collect()
    }

    /// The hours of history, each compared with the others of its slot, as the window is: with values that it is not part of.
    fn history(&self, history: &[Hour]) -> Vec<Compared> {
        let compared = history
            .iter()
            .map(|hour| self.apart(hour, BASELINE_VALUES - 1));
        compared.flatten().collect()
    }

    /// The hours of history, each compared with the very baseline that the window's hour of that slot is compared with.
    fn whole(&self, history: &[Hour]) -> Vec<Compared> {
        let compared = history.iter().map(|hour| {
            let slot = self.slot(number(hour.start));
            self.compare(hour, slot.iter().map(|other| other.1).collect())
        });
        compared.flatten().collect()
    }

    /// An hour compared with the other hours of its slot, if there are so many.
    fn apart(&self, hour: &Hour, least: usize) -> Option<Compared> {
        let number = number(hour.start);
        let others = self.slot(number).iter().filter(|other| other.0 != number);
        let others: Vec<f64> = others.map(|other| other.1).collect();
        (others.len() >= least)
            .then(|| self.compare(hour, others))
            .flatten()
    }

    fn slot(&self, number: i64) -> &[(i64, f64)] {
        let slot = number.rem_euclid(self.season.hours());
        self.by_slot.get(&slot).map_or(&[], Vec::as_slice)
    }

    fn compare(&self, hour: &Hour, baseline: Vec<f64>) -> Option<Compared> {
        let residual = self.scale.place(hour.value) - median(baseline)?;
        Some(Compared {
            hour: *hour,
            residual,
        })
    }
}

/// Several hours as one: means by count.
#[derive(Debug, Clone, Copy)]
struct Mean {
    count: u64,
    value: f64,
    residual: f64,
}

impl Mean {
    fn of(hours: &[Compared]) -> Option<Self> {
        let count: u64 = hours.iter().map(|compared| compared.hour.count).sum();
        let share = |compared: &Compared| compared.hour.count as f64 / count as f64;
        (count > 0).then(|| Self {
            count,
            value: hours.iter().map(|hour| hour.hour.value * share(hour)).sum(),
            residual: hours.iter().map(|hour| hour.residual * share(hour)).sum(),
        })
    }
}

/// The means of all runs of so many hours on end, as the window is one.
fn means(hours: &[Compared], length: usize) -> Vec<Mean> {
    let mut hours = hours.to_vec();
    hours.sort_by_key(|compared| compared.hour.start);
    let whole = |run: &&[Compared]| match run {
        [first, .., last] => {
            let passed = number(last.hour.start) - number(first.hour.start) + 1;
            usize::try_from(passed).is_ok_and(|passed| passed == length)
        }
        _ => true,
    };
    let runs = hours.windows(length.max(1)).filter(whole);
    runs.filter_map(Mean::of).collect()
}

/// How far residuals usually lie from their centre: the median absolute deviation, or more where the tail to the worse says
/// so, and never less than what the statistic itself may be wrong by.
fn spread(residuals: &[f64], centre: f64, direction: Direction) -> Option<f64> {
    let deviations = residuals.iter().map(|residual| (residual - centre).abs());
    let mad = median(deviations.collect())?;
    let mut worse: Vec<f64> = residuals
        .iter()
        .map(|residual| direction.worse(residual - centre))
        .collect();
    worse.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length"
    )]
    let beyond = (worse.len() as f64 * TAIL_SHARE) as usize;
    let tail = worse.iter().rev().nth(beyond)? * NORMAL_MAD / NORMAL_TAIL;
    Some(mad.max(tail).max(SPREAD_FLOOR))
}

/// By how much a statistic of fewer samples than usual spreads more: the square root of how many fewer they are.
fn thinness(count: u64, usual: &[Mean]) -> f64 {
    let usual = median(usual.iter().map(|mean| mean.count as f64).collect());
    usual.map_or(1.0, |usual| (usual / count as f64).sqrt().max(1.0))
}

/// The median; `None` of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*values.get(values.len() / 2 - 1)?, upper))
}

#[cfg(test)]
mod tests;

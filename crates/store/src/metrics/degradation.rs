//! Whether a series got worse: a window compared with the same hours of the weeks before.
//!
//! # The method
//!
//! 1. Each hour's statistic (p95, say) has a **baseline**: the median of the same hour of the week in the four weeks before,
//!    where there are three of them; else of the same hour of the day on the days before, where there are three of those.
//! 2. Its **residual** is ln(value / baseline), so that 10 ms more count for more at night; for a series that reaches zero or
//!    below, it is (value - baseline) / typical size of the series. A window of several hours has the mean of its hours'
//!    residuals, by count of samples, and is measured by means of as many hours of history: percentiles of different hours
//!    cannot be averaged, but how far each lies from its own baseline can.
//! 3. The hours of history have residuals too, each against the other hours of its slot. Their median absolute deviation
//!    (MAD) is the **spread**, and `z = 0.6745 (residual - median) / MAD` says how unusual the window is.
//! 4. The series got **worse** if z is at least 4 and the change is at least 10 % of the baseline, both configurable.
//!
//! z is the modified z-score of Boris Iglewicz and David C. Hoaglin, *How to Detect and Handle Outliers* (1993); they
//! recommend 3.5. The MAD keeps its meaning while less than half of the history is out of order, and says as much as the
//! standard deviation of 37 % of the samples would, of normal ones (Peter J. Rousseeuw and Christophe Croux, *Alternatives to
//! the Median Absolute Deviation*, 1993): with a hundred hours and more that is enough.
//!
//! Ours, each for what it did to the measured rates:
//!
//! * **The tail counts.** The MAD sees the middle half of the residuals; a series that jumps once a day has a small one. So
//!   the spread is at least what the worst 2 % of residuals would be two deviations of. More of the past than that has to be
//!   out of order before it hides anything.
//! * **The last day counts for baselines, not for the spread**, so a degradation does not hide itself while it lasts.
//! * **Levels.** Against baselines of days, a weekend lies below all of them, and a degradation in it is still below. So a
//!   window is also measured against the level (the median residual of seven hours) around the same hour a week ago, moved by
//!   what the last six hours differ from theirs a week ago if that explains more. The clearer of both z is the answer.
//! * **Few samples spread more.** A window with fewer samples than usual has its spread multiplied by the square root of how
//!   many fewer they are.
//! * **A floor.** The spread is at least 1 %, which is what the percentiles of a sketch may be wrong by.
//!
//! # What was measured
//!
//! On made series whose level has a daily season (±30 %) and weekends 30 % lower, with lognormal samples around it:
//!
//! **A p95 that is 20 % higher for an hour**, after seven days: of 400 each with a sample a minute, 99.5 % were found where the
//! samples' logarithms deviate by 0.03 or 0.05, 99 % by 0.075, 92 % by 0.1, 48 % by 0.15 and 3 % by 0.3; without seasons
//! 100 % up to 0.075 and 99.5 % by 0.1. After four weeks, against weeks: 100 % up to 0.075, 97 % by 0.1, 20 % by 0.15. With
//! a sample a second: all of 30 each up to 0.6, and 28 by 0.8. It ends where it has to: the p95 of n samples deviates by 2.1
//! times what they do, divided by √n, which is 2.7 % for a sample a minute with 0.1. A shift of 20 % is then not quite seven
//! deviations, of which the threshold takes four and the baseline's own error another half. Only on days of a kind that was
//! never seen is it missed altogether: a first weekend.
//!
//! **Nothing happened**: of 103,680 hours of 18 kinds of series after seven days and after four weeks, 46 (0.044 %) were
//! reported for getting higher, 49 for lower, 33 for either. The kinds are lognormal ones from 0.05 to 1.0, with and without
//! seasons, with spikes, with a level that drifts, with heavy tails, rare and frequent counts, values around zero, constants,
//! few samples an hour, growth of 1 % a day, and a nightly batch. A threshold of 3.5 reports twice as many, one of 4.5 half.
//!
//! A job that runs once a week is taken for a degradation until it was seen three times. What stays worse is reported for
//! 28 hours after seven days and for 37 after four weeks: then more than 2 % of the past is like it, and it is the new normal.

mod baselines;
mod levels;

use baselines::{Baselines, Compared, Scale};
use levels::Levels;

/// An hour in microseconds.
pub const HOUR: i64 = 3_600_000_000;
/// How far back history counts, in hours: four weeks.
pub const HISTORY_HOURS: i64 = 28 * DAY;

const DAY: i64 = 24;
const WEEK: i64 = 7 * DAY;

/// How many residuals the spread needs: those of two days.
const SPREAD_RESIDUALS: usize = 48;
/// The least spread: what the percentiles of a sketch may be wrong by.
const SPREAD_FLOOR: f64 = super::sketch::ALPHA;
/// The median absolute deviation of a normal distribution, in standard deviations.
const NORMAL_MAD: f64 = 0.6745;
/// The share of residuals that the tail's quantile leaves out, and where that quantile lies in a normal distribution.
const TAIL_SHARE: f64 = 0.02;
const NORMAL_TAIL: f64 = 2.0537;
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

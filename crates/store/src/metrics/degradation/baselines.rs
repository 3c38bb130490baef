//! Baselines: what the same hours of the weeks or days before let expect.

use std::collections::BTreeMap;

use super::{Hour, Season, median, number};

/// How many values a baseline needs.
const BASELINE_VALUES: usize = 3;
/// The share of hours at or below zero that a series judged by ratios may have; they are left out.
const ODD_SHARE: f64 = 0.02;

/// How values are compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    /// By their ratio: residuals are differences of logarithms.
    Ratio,
    /// By their difference, as a share of the series' typical size.
    Difference { unit: f64 },
}

impl Scale {
    /// By ratio where the window and nearly all hours of history are above zero.
    pub(super) fn of(window: &[Hour], history: &[Hour]) -> Self {
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
    pub(super) fn has(self, value: f64) -> bool {
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
    pub(super) fn baseline(self, value: f64, residual: f64) -> f64 {
        match self {
            Self::Ratio => value * (-residual).exp(),
            Self::Difference { unit } => value - residual * unit,
        }
    }
}

/// An hour and how far it lies from its baseline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compared {
    pub(super) hour: Hour,
    pub(super) residual: f64,
}

/// The hours of history by their place in the season, each with its number and the place of its value.
pub(super) struct Baselines {
    pub(super) season: Season,
    scale: Scale,
    by_slot: BTreeMap<i64, Vec<(i64, f64)>>,
}

impl Baselines {
    pub(super) fn of(history: &[Hour], season: Season, scale: Scale) -> Self {
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
    pub(super) fn window(&self, window: &[Hour]) -> Vec<Compared> {
        let compared = window.iter().map(|hour| self.apart(hour, BASELINE_VALUES));
        compared.flatten().collect()
    }

    /// The hours of history, each compared with the others of its slot, as the window is: with values that it is not part of.
    pub(super) fn history(&self, history: &[Hour]) -> Vec<Compared> {
        let compared = history
            .iter()
            .map(|hour| self.apart(hour, BASELINE_VALUES - 1));
        compared.flatten().collect()
    }

    /// The hours of history, each compared with the very baseline that the window's hour of that slot is compared with.
    pub(super) fn whole(&self, history: &[Hour]) -> Vec<Compared> {
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

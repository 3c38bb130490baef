//! Levels: by how much a stretch of hours lies above or below its baselines as a whole.

use std::collections::BTreeMap;

use super::{Direction, WEEK, baselines::Compared, median, number};

/// How many hours before and after an hour make its level.
const LEVEL_REACH: i64 = 3;

/// The residuals of the past by the number of their hour, from which levels are read: by how much a stretch of hours lies
/// above or below its baselines as a whole.
pub(super) struct Levels(BTreeMap<i64, f64>);

impl Levels {
    pub(super) fn of(past: &[Compared]) -> Self {
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
    pub(super) fn window(
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
    pub(super) fn history(&self, past: &[Compared]) -> Vec<Compared> {
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

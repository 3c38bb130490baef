//! What is kept of the samples of a bucket: count, sum, extremes, the last one, and their distribution.
//!
//! # What it guarantees
//!
//! A summary is a function of the set of its samples, to the last bit: in whatever order they came, and however they were
//! split into summaries that were merged, it is the same. So an hour's summary can be checked by computing it again, a
//! day's is the merged one of its hours, and a late sample is added to both.
//!
//! For all but the sum that always holds. The sum is kept as two numbers, of which the second is what rounding the first
//! left over (T. J. Dekker, *A floating-point technique for extending the available precision*, 1971), so it is exact in
//! 106 bits: as long as the samples' absolute values add up to less than 2¹⁰⁵ times the last bit of the smallest one
//! that is not zero. For a week of samples, one a second, that is so while the greatest is less than eight thousand million
//! times the smallest. Beyond that, sums of the same samples may differ by 10⁻³¹ of the sum of absolute values, each
//! sample: what two orders of adding differ by is then still below what a single f64 can show.

use super::sketch::Sketch;

/// The summary of at least one sample. Times are microseconds since the epoch; values are finite, and never -0.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// How many samples it has.
    pub count: u64,
    /// Their sum, rounded to the nearest number.
    pub sum: f64,
    /// What `sum` lacks of the sum: at most half of its last bit.
    pub sum_low: f64,
    /// The least value.
    pub min: f64,
    /// When it was first reached.
    pub min_at: i64,
    /// The greatest value.
    pub max: f64,
    /// When it was first reached.
    pub max_at: i64,
    /// The value of the latest sample; of several at that time, the greatest.
    pub last: f64,
    /// When that was.
    pub last_at: i64,
    /// The distribution of the values.
    pub sketch: Sketch,
}

impl Summary {
    /// The summary of one sample, whose value is finite.
    pub fn of(at: i64, value: f64) -> Self {
        let value = without_sign_of_zero(value);
        let mut sketch = Sketch::default();
        sketch.add(value);
        Self {
            count: 1,
            sum: value,
            sum_low: 0.0,
            min: value,
            min_at: at,
            max: value,
            max_at: at,
            last: value,
            last_at: at,
            sketch,
        }
    }

    /// The summary of some samples, each a time and a finite value; `None` where there are none.
    pub fn of_all(samples: impl IntoIterator<Item = (i64, f64)>) -> Option<Self> {
        let mut samples = samples.into_iter();
        let (at, value) = samples.next()?;
        let mut summary = Self::of(at, value);
        for (at, value) in samples {
            summary.add(at, value);
        }
        Some(summary)
    }

    /// Adds one sample, whose value is finite.
    pub fn add(&mut self, at: i64, value: f64) {
        let value = without_sign_of_zero(value);
        self.count += 1;
        self.add_sum(value, 0.0);
        self.see_min(at, value);
        self.see_max(at, value);
        self.see_last(at, value);
        self.sketch.add(value);
    }

    /// Adds all samples of another summary. Both must not have the same sample, or it counts twice.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.add_sum(other.sum, other.sum_low);
        self.see_min(other.min_at, other.min);
        self.see_max(other.max_at, other.max);
        self.see_last(other.last_at, other.last);
        self.sketch.merge(&other.sketch);
    }

    /// The sum, rounded to the nearest number.
    pub fn total(&self) -> f64 {
        self.sum + self.sum_low
    }

    /// The mean: never outside of minimum and maximum.
    pub fn mean(&self) -> f64 {
        let count = self.count as f64;
        let mean = self.sum / count;
        // What the division left over, which is exact so, and what the sum lacks.
        let rest = mean.mul_add(-count, self.sum) + self.sum_low;
        self.bounded(mean + rest / count)
    }

    /// The sample of rank ceil(q × count), within 1 % and never outside of minimum and maximum: see [`Sketch::quantile`].
    pub fn quantile(&self, q: f64) -> f64 {
        self.bounded(self.sketch.quantile(q).unwrap_or(self.last))
    }

    fn bounded(&self, value: f64) -> f64 {
        value.max(self.min).min(self.max)
    }

    fn add_sum(&mut self, high: f64, low: f64) {
        let rounded = self.sum + high;
        if !rounded.is_finite() {
            // Beyond 10^308, which takes 10^8 samples of 10^300. JSON has no word for infinity.
            (self.sum, self.sum_low) = (rounded.clamp(f64::MIN, f64::MAX), 0.0);
            return;
        }
        let (high, rest) = exact_sum(self.sum, high);
        (self.sum, self.sum_low) = exact_sum(high, rest + (self.sum_low + low));
    }

    fn see_min(&mut self, at: i64, value: f64) {
        if value < self.min {
            (self.min, self.min_at) = (value, at);
        } else if value <= self.min {
            self.min_at = self.min_at.min(at);
        }
    }

    fn see_max(&mut self, at: i64, value: f64) {
        if value > self.max {
            (self.max, self.max_at) = (value, at);
        } else if value >= self.max {
            self.max_at = self.max_at.min(at);
        }
    }

    fn see_last(&mut self, at: i64, value: f64) {
        if at > self.last_at {
            (self.last, self.last_at) = (value, at);
        } else if at == self.last_at {
            self.last = self.last.max(value);
        }
    }
}

/// 0 for -0, which equals it but has other bytes.
fn without_sign_of_zero(value: f64) -> f64 {
    value + 0.0
}

/// The sum of two numbers, rounded, and exactly what the rounding left over (Knuth's TwoSum).
fn exact_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    let of_a = sum - of_b;
    (sum, (a - of_a) + (b - of_b))
}

#[cfg(test)]
mod tests;

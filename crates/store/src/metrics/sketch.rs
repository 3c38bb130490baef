//! Percentiles from a few hundred bytes: a DDSketch.
//!
//! After Charles Masson, Jee E. Rim and Homin K. Lee, *DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
//! Relative-Error Guarantees* (VLDB 2019). Samples are counted in bins whose ends lie so close together that one value of
//! the bin stands for all: a sample is wrong by at most [`ALPHA`] of itself, and so is every percentile.
//!
//! # What it guarantees
//!
//! * **1 %**: [`Sketch::quantile`] is within 1 % of the sample of that rank, whatever the samples are: bins are never
//!   collapsed. Only below 2⁻¹⁰²², where f64 itself steps coarsely, half of its smallest step comes on top.
//! * **Merging loses nothing**: merged sketches equal the sketch of all their samples, in whatever order they came.
//! * **Equal samples have equal bytes**, on every machine: a sketch can be checked by computing it again and comparing.
//!
//! # The bins
//!
//! The paper's bins are even in the logarithm of a value. Ours are nearly so: 35 to each power of two, even in the cubic
//!
//! ```text
//! P(s) = 6/35 s³ - 3/5 s² + 10/7 s        of a value (1 + s) 2^e, with s in [0, 1)
//! ```
//!
//! which the authors' own implementations use as their fast mapping. It runs from 0 to 1 as log2(1 + s) does, and nowhere
//! does the logarithm of a value grow faster than 0.7 times it. So a bin's upper end is at most e^(0.7 / 35) = e^0.02 times
//! its lower one, and the harmonic mean of the two is off by at most tanh(0.01) = 0.0099997 at either: the rest to 1 % is a
//! hundred million times what the arithmetic rounds. Exact logarithms would save one bin in a hundred, but differ in the
//! last bit between one machine's mathematical library and another's, and then a sample on a border changes its bin. This
//! needs only additions and products, which IEEE 754 defines to the bit, and takes 6 ns.
//!
//! A sketch is a sorted list of bins. No value lies outside 73,431 bins of either sign; a service's latencies fill 50 to 300.

use crate::error::{Error, Result};

/// By how much of itself a value is wrong at most.
pub const ALPHA: f64 = 0.01;

/// How many bins lie between one power of two and the next.
const BINS: i32 = 35;
/// The exponent of the smallest value above zero.
const LOWEST: i32 = -1074;
/// The bin of the greatest value; the smallest above zero lies in bin 1.
const HIGHEST_BIN: i32 = (1024 - LOWEST) * BINS;

/// The bits of a value that hold its fraction, and where those of its exponent begin.
const FRACTION: u64 = (1 << EXPONENT_AT) - 1;
const EXPONENT_AT: u32 = 52;
const EXPONENT_BIAS: i32 = 1023;

/// What encoded sketches begin with, so that another layout can be told from this one.
const FORMAT: u8 = 1;

/// How many samples lie in a bin: never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bin {
    /// Its place in the order of values: below zero for values below zero, 0 for zero alone.
    key: i32,
    count: u64,
}

/// The distribution of some samples, with a relative error of 1 %.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// By key.
    bins: Vec<Bin>,
    /// The sum of their counts.
    count: u64,
}

impl Sketch {
    /// Counts one sample. It has to be finite: what is not is left out.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let key = key(value);
        match self.bins.binary_search_by_key(&key, |bin| bin.key) {
            Ok(at) => self.bins[at].count += 1,
            Err(at) => self.bins.insert(at, Bin { key, count: 1 }),
        }
        self.count += 1;
    }

    /// Counts all samples of another sketch.
    pub fn merge(&mut self, other: &Self) {
        let mut merged = Vec::with_capacity(self.bins.len().max(other.bins.len()));
        let mut theirs = other.bins.iter().copied().peekable();
        for mut bin in self.bins.drain(..) {
            while let Some(before) = theirs.next_if(|their| their.key < bin.key) {
                merged.push(before);
            }
            if let Some(same) = theirs.next_if(|their| their.key == bin.key) {
                bin.count = bin.count.saturating_add(same.count);
            }
            merged.push(bin);
        }
        merged.extend(theirs);
        self.bins = merged;
        self.count = self.count.saturating_add(other.count);
    }

    /// How many samples it has.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many bins hold them.
    pub fn bins(&self) -> usize {
        self.bins.len()
    }

    /// The sample of rank ceil(q × count), counted from 1 (the first for q = 0), within 1 %; `None` without samples. It is
    /// the sample that `percentile_disc(q)` names: the rank is computed as PostgreSQL computes it.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates, and is bounded right after"
        )]
        let rank = (q * self.count as f64).ceil() as u64;
        let rank = rank.clamp(1, self.count.max(1));
        let mut reached = 0;
        let bin = self.bins.iter().find(|bin| {
            reached += bin.count;
            reached >= rank
        })?;
        Some(estimate(bin.key))
    }

    /// Its bytes: equal for equal sketches, two or three a bin.
    ///
    /// After a byte for the format come, for each bin in order, how far its key lies beyond the one after the last bin (for
    /// the first bin: its key, with the sign in the lowest bit), and its count, both as numbers of seven bits a byte.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(5 + 3 * self.bins.len());
        bytes.push(FORMAT);
        let mut before: Option<i32> = None;
        for bin in &self.bins {
            let distance = match before {
                None => zigzag(bin.key),
                Some(before) => bin.key.abs_diff(before) - 1,
            };
            put(&mut bytes, u64::from(distance));
            put(&mut bytes, bin.count);
            before = Some(bin.key);
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else: other bytes are an error, also those that a more lenient
    /// reader would take for the same sketch.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        read(bytes).ok_or_else(|| {
            Error::internal(format!(
                "the {} bytes of a percentile sketch are damaged: compute its bucket again from the samples",
                bytes.len()
            ))
        })
    }
}

/// The sketch that the bytes encode. A bin takes two bytes, so memory is bounded by their number.
fn read(bytes: &[u8]) -> Option<Sketch> {
    let (&FORMAT, mut rest) = bytes.split_first()? else {
        return None;
    };
    let mut sketch = Sketch::default();
    let mut before: Option<i32> = None;
    while !rest.is_empty() {
        let distance = u32::try_from(take(&mut rest)?).ok()?;
        let key = match before {
            None => unzigzag(distance),
            Some(before) => before.checked_add_unsigned(distance.checked_add(1)?)?,
        };
        let count = take(&mut rest)?;
        if count == 0 || key.unsigned_abs() > HIGHEST_BIN.unsigned_abs() {
            return None;
        }
        sketch.count = sketch.count.checked_add(count)?;
        sketch.bins.push(Bin { key, count });
        before = Some(key);
    }
    Some(sketch)
}

/// The bin of a finite value.
fn key(value: f64) -> i32 {
    if value == 0.0 {
        return 0;
    }
    let bin = bin_of(value.abs());
    if value < 0.0 { -bin } else { bin }
}

/// The bin of a value above zero, from 1 for the smallest.
fn bin_of(value: f64) -> i32 {
    // Below this, the fraction has no leading one: bring it to where it has. Multiplying by a power of two is exact.
    let (value, shift) = if value < f64::MIN_POSITIVE {
        (value * power_of_two(64), 64)
    } else {
        (value, 0)
    };
    let bits = value.to_bits();
    let exponent = (bits >> EXPONENT_AT) as i32 - EXPONENT_BIAS - shift;
    let s = f64::from_bits((bits & FRACTION) | 1_f64.to_bits()) - 1.0;
    #[expect(clippy::cast_possible_truncation, reason = "it lies between 0 and 35")]
    let within = (position(s) * f64::from(BINS)) as i32;
    // Should rounding reach 35 just below the next power of two, that is where the power's own first bin is.
    (exponent - LOWEST) * BINS + within + 1
}

/// Where between a power of two (0) and the next (1) the value (1 + s) times the first lies: P in the module's text.
fn position(s: f64) -> f64 {
    ((6.0 / 35.0 * s - 0.6) * s + 10.0 / 7.0) * s
}

/// The s at which [`position`] is `at`, by Newton's method: the cubic is so close to straight that four steps reach the
/// last bits.
fn at_position(at: f64) -> f64 {
    let mut s = at;
    for _ in 0..4 {
        let slope = (18.0 / 35.0 * s - 1.2) * s + 10.0 / 7.0;
        s -= (position(s) - at) / slope;
    }
    s
}

/// The value that stands for all of a bin: the harmonic mean of its ends, which is wrong by the same share of either.
fn estimate(key: i32) -> f64 {
    if key == 0 {
        return 0.0;
    }
    let bin = key.abs() - 1;
    let (exponent, within) = (bin / BINS + LOWEST, f64::from(bin % BINS));
    let low = 1.0 + at_position(within / f64::from(BINS));
    let high = 1.0 + at_position((within + 1.0) / f64::from(BINS));
    let mean = 2.0 * low * high / (low + high);
    // In two steps where the power itself is too small for its leading one.
    let size = if exponent < f64::MIN_EXP {
        mean * power_of_two(exponent + 64) * power_of_two(-64)
    } else {
        mean * power_of_two(exponent)
    };
    if key < 0 { -size } else { size }
}

/// 2 to the power of an exponent between -1022 and 1023.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(u64::from((exponent + EXPONENT_BIAS).unsigned_abs()) << EXPONENT_AT)
}

/// 0, -1, 1, -2, … as 0, 1, 2, 3, …
fn zigzag(key: i32) -> u32 {
    ((key << 1) ^ (key >> 31)).cast_unsigned()
}

fn unzigzag(number: u32) -> i32 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Writes a number in seven bits a byte, the lowest first; all but the last byte have their highest bit set.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Reads a number that [`put`] wrote; `None` where bytes end, exceed 64 bits, or are more than the number needs.
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if low.leading_zeros() < shift {
            return None;
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            return (byte != 0 || shift == 0).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests;

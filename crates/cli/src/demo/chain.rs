//! The chain that the data is about, as far as a demonstration needs to know it.

use chrono::{DateTime, Utc};

/// The halving of 2024: a block whose time everybody knows.
const HALVING: (i64, i64) = (840_000, 1_713_571_767);

/// The height of the chain's tip at a time, at ten minutes a block.
pub fn height(at: DateTime<Utc>) -> i64 {
    (HALVING.0 + (at.timestamp() - HALVING.1) / 600).max(1_000)
}

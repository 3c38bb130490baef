//! Ranges of blocks: half-open here and in the ledger, inclusive on the wire.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The highest block a job may reach: every bound and every count stays exact in JSON (2^53).
pub const MAX_BLOCK: i64 = (1 << 53) - 2;

/// A range of blocks, `start..end`, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRange {
    /// The first block.
    pub start: i64,
    /// The block after the last.
    pub end: i64,
}

impl BlockRange {
    /// `start..end`; `None` when that is empty.
    pub fn new(start: i64, end: i64) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// The range from its first and its last block, as the wire has them; checks them against what a job may have.
    pub fn inclusive(first: i64, last: i64) -> Result<Self> {
        if first < 0 || last > MAX_BLOCK {
            return Err(Error::invalid(
                "invalid_range",
                format!("blocks lie between 0 and {MAX_BLOCK}"),
            ));
        }
        Self::new(first, last + 1).ok_or_else(|| {
            Error::invalid(
                "invalid_range",
                "end_block must not be less than start_block",
            )
        })
    }

    /// The last block.
    pub fn last(&self) -> i64 {
        self.end - 1
    }

    /// How many blocks it has.
    pub fn count(&self) -> i64 {
        self.end - self.start
    }

    /// Cuts it into pieces of at most `size` blocks, from the lowest.
    pub fn chunks(self, size: i64) -> impl Iterator<Item = Self> {
        let size = size.max(1);
        let mut next = self.start;
        std::iter::from_fn(move || {
            let chunk = Self::new(next, self.end.min(next.saturating_add(size)))?;
            next = chunk.end;
            Some(chunk)
        })
    }

    /// Pairs the bounds that a query returns as two arrays.
    pub(super) fn zip(starts: &[i64], ends: &[i64]) -> Vec<Self> {
        starts
            .iter()
            .zip(ends)
            .filter_map(|(start, end)| Self::new(*start, *end))
            .collect()
    }
}

/// As people and the wire write it: both bounds included.
impl fmt::Display for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.last())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_checked_at_their_edges() {
        assert_eq!(BlockRange::inclusive(0, 0).unwrap().count(), 1);
        assert_eq!(
            BlockRange::inclusive(0, MAX_BLOCK).unwrap().last(),
            MAX_BLOCK
        );
        for (first, last) in [
            (-1, 0),
            (1, 0),
            (0, MAX_BLOCK + 1),
            (i64::MAX, i64::MAX),
            (0, i64::MIN),
        ] {
            assert_eq!(
                BlockRange::inclusive(first, last).unwrap_err().code(),
                "invalid_range"
            );
        }
    }

    proptest! {
        #[test]
        fn chunks_cover_the_range_once_and_in_order(start in 0..1_000_i64, count in 1..5_000_i64, size in 1..700_i64) {
            let range = BlockRange { start, end: start + count };
            let mut next = start;
            for chunk in range.chunks(size) {
                prop_assert_eq!(chunk.start, next);
                prop_assert!(chunk.count() <= size);
                next = chunk.end;
            }
            prop_assert_eq!(next, range.end);
        }
    }
}

//! Transactions and what of them can be seen: PostgreSQL's `xid8` and `pg_snapshot`, as text and in memory.
//!
//! A [`Snapshot`] says of every transaction whether its changes were visible when the snapshot was taken. Numbers of
//! transactions are comparable only within one cluster, and say nothing about the order of commits: whether one of two
//! snapshots has seen all that the other has is asked with [`Snapshot::includes`], never by comparing bounds.

use std::{fmt, str::FromStr};

use crate::error::{Error, Result};

/// A transaction's number (`xid8`), on the wire as its decimal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u64);

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TransactionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse()
            .map(Self)
            .map_err(|_| Error::internal("not a transaction id"))
    }
}

/// What was visible at one moment: every transaction below `xmax` that is not among those in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// Sorted.
    in_progress: Vec<u64>,
}

impl Snapshot {
    /// Whether a transaction's changes are visible in it, provided that it committed.
    pub fn sees(&self, transaction: TransactionId) -> bool {
        let x = transaction.0;
        x < self.xmin || (x < self.xmax && self.in_progress.binary_search(&x).is_err())
    }

    /// Whether it knows of transactions that had not begun when the other was taken: where the other is the later one, of
    /// another cluster's.
    pub fn is_beyond(&self, other: &Self) -> bool {
        self.xmax > other.xmax
    }

    /// Whether everything that the other sees is seen here, too.
    pub fn includes(&self, other: &Self) -> bool {
        // What is not seen here, below the other's end, must be in progress there.
        self.xmax >= other.xmax
            && self
                .in_progress
                .iter()
                .filter(|x| **x < other.xmax)
                .all(|x| !other.sees(TransactionId(*x)))
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, x) in self.in_progress.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{x}")?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = Error;

    /// Reads `xmin:xmax:xip,xip`, as PostgreSQL writes it.
    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let mut parts = text.split(':');
            let xmin = parts.next()?.parse().ok()?;
            let xmax = parts.next()?.parse().ok()?;
            let list = parts.next()?;
            let mut in_progress = list
                .split(',')
                .filter(|x| !x.is_empty())
                .map(|x| x.parse().ok())
                .collect::<Option<Vec<u64>>>()?;
            in_progress.sort_unstable();
            let sane = xmin <= xmax
                && in_progress.first().is_none_or(|x| *x >= xmin)
                && in_progress.last().is_none_or(|x| *x < xmax);
            (parts.next().is_none() && sane).then_some(Self {
                xmin,
                xmax,
                in_progress,
            })
        };
        read().ok_or_else(|| Error::internal("not a snapshot"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn it_sees_what_had_ended_when_it_was_taken() {
        let taken = snapshot("10:20:10,14");
        let seen: Vec<u64> = (8..23).filter(|x| taken.sees(TransactionId(*x))).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
        assert_eq!(taken.to_string(), "10:20:10,14");
        assert_eq!(snapshot("7:7:").to_string(), "7:7:");
    }

    #[test]
    fn inclusion_is_that_of_the_sets_of_what_is_seen() {
        let all: Vec<Snapshot> = [
            "1:1:",
            "5:5:",
            "5:9:5",
            "5:9:5,7",
            "5:9:7",
            "6:9:7",
            "9:9:",
            "5:12:5,10",
            "10:12:10",
        ]
        .map(snapshot)
        .to_vec();
        for a in &all {
            for b in &all {
                let by_sets = (0..20).map(TransactionId).all(|x| a.sees(x) || !b.sees(x));
                assert_eq!(a.includes(b), by_sets, "{a} includes {b}");
            }
        }
    }

    #[test]
    fn rubbish_is_no_snapshot() {
        for text in [
            "", "1", "1:2", "2:1:", "1:5:7", "3:5:1", "1:5:x", "1:5:2:3", "-1:5:",
        ] {
            assert!(text.parse::<Snapshot>().is_err(), "{text}");
        }
    }
}

//! What can be wrong with the log, and how that is said.

use std::{fmt, str::FromStr};

use super::entry::{Hash, Head, hash_from_hex, hex};
use crate::error::Error;

/// A head that was kept outside of the log: what hash the entry of a number had when it was the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The entry's number.
    pub sequence: i64,
    /// Its hash.
    pub hash: Hash,
    /// Where that was kept: an archive's manifest, a mail.
    pub found_in: String,
}

/// `SEQUENCE:HASH`, the hash in hexadecimal.
impl FromStr for Anchor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parsed = text.trim().split_once(':').and_then(|(sequence, hash)| {
            let sequence = sequence.parse().ok().filter(|sequence| *sequence >= 0)?;
            Some((sequence, hash_from_hex(hash)?))
        });
        let (sequence, hash) = parsed.ok_or_else(|| {
            Error::field(
                "anchor",
                "must be a number, a colon and 64 hexadecimal digits, as `audit verify` prints the head",
            )
        })?;
        Ok(Self {
            sequence,
            hash,
            found_in: "an anchor that was given".to_owned(),
        })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, hex(&self.hash))
    }
}

/// Something wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An entry's content, or its hash, is not what was written.
    Changed {
        /// Its number.
        sequence: i64,
    },
    /// An entry was changed and given a hash that fits; the entry after it (or the head) knows another.
    Rewritten {
        /// Its number.
        sequence: i64,
    },
    /// An entry does not follow the one before it; one of the two was rewritten, and which one nothing tells.
    Unlinked {
        /// The entry before.
        previous: i64,
        /// The entry.
        sequence: i64,
    },
    /// Entries are gone.
    Removed {
        /// The first.
        first: i64,
        /// The last.
        last: i64,
    },
    /// Entries were given other numbers.
    Renumbered {
        /// The first one's number now.
        first: i64,
        /// The last one's number now.
        last: i64,
        /// The first one's number when it was written.
        original: i64,
    },
    /// Two entries have changed places.
    Swapped {
        /// One's number.
        first: i64,
        /// The other's.
        second: i64,
    },
    /// An entry that was never appended.
    Inserted {
        /// Its number.
        sequence: i64,
    },
    /// The last entries are gone: the head knows of them.
    TailCut {
        /// The first.
        first: i64,
        /// The last.
        last: i64,
    },
    /// The head row is gone.
    HeadMissing,
    /// The head row does not name the last entry.
    HeadDiffers {
        /// What it names.
        head: i64,
        /// The last entry's number.
        last: i64,
    },
    /// An entry is not the one that an anchor knows: it, and perhaps entries before it, were written anew.
    AnchorDiffers {
        /// Its number.
        sequence: i64,
        /// Where the anchor was kept.
        found_in: String,
        /// The greatest number up to which anchors agree.
        agreed: i64,
    },
    /// An entry that an anchor knows is not there.
    AnchorMissing {
        /// Its number.
        sequence: i64,
        /// Where the anchor was kept.
        found_in: String,
    },
}

impl Fault {
    /// Its name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "changed",
            Self::Rewritten { .. } => "rewritten",
            Self::Unlinked { .. } => "unlinked",
            Self::Removed { .. } => "removed",
            Self::Renumbered { .. } => "renumbered",
            Self::Swapped { .. } => "swapped",
            Self::Inserted { .. } => "inserted",
            Self::TailCut { .. } => "tail_cut",
            Self::HeadMissing => "head_missing",
            Self::HeadDiffers { .. } => "head_differs",
            Self::AnchorDiffers { .. } => "anchor_differs",
            Self::AnchorMissing { .. } => "anchor_missing",
        }
    }

    /// The first and the last number it is about.
    pub fn sequences(&self) -> (i64, i64) {
        match *self {
            Self::Changed { sequence }
            | Self::Rewritten { sequence }
            | Self::Inserted { sequence }
            | Self::AnchorDiffers { sequence, .. }
            | Self::AnchorMissing { sequence, .. } => (sequence, sequence),
            Self::Unlinked { previous, sequence } => (previous, sequence),
            Self::Removed { first, last }
            | Self::Renumbered { first, last, .. }
            | Self::TailCut { first, last } => (first, last),
            Self::Swapped { first, second } => (first, second),
            Self::HeadMissing => (0, 0),
            Self::HeadDiffers { head, last } => (head.min(last), head.max(last)),
        }
    }
}

fn entries(first: i64, last: i64) -> String {
    if first == last {
        format!("entry {first}")
    } else {
        format!("entries {first} to {last}")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { sequence } => write!(
                f,
                "entry {sequence} was changed: its hash is not that of its content"
            ),
            Self::Rewritten { sequence } => write!(
                f,
                "entry {sequence} was changed and given a new hash: what comes after it knows another"
            ),
            Self::Unlinked { previous, sequence } => write!(
                f,
                "entry {sequence} does not follow entry {previous}: one of them was changed and given a new hash"
            ),
            Self::Removed { first, last } => {
                write!(f, "{} removed", was(*first, *last))
            }
            Self::Renumbered {
                first,
                last,
                original,
            } => write!(
                f,
                "{} written as {}",
                was(*first, *last),
                entries(*original, original.saturating_add(last - first))
            ),
            Self::Swapped { first, second } => {
                write!(f, "entries {first} and {second} have changed places")
            }
            Self::Inserted { sequence } => write!(f, "entry {sequence} was never appended"),
            Self::TailCut { first, last } => write!(
                f,
                "{} cut off: the head row knows of them",
                was(*first, *last)
            ),
            Self::HeadMissing => f.write_str("the head row is gone"),
            Self::HeadDiffers { head, last } if head == last => write!(
                f,
                "the head row and entry {last}, the last one, do not agree: one of them was changed"
            ),
            Self::HeadDiffers { head, last } => write!(
                f,
                "the head row names entry {head}, but the last one is {last}: the head was set back, or entries were \
                 written past it"
            ),
            Self::AnchorDiffers {
                sequence,
                found_in,
                agreed,
            } => write!(
                f,
                "entry {sequence} is not the one that {found_in} knows: {} may have been written anew",
                entries(agreed.saturating_add(1), *sequence)
            ),
            Self::AnchorMissing { sequence, found_in } => write!(
                f,
                "entry {sequence} is not there, and {found_in} knows it: it was removed, or the end of the log cut off"
            ),
        }
    }
}

fn was(first: i64, last: i64) -> String {
    let verb = if first == last { "was" } else { "were" };
    format!("{} {verb}", entries(first, last))
}

/// What a verification came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// How many entries were read.
    pub entries: u64,
    /// The head, as the head row has it.
    pub head: Option<Head>,
    /// With how many anchors the log agrees.
    pub anchors_agreed: u64,
    /// What is wrong, in the order of the numbers; the first hundred or so.
    pub faults: Vec<Fault>,
    /// How many faults there are in all.
    pub faults_total: u64,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.faults_total == 0
    }
}

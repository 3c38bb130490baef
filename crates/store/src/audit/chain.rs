//! Whether entries are the chain they say they are: pure, one entry at a time, in bounded memory.
//!
//! # How a fault gets its name
//!
//! *Place.* An entry whose hash fits its content stands where it was written, for its number is hashed, too. One whose hash
//! does not fit is tried under numbers nearby: fits one, the entry was renumbered. Entries that fit nowhere wait until all
//! others have their place. Then they are tried under the numbers that are missing and under each other's (two that were
//! swapped); one that still fits nowhere is the changed entry of its number, if that is missing, and one too many otherwise.
//!
//! *Order.* Numbers that no entry was written under are removed ones; those that the head knows beyond the last, a cut tail.
//!
//! *Links.* Two neighbours in their places must agree: the later one names the earlier one's hash. Where they do not, one of
//! them was changed and given a hash that fits. If what follows confirms the later one, it is the earlier one; otherwise
//! nothing tells.

use std::collections::BTreeMap;

use super::{
    Anchor, Fault, Verification,
    entry::{GENESIS, Hash, Head, Record},
};

/// How many faults are told; the others are counted.
const MAX_FAULTS: usize = 100;

/// How many entries without a place are kept; further ones are told as changed at once.
const MAX_UNPLACED: usize = 64;

/// How many ranges of missing numbers are kept; further ones are told as removed at once.
const MAX_GAPS: usize = 1_000;

/// Under how many missing numbers each entry without a place is tried.
const MAX_TRIED: usize = 256;

/// Verifies a log that is pushed entry by entry, in the order of the numbers.
#[derive(Debug)]
pub struct Verifier {
    head: Option<Head>,
    /// By number; those met are taken out.
    anchors: BTreeMap<i64, Vec<Anchor>>,
    anchors_agreed: u64,
    /// The greatest number up to which anchors agree.
    agreed: i64,
    entries: u64,
    /// The entry that had a place last, by the number it was written under, with its hash.
    previous: (i64, Hash),
    /// The highest number that an entry was written under.
    highest: i64,
    /// By how much the last renumbered entry was moved.
    offset: i64,
    /// The earlier of two entries that do not agree; the later one is the previous entry.
    accuser: Option<i64>,
    /// Missing numbers, from and to.
    gaps: Vec<(i64, i64)>,
    unplaced: Vec<Record>,
    faults: Vec<Fault>,
    faults_total: u64,
}

impl Verifier {
    /// For a log with this head row.
    pub fn new(head: Option<Head>, anchors: &[Anchor]) -> Self {
        let mut by_number: BTreeMap<i64, Vec<Anchor>> = BTreeMap::new();
        for anchor in anchors {
            let same = by_number.entry(anchor.sequence).or_default();
            same.push(anchor.clone());
        }
        let mut verifier = Self {
            head,
            anchors: by_number,
            anchors_agreed: 0,
            agreed: 0,
            entries: 0,
            previous: (0, GENESIS.to_vec()),
            highest: 0,
            offset: 0,
            accuser: None,
            gaps: Vec::new(),
            unplaced: Vec::new(),
            faults: Vec::new(),
            faults_total: 0,
        };
        verifier.meet_anchors(0, &GENESIS);
        verifier
    }

    /// The next entry.
    pub fn push(&mut self, entry: Record) {
        self.entries += 1;
        if let Some(number) = self.number_of(&entry) {
            self.place(&entry, number);
        } else if self.unplaced.len() < MAX_UNPLACED {
            self.unplaced.push(entry);
        } else {
            self.fault(Fault::Changed {
                sequence: entry.sequence,
            });
            self.occupy(entry.sequence);
        }
    }

    /// What all entries came to.
    pub fn finish(mut self) -> Verification {
        let confirmed = self.head_is(self.previous.0, &self.previous.1);
        self.judge(confirmed);
        self.place_the_rest();
        for (first, last) in std::mem::take(&mut self.gaps) {
            self.fault(Fault::Removed { first, last });
        }
        self.check_head();
        for (sequence, anchors) in std::mem::take(&mut self.anchors) {
            for anchor in anchors {
                self.fault(Fault::AnchorMissing {
                    sequence,
                    found_in: anchor.found_in,
                });
            }
        }
        self.pair_swapped();
        self.faults.sort_by_key(Fault::sequences);
        Verification {
            entries: self.entries,
            head: self.head,
            anchors_agreed: self.anchors_agreed,
            faults: self.faults,
            faults_total: self.faults_total,
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.faults_total += 1;
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// The number that an entry was written under, as far as that can be told now.
    fn number_of(&mut self, entry: &Record) -> Option<i64> {
        if entry.is_itself() {
            return Some(entry.sequence);
        }
        let nearby = [self.offset, 1, -1]
            .into_iter()
            .filter(|offset| *offset != 0);
        let numbers = nearby.filter_map(|offset| entry.sequence.checked_add(offset));
        let number = was_written_as(entry, numbers)?;
        self.offset = number - entry.sequence;
        Some(number)
    }

    /// Puts an entry where it was written.
    fn place(&mut self, entry: &Record, number: i64) {
        if number != entry.sequence {
            self.renumbered(entry.sequence, number);
        }
        self.meet_anchors(number, &entry.hash);
        if number <= self.highest {
            if !self.fill(number) {
                self.crowded(entry, number);
            }
        } else {
            let follows = number == self.highest + 1 && self.previous.0 == self.highest;
            self.occupy(number);
            self.link(number, follows.then_some(entry));
            self.previous = (number, entry.hash.clone());
        }
    }

    /// Two entries with hashes that fit one number. Whoever slips one in moves the one that was there: that one is the
    /// log's.
    fn crowded(&mut self, entry: &Record, number: i64) {
        self.fault(Fault::Inserted { sequence: number });
        if number != entry.sequence && number == self.previous.0 {
            self.accuser = None;
            self.previous.1.clone_from(&entry.hash);
        }
    }

    /// Compares an entry with its neighbour; none, where there is no neighbour to compare with.
    fn link(&mut self, number: i64, entry: Option<&Record>) {
        let Some(entry) = entry else {
            self.judge(false);
            return;
        };
        let agrees = entry.previous_hash == self.previous.1;
        self.judge(agrees);
        if !agrees {
            self.accuser = Some(number - 1);
        }
    }

    /// Settles two that do not agree, when it is known whether what follows confirms the later one.
    fn judge(&mut self, confirmed: bool) {
        let later = self.previous.0;
        match self.accuser.take() {
            None => {}
            // Nothing before the first entry can have been changed.
            Some(0) => self.fault(Fault::Rewritten { sequence: later }),
            Some(earlier) if confirmed => self.fault(Fault::Rewritten { sequence: earlier }),
            Some(earlier) => self.fault(Fault::Unlinked {
                previous: earlier,
                sequence: later,
            }),
        }
    }

    /// Takes the next highest number; those passed over are missing.
    fn occupy(&mut self, number: i64) {
        if number <= self.highest {
            return;
        }
        if number > self.highest + 1 {
            let gap = (self.highest + 1, number - 1);
            if self.gaps.len() < MAX_GAPS {
                self.gaps.push(gap);
            } else {
                let (first, last) = gap;
                self.fault(Fault::Removed { first, last });
            }
        }
        self.highest = number;
    }

    /// Takes a missing number, if it is missing.
    fn fill(&mut self, number: i64) -> bool {
        let found = self
            .gaps
            .iter()
            .position(|(first, last)| (*first..=*last).contains(&number));
        let Some(at) = found else {
            return false;
        };
        let (first, last) = self.gaps.remove(at);
        let rest = [(first, number - 1), (number + 1, last)];
        self.gaps
            .extend(rest.into_iter().filter(|(first, last)| first <= last));
        true
    }

    fn renumbered(&mut self, now: i64, original: i64) {
        // Other faults may have been told between two of a row.
        for fault in self.faults.iter_mut().rev().take(4) {
            if let Fault::Renumbered {
                first,
                last,
                original: of_first,
            } = fault
                && *last + 1 == now
                && *of_first - *first == original - now
            {
                *last = now;
                return;
            }
        }
        self.fault(Fault::Renumbered {
            first: now,
            last: now,
            original,
        });
    }

    fn meet_anchors(&mut self, number: i64, hash: &[u8]) {
        for anchor in self.anchors.remove(&number).unwrap_or_default() {
            if anchor.hash == hash {
                self.anchors_agreed += 1;
                self.agreed = self.agreed.max(number);
            } else {
                let agreed = self.agreed;
                self.fault(Fault::AnchorDiffers {
                    sequence: number,
                    found_in: anchor.found_in,
                    agreed,
                });
            }
        }
    }

    /// Entries that fitted nowhere, now that all others have their places.
    fn place_the_rest(&mut self) {
        let unplaced = std::mem::take(&mut self.unplaced);
        // Numbers beyond the last entry in its place, too: of those, the ones that the head knows.
        let known = self.head.as_ref().map_or(i64::MAX, |head| head.sequence);
        let taken: Vec<i64> = unplaced.iter().map(|entry| entry.sequence).collect();
        let missing: Vec<i64> = self
            .gaps
            .iter()
            .flat_map(|(first, last)| *first..=*last)
            .chain(self.highest + 1..=known.min(self.highest + 64))
            .take(MAX_TRIED)
            .collect();
        let mut changed = Vec::new();
        for entry in unplaced {
            match was_written_as(&entry, missing.iter().chain(&taken).copied()) {
                Some(number) => {
                    self.renumbered(entry.sequence, number);
                    self.meet_anchors(number, &entry.hash);
                    if !self.fill(number) {
                        self.occupy(number);
                    }
                }
                None => changed.push(entry),
            }
        }
        for entry in changed {
            let number = entry.sequence;
            // Its anchors would only say so again.
            if self.fill(number) || (number > self.highest && number <= known) {
                self.anchors.remove(&number);
                self.occupy(number);
                self.fault(Fault::Changed { sequence: number });
            } else {
                self.fault(Fault::Inserted { sequence: number });
            }
        }
    }

    fn head_is(&self, number: i64, hash: &[u8]) -> bool {
        let head = self.head.as_ref();
        head.is_some_and(|head| head.sequence == number && head.hash == hash)
    }

    fn check_head(&mut self) {
        let Some(head) = self.head.clone() else {
            self.fault(Fault::HeadMissing);
            return;
        };
        let last = self.highest;
        if head.sequence > last {
            self.fault(Fault::TailCut {
                first: last + 1,
                last: head.sequence,
            });
        } else if head.sequence < last
            // An entry that was changed is told of already; its hash may be what was changed.
            || (self.previous.0 == last && head.hash != self.previous.1)
        {
            self.fault(Fault::HeadDiffers {
                head: head.sequence,
                last,
            });
        }
    }

    /// Two entries, each written as the other.
    fn pair_swapped(&mut self) {
        let single = |fault: &Fault| match *fault {
            Fault::Renumbered {
                first,
                last,
                original,
            } if first == last => Some((first, original)),
            _ => None,
        };
        let mut at = 0;
        while at < self.faults.len() {
            let pair = single(&self.faults[at]).and_then(|(now, original)| {
                let later = self.faults[at + 1..].iter();
                let other = later
                    .map(single)
                    .position(|other| other == Some((original, now)))?;
                Some((now.min(original), now.max(original), at + 1 + other))
            });
            if let Some((first, second, other)) = pair {
                self.faults.remove(other);
                self.faults[at] = Fault::Swapped { first, second };
                self.faults_total -= 1;
            }
            at += 1;
        }
    }
}

/// The first of the numbers under which an entry's hash fits its content.
fn was_written_as(entry: &Record, numbers: impl IntoIterator<Item = i64>) -> Option<i64> {
    let hash = entry.hash.as_slice();
    numbers
        .into_iter()
        .find(|number| *number > 0 && entry.digest(*number) == hash)
}

#[cfg(test)]
mod tests;

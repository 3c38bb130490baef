//! Fewer points for a chart, with the same picture.
//!
//! M4, after Uwe Jugel, Zbigniew Jerzak, Gregor Hackenbroich and Volker Markl, *M4: A Visualization-Oriented Time Series Data
//! Aggregation* (VLDB 2014): of each slot of time the first, the least, the greatest and the last sample. A line through
//! them, drawn with one column of pixels a slot, has the same pixels as a line through all samples; and no peak is lost,
//! however short it was, as it would be by taking means or every nth sample.
//!
//! # What it guarantees
//!
//! * The least and the greatest sample of all, the first and the last are among the points, and each point is a sample.
//! * At most as many points as asked for, in order of time, none twice; fewer samples than that come back as they are.
//! * Memory for that many points, whatever the number of samples.
//!
//! It can be fed from summaries as well: with the least, the greatest and the last sample of each, at their times.

/// The fewest points that a chart can be asked for: one slot.
pub(super) const POINTS_A_SLOT: usize = 4;

/// A chart while its samples come in, in order of time.
#[derive(Debug, Clone)]
pub struct Chart {
    start: i64,
    end: i64,
    points: usize,
    last: Option<(i64, f64)>,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// All samples so far: no more than the points asked for.
    Whole(Vec<(i64, f64)>),
    /// What is kept of each slot of time that has samples, by its number.
    Slots(Vec<(u64, Slot)>),
}

/// The samples that are kept of a slot.
#[derive(Debug, Clone, Copy)]
struct Slot {
    first: (i64, f64),
    min: (i64, f64),
    max: (i64, f64),
    last: (i64, f64),
}

impl Chart {
    /// A chart of the time `start..end` (microseconds since the epoch) in at most so many points, but never less than four.
    pub fn new(start: i64, end: i64, points: usize) -> Self {
        Self {
            start,
            end,
            points: points.max(POINTS_A_SLOT),
            last: None,
            state: State::Whole(Vec::new()),
        }
    }

    /// Adds the next sample: not before the one before it. The same sample again is left out.
    pub fn push(&mut self, at: i64, value: f64) {
        let sample = (at, value);
        if self.last.replace(sample) == Some(sample) {
            return;
        }
        let State::Whole(samples) = &mut self.state else {
            self.push_slot(sample);
            return;
        };
        samples.push(sample);
        if samples.len() > self.points {
            let samples = std::mem::take(samples);
            self.state = State::Slots(Vec::new());
            for sample in samples {
                self.push_slot(sample);
            }
        }
    }

    /// The points.
    pub fn finish(self) -> Vec<(i64, f64)> {
        match self.state {
            State::Whole(samples) => samples,
            State::Slots(slots) => slots.iter().flat_map(|(_, slot)| slot.points()).collect(),
        }
    }

    fn push_slot(&mut self, sample: (i64, f64)) {
        let number = self.slot_of(sample.0);
        let State::Slots(slots) = &mut self.state else {
            return;
        };
        match slots.last_mut() {
            // A sample before the one before it, against the rules, counts for the slot at hand: no slot comes twice.
            Some((current, slot)) if *current >= number => slot.add(sample),
            _ => slots.push((number, Slot::of(sample))),
        }
    }

    /// The number of the slot that a time lies in; times outside of the chart count for its ends.
    fn slot_of(&self, at: i64) -> u64 {
        let slots = (self.points / POINTS_A_SLOT) as u64;
        let width = self.end.max(self.start).abs_diff(self.start).max(1);
        let offset = at.max(self.start).abs_diff(self.start);
        let number = u128::from(offset) * u128::from(slots) / u128::from(width);
        u64::try_from(number).map_or(slots - 1, |number| number.min(slots - 1))
    }
}

impl Slot {
    fn of(sample: (i64, f64)) -> Self {
        Self {
            first: sample,
            min: sample,
            max: sample,
            last: sample,
        }
    }

    fn add(&mut self, sample: (i64, f64)) {
        if sample.1 < self.min.1 {
            self.min = sample;
        }
        if sample.1 > self.max.1 {
            self.max = sample;
        }
        self.last = sample;
    }

    /// Its points in order of time, each once. The first and the last stay at the ends also among samples of one time.
    fn points(&self) -> Vec<(i64, f64)> {
        let (low, high) = if self.min.0 <= self.max.0 {
            (self.min, self.max)
        } else {
            (self.max, self.min)
        };
        let mut points = vec![self.first];
        for point in [low, high, self.last] {
            if points.last() != Some(&point) {
                points.push(point);
            }
        }
        points
    }
}

#[cfg(test)]
mod tests;

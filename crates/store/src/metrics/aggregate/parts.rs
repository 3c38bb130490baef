//! Which part of a range comes from where. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::metrics::{
    cold::{
        ColdDay,
        parts::{ColdParts, Gathered},
    },
    queries::Part,
    rollup::Interval,
};

/// How far rollups are made, and the hours of series that wait to be made again.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    pub rolled_before: DateTime<Utc>,
    pub hours: BTreeSet<(i32, DateTime<Utc>)>,
    /// The beginnings of the days that have samples, and the archive of those that are cold.
    pub days: BTreeMap<DateTime<Utc>, Option<ColdDay>>,
}

impl Marks {
    /// Whether an hour waits to be rolled up again.
    pub fn has(&self, id: i32, hour: DateTime<Utc>) -> bool {
        self.hours.contains(&(id, hour))
    }

    /// Whether any of the days is cold.
    pub fn has_cold(&self) -> bool {
        self.days.values().any(Option::is_some)
    }

    fn has_any(&self, id: i32, from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
        self.hours.range((id, from)..(id, to)).next().is_some()
    }
}

/// What whole buckets do not serve.
#[derive(Debug)]
pub(super) struct Parts {
    /// Ranges of whole hours that are rolled up; hours among them that are marked are not to be used.
    pub hours: Vec<Part>,
    /// What is to be read as samples, no part of it beyond a day and a bucket.
    pub samples: Vec<Part>,
    pub marks: Marks,
    interval: Interval,
    /// The whole buckets.
    whole: (DateTime<Utc>, DateTime<Utc>),
}

impl Parts {
    pub fn of(
        ids: &[i32],
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        interval: Interval,
        marks: &Marks,
    ) -> Self {
        let start = interval.ceil(from).min(to);
        let end = interval.floor(to.min(marks.rolled_before)).max(start);
        let mut parts = Self {
            hours: Vec::new(),
            samples: Vec::new(),
            marks: marks.clone(),
            interval,
            whole: (start, end),
        };
        for id in ids {
            parts.cut(*id, from, start);
            let marked: BTreeSet<_> = marks
                .hours
                .range((*id, start)..(*id, end))
                .map(|(_, hour)| interval.floor(*hour))
                .collect();
            for bucket in marked {
                parts.cut(*id, bucket, interval.end(bucket));
            }
            parts.cut(*id, end, to);
        }
        parts
    }

    /// Whether a bucket of a series is served by its own rollup.
    pub fn is_whole(&self, id: i32, bucket: DateTime<Utc>) -> bool {
        bucket >= self.whole.0
            && bucket < self.whole.1
            && !self.marks.has_any(id, bucket, self.interval.end(bucket))
    }

    /// Cuts a range into whole hours that are rolled up, and the rest.
    fn cut(&mut self, id: i32, from: DateTime<Utc>, to: DateTime<Utc>) {
        if from >= to {
            return;
        }
        let first = Interval::Hour.ceil(from).min(to);
        let last = Interval::Hour
            .floor(to.min(self.marks.rolled_before))
            .max(first);
        if self.interval == Interval::Hour {
            // Its whole hours would be whole buckets: here are only those that are marked.
            self.sample(id, from, to);
            return;
        }
        self.sample(id, from, first);
        if first < last {
            self.hours.push((id, first, last));
            let marked: Vec<_> = self
                .marks
                .hours
                .range((id, first)..(id, last))
                .map(|(_, hour)| *hour)
                .collect();
            for hour in marked {
                self.sample(id, hour, Interval::Hour.end(hour));
            }
        }
        self.sample(id, last, to);
    }

    /// By the bucket and the day: a part lies in one of each. Days without samples are passed over, however many there are.
    fn sample(&mut self, id: i32, from: DateTime<Utc>, to: DateTime<Utc>) {
        if from >= to {
            return;
        }
        let days = self.marks.days.range(Interval::Day.floor(from)..to);
        for (day, _) in days {
            let end = Interval::Day.end(*day).min(to);
            let mut since = from.max(*day);
            while since < end {
                let until = self.interval.end(self.interval.floor(since)).min(end);
                self.samples.push((id, since, until));
                since = until;
            }
        }
    }

    /// The samples that are to be read, those of each day together, with the day's archive where it is cold.
    pub fn samples_by_day(&self) -> Vec<(Option<&ColdDay>, Vec<Part>)> {
        let mut days: BTreeMap<DateTime<Utc>, Vec<Part>> = BTreeMap::new();
        for part in &self.samples {
            days.entry(Interval::Day.floor(part.1))
                .or_default()
                .push(*part);
        }
        let of = |day: &DateTime<Utc>| self.marks.days.get(day).and_then(Option::as_ref);
        days.into_iter()
            .map(|(day, parts)| (of(&day), parts))
            .collect()
    }

    /// Notes which cold parts are not at hand; says whether any is lacking.
    pub fn lack<T: Gathered>(&self, cold: &mut ColdParts<T>) -> bool {
        if self.marks.has_cold() {
            for (day, parts) in self.samples_by_day() {
                if let Some(day) = day {
                    cold.want(day, &parts);
                }
            }
        }
        cold.lacks()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        "2026-03-08T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minutes)
    }

    proptest! {
        /// Every minute of the range comes from exactly one place, and from a right one.
        #[test]
        fn every_minute_comes_from_one_place(
            from in 0_i64..20_000, length in 0_i64..30_000, rolled in 0_i64..700,
            marked in proptest::collection::btree_set(0_i64..700, 0..6), which in 0_usize..3,
        ) {
            let interval = Interval::ALL[which];
            let (from, to, rolled) = (at(from), at(from + length), at(rolled * 60));
            let hours = marked.iter().map(|hour| (1, at(hour * 60))).collect();
            let days = (0..60).map(|day| (at(day * 1_440), None)).collect();
            let marks = Marks { rolled_before: rolled, hours, days };
            let parts = Parts::of(&[1], from, to, interval, &marks);
            let mut minute = from;
            while minute < to {
                let bucket = interval.floor(minute);
                let hour = Interval::Hour.floor(minute);
                let from_bucket = parts.is_whole(1, bucket);
                let in_hours = parts.hours.iter().any(|(_, a, b)| *a <= minute && minute < *b) && !marks.has(1, hour);
                let in_samples = parts.samples.iter().filter(|(_, a, b)| *a <= minute && minute < *b).count();
                prop_assert_eq!(usize::from(from_bucket) + usize::from(in_hours) + in_samples, 1, "{}", minute);
                if from_bucket {
                    prop_assert!(bucket >= from && interval.end(bucket) <= to && interval.end(bucket) <= rolled);
                }
                if in_hours {
                    prop_assert!(hour >= from && Interval::Hour.end(hour) <= to && Interval::Hour.end(hour) <= rolled);
                }
                minute += TimeDelta::minutes(7);
            }
            for (_, since, until) in &parts.samples {
                prop_assert_eq!(interval.floor(*since), interval.floor(*until - TimeDelta::microseconds(1)));
                prop_assert!(*since >= from && *until <= to);
            }
        }
    }
}

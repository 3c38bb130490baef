//! The algorithm, as a value: a sliding window over marks that are runs of requests.
//!
//! A *mark* is a run of requests with the time of its first and of its last; a request within [`MARKS`]⁻¹ of the window after
//! a mark's first belongs to it. A mark counts until a whole window after its *last* request. [`super::script`] does the same
//! in Redis; the same is tested of both.

use std::{collections::VecDeque, time::Duration};

/// In how many parts a window is cut, which bounds the marks (127 are in use at most, one for either end), and how much longer than a
/// window a request counts.
pub(super) const MARKS: i64 = 125;

/// How many requests, in how many microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    pub quota: u64,
    pub window: i64,
}

impl Rule {
    /// How long a mark takes requests.
    pub fn span(self) -> i64 {
        self.window / MARKS
    }
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    first: i64,
    last: i64,
    count: u64,
}

/// The requests of a window. Times are microseconds of one clock; one that goes back stands still here until it has caught up, or
/// if it went back by more than a window, begins anew.
#[derive(Debug)]
pub(super) struct Window {
    rule: Rule,
    marks: VecDeque<Mark>,
    used: u64,
}

impl Window {
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            marks: VecDeque::new(),
            used: 0,
        }
    }

    /// How many requests count.
    pub fn used(&mut self, now: i64) -> u64 {
        self.settle(now);
        self.used
    }

    /// Counts requests, whether or not there is room for them.
    pub fn add(&mut self, now: i64, count: u64) {
        let now = self.settle(now);
        if count == 0 {
            return;
        }
        let span = self.rule.span();
        match self.marks.back_mut() {
            Some(mark) if now - mark.first < span => {
                mark.last = now;
                mark.count += count;
            }
            _ => self.marks.push_back(Mark {
                first: now,
                last: now,
                count,
            }),
        }
        self.used += count;
    }

    /// How long until fewer than `quota` requests count; zero if that is so.
    pub fn until_below(&mut self, quota: u64, now: i64) -> Duration {
        let now = self.settle(now);
        let (mut left, mut until) = (self.used, now);
        for mark in &self.marks {
            if left < quota {
                break;
            }
            left -= mark.count;
            until = mark.last + self.rule.window;
        }
        micros(until - now)
    }

    /// How long until the oldest requests do not count any more; zero if none counts.
    pub fn until_release(&mut self, now: i64) -> Duration {
        let now = self.settle(now);
        let oldest = self.marks.front();
        oldest.map_or(Duration::ZERO, |mark| {
            micros(mark.last + self.rule.window - now)
        })
    }

    /// Lets go of what does not count any more; gives the time to reckon with.
    fn settle(&mut self, now: i64) -> i64 {
        let last = self.marks.back().map_or(now, |mark| mark.last);
        if last - now > self.rule.window {
            *self = Self::new(self.rule);
            return now;
        }
        let now = now.max(last);
        while let Some(mark) = self.marks.front()
            && mark.last + self.rule.window <= now
        {
            self.used -= mark.count;
            self.marks.pop_front();
        }
        now
    }

    #[cfg(test)]
    pub fn marks(&self) -> usize {
        self.marks.len()
    }
}

/// A time that has not passed yet.
pub(super) fn micros(time: i64) -> Duration {
    Duration::from_micros(u64::try_from(time).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::Config};

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    /// Admits while there is room, as a limiter does; gives the times of what was admitted.
    fn run(rule: Rule, demand: &[i64]) -> Vec<i64> {
        let mut window = Window::new(rule);
        let mut admitted = Vec::new();
        for now in demand {
            if window.used(*now) < rule.quota {
                assert_eq!(window.until_below(rule.quota, *now), Duration::ZERO);
                window.add(*now, 1);
                admitted.push(*now);
            } else {
                let wait = i64::try_from(window.until_below(rule.quota, *now).as_micros()).unwrap();
                assert!((1..=rule.window).contains(&wait), "{wait}");
                // What it says is right to the microsecond.
                assert!(window.until_below(rule.quota, now + wait - 1) > Duration::ZERO);
            }
            assert!(i64::try_from(window.marks()).unwrap() <= MARKS + 2);
        }
        admitted
    }

    /// The most that lie in any `(t, t + length]`, and the least that lie in one while `demand` goes on.
    fn most(admitted: &[i64], length: i64) -> usize {
        let mut begin = 0;
        let mut most = 0;
        for (at, time) in admitted.iter().enumerate() {
            while admitted[begin] <= time - length {
                begin += 1;
            }
            most = most.max(at + 1 - begin);
        }
        most
    }

    fn demand() -> impl Strategy<Value = Vec<i64>> {
        // Bursts, steady calls, pauses of up to two hours.
        let gap = prop_oneof![
            6 => 0..3_000_i64,
            3 => 0..30_000_000_i64,
            1 => 0..2 * HOUR,
        ];
        prop::collection::vec((gap, 1..60_usize), 1..120).prop_map(|runs| {
            let mut now = 1_700_000_000_000_000;
            let mut times = Vec::new();
            for (gap, count) in runs {
                for _ in 0..count {
                    now += gap;
                    times.push(now);
                }
            }
            times
        })
    }

    proptest! {
        #![proptest_config(Config::with_cases(300))]

        #[test]
        fn no_hour_has_more_than_the_quota(quota in 1..400_u64, demand in demand()) {
            let rule = Rule { quota, window: HOUR };
            let admitted = run(rule, &demand);
            prop_assert!(most(&admitted, HOUR) <= usize::try_from(quota).unwrap());
        }

        #[test]
        fn a_request_is_refused_only_if_the_last_101_percent_of_an_hour_had_the_quota(
            quota in 1..400_u64, demand in demand(),
        ) {
            let rule = Rule { quota, window: HOUR };
            let admitted = run(rule, &demand);
            let reach = HOUR + HOUR / MARKS;
            for now in &demand {
                let counted = |from: i64| admitted.iter().filter(|time| (from + 1..=*now).contains(*time)).count();
                let is_admitted = admitted.binary_search(now).is_ok();
                prop_assert!(is_admitted || counted(now - reach) >= usize::try_from(quota).unwrap());
            }
        }
    }

    #[test]
    fn under_endless_demand_each_hour_gets_99_percent() {
        for quota in [1, 100, 1_000, 10_000] {
            let rule = Rule {
                quota,
                window: HOUR,
            };
            // From all at once to hardly more than the quota, for a hundred hours.
            for gap in [
                1_000_000,
                3_000_000,
                HOUR / (2 * i64::try_from(quota).unwrap()),
            ] {
                let end = 100 * HOUR;
                let demand: Vec<_> = (0..end / gap).map(|number| number * gap).collect();
                let admitted = run(rule, &demand).len();
                let offered = demand.len().min(usize::try_from(100 * quota).unwrap());
                assert!(admitted * 100 >= offered * 99, "{quota} {gap}: {admitted}");
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away_and_locks_nobody_out() {
        let rule = Rule {
            quota: 2,
            window: HOUR,
        };
        let mut window = Window::new(rule);
        window.add(10 * HOUR, 2);
        assert_eq!(window.used(10 * HOUR - 1), 2);
        assert_eq!(window.until_below(2, 9 * HOUR), micros(HOUR));
        assert_eq!(window.used(9 * HOUR - 1), 0);
    }
}

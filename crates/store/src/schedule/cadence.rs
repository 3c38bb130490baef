//! When a task is due: a pure function of time.
//!
//! Every cadence is a period and an offset from 1970-01-01 00:00 UTC, so that latest and next slot are one division.
//! That is exact because UTC has no summer time and Unix time counts no leap seconds.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc, Weekday};

use crate::error::{Error, Result};

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;
const WEEK: i64 = 7 * DAY;

/// How often a task is due. All times are UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cadence {
    /// Every so many minutes, counted from 1970-01-01 00:00: 1 to 10,080 (a week).
    Every(u32),
    /// Once a day.
    DailyAt {
        /// 0 to 23.
        hour: u32,
        /// 0 to 59.
        minute: u32,
    },
    /// Once a week.
    WeeklyAt {
        /// On that day.
        weekday: Weekday,
        /// 0 to 23.
        hour: u32,
        /// 0 to 59.
        minute: u32,
    },
}

impl Cadence {
    /// Refuses an hour, minute or interval out of range; the scheduler asks before it takes a task.
    pub fn check(self) -> Result<Self> {
        let is_right = match self {
            Self::Every(minutes) => (1..=10_080).contains(&minutes),
            Self::DailyAt { hour, minute } | Self::WeeklyAt { hour, minute, .. } => {
                hour < 24 && minute < 60
            }
        };
        if is_right {
            Ok(self)
        } else {
            Err(Error::invalid(
                "invalid_cadence",
                "a cadence needs an hour below 24, a minute below 60, or an interval of 1 to 10080 minutes",
            ))
        }
    }

    /// The newest slot at or before `now`.
    pub fn latest_slot(self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.slot(self.number(now))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// The first slot after `now`.
    pub fn next_slot(self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.slot(self.number(now) + 1)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The first slot at or after `from`.
    pub fn first_slot(self, from: DateTime<Utc>) -> DateTime<Utc> {
        let latest = self.latest_slot(from);
        if latest == from {
            latest
        } else {
            self.next_slot(from)
        }
    }

    /// How many slots lie at or after `from` and before `to`.
    pub fn slots_between(self, from: DateTime<Utc>, to: DateTime<Utc>) -> i64 {
        (self.number(self.first_slot(to)) - self.number(self.first_slot(from))).max(0)
    }

    /// The number of the newest slot at or before a time; slot 0 is the first of 1970.
    fn number(self, time: DateTime<Utc>) -> i64 {
        (time.timestamp() - self.offset()).div_euclid(self.period())
    }

    fn slot(self, number: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(number.checked_mul(self.period())? + self.offset(), 0)
    }

    /// In seconds; never 0, also for an unchecked cadence.
    fn period(self) -> i64 {
        match self {
            Self::Every(minutes) => i64::from(minutes.max(1)) * MINUTE,
            Self::DailyAt { .. } => DAY,
            Self::WeeklyAt { .. } => WEEK,
        }
    }

    fn offset(self) -> i64 {
        let in_day = |hour, minute| (i64::from(hour) * 60 + i64::from(minute)) * MINUTE;
        match self {
            Self::Every(_) => 0,
            Self::DailyAt { hour, minute } => in_day(hour, minute),
            // 1970-01-01 was a Thursday.
            Self::WeeklyAt {
                weekday,
                hour,
                minute,
            } => i64::from(weekday.days_since(Weekday::Thu)) * DAY + in_day(hour, minute),
        }
    }

    /// The time from one slot to the next.
    pub fn interval(self) -> TimeDelta {
        TimeDelta::seconds(self.period())
    }
}

impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(1) => f.write_str("every minute"),
            Self::Every(minutes) => write!(f, "every {minutes} minutes"),
            Self::DailyAt { hour, minute } => write!(f, "daily at {hour:02}:{minute:02} UTC"),
            Self::WeeklyAt {
                weekday,
                hour,
                minute,
            } => {
                write!(f, "weekly on {weekday} at {hour:02}:{minute:02} UTC")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike as _, Timelike as _};
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_daily_slot_is_found_before_on_and_after_its_time() {
        let daily = Cadence::DailyAt {
            hour: 2,
            minute: 30,
        };
        let slot = at("2025-03-02T02:30:00Z");
        let yesterday = at("2025-03-01T02:30:00Z");
        assert_eq!(
            daily.latest_slot(at("2025-03-02T02:29:59.999999Z")),
            yesterday
        );
        assert_eq!(daily.latest_slot(slot), slot);
        assert_eq!(daily.latest_slot(at("2025-03-02T02:30:00.000001Z")), slot);
        assert_eq!(daily.next_slot(at("2025-03-02T02:29:59.999999Z")), slot);
        assert_eq!(daily.next_slot(slot), at("2025-03-03T02:30:00Z"));
    }

    #[test]
    fn a_weekly_slot_falls_on_its_weekday_across_a_year_and_a_leap_day() {
        let weekly = Cadence::WeeklyAt {
            weekday: Weekday::Sun,
            hour: 3,
            minute: 0,
        };
        assert_eq!(
            weekly.latest_slot(at("2025-01-01T00:00:00Z")),
            at("2024-12-29T03:00:00Z")
        );
        assert_eq!(
            weekly.next_slot(at("2024-02-29T00:00:00Z")),
            at("2024-03-03T03:00:00Z")
        );
    }

    #[test]
    fn times_before_1970_work_too() {
        assert_eq!(
            Cadence::Every(60).latest_slot(at("1969-12-31T23:30:00.5Z")),
            at("1969-12-31T23:00:00Z")
        );
    }

    #[test]
    fn slots_are_counted_from_the_first_bound_to_before_the_second() {
        let daily = Cadence::DailyAt { hour: 1, minute: 0 };
        let slot = |day: u32| at(&format!("2025-03-{day:02}T01:00:00Z"));
        assert_eq!(daily.slots_between(slot(1), slot(4)), 3);
        assert_eq!(
            daily.slots_between(slot(1) + TimeDelta::microseconds(1), slot(4)),
            2
        );
        assert_eq!(daily.slots_between(slot(4), slot(4)), 0);
        assert_eq!(daily.slots_between(slot(4), slot(1)), 0);
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        let all = [
            Cadence::Every(0),
            Cadence::Every(u32::MAX),
            Cadence::DailyAt {
                hour: 99,
                minute: 99,
            },
        ];
        for cadence in all {
            assert!(cadence.check().is_err());
            for time in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
                let _ = (
                    cadence.latest_slot(time),
                    cadence.next_slot(time),
                    cadence.first_slot(time),
                );
            }
        }
    }

    fn cadences() -> impl Strategy<Value = Cadence> {
        let weekdays = (0_u8..7).prop_map(|day| Weekday::try_from(day).unwrap());
        prop_oneof![
            (1_u32..=10_080).prop_map(Cadence::Every),
            (0_u32..24, 0_u32..60).prop_map(|(hour, minute)| Cadence::DailyAt { hour, minute }),
            (weekdays, 0_u32..24, 0_u32..60).prop_map(|(weekday, hour, minute)| {
                Cadence::WeeklyAt {
                    weekday,
                    hour,
                    minute,
                }
            }),
        ]
    }

    fn times() -> impl Strategy<Value = DateTime<Utc>> {
        (-5_000_000_000_000_000_i64..5_000_000_000_000_000)
            .prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap())
    }

    proptest! {
        #[test]
        fn now_lies_between_its_latest_and_its_next_slot(cadence in cadences(), now in times()) {
            let (latest, next) = (cadence.latest_slot(now), cadence.next_slot(now));
            prop_assert!(latest <= now && now < next);
            prop_assert_eq!(next - latest, cadence.interval());
        }

        #[test]
        fn a_slot_is_its_own_latest_and_first(cadence in cadences(), now in times()) {
            let slot = cadence.next_slot(now);
            prop_assert_eq!(cadence.latest_slot(slot), slot);
            prop_assert_eq!(cadence.first_slot(slot), slot);
            prop_assert_eq!(cadence.first_slot(slot - TimeDelta::microseconds(1)), slot);
            prop_assert_eq!(cadence.latest_slot(slot - TimeDelta::microseconds(1)), cadence.latest_slot(now));
        }

        #[test]
        fn slots_carry_the_time_of_day_they_were_asked_for(cadence in cadences(), now in times()) {
            let slot = cadence.latest_slot(now);
            match cadence {
                Cadence::Every(minutes) => {
                    prop_assert_eq!(slot.timestamp().rem_euclid(i64::from(minutes) * 60), 0);
                }
                Cadence::DailyAt { hour, minute } => {
                    prop_assert_eq!((slot.hour(), slot.minute(), slot.second()), (hour, minute, 0));
                }
                Cadence::WeeklyAt { weekday, hour, minute } => {
                    prop_assert_eq!((slot.weekday(), slot.hour(), slot.minute()), (weekday, hour, minute));
                }
            }
        }

        #[test]
        fn counting_slots_agrees_with_walking_them(cadence in cadences(), from in times(), steps in 0_i32..30) {
            let to = from + cadence.interval() * steps + TimeDelta::microseconds(i64::from(steps));
            let mut walked = 0;
            let mut slot = cadence.first_slot(from);
            while slot < to {
                walked += 1;
                slot = cadence.next_slot(slot);
            }
            prop_assert_eq!(cadence.slots_between(from, to), walked);
        }
    }
}

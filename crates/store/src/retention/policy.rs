//! What is due, as a function of the day. Pure.
//!
//! Everything is judged by whole days (UTC): a day leaves when all of it is older than the policy says, so the first run
//! after that takes it as a whole. Years are those of the calendar: what was written on 29 February leaves on 1 March.
//!
//! | dataset | its day | hot | cold |
//! |---|---|---|---|
//! | metrics (C7.3, C3.5) | of the sample | 90 days | gone on day 455 |
//! | backfill jobs (C7.1) | when it ended; others stay | 180 days | 2 years more |
//! | feedback (C7.2) | of its last change | 2 years | 1 year more |
//! | history of feedback (C7.2) | of the act | 2 years | 1 year more |

use chrono::{Days, Months, NaiveDate};

use crate::{
    cold::Dataset,
    config::{MetricsSettings, RetentionSettings},
};

/// How long what is kept where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    metrics_hot_days: u64,
    metrics_days: u64,
    backfill_hot_days: u64,
    backfill_cold_months: u32,
    feedback_hot_months: u32,
    feedback_cold_months: u32,
}

impl Policy {
    /// The policy that is configured.
    pub fn new(retention: &RetentionSettings, metrics: &MetricsSettings) -> Self {
        Self {
            metrics_hot_days: u64::try_from(metrics.hot_days).unwrap_or(u64::MAX),
            metrics_days: u64::from(retention.metrics_days),
            backfill_hot_days: u64::from(retention.backfill_hot_days),
            backfill_cold_months: retention.backfill_cold_months,
            feedback_hot_months: retention.feedback_hot_months,
            feedback_cold_months: retention.feedback_cold_months,
        }
    }

    /// The first day that stays in the database; those before it are to be archived.
    pub fn hot_from(&self, dataset: Dataset, today: NaiveDate) -> NaiveDate {
        match dataset {
            Dataset::Metrics => days_before(today, self.metrics_hot_days),
            Dataset::BackfillJobs => days_before(today, self.backfill_hot_days),
            Dataset::Feedback | Dataset::FeedbackHistory => {
                months_before(today, self.feedback_hot_months)
            }
        }
    }

    /// The first day that stays in cold storage; those before it are to be deleted.
    pub fn cold_from(&self, dataset: Dataset, today: NaiveDate) -> NaiveDate {
        match dataset {
            // Gone on that very day, counted from the samples' own.
            Dataset::Metrics => days_before(today, self.metrics_days.saturating_sub(1)),
            Dataset::BackfillJobs => days_before(
                months_before(today, self.backfill_cold_months),
                self.backfill_hot_days,
            ),
            Dataset::Feedback | Dataset::FeedbackHistory => months_before(
                today,
                self.feedback_hot_months
                    .saturating_add(self.feedback_cold_months),
            ),
        }
    }

    /// Why a day is to be archived.
    pub fn why_cold(&self, dataset: Dataset) -> String {
        match dataset {
            Dataset::Metrics => format!(
                "all samples are older than {} days (C7.3)",
                self.metrics_hot_days
            ),
            Dataset::BackfillJobs => format!(
                "the jobs ended more than {} days ago (C7.1)",
                self.backfill_hot_days
            ),
            Dataset::Feedback => format!(
                "the last change is more than {} ago (C7.2)",
                spell(self.feedback_hot_months)
            ),
            Dataset::FeedbackHistory => format!(
                "the acts are more than {} old (C7.2)",
                spell(self.feedback_hot_months)
            ),
        }
    }

    /// Why an archive is to be deleted.
    pub fn why_gone(&self, dataset: Dataset) -> String {
        match dataset {
            Dataset::Metrics => format!("its samples reached day {} (C7.3)", self.metrics_days),
            Dataset::BackfillJobs => format!(
                "it was due in cold storage for {} after {} days (C7.1)",
                spell(self.backfill_cold_months),
                self.backfill_hot_days
            ),
            Dataset::Feedback | Dataset::FeedbackHistory => format!(
                "it was due in cold storage for {} after {} (C7.2)",
                spell(self.feedback_cold_months),
                spell(self.feedback_hot_months)
            ),
        }
    }
}

fn spell(months: u32) -> String {
    match (months / 12, months % 12) {
        (1, 0) => "1 year".to_owned(),
        (years, 0) if years > 0 => format!("{years} years"),
        _ => format!("{months} months"),
    }
}

fn days_before(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days))
        .unwrap_or(NaiveDate::MIN)
}

fn months_before(day: NaiveDate, months: u32) -> NaiveDate {
    day.checked_sub_months(Months::new(months))
        .unwrap_or(NaiveDate::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    fn policy() -> Policy {
        let config = Loader::default().finish().unwrap();
        Policy::new(&config.retention, &config.metrics)
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// Whether a day is hot, cold or gone on another one.
    fn place(dataset: Dataset, of: &str, today: &str) -> &'static str {
        let (of, today) = (day(of), day(today));
        if of >= policy().hot_from(dataset, today) {
            "hot"
        } else if of >= policy().cold_from(dataset, today) {
            "cold"
        } else {
            "gone"
        }
    }

    #[test]
    fn metrics_are_hot_for_90_days_and_gone_on_day_455() {
        let of = "2026-01-01";
        let on = |days| (day(of) + Days::new(days)).to_string();
        // On day 90 its last sample is 89 days old.
        let places: Vec<_> = [0, 89, 90, 91, 92, 454, 455, 456]
            .map(|days| place(Dataset::Metrics, of, &on(days)))
            .to_vec();
        assert_eq!(
            places,
            ["hot", "hot", "hot", "cold", "cold", "cold", "gone", "gone"]
        );
    }

    #[test]
    fn jobs_are_hot_for_180_days_and_cold_for_two_years() {
        let of = "2026-01-01";
        let on = |days| (day(of) + Days::new(days)).to_string();
        let places: Vec<_> = [179, 180, 181, 182]
            .map(|days| place(Dataset::BackfillJobs, of, &on(days)))
            .to_vec();
        assert_eq!(places, ["hot", "hot", "cold", "cold"]);
        // 181 days after the first of January is the first of July.
        assert_eq!(place(Dataset::BackfillJobs, of, "2028-06-30"), "cold");
        assert_eq!(place(Dataset::BackfillJobs, of, "2028-07-01"), "gone");
        assert_eq!(place(Dataset::BackfillJobs, of, "2028-07-02"), "gone");
    }

    #[test]
    fn feedback_is_hot_for_two_calendar_years_and_cold_for_a_third() {
        for dataset in [Dataset::Feedback, Dataset::FeedbackHistory] {
            let of = "2025-03-10";
            for (today, expected) in [
                ("2027-03-09", "hot"),
                ("2027-03-10", "hot"),
                ("2027-03-11", "cold"),
                ("2028-03-10", "cold"),
                ("2028-03-11", "gone"),
                ("2028-03-12", "gone"),
            ] {
                assert_eq!(place(dataset, of, today), expected, "{today}");
            }
        }
    }

    #[test]
    fn leap_days_leave_with_the_first_of_march() {
        let feedback = Dataset::Feedback;
        for (of, today, expected) in [
            ("2024-02-28", "2026-02-28", "hot"),
            ("2024-02-29", "2026-02-28", "hot"),
            ("2024-02-29", "2026-03-01", "cold"),
            ("2024-03-01", "2026-03-01", "hot"),
            ("2024-02-29", "2027-02-28", "cold"),
            ("2024-02-29", "2027-03-01", "gone"),
            // Two years before 29 February is the last of its month.
            ("2026-02-28", "2028-02-29", "hot"),
            ("2026-02-28", "2028-03-01", "cold"),
        ] {
            assert_eq!(place(feedback, of, today), expected, "{of} on {today}");
        }
        // Days are days: a leap year changes nothing.
        assert_eq!(place(Dataset::Metrics, "2023-12-01", "2024-02-29"), "hot");
        assert_eq!(place(Dataset::Metrics, "2023-12-01", "2024-03-01"), "cold");
        assert_eq!(place(Dataset::Metrics, "2023-12-01", "2025-02-27"), "cold");
        assert_eq!(place(Dataset::Metrics, "2023-12-01", "2025-02-28"), "gone");
    }

    #[test]
    fn nothing_is_due_before_the_first_of_days() {
        let first = NaiveDate::MIN;
        for dataset in Dataset::ALL {
            assert_eq!(policy().hot_from(dataset, first), first);
            assert_eq!(policy().cold_from(dataset, first), first);
        }
    }
}

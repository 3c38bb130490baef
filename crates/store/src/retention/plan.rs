//! What a run would do on a day, and why. Pure; [`super::facts`] reads what it is about.

use chrono::NaiveDate;
use serde::Serialize;
use uuid::Uuid;

use super::Policy;
use crate::cold::Dataset;

/// What is in the database of a dataset's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotDay {
    /// Of which dataset.
    pub dataset: Dataset,
    /// The day.
    pub day: NaiveDate,
    /// How many rows may leave; of samples an estimate.
    pub rows: i64,
    /// How many more are under a hold of their user or insight.
    pub held_rows: i64,
    /// Whether the whole day is under a hold.
    pub is_held: bool,
}

/// An archive in cold storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdArchive {
    /// Which.
    pub id: Uuid,
    /// Of which dataset.
    pub dataset: Dataset,
    /// Of which day.
    pub day: NaiveDate,
    /// How many rows it has.
    pub rows: i64,
    /// Whether its day is under a hold.
    pub is_held: bool,
}

/// What a plan is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Days in the database that are due, or would be on the day in question.
    pub hot: Vec<HotDay>,
    /// Archives that are in cold storage.
    pub cold: Vec<ColdArchive>,
    /// Whether anything is held by user or insight: then archives that expire are looked into.
    pub holds_rows: bool,
}

/// What is done with a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Its rows go to cold storage, and out of the database.
    Archive,
    /// Its archive is deleted.
    Expire,
    /// It stays although its time is up.
    Keep,
}

/// One thing that a run would do, or leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Of which dataset.
    #[serde(serialize_with = "by_name")]
    pub dataset: Dataset,
    /// Of which day.
    pub day: NaiveDate,
    /// What.
    pub action: Action,
    /// About how many rows.
    pub rows: i64,
    /// Why.
    pub reason: String,
    /// Of which archive, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<Uuid>,
}

/// Where the line is for a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boundary {
    /// Of which dataset.
    #[serde(serialize_with = "by_name")]
    pub dataset: Dataset,
    /// The first day that stays in the database.
    pub hot_from: NaiveDate,
    /// The first day that stays in cold storage.
    pub cold_from: NaiveDate,
}

/// What a run on a day would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The day (UTC).
    pub today: NaiveDate,
    /// Where the lines are on that day.
    pub boundaries: Vec<Boundary>,
    /// What is to be done, in this order: the oldest first.
    pub steps: Vec<Step>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn by_name<S: serde::Serializer>(dataset: &Dataset, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(dataset.name())
}

/// What a run on `today` would do with what there is.
pub fn plan(policy: &Policy, facts: &Facts, today: NaiveDate) -> Plan {
    let mut steps: Vec<Step> = Vec::new();
    for hot in &facts.hot {
        if hot.day < policy.hot_from(hot.dataset, today) {
            steps.extend(of_hot(policy, hot));
        }
    }
    for cold in &facts.cold {
        if cold.day < policy.cold_from(cold.dataset, today) {
            steps.push(of_cold(policy, cold, facts.holds_rows));
        }
    }
    // What is archived on this very run may be due to expire, too: archives come first.
    steps.sort_by_key(|step| {
        (
            step.action == Action::Expire,
            step.dataset,
            step.day,
            step.archive,
        )
    });
    Plan {
        today,
        boundaries: Dataset::ALL
            .into_iter()
            .map(|dataset| Boundary {
                dataset,
                hot_from: policy.hot_from(dataset, today),
                cold_from: policy.cold_from(dataset, today),
            })
            .collect(),
        steps,
    }
}

fn of_hot(policy: &Policy, hot: &HotDay) -> Vec<Step> {
    let step = |action, rows, reason| Step {
        dataset: hot.dataset,
        day: hot.day,
        action,
        rows,
        reason,
        archive: None,
    };
    if hot.is_held {
        let rows = hot.rows.saturating_add(hot.held_rows);
        return vec![step(
            Action::Keep,
            rows,
            "its day is under a legal hold".to_owned(),
        )];
    }
    let mut steps = Vec::new();
    // A day of samples goes even where it has none: its partition does.
    if hot.rows > 0 || hot.dataset == Dataset::Metrics {
        steps.push(step(
            Action::Archive,
            hot.rows,
            policy.why_cold(hot.dataset),
        ));
    }
    if hot.held_rows > 0 {
        steps.push(step(
            Action::Keep,
            hot.held_rows,
            "their user or insight is under a legal hold".to_owned(),
        ));
    }
    steps
}

fn of_cold(policy: &Policy, cold: &ColdArchive, holds_rows: bool) -> Step {
    let has_users = matches!(cold.dataset, Dataset::Feedback | Dataset::FeedbackHistory);
    let (action, reason) = if cold.is_held {
        (Action::Keep, "its day is under a legal hold".to_owned())
    } else if holds_rows && has_users {
        let why = policy.why_gone(cold.dataset);
        (
            Action::Expire,
            format!("{why}; rows under a legal hold stay"),
        )
    } else {
        (Action::Expire, policy.why_gone(cold.dataset))
    };
    Step {
        dataset: cold.dataset,
        day: cold.day,
        action,
        rows: cold.rows,
        reason,
        archive: Some(cold.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn hot(dataset: Dataset, on: &str, rows: i64, held_rows: i64, is_held: bool) -> HotDay {
        HotDay {
            dataset,
            day: day(on),
            rows,
            held_rows,
            is_held,
        }
    }

    fn made(facts: &Facts, today: &str) -> Vec<(String, Action, i64)> {
        let config = Loader::default().finish().unwrap();
        let policy = Policy::new(&config.retention, &config.metrics);
        plan(&policy, facts, day(today))
            .steps
            .into_iter()
            .map(|step| {
                assert!(!step.reason.is_empty());
                (
                    format!("{} {}", step.dataset.name(), step.day),
                    step.action,
                    step.rows,
                )
            })
            .collect()
    }

    #[test]
    fn what_is_not_due_is_left_alone_whatever_it_is() {
        let facts = Facts {
            hot: vec![
                hot(Dataset::Metrics, "2026-09-01", 10, 0, false),
                hot(Dataset::Feedback, "2025-01-01", 10, 3, true),
            ],
            cold: vec![ColdArchive {
                id: Uuid::nil(),
                dataset: Dataset::Metrics,
                day: day("2026-01-01"),
                rows: 5,
                is_held: false,
            }],
            holds_rows: true,
        };
        assert_eq!(made(&facts, "2026-10-01"), []);
    }

    #[test]
    fn held_days_and_rows_stay_and_the_rest_goes() {
        let facts = Facts {
            hot: vec![
                hot(Dataset::Feedback, "2024-01-02", 7, 3, false),
                hot(Dataset::Feedback, "2024-01-01", 10, 2, true),
                hot(Dataset::Feedback, "2024-01-03", 0, 4, false),
                hot(Dataset::Metrics, "2026-01-01", 0, 0, false),
            ],
            ..Facts::default()
        };
        let expected = [
            ("metrics 2026-01-01", Action::Archive, 0),
            ("feedback 2024-01-01", Action::Keep, 12),
            ("feedback 2024-01-02", Action::Archive, 7),
            ("feedback 2024-01-02", Action::Keep, 3),
            ("feedback 2024-01-03", Action::Keep, 4),
        ]
        .map(|(of, action, rows)| (of.to_owned(), action, rows));
        assert_eq!(made(&facts, "2026-10-01"), expected);
    }

    #[test]
    fn archives_go_when_their_time_is_up_unless_they_are_held() {
        let archive = |number: u128, is_held| ColdArchive {
            id: Uuid::from_u128(number),
            dataset: Dataset::FeedbackHistory,
            day: day("2023-05-05"),
            rows: 5,
            is_held,
        };
        let facts = Facts {
            cold: vec![archive(1, false), archive(2, true)],
            ..Facts::default()
        };
        assert_eq!(made(&facts, "2026-05-05"), []);
        let of = "feedback_history 2023-05-05".to_owned();
        assert_eq!(
            made(&facts, "2026-05-06"),
            [(of.clone(), Action::Keep, 5), (of, Action::Expire, 5)]
        );
    }
}

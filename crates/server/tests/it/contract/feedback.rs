//! The recorded feedback calls (`recorded_feedback.json`), in the way of [`super`]: bodies and answers that were cut when they
//! were recorded are whole again, as their names say.
//!
//! Here, too, calls are missing in the recording: between its first ratings and the first comment the second user has rated 5,
//! a user that no recorded call names has commented, and the first user has spoken of another insight. They are not guessed
//! into the replay.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Replay, check_refusal, code_of, rejected_fields};
use crate::support::Answer;

/// What is answered instead.
enum Ours {
    /// A refusal: code, rejected fields. The status is 422 for all of them.
    Refusal(&'static str, &'static [&'static str]),
    /// A success in which these parts have other values.
    Success(Vec<(&'static str, Value)>),
}

/// Members that our answers have beyond the recorded ones, by the call's last word.
const FURTHER: [(&str, &[&str]); 3] = [
    ("stats", &["bayesian_mean", "lower_bound", "lifetime"]),
    ("comments", &["next_cursor"]),
    ("user", &["next_cursor"]),
];

/// Where we answer otherwise: the call, our answer, the reason.
fn differences() -> Vec<(&'static str, Ours, &'static str)> {
    let counted = || {
        Ours::Success(vec![
            ("/average_rating", json!(3.5)),
            (
                "/rating_distribution",
                json!({"1": 0, "2": 0, "3": 1, "4": 1, "5": 0}),
            ),
            ("/total_comments", json!(3)),
        ])
    };
    let counted_why = "the second user's rating of 5 and a fourth user's comment are not recorded";
    vec![
        (
            "rate empty body",
            Ours::Refusal("malformed_json", &[]),
            "nothing is not JSON: there are no fields to name",
        ),
        (
            "rate body is a list",
            Ours::Refusal("invalid_input", &[""]),
            "a list has no fields: the body as a whole is named",
        ),
        (
            "rate insight_id 101 chars",
            Ours::Refusal("invalid_input", &["insight_id"]),
            "too long: the recorded server failed",
        ),
        (
            "comment ok",
            Ours::Success(vec![("/rating", json!(4))]),
            "the call that made the second user's rating a 5 is not recorded",
        ),
        ("stats (db)", counted(), counted_why),
        ("stats (cached)", counted(), counted_why),
        (
            "stats empty insight_id",
            Ours::Refusal("invalid_input", &["insight_id"]),
            "empty ids are refused",
        ),
        (
            "stats NUL in id",
            Ours::Refusal("invalid_input", &["insight_id"]),
            "PostgreSQL stores no NUL: the recorded server failed",
        ),
        (
            "comments limit 1 offset 0 (filter runs after LIMIT)",
            Ours::Success(vec![
                ("/comments/0/user_id", json!(THIRD)),
                ("/total", json!(3)),
            ]),
            "comments are paged after filtering, and the total is the true one",
        ),
        (
            "comments limit 1 offset 3",
            Ours::Success(vec![("/comments", json!([])), ("/total", json!(3))]),
            "there are three comments: the fourth is not recorded, and paging is after filtering",
        ),
        (
            "comments offset 2^63",
            Ours::Refusal("invalid_input", &["offset"]),
            "beyond 64 bits: the recorded server failed",
        ),
        (
            "user limit 1 offset 1",
            Ours::Success(vec![("/feedback", json!([]))]),
            "the call with which the first user spoke of another insight is not recorded",
        ),
    ]
}

/// Who commented last among the recorded calls.
const THIRD: &str = "33333333-3333-3333-3333-333333333333";

fn recorded() -> Vec<Value> {
    serde_json::from_str(include_str!("../recorded_feedback.json")).unwrap()
}

/// Takes out of an answer what only ours has.
fn without_further(path: &str, answer: &Answer) -> Value {
    let mut body = answer.json();
    let word = path.split('?').next().unwrap().rsplit('/').next().unwrap();
    for (_, members) in FURTHER.iter().filter(|(call, _)| *call == word) {
        for member in *members {
            let taken = body.as_object_mut().unwrap().remove(*member);
            assert!(taken.is_some(), "{path}: no {member}");
        }
    }
    body
}

/// Puts our values into the recorded answer. A comment that the recorded answer lacks is taken from ours, but for its user.
fn with_ours(name: &str, expected: &mut Value, values: Vec<(&str, Value)>, ours: &Value) {
    for (place, value) in values {
        if place.starts_with("/comments/0") {
            expected["comments"] = ours["comments"].clone();
            assert_eq!(expected["comments"].as_array().unwrap().len(), 1, "{name}");
        }
        let part = expected.pointer_mut(place).unwrap();
        assert!(
            *part != value || place.starts_with("/comments/0"),
            "{name}: {place} is no difference"
        );
        *part = value;
    }
}

#[tokio::test]
async fn the_recorded_feedback_calls_are_answered_as_recorded_or_as_the_design_says() {
    let mut replay = Replay::empty().await;
    let mut differences: BTreeMap<_, _> = differences()
        .into_iter()
        .map(|(name, ours, why)| (name, (ours, why)))
        .collect();
    let calls = recorded();
    assert_eq!(calls.len(), 38);
    for call in &calls {
        let (name, path) = (
            call["name"].as_str().unwrap(),
            call["path"].as_str().unwrap(),
        );
        let status = u16::try_from(call["status"].as_u64().unwrap()).unwrap();
        let mut expected: Value = serde_json::from_str(call["answer"].as_str().unwrap()).unwrap();
        let answer = replay.send(call).await;
        let difference = differences.remove(name);
        let why = difference.as_ref().map_or("as recorded", |row| row.1);
        let name = format!("{name} ({why})");
        match difference.map(|row| row.0) {
            Some(Ours::Refusal(code, fields)) => {
                check_refusal(&name, &answer, 422, code, fields);
            }
            None if status != 200 => {
                let fields = rejected_fields(&expected);
                assert!(!fields.is_empty(), "{name}");
                check_refusal(&name, &answer, status, code_of(&name, status), &fields);
            }
            success => {
                assert!(call["fault"].is_null(), "{name}");
                let statuses = (status, answer.status.as_u16());
                assert_eq!(statuses, (200, 200), "{name}: {answer:?}");
                answer.assert_common_headers();
                let ours = without_further(path, &answer);
                if let Some(Ours::Success(values)) = success {
                    with_ours(&name, &mut expected, values, &ours);
                }
                if let (Some(id), Some(new)) = (expected["id"].as_str(), ours["id"].as_str()) {
                    let new = new.to_owned();
                    replay.ids.entry(id.to_owned()).or_insert(new);
                }
                replay.compare(&name, &expected, &ours);
                let is_write = call["method"] == "POST";
                assert_eq!(answer.header("store-version").is_some(), is_write, "{name}");
            }
        }
    }
    let unused: Vec<_> = differences.keys().collect();
    assert!(unused.is_empty(), "no call needs {unused:?}");
    assert_eq!(
        replay.ids.len(),
        4,
        "four users have spoken, each under one id"
    );
}

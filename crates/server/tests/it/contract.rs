//! The platform's recorded calls, replayed in order: here those of backfill (`recorded_backfill.json`), in [`feedback`] and
//! [`metrics`] the others.
//!
//! A call is answered as it was recorded: the status, and for a success the names of all fields, the types of their
//! values, and the values themselves, but for ids, which are mapped, and times, which are shifted. Where the recorded
//! answer lists rejected fields, the same ones are named. [`differences`] has every exception with its reason; a row that
//! no call needs fails the test. A refused call leaves the first job as it was.
//!
//! The recording has holes. Between `progress missing job_id` and `get (db)` the first job was taken to block 805000,
//! completed, and made running again, by calls that are not in it. They are not guessed into the replay: there, the job
//! is what the recorded calls make it. Each way in which it may have come about is tested beside.

mod feedback;
mod metrics;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use utxoiq_store::clock::{Clock as _, SystemClock};
use uuid::Uuid;

use crate::{
    live::{Live, answer, start},
    support::Answer,
};

/// The job that was there before the first recorded call.
const FIRST_JOB: &str = "cb9f6005-0980-421e-945b-c8a183c55e90";

/// When that job was started: times are relative to it.
const RECORDED_AT: &str = "2026-11-22T23:45:22.540116";

/// How a recorded time is written: UTC, and without saying so.
const NAIVE: &str = "%Y-%m-%dT%H:%M:%S%.f";

/// What is answered instead.
enum Ours {
    /// A refusal: status, code, rejected fields.
    Refusal(u16, &'static str, &'static [&'static str]),
    /// A success in which these fields have other values, and maybe other types.
    Success(Vec<(&'static str, Value)>),
    /// A success whose member `metrics` has further fields, and other figures.
    Figures(&'static [&'static str]),
}

/// Where we answer otherwise: the call, our answer, the reason.
fn differences() -> Vec<(&'static str, Ours, &'static str)> {
    // 5,100 of 10,001 blocks, rounded down to two places.
    let percentage = ("progress_percentage", json!(50.99));
    let committed = [("current_block", json!(805_100)), percentage.clone()];
    let not_completed = ("completed_at", Value::Null);
    let as_read = || Ours::Success([&committed[..], std::slice::from_ref(&not_completed)].concat());
    let read_reason = "the calls that took the job to 805000 and completed it are not recorded; it is where 'progress \
                       estimated_completion naive' took it, and was never completed";
    vec![
        (
            "start block > int32",
            Ours::Refusal(409, "overlap", &[]),
            "blocks have 64 bits: the bounds are fine, and tested without a neighbour below; but 800000-810000 of this \
             type are being worked on",
        ),
        (
            "start duplicate range (no conflict check)",
            Ours::Refusal(409, "overlap", &[]),
            "two active jobs of one type may not overlap",
        ),
        (
            "start empty job_type",
            Ours::Refusal(422, "invalid_input", &["job_type"]),
            "empty job types are refused",
        ),
        (
            "progress estimated_completion naive",
            Ours::Success(vec![percentage]),
            "percentage and estimate are computed from committed work; the client's are checked and not stored",
        ),
        (
            "progress current_block backwards (accepted)",
            Ours::Success(committed.to_vec()),
            "progress never goes back: accepted, and nothing changes",
        ),
        (
            "progress pct NaN",
            Ours::Refusal(422, "malformed_json", &[]),
            "NaN is not JSON",
        ),
        ("get (db)", as_read(), read_reason),
        ("get (cached)", as_read(), read_reason),
        ("get uuid without dashes", as_read(), read_reason),
        (
            "database pool",
            Ours::Figures(&[
                "acquired_total",
                "active",
                "closed_aged_total",
                "closed_idle_total",
                "connect_failures",
                "connect_retries_total",
                "created_total",
                "idle",
                "max",
                "min",
                "replicas",
                "timed_out_total",
                "wait",
                "waiting",
            ]),
            "the design adds active, idle and waiting, what the pool's log says, and the pools of replicas; the figures are this pool's",
        ),
    ]
}

/// A replay under way.
struct Replay {
    live: Live,
    began: DateTime<Utc>,
    /// Our id of each recorded job.
    ids: BTreeMap<String, String>,
}

impl Replay {
    /// A service with the first job.
    async fn new() -> Self {
        let mut replay = Self::empty().await;
        let mut body = start("blocks", 800_000, 810_000);
        body["created_by"] = json!("admin@utxoiq.com");
        let job = replay.live.ok("POST /start", &[], body).await;
        let first = job["id"].as_str().unwrap().to_owned();
        replay.ids.insert(FIRST_JOB.to_owned(), first);
        replay
    }

    /// A service with nothing.
    async fn empty() -> Self {
        Self {
            began: SystemClock.now(),
            live: Live::new(&[]).await,
            ids: BTreeMap::new(),
        }
    }

    fn first_job(&self) -> &str {
        &self.ids[FIRST_JOB]
    }

    async fn send(&self, call: &Value) -> Answer {
        let text = |name: &str| call[name].as_str().unwrap();
        let mut request = self
            .live
            .authorized(text("method"), &self.mapped(text("path")));
        for (name, value) in call["headers"].as_object().unwrap() {
            request = request.header(name, value.as_str().unwrap());
        }
        let body = self.shifted(text("body"));
        if !body.is_empty() {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        answer(request).await
    }

    /// With our ids, also where they are written without dashes.
    fn mapped(&self, text: &str) -> String {
        let plain = |id: &str| id.replace('-', "");
        self.ids.iter().fold(text.to_owned(), |text, (id, ours)| {
            text.replace(id, ours).replace(&plain(id), &plain(ours))
        })
    }

    /// A recorded body with its times moved to now. What is not JSON is sent as it is.
    fn shifted(&self, body: &str) -> String {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(body) else {
            return body.to_owned();
        };
        for value in fields.values_mut() {
            if let Some(time) = value.as_str().and_then(naive) {
                let shifted = self.began + (time - naive(RECORDED_AT).unwrap());
                *value = json!(shifted.format("%Y-%m-%dT%H:%M:%S").to_string());
            }
        }
        Value::Object(fields).to_string()
    }

    /// Compares an answer with the recorded one, in which the values that differ on purpose are replaced already.
    fn compare(&self, place: &str, recorded: &Value, ours: &Value) {
        match (recorded, ours) {
            (Value::Object(recorded), Value::Object(ours)) => {
                let names = |object: &serde_json::Map<String, Value>| {
                    object.keys().cloned().collect::<BTreeSet<_>>()
                };
                assert_eq!(names(recorded), names(ours), "{place}");
                for (name, value) in recorded {
                    self.compare(&format!("{place}.{name}"), value, &ours[name]);
                }
            }
            (Value::Array(recorded), Value::Array(ours)) => {
                assert_eq!(recorded.len(), ours.len(), "{place}");
                for (index, (recorded, ours)) in recorded.iter().zip(ours).enumerate() {
                    self.compare(&format!("{place}.{index}"), recorded, ours);
                }
            }
            (Value::String(text), Value::String(ours)) if naive(text).is_some() => {
                self.check_time(place, ours);
            }
            (Value::String(text), Value::String(ours)) => {
                assert_eq!(&self.mapped(text), ours, "{place}");
            }
            // Equal numbers are of one type here: 0 is not 0.0.
            _ => assert_eq!(recorded, ours, "{place}"),
        }
    }

    /// Times say that they are UTC, and lie within the test; an estimate, which is the server's own, within a day of it.
    fn check_time(&self, place: &str, ours: &str) {
        assert!(ours.ends_with('Z'), "{place}: {ours}");
        let time = DateTime::parse_from_rfc3339(ours).unwrap().to_utc();
        let ahead = if place.ends_with(".estimated_completion") {
            TimeDelta::days(1)
        } else {
            TimeDelta::zero()
        };
        assert!(
            (self.began..=SystemClock.now() + ahead).contains(&time),
            "{place}: {ours}"
        );
    }

    fn check_figures(&self, name: &str, further: &[&str], recorded: &Value, ours: &Value) {
        assert_eq!(recorded["status"], ours["status"], "{name}");
        assert_eq!(ours.as_object().unwrap().len(), 2, "{name}: {ours}");
        let mut figures = ours["metrics"].as_object().unwrap().clone();
        for field in further {
            assert!(figures.remove(*field).is_some(), "{name}: no {field}");
        }
        let recorded = recorded["metrics"].as_object().unwrap();
        assert_eq!(
            recorded.keys().collect::<BTreeSet<_>>(),
            figures.keys().collect::<BTreeSet<_>>(),
            "{name}"
        );
        for (field, value) in recorded {
            let place = format!("{name}.{field}");
            if value.is_string() {
                self.check_time(&place, figures[field].as_str().unwrap());
            } else {
                assert!(value.is_i64() && figures[field].is_i64(), "{place}");
            }
        }
    }
}

fn recorded() -> Vec<Value> {
    serde_json::from_str(include_str!("recorded_backfill.json")).unwrap()
}

fn naive(text: &str) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(text, NAIVE).ok()
}

/// The fields that a recorded 422 rejects.
fn rejected_fields(answer: &Value) -> Vec<&str> {
    let errors = answer["detail"].as_array();
    let fields = errors.into_iter().flatten().map(|error| {
        let place = error["loc"].as_array().unwrap();
        place.last().unwrap().as_str().unwrap()
    });
    fields.collect()
}

fn check_refusal(name: &str, answer: &Answer, status: u16, code: &str, fields: &[&str]) {
    assert_eq!(answer.problem(status), code, "{name}: {answer:?}");
    assert_eq!(answer.fields(), fields, "{name}");
}

/// The code that a recorded refusal has here, by its status.
fn code_of(name: &str, status: u16) -> &'static str {
    match status {
        400 => "block_outside_job",
        404 => "job_not_found",
        422 => "invalid_input",
        _ => panic!(
            "{name}: no recorded call was answered {status}, unless it is among the differences"
        ),
    }
}

#[tokio::test]
async fn the_recorded_calls_are_answered_as_recorded_or_as_the_design_says() {
    let mut replay = Replay::new().await;
    let mut differences: BTreeMap<_, _> = differences()
        .into_iter()
        .map(|(name, ours, why)| (name, (ours, why)))
        .collect();
    let calls = recorded();
    assert_eq!(calls.len(), 24);
    for call in &calls {
        let name = call["name"].as_str().unwrap();
        let status = u16::try_from(call["status"].as_u64().unwrap()).unwrap();
        let mut expected: Value = serde_json::from_str(call["answer"].as_str().unwrap()).unwrap();
        let first_job = replay.first_job().to_owned();
        let before = replay
            .live
            .ok("GET /{job_id}", &[&first_job], Value::Null)
            .await;
        let answer = replay.send(call).await;
        let difference = differences.remove(name);
        let why = difference.as_ref().map_or("as recorded", |row| row.1);
        let name = format!("{name} ({why})");
        match difference.map(|row| row.0) {
            Some(Ours::Refusal(status, code, fields)) => {
                check_refusal(&name, &answer, status, code, fields);
            }
            Some(Ours::Figures(further)) => {
                assert_eq!(answer.status, 200, "{name}: {answer:?}");
                replay.check_figures(&name, further, &expected, &answer.json());
            }
            None if status != 200 => {
                let fields = rejected_fields(&expected);
                assert_eq!(fields.is_empty(), status != 422, "{name}");
                check_refusal(&name, &answer, status, code_of(&name, status), &fields);
            }
            success => {
                assert!(
                    call["fault"].is_null(),
                    "{name}: what failed then is among the differences"
                );
                assert_eq!(
                    (status, answer.status.as_u16()),
                    (200, 200),
                    "{name}: {answer:?}"
                );
                answer.assert_common_headers();
                if let Some(Ours::Success(values)) = success {
                    for (field, value) in values {
                        assert_ne!(expected[field], value, "{name}: {field} is no difference");
                        expected[field] = value;
                    }
                }
                let ours = answer.json();
                if let (Some(id), Some(new)) = (expected["id"].as_str(), ours["id"].as_str()) {
                    // Jobs are started one after the other: each recorded id appears first as an answer.
                    replay
                        .ids
                        .entry(id.to_owned())
                        .or_insert_with(|| new.to_owned());
                }
                replay.compare(&name, &expected, &ours);
            }
        }
        if answer.status != 200 {
            let after = replay
                .live
                .ok("GET /{job_id}", &[&first_job], Value::Null)
                .await;
            assert_eq!(before, after, "{name}");
        }
    }
    let unused: Vec<_> = differences.keys().collect();
    assert!(unused.is_empty(), "no call needs {unused:?}");
    let ids: BTreeSet<_> = replay
        .ids
        .values()
        .map(|id| Uuid::parse_str(id).unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "two jobs were started, and no others");
}

#[tokio::test]
async fn what_a_refusal_says_names_the_rule_and_the_job() {
    let replay = Replay::new().await;
    let calls = recorded();
    let named = |name: &str| calls.iter().find(|call| call["name"] == name).unwrap();
    for (name, said) in [
        (
            "progress before start",
            "current_block cannot be less than start_block",
        ),
        (
            "get unknown",
            "00000000-0000-0000-0000-000000000000 not found",
        ),
    ] {
        let recorded: Value =
            serde_json::from_str(named(name)["answer"].as_str().unwrap()).unwrap();
        assert!(
            recorded["detail"].as_str().unwrap().contains(said),
            "{name}"
        );
        let ours = replay.send(named(name)).await.json();
        assert!(ours["detail"].as_str().unwrap().contains(said), "{ours}");
    }
}

#[tokio::test]
async fn blocks_beyond_32_bits_are_fine_where_no_other_job_has_them() {
    let replay = Replay::new().await;
    let calls = recorded();
    let wide = calls
        .iter()
        .find(|call| call["name"] == "start block > int32")
        .unwrap();
    let mut body: Value = serde_json::from_str(wide["body"].as_str().unwrap()).unwrap();
    body["job_type"] = json!("wide");
    let job = replay.live.ok("POST /start", &[], body.clone()).await;
    for field in ["job_type", "start_block", "end_block"] {
        assert_eq!(job[field], body[field]);
    }
}

/// The job's second half as the recorded state has it: what a client may have sent to bring it about.
#[tokio::test]
async fn no_call_that_is_missing_in_the_recording_reopens_a_finished_job() {
    let replay = Replay::new().await;
    let (live, id) = (&replay.live, replay.first_job().to_owned());
    let call = format!("POST /progress?job_id={id}");
    let said = |block: i64, status: &str| json!({"current_block": block, "progress_percentage": 50.0, "status": status});
    live.ok(
        &call,
        &[],
        json!({"current_block": 805_100, "progress_percentage": 51.0}),
    )
    .await;

    // Completed below its end: refused, and it goes on, from where it was.
    let code = live
        .refused(&call, &[], said(805_000, "completed"), 409)
        .await;
    assert_eq!(code, "incomplete");
    let job = live.ok(&call, &[], said(805_000, "running")).await;
    assert_eq!(job["current_block"], 805_100);
    assert_eq!(
        (&job["status"], &job["completed_at"]),
        (&json!("running"), &Value::Null)
    );

    // Completed at its end: it stays so, whatever comes after.
    let done = live.ok(&call, &[], said(810_000, "completed")).await;
    assert_eq!(
        (&done["status"], &done["progress_percentage"]),
        (&json!("completed"), &json!(100.0))
    );
    assert_eq!(
        (&done["current_block"], &done["error_message"]),
        (&json!(810_000), &Value::Null)
    );
    replay.check_time("completed_at", done["completed_at"].as_str().unwrap());
    for status in ["running", "paused", "failed"] {
        let code = live.refused(&call, &[], said(805_000, status), 409).await;
        assert_eq!(code, "job_final", "{status}");
    }
    assert_eq!(live.ok("GET /{job_id}", &[&id], Value::Null).await, done);
}

//! The reporter script's calls: it chooses its job's id, and knows no lease.

use serde_json::{Value, json};

use super::{NONE, ids, text};
use crate::live::Live;

/// Ids that a script may choose, each with what is special in a path.
const ODD_IDS: [&str; 6] = [
    "run 1/2 ₿ %",
    "100%",
    "a?b=c#d&e;f+g",
    "%2F..%00",
    "../start",
    "\u{1f680}\t\"\\{job_id}",
];

/// What the reporter script sends at its start.
fn reporter_start(id: &str, last: i64) -> Value {
    json!({
        "job_id": id, "status": "running", "start_block": 0, "end_block": last, "current_block": 0,
        "blocks_processed": 0, "blocks_remaining": last + 1, "progress_percent": 0.0, "rate_blocks_per_sec": 0.0,
        "started_at": "2026-11-22T23:45:22.540116", "updated_at": "2026-11-22T23:45:22.540116Z", "error_count": 0,
    })
}

/// What it sends on its way through blocks 0 to 99.
fn reporter_progress(block: i64, errors: i64) -> Value {
    json!({
        "status": "running", "current_block": block, "blocks_processed": block, "blocks_remaining": 100 - block,
        "progress_percent": block, "rate_blocks_per_sec": 12.5, "estimated_completion": "2026-11-23T00:00:00",
        "updated_at": "2026-11-22T23:50:00", "error_count": errors, "a field of tomorrow": [1],
    })
}

/// What it sends at its end.
fn reporter_end(processed: i64, errors: i64) -> Value {
    json!({"status": "completed", "blocks_processed": processed, "progress_percent": 100.0, "error_count": errors})
}

pub async fn a_script_reports(live: &Live) {
    let id = ODD_IDS[0];
    let job = live.ok("POST ", &[], reporter_start(id, 99)).await;
    assert_eq!(
        (&job["job_type"], &job["status"]),
        (&json!("reporter"), &json!("running"))
    );
    let at = "PUT /{job_id}";
    let job = live.ok(at, &[id], reporter_progress(60, 0)).await;
    assert_eq!(
        (&job["current_block"], &job["progress_percentage"]),
        (&json!(60), &json!(60.0))
    );
    // A restarted script says its start again, and goes on.
    let again = live.ok("POST ", &[], reporter_start(id, 99)).await;
    assert_eq!(
        (&again["id"], &again["current_block"]),
        (&job["id"], &json!(60))
    );
    let done = live.ok(at, &[id], reporter_end(100, 0)).await;
    assert_eq!(
        (&done["status"], &done["progress_percentage"]),
        (&json!("completed"), &json!(100.0))
    );
    assert_eq!(
        live.ok("GET /{job_id}", &[text(&done, "id")], NONE).await,
        done
    );
    assert_eq!(
        live.refused("POST ", &[], reporter_start(id, 99), 409)
            .await,
        "job_final"
    );
}

#[tokio::test]
async fn a_script_may_choose_odd_ids_but_no_word_that_a_path_has() {
    let live = Live::new(&[]).await;
    for (index, id) in ODD_IDS.into_iter().enumerate() {
        let last = i64::try_from(index).unwrap() * 1_000;
        let mut body = reporter_start(id, last + 99);
        for field in ["start_block", "current_block"] {
            body[field] = json!(last);
        }
        let job = live.ok("POST ", &[], body).await;
        let told = live
            .ok(
                "PUT /{job_id}",
                &[id],
                json!({"status": "running", "current_block": last + 7}),
            )
            .await;
        assert_eq!(
            (&told["id"], &told["current_block"]),
            (&job["id"], &json!(last + 7)),
            "{id}"
        );
        let details = live
            .ok("GET /{job_id}/details", &[text(&job, "id")], NONE)
            .await;
        assert_eq!(details["job"]["external_id"], id);
    }
    // The last two name this folder and the one above: a client takes them out of the path.
    for word in ["start", "progress", "status", "open", ".", ".."] {
        let answer = live.call("POST ", &[], Some(reporter_start(word, 9))).await;
        assert_eq!(answer.problem(422), "invalid_input", "{word}");
        assert_eq!(answer.fields(), ["job_id"], "{word}");
    }
    let code = live
        .refused("PUT /{job_id}", &["run 2"], reporter_end(1, 0), 404)
        .await;
    assert_eq!(code, "job_not_found");
    let code = live
        .refused("POST ", &[], reporter_start(ODD_IDS[0], 98), 409)
        .await;
    assert_eq!(code, "other_range");
}

#[tokio::test]
async fn a_script_that_ends_with_errors_has_not_completed_its_job() {
    let live = Live::new(&[]).await;
    let at = "PUT /{job_id}";
    let job = live.ok("POST ", &[], reporter_start("run", 99)).await;
    live.ok(at, &["run"], reporter_progress(60, 0)).await;
    // There are holes somewhere below 80: nothing of it is taken as finished.
    assert_eq!(
        live.ok(at, &["run"], reporter_progress(80, 3)).await["current_block"],
        60
    );
    assert_eq!(
        live.refused(at, &["run"], reporter_end(100, 3), 409).await,
        "incomplete"
    );
    let failed = live.ok("GET /{job_id}", &[text(&job, "id")], NONE).await;
    assert_eq!(
        (&failed["status"], &failed["current_block"]),
        (&json!("failed"), &json!(60))
    );
    assert!(
        text(&failed, "error_message").contains("3 errors"),
        "{failed}"
    );
    assert_eq!(failed["completed_at"], NONE);
    assert_eq!(
        live.refused(at, &["run"], reporter_progress(90, 0), 409)
            .await,
        "not_running"
    );

    let resumed = live.ok("POST ", &[], reporter_start("run", 99)).await;
    assert_eq!(
        (&resumed["id"], &resumed["current_block"]),
        (&job["id"], &json!(60))
    );
    assert_eq!(
        live.refused(at, &["run"], reporter_end(39, 0), 409).await,
        "incomplete"
    );
    let failed = json!({"status": "failed", "error_message": "connection lost"});
    let failed = live.ok(at, &["run"], failed).await;
    assert_eq!(
        (&failed["status"], &failed["error_message"]),
        (&json!("failed"), &json!("connection lost"))
    );
    live.ok("POST ", &[], reporter_start("run", 99)).await;
    let done = live.ok(at, &["run"], reporter_end(40, 0)).await;
    assert_eq!(
        (&done["status"], &done["error_message"]),
        (&json!("completed"), &NONE)
    );
    let details = live
        .ok("GET /{job_id}/details", &[text(&job, "id")], NONE)
        .await;
    let outcomes: Vec<_> = details["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| &attempt["outcome"])
        .collect();
    assert_eq!(outcomes, ["failed", "failed", "completed"]);
}

#[tokio::test]
async fn a_script_that_starts_many_times_at_once_has_one_job() {
    let live = Live::new(&[]).await;
    let starts = (0..40).map(|_| live.ok("POST ", &[], reporter_start("run", 99)));
    let jobs = futures_util::future::join_all(starts).await;
    assert_eq!(jobs.len(), 40);
    for job in &jobs {
        assert_eq!(job["id"], jobs[0]["id"]);
    }
    let refused = live.refused("POST ", &[], reporter_start("other", 99), 409);
    assert_eq!(refused.await, "overlap");
    assert_eq!(ids(&live.ok("GET /status", &[], NONE).await).len(), 1);
}

#[tokio::test]
async fn a_refused_start_of_a_script_leaves_nothing_behind() {
    let live = Live::new(&[]).await;
    let mut outside = reporter_start("run", 99);
    outside["current_block"] = json!(100);
    assert_eq!(
        live.refused("POST ", &[], outside.clone(), 400).await,
        "block_outside_job"
    );
    assert_eq!(live.ok("GET /status", &[], NONE).await, json!([]));

    let job = live.ok("POST ", &[], reporter_start("run", 99)).await;
    let failed = live
        .ok(
            "PUT /{job_id}",
            &["run"],
            json!({"status": "failed", "error_message": "x"}),
        )
        .await;
    assert_eq!(
        live.refused("POST ", &[], outside, 400).await,
        "block_outside_job"
    );
    assert_eq!(
        live.ok("GET /{job_id}", &[text(&job, "id")], NONE).await,
        failed
    );
}

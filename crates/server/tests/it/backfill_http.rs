//! Each backfill call once in the work it is for, over HTTP: a worker with a lease, one without, the reporter script.

mod reporter;

use serde_json::{Value, json};

use crate::live::{Live, start};

const NONE: Value = Value::Null;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field}: {value}"))
}

/// The ranges in a list of gaps or covered ranges.
fn ranges(list: &Value) -> Vec<(i64, i64)> {
    let bounds = |range: &Value, field: &str| range[field].as_i64().unwrap();
    let list = list.as_array().unwrap().iter();
    list.map(|range| (bounds(range, "start_block"), bounds(range, "end_block")))
        .collect()
}

/// The ids in a list of jobs.
fn ids(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|job| text(job, "id"))
        .collect()
}

#[tokio::test]
async fn every_backfill_call_does_its_work() {
    let live = Live::new(&[]).await;
    let job = a_job_is_opened(&live).await;
    a_lease_is_claimed_worked_on_and_given_back(&live, &job).await;
    the_rest_is_done_after_a_rewind(&live, &job).await;
    a_job_is_steered(&live).await;
    a_worker_without_a_lease_reports(&live).await;
    reporter::a_script_reports(&live).await;
    assert_eq!(
        live.never_succeeded("/api/v1/monitoring/backfill"),
        [],
        "no good request to these calls is tested here"
    );
}

async fn a_job_is_opened(live: &Live) -> String {
    let mut wanted = start("blocks", 0, 99);
    wanted["created_by"] = json!("worker-1");
    let opened = live.ok("POST /open", &[], wanted.clone()).await;
    assert_eq!(opened["is_new"], true);
    let id = text(&opened["job"], "id").to_owned();
    for (field, value) in [
        ("job_type", json!("blocks")),
        ("start_block", json!(0)),
        ("end_block", json!(99)),
        ("current_block", json!(0)),
        ("status", json!("running")),
        ("state", json!("running")),
        ("progress_percentage", json!(0.0)),
        ("created_by", json!("worker-1")),
        ("attempt", json!(1)),
        ("covered_blocks", json!(0)),
        ("total_blocks", json!(100)),
        ("external_id", NONE),
        ("ended_at", NONE),
    ] {
        assert_eq!(opened["job"][field], value, "{field}");
    }
    let again = live.ok("POST /open", &[], wanted).await;
    assert_eq!(
        (&again["is_new"], &again["job"]["id"]),
        (&json!(false), &json!(id))
    );
    id
}

async fn a_lease_is_claimed_worked_on_and_given_back(live: &Live, id: &str) {
    let claimed = live
        .ok(
            "POST /{job_id}/claim",
            &[id],
            json!({"worker": "w1", "max_blocks": 40}),
        )
        .await;
    let claim = &claimed["claim"];
    assert_eq!(ranges(&json!([claim])), [(0, 39)]);
    assert_eq!(
        (&claimed["lease_seconds"], &claimed["job"]["id"]),
        (&json!(15.0), &json!(id))
    );
    let epoch = claim["epoch"].as_i64().unwrap();
    let claim = [id, text(claim, "claim_id")];
    let at = "POST /{job_id}/claims/{claim_id}";

    let done = |epoch: i64, first: i64, last: i64| json!({"epoch": epoch, "start_block": first, "end_block": last});
    let heard = live
        .ok(&format!("{at}/record"), &claim, done(epoch, 0, 9))
        .await;
    assert_eq!(
        (&heard["state"], &heard["finished"]),
        (&json!("running"), &json!(false))
    );
    // Sent again, as after a lost answer.
    live.ok(&format!("{at}/record"), &claim, done(epoch, 0, 9))
        .await;
    live.ok(&format!("{at}/heartbeat"), &claim, json!({"epoch": epoch}))
        .await;
    let mut error = done(epoch, 10, 19);
    error["attempted"] = json!(1);
    error["message"] = json!("rpc timeout");
    live.ok(&format!("{at}/error"), &claim, error).await;
    let kept = json!({"epoch": epoch, "block": 9, "block_hash": "00a9"});
    assert_eq!(
        live.ok(&format!("{at}/checkpoint"), &claim, kept).await,
        json!({"rewound_from": null, "verify": null})
    );
    let same = json!({"block": 9, "block_hash": "00a9"});
    assert_eq!(
        live.ok("POST /{job_id}/verify", &[id], same).await["rewound_from"],
        NONE
    );

    for (call, epoch, first, code) in [
        ("record", epoch + 1, 0, (409, "stale_lease")),
        ("record", epoch, 35, (400, "outside_claim")),
        ("record", epoch, 50, (400, "invalid_range")),
    ] {
        let refused = live
            .refused(
                &format!("{at}/{call}"),
                &claim,
                done(epoch, first, 45),
                code.0,
            )
            .await;
        assert_eq!(refused, code.1);
    }

    let details = live.ok("GET /{job_id}/details", &[id], NONE).await;
    assert_eq!(ranges(&details["covered"]), [(0, 9)]);
    assert_eq!(ranges(&details["missing"]), [(10, 39), (40, 99)]);
    assert_eq!(
        (
            &details["missing"][0]["claimed_by"],
            &details["missing"][1]["claimed_by"]
        ),
        (&json!("w1"), &NONE)
    );
    assert_eq!(details["errors"][0]["message"], "rpc timeout");
    assert_eq!(ranges(&json!([details["errors"][0]["blocks"]])), [(10, 19)]);
    assert_eq!(details["checkpoints"][0]["block_hash"], "00a9");
    assert_eq!(details["attempts"][0]["attempt"], 1);
    let state = live.ok("GET /{job_id}/state", &[id], NONE).await;
    assert_eq!(state, details["job"]);
    let gaps = live.ok("GET /{job_id}/gaps", &[id], NONE).await;
    assert_eq!(gaps["missing"], details["missing"]);

    let released = live
        .ok(&format!("{at}/release"), &claim, json!({"epoch": epoch}))
        .await;
    assert_eq!(
        (&released["covered_blocks"], &released["state"]),
        (&json!(10), &json!("running"))
    );
    let stale = live
        .refused(
            &format!("{at}/heartbeat"),
            &claim,
            json!({"epoch": epoch}),
            409,
        )
        .await;
    assert_eq!(stale, "stale_lease");
    // Given back already: no error, and nothing changes.
    let again = live
        .ok(&format!("{at}/release"), &claim, json!({"epoch": epoch}))
        .await;
    assert_eq!(again, released);
}

async fn the_rest_is_done_after_a_rewind(live: &Live, id: &str) {
    let code = live
        .refused("POST /{job_id}/complete", &[id], NONE, 409)
        .await;
    assert_eq!(code, "incomplete");
    let rewound = live
        .ok("POST /{job_id}/rewind", &[id], json!({"from_block": 5}))
        .await;
    assert_eq!(
        (&rewound["covered_blocks"], &rewound["current_block"]),
        (&json!(5), &json!(5))
    );

    let claimed = live
        .ok(
            "POST /{job_id}/claim",
            &[id],
            json!({"worker": "w2", "max_blocks": 1_000}),
        )
        .await;
    assert_eq!(ranges(&json!([claimed["claim"]])), [(5, 99)]);
    let claim = [id, text(&claimed["claim"], "claim_id")];
    let mut record = json!({"epoch": claimed["claim"]["epoch"], "start_block": 5, "end_block": 99});
    let heard = live
        .ok(
            "POST /{job_id}/claims/{claim_id}/record",
            &claim,
            record.clone(),
        )
        .await;
    assert_eq!(
        (&heard["state"], &heard["finished"]),
        (&json!("completed"), &json!(true))
    );

    let job = live.ok("POST /{job_id}/complete", &[id], NONE).await;
    assert_eq!(
        (&job["state"], &job["progress_percentage"]),
        (&json!("completed"), &json!(100.0))
    );
    assert_eq!(
        (&job["current_block"], &job["completed_at"]),
        (&json!(99), &job["ended_at"])
    );
    let read = live.ok("GET /{job_id}", &[id], NONE).await;
    assert_eq!(
        read.as_object().unwrap().len(),
        12,
        "the contract's fields and no others"
    );
    assert_eq!(read["completed_at"], job["completed_at"]);
    let undashed = id.replace('-', "");
    assert_eq!(live.ok("GET /{job_id}", &[&undashed], NONE).await, read);
    assert_eq!(
        live.ok("GET /{job_id}", &[&id.to_uppercase()], NONE).await,
        read
    );

    record["epoch"] = json!(99);
    for call in ["pause", "resume", "cancel"] {
        let code = live
            .refused(&format!("POST /{{job_id}}/{call}"), &[id], NONE, 409)
            .await;
        assert_eq!(code, "job_final", "{call}");
    }
    let code = live
        .refused(
            "POST /{job_id}/claims/{claim_id}/record",
            &claim,
            record,
            409,
        )
        .await;
    assert_eq!(code, "job_final");
    let none = live
        .ok(
            "POST /{job_id}/claim",
            &[id],
            json!({"worker": "w3", "max_blocks": 1}),
        )
        .await;
    assert_eq!(
        (&none["claim"], &none["job"]["state"]),
        (&NONE, &json!("completed"))
    );
    assert_eq!(live.ok("GET /{job_id}", &[id], NONE).await, read);
}

async fn a_job_is_steered(live: &Live) {
    let job = live.ok("POST /start", &[], start("steered", 10, 19)).await;
    let id = text(&job, "id");
    let paused = live.ok("POST /{job_id}/pause", &[id], NONE).await;
    assert_eq!(
        (&paused["state"], &paused["paused_by"]),
        (&json!("paused"), &json!("operator"))
    );
    let code = live
        .refused(
            "POST /{job_id}/claim",
            &[id],
            json!({"worker": "w", "max_blocks": 1}),
            409,
        )
        .await;
    assert_eq!(code, "not_running");
    let resumed = live.ok("POST /{job_id}/resume", &[id], NONE).await;
    assert_eq!(resumed["job"]["state"], "running");
    assert_eq!(ranges(&resumed["missing"]), [(10, 19)]);

    let failed = live
        .ok(
            "POST /{job_id}/fail",
            &[id],
            json!({"error_message": "disk full"}),
        )
        .await;
    assert_eq!(
        (&failed["state"], &failed["error_message"]),
        (&json!("failed"), &json!("disk full"))
    );
    let resumed = live.ok("POST /{job_id}/resume", &[id], NONE).await;
    assert_eq!(
        (&resumed["job"]["attempt"], &resumed["job"]["error_message"]),
        (&json!(2), &NONE)
    );

    let cancelled = live.ok("POST /{job_id}/cancel", &[id], NONE).await;
    assert_eq!(
        (&cancelled["state"], &cancelled["status"]),
        (&json!("cancelled"), &json!("failed"))
    );
    assert_eq!(
        live.ok("GET /{job_id}", &[id], NONE).await["status"],
        "failed"
    );
    let listed = live
        .ok("GET /status?status=failed&job_type=steered", &[], NONE)
        .await;
    assert_eq!(ids(&listed), [id]);
    let code = live
        .refused("POST /{job_id}/resume", &[id], NONE, 409)
        .await;
    assert_eq!(code, "job_final");
    // Its blocks are free again.
    live.ok("POST /start", &[], start("steered", 10, 19)).await;
}

async fn a_worker_without_a_lease_reports(live: &Live) {
    let job = live.ok("POST /start", &[], start("plain", 0, 9)).await;
    let id = text(&job, "id");
    let call = format!("POST /progress?job_id={id}");
    let said = |block: i64, status: &str| json!({"current_block": block, "progress_percentage": "12.5", "status": status});
    let job = live.ok(&call, &[], said(4, "running")).await;
    assert_eq!(
        (&job["current_block"], &job["progress_percentage"]),
        (&json!(4), &json!(40.0))
    );
    let code = live
        .refused(
            "POST /{job_id}/claim",
            &[id],
            json!({"worker": "w", "max_blocks": 1}),
            409,
        )
        .await;
    assert_eq!(code, "implicit_worker");
    assert_eq!(
        live.ok(&call, &[], said(4, "paused")).await["status"],
        "paused"
    );
    assert_eq!(
        live.ok(&call, &[], said(5, "running")).await["status"],
        "running"
    );
    assert_eq!(
        live.refused(&call, &[], said(8, "completed"), 409).await,
        "incomplete"
    );
    let read = live.ok("GET /{job_id}", &[id], NONE).await;
    assert_eq!(
        (&read["current_block"], &read["status"]),
        (&json!(5), &json!("running"))
    );
    let done = live.ok(&call, &[], said(9, "completed")).await;
    assert_eq!(
        (&done["status"], &done["progress_percentage"]),
        (&json!("completed"), &json!(100.0))
    );
    // Its last word again: the first answer was lost.
    assert_eq!(live.ok(&call, &[], said(9, "completed")).await, done);
    let unknown = "POST /progress?job_id=00000000-0000-0000-0000-000000000000";
    assert_eq!(
        live.refused(unknown, &[], said(1, "running"), 404).await,
        "job_not_found"
    );
}

#[tokio::test]
async fn jobs_are_listed_newest_first_filtered_and_in_pages() {
    let live = Live::new(&[]).await;
    let mut all = Vec::new();
    for index in 0..12 {
        let kind = if index % 3 == 0 { "thirds" } else { "others" };
        let job = live
            .ok("POST /start", &[], start(kind, index * 10, index * 10 + 9))
            .await;
        all.insert(0, text(&job, "id").to_owned());
    }
    for (index, call) in [(0, "pause"), (1, "cancel")] {
        live.ok(&format!("POST /{{job_id}}/{call}"), &[&all[index]], NONE)
            .await;
    }
    live.ok(
        "POST /{job_id}/fail",
        &[&all[2]],
        json!({"error_message": "x"}),
    )
    .await;

    let list = async |query: &str| {
        let jobs = live.ok(&format!("GET /status?{query}"), &[], NONE).await;
        let found = ids(&jobs);
        let found = found
            .iter()
            .map(|id| all.iter().position(|one| one == id).unwrap());
        found.collect::<Vec<_>>()
    };
    assert_eq!(
        list("").await,
        (0..10).collect::<Vec<_>>(),
        "10 unless said"
    );
    assert_eq!(list("limit=100").await, (0..12).collect::<Vec<_>>());
    assert_eq!(list("limit=3&offset=10").await, [10, 11]);
    assert_eq!(list("offset=12").await, [0; 0]);
    assert_eq!(list("limit=100&offset=9223372036854775807").await, [0; 0]);
    assert_eq!(list("status=paused").await, [0]);
    assert_eq!(list("status=failed").await, [1, 2], "cancelled ones too");
    assert_eq!(list("status=failed&offset=1").await, [2]);
    assert_eq!(list("status=completed").await, [0; 0]);
    assert_eq!(list("status=running&limit=2").await, [3, 4]);
    assert_eq!(list("job_type=thirds").await, [2, 5, 8, 11]);
    assert_eq!(
        list("job_type=thirds&status=running&limit=2&offset=1").await,
        [8, 11]
    );
    assert_eq!(list("job_type=thirds&status=failed&unknown=1").await, [2]);
    assert_eq!(list("job_type=third").await, [0; 0]);
}

//! Latest status and progress of backfill jobs, through the store and by pgbench running the same SQL (C1.2, C1.5).
//!
//! `./dev bench` starts a throw-away PostgreSQL with production's durability for it. What it prints is for people to
//! judge: nothing is asserted.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is printed: that is what it is for"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on fails"
)]

#[path = "../tests/it/support.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests use more of their databases"
)]
mod database;
#[path = "support/measure.rs"]
mod measure;

use serde_json::Value;
use utxoiq_store::{
    Store,
    backfill::{JobFilter, Progress, queries},
};

use measure::{
    Options,
    driver::drive,
    fixture::{CLAIMS_A_JOB, Fixture, JOBS_A_CLIENT},
    pgbench::Script,
    report::{C1_2, C1_5, Comparison, compare, print_table},
};

#[tokio::main]
async fn main() {
    let options = Options::from_args();
    let fixture = Fixture::new(&options).await;
    println!("latest status: {}\n", plan_of_latest(fixture.store).await);
    options.announce("pgbench");
    let comparisons = [
        latest(&options, &fixture).await,
        latest_of_type(&options, &fixture).await,
        one_job(&options, &fixture).await,
        report(&options, &fixture).await,
        record(&options, &fixture).await,
    ];
    print_table("pgbench", comparisons);
}

async fn latest(options: &Options, fixture: &Fixture) -> Option<Comparison> {
    let script = Script::new(&queries::LIST, "", &[":limit", ":offset"])
        .define("limit", 1)
        .define("offset", 0);
    let filter = JobFilter {
        limit: 1,
        ..JobFilter::default()
    };
    list(options, fixture, "latest status", &filter, &script).await
}

async fn latest_of_type(options: &Options, fixture: &Fixture) -> Option<Comparison> {
    const TYPE: &str = "transactions";
    let script = Script::new(&queries::LIST_BY_TYPE, "", &[":limit", ":offset", ":kind"])
        .define("limit", 1)
        .define("offset", 0)
        .define("kind", TYPE);
    let filter = JobFilter {
        limit: 1,
        job_type: Some(TYPE.to_owned()),
        ..JobFilter::default()
    };
    list(
        options,
        fixture,
        "latest status of a type",
        &filter,
        &script,
    )
    .await
}

async fn list(
    options: &Options,
    fixture: &Fixture,
    title: &'static str,
    filter: &JobFilter,
    script: &Script,
) -> Option<Comparison> {
    let store = fixture.store;
    let ours = async || {
        let filter = filter.clone();
        drive(options, move |_, _| {
            let filter = filter.clone();
            async move {
                let jobs = store.backfill().list(&filter).await.unwrap();
                assert_eq!(jobs.len(), 1);
            }
        })
        .await
    };
    let theirs = async || fixture.pgbench.run(options, script).await;
    compare(options, title, C1_5, ours, theirs).await
}

async fn one_job(options: &Options, fixture: &Fixture) -> Option<Comparison> {
    let (store, any_job) = (fixture.store, fixture.any_job());
    let script = Script::new(
        &queries::GET,
        "\\set job random(1, :rows)",
        &["lpad(:job::text, 32, '0')"],
    )
    .define("rows", options.rows);
    let ours = async || {
        drive(options, move |client, turn| async move {
            let job = store.backfill().get(any_job(client, turn)).await.unwrap();
            assert!(job.is_some());
        })
        .await
    };
    let theirs = async || fixture.pgbench.run(options, &script).await;
    compare(options, "status of one job", C1_5, ours, theirs).await
}

async fn report(options: &Options, fixture: &Fixture) -> Option<Comparison> {
    let (store, reported) = (fixture.store, fixture.reported());
    let set = format!(
        "\\set turn :turn + 1
\\set job :newest - :client_id * {JOBS_A_CLIENT} - :turn % {JOBS_A_CLIENT}
\\set block :job * 1000000000 + 1001 + :turn"
    );
    let parameters = ["lpad(:job::text, 32, '0')", ":block", ":now"];
    let script = Script::new(&queries::COMMIT_BELOW, &set, &parameters)
        .define("turn", -1)
        .define("newest", fixture.newest_reported())
        .define("now", fixture.began_at.to_rfc3339());
    let ours = async || {
        fixture.reset().await;
        drive(options, move |client, turn| async move {
            let (job, block) = reported(client, turn);
            let progress = Progress {
                current_block: Some(block),
                ..Progress::default()
            };
            let reported = store.backfill().report(job, &progress, store.now()).await;
            assert_eq!(reported.unwrap().current_block, block);
        })
        .await
    };
    let theirs = async || {
        fixture.reset().await;
        fixture.pgbench.run(options, &script).await
    };
    compare(
        options,
        "progress without a lease, committed",
        C1_2,
        ours,
        theirs,
    )
    .await
}

async fn record(options: &Options, fixture: &Fixture) -> Option<Comparison> {
    let (store, recorded) = (fixture.store, fixture.recorded());
    let set = format!(
        "\\set turn :turn + 1
\\set job :rows - :client_id / {CLAIMS_A_JOB}
\\set epoch 1 + :client_id % {CLAIMS_A_JOB}
\\set start :job * 1000000000 + 1000 + (:epoch - 1) * 100000000 + :turn
\\set end :start + 1"
    );
    let parameters = [
        "lpad(:job::text, 32, '0')",
        "lpad(:client_id::text, 32, '0')",
        ":epoch",
        ":start",
        ":end",
        ":now",
        ":lease",
    ];
    let lease = fixture.began_at + chrono::TimeDelta::days(1);
    let script = Script::new(&queries::RECORD, &set, &parameters)
        .define("turn", -1)
        .define("rows", options.rows)
        .define("now", fixture.began_at.to_rfc3339())
        .define("lease", lease.to_rfc3339());
    let ours = async || {
        fixture.reset().await;
        drive(options, move |client, turn| async move {
            let (claim, blocks) = recorded(client, turn);
            store
                .backfill()
                .record(claim, blocks, store.now())
                .await
                .unwrap();
        })
        .await
    };
    let theirs = async || {
        fixture.reset().await;
        fixture.pgbench.run(options, &script).await
    };
    compare(
        options,
        "progress on a claim, committed",
        C1_2,
        ours,
        theirs,
    )
    .await
}

/// How PostgreSQL finds the latest status for the store: indexes, buffers, and time once it is planned.
async fn plan_of_latest(store: &Store) -> String {
    let connection = store.pool().get().await.unwrap();
    let prepare = format!("prepare latest (bigint, bigint) as {}", queries::LIST.sql);
    connection.batch_execute(&prepare).await.unwrap();
    connection
        .simple_query("execute latest (1, 0)")
        .await
        .unwrap();
    let explain = "explain (analyze, buffers, format json) execute latest (1, 0)";
    let plan: Value = connection.query_one(explain, &[]).await.unwrap().get(0);
    let plan = &plan[0];
    let mut scans = Vec::new();
    collect_scans(&plan["Plan"], &mut scans);
    format!(
        "{}; {} buffers, {} of them read; planned in {} ms, executed in {} ms",
        scans.join(", "),
        plan["Plan"]["Shared Hit Blocks"].as_i64().unwrap_or(0)
            + plan["Plan"]["Shared Read Blocks"].as_i64().unwrap_or(0),
        plan["Plan"]["Shared Read Blocks"],
        plan["Planning Time"],
        plan["Execution Time"],
    )
}

/// `Index Scan of backfill_jobs by backfill_jobs_started_idx`, for each table of a plan.
fn collect_scans(node: &Value, scans: &mut Vec<String>) {
    if let (Some(kind), Some(table)) = (node["Node Type"].as_str(), node["Relation Name"].as_str())
    {
        let index = node["Index Name"].as_str();
        let index = index.map_or_else(String::new, |index| format!(" by {index}"));
        scans.push(format!("{kind} of {table}{index}"));
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        collect_scans(child, scans);
    }
}

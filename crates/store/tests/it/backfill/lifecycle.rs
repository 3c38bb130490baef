//! Start, pause, resume, fail, cancel, complete (C1.1, C1.3, C1.4), and silence.

use utxoiq_store::{
    Kind,
    backfill::{JobFilter, Status, queries},
    error::Result,
};
use uuid::Uuid;

use super::{at, claimed, new_job, noon, range, ranges, started, store};

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().code()
}

#[tokio::test]
async fn starting_a_job_makes_a_running_record() {
    let (db, store) = store().await;
    let job = started(&store, 800_000, 810_000).await;
    assert_eq!(
        (job.status, job.current_block, job.progress_percentage),
        (Status::Running, 800_000, 0.0)
    );
    assert_eq!(
        (job.started_at, job.estimated_completion, job.completed_at),
        (noon(), None, None)
    );
    let row = db
        .admin()
        .await
        .query_one(
            "select status, start_block, end_block, created_by from backfill_jobs where id = $1",
            &[&job.id],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "running");
    assert_eq!(
        (row.get::<_, i64>(1), row.get::<_, i64>(2)),
        (800_000, 810_000)
    );
    assert_eq!(store.backfill().get(job.id).await.unwrap(), Some(job));
    assert_eq!(store.backfill().get(Uuid::nil()).await.unwrap(), None);
}

#[tokio::test]
async fn active_jobs_of_one_type_never_overlap_and_ended_ones_are_no_obstacle() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 100, 200).await;
    for (first, last) in [(200, 300), (0, 100), (150, 150), (0, 1_000)] {
        let error = backfill
            .start(&new_job("blocks", first, last), noon())
            .await
            .unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::Conflict, "overlap"));
        assert!(error.message().contains(&job.id.to_string()), "{error}");
    }
    for (kind, first, last) in [
        ("blocks", 201, 300),
        ("blocks", 0, 99),
        ("transactions", 100, 200),
    ] {
        backfill
            .start(&new_job(kind, first, last), noon())
            .await
            .unwrap();
    }
    backfill.pause(job.id).await.unwrap();
    assert_eq!(
        code(backfill.start(&new_job("blocks", 150, 160), noon()).await),
        "overlap"
    );
    backfill.fail(job.id, "gone", at(1)).await.unwrap();
    let other = backfill
        .start(&new_job("blocks", 150, 160), at(2))
        .await
        .unwrap();
    assert_eq!(code(backfill.resume(job.id, at(3)).await), "overlap");
    backfill.cancel(other.id, at(4)).await.unwrap();
    assert_eq!(backfill.resume(job.id, at(5)).await.unwrap().0.attempt, 2);
}

#[tokio::test]
async fn of_fifty_overlapping_starts_at_once_exactly_one_succeeds() {
    let db = crate::support::TestDb::new().await;
    // Fifty take turns: on a busy machine the last waits longer than a request would.
    let patient = [("UTXOIQ_STORE_DATABASE__LOCK_TIMEOUT_MILLISECONDS", "10000")];
    let store = utxoiq_store::Store::open(db.settings_with(&patient)).unwrap();
    let starts = (0..50).map(|index| {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .backfill()
                .start(&new_job("blocks", index, index + 100), noon())
                .await
        })
    });
    let mut started = 0;
    for start in starts.collect::<Vec<_>>() {
        match start.await.unwrap() {
            Ok(_) => started += 1,
            Err(error) => assert_eq!(error.code(), "overlap", "{error:?}"),
        }
    }
    assert_eq!(started, 1);
}

#[tokio::test]
async fn the_schema_itself_refuses_a_completed_job_with_holes_and_overlapping_jobs() {
    let (db, store) = store().await;
    let job = started(&store, 100, 200).await;
    let admin = db.admin().await;
    for (sql, constraint) in [
        ("update backfill_jobs set status = 'completed', ended_at = started_at", "backfill_jobs_completed_check"),
        ("update backfill_jobs set covered = '{[100,202)}'", "backfill_jobs_covered_check"),
        ("update backfill_jobs set status = 'failed', ended_at = started_at", "backfill_jobs_failed_check"),
        (
            "insert into backfill_jobs select gen_random_uuid(), job_type, 150, 160, status, covered, attempt,
             attempt_started_at, attempt_covered_blocks, claim_epoch, null, null, null, null, started_at, progressed_at,
             heard_at from backfill_jobs",
            "backfill_jobs_no_overlap",
        ),
    ] {
        let error = admin.execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.as_db_error().and_then(|error| error.constraint()), Some(constraint), "{error:?}");
    }
    assert_eq!(store.backfill().get(job.id).await.unwrap(), Some(job));
}

#[tokio::test]
async fn a_failed_job_keeps_its_error_and_goes_on_as_a_new_attempt_with_what_is_missing() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 999).await;
    let claim = claimed(&store, job.id, "a", 300, at(1)).await;
    backfill
        .record(claim.key(), range(0, 99), at(2))
        .await
        .unwrap();
    backfill
        .record(claim.key(), range(200, 249), at(3))
        .await
        .unwrap();
    let failed = backfill.fail(job.id, "rpc timeout", at(4)).await.unwrap();
    assert_eq!(
        (failed.status, failed.error_message.as_deref()),
        (Status::Failed, Some("rpc timeout"))
    );
    assert_eq!(
        (failed.completed_at, failed.ended_at, failed.covered_blocks),
        (None, Some(at(4)), 150)
    );
    assert_eq!(
        code(backfill.record(claim.key(), range(100, 199), at(5)).await),
        "stale_lease"
    );

    let (resumed, missing) = backfill.resume(job.id, at(10)).await.unwrap();
    assert_eq!(
        (resumed.status, resumed.attempt, resumed.error_message),
        (Status::Running, 2, None)
    );
    assert_eq!(ranges(&missing), [(100, 199), (250, 999)]);
    // The rate, and so the estimate, is the new attempt's own.
    assert_eq!(resumed.estimated_completion, None);
    let claim = claimed(&store, job.id, "b", 100, at(20)).await;
    backfill
        .record(claim.key(), range(100, 199), at(30))
        .await
        .unwrap();
    let job = backfill.get(job.id).await.unwrap().unwrap();
    assert_eq!(job.estimated_completion, Some(at(30 + 750 / 5)));

    let details = backfill.details(job.id, at(31)).await.unwrap().unwrap();
    let outcomes: Vec<_> = details
        .attempts
        .iter()
        .map(|attempt| {
            (
                attempt.outcome.as_deref(),
                attempt.error_message.as_deref(),
                attempt.covered_blocks,
            )
        })
        .collect();
    assert_eq!(
        outcomes,
        [(Some("failed"), Some("rpc timeout"), 0), (None, None, 150)]
    );
    assert_eq!(details.covered, [range(0, 249)]);
}

#[tokio::test]
async fn completed_and_cancelled_are_final() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let done = started(&store, 0, 9).await;
    let claim = claimed(&store, done.id, "a", 10, at(1)).await;
    let heard = backfill
        .record(claim.key(), range(0, 9), at(2))
        .await
        .unwrap();
    assert_eq!((heard.status, heard.finished), (Status::Completed, true));
    let cancelled = started(&store, 100, 109).await;
    backfill.cancel(cancelled.id, at(1)).await.unwrap();
    for id in [done.id, cancelled.id] {
        let before = backfill.get(id).await.unwrap();
        assert_eq!(code(backfill.pause(id).await), "job_final");
        assert_eq!(code(backfill.resume(id, at(3)).await), "job_final");
        assert_eq!(code(backfill.fail(id, "no", at(3)).await), "job_final");
        assert_eq!(
            code(
                backfill
                    .rewind(id, before.as_ref().unwrap().blocks.start)
                    .await
            ),
            "job_final"
        );
        assert_eq!(backfill.get(id).await.unwrap(), before);
    }
    // The same word twice is the retry of one whose answer was lost.
    assert_eq!(
        backfill
            .complete(done.id, at(5))
            .await
            .unwrap()
            .completed_at,
        Some(at(2))
    );
    assert_eq!(
        backfill.cancel(cancelled.id, at(5)).await.unwrap().ended_at,
        Some(at(1))
    );
    assert_eq!(code(backfill.cancel(done.id, at(5)).await), "job_final");
}

#[tokio::test]
async fn completing_needs_the_whole_ledger() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 99).await;
    let claim = claimed(&store, job.id, "a", 100, at(1)).await;
    backfill
        .record(claim.key(), range(0, 49), at(2))
        .await
        .unwrap();
    backfill
        .record(claim.key(), range(51, 99), at(2))
        .await
        .unwrap();
    let error = backfill.complete(job.id, at(3)).await.unwrap_err();
    assert_eq!(error.code(), "incomplete");
    assert!(
        error.message().contains("99 of 100") && error.message().contains("50"),
        "{error}"
    );
    let now = backfill.get(job.id).await.unwrap().unwrap();
    assert_eq!((now.progress_percentage, now.current_block), (99.0, 50));
    assert_eq!(
        backfill
            .record(claim.key(), range(50, 50), at(4))
            .await
            .unwrap()
            .status,
        Status::Completed
    );
    let job = backfill.complete(job.id, at(5)).await.unwrap();
    assert_eq!(
        (job.status, job.completed_at, job.progress_percentage),
        (Status::Completed, Some(at(4)), 100.0)
    );
}

#[tokio::test]
async fn a_silent_job_fails_as_worker_lost_and_its_work_is_kept() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let leased = started(&store, 0, 99).await;
    let claim = claimed(&store, leased.id, "a", 50, at(0)).await;
    backfill
        .record(claim.key(), range(0, 9), at(10))
        .await
        .unwrap();
    let paused = started(&store, 200, 299).await;
    backfill.pause(paused.id).await.unwrap();
    let alive = started(&store, 300, 399).await;
    let other = claimed(&store, alive.id, "b", 50, at(0)).await;
    for beat in 1..=100 {
        backfill
            .heartbeat(other.key(), at(beat * 10))
            .await
            .unwrap();
    }
    assert_eq!(
        backfill.fail_silent(at(909)).await.unwrap(),
        [] as [Uuid; 0]
    );
    assert_eq!(backfill.fail_silent(at(910)).await.unwrap(), [leased.id]);
    let job = backfill.get(leased.id).await.unwrap().unwrap();
    assert_eq!(job.status, Status::Failed);
    assert!(job.error_message.unwrap().starts_with("worker lost"));
    assert_eq!(
        ranges(&backfill.resume(leased.id, at(911)).await.unwrap().1),
        [(10, 99)]
    );
    assert_eq!(
        backfill.fail_silent(at(912)).await.unwrap(),
        [] as [Uuid; 0]
    );
    assert_eq!(
        backfill.get(alive.id).await.unwrap().unwrap().status,
        Status::Running
    );
    assert_eq!(
        backfill.get(paused.id).await.unwrap().unwrap().status,
        Status::Paused
    );
}

#[tokio::test]
async fn opening_answers_the_same_job_to_all_and_starts_one_only_where_none_is() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let new = new_job("blocks", 0, 99);
    let opens = (0..20).map(|_| {
        let (store, new) = (store.clone(), new.clone());
        tokio::spawn(async move { store.backfill().open(&new, false, noon()).await.unwrap() })
    });
    let mut opened = Vec::new();
    for open in opens.collect::<Vec<_>>() {
        opened.push(open.await.unwrap());
    }
    assert_eq!(opened.iter().filter(|opened| opened.is_new).count(), 1);
    let id = opened[0].job.id;
    assert!(opened.iter().all(|opened| opened.job.id == id));

    backfill.fail(id, "no", at(1)).await.unwrap();
    let again = backfill.open(&new, false, at(2)).await.unwrap();
    assert_eq!(
        (again.job.id, again.job.attempt, again.is_new),
        (id, 2, false)
    );
    backfill.pause(id).await.unwrap();
    assert_eq!(
        backfill.open(&new, false, at(3)).await.unwrap().job.status,
        Status::Paused
    );
    backfill.cancel(id, at(4)).await.unwrap();
    assert_eq!(
        backfill.open(&new, false, at(5)).await.unwrap().job.status,
        Status::Cancelled
    );
    assert!(backfill.open(&new, true, at(6)).await.unwrap().is_new);
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_filtered_by_what_clients_see() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let mut ids = Vec::new();
    for index in 0..6 {
        let kind = if index % 2 == 0 { "even" } else { "odd" };
        let job = backfill
            .start(&new_job(kind, index * 10, index * 10 + 9), at(index))
            .await
            .unwrap();
        ids.insert(0, job.id);
    }
    backfill.cancel(ids[0], at(10)).await.unwrap();
    backfill.fail(ids[1], "no", at(10)).await.unwrap();
    let list = async |status, job_type: Option<&str>, limit, offset| {
        let filter = JobFilter {
            status,
            job_type: job_type.map(str::to_owned),
            limit,
            offset,
        };
        backfill
            .list(&filter)
            .await
            .unwrap()
            .into_iter()
            .map(|job| job.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 10, 0).await, ids);
    assert_eq!(list(None, None, 2, 3).await, ids[3..5]);
    assert_eq!(list(Some(Status::Failed), None, 10, 0).await, ids[..2]);
    assert_eq!(
        list(Some(Status::Running), Some("even"), 10, 0).await,
        [ids[3], ids[5]]
    );
    assert_eq!(list(None, Some("odd"), 1, 0).await, [ids[0]]);
    assert_eq!(list(None, Some("none"), 10, 0).await, [] as [Uuid; 0]);
}

#[tokio::test]
async fn every_list_is_read_from_an_index_of_its_own() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    admin
        .batch_execute(
            "insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
                 attempt_covered_blocks, claim_epoch, error_message, paused_by, started_at, progressed_at, heard_at, ended_at)
             select gen_random_uuid(), 'type-' || n % 20, n, n, status,
                 case status when 'completed' then int8multirange(int8range(n, n + 1)) else '{}' end, 1, t, 0, 0,
                 'no', case status when 'paused' then 'operator' end, t, t, t,
                 case when status in ('completed', 'failed') then t end
             from (select n, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second' as t,
                          (array['running', 'paused', 'completed', 'failed'])[1 + n / 20 % 4] as status
                   from generate_series(1, 20000) n) jobs;
             analyze backfill_jobs;",
        )
        .await
        .unwrap();
    let cases: [(&utxoiq_store::db::Statement, &str, &str); 6] = [
        (
            &queries::NEWEST_OF_RANGE,
            "'type-1', 1, 1",
            "backfill_jobs_range_idx",
        ),
        (&queries::LIST, "10, 0", "backfill_jobs_started_idx"),
        (
            &queries::LIST_BY_STATUS,
            "10, 0, 'running'",
            "backfill_jobs_status_started_idx",
        ),
        (
            &queries::LIST_BY_TYPE,
            "10, 0, 'type-1'",
            "backfill_jobs_type_started_idx",
        ),
        (
            &queries::LIST_BY_TYPE_AND_STATUS,
            "10, 0, 'type-1', 'running'",
            "backfill_jobs_type_status_started_idx",
        ),
        (&queries::GET, "gen_random_uuid()", "backfill_jobs_pkey"),
    ];
    for (statement, args, index) in cases {
        admin
            .batch_execute("set plan_cache_mode = force_generic_plan; deallocate all")
            .await
            .unwrap();
        admin
            .batch_execute(&format!("prepare asked as {}", statement.sql))
            .await
            .unwrap();
        let plan = admin
            .query(&format!("explain execute asked({args})"), &[])
            .await
            .unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(
            plan.contains(index) && !plan.contains("Seq Scan on backfill_jobs"),
            "{}\n{plan}",
            statement.name
        );
    }
    drop(store);
}

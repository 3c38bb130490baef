//! The contract's calls that know no lease, and the reporter script's.

use utxoiq_store::{
    Kind,
    backfill::{Progress, ReportedStart, Status},
};
use uuid::Uuid;

use super::{at, claimed, noon, range, ranges, started, store};

fn progress(block: i64) -> Progress {
    Progress {
        current_block: Some(block),
        ..Progress::default()
    }
}

fn wants(block: Option<i64>, status: Status) -> Progress {
    Progress {
        current_block: block,
        status: Some(status),
        ..Progress::default()
    }
}

#[tokio::test]
async fn progress_commits_everything_below_and_never_goes_back() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 800_000, 810_000).await;
    let job = backfill
        .report(job.id, &progress(805_000), at(100))
        .await
        .unwrap();
    assert_eq!(
        (
            job.current_block,
            job.covered_blocks,
            job.progress_percentage
        ),
        (805_000, 5_000, 49.99)
    );
    // 5,000 blocks in 100 s: 5,001 more take 100.02 s.
    assert_eq!(
        job.estimated_completion,
        Some(at(200) + chrono::TimeDelta::milliseconds(20))
    );
    let back = backfill
        .report(job.id, &progress(800_500), at(150))
        .await
        .unwrap();
    assert_eq!(
        (back.current_block, back.estimated_completion),
        (805_000, job.estimated_completion)
    );
    for block in [799_999, 810_001] {
        let error = backfill
            .report(job.id, &progress(block), at(160))
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Invalid, "block_outside_job")
        );
    }
    let unknown = backfill
        .report(Uuid::nil(), &progress(1), at(160))
        .await
        .unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
}

#[tokio::test]
async fn completed_at_the_last_block_commits_all_and_below_it_is_incomplete() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 100, 200).await;
    let below = backfill
        .report(job.id, &wants(Some(199), Status::Completed), at(1))
        .await
        .unwrap_err();
    assert_eq!((below.kind(), below.code()), (Kind::Conflict, "incomplete"));
    assert_eq!(
        backfill.get(job.id).await.unwrap().unwrap().covered_blocks,
        0
    );
    let last = backfill
        .report(job.id, &progress(200), at(2))
        .await
        .unwrap();
    assert_eq!((last.status, last.covered_blocks), (Status::Running, 100));
    let done = backfill
        .report(job.id, &wants(Some(200), Status::Completed), at(3))
        .await
        .unwrap();
    assert_eq!(
        (done.status, done.completed_at, done.progress_percentage),
        (Status::Completed, Some(at(3)), 100.0)
    );
    assert_eq!(
        backfill
            .report(job.id, &wants(Some(200), Status::Completed), at(4))
            .await
            .unwrap(),
        done
    );
    assert_eq!(
        backfill
            .report(job.id, &progress(200), at(4))
            .await
            .unwrap_err()
            .code(),
        "job_final"
    );
    assert_eq!(
        backfill
            .report(job.id, &wants(Some(200), Status::Failed), at(4))
            .await
            .unwrap_err()
            .code(),
        "job_final"
    );
}

#[tokio::test]
async fn failing_stores_the_message_and_the_job_can_be_resumed() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 99).await;
    let report = Progress {
        error_message: Some("rpc timeout".into()),
        ..wants(Some(40), Status::Failed)
    };
    let failed = backfill.report(job.id, &report, at(1)).await.unwrap();
    assert_eq!(
        (failed.status, failed.error_message.as_deref()),
        (Status::Failed, Some("rpc timeout"))
    );
    assert_eq!((failed.current_block, failed.completed_at), (40, None));
    assert_eq!(
        backfill
            .report(job.id, &progress(50), at(2))
            .await
            .unwrap_err()
            .code(),
        "not_running"
    );
    assert_eq!(
        ranges(&backfill.resume(job.id, at(3)).await.unwrap().1),
        [(40, 99)]
    );
    assert_eq!(
        backfill
            .report(job.id, &progress(50), at(4))
            .await
            .unwrap()
            .current_block,
        50
    );
}

#[tokio::test]
async fn an_operators_pause_holds_and_the_workers_own_ends_when_it_goes_on() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 99).await;
    backfill.pause(job.id).await.unwrap();
    let told = backfill
        .report(job.id, &wants(Some(10), Status::Running), at(1))
        .await
        .unwrap();
    assert_eq!((told.status, told.current_block), (Status::Paused, 10));
    backfill.resume(job.id, at(2)).await.unwrap();
    let paused = backfill
        .report(job.id, &wants(Some(20), Status::Paused), at(3))
        .await
        .unwrap();
    assert_eq!(
        (paused.status, paused.paused_by.as_deref()),
        (Status::Paused, Some("worker"))
    );
    assert_eq!(
        backfill
            .report(job.id, &progress(25), at(4))
            .await
            .unwrap()
            .status,
        Status::Paused
    );
    let on = backfill
        .report(job.id, &wants(Some(30), Status::Running), at(5))
        .await
        .unwrap();
    assert_eq!((on.status, on.current_block), (Status::Running, 30));
}

#[tokio::test]
async fn the_implicit_worker_and_workers_with_leases_keep_each_other_out() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let leased = started(&store, 0, 99).await;
    let claim = claimed(&store, leased.id, "a", 50, at(0)).await;
    assert_eq!(
        backfill
            .report(leased.id, &progress(60), at(1))
            .await
            .unwrap_err()
            .code(),
        "leased"
    );
    assert_eq!(
        backfill
            .report(leased.id, &wants(Some(99), Status::Completed), at(1))
            .await
            .unwrap_err()
            .code(),
        "leased"
    );
    assert_eq!(
        backfill
            .get(leased.id)
            .await
            .unwrap()
            .unwrap()
            .covered_blocks,
        0
    );
    backfill
        .record(claim.key(), range(0, 9), at(2))
        .await
        .unwrap();
    // When its lease is over, what it finished counts, and the implicit worker may write.
    assert_eq!(
        backfill
            .report(leased.id, &progress(5), at(17))
            .await
            .unwrap()
            .current_block,
        10
    );

    let implicit = started(&store, 200, 299).await;
    backfill
        .report(implicit.id, &progress(250), at(0))
        .await
        .unwrap();
    let error = backfill
        .claim(implicit.id, "b", 50, at(899))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Conflict, "implicit_worker")
    );
    assert_eq!(
        claimed(&store, implicit.id, "b", 50, at(900)).await.blocks,
        range(250, 299)
    );
}

#[tokio::test]
async fn a_silent_implicit_worker_is_lost_after_fifteen_minutes() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 99).await;
    backfill
        .report(job.id, &progress(10), at(60))
        .await
        .unwrap();
    assert!(backfill.fail_silent(at(959)).await.unwrap().is_empty());
    assert_eq!(backfill.fail_silent(at(960)).await.unwrap(), [job.id]);
    let (resumed, missing) = backfill.resume(job.id, at(961)).await.unwrap();
    assert_eq!((resumed.attempt, ranges(&missing)), (2, vec![(10, 99)]));
    // The new attempt is free for workers with leases at once.
    assert_eq!(
        claimed(&store, job.id, "a", 50, at(962)).await.blocks,
        range(10, 59)
    );
}

fn reported(id: &str, first: i64, last: i64) -> ReportedStart {
    ReportedStart {
        external_id: id.into(),
        blocks: range(first, last),
        current_block: Some(first),
        error_count: 0,
    }
}

#[tokio::test]
async fn the_reporters_start_resumes_the_job_of_its_id() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = backfill
        .start_reported(&reported("run / 1 ₿", 0, 99), at(0))
        .await
        .unwrap();
    assert_eq!(
        (job.job_type.as_str(), job.external_id.as_deref()),
        ("reporter", Some("run / 1 ₿"))
    );
    backfill
        .report_external("run / 1 ₿", &progress(40), at(1))
        .await
        .unwrap();
    let report = Progress {
        status: Some(Status::Failed),
        ..Progress::default()
    };
    let failed = backfill
        .report_external("run / 1 ₿", &report, at(2))
        .await
        .unwrap();
    assert_eq!(
        failed.error_message.as_deref(),
        Some("the worker gave no reason")
    );
    let again = backfill
        .start_reported(&reported("run / 1 ₿", 0, 99), at(3))
        .await
        .unwrap();
    assert_eq!(
        (again.id, again.attempt, again.current_block),
        (job.id, 2, 40)
    );
    let other = backfill
        .start_reported(&reported("run / 1 ₿", 0, 98), at(4))
        .await
        .unwrap_err();
    assert_eq!(other.code(), "other_range");
    let unknown = backfill
        .report_external("run 2", &progress(40), at(5))
        .await
        .unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_refused_start_of_the_reporter_starts_and_resumes_nothing() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let outside = ReportedStart {
        current_block: Some(100),
        ..reported("a", 0, 99)
    };
    let error = backfill.start_reported(&outside, at(0)).await.unwrap_err();
    assert_eq!(error.code(), "block_outside_job");
    assert!(backfill.get_external("a").await.unwrap().is_none());

    let job = backfill
        .start_reported(&reported("a", 0, 99), at(1))
        .await
        .unwrap();
    let failed = backfill.fail(job.id, "x", at(2)).await.unwrap();
    let error = backfill.start_reported(&outside, at(3)).await.unwrap_err();
    assert_eq!(error.code(), "block_outside_job");
    assert_eq!(backfill.get_external("a").await.unwrap().unwrap(), failed);
}

#[tokio::test]
async fn the_reporters_end_counts_only_without_errors_and_with_all_blocks_processed() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let ended = |processed, errors| Progress {
        status: Some(Status::Completed),
        blocks_processed: processed,
        error_count: errors,
        ..Progress::default()
    };
    backfill
        .start_reported(&reported("a", 0, 99), at(0))
        .await
        .unwrap();
    backfill
        .report_external("a", &progress(60), at(1))
        .await
        .unwrap();
    // With errors, nobody knows where the holes are: nothing further is committed.
    let holes = Progress {
        error_count: 2,
        ..progress(80)
    };
    assert_eq!(
        backfill
            .report_external("a", &holes, at(2))
            .await
            .unwrap()
            .current_block,
        60
    );
    let error = backfill
        .report_external("a", &ended(Some(100), 2), at(3))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Conflict, "incomplete"));
    let job = backfill.get_external("a").await.unwrap().unwrap();
    assert_eq!((job.status, job.covered_blocks), (Status::Failed, 60));
    assert!(job.error_message.unwrap().contains("2 errors"));

    let resumed = backfill
        .start_reported(&reported("a", 0, 99), at(4))
        .await
        .unwrap();
    assert_eq!(resumed.attempt, 2);
    let few = backfill
        .report_external("a", &ended(Some(39), 0), at(5))
        .await
        .unwrap_err();
    assert_eq!(few.code(), "incomplete");
    let done = backfill
        .report_external("a", &ended(Some(40), 0), at(6))
        .await
        .unwrap();
    assert_eq!((done.status, done.covered_blocks), (Status::Completed, 100));
    assert_eq!(
        backfill
            .start_reported(&reported("a", 0, 99), at(7))
            .await
            .unwrap_err()
            .code(),
        "job_final"
    );
    // Its last word again: the first answer was lost.
    assert_eq!(
        backfill
            .report_external("a", &ended(Some(40), 0), at(8))
            .await
            .unwrap(),
        done
    );
}

#[tokio::test]
async fn plain_progress_takes_one_statement_and_no_index_is_touched() {
    let (db, store) = store().await;
    let job = started(&store, 0, 9_999).await;
    for block in 1..=200 {
        store
            .backfill()
            .report(job.id, &progress(block), noon())
            .await
            .unwrap();
    }
    let admin = db.admin().await;
    admin
        .batch_execute("select pg_stat_force_next_flush()")
        .await
        .unwrap();
    drop(store);
    let mut seen = (0, 0);
    for _ in 0..50 {
        let sql = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'backfill_jobs'";
        let row = admin.query_one(sql, &[]).await.unwrap();
        seen = (row.get::<_, i64>(0), row.get::<_, i64>(1));
        if seen.0 >= 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // A page that fills up while a snapshot holds its old rows sends one to the next; a touched index would send all.
    assert!(
        seen.0 == 200 && seen.1 >= 190,
        "(updates, updates in place): {seen:?}"
    );
}

#[tokio::test]
async fn the_reporter_counts_from_its_latest_start() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    backfill
        .start_reported(&reported("a", 600, 699), at(0))
        .await
        .unwrap();
    backfill
        .report_external("a", &progress(650), at(1))
        .await
        .unwrap();
    // It died and came back while its job was still running.
    let again = ReportedStart {
        current_block: Some(650),
        ..reported("a", 600, 699)
    };
    backfill.start_reported(&again, at(2)).await.unwrap();
    backfill
        .report_external("a", &progress(699), at(3))
        .await
        .unwrap();
    let ended = |processed| Progress {
        status: Some(Status::Completed),
        blocks_processed: processed,
        ..Progress::default()
    };
    for too_little in [Some(49), None] {
        let error = backfill
            .report_external("a", &ended(too_little), at(4))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "incomplete");
    }
    assert_eq!(
        backfill
            .report_external("a", &ended(Some(50)), at(5))
            .await
            .unwrap()
            .status,
        Status::Completed
    );
}

#[tokio::test]
async fn holes_that_errors_left_are_not_buried_by_a_later_start_above_them() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let with_errors = |block, error_count| Progress {
        error_count,
        ..progress(block)
    };
    let ended = Progress {
        status: Some(Status::Completed),
        blocks_processed: Some(100),
        ..Progress::default()
    };
    backfill
        .start_reported(&reported("a", 800, 899), at(0))
        .await
        .unwrap();
    backfill
        .report_external("a", &progress(820), at(1))
        .await
        .unwrap();
    backfill
        .report_external("a", &with_errors(850, 25), at(2))
        .await
        .unwrap();
    // Neither an error count that falls again nor a start above the holes makes them finished.
    assert_eq!(
        backfill
            .report_external("a", &with_errors(860, 0), at(3))
            .await
            .unwrap()
            .current_block,
        820
    );
    let above = ReportedStart {
        current_block: Some(850),
        ..reported("a", 800, 899)
    };
    assert_eq!(
        backfill
            .start_reported(&above, at(4))
            .await
            .unwrap()
            .current_block,
        820
    );
    let error = backfill
        .report_external("a", &ended, at(5))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "incomplete");
    assert!(
        error.message().contains("start it again at block 820"),
        "{error}"
    );
    let job = backfill.get_external("a").await.unwrap().unwrap();
    assert_eq!((job.status, job.covered_blocks), (Status::Failed, 20));
    // Back at the first of them, all is well.
    let back = ReportedStart {
        current_block: Some(820),
        ..reported("a", 800, 899)
    };
    backfill.start_reported(&back, at(6)).await.unwrap();
    assert_eq!(
        backfill
            .report_external("a", &progress(860), at(7))
            .await
            .unwrap()
            .current_block,
        860
    );
    assert_eq!(
        backfill
            .report_external("a", &ended, at(8))
            .await
            .unwrap()
            .status,
        Status::Completed
    );
}

/// A claim and a report at the same moment: one of them is refused, whichever comes second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_and_a_report_at_once_are_never_both_accepted() {
    let (_db, store) = store().await;
    let mut outcomes = [0, 0];
    for round in 0..i64::try_from(utxoiq_store_testkit::urls::scale(60, 600)).unwrap() {
        let job = started(&store, round * 100, round * 100 + 99).await;
        let (one, other) = (store.clone(), store.clone());
        let claim =
            tokio::spawn(
                async move { one.backfill().claim(job.id, "a", 50, at(1)).await.map(drop) },
            );
        let report = tokio::spawn(async move {
            other
                .backfill()
                .report(job.id, &progress(round * 100 + 50), at(1))
                .await
                .map(drop)
        });
        match (claim.await.unwrap(), report.await.unwrap()) {
            (Ok(()), Err(error)) => outcomes[usize::from(error.code() != "leased")] += 1,
            (Err(error), Ok(())) => outcomes[usize::from(error.code() != "implicit_worker")] += 1,
            both => panic!("round {round}: {both:?}"),
        }
    }
    assert_eq!(outcomes[1], 0);
}

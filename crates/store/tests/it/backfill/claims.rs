//! Claims: epochs, leases, and what a stale worker cannot do.

use utxoiq_store::{Kind, backfill::Status};

use super::{at, claimed, noon, range, ranges, started, store};

#[tokio::test]
async fn workers_at_once_get_disjoint_sub_ranges_that_together_are_all_of_it() {
    let (_db, store) = store().await;
    let job = started(&store, 0, 1_999).await;
    let claims = (0..20).map(|index| {
        let store = store.clone();
        tokio::spawn(async move { claimed(&store, job.id, &format!("w{index}"), 100, at(1)).await })
    });
    let mut blocks = Vec::new();
    let mut epochs = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        let claim = claim.await.unwrap();
        blocks.push((claim.blocks.start, claim.blocks.last()));
        epochs.push(claim.epoch);
    }
    blocks.sort_unstable();
    epochs.sort_unstable();
    assert_eq!(
        blocks,
        (0..20)
            .map(|index| (index * 100, index * 100 + 99))
            .collect::<Vec<_>>()
    );
    assert_eq!(epochs, (1..=20).collect::<Vec<_>>());
    let none = store
        .backfill()
        .claim(job.id, "late", 100, at(2))
        .await
        .unwrap();
    assert!(none.claim.is_none());
    assert_eq!(none.retry_after, Some(std::time::Duration::from_secs(14)));
}

#[tokio::test]
async fn not_one_of_ten_thousand_writes_of_a_worker_frozen_past_its_lease_lands() {
    let (db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 9_999).await;
    let frozen = claimed(&store, job.id, "frozen", 10_000, noon()).await;
    // Past its lease, nobody else there yet: nothing lands even so.
    for n in 0..100 {
        let error = backfill
            .record(frozen.key(), range(n, n), at(15))
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Conflict, "stale_lease")
        );
    }
    let second = claimed(&store, job.id, "second", 10_000, at(15)).await;
    assert!(second.epoch > frozen.epoch);
    let mut landed = 0;
    let (stale, newer) = (frozen.key(), second.id);
    let tasks = (0..20).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut landed = 0;
            for n in 0..500 {
                let block = task * 500 + n;
                // Whatever the stale worker's clock says, and also with the new claim's id and the old epoch.
                let key = utxoiq_store::backfill::ClaimKey {
                    claim_id: if n % 4 == 0 { newer } else { stale.claim_id },
                    ..stale
                };
                let now = at(14 + n % 3);
                landed += i64::from(
                    store
                        .backfill()
                        .record(key, range(block, block), now)
                        .await
                        .is_ok(),
                );
            }
            landed
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        landed += task.await.unwrap();
    }
    assert_eq!(landed, 0);
    let covered: i64 = db
        .admin()
        .await
        .query_one(
            "select j.covered_blocks + coalesce(sum(backfill_block_count(c.done)), 0)::bigint
             from backfill_jobs j left join backfill_claims c on c.job_id = j.id group by j.id",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(covered, 0);
    // The second worker is not disturbed.
    assert!(
        backfill
            .record(second.key(), range(0, 9_999), at(16))
            .await
            .unwrap()
            .finished
    );
    assert_eq!(
        backfill.get(job.id).await.unwrap().unwrap().status,
        Status::Completed
    );
}

#[tokio::test]
async fn a_stale_worker_is_fenced_out_of_its_own_range_only() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 299).await;
    let stale = claimed(&store, job.id, "a", 100, at(0)).await;
    let alive = claimed(&store, job.id, "b", 100, at(10)).await;
    backfill
        .record(stale.key(), range(0, 49), at(1))
        .await
        .unwrap();
    // The third gets what the first left unfinished: its lease was renewed at 1 and is over at 16.
    let third = claimed(&store, job.id, "c", 100, at(16)).await;
    assert_eq!(third.blocks, range(50, 99));
    assert_eq!(
        backfill
            .record(stale.key(), range(50, 50), at(16))
            .await
            .unwrap_err()
            .code(),
        "stale_lease"
    );
    assert_eq!(
        backfill
            .heartbeat(stale.key(), at(16))
            .await
            .unwrap_err()
            .code(),
        "stale_lease"
    );
    assert_eq!(
        backfill
            .record_error(stale.key(), range(50, 50), 1, "no", at(16))
            .await
            .unwrap_err()
            .code(),
        "stale_lease"
    );
    backfill
        .record(alive.key(), range(100, 199), at(17))
        .await
        .unwrap();
    backfill
        .record(third.key(), range(50, 99), at(17))
        .await
        .unwrap();
    assert_eq!(
        ranges(&backfill.gaps(job.id, at(18)).await.unwrap()),
        [(200, 299)]
    );
}

#[tokio::test]
async fn a_heartbeat_keeps_a_claim_and_its_absence_ends_it_to_the_second() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 99).await;
    let claim = claimed(&store, job.id, "a", 100, at(0)).await;
    for beat in [14, 28, 42] {
        let heard = backfill.heartbeat(claim.key(), at(beat)).await.unwrap();
        assert_eq!(heard.lease_expires_at, at(beat + 15));
    }
    assert!(
        backfill
            .claim(job.id, "b", 100, at(56))
            .await
            .unwrap()
            .claim
            .is_none()
    );
    assert!(
        backfill
            .claim(job.id, "b", 100, at(57))
            .await
            .unwrap()
            .claim
            .is_some()
    );
}

#[tokio::test]
async fn recording_is_idempotent_and_stays_within_the_claim() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 299).await;
    let claim = claimed(&store, job.id, "a", 100, at(0)).await;
    for _ in 0..3 {
        assert!(
            !backfill
                .record(claim.key(), range(10, 19), at(1))
                .await
                .unwrap()
                .finished
        );
    }
    assert_eq!(
        backfill.get(job.id).await.unwrap().unwrap().covered_blocks,
        10
    );
    for (first, last) in [(90, 100), (100, 100), (200, 250)] {
        let error = backfill
            .record(claim.key(), range(first, last), at(2))
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Invalid, "outside_claim")
        );
    }
    assert_eq!(
        backfill.get(job.id).await.unwrap().unwrap().covered_blocks,
        10
    );
}

#[tokio::test]
async fn progress_reaches_the_job_at_once_through_reads_and_its_row_within_a_second() {
    let (db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 999).await;
    let claim = claimed(&store, job.id, "a", 1_000, at(0)).await;
    backfill
        .record(claim.key(), range(0, 99), at(0))
        .await
        .unwrap();
    assert_eq!(
        backfill
            .get(job.id)
            .await
            .unwrap()
            .unwrap()
            .progress_percentage,
        10.0
    );
    let stored = async || -> (f64, Option<chrono::DateTime<chrono::Utc>>, i64) {
        let sql =
            "select progress_percentage, estimated_completion, current_block from backfill_jobs";
        let row = db.admin().await.query_one(sql, &[]).await.unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    assert_eq!(stored().await, (0.0, None, 0));
    // A second after the last fold, the next write folds.
    backfill
        .record(claim.key(), range(100, 199), at(1))
        .await
        .unwrap();
    assert_eq!(stored().await, (20.0, Some(at(5)), 200));
    // A heartbeat does, too.
    backfill
        .record(claim.key(), range(300, 399), at(1))
        .await
        .unwrap();
    backfill.heartbeat(claim.key(), at(4)).await.unwrap();
    assert_eq!(stored().await.0, 30.0);
}

#[tokio::test]
async fn pause_and_cancel_reach_the_worker_on_its_next_heartbeat() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 999).await;
    let claim = claimed(&store, job.id, "a", 500, at(0)).await;
    backfill.pause(job.id).await.unwrap();
    assert_eq!(
        backfill.heartbeat(claim.key(), at(1)).await.unwrap().status,
        Status::Paused
    );
    // What it was at may still be recorded; new work is not given out.
    assert_eq!(
        backfill
            .record(claim.key(), range(0, 99), at(2))
            .await
            .unwrap()
            .status,
        Status::Paused
    );
    assert_eq!(
        backfill
            .claim(job.id, "b", 100, at(2))
            .await
            .unwrap_err()
            .code(),
        "not_running"
    );
    let (_, missing) = backfill.resume(job.id, at(3)).await.unwrap();
    assert_eq!(ranges(&missing), [(100, 499), (500, 999)]);
    assert_eq!(missing[0].claimed_by.as_deref(), Some("a"));
    assert_eq!(missing[1].claimed_by, None);
    backfill.cancel(job.id, at(4)).await.unwrap();
    assert_eq!(
        backfill
            .heartbeat(claim.key(), at(5))
            .await
            .unwrap_err()
            .code(),
        "job_final"
    );
    assert_eq!(
        backfill
            .record(claim.key(), range(100, 199), at(5))
            .await
            .unwrap_err()
            .code(),
        "job_final"
    );
    assert_eq!(
        backfill.get(job.id).await.unwrap().unwrap().covered_blocks,
        100
    );
}

#[tokio::test]
async fn a_claim_given_back_is_free_at_once_and_keeps_what_it_finished() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 99).await;
    let claim = claimed(&store, job.id, "a", 100, at(0)).await;
    backfill
        .record(claim.key(), range(0, 9), at(1))
        .await
        .unwrap();
    backfill
        .record(claim.key(), range(50, 59), at(1))
        .await
        .unwrap();
    backfill.release(claim.key(), at(2)).await.unwrap();
    backfill.release(claim.key(), at(2)).await.unwrap();
    assert_eq!(
        backfill
            .record(claim.key(), range(10, 10), at(2))
            .await
            .unwrap_err()
            .code(),
        "stale_lease"
    );
    assert_eq!(
        claimed(&store, job.id, "b", 100, at(2)).await.blocks,
        range(10, 49)
    );
    assert_eq!(
        claimed(&store, job.id, "c", 10, at(2)).await.blocks,
        range(60, 69)
    );
}

#[tokio::test]
async fn errors_of_chunks_are_kept_up_to_the_limit_newest_first() {
    let db = crate::support::TestDb::new().await;
    let config = db.settings_with(&[("UTXOIQ_STORE_BACKFILL__MAX_ERRORS_PER_JOB", "5")]);
    let store = utxoiq_store::Store::open(config).unwrap();
    let backfill = store.backfill();
    let job = started(&store, 0, 99).await;
    let claim = claimed(&store, job.id, "a", 100, at(0)).await;
    for n in 1..=8 {
        let message = if n == 8 {
            "x".repeat(5_000)
        } else {
            format!("error {n}")
        };
        backfill
            .record_error(claim.key(), range(0, 9), n, &message, at(1))
            .await
            .unwrap();
    }
    let errors = backfill
        .details(job.id, at(2))
        .await
        .unwrap()
        .unwrap()
        .errors;
    assert_eq!(
        errors
            .iter()
            .map(|error| error.attempted)
            .collect::<Vec<_>>(),
        [8, 7, 6, 5, 4]
    );
    assert_eq!(errors[0].message.chars().count(), 4_000);
    assert_eq!(
        (errors[1].message.as_str(), errors[1].worker.as_str()),
        ("error 7", "a")
    );
    let outside = backfill
        .record_error(claim.key(), range(95, 100), 1, "no", at(1))
        .await
        .unwrap_err();
    assert_eq!(outside.code(), "outside_claim");
}

#[tokio::test]
async fn a_job_has_no_more_claims_than_it_may() {
    let db = crate::support::TestDb::new().await;
    let config = db.settings_with(&[("UTXOIQ_STORE_BACKFILL__MAX_CLAIMS_PER_JOB", "2")]);
    let store = utxoiq_store::Store::open(config).unwrap();
    let job = started(&store, 0, 99).await;
    claimed(&store, job.id, "a", 10, at(0)).await;
    claimed(&store, job.id, "b", 10, at(0)).await;
    let error = store
        .backfill()
        .claim(job.id, "c", 10, at(0))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "too_many_claims");
    claimed(&store, job.id, "c", 10, at(15)).await;
}

/// Random claims, records, deaths and takeovers: the ledger is exactly what was acknowledged.
#[tokio::test]
async fn the_ledger_is_exactly_what_was_acknowledged() {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let seed = utxoiq_store_testkit::urls::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let job = started(&store, 0, 4_999).await;
    let mut acknowledged = std::collections::BTreeSet::new();
    let mut claims = Vec::new();
    let mut now = 0;
    for _ in 0..400 {
        now += random.random_range(0..4);
        match random.random_range(0..10) {
            0..=2 => {
                let size = random.random_range(1..300);
                claims.extend(
                    backfill
                        .claim(job.id, "w", size, at(now))
                        .await
                        .unwrap()
                        .claim,
                );
            }
            3..=8 if !claims.is_empty() => {
                let claim = &claims[random.random_range(0..claims.len())];
                let start = random.random_range(claim.blocks.start..claim.blocks.end);
                let end = random.random_range(start + 1..=claim.blocks.end);
                if backfill
                    .record(claim.key(), range(start, end - 1), at(now))
                    .await
                    .is_ok()
                {
                    acknowledged.extend(start..end);
                }
            }
            9 if !claims.is_empty() => {
                let claim = claims.swap_remove(random.random_range(0..claims.len()));
                backfill.release(claim.key(), at(now)).await.unwrap();
            }
            _ => {}
        }
        let job = backfill.get(job.id).await.unwrap().unwrap();
        assert_eq!(
            job.covered_blocks,
            i64::try_from(acknowledged.len()).unwrap(),
            "seed {seed}"
        );
    }
    let missing: i64 = backfill
        .gaps(job.id, at(now))
        .await
        .unwrap()
        .iter()
        .map(|gap| gap.blocks.count())
        .sum();
    assert_eq!(
        missing,
        5_000 - i64::try_from(acknowledged.len()).unwrap(),
        "seed {seed}"
    );
    for gap in backfill.gaps(job.id, at(now)).await.unwrap() {
        assert_eq!(
            acknowledged.range(gap.blocks.start..gap.blocks.end).next(),
            None,
            "seed {seed}"
        );
    }
}

/// Errors of chunks, checkpoints, folds and an operator at once: whoever needs both rows takes the job's first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_takes_a_job_and_its_claim_deadlocks() {
    let (db, store) = store().await;
    let job = started(&store, 0, 999).await;
    let claim = claimed(&store, job.id, "a", 1_000, noon()).await;
    let tasks: Vec<_> = (0..6)
        .map(|task| {
            let (store, key) = (store.clone(), claim.key());
            tokio::spawn(async move {
                for round in 0..60 {
                    let now = at(round);
                    let backfill = store.backfill();
                    match task {
                        0..=2 => drop(
                            backfill
                                .record_error(key, range(0, 9), 1, "no", now)
                                .await
                                .unwrap(),
                        ),
                        3 => drop(backfill.checkpoint(key, round, "hash", now).await.unwrap()),
                        4 => drop(
                            backfill
                                .record(key, range(round, round), now)
                                .await
                                .unwrap(),
                        ),
                        _ => {
                            backfill.pause(key.job_id).await.unwrap();
                            backfill.resume(key.job_id, now).await.unwrap();
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    let admin = db.admin().await;
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await; // until the statistics are there
    assert_eq!(
        admin
            .query_one(deadlocks, &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        0
    );
}

#[tokio::test]
async fn a_server_whose_clock_is_behind_shortens_no_lease_and_breaks_nothing() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 99).await;
    let claim = claimed(&store, job.id, "a", 100, at(100)).await;
    for now in [at(80), at(60)] {
        assert_eq!(
            backfill
                .heartbeat(claim.key(), now)
                .await
                .unwrap()
                .lease_expires_at,
            at(115)
        );
        let heard = backfill
            .record(claim.key(), range(0, 9), now)
            .await
            .unwrap();
        assert_eq!(heard.lease_expires_at, at(115));
    }
    assert_eq!(
        backfill
            .heartbeat(claim.key(), at(101))
            .await
            .unwrap()
            .lease_expires_at,
        at(116)
    );
}

#[tokio::test]
async fn the_percentage_is_exactly_the_share_rounded_down() {
    let (db, _store) = store().await;
    let wrong: i64 = db
        .admin()
        .await
        .query_one(
            "select count(*) from generate_series(1, 200) total, generate_series(0, total) done
             where backfill_percentage(int8multirange(int8range(0, done)), 0, total - 1)
                   <> (trunc(done::numeric * 10000 / total) / 100)::float8",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(wrong, 0);
    let huge = "select backfill_percentage(int8multirange(int8range(0, 9007199254740990)), 0, 9007199254740990)";
    assert_eq!(
        db.admin()
            .await
            .query_one(huge, &[])
            .await
            .unwrap()
            .get::<_, f64>(0),
        99.99
    );
}

#[tokio::test]
async fn a_checkpoint_is_taken_only_within_the_workers_own_claim() {
    let (_db, store) = store().await;
    let job = started(&store, 0, 199).await;
    let claim = claimed(&store, job.id, "a", 100, noon()).await;
    for (block, fails) in [(0, false), (99, false), (100, true), (-1, true)] {
        let outcome = store
            .backfill()
            .checkpoint(claim.key(), block, "hash", noon())
            .await;
        assert_eq!(
            outcome.err().map(|error| error.code()),
            fails.then_some("outside_claim"),
            "{block}"
        );
    }
}

//! The worker's loop over the store itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::watch;
use utxoiq_store::{
    Store,
    backfill::{
        BlockRange, Status,
        worker::{self, Event, Options, Outcome, Stop},
    },
};
use uuid::Uuid;

use super::{new_job, range};
use crate::support::TestDb;

fn options(worker: &str) -> Options {
    Options {
        worker: worker.to_owned(),
        chunk: 100,
        parallel: 4,
        tries: 3,
        backoff: Duration::from_millis(5),
        patience: Duration::from_secs(20),
    }
}

/// How often each chunk's work succeeded.
type Counts = Arc<Mutex<BTreeMap<BlockRange, u32>>>;

fn assert_each_once(counts: &Counts) {
    let counts = counts.lock().unwrap();
    assert_eq!((counts.len(), counts.values().max()), (100, Some(&1)));
}

async fn open(store: &Store) -> Uuid {
    store
        .backfill()
        .open(&new_job("blocks", 0, 9_999), false, store.now())
        .await
        .unwrap()
        .job
        .id
}

#[tokio::test]
async fn a_job_is_worked_through_in_chunks_each_done_once() {
    let db = TestDb::new().await;
    let store = db.store().await;
    let id = open(&store).await;
    let counts = Counts::default();
    let seen = Arc::clone(&counts);
    let work = move |blocks: BlockRange, attempted: i32| {
        let counts = Arc::clone(&seen);
        async move {
            // One chunk in ten fails once.
            if attempted == 1 && blocks.start % 1_000 == 0 {
                return Err("the node did not answer".to_owned());
            }
            *counts.lock().unwrap().entry(blocks).or_default() += 1;
            Ok(None)
        }
    };
    let mut failures = 0;
    let on_event = |event| failures += u32::from(matches!(event, Event::Failed { .. }));
    let (_stop, stopped) = watch::channel(Stop::No);
    let outcome = worker::run(&store, id, &options("a"), work, on_event, stopped)
        .await
        .unwrap();
    assert_eq!((outcome, failures), (Outcome::Completed, 10));
    assert_each_once(&counts);
    let details = store
        .backfill()
        .details(id, store.now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (details.job.status, details.covered, details.errors.len()),
        (Status::Completed, vec![range(0, 9_999)], 10)
    );
}

#[tokio::test]
async fn several_workers_share_a_job_without_doing_anything_twice() {
    let db = TestDb::new().await;
    let store = db.store().await;
    let id = open(&store).await;
    let counts = Counts::default();
    let workers: Vec<_> = (0..3)
        .map(|n| {
            let (store, counts) = (store.clone(), Arc::clone(&counts));
            tokio::spawn(async move {
                let work = move |blocks: BlockRange, _| {
                    let counts = Arc::clone(&counts);
                    async move {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        *counts.lock().unwrap().entry(blocks).or_default() += 1;
                        Ok(None)
                    }
                };
                let (_stop, stopped) = watch::channel(Stop::No);
                worker::run(
                    &store,
                    id,
                    &options(&format!("w{n}")),
                    work,
                    |_| {},
                    stopped,
                )
                .await
                .unwrap()
            })
        })
        .collect();
    for worker in workers {
        assert_eq!(worker.await.unwrap(), Outcome::Completed);
    }
    assert_each_once(&counts);
}

#[tokio::test]
async fn a_chunk_that_fails_too_often_fails_the_job_at_the_end_and_the_next_run_does_only_it() {
    let db = TestDb::new().await;
    let store = db.store().await;
    let id = open(&store).await;
    let bad = |blocks: BlockRange| blocks.start == 300 || blocks.start == 7_000;
    let work = move |blocks: BlockRange, _| async move {
        if bad(blocks) {
            Err("no such block".to_owned())
        } else {
            Ok(None)
        }
    };
    let (_stop, stopped) = watch::channel(Stop::No);
    let outcome = worker::run(&store, id, &options("a"), work, |_| {}, stopped.clone())
        .await
        .unwrap();
    assert_eq!(
        outcome,
        Outcome::GaveUp {
            blocks: vec![range(300, 399), range(7_000, 7_099)]
        }
    );
    let job = store.backfill().get(id).await.unwrap().unwrap();
    assert_eq!((job.status, job.covered_blocks), (Status::Failed, 9_800));
    assert!(job.error_message.unwrap().contains("300-399, 7000-7099"));
    let errors = store
        .backfill()
        .details(id, store.now())
        .await
        .unwrap()
        .unwrap()
        .errors;
    assert_eq!(errors.len(), 6);

    assert_eq!(open(&store).await, id);
    let counts = Counts::default();
    let seen = Arc::clone(&counts);
    let work = move |blocks: BlockRange, _| {
        *seen.lock().unwrap().entry(blocks).or_default() += 1;
        async { Ok(None) }
    };
    let outcome = worker::run(&store, id, &options("a"), work, |_| {}, stopped)
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::Completed);
    assert_eq!(
        counts.lock().unwrap().keys().copied().collect::<Vec<_>>(),
        [range(300, 399), range(7_000, 7_099)]
    );
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_gives_the_rest_back() {
    let db = TestDb::new().await;
    let store = db.store().await;
    let id = open(&store).await;
    let (stop, stopped) = watch::channel(Stop::No);
    let started = Arc::new(Mutex::new(0));
    let count = Arc::clone(&started);
    let work = move |_: BlockRange, _| {
        let mut started = count.lock().unwrap();
        *started += 1;
        if *started == 10 {
            stop.send(Stop::Finish).unwrap();
        }
        async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(None)
        }
    };
    let outcome = worker::run(&store, id, &options("a"), work, |_| {}, stopped)
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::Stopped);
    let started = i64::from(*started.lock().unwrap());
    let gaps = store.backfill().gaps(id, store.now()).await.unwrap();
    assert_eq!(
        store
            .backfill()
            .get(id)
            .await
            .unwrap()
            .unwrap()
            .covered_blocks,
        started * 100
    );
    assert!(gaps.iter().all(|gap| gap.claimed_by.is_none()), "{gaps:?}");
}

#[tokio::test]
async fn a_paused_job_is_waited_for_and_a_cancelled_one_ends_the_run() {
    let db = TestDb::new().await;
    let config = db.settings_with(&[("UTXOIQ_STORE_BACKFILL__LEASE_SECONDS", "3")]);
    let store = Store::open(config).unwrap();
    let id = open(&store).await;
    let work = |_: BlockRange, _| async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok(None)
    };
    let (paused_said, mut paused) = tokio::sync::mpsc::unbounded_channel();
    let (_stop, stopped) = watch::channel(Stop::No);
    let run = tokio::spawn({
        let store = store.clone();
        async move {
            let on_event = move |event| {
                if matches!(event, Event::Paused) {
                    paused_said.send(()).unwrap();
                }
            };
            worker::run(&store, id, &options("a"), work, on_event, stopped)
                .await
                .unwrap()
        }
    });
    let covered = async || {
        store
            .backfill()
            .get(id)
            .await
            .unwrap()
            .unwrap()
            .covered_blocks
    };
    while covered().await < 500 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.backfill().pause(id).await.unwrap();
    paused.recv().await.unwrap();
    let held = covered().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(covered().await, held);
    store.backfill().resume(id, store.now()).await.unwrap();
    while covered().await <= held {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.backfill().cancel(id, store.now()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), run)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        ended,
        Outcome::Ended {
            status: Status::Cancelled
        }
    );
}

/// A lease of three seconds and chunks of four and a half: only heartbeats keep the claim.
#[tokio::test]
async fn a_short_lease_is_kept_through_chunks_longer_than_it() {
    let db = TestDb::new().await;
    let config = db.settings_with(&[("UTXOIQ_STORE_BACKFILL__LEASE_SECONDS", "3")]);
    let store = Store::open(config).unwrap();
    let new = new_job("blocks", 0, 1);
    let id = store
        .backfill()
        .open(&new, false, store.now())
        .await
        .unwrap()
        .job
        .id;
    let counts = Counts::default();
    let seen = Arc::clone(&counts);
    let work = move |blocks: BlockRange, _| {
        *seen.lock().unwrap().entry(blocks).or_default() += 1;
        async {
            tokio::time::sleep(Duration::from_millis(4_500)).await;
            Ok(None)
        }
    };
    let (_stop, stopped) = watch::channel(Stop::No);
    let mut lost = 0;
    let on_event = |event| lost += u32::from(matches!(event, Event::Lost { .. }));
    let options = Options {
        chunk: 2,
        ..options("a")
    };
    let outcome = worker::run(&store, id, &options, work, on_event, stopped)
        .await
        .unwrap();
    assert_eq!((outcome, lost), (Outcome::Completed, 0));
    assert_eq!(counts.lock().unwrap().values().sum::<u32>(), 1);
}

#[tokio::test]
async fn a_panic_in_the_work_and_a_hash_that_cannot_be_kept_count_as_failures_of_their_chunks() {
    let db = TestDb::new().await;
    let store = db.store().await;
    let id = open(&store).await;
    let work = |blocks: BlockRange, attempted: i32| {
        assert!(
            blocks.start != 200 || attempted > 1,
            "before the first await"
        );
        async move {
            tokio::task::yield_now().await;
            assert!(blocks.start != 400, "after it");
            Ok((blocks.start == 600).then(|| "x".repeat(129)))
        }
    };
    let (_stop, stopped) = watch::channel(Stop::No);
    let options = options("a");
    let run = worker::run(&store, id, &options, work, |_| {}, stopped);
    let outcome = tokio::time::timeout(Duration::from_mins(1), run)
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(
        outcome,
        Outcome::GaveUp {
            blocks: vec![range(400, 499), range(600, 699)]
        }
    );
    let details = store
        .backfill()
        .details(id, store.now())
        .await
        .unwrap()
        .unwrap();
    let said = |start: i64, text: &str| {
        let of_chunk = |error: &&utxoiq_store::backfill::ChunkError| {
            error.blocks.is_some_and(|blocks| blocks.start == start)
        };
        let errors: Vec<_> = details.errors.iter().filter(of_chunk).collect();
        assert!(
            errors.iter().all(|error| error.message.contains(text)),
            "{errors:?}"
        );
        errors.len()
    };
    assert_eq!(said(200, "the work panicked: before the first await"), 1);
    assert_eq!(said(400, "the work panicked: after it"), 3);
    assert_eq!(said(600, "not recorded"), 3);
    assert_eq!(details.job.status, Status::Failed);
}

#[tokio::test]
async fn a_reorganisation_met_in_the_middle_ends_the_run_so_that_the_checkpoints_below_are_compared()
 {
    let db = TestDb::new().await;
    let store = db.store().await;
    let id = open(&store).await;
    let claim = store
        .backfill()
        .claim(id, "before", 400, store.now())
        .await
        .unwrap()
        .claim
        .unwrap();
    for last in [99, 199] {
        store
            .backfill()
            .checkpoint(claim.key(), last, "old", store.now())
            .await
            .unwrap();
        store
            .backfill()
            .record(claim.key(), range(last - 99, last), store.now())
            .await
            .unwrap();
    }
    store
        .backfill()
        .checkpoint(claim.key(), 299, "old", store.now())
        .await
        .unwrap();
    store
        .backfill()
        .release(claim.key(), store.now())
        .await
        .unwrap();
    let work = |_: BlockRange, _| async { Ok(Some("new".to_owned())) };
    let (_stop, stopped) = watch::channel(Stop::No);
    let outcome = worker::run(&store, id, &options("a"), work, |_| {}, stopped.clone())
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::Reorganised { from: 200 });
    let gaps = store.backfill().gaps(id, store.now()).await.unwrap();
    assert!(gaps.iter().all(|gap| gap.claimed_by.is_none()), "{gaps:?}");
}

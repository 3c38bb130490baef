//! Jobs through the cache: never more than a second late, and at once for whoever wrote through the same process.

use std::time::{Duration, Instant};

use utxoiq_store::{
    Store,
    backfill::{JobFilter, Progress, Status},
};
use uuid::Uuid;

use super::{at, claimed, new_job, noon, range, started, store};

fn newest(job_type: Option<&str>) -> JobFilter {
    JobFilter {
        job_type: job_type.map(str::to_owned),
        limit: 10,
        ..JobFilter::default()
    }
}

/// What the cache says is what the database says.
async fn agrees(store: &Store, id: Uuid, what: &str) {
    let backfill = store.backfill();
    let recent = backfill.recent(id).await.unwrap();
    assert_eq!(recent.value, backfill.get(id).await.unwrap(), "{what}");
    for filter in [newest(None), newest(Some("blocks")), newest(Some("none"))] {
        assert_eq!(
            backfill.recent_list(&filter).await.unwrap(),
            backfill.list(&filter).await.unwrap(),
            "{what}: {filter:?}"
        );
    }
}

/// Waits until reads are answered from this process.
async fn warm(store: &Store, id: Uuid) {
    let hits = || {
        store
            .cache()
            .figures()
            .iter()
            .map(|f| f.hits_local)
            .sum::<u64>()
    };
    let (began, before) = (Instant::now(), hits());
    while hits() < before + 2 {
        assert!(began.elapsed() < Duration::from_secs(20));
        store.backfill().recent(id).await.unwrap();
        store.backfill().recent_list(&newest(None)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wrote_through_the_same_process_sees_it_at_once() {
    let (_db, store) = store().await;
    let backfill = store.backfill();
    let job = started(&store, 0, 999).await;
    warm(&store, job.id).await;
    agrees(&store, job.id, "started").await;
    let claim = claimed(&store, job.id, "w", 100, noon()).await;
    agrees(&store, job.id, "claimed").await;
    backfill
        .record(claim.key(), range(0, 49), at(1))
        .await
        .unwrap();
    agrees(&store, job.id, "recorded").await;
    backfill.heartbeat(claim.key(), at(2)).await.unwrap();
    agrees(&store, job.id, "heartbeat").await;
    backfill
        .checkpoint(claim.key(), 20, "aa", at(2))
        .await
        .unwrap();
    backfill
        .checkpoint(claim.key(), 20, "bb", at(2))
        .await
        .unwrap();
    agrees(&store, job.id, "reorganised").await;
    let claim = claimed(&store, job.id, "w", 100, at(3)).await;
    backfill.release(claim.key(), at(3)).await.unwrap();
    agrees(&store, job.id, "released").await;
    backfill.pause(job.id).await.unwrap();
    agrees(&store, job.id, "paused").await;
    backfill.resume(job.id, at(4)).await.unwrap();
    agrees(&store, job.id, "resumed").await;
    let progress = Progress {
        current_block: Some(500),
        ..Progress::default()
    };
    backfill.report(job.id, &progress, at(5)).await.unwrap();
    agrees(&store, job.id, "reported").await;
    backfill.rewind(job.id, 300).await.unwrap();
    agrees(&store, job.id, "rewound").await;
    backfill.fail(job.id, "a reason", at(6)).await.unwrap();
    agrees(&store, job.id, "failed").await;
    backfill
        .open(&new_job("blocks", 0, 999), false, at(7))
        .await
        .unwrap();
    agrees(&store, job.id, "opened").await;
    backfill.fail_silent(at(100_000)).await.unwrap();
    agrees(&store, job.id, "silent").await;
    backfill.resume(job.id, at(100_001)).await.unwrap();
    backfill.cancel(job.id, at(100_002)).await.unwrap();
    agrees(&store, job.id, "cancelled").await;
    let last = backfill.get(job.id).await.unwrap().unwrap();
    assert_eq!(last.status, Status::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_processes_see_it_within_a_second_whoever_wrote() {
    let (db, writer) = store().await;
    let reader = db.store().await;
    let job = started(&writer, 0, 999).await;
    let admin = db.admin().await;
    let change = async |turn: i64| match turn % 4 {
        0 => {
            let progress = Progress {
                current_block: Some(10 + turn),
                ..Progress::default()
            };
            writer
                .backfill()
                .report(job.id, &progress, at(turn))
                .await
                .unwrap();
        }
        1 => {
            writer.backfill().pause(job.id).await.unwrap();
        }
        2 => {
            writer.backfill().resume(job.id, at(turn)).await.unwrap();
        }
        _ => {
            let sql = format!("update backfill_jobs set created_by = 'psql {turn}'");
            admin.batch_execute(&sql).await.unwrap();
        }
    };
    for turn in 0..12 {
        warm(&reader, job.id).await;
        change(turn).await;
        let changed = Instant::now();
        let exact = reader.backfill().get(job.id).await.unwrap();
        loop {
            let asked = changed.elapsed();
            let one = reader.backfill().recent(job.id).await.unwrap();
            let list = reader.backfill().recent_list(&newest(None)).await.unwrap();
            if one.value == exact && list.first() == exact.as_ref() {
                break;
            }
            assert!(asked < Duration::from_secs(1), "turn {turn}: {one:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    warm(&reader, job.id).await;
    admin
        .batch_execute("truncate backfill_jobs cascade")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(reader.backfill().recent(job.id).await.unwrap().value, None);
    assert_eq!(
        reader.backfill().recent_list(&newest(None)).await.unwrap(),
        []
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_newest_or_others_come_from_the_database() {
    let (_db, store) = store().await;
    for n in 0..12 {
        let new = new_job("blocks", n * 10, n * 10 + 9);
        store.backfill().start(&new, at(n)).await.unwrap();
    }
    let filters = [
        JobFilter {
            limit: 12,
            ..JobFilter::default()
        },
        JobFilter {
            limit: 3,
            offset: 2,
            ..JobFilter::default()
        },
        JobFilter {
            limit: 3,
            status: Some(Status::Running),
            ..JobFilter::default()
        },
        JobFilter {
            limit: 3,
            ..JobFilter::default()
        },
    ];
    for filter in filters {
        let recent = store.backfill().recent_list(&filter).await.unwrap();
        assert_eq!(recent, store.backfill().list(&filter).await.unwrap());
        assert_eq!(recent.len(), usize::try_from(filter.limit).unwrap());
    }
}

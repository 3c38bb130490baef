//! Taking samples in.

use chrono::TimeDelta;
use utxoiq_store::{
    Store,
    db::roles,
    metrics::{Accept, Batch, NewSample, Outcome, Reason, RequestKey, SeriesName},
};
use utxoiq_store_testkit::urls::scale;

use super::{at, batch, noon, number, record, rows, series, store, store_all};

fn untimed(name: &SeriesName, count: usize) -> Batch {
    let mut batch = Batch::default();
    let series = batch.series(name.clone());
    for number in 0..count {
        batch.push(NewSample {
            series,
            at: None,
            value: number as f64,
            metadata: None,
        });
    }
    batch
}

#[tokio::test]
async fn a_sample_is_kept_once_and_the_first_value_stays() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    store_all(&store, batch(&cpu, (0..200).map(|n| (at(-n), n as f64)))).await;
    // Some again, one with another value, some new: by the quick way first, then by the careful one.
    for _ in 0..2 {
        let again = (0..300).map(|n| (at(-n), if n == 7 { 70.0 } else { n as f64 }));
        let recorded = record(&store, batch(&cpu, again)).await;
        let tally = recorded.tally();
        assert_eq!(
            recorded.samples[7].outcome,
            Outcome::Conflict { stored: 7.0 }
        );
        assert_eq!((tally.conflicts, tally.stored + tally.duplicates), (1, 299));
    }
    let client = db.client(roles::APP).await;
    let rows = rows(&client).await;
    assert_eq!(rows.len(), 300);
    assert!(
        rows.iter()
            .all(|(_, t, value)| (at(0) - t) as f64 == *value * 1e6)
    );
}

#[tokio::test]
async fn what_is_not_accepted_is_told_by_sample_and_keeps_nothing_of_a_whole_batch() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    let bad = [
        (at(0), f64::NAN, Reason::NotANumber),
        (at(0), f64::NEG_INFINITY, Reason::NotANumber),
        (at(0), 2e300, Reason::ValueTooGreat),
        (at(-91 * 86_400), 1.0, Reason::TooOld),
        (at(601), 1.0, Reason::TooFarAhead),
        (i64::MIN, 1.0, Reason::TooOld),
        (i64::MAX, 1.0, Reason::TooFarAhead),
    ];
    let mut samples = batch(&cpu, bad.iter().map(|(at, value, _)| (*at, *value)));
    for name in ["", " ", "a\u{7}b", &"x".repeat(101)] {
        let name = SeriesName {
            service_name: name.into(),
            ..cpu.clone()
        };
        let series = samples.series(name);
        samples.push(NewSample {
            series,
            at: None,
            value: 1.0,
            metadata: None,
        });
    }
    for metadata in ["[1]", "{", r#"{"a":"\u0000"}"#, r#"{"a":1e400}"#] {
        samples.push(NewSample {
            series: 0,
            at: None,
            value: 1.0,
            metadata: Some(metadata.into()),
        });
    }
    samples.push(NewSample {
        series: 0,
        at: Some(at(5)),
        value: -0.0,
        metadata: Some(r#"{"b":1,"a":"x"}"#.into()),
    });
    let whole = store
        .metrics()
        .record(samples.clone(), Accept::Whole, None, noon())
        .await
        .unwrap();
    assert_eq!(whole.samples.last().unwrap().outcome, Outcome::Withheld);
    assert_eq!(whole.transaction, None);
    let client = db.client(roles::APP).await;
    assert_eq!(
        number(&client, "select count(*) from metric_series").await,
        0
    );

    let part = record(&store, samples).await;
    for ((_, _, reason), sample) in bad.iter().zip(&part.samples) {
        assert!(
            matches!(&sample.outcome, Outcome::Rejected(it) if it.reason == *reason),
            "{sample:?}"
        );
    }
    let tally = part.tally();
    assert_eq!(
        (
            tally.stored,
            tally.rejected[&Reason::BadName].0,
            tally.rejected[&Reason::BadMetadata].0
        ),
        (1, 4, 4)
    );
    assert_eq!(
        number(&client, "select count(*) from metric_series").await,
        1
    );
    let row = client
        .query_one(
            "select value::text, metadata::text from system_metrics",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), ("0", r#"{"a": "x", "b": 1}"#));
    let counted: u64 = store
        .metrics_intake()
        .snapshot()
        .rejected_total
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(counted, 2 * 15);
}

#[tokio::test]
async fn samples_without_times_are_told_apart_also_across_processes() {
    let (db, store) = store().await;
    let other = db.store().await;
    let cpu = series("cpu", "a");
    let (one, two) = tokio::join!(
        record(&store, untimed(&cpu, 500)),
        record(&other, untimed(&cpu, 500))
    );
    for recorded in [one, two] {
        assert_eq!(recorded.tally().stored, 500);
        assert!(recorded.samples.iter().map(|sample| sample.at).is_sorted());
    }
    let client = db.client(roles::APP).await;
    assert_eq!(
        number(&client, "select count(*) from system_metrics").await,
        1_000
    );
}

#[tokio::test]
async fn a_request_with_a_key_is_stored_once_however_often_it_comes() {
    let (db, store) = store().await;
    let other = db.store().await;
    let key = |digest| {
        Some(RequestKey {
            caller: "ci".into(),
            key: "k".into(),
            digest: [digest; 32],
        })
    };
    let send = async |store: &Store, digest, seconds| {
        let now = noon() + TimeDelta::seconds(seconds);
        store
            .metrics()
            .record(
                untimed(&series("cpu", "a"), 20),
                Accept::Whole,
                key(digest),
                now,
            )
            .await
    };
    let times = |recorded: utxoiq_store::metrics::Recorded| {
        recorded.samples.iter().map(|s| s.at).collect::<Vec<_>>()
    };
    let (one, two, three) =
        tokio::join!(send(&store, 1, 0), send(&other, 1, 3), send(&store, 1, 7));
    let first = times(one.unwrap());
    assert_eq!(first, times(two.unwrap()));
    assert_eq!(first, times(three.unwrap()));
    let later = send(&other, 1, 60).await.unwrap();
    assert_eq!(later.tally().duplicates, 20);
    assert_eq!(times(later), first);
    assert_eq!(
        send(&store, 2, 0).await.unwrap_err().code(),
        "idempotency_key_reused"
    );
    let client = db.client(roles::APP).await;
    assert_eq!(
        number(&client, "select count(*) from system_metrics").await,
        20
    );
}

#[tokio::test]
async fn a_service_has_no_more_series_than_it_may_and_the_labels_to_blame_are_named() {
    let db = crate::support::TestDb::new().await;
    let open = || {
        let mut config = db.settings();
        config.metrics.max_series_per_service = 100;
        Store::open(config).unwrap()
    };
    let (store, other) = (open(), open());
    let many = |from: usize| {
        let mut batch = Batch::default();
        for number in from..from + 150 {
            let series = batch.series(series("requests", &format!("request-{number}")));
            batch.push(NewSample {
                series,
                at: Some(at(0)),
                value: 1.0,
                metadata: None,
            });
        }
        batch
    };
    let (one, two) = tokio::join!(record(&store, many(0)), record(&other, many(1_000)));
    assert_eq!(one.tally().stored + two.tally().stored, 100);
    let (_, message) = &two.tally().rejected[&Reason::TooManySeries];
    assert!(
        message.contains(r#""host" has 100 values (most of them in "requests")"#),
        "{message}"
    );
    // What exists goes on; another service is not concerned.
    let mut old_and_new = many(0);
    let elsewhere = old_and_new.series(SeriesName {
        service_name: "web".into(),
        ..series("requests", "a")
    });
    old_and_new.push(NewSample {
        series: elsewhere,
        at: Some(at(1)),
        value: 1.0,
        metadata: None,
    });
    let recorded = record(&store, old_and_new).await;
    assert_eq!(recorded.samples.last().unwrap().outcome, Outcome::Stored);
    assert_eq!(recorded.tally().duplicates, one.tally().stored);
    let client = db.client(roles::APP).await;
    assert_eq!(
        number(
            &client,
            "select count(*) from metric_series where service_name = 'api'"
        )
        .await,
        100
    );
}

#[tokio::test]
async fn more_than_the_queue_holds_is_refused_at_once_and_leaves_nothing() {
    let db = crate::support::TestDb::new().await;
    let mut config = db.settings();
    config.metrics.max_samples_per_commit = 10;
    config.metrics.max_waiting_samples = 100;
    let store = Store::open(config).unwrap();
    let cpu = series("cpu", "a");
    store_all(&store, batch(&cpu, [(at(-1_000), 0.0)])).await;
    let mut locker = db.admin().await;
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute(
        "lock table system_metrics in share mode; lock table system_metrics_20260310 in share mode",
    )
    .await
    .unwrap();
    let waiting: Vec<_> = (0..10)
        .map(|n| {
            let (store, batch) = (
                store.clone(),
                batch(&cpu, (0..10).map(|k| (at(-n * 10 - k), 1.0))),
            );
            tokio::spawn(async move { record(&store, batch).await })
        })
        .collect();
    while store.metrics_intake().snapshot().waiting < 100 {
        tokio::task::yield_now().await;
    }
    let more = store
        .metrics()
        .record(batch(&cpu, [(at(-500), 1.0)]), Accept::Whole, None, noon())
        .await;
    assert_eq!(more.unwrap_err().code(), "queue_full");
    lock.rollback().await.unwrap();
    for task in waiting {
        assert_eq!(task.await.unwrap().tally().stored, 10);
    }
    let client = db.client(roles::APP).await;
    assert_eq!(
        number(&client, "select count(*) from system_metrics").await,
        101
    );
    assert_eq!(store.metrics_intake().snapshot().waiting, 0);
}

#[tokio::test]
async fn concurrent_writers_that_overlap_store_each_place_once() {
    let (db, store) = store().await;
    let other = db.store().await;
    let rounds = scale(6, 60);
    let mut stored = 0;
    for round in 0..rounds {
        let write = |store: &Store, host: i64, back: bool| {
            let mut all = Batch::default();
            for day in 0..3 {
                let series = all.series(series("cpu", &format!("{}", (host + day) % 3)));
                for n in 0..100 {
                    let n = if back { 99 - n } else { n };
                    let sample_at = at(-day * 86_400 - n - i64::try_from(round).unwrap() * 50);
                    all.push(NewSample {
                        series,
                        at: Some(sample_at),
                        value: 1.0,
                        metadata: None,
                    });
                }
            }
            let store = store.clone();
            tokio::spawn(async move { record(&store, all).await.tally() })
        };
        let tasks = [
            write(&store, 0, false),
            write(&other, 0, true),
            write(&store, 1, true),
            write(&other, 1, false),
        ];
        for task in tasks {
            let tally = task.await.unwrap();
            assert_eq!(tally.stored + tally.duplicates, 300);
            stored += tally.stored;
        }
    }
    let client = db.client(roles::APP).await;
    assert_eq!(
        number(&client, "select count(*) from system_metrics").await,
        i64::try_from(stored).unwrap()
    );
}

#[tokio::test]
async fn numbers_of_series_of_a_table_that_was_made_anew_are_not_written() {
    let (db, store) = store().await;
    let (cpu, memory) = (series("cpu", "a"), series("memory", "a"));
    store_all(&store, batch(&cpu, [(at(0), 1.0)])).await;
    // Restored from before: the same number now stands for another series.
    let owner = db.admin().await;
    owner
        .batch_execute("truncate metric_series restart identity")
        .await
        .unwrap();
    let other = db.store().await;
    store_all(&other, batch(&memory, [(at(1), 2.0)])).await;
    let refused = store
        .metrics()
        .record(batch(&cpu, [(at(2), 3.0)]), Accept::Whole, None, noon())
        .await;
    assert_eq!(refused.unwrap_err().code(), "series_changed");
    store_all(&store, batch(&cpu, [(at(2), 3.0)])).await;
    let sql = "select count(*) from system_metrics m join metric_series s on s.id = m.series_id
               where s.metric_type = 'cpu' and m.value = 3";
    assert_eq!(number(&owner, sql).await, 1);
}

#[tokio::test]
async fn a_day_that_is_archived_takes_no_samples_and_the_others_do() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    let both = || {
        batch(
            &cpu,
            (0..100).flat_map(|n| [(at(n), 1.0), (at(n - 5 * 86_400), 1.0)]),
        )
    };
    store_all(&store, both()).await;
    let owner = db.admin().await;
    owner
        .batch_execute(
            "select setval('metric_closing_hour', extract(epoch from '2026-03-10T00:00:00Z'::timestamptz)::bigint / 3600);
                        alter table system_metrics detach partition system_metrics_20260305;
                        update metric_days set state = 'detached' where day = '2026-03-05'",
        )
        .await
        .unwrap();
    let more = (100..200).flat_map(|n| [(at(n), 1.0), (at(n - 5 * 86_400), 1.0)]);
    let tally = record(&store, batch(&cpu, more)).await.tally();
    assert_eq!(
        (tally.stored, tally.rejected[&Reason::Archived].0),
        (100, 100)
    );
    assert_eq!(
        number(&owner, "select count(*) from system_metrics_20260305").await,
        100
    );
}

#[tokio::test]
async fn samples_whose_sender_has_gone_away_still_take_their_room() {
    let db = crate::support::TestDb::new().await;
    let mut config = db.settings();
    config.metrics.max_samples_per_commit = 10;
    config.metrics.max_waiting_samples = 100;
    let store = Store::open(config).unwrap();
    let cpu = series("cpu", "a");
    store_all(&store, batch(&cpu, [(at(-1_000), 0.0)])).await;
    let mut locker = db.admin().await;
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("lock table system_metrics_20260310 in share mode")
        .await
        .unwrap();
    let mut refused = 0;
    for n in 0..40 {
        let samples = batch(&cpu, (0..10).map(|k| (at(-n * 10 - k), 1.0)));
        let metrics = store.metrics();
        let sending = metrics.record(samples, Accept::Whole, None, noon());
        // Gone, unless it was refused at once.
        let answer = tokio::time::timeout(std::time::Duration::from_millis(20), sending).await;
        refused += usize::from(answer.is_ok_and(|answer| answer.is_err()));
        assert!(store.metrics_intake().snapshot().waiting <= 100);
    }
    assert!(refused >= 30, "only {refused} were refused");
    lock.rollback().await.unwrap();
    while store.metrics_intake().snapshot().waiting > 0 {
        tokio::task::yield_now().await;
        store
            .metrics()
            .record(batch(&cpu, [(at(5), 1.0)]), Accept::Whole, None, noon())
            .await
            .ok();
    }
}

#[tokio::test]
async fn a_batch_that_is_stored_as_a_whole_is_not_torn_by_an_archived_day() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    let admin = db.admin().await;
    admin
        .batch_execute(
            "insert into metric_days (day, state, made_at) values ('2026-03-05', 'archived', '2026-03-05')",
        )
        .await
        .unwrap();
    let both = || batch(&cpu, [(at(0), 1.0), (at(-5 * 86_400), 1.0)]);
    let whole = store
        .metrics()
        .record(both(), Accept::Whole, None, noon())
        .await
        .unwrap();
    assert_eq!(whole.samples[0].outcome, Outcome::Withheld);
    assert_eq!(whole.tally().rejected[&Reason::Archived].0, 1);
    assert_eq!(
        number(&admin, "select count(*) from system_metrics").await,
        0
    );
    assert_eq!(record(&store, both()).await.tally().stored, 1);
}

#[tokio::test]
async fn the_table_of_series_is_not_replaced_under_a_writer() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    store_all(&store, batch(&cpu, [(at(0), 1.0)])).await;
    let mut admin = db.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table system_metrics_20260310 in share mode")
        .await
        .unwrap();
    let waiting = {
        let (store, samples) = (store.clone(), batch(&cpu, [(at(1), 424_242.0)]));
        tokio::spawn(async move {
            store
                .metrics()
                .record(samples, Accept::Whole, None, noon())
                .await
        })
    };
    let holds =
        "select count(*) from pg_locks where relation = 'metric_series'::regclass and granted";
    let other = db.admin().await;
    while number(&other, holds).await == 0 {
        tokio::task::yield_now().await;
    }
    // They wait for each other: one of them is refused, and nothing gets the number of another series.
    let replaced = lock
        .batch_execute("truncate metric_series restart identity")
        .await;
    let renamed = "insert into metric_series (service_name, metric_type, unit, labels, created_at)
                   values ('web', 'cpu', 'ms', '{}', '2026-03-10')";
    if replaced.is_ok() {
        lock.batch_execute(renamed).await.unwrap();
        lock.commit().await.unwrap();
    } else {
        lock.rollback().await.unwrap();
    }
    let stored = waiting.await.unwrap();
    let mixed = "select count(*) from system_metrics m join metric_series s on s.id = m.series_id
                 where m.value = 424242 and s.service_name = 'web'";
    assert_eq!(number(&other, mixed).await, 0);
    assert!(replaced.is_err() || stored.is_err());
}

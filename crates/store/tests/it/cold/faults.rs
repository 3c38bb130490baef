//! A store that fails and lies: whatever it does, what was proved is there, what was removed is gone, and what is read is right.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use object_store::{ObjectStoreExt as _, memory::InMemory};
use tokio_postgres::Client;
use utxoiq_store::{
    cold::{ColdStore, Dataset, Manifest, ObjectKey, Written},
    error::Kind,
};
use utxoiq_store_testkit::{Fault, FaultyStore, Request};

use super::support::{Cold, copy, fill_large, fill_samples, fill_small, key, names};
use crate::support::TestDb;

const LIES: [Fault; 4] = [Fault::Nothing, Fault::Flip, Fault::Truncate, Fault::Append];

fn faulty() -> (Cold, FaultyStore) {
    let faulty = FaultyStore::over(Arc::new(InMemory::new()));
    (Cold::over(Arc::new(faulty.clone())), faulty)
}

async fn write(client: &Client, store: &ColdStore) -> (ObjectKey, utxoiq_store::Result<Written>) {
    let key = key(Dataset::FeedbackHistory);
    let rows = copy(client, Dataset::FeedbackHistory).await;
    (key, store.write(key, rows, None).await)
}

fn manifest(key: ObjectKey, written: &Written) -> Manifest {
    let now = "2026-08-02T02:00:00Z".parse().unwrap();
    Manifest::new(key, written, 10, None, now)
}

/// What a proof may answer to a lie.
fn assert_found_out<T: std::fmt::Debug>(result: utxoiq_store::Result<T>, what: &str) {
    let error = result.expect_err(what);
    assert!(
        ["cold_object_differs", "cold_object_missing"].contains(&error.code()),
        "{what}: {error:?}"
    );
}

#[tokio::test]
async fn what_a_store_only_says_to_have_stored_is_not_proved() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_small(&client).await;
    let (cold, faulty) = faulty();
    for lie in LIES {
        faulty.next(Request::Put, [Some(lie)]);
        let (key, written) = write(&client, &cold.store).await;
        let written = written.unwrap();
        assert_found_out(cold.store.prove(key, &written).await, &format!("{lie:?}"));
        // The manifest the same.
        faulty.next(Request::Put, [Some(lie)]);
        let put = cold.store.put_manifest(key, &manifest(key, &written)).await;
        assert_found_out(put, &format!("manifest, {lie:?}"));
    }
    let (key, written) = write(&client, &cold.store).await;
    let mut written = written.unwrap();
    cold.store.prove(key, &written).await.unwrap();
    // The same bytes, and other contents than were meant.
    written.content.replace_range(0..2, "zz");
    assert_found_out(cold.store.prove(key, &written).await, "content");
    let (key, written) = write(&client, &cold.store).await;
    let mut written = written.unwrap();
    written.columns[0].nulls += 1;
    assert_found_out(cold.store.prove(key, &written).await, "nulls");
}

#[tokio::test]
async fn parts_that_were_lost_or_changed_are_not_proved() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_large(&client).await;
    let (cold, faulty) = faulty();
    for (request, fault) in [
        (Request::Part, Fault::Nothing),
        (Request::Part, Fault::Flip),
        (Request::Part, Fault::Truncate),
        (Request::Complete, Fault::Nothing),
    ] {
        faulty.next(request, [Some(fault)]);
        let (key, written) = write(&client, &cold.store).await;
        let proof = cold.store.prove(key, &written.unwrap()).await;
        assert_found_out(proof, &format!("{request:?} {fault:?}"));
    }
    for (request, fault) in [
        (Request::Part, Fault::FailBefore),
        (Request::Complete, Fault::FailBefore),
        (Request::Complete, Fault::FailAfter),
    ] {
        faulty.next(request, [Some(fault)]);
        let error = write(&client, &cold.store).await.1.unwrap_err();
        assert_eq!(
            error.code(),
            "cold_store_unavailable",
            "{request:?} {fault:?}"
        );
    }
    assert!(faulty.seen(Request::Part) > 7, "several parts each");
    let (key, written) = write(&client, &cold.store).await;
    cold.store.prove(key, &written.unwrap()).await.unwrap();
}

#[tokio::test]
async fn wrong_bytes_are_never_given_and_right_ones_are_when_they_come() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_small(&client).await;
    let (cold, faulty) = faulty();
    let (key, written) = write(&client, &cold.store).await;
    let written = written.unwrap();
    let object = written.object(key);
    cold.store
        .put_manifest(key, &manifest(key, &written))
        .await
        .unwrap();
    for lie in [Fault::Flip, Fault::Truncate, Fault::Append] {
        faulty.next(Request::Get, [Some(lie), Some(lie), Some(lie)]);
        assert_found_out(cold.store.prove(key, &written).await, &format!("{lie:?}"));
        let error = cold.store.fetch(&object).await.unwrap_err();
        assert_eq!(error.code(), "cold_object_damaged", "{lie:?}");
        assert_eq!(error.kind(), Kind::Unavailable);
        let error = cold.store.get_manifest(key).await;
        if lie == Fault::Append {
            // A NUL behind the JSON.
            assert_eq!(error.unwrap_err().code(), "cold_object_damaged");
        } else if let Ok(found) = error {
            assert_eq!(found, manifest(key, &written), "{lie:?}");
        }
    }
    for failure in [Fault::FailBefore, Fault::FailAfter] {
        faulty.next(Request::Get, [Some(failure)]);
        let error = cold.store.fetch(&object).await.unwrap_err();
        assert_eq!(error.code(), "cold_store_unavailable");
    }
    let fetched = cold.store.fetch(&object).await.unwrap();
    assert_eq!(fetched.row_count(), 500);
    assert_eq!(
        cold.store.get_manifest(key).await.unwrap(),
        manifest(key, &written)
    );
    faulty.lose("part-").await;
    for result in [
        cold.store.fetch(&object).await.map(|_| ()),
        cold.store.prove(key, &written).await.map(|_| ()),
        cold.store.get_manifest(key).await.map(|_| ()),
    ] {
        let error = result.unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("cold_object_missing", Kind::NotFound)
        );
    }
}

#[tokio::test]
async fn a_proof_asks_the_store_and_not_the_cache() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_samples(&client, 2, 100).await;
    let (cold, faulty) = faulty();
    let key = key(Dataset::Metrics);
    let rows = copy(&client, Dataset::Metrics).await;
    let written = cold.store.write(key, rows, Some(&names(1..3))).await;
    let written = written.unwrap();
    cold.store.prove(key, &written).await.unwrap();
    faulty.lose("metrics").await;
    let error = cold.store.prove(key, &written).await.unwrap_err();
    assert_eq!(error.code(), "cold_object_missing");
    // The copy that was proved is still there, and right.
    cold.store.fetch(&written.object(key)).await.unwrap();
}

#[tokio::test]
async fn a_manifest_with_any_bit_changed_is_refused() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_small(&client).await;
    let cold = Cold::new();
    let (key, written) = write(&client, &cold.store).await;
    let manifest = manifest(key, &written.unwrap());
    cold.store.put_manifest(key, &manifest).await.unwrap();
    let path = object_store::path::Path::from(format!("archive/{}", key.manifest()));
    let right = cold.inner.get(&path).await.unwrap().bytes().await.unwrap();
    for at in 0..right.len() {
        let mut wrong = right.to_vec();
        wrong[at] ^= 1 << (at % 7);
        cold.inner.put(&path, wrong.into()).await.unwrap();
        // White space may become other white space: nothing is told by it.
        if let Ok(found) = cold.store.get_manifest(key).await {
            assert_eq!(found, manifest);
        }
    }
}

#[tokio::test]
async fn what_was_removed_is_gone_or_said_to_remain() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_small(&client).await;
    let (cold, faulty) = faulty();
    let (key, written) = write(&client, &cold.store).await;
    let written = written.unwrap();
    let put = async || {
        cold.store
            .put_manifest(key, &manifest(key, &written))
            .await
            .unwrap();
    };
    put().await;
    for (faults, code) in [
        (vec![Some(Fault::Nothing)], "cold_object_remains"),
        (vec![Some(Fault::FailBefore)], "cold_store_unavailable"),
        (vec![Some(Fault::FailAfter)], "cold_store_unavailable"),
        // The object goes, its manifest does not.
        (vec![None, Some(Fault::Nothing)], "cold_object_remains"),
    ] {
        faulty.next(Request::Delete, faults);
        assert_eq!(cold.store.remove(key).await.unwrap_err().code(), code);
    }
    faulty.next(Request::Head, [Some(Fault::FailBefore)]);
    assert!(cold.store.remove(key).await.is_err(), "it could not ask");
    cold.store.remove(key).await.unwrap();
    cold.store.remove(key).await.unwrap();
    assert_eq!(cold.store.size(key).await.unwrap(), None);
    assert_eq!(cold.store.list().count().await, 0);
}

#[tokio::test]
async fn a_store_that_never_answers_costs_the_time_limit_and_no_more() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_small(&client).await;
    let (cold, faulty) = faulty();
    let store = cold.store.clone().with_timeout(Duration::from_millis(300));
    let (key, written) = write(&client, &store).await;
    let written = written.unwrap();
    for request in [
        Request::Put,
        Request::Get,
        Request::Head,
        Request::Delete,
        Request::List,
    ] {
        faulty.always(request, Fault::Hang);
    }
    let begun = Instant::now();
    let results = [
        write(&client, &store).await.1.map(|_| ()),
        store.prove(key, &written).await.map(|_| ()),
        store.fetch(&written.object(key)).await.map(|_| ()),
        store.put_manifest(key, &manifest(key, &written)).await,
        store.get_manifest(key).await.map(|_| ()),
        store.remove(key).await,
        store.size(key).await.map(|_| ()),
        Box::pin(store.list()).next().await.unwrap().map(|_| ()),
    ];
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("cold_store_unavailable", Kind::Unavailable)
        );
    }
}

#[tokio::test]
async fn whatever_goes_wrong_what_was_proved_is_there() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_small(&client).await;
    let (mut proved, mut failed) = (0, 0);
    for seed in 0..12 {
        let (cold, faulty) = faulty();
        let store = cold.store.clone().with_timeout(Duration::from_millis(500));
        let faults = [
            Fault::FailBefore,
            Fault::FailAfter,
            Fault::Nothing,
            Fault::Flip,
            Fault::Truncate,
            Fault::Append,
            Fault::Slow(Duration::from_millis(5)),
        ];
        faulty.seeded(seed, 250, &faults);
        let mut kept = Vec::new();
        for _ in 0..10 {
            let (key, written) = write(&client, &store).await;
            let Ok(written) = written else {
                failed += 1;
                continue;
            };
            match store.prove(key, &written).await {
                Ok(_) => kept.push((key, written)),
                Err(_) => failed += 1,
            }
        }
        faulty.heal();
        for (key, written) in kept {
            let fetched = store.fetch(&written.object(key)).await.unwrap();
            assert_eq!(fetched.row_count(), 500, "seed {seed}");
            proved += 1;
        }
    }
    assert!(
        proved > 20 && failed > 20,
        "{proved} proved, {failed} failed"
    );
}

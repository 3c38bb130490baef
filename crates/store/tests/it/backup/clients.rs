//! The whole way of a backup through the real clients: Cloud Storage, and a store that is compatible with S3.

use utxoiq_store_testkit::{FakeGcs, Proc, ports};

use super::{
    night::{self, Night, STEP, noise},
    *,
};
use crate::cold::python::{python_with, run, skip};

/// More than a part of an upload has, when it is compressed.
const SEVERAL_PARTS: u32 = 10 * 1024;

/// Made, read back, copied, listed, found changed, and pruned: one of several parts, and small ones.
async fn whole_way(house: &House, night: &mut Night) {
    let store = night.store.clone();
    let backups = || store.backups();
    house
        .admin
        .batch_execute(&noise(SEVERAL_PARTS))
        .await
        .unwrap();
    let mut made = vec![night.make().await.unwrap()];
    assert!(made[0].stored_bytes > 8 * 1024 * 1024, "several parts");
    house.admin.batch_execute("drop table noise").await.unwrap();
    night.next_night();
    made.push(night.make().await.unwrap());
    night.next_night();
    made.push(night.make().await.unwrap());
    for backup in &made {
        assert_eq!(backup.state.as_str(), "verified");
        assert!(backup.copied_at.is_some());
    }
    let found = backups().inventory().await.unwrap();
    assert!(
        found.faults.is_empty() && found.unknown.is_empty(),
        "{found:?}"
    );
    let verdicts = backups().prune(night.now(), ACTOR).await.unwrap();
    let gone = verdicts.iter().filter(|one| !one.verdict.keep);
    let gone: Vec<_> = gone.map(|one| one.backup.id).collect();
    assert_eq!(gone, [made[0].id]);
    let found = backups().inventory().await.unwrap();
    assert!(found.faults.is_empty(), "{found:?}");
    // What is gone is missed: told once the inventory has seen it twice.
    let bucket = Bucket::open(&(&night.store.config().backup_store).into());
    let bucket = bucket.unwrap().unwrap();
    bucket.remove(made[1].key).await.unwrap();
    night.is_told("backup_object_missing").await;
    assert_eq!(night.notices("backup_manifest_missing").len(), 1);
}

/// The settings of two buckets in one place.
fn buckets(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let of = |section: &str, bucket: &str| {
        settings
            .iter()
            .map(|(name, value)| {
                let name = format!("UTXOIQ_STORE_{section}__{name}");
                (name, value.replace("BUCKET", bucket))
            })
            .collect::<Vec<_>>()
    };
    let keep = [("DAILY", "2"), ("WEEKLY", "0")];
    let keep = keep.map(|(what, n)| (format!("UTXOIQ_STORE_BACKUP__KEEP_{what}"), n.to_owned()));
    let [first, second] = [("BACKUP_STORE", "first"), ("BACKUP_COPY", "second")];
    let both = of(first.0, first.1)
        .into_iter()
        .chain(of(second.0, second.1));
    both.chain(keep).collect()
}

async fn with(settings: &[(String, String)]) -> (House, Night) {
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    Night::new(&settings).await
}

fn of_cloud_storage(server: &FakeGcs, folder: &TempDir) -> Vec<(String, String)> {
    let account = folder.path().join("account.json");
    std::fs::write(&account, server.service_account()).unwrap();
    buckets(&[
        ("URL", "gs://BUCKET/some/prefix"),
        ("SERVICE_ACCOUNT_PATH", account.to_str().unwrap()),
        ("ENDPOINT", &server.url()),
        ("ALLOW_HTTP", "true"),
        ("TIMEOUT_SECONDS", "5"),
    ])
}

#[tokio::test]
async fn a_backup_goes_its_whole_way_through_cloud_storage() {
    let (server, folder) = (FakeGcs::start().await, TempDir::new().unwrap());
    server.place("EUROPE-WEST4", "region", &[]);
    let (house, mut night) = with(&of_cloud_storage(&server, &folder)).await;
    night.store.backups().check_places().await.unwrap();
    whole_way(&house, &mut night).await;
    assert_eq!(server.unfinished_uploads(), 0);
    assert!(night.notices("backup_location").is_empty());
    // Refused from one moment to the next.
    night.next_night();
    let before = server.objects();
    server.refuse(true);
    let error = night.make().await.unwrap_err();
    assert_eq!(error.code(), "cold_store_refused");
    night.is_told("backup_failed").await;
    server.refuse(false);
    assert_eq!(server.objects(), before);
    night.is_made_good("backup_failed").await;
}

#[tokio::test]
async fn where_cloud_storage_lies_is_asked_and_the_databases_region_is_refused() {
    let (server, folder) = (FakeGcs::start().await, TempDir::new().unwrap());
    let (_house, mut night) = with(&of_cloud_storage(&server, &folder)).await;
    let backups = night.store.backups();
    // Nobody may know: it serves, and that is told.
    backups.check_places().await.unwrap();
    let wrong = night.watch.look(night.store.now()).await;
    assert!(
        wrong.contains(&"backup_location_unknown:backup_store".to_owned()),
        "{wrong:?}"
    );
    assert!(
        wrong.contains(&"backup_location_unknown:backup_copy".to_owned()),
        "{wrong:?}"
    );
    for (location, kind, regions) in [
        ("US-CENTRAL1", "region", &[][..]),
        ("US", "multi-region", &[]),
        ("US", "dual-region", &["US-EAST1", "US-CENTRAL1"]),
    ] {
        server.place(location, kind, regions);
        let error = night.store.backups().check_places().await.unwrap_err();
        assert_eq!(error.code(), "backup_in_same_region", "{location}");
        assert!(error.message().contains("us-central1"), "{error:?}");
    }
    // A bucket that is found to be there later is told, too: it is asked again every hour.
    night.clock.advance(TimeDelta::hours(1));
    night.is_told("backup_location_same:backup_store").await;
    server.place("EUROPE-WEST4", "region", &[]);
    night.clock.advance(TimeDelta::hours(1));
    night.is_over("backup_location_same").await;
    assert!(
        server
            .asked_with()
            .is_none_or(|with| !with.contains("secret"))
    );
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_nothing_to_be_seen_and_no_parts() {
    let (server, folder) = (FakeGcs::start().await, TempDir::new().unwrap());
    let (house, mut night) = with(&of_cloud_storage(&server, &folder)).await;
    house
        .admin
        .batch_execute(&noise(2 * SEVERAL_PARTS))
        .await
        .unwrap();
    // Its caller goes away, as with a process that is told to stop.
    let (store, slot) = (night.store.clone(), night.slot);
    let making = tokio::spawn(async move {
        let backups = store.backups();
        let progress = Progress::default();
        backups.make(Some(slot), ACTOR, slot, &progress).await
    });
    while server.unfinished_uploads() == 0 && !making.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!making.is_finished(), "it was too fast to be stopped");
    making.abort();
    assert!(making.await.unwrap_err().is_cancelled());
    until("the parts are given up", async || {
        server.unfinished_uploads() == 0
    })
    .await;
    assert!(server.objects().is_empty());
    assert!(night::tool_of("pg_dump", house.db.name()).is_none());
    // The network breaks in the middle.
    night.is_told("backup_failed").await;
    night.clock.advance(STEP);
    let (made, ()) = tokio::join!(night.make(), async {
        while server.unfinished_uploads() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.fail(12);
    });
    assert_eq!(made.unwrap_err().code(), "cold_store_unavailable");
    server.fail(0);
    assert!(server.objects().is_empty());
    until("the parts are given up", async || {
        server.unfinished_uploads() == 0
    })
    .await;
    night.is_made_good("backup_failed").await;
}

/// A server that speaks S3, with two buckets; it ends when it is dropped.
async fn s3() -> Result<(Proc, String), String> {
    let python = python_with("moto[server]", "moto").await?;
    let port = ports::free_port().to_string();
    let arguments = ["-m", "moto.server", "-H", "127.0.0.1", "-p", &port];
    let none: [(&str, &str); 0] = [];
    let server = Proc::spawn(&python, arguments, none);
    let address = format!("http://127.0.0.1:{port}");
    let make = format!(
        "import time, urllib.request as u
for bucket in ('first', 'second'):
    for _ in range(200):
        try:
            u.urlopen(u.Request('{address}/' + bucket, method='PUT', headers={{'Authorization': 'AWS4-HMAC-SHA256 Credential=k/20260801/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=s'}})); break
        except OSError as e:
            error = e; time.sleep(0.1)
    else:
        raise error"
    );
    run(&python, &["-c", &make]).await?;
    Ok((server, address))
}

#[tokio::test]
async fn a_backup_goes_its_whole_way_through_an_s3_compatible_store() {
    let (server, address) = match s3().await {
        Ok(there) => there,
        Err(why) => return skip(&why),
    };
    let (house, mut night) = with(&buckets(&[
        ("URL", "s3://BUCKET/prefix"),
        ("ENDPOINT", &address),
        ("ALLOW_HTTP", "true"),
        ("REGION", "us-east-1"),
        ("LOCATION", "eu-west-1"),
        ("ACCESS_KEY_ID", "k"),
        ("SECRET_ACCESS_KEY", "hush-hush"),
        ("TIMEOUT_SECONDS", "10"),
    ]))
    .await;
    night.store.backups().check_places().await.unwrap();
    whole_way(&house, &mut night).await;
    night.next_night();
    server.kill9();
    let error = night.make().await.unwrap_err();
    assert_eq!(error.code(), "cold_store_unavailable");
    let told = night.is_told("backup_failed").await;
    assert!(!format!("{error:?} {told}").contains("hush"));
}

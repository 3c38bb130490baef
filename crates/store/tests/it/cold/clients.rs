//! The real clients: Cloud Storage, S3 and a folder; and another program that reads the files.

use std::{path::Path, process::Stdio, time::Duration};

use futures_util::TryStreamExt as _;
use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::Client;
use utxoiq_store::{
    cold::{ColdStore, Dataset, Listed, Manifest, ObjectKey},
    config::{ColdSettings, Loader},
};
use utxoiq_store_testkit::{FakeGcs, ports};

use super::{
    python::{python_with, run, skip},
    support::{copy, fill_large, fill_samples, key, names},
};
use crate::support::TestDb;

fn settings(folder: &Path, more: &[(&str, &str)]) -> ColdSettings {
    let cache = folder.join("cache").to_string_lossy().into_owned();
    let vars = more
        .iter()
        .copied()
        .chain([("CACHE_DIR", cache.as_str()), ("TIMEOUT_SECONDS", "10")])
        .map(|(name, value)| (format!("UTXOIQ_STORE_COLD__{name}"), value.to_owned()));
    Loader::default().env(vars).unwrap().finish().unwrap().cold
}

/// Objects of one part and of several, manifests, listings and removals.
async fn exercise(store: &ColdStore) {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_samples(&client, 4, 3_000).await;
    fill_large(&client).await;
    let mut keys = Vec::new();
    for dataset in [Dataset::Metrics, Dataset::FeedbackHistory] {
        let key = key(dataset);
        let rows = copy(&client, dataset).await;
        let written = store.write(key, rows, Some(&names(1..5))).await.unwrap();
        store.prove(key, &written).await.unwrap();
        let now = "2026-08-02T02:00:00Z".parse().unwrap();
        let manifest = Manifest::new(key, &written, 10, None, now);
        store.put_manifest(key, &manifest).await.unwrap();
        assert_eq!(store.get_manifest(key).await.unwrap(), manifest);
        assert_eq!(store.size(key).await.unwrap(), Some(written.bytes));
        let fetched = store.fetch(&manifest.written().object(key)).await.unwrap();
        assert_eq!(fetched.row_count(), written.rows);
        keys.extend([key, key.manifest()]);
    }
    let listed: Vec<Listed> = store.list().try_collect().await.unwrap();
    let mut found: Vec<ObjectKey> = listed.iter().filter_map(|object| object.key).collect();
    found.sort_unstable();
    keys.sort_unstable();
    assert_eq!(found, keys, "{listed:?}");
    assert!(
        listed.iter().any(|object| object.size > 8 * 1024 * 1024),
        "several parts"
    );
    for key in keys {
        store.remove(key).await.unwrap();
        store.remove(key).await.unwrap();
    }
    assert!(store.list().try_next().await.unwrap().is_none());
}

#[test]
fn settings_that_cannot_work_are_refused_and_no_url_is_no_store() {
    let folder = TempDir::new().unwrap();
    assert!(
        ColdStore::open(&settings(folder.path(), &[]))
            .unwrap()
            .is_none()
    );
    for bad in [
        &[("URL", "http://bucket/prefix")][..],
        &[("URL", "gs://")],
        &[("URL", "file://host/folder")],
        &[("URL", "s3://bucket?region=here")],
        &[("URL", "s3://key@bucket")],
        &[("URL", "s3://bucket"), ("ACCESS_KEY_ID", "k")],
        &[("URL", "gs://bucket"), ("REGION", "here")],
        &[
            ("URL", "s3://bucket"),
            ("SERVICE_ACCOUNT_PATH", "/account.json"),
        ],
        &[("URL", "s3://bucket"), ("ENDPOINT", "http://127.0.0.1:1")],
        &[
            ("URL", "file:///folder"),
            ("ENDPOINT", "https://example.org"),
        ],
        &[("TIMEOUT_SECONDS", "0")],
    ] {
        let vars = bad
            .iter()
            .map(|(name, value)| (format!("UTXOIQ_STORE_COLD__{name}"), (*value).to_owned()));
        let refused = Loader::default().env(vars).unwrap().finish();
        assert_eq!(refused.unwrap_err().code(), "invalid_config", "{bad:?}");
    }
}

async fn gcs(server: &FakeGcs, folder: &Path) -> ColdStore {
    let account = folder.join("account.json");
    tokio::fs::write(&account, server.service_account())
        .await
        .unwrap();
    let settings = settings(
        folder,
        &[
            ("URL", "gs://bucket/some/prefix"),
            ("SERVICE_ACCOUNT_PATH", account.to_str().unwrap()),
            ("ALLOW_HTTP", "true"),
        ],
    );
    ColdStore::open(&settings).unwrap().unwrap()
}

#[tokio::test]
async fn the_client_of_cloud_storage_speaks_its_api() {
    let folder = TempDir::new().unwrap();
    let server = FakeGcs::start().await;
    let store = gcs(&server, folder.path()).await;
    exercise(&store).await;
    assert_eq!(server.unfinished_uploads(), 0);
    // A server that fails for a moment is asked again, one that goes on failing is not asked for ever.
    server.fail(2);
    assert_eq!(store.size(key(Dataset::Metrics)).await.unwrap(), None);
    server.fail(1_000);
    let error = store.size(key(Dataset::Metrics)).await.unwrap_err();
    assert_eq!(error.code(), "cold_store_unavailable");
    // Nobody listens.
    drop(server);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = std::time::Instant::now();
    let error = store.size(key(Dataset::Metrics)).await.unwrap_err();
    assert_eq!(error.code(), "cold_store_unavailable");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_upload_whose_caller_goes_away_leaves_no_parts() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_large(&client).await;
    let folder = TempDir::new().unwrap();
    let server = FakeGcs::start().await;
    let store = gcs(&server, folder.path()).await;
    let rows = copy(&client, Dataset::FeedbackHistory).await;
    // On another task: whatever is written must be able to move between threads.
    let writing = {
        let store = store.clone();
        tokio::spawn(async move { store.write(key(Dataset::FeedbackHistory), rows, None).await })
    };
    while server.unfinished_uploads() == 0 && !writing.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!writing.is_finished(), "it was too fast to be stopped");
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    for _ in 0..200 {
        if server.unfinished_uploads() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.unfinished_uploads(), 0);
    assert!(server.objects().is_empty());
}

#[tokio::test]
async fn a_folder_is_an_object_store_too() {
    let folder = TempDir::new().unwrap();
    let archive = folder.path().join("archive");
    let url = format!("file://{}", archive.display());
    let settings = settings(folder.path(), &[("URL", &url)]);
    assert_eq!(
        ColdStore::open(&settings).unwrap_err().code(),
        "invalid_config"
    );
    std::fs::create_dir(&archive).unwrap();
    exercise(&ColdStore::open(&settings).unwrap().unwrap()).await;
}

#[tokio::test]
async fn the_client_of_s3_speaks_to_an_s3_compatible_store() {
    let python = match python_with("moto[server]", "moto").await {
        Ok(python) => python,
        Err(why) => return skip(&why),
    };
    let port = ports::free_port();
    let mut server = Command::new(&python)
        .args([
            "-m",
            "moto.server",
            "-H",
            "127.0.0.1",
            "-p",
            &port.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let address = format!("http://127.0.0.1:{port}");
    let make = format!(
        "import time, urllib.request as u
for _ in range(200):
    try:
        u.urlopen(u.Request('{address}/bucket', method='PUT', headers={{'Authorization': 'AWS4-HMAC-SHA256 Credential=k/20260801/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=s'}})); break
    except OSError as e:
        error = e; time.sleep(0.1)
else:
    raise error"
    );
    run(&python, &["-c", &make]).await.unwrap();
    let folder = TempDir::new().unwrap();
    let settings = settings(
        folder.path(),
        &[
            ("URL", "s3://bucket/prefix"),
            ("ENDPOINT", &address),
            ("ALLOW_HTTP", "true"),
            ("REGION", "us-east-1"),
            ("ACCESS_KEY_ID", "k"),
            ("SECRET_ACCESS_KEY", "hush-hush"),
        ],
    );
    let store = ColdStore::open(&settings).unwrap().unwrap();
    exercise(&store).await;
    assert!(!format!("{settings:?} {store:?}").contains("hush"));
    server.kill().await.unwrap();
    let error = store.size(key(Dataset::Metrics)).await.unwrap_err();
    assert!(!format!("{error:?}").contains("hush"));
}

async fn sum(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn duckdb_reads_the_files_as_a_table_with_days() {
    let python = match python_with("duckdb", "duckdb").await {
        Ok(python) => python,
        Err(why) => return skip(&why),
    };
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_samples(&client, 5, 2_000).await;
    fill_large(&client).await;
    let folder = TempDir::new().unwrap();
    let archive = folder.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    let url = format!("file://{}", archive.display());
    let store = ColdStore::open(&settings(folder.path(), &[("URL", &url)]))
        .unwrap()
        .unwrap();
    for dataset in [Dataset::Metrics, Dataset::FeedbackHistory] {
        let key = key(dataset);
        let rows = copy(&client, dataset).await;
        let written = store.write(key, rows, Some(&names(1..6))).await.unwrap();
        store.prove(key, &written).await.unwrap();
    }
    let script = format!(
        "import duckdb
q = lambda sql: '|'.join(str(v) for v in duckdb.execute(sql).fetchone())
print(q(\"select count(*), round(sum(value), 6), min(sampled_at at time zone 'UTC'), count(metadata), min(day), count(distinct labels), min(unit), sum(series_id) filter (service_name = 'räume') from read_parquet('{0}/metrics/day=*/*.parquet', hive_partitioning = true)\"))
print(q(\"select count(*), sum(length(comment)), count(rating), md5(string_agg(comment, '' order by id)) from read_parquet('{0}/feedback_history/day=*/*.parquet', hive_partitioning = true)\"))",
        archive.display()
    );
    let printed = run(&python, &["-c", &script]).await.unwrap();
    let of_metrics = sum(
        &client,
        "select concat_ws('|', count(*), round(sum(value)::numeric, 6)::float8, min(sampled_at at time zone 'UTC'), count(metadata), '2026-08-01', 5, 'ms', sum(series_id)) from metrics",
    )
    .await;
    let of_history = sum(
        &client,
        "select concat_ws('|', count(*), sum(length(comment)), count(rating), md5(string_agg(comment, '' order by id))) from feedback_history",
    )
    .await;
    assert_eq!(printed.trim(), format!("{of_metrics}\n{of_history}"));
}

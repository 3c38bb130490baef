//! Memory does not grow with the number of rows.

use std::{env, process::Command};

use utxoiq_store::{
    cold::{ColdStore, Dataset},
    db::Copied,
};

use super::support::{key, names};
use crate::support::{TestDb, connect};

/// Says to the test below that it is the child: the address of its database, and how many rows it archives.
const CHILD: &str = "UTXOIQ_TEST_ARCHIVE_CHILD";

/// Archives rows into a folder, proves them, and prints the most memory it had, in KiB. Does nothing unless it is told to: other
/// tests of the same process would be counted in.
#[tokio::test]
async fn child_that_archives() {
    let Ok(told) = env::var(CHILD) else { return };
    let (url, rows) = told.split_once(' ').unwrap();
    let client = connect(url).await;
    let folder = tempfile::TempDir::new().unwrap();
    let inner = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let cache = folder.path().join("cache");
    let store = ColdStore::over(std::sync::Arc::new(inner), "", &cache, 1 << 30).unwrap();
    let sql = format!(
        "copy (select 1 + n / 100000, timestamptz '2026-08-01Z' + n % 100000 * interval '0.01 seconds', sin(n)::float8, md5(n::text)
               from generate_series(0, {rows} - 1) n) to stdout (format binary)"
    );
    let copied = Copied::over(client.copy_out(&sql).await.unwrap());
    let key = key(Dataset::Metrics);
    let written = store
        .write(key, copied, Some(&names(1..100)))
        .await
        .unwrap();
    store.prove(key, &written).await.unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    eprintln!("archived {} bytes, most memory {kib}", written.bytes);
}

#[tokio::test]
async fn five_times_the_rows_take_hardly_more_memory() {
    let db = TestDb::empty().await;
    let mut peaks = Vec::new();
    for rows in [200_000, 1_000_000] {
        let told = format!("{} {rows}", db.admin_url());
        let output = tokio::task::spawn_blocking(move || {
            Command::new(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "cold::memory::child_that_archives",
                    "--nocapture",
                ])
                .env(CHILD, told)
                .output()
                .unwrap()
        });
        let output = output.await.unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{printed}");
        eprintln!("{rows} rows: {}", printed.trim());
        let peak = printed.trim().rsplit(' ').next().unwrap();
        peaks.push(peak.parse::<u64>().unwrap());
    }
    // 26 MB in the archive are more than what one part more or less makes.
    assert!(peaks[1] < peaks[0] + 40_000, "{peaks:?} KiB");
    assert!(peaks[1] < 300_000, "{peaks:?} KiB");
}

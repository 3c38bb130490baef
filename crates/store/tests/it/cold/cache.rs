//! Copies on this machine.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    sync::Arc,
};

use object_store::memory::InMemory;
use utxoiq_store::cold::{ColdStore, Dataset, SampleRange, StoredObject};
use utxoiq_store_testkit::{FaultyStore, Request};

use super::support::{Cold, copy, fill_samples, fill_small, key, names};
use crate::support::TestDb;

/// Some archives of metrics of about the same size, in a store that counts.
async fn archives(count: usize) -> (Cold, FaultyStore, Vec<StoredObject>) {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_samples(&client, 3, 500).await;
    let faulty = FaultyStore::over(Arc::new(InMemory::new()));
    let cold = Cold::over(Arc::new(faulty.clone()));
    let mut objects = Vec::new();
    for _ in 0..count {
        let key = key(Dataset::Metrics);
        let rows = copy(&client, Dataset::Metrics).await;
        let written = cold
            .store
            .write(key, rows, Some(&names(1..4)))
            .await
            .unwrap();
        objects.push(written.object(key));
    }
    (cold, faulty, objects)
}

impl Cold {
    /// A store as another process would open it, on the same folder.
    fn again(&self, cache_bytes: u64) -> ColdStore {
        let folder = self.folder.path().join("cache");
        ColdStore::over(Arc::clone(&self.inner), "archive", &folder, cache_bytes).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("cache")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn an_object_is_downloaded_once_by_all_who_want_it() {
    let (cold, faulty, objects) = archives(1).await;
    let object = &objects[0];
    let fetches = (0..20).map(|_| cold.store.fetch(object));
    for fetched in futures_util::future::join_all(fetches).await {
        assert_eq!(fetched.unwrap().row_count(), 1_500);
    }
    assert_eq!(faulty.seen(Request::Get), 1);
    // Another process takes the file.
    cold.again(1 << 30).fetch(object).await.unwrap();
    assert_eq!(faulty.seen(Request::Get), 1);
}

#[tokio::test]
async fn a_copy_that_was_changed_on_the_disk_is_not_read() {
    let (cold, faulty, objects) = archives(1).await;
    let object = &objects[0];
    let path = cold.store.fetch(object).await.unwrap().path().to_owned();
    let right = fs::read(&path).unwrap();
    let mut wrong = right.clone();
    wrong[1_000] ^= 1;
    for (turn, bytes) in [wrong.clone(), right[..right.len() - 1].to_vec(), Vec::new()]
        .into_iter()
        .enumerate()
    {
        // In this process, which knew the file, and in one that comes upon it.
        for store in [cold.store.clone(), cold.again(1 << 30)] {
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, &bytes).unwrap();
            // As one who wants to hide it would.
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(modified).unwrap();
            drop(file);
            let before = faulty.seen(Request::Get);
            let fetched = store.fetch(object).await.unwrap();
            assert_eq!(fetched.row_count(), 1_500);
            assert_eq!(faulty.seen(Request::Get), before + 1, "turn {turn}");
            assert_eq!(fs::read(&path).unwrap(), right);
        }
    }
    fs::remove_file(&path).unwrap();
    cold.store.fetch(object).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), right);
}

#[tokio::test]
async fn copies_that_were_not_read_for_longest_make_room() {
    let (cold, faulty, objects) = archives(4).await;
    let size = objects.iter().map(|object| object.bytes).max().unwrap();
    let store = cold.again(size * 2 + size / 2);
    let held = store.fetch(&objects[0]).await.unwrap();
    store.fetch(&objects[1]).await.unwrap();
    store.fetch(&objects[2]).await.unwrap();
    // The first is in use, the second is older than the third.
    assert_eq!(cold.files().len(), 2);
    let before = faulty.seen(Request::Get);
    store.fetch(&objects[0]).await.unwrap();
    store.fetch(&objects[2]).await.unwrap();
    assert_eq!(faulty.seen(Request::Get), before);
    store.fetch(&objects[1]).await.unwrap();
    assert_eq!(faulty.seen(Request::Get), before + 1);
    // A process that has nothing open and less room takes the files away; what is open stays readable.
    cold.again(size).fetch(&objects[3]).await.unwrap();
    assert_eq!(cold.files().len(), 1);
    let range = SampleRange {
        series: vec![1, 2, 3],
        from: i64::MIN,
        to: i64::MAX,
    };
    let mut samples = held.samples(range).await.unwrap();
    let mut count = 0;
    while let Some(some) = samples.next().await.unwrap() {
        count += some.len();
    }
    assert_eq!(count, 1_500);
}

#[tokio::test]
async fn a_folder_that_others_may_read_is_refused() {
    let cold = Cold::new();
    let folder = cold.folder.path().join("cache");
    let mode = fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let open = |path: &std::path::Path| ColdStore::over(Arc::new(InMemory::new()), "", path, 1);
    let link = cold.folder.path().join("link");
    symlink(&folder, &link).unwrap();
    assert_eq!(open(&link).unwrap_err().code(), "cold_cache_unavailable");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(open(&folder).unwrap_err().code(), "cold_cache_unavailable");
}

#[tokio::test]
async fn what_tells_of_people_lies_there_only_while_it_is_read() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_small(&client).await;
    let cold = Cold::new();
    let key = key(Dataset::FeedbackHistory);
    let rows = copy(&client, Dataset::FeedbackHistory).await;
    let written = cold.store.write(key, rows, None).await.unwrap();
    let bounds = |name: &str| {
        let column = written
            .columns
            .iter()
            .find(|column| column.name == name)
            .unwrap();
        (column.min.clone(), column.max.clone())
    };
    assert_eq!(bounds("user_id"), (None, None));
    assert_eq!(bounds("id"), (Some("1".into()), Some("500".into())));
    let fetched = cold.store.prove(key, &written).await.unwrap();
    // Another process clears away what nobody has, and not this.
    let left = cold.folder.path().join("cache/0123.part");
    fs::write(&left, "left by a process that was killed").unwrap();
    let other = cold.again(1 << 30);
    assert_eq!(cold.files(), [fetched.path()]);
    drop(fetched);
    assert!(cold.files().is_empty());
    drop(other);
}

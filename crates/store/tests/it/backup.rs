//! Backups of a real database, by PostgreSQL's own tools, into a folder as object store.

mod clients;
mod drilled;
mod faults;
mod made;
mod night;
mod restored;
mod secrets;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;
use tokio_postgres::Client;
use utxoiq_store::{
    Error, Store,
    backup::{Backup, Fault, KeyPair, Manifest, Progress},
    clock::FixedClock,
    cold::{BackupKey, Bucket},
    config::ObjectStoreSettings,
    db::roles,
};

use crate::support::TestDb;

/// Who asks for backups in these tests.
pub const ACTOR: &str = "test: ann";

/// A database with rows, object stores of its own, keys, and a clock that is put forward by hand.
pub struct House {
    pub db: TestDb,
    pub store: Store,
    pub clock: FixedClock,
    pub admin: Client,
    pub first: TempDir,
    pub second: TempDir,
    pub scratch: TempDir,
    pub recovery: KeyPair,
    pub drill: KeyPair,
}

/// What the settings of a house are made of.
struct Own<'a> {
    db: &'a TestDb,
    first: &'a Path,
    second: &'a Path,
    scratch: &'a Path,
    keys: [&'a KeyPair; 2],
}

impl Own<'_> {
    fn vars(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let [recovery, drill] = self.keys;
        let own = [
            ("DATABASE__BACKUP_URL", self.db.url_of(roles::BACKUP)),
            ("DATABASE__DRILL_URL", self.db.drill_url()),
            (
                "BACKUP_STORE__URL",
                format!("file://{}", self.first.display()),
            ),
            ("BACKUP__RECOVERY_RECIPIENT", recovery.recipient.clone()),
            ("BACKUP__DRILL_RECIPIENT", drill.recipient.clone()),
            ("BACKUP__DRILL_IDENTITY", drill.identity.expose().to_owned()),
            ("BACKUP__SCRATCH_DIR", self.scratch.display().to_string()),
        ];
        let own = own.map(|(name, value)| (format!("UTXOIQ_STORE_{name}"), value));
        let second = self.second.display().to_string();
        let more = more
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.replace("SECOND", &second)));
        own.into_iter().chain(more).collect()
    }
}

fn open(own: &Own<'_>, more: &[(&str, &str)], clock: &FixedClock) -> Store {
    let vars = own.vars(more);
    let vars: Vec<(&str, &str)> = vars.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let config = own.db.settings_with(&vars);
    Store::with_clock(config, std::sync::Arc::new(clock.clone())).unwrap()
}

/// One o'clock of the first night.
pub fn night() -> DateTime<Utc> {
    "2026-03-02T01:00:00Z".parse().unwrap()
}

impl House {
    /// With one store.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With more settings than it needs.
    pub async fn with(more: &[(&str, &str)]) -> Self {
        let db = TestDb::new().await;
        let admin = db.admin().await;
        let quick = format!("alter database {} set synchronous_commit = off", db.name());
        admin.batch_execute(&quick).await.unwrap();
        let clock = FixedClock::at(night());
        let first = TempDir::new().unwrap();
        let second = TempDir::new().unwrap();
        let scratch = TempDir::new().unwrap();
        let (recovery, drill) = (KeyPair::generate(), KeyPair::generate());
        let own = Own {
            db: &db,
            first: first.path(),
            second: second.path(),
            scratch: scratch.path(),
            keys: [&recovery, &drill],
        };
        let store = open(&own, more, &clock);
        Self {
            db,
            store,
            clock,
            admin,
            first,
            second,
            scratch,
            recovery,
            drill,
        }
    }

    /// The settings of its own, and more.
    pub fn vars(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        self.own().vars(more)
    }

    /// Another process with more settings, on the same.
    pub fn another(&self, more: &[(&str, &str)]) -> Store {
        open(&self.own(), more, &self.clock)
    }

    fn own(&self) -> Own<'_> {
        Own {
            db: &self.db,
            first: self.first.path(),
            second: self.second.path(),
            scratch: self.scratch.path(),
            keys: [&self.recovery, &self.drill],
        }
    }

    /// Rows of every kind that the product keeps, with what is hard about them.
    pub async fn fill(&self) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/rows");
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for file in files {
            let sql = std::fs::read_to_string(&file).unwrap();
            let filled = self.admin.batch_execute(&sql).await;
            filled.unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
        }
        self.admin
            .batch_execute(include_str!("backup/fill.sql"))
            .await
            .unwrap();
    }

    pub async fn make(&self) -> Result<Backup, Error> {
        self.store
            .backups()
            .make(None, ACTOR, self.store.now(), &Progress::default())
            .await
    }

    pub fn bucket(&self, folder: &TempDir) -> Bucket {
        let mut settings = ObjectStoreSettings::from(&self.store.config().backup_store);
        settings.url = Some(format!("file://{}", folder.path().display()));
        Bucket::open(&settings).unwrap().unwrap()
    }

    /// A run as the history has it.
    pub async fn stored(&self, id: uuid::Uuid) -> Backup {
        self.store.backups().get(id).await.unwrap().unwrap()
    }

    pub async fn manifest(&self, backup: &Backup) -> Manifest {
        Manifest::get(&self.bucket(&self.first), backup.key)
            .await
            .unwrap()
            .0
    }

    /// Where an object lies on the disk.
    pub fn file(&self, key: BackupKey) -> PathBuf {
        self.first.path().join(key.to_string())
    }

    /// All files in a store, by their paths.
    pub fn files(folder: &TempDir) -> Vec<String> {
        let backups = folder.path().join("backups");
        let Ok(entries) = std::fs::read_dir(backups) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub fn later(&self, minutes: i64) {
        self.clock
            .set(self.store.now() + TimeDelta::minutes(minutes));
    }
}

/// Waits for something that another session does.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..300 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen");
}

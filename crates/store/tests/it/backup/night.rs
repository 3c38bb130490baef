//! A night that is watched: backups that may fail, a watch that looks every 30 seconds of a clock that is put forward by hand, and
//! somebody who is told.

use serde_json::Value;
use utxoiq_store::{alert::Filter, backup::BackupStores, worker::watch::Watch};
use utxoiq_store_testkit::{FaultyStore, Receiver};

use super::*;

/// Within what everything has to be told.
pub const IN_TIME: TimeDelta = TimeDelta::minutes(5);

/// Between two looks.
pub const STEP: TimeDelta = TimeDelta::seconds(30);

/// More bytes than two parts of an upload have, which nothing compresses; of this many kilobytes.
pub fn noise(kilobytes: u32) -> String {
    format!(
        "create table noise (id integer primary key, bytes bytea not null);
         alter table noise owner to utxoiq_owner;
         alter table noise alter bytes set storage external;
         grant select on noise to utxoiq_backup;
         insert into noise
         select n, (select string_agg(uuid_send(gen_random_uuid()), ''::bytea) from generate_series(1, 64 + n * 0))
         from generate_series(1, {kilobytes}) n"
    )
}

/// The process of a tool that this process has started on a database, and its arguments.
pub fn tool_of(tool: &str, database: &str) -> Option<(u32, String)> {
    let wanted = format!("PGDATABASE={database}");
    let of = |file: std::path::PathBuf| {
        let bytes = std::fs::read(file).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find_map(|pid| {
            let folder = PathBuf::from(format!("/proc/{pid}"));
            let is_it = of(folder.join("comm")).trim() == tool
                && of(folder.join("environ"))
                    .split('\0')
                    .any(|one| one == wanted);
            is_it.then(|| (pid, of(folder.join("cmdline")).replace('\0', " ")))
        })
}

/// Ends a process that this one has started.
pub fn kill9(pid: u32) {
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
}

/// A store that is watched.
pub struct Night {
    pub store: Store,
    pub clock: FixedClock,
    pub hook: Receiver,
    hook_url: String,
    pub watch: Watch,
    /// The time of the schedule that the next backup is for.
    pub slot: DateTime<Utc>,
}

/// The settings with which somebody is told.
pub fn told_to(hook: &str) -> [(&'static str, &str); 4] {
    [
        ("UTXOIQ_STORE_DATABASE__REGION", "us-central1"),
        ("UTXOIQ_STORE_ALERT__WEBHOOK_URL", hook),
        ("UTXOIQ_STORE_ALERT__WEBHOOK_SECRET", "a key of some length"),
        ("UTXOIQ_STORE_ALERT__TIMEOUT_SECONDS", "2"),
    ]
}

impl Night {
    /// With a database and a folder as object store.
    pub async fn new(more: &[(&str, &str)]) -> (House, Self) {
        let hook = Receiver::start().await;
        let url = hook.url("/hook");
        let house = House::with(&[&told_to(&url), more].concat()).await;
        let night = Self::over(house.store.clone(), house.clock.clone(), hook);
        (house, night)
    }

    pub fn over(store: Store, clock: FixedClock, hook: Receiver) -> Self {
        Self {
            watch: Watch::new(store.clone()),
            store,
            clock,
            hook_url: hook.url("/hook"),
            hook,
            slot: night(),
        }
    }

    /// With an object store that can be told to fail before the house's folder, and to which a request takes a second at most.
    pub fn faulty(&mut self, house: &House) -> FaultyStore {
        let folder = object_store::local::LocalFileSystem::new_with_prefix(house.first.path());
        let faulty = FaultyStore::over(std::sync::Arc::new(folder.unwrap()));
        let bucket = Bucket::over(
            std::sync::Arc::new(faulty.clone()),
            "",
            Duration::from_secs(1),
        );
        self.change(self.store.clone().with_backup_stores(BackupStores {
            first: Some(bucket),
            second: None,
        }));
        faulty
    }

    /// Settings, and those with which somebody is told.
    pub fn and_told<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        [&told_to(&self.hook_url), more].concat()
    }

    /// Goes on with other settings, as after a restart.
    pub fn change(&mut self, store: Store) {
        self.watch = Watch::new(store.clone());
        self.store = store;
    }

    /// The backup of the slot, as the schedule makes it.
    pub async fn make(&self) -> Result<Backup, Error> {
        self.store
            .backups()
            .make(
                Some(self.slot),
                "schedule: make_backup",
                self.now(),
                &Progress::default(),
            )
            .await
    }

    /// Goes on to the next night.
    pub fn next_night(&mut self) {
        self.slot += TimeDelta::days(1);
        self.clock.set(self.slot);
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.store.now()
    }

    pub async fn look(&mut self) -> Vec<String> {
        let mut wrong = self.watch.look(self.now()).await;
        wrong.retain(|key| !is_about_the_folder(key));
        wrong
    }

    /// The notices that were taken of alerts whose keys begin so.
    pub fn notices(&self, key: &str) -> Vec<Value> {
        notices(&self.hook, key)
    }

    /// Looks until somebody is told; checks that it is in time, counted from now.
    pub async fn is_told(&mut self, key: &str) -> Value {
        let fact_at = self.now();
        let before = self.notices(key).len();
        loop {
            self.look().await;
            let told = self.notices(key).into_iter().skip(before);
            if let Some(told) = told.into_iter().find(|told| told["kind"] == "firing") {
                let sent_at: DateTime<Utc> = told["sent_at"].as_str().unwrap().parse().unwrap();
                assert!(sent_at - fact_at < IN_TIME, "{key} was told at {sent_at}");
                return told;
            }
            self.clock.advance(STEP);
            assert!(self.now() - fact_at < IN_TIME, "{key} was not told in time");
        }
    }

    /// Looks until somebody is told that it is over; checks that it is in time, counted from now, and that nothing is open.
    pub async fn is_over(&mut self, key: &str) {
        let fact_at = self.now();
        loop {
            self.look().await;
            let last = self.notices(key).pop().unwrap();
            if last["kind"] == "resolved" {
                break;
            }
            self.clock.advance(STEP);
            assert!(self.now() - fact_at < IN_TIME, "{key} is not over");
        }
        let open = self.open().await;
        assert!(!open.iter().any(|open| open.starts_with(key)), "{open:?}");
    }

    /// The keys of the open alerts in the database.
    pub async fn open(&self) -> Vec<String> {
        let alerts = self.store.alerts();
        let page = alerts.list(self.store.pool(), Filter::Open, 100, 0).await;
        let open = page.unwrap().alerts.into_iter();
        open.map(|one| one.alert.key)
            .filter(|key| !is_about_the_folder(key))
            .collect()
    }

    /// The next try at the slot succeeds, and that is told.
    pub async fn is_made_good(&mut self, key: &str) -> Backup {
        self.clock.advance(TimeDelta::minutes(10));
        let made = self.make().await.unwrap();
        assert_eq!(made.state.as_str(), "verified");
        self.is_over(key).await;
        made
    }

    /// Nothing lies in a store but what belongs to a backup that is known; gives the runs.
    pub async fn nothing_is_half_stored(&self, folder: &TempDir) -> Vec<Backup> {
        let runs = self.store.backups().list(true, 1_000, 0).await.unwrap();
        let known: Vec<String> = runs
            .iter()
            .filter(|run| run.stored_at.is_some())
            .flat_map(|run| [run.key.to_string(), run.key.manifest().to_string()])
            .collect();
        for file in House::files(folder) {
            assert!(
                known.contains(&format!("backups/{file}")),
                "{file} is left: {runs:?}"
            );
        }
        runs
    }
}

/// Where a folder is nobody knows, which is told in each of these tests.
fn is_about_the_folder(key: &str) -> bool {
    key.starts_with("backup_location_unknown")
}

/// The notices that somebody took of alerts whose keys begin so.
pub fn notices(hook: &Receiver, key: &str) -> Vec<Value> {
    let taken = hook.taken();
    let told = taken.iter().map(|taken| {
        let told: Value = serde_json::from_slice(&taken.body).unwrap();
        (told["alert"]["key"].as_str().unwrap().to_owned(), told)
    });
    told.filter(|(of, _)| of.starts_with(key) && !is_about_the_folder(of))
        .map(|(_, told)| told)
        .collect()
}

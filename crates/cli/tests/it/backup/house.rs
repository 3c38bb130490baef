//! A service, its stores of backups, and a second server: what the runbooks' commands are run in.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;
use utxoiq_store_testkit::postgres::{PgCluster, PgOptions, find_bin_dir};

use super::{BOOKS, RUN};
use crate::{
    book,
    support::{BINARY, PASSWORD},
};

/// What a command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn all(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }

    pub fn assert(&self, what: &str, code: i32, words: &[&str]) {
        let all = self.all();
        assert_eq!(self.code, code, "{what}: {all}");
        for word in words {
            assert!(all.contains(word), "{what} does not say `{word}`: {all}");
        }
    }
}

pub struct House {
    /// The server that is in use.
    pub old: PgCluster,
    /// The one that is restored on.
    pub new: PgCluster,
    pub folder: TempDir,
    /// The environment of the commands.
    pub envs: BTreeMap<String, String>,
    run: RefCell<BTreeSet<String>>,
}

/// The URL of a folder's store.
fn store(folder: &Path) -> String {
    fs::create_dir_all(folder).unwrap();
    format!("file://{}", folder.display())
}

impl House {
    pub async fn new() -> Self {
        let (old, new) = tokio::join!(
            PgCluster::start(PgOptions::default()),
            PgCluster::start(PgOptions::default())
        );
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(BINARY, folder.path().join("bin/utxoiq-store")).unwrap();
        // What `\password` asks for, where it finds no terminal.
        fs::write(
            folder.path().join("typed"),
            format!("{PASSWORD}\n").repeat(20),
        )
        .unwrap();
        let mut house = Self {
            old,
            new,
            folder,
            envs: BTreeMap::new(),
            run: RefCell::default(),
        };
        for (name, value) in [
            ("REDIS_URL", String::new()),
            ("UTXOIQ_STORE_DATABASE__REGION", "europe-west1".into()),
            // The backup that a database is restored from counts as one that is being made for so long.
            ("UTXOIQ_STORE_BACKUP__LEASE_SECONDS", "10".into()),
            (
                "UTXOIQ_STORE_RETENTION__PSEUDONYM_KEY",
                "a key of at least thirty-two characters".into(),
            ),
            ("UTXOIQ_STORE_COLD__URL", store(&house.path("cold"))),
            ("UTXOIQ_STORE_COLD__CACHE_DIR", house.text("cache")),
            ("UTXOIQ_STORE_BACKUP__SCRATCH_DIR", house.text("scratch")),
        ] {
            house.set(name, value);
        }
        fs::create_dir(house.path("scratch")).unwrap();
        house
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.envs.insert(name.to_owned(), value.into());
    }

    pub fn unset(&mut self, names: &[&str]) {
        for name in names {
            self.envs.remove(*name);
        }
    }

    /// The settings of where backups lie.
    pub fn use_stores(&mut self) {
        let (first, second) = (store(&self.path("backups")), store(&self.path("far")));
        self.set("UTXOIQ_STORE_BACKUP_STORE__URL", first);
        self.set("UTXOIQ_STORE_BACKUP_COPY__URL", second);
    }

    /// The settings of a service whose database is on this server.
    pub fn serve_on_old(&mut self) {
        let urls = urls(&self.old);
        self.envs.extend(urls);
    }

    /// The same of the other server.
    pub fn serve_on_new(&mut self) {
        let urls = urls(&self.new);
        self.envs.extend(urls);
    }

    /// No service any more: only what a restore needs.
    pub fn serve_nowhere(&mut self) {
        self.unset(&[
            "DATABASE_URL",
            "DATABASE_ADMIN_URL",
            "UTXOIQ_STORE_DATABASE__RETENTION_URL",
            "UTXOIQ_STORE_DATABASE__BACKUP_URL",
            "UTXOIQ_STORE_DATABASE__DRILL_URL",
            "UTXOIQ_STORE_BACKUP__RECOVERY_RECIPIENT",
            "UTXOIQ_STORE_BACKUP__DRILL_RECIPIENT",
            "UTXOIQ_STORE_BACKUP__DRILL_IDENTITY",
        ]);
    }

    /// Runs a block of the runbooks; what it says must be what the table says of it.
    pub fn run(&self, name: &str) -> Said {
        let blocks = BOOKS.iter().flat_map(|book| book::blocks(book));
        let block = blocks
            .filter(|block| block.language == "sh")
            .find(|block| block.name == name);
        let block = block.unwrap_or_else(|| panic!("no runbook has {name}"));
        let (_, code, words) = RUN.iter().find(|step| step.0 == name).unwrap();
        let said = self.shell(&block.text);
        said.assert(name, *code, words);
        self.run.borrow_mut().insert(name.to_owned());
        said
    }

    /// Notes that a block cannot be run here.
    pub fn skip(&self, name: &str, why: &str) {
        println!("SKIPPED {name}: {why}");
        self.run.borrow_mut().insert(name.to_owned());
    }

    /// What of the table was not run.
    pub fn left(&self) -> Vec<&'static str> {
        let run = self.run.borrow();
        let names = RUN.iter().map(|step| step.0);
        names.filter(|name| !run.contains(*name)).collect()
    }

    /// Lines of shell, which end with the first that fails.
    pub fn shell(&self, lines: &str) -> Said {
        // A session of its own has no terminal that a password could be asked for on.
        let mut command = Command::new("setsid");
        command.args(["--wait", "bash", "-e", "-o", "pipefail", "-c", lines]);
        self.said(command)
    }

    /// The program with these arguments.
    pub fn store(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(BINARY);
        command.args(arguments);
        self.said(command)
    }

    pub fn ok(&self, arguments: &[&str]) -> String {
        let said = self.store(arguments);
        said.assert(&format!("{arguments:?}"), 0, &[]);
        said.out
    }

    fn said(&self, mut command: Command) -> Said {
        let mut path: Vec<PathBuf> = vec![self.path("bin"), find_bin_dir()];
        let rest = env::var_os("PATH").unwrap_or_default();
        path.extend(env::split_paths(&rest));
        let path: OsString = env::join_paths(path).unwrap();
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("RUST_BACKTRACE", "0")
            .envs(&self.envs)
            .current_dir(self.folder.path())
            .stdin(File::open(self.path("typed")).unwrap())
            .output()
            .unwrap();
        Said {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// The backups that the database knows, the newest first.
    pub fn backups(&self) -> Vec<Value> {
        let listed = self.ok(&["backup", "list", "--json"]);
        let lines = listed.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Names a backup to the runbooks' commands.
    pub fn name_backup(&mut self, backup: &Value) {
        let text = |name: &str| backup[name].as_str().unwrap().to_owned();
        let object = self.path("backups").join(text("object"));
        let manifest = object.to_str().unwrap().replace(".dump.age", ".json");
        self.set("BACKUP", text("id"));
        self.set("BACKUP_TIME", text("started_at"));
        self.set("MANIFEST_SHA256", text("manifest_sha256"));
        self.set("DUMP", object.display().to_string());
        self.set("MANIFEST", manifest);
    }

    /// An empty database with the roles in it, on the server that is restored on.
    pub fn empty(&mut self, database: &str) {
        let sql = [
            format!("drop database if exists {database} with (force)"),
            format!("create database {database}"),
        ];
        let server = self.new.admin_url("postgres");
        for sql in sql {
            let said = self.shell(&format!("psql '{server}' -c '{sql}'"));
            said.assert(&sql, 0, &[]);
        }
        let admin = self.new.admin_url(database);
        self.shell(&format!("DATABASE_ADMIN_URL='{admin}' utxoiq-store init"))
            .assert("init", 0, &[]);
        let let_in = format!("grant connect on database {database} to utxoiq_drill");
        self.shell(&format!("psql '{server}' -c '{let_in}'"))
            .assert(&let_in, 0, &[]);
    }
}

/// The connections of a service with the database `utxoiq`.
fn urls(cluster: &PgCluster) -> [(String, String); 5] {
    let url = |role: &str| cluster.url(role, PASSWORD, "utxoiq");
    [
        ("DATABASE_URL", url("utxoiq_app")),
        ("DATABASE_ADMIN_URL", cluster.admin_url("utxoiq")),
        (
            "UTXOIQ_STORE_DATABASE__RETENTION_URL",
            url("utxoiq_retention"),
        ),
        ("UTXOIQ_STORE_DATABASE__BACKUP_URL", url("utxoiq_backup")),
        (
            "UTXOIQ_STORE_DATABASE__DRILL_URL",
            cluster.url("utxoiq_drill", PASSWORD, "postgres"),
        ),
    ]
    .map(|(name, url)| (name.to_owned(), url))
}

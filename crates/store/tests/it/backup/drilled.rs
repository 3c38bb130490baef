//! Drills: what is recorded of them, and what is left of them.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use utxoiq_store::backup::{Outcome, Proof};
use utxoiq_store_testkit::postgres::find_bin_dir;
use uuid::Uuid;

use super::*;
use crate::support::{PASSWORD, connect};

impl House {
    async fn drill(&self) -> Result<Proof, Error> {
        self.store
            .backups()
            .drill(None, ACTOR, self.store.now(), &Progress::default())
            .await
    }

    async fn proofs(&self) -> Vec<Proof> {
        self.store.backups().proofs(10).await.unwrap()
    }

    /// The scratch databases of this history's proofs that are there.
    async fn scratch_databases(&self) -> Vec<String> {
        let sql = "select datname::text from pg_database
                   where datname in (select 'utxoiq_drill_' || replace(id::text, '-', '') from backup_proofs)";
        let rows = self.admin.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn assert_nothing_is_left(&self) {
        assert_eq!(self.scratch_databases().await, [""; 0]);
        assert_eq!(std::fs::read_dir(self.scratch.path()).unwrap().count(), 0);
    }
}

/// Tools whose pg_restore does this, in a shell, where it would restore; `$real` is the folder of the real ones.
fn tools(restoring: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    tool(&folder, "pg_dump", "exec \"$real/pg_dump\" \"$@\"");
    tool(&folder, "pg_restore", restoring);
    folder
}

/// Puts a program into a folder that does this in a shell, and what the real one does where only its version or a list is wanted.
pub fn tool(folder: &TempDir, name: &str, doing: &str) {
    let server = find_bin_dir().join("postgres").canonicalize().unwrap();
    let real = server.parent().unwrap();
    let script = format!(
        "#!/bin/sh\nreal='{}'\nhere='{}'\ncase \"$*\" in\n*--use-list*|*--snapshot*)\n{doing}\n;;\n*) exec \"$real/{name}\" \"$@\" ;;\nesac\n",
        real.display(),
        folder.path().display()
    );
    // By another process: one of ours that is just being started would hold it open for writing.
    let written = Command::new("sh")
        .args([
            "-c",
            "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\"",
            "sh",
        ])
        .arg(script)
        .arg(folder.path().join(name))
        .status()
        .unwrap();
    assert!(written.success());
}

/// The command lines of all processes, their arguments separated by blanks.
fn command_lines() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_proves_a_backup_and_shows_no_secret_to_anybody() {
    let house = House::new().await;
    house.fill().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let looking = {
        let is_over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !is_over.load(Relaxed) {
                let lines = command_lines().into_iter();
                seen.extend(
                    lines.filter(|line| line.contains("pg_restore") || line.contains("pg_dump")),
                );
                std::thread::sleep(Duration::from_millis(3));
            }
            seen
        })
    };
    let backup = house.make().await.unwrap();
    house.later(90);
    let proof = house.drill().await.unwrap();
    is_over.store(true, Relaxed);
    assert_eq!(proof.backup_id, backup.id);
    assert_eq!(proof.outcome, Some(Outcome::Proved));
    assert_eq!(proof.started_at, house.store.now());
    assert!(proof.restore_milliseconds > Some(0) && proof.compare_milliseconds > Some(0));
    let details = proof.details.clone().unwrap();
    let manifest = house.manifest(&backup).await;
    assert_eq!(details["tables"], manifest.tables.len());
    assert_eq!(details["rows"], manifest.rows());
    assert_eq!(details["differences"], serde_json::json!([]));
    assert_eq!(house.stored(backup.id).await.proved_at, proof.ended_at);
    assert_eq!(house.proofs().await.first(), Some(&proof));
    house.assert_nothing_is_left().await;
    let seen = looking.join().unwrap();
    assert!(
        seen.iter().any(|line| line.contains("--use-list")),
        "{seen:?}"
    );
    let told = format!(
        "{seen:?} {proof:?} {}",
        serde_json::to_string(&manifest).unwrap()
    );
    for secret in [
        PASSWORD,
        house.drill.identity.expose(),
        house.recovery.identity.expose(),
    ] {
        assert!(!told.contains(secret), "{told}");
    }
    // The next one takes what was not proved yet, and where there is none, the newest once more.
    house.later(24 * 60);
    let next = house.make().await.unwrap();
    assert_eq!(house.drill().await.unwrap().backup_id, next.id);
    house.later(1);
    assert_eq!(house.drill().await.unwrap().backup_id, next.id);
}

#[tokio::test]
async fn a_restored_copy_that_is_different_is_no_proof() {
    let tools = tools(
        "\"$real/pg_restore\" \"$@\" && exec \"$real/psql\" -qX -v ON_ERROR_STOP=1 -c \"update alert_sources set source = 'else'\"",
    );
    let folder = tools.path().to_str().unwrap();
    let house = House::with(&[("UTXOIQ_STORE_BACKUP__TOOLS_DIR", folder)]).await;
    house.fill().await;
    let backup = house.make().await.unwrap();
    let error = house.drill().await.unwrap_err();
    assert_eq!(error.code(), "backup_not_proved");
    assert!(
        error
            .message()
            .contains("table public.alert_sources: its 1 rows have other values"),
        "{error}"
    );
    let proofs = house.proofs().await;
    assert_eq!(proofs[0].outcome, Some(Outcome::Failed));
    assert!(
        proofs[0]
            .error
            .as_ref()
            .unwrap()
            .starts_with("backup_not_proved: ")
    );
    let details = proofs[0].details.as_ref().unwrap();
    assert_eq!(
        details["differences"][0]["object"],
        "table public.alert_sources"
    );
    let backup = house.stored(backup.id).await;
    assert_eq!((backup.proved_at, backup.damaged_at), (None, None));
    house.assert_nothing_is_left().await;
}

#[tokio::test]
async fn a_drill_that_fails_says_why_and_leaves_nothing() {
    let house = House::new().await;
    let error = house.drill().await.unwrap_err();
    assert_eq!(error.code(), "backup_not_found");
    let backup = house.make().await.unwrap();
    let file = house.file(backup.key);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = house.drill().await.unwrap_err();
    assert_eq!(error.code(), "backup_differs");
    let proofs = house.proofs().await;
    assert_eq!(proofs[0].outcome, Some(Outcome::Failed));
    assert!(
        proofs[0]
            .error
            .as_ref()
            .unwrap()
            .starts_with("backup_differs: ")
    );
    assert_eq!(
        house.stored(backup.id).await.damaged_at,
        Some(house.store.now())
    );
    house.assert_nothing_is_left().await;
    // What is known to be damaged is not chosen again.
    assert_eq!(house.drill().await.unwrap_err().code(), "backup_not_found");
    // A restore that makes no progress.
    let tools = tools("exec sleep 600");
    let folder = tools.path().to_str().unwrap();
    let house = House::with(&[
        ("UTXOIQ_STORE_BACKUP__TOOLS_DIR", folder),
        ("UTXOIQ_STORE_BACKUP__STALL_SECONDS", "10"),
    ])
    .await;
    house.make().await.unwrap();
    let error = house.drill().await.unwrap_err();
    assert_eq!(error.code(), "backup_tool_failed");
    assert!(
        error.message().contains("nothing moved for 10 s"),
        "{error}"
    );
    house.assert_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_is_cancelled_or_killed_leaves_nothing_for_longer_than_to_the_next_one() {
    let number = 100_000_000 + Uuid::new_v4().as_fields().0 % 800_000_000;
    let sleep = format!("sleep {number}");
    let tools = tools(&format!(
        "if [ -e \"$here/go\" ]; then exec \"$real/pg_restore\" \"$@\"; fi\n{sleep}"
    ));
    let folder = tools.path().to_str().unwrap();
    let house = House::with(&[("UTXOIQ_STORE_BACKUP__TOOLS_DIR", folder)]).await;
    house.make().await.unwrap();
    let sleeps = || command_lines().iter().any(|line| line.trim_end() == sleep);
    let drilling = {
        let (store, now) = (house.store.clone(), house.store.now());
        tokio::spawn(async move {
            let progress = Progress::default();
            store.backups().drill(None, ACTOR, now, &progress).await
        })
    };
    until("restoring", async || sleeps()).await;
    assert_eq!(house.scratch_databases().await.len(), 1);
    // Only its maker comes in.
    let scratch = house.scratch_databases().await[0].clone();
    let mut url = url::Url::parse(&house.db.app_url()).unwrap();
    url.set_path(&scratch);
    let refused = tokio_postgres::connect(url.as_str(), tokio_postgres::NoTls).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("db error")));
    // Another one has to wait.
    assert_eq!(house.drill().await.unwrap_err().code(), "drill_running");
    drilling.abort();
    assert!(drilling.await.unwrap_err().is_cancelled());
    house.assert_nothing_is_left().await;
    until("the end of pg_restore and of its jobs", async || !sleeps()).await;
    assert_eq!(house.drill().await.unwrap_err().code(), "drill_running");
    // As a kill leaves it: its database, and its row with a lease.
    let dead = house.proofs().await[0].id;
    let server = connect(&house.db.drill_url()).await;
    let others = format!("utxoiq_drill_{}", Uuid::new_v4().simple());
    for name in [&scratch, &others] {
        let make = format!("create database {name}");
        server.batch_execute(&make).await.unwrap();
    }
    std::fs::write(tools.path().join("go"), "").unwrap();
    house.later(2);
    let proof = house.drill().await.unwrap();
    let proofs = house.proofs().await;
    let outcomes: Vec<_> = proofs
        .iter()
        .map(|proof| (proof.id, proof.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [
            (proof.id, Some(Outcome::Proved)),
            (dead, Some(Outcome::Lost))
        ]
    );
    house.assert_nothing_is_left().await;
    // What another history knows is none of ours.
    let drop = format!("drop database {others}");
    server.batch_execute(&drop).await.unwrap();
}

#[tokio::test]
async fn what_is_emptied_or_dropped_after_the_moment_is_in_the_backup() {
    let folder = TempDir::new().unwrap();
    let here = folder.path().to_str().unwrap();
    let house = House::with(&[("UTXOIQ_STORE_BACKUP__TOOLS_DIR", here)]).await;
    house.fill().await;
    // Between the moment and the locks of pg_dump itself.
    let url = house.db.admin_url();
    let dumping = format!(
        "for sql in 'truncate metric_marks' 'drop table feedback_retired' 'alter table legal_holds alter reason type varchar'; do
             \"$real/psql\" -qX '{url}' -c \"set lock_timeout = '300ms'\" -c \"$sql\" && echo \"$sql\" >> \"$here/done\"
         done
         exec \"$real/pg_dump\" \"$@\""
    );
    tool(&folder, "pg_dump", &dumping);
    tool(&folder, "pg_restore", "exec \"$real/pg_restore\" \"$@\"");
    let backup = house.make().await.unwrap();
    assert!(!folder.path().join("done").exists());
    let tables = house.manifest(&backup).await.tables;
    assert_eq!(tables["public.metric_marks"].rows, 1);
    assert_eq!(house.drill().await.unwrap().outcome, Some(Outcome::Proved));
}

#[tokio::test]
async fn large_objects_that_anybody_can_make_are_in_no_backup_and_stop_none() {
    let house = House::new().await;
    let app = house.db.client(roles::APP).await;
    app.batch_execute("select lo_from_bytea(0, 'in the way')")
        .await
        .unwrap();
    let backup = house.make().await.unwrap();
    assert_eq!(backup.state.as_str(), "verified");
    let proof = house.drill().await.unwrap();
    assert_eq!(proof.outcome, Some(Outcome::Proved));
}

//! The runbooks of backups: each of their commands is run, with the real program on real servers, and says what the runbook
//! says that it does.

mod house;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, process::Command};

use self::house::House;
use crate::support::PASSWORD;

/// The runbooks of this test.
const BOOKS: [&str; 2] = ["docs/operations/backups.md", "docs/operations/restore.md"];

/// Each block of the runbooks: its exit code, and words of what it says.
pub const RUN: &[(&str, i32, &[&str])] = &[
    ("backups.md#1-the-roles/1", 0, &["the roles are there"]),
    (
        "backups.md#2-the-keys/1",
        0,
        &["age1", "the secret key is in"],
    ),
    ("backups.md#4-the-settings/1", 0, &[]),
    (
        "backups.md#5-the-first-backup/1",
        0,
        &["verified", "insight_feedback", "audit head", "manifest "],
    ),
    ("backups.md#5-the-first-backup/2", 0, &["proved", "PROOF"]),
    ("backups.md#5-the-first-backup/3", 0, &["log"]),
    (
        "backups.md#day-by-day/1",
        0,
        &[
            "opened by",
            "every byte is what was written",
            "newest proved one",
            "pruned: a later one of",
            "make_backup",
        ],
    ),
    ("backups.md#when-an-alert-comes/1", 0, &["verified"]),
    ("backups.md#a-backup-did-not-begin/1", 0, &["make_backup"]),
    ("backups.md#a-backup-is-late/1", 0, &["wait_event"]),
    ("backups.md#a-backup-shrank/1", 0, &["insight_feedback"]),
    (
        "backups.md#a-backup-is-gone-from-the-store/1",
        0,
        &["is not as it should be in the store"],
    ),
    (
        "backups.md#a-backup-is-damaged/1",
        1,
        &["is not what was written"],
    ),
    ("backups.md#a-backup-is-damaged/2", 0, &["verified"]),
    ("backups.md#a-proof-failed/1", 0, &["proved"]),
    ("restore.md#the-database-is-lost/1", 0, &["CREATE DATABASE"]),
    (
        "restore.md#the-database-is-lost/2",
        0,
        &["the roles are there"],
    ),
    (
        "restore.md#the-database-is-lost/3",
        0,
        &["proved ", "next: docs/operations/restore.md"],
    ),
    ("restore.md#the-database-is-lost/4", 0, &["proved "]),
    (
        "restore.md#the-database-is-lost/5",
        0,
        &["DROP DATABASE", "proved "],
    ),
    ("restore.md#the-region-is-lost/1", 0, &["proved "]),
    (
        "restore.md#one-table-or-a-few-rows/1",
        0,
        &["proved ", "count"],
    ),
    ("restore.md#the-drill-key-is-lost/1", 0, &["age1"]),
    (
        "restore.md#the-drill-key-is-lost/2",
        0,
        &["verified", "proved"],
    ),
    ("restore.md#the-recovery-key-is-lost/1", 0, &["age1"]),
    (
        "restore.md#the-recovery-key-is-lost/2",
        0,
        &["every byte is what was written"],
    ),
    ("restore.md#the-recovery-key-is-lost/3", 0, &["proved "]),
    ("restore.md#without-this-program/1", 0, &["1"]),
    ("restore.md#without-this-program/2", 0, &["CREATE DATABASE"]),
    ("restore.md#without-this-program/3", 0, &["proved "]),
    (
        "restore.md#moving-to-another-instance/1",
        0,
        &["make_backup", "usename"],
    ),
    (
        "restore.md#moving-to-another-instance/2",
        0,
        &["verified", "manifest "],
    ),
    (
        "restore.md#the-history-of-backups-is-gone/1",
        0,
        &["were taken in", "every byte is what was written"],
    ),
    (
        "restore.md#after-any-restore/1",
        0,
        &["the roles are there"],
    ),
    ("restore.md#after-any-restore/2", 0, &["applied"]),
    ("restore.md#after-any-restore/3", 0, &["were taken in"]),
    ("restore.md#after-any-restore/4", 0, &["is whole"]),
    ("restore.md#after-any-restore/5", 0, &["erase", "p:"]),
    (
        "restore.md#after-any-restore/6",
        1,
        &["could not be read", "everything else is erased"],
    ),
    ("restore.md#after-any-restore/8", 0, &["certificate"]),
    ("restore.md#after-any-restore/9", 0, &["phone"]),
    ("restore.md#after-any-restore/10", 1, &["orphaned_object"]),
    (
        "restore.md#after-any-restore/11",
        0,
        &["verified", "proved"],
    ),
    ("restore.md#after-any-restore/12", 0, &["make_backup"]),
];

/// Whether a program is installed here.
fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// The public key that a file of `backup keygen` names.
fn public_key(house: &House, file: &str) -> String {
    let text = fs::read_to_string(house.path(file)).unwrap();
    let line = text.lines().next().unwrap();
    line.trim_start_matches("# public key: ").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_runbooks_does_what_they_say() {
    let mut house = House::new().await;
    set_up(&mut house);
    day_by_day(&mut house);
    alerts(&mut house);
    the_database_is_lost(&mut house).await;
    the_region_is_lost(&mut house).await;
    beside(&mut house);
    by_hand(&mut house);
    keys_are_lost(&mut house);
    house.run("restore.md#moving-to-another-instance/1");
    house.run("restore.md#moving-to-another-instance/2");
    the_history_is_gone(&house);
    after_a_restore(&mut house);
    assert_eq!(house.left(), [""; 0], "not run");
}

fn set_up(house: &mut House) {
    let server = house.old.admin_url("postgres");
    house
        .shell(&format!("psql '{server}' -c 'create database utxoiq'"))
        .assert("the database", 0, &[]);
    house.serve_on_old();
    house.run("backups.md#1-the-roles/1");
    let passwords =
        "psql \"$DATABASE_ADMIN_URL\" -c '\\password utxoiq_app' -c '\\password utxoiq_retention'";
    house.shell(passwords).assert("passwords", 0, &[]);
    house.run("backups.md#2-the-keys/1");
    for key in ["recovery.key", "drill.key"] {
        let mode = fs::metadata(house.path(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let before = fs::read(house.path("drill.key")).unwrap();
    let again = house.store(&["backup", "keygen", "--output", "drill.key"]);
    again.assert("keygen over a key", 1, &["drill.key"]);
    assert_eq!(fs::read(house.path("drill.key")).unwrap(), before);
    use_keys(house, "recovery.key", "drill.key");
    house.use_stores();
    house.run("backups.md#4-the-settings/1");
    house.ok(&["migrate", "up"]);
    house.ok(&["token", "create", "--name", "phone", "--scopes", "all"]);
    fill(house);
    house.run("backups.md#5-the-first-backup/1");
    house.run("backups.md#5-the-first-backup/2");
    house.run("backups.md#5-the-first-backup/3");
}

/// Backups are made with these keys from now on.
fn use_keys(house: &mut House, recovery: &str, drill: &str) {
    for (setting, file) in [("RECOVERY", recovery), ("DRILL", drill)] {
        let key = public_key(house, file);
        house.set(&format!("UTXOIQ_STORE_BACKUP__{setting}_RECIPIENT"), key);
    }
    let secret = fs::read_to_string(house.path(drill)).unwrap();
    house.set("UTXOIQ_STORE_BACKUP__DRILL_IDENTITY", secret);
}

/// Feedback of ten people, old and new; the old is archived.
fn fill(house: &House) {
    for (insight, days) in [("old", 800), ("new", 3)] {
        let sql = format!(
            "insert into insight_feedback (insight_id, user_id, rating, rated_at, comment, commented_at, created_at, updated_at)
             select '{insight}', 'user-' || n, n % 5 + 1, t, 'it is', t, t, t
             from generate_series(1, 10) n, (values (now() - interval '{days} days')) as v (t)"
        );
        house
            .shell(&format!("psql \"$DATABASE_ADMIN_URL\" -c \"{sql}\""))
            .assert("rows", 0, &["INSERT 0 10"]);
    }
    house.ok(&["retention", "run", "--yes"]);
}

fn day_by_day(house: &mut House) {
    house.run("backups.md#when-an-alert-comes/1");
    // The first one is proved; of the two after it the day keeps the newest.
    let second = house.backups()[0].clone();
    house.ok(&["backup", "create"]);
    house.name_backup(&second);
    house.run("backups.md#day-by-day/1");
    assert!(!fs::exists(&house.envs["DUMP"]).unwrap());
    let kept = house.backups();
    assert_eq!(kept.len(), 2);
    house.name_backup(&kept[1]);
}

fn alerts(house: &mut House) {
    house.run("backups.md#a-backup-did-not-begin/1");
    house.run("backups.md#a-backup-is-late/1");
    house.run("backups.md#a-backup-shrank/1");
    let dump = house.envs["DUMP"].clone();
    let away = house.path("away");
    fs::rename(&dump, &away).unwrap();
    house.run("backups.md#a-backup-is-gone-from-the-store/1");
    fs::rename(&away, &dump).unwrap();
    // One bit.
    let whole = fs::read(&dump).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&dump, damaged).unwrap();
    house.run("backups.md#a-backup-is-damaged/1");
    assert!(house.ok(&["backup", "list"]).contains("DAMAGED"));
    house.run("backups.md#a-backup-is-damaged/2");
    fs::write(&dump, whole).unwrap();
    house
        .store(&["backup", "verify", &house.envs["BACKUP"]])
        .assert("verify", 0, &["every byte"]);
    assert!(!house.ok(&["backup", "list"]).contains("DAMAGED"));
    house.run("backups.md#a-proof-failed/1");
}

/// The variables that the runbook of restores names.
fn name_the_new_server(house: &mut House) {
    let url = |database: &str| house.new.url("utxoiq_drill", PASSWORD, database);
    let named = [
        ("NEW_SERVER_URL", house.new.admin_url("postgres")),
        ("DATABASE_ADMIN_URL", house.new.admin_url("utxoiq")),
        ("RESTORE_URL", url("utxoiq")),
        ("BESIDE_ADMIN_URL", house.new.admin_url("utxoiq_beside")),
        ("BESIDE_URL", url("utxoiq_beside")),
        ("BY_HAND_ADMIN_URL", house.new.admin_url("utxoiq_by_hand")),
        ("BY_HAND_URL", url("utxoiq_by_hand")),
    ];
    for (name, value) in named {
        house.set(name, value);
    }
    let key = fs::read_to_string(house.path("recovery.key")).unwrap();
    house.set("RESTORE_KEY", key);
}

async fn the_database_is_lost(house: &mut House) {
    house.old.stop().await;
    house.serve_nowhere();
    name_the_new_server(house);
    house.run("restore.md#the-database-is-lost/1");
    let without_roles = house.store(&["restore"]);
    assert_eq!(without_roles.code, 1, "{}", without_roles.all());
    house.run("restore.md#the-database-is-lost/2");
    house.run("restore.md#the-database-is-lost/3");
    let not_empty = house.store(&["restore"]);
    not_empty.assert(
        "a second time",
        1,
        &["is not empty", "nothing is ever overwritten"],
    );
    house.empty("utxoiq");
    let said = house.run("restore.md#the-database-is-lost/4");
    assert!(said.all().contains(&house.envs["BACKUP"]));
    house.run("restore.md#the-database-is-lost/5");
    house.old.start_again().await;
}

async fn the_region_is_lost(house: &mut House) {
    house.old.stop().await;
    let (store, gone) = (house.path("backups"), house.path("gone"));
    fs::rename(&store, &gone).unwrap();
    fs::create_dir(&store).unwrap();
    house
        .shell("psql \"$NEW_SERVER_URL\" -c 'drop database utxoiq'")
        .assert("the new region is empty", 0, &[]);
    house.run("restore.md#the-region-is-lost/1");
    fs::remove_dir(&store).unwrap();
    fs::rename(&gone, &store).unwrap();
    house.old.start_again().await;
}

fn beside(house: &mut House) {
    house.run("restore.md#one-table-or-a-few-rows/1");
}

fn by_hand(house: &mut House) {
    house.run("restore.md#without-this-program/1");
    if !is_there("age") || !is_there("zstd") {
        for name in ["2", "3"] {
            let name = format!("restore.md#without-this-program/{name}");
            house.skip(&name, "age and zstd are not installed");
        }
        return;
    }
    house.run("restore.md#without-this-program/2");
    assert!(!fs::exists(house.path("utxoiq.dump")).unwrap());
    house.run("restore.md#without-this-program/3");
}

fn keys_are_lost(house: &mut House) {
    house.serve_on_old();
    house.run("restore.md#the-drill-key-is-lost/1");
    use_keys(house, "recovery.key", "drill-new.key");
    house.run("restore.md#the-drill-key-is-lost/2");
    house.run("restore.md#the-recovery-key-is-lost/1");
    use_keys(house, "recovery-new.key", "drill-new.key");
    house.run("restore.md#the-recovery-key-is-lost/2");
    // The backup of before opens with the drill key of its time, and with no new one.
    house.empty("utxoiq");
    let backup = house.envs["BACKUP"].clone();
    let arguments = [
        "restore",
        "--backup",
        &backup,
        "--key-file",
        "recovery-new.key",
    ];
    house
        .store(&arguments)
        .assert("a new key", 1, &["was encrypted to other keys"]);
    house.run("restore.md#the-recovery-key-is-lost/3");
}

fn the_history_is_gone(house: &House) {
    let before: BTreeSet<String> = house
        .backups()
        .iter()
        .map(|one| one["id"].to_string())
        .collect();
    let sql = "delete from backup_proofs; delete from backups";
    house
        .shell(&format!("psql \"$DATABASE_ADMIN_URL\" -c '{sql}'"))
        .assert("the history", 0, &[]);
    house.run("restore.md#the-history-of-backups-is-gone/1");
    let after = house.backups();
    assert!(after.iter().all(|one| one["state"] == "verified"));
    let after: BTreeSet<String> = after.iter().map(|one| one["id"].to_string()).collect();
    assert_eq!(after, before);
}

/// The restored database is of before a person was erased; it is the newest one of `keys_are_lost`.
fn after_a_restore(house: &mut House) {
    let kept = "mkdir kept && cp -r cold/. kept";
    house.shell(kept).assert("soft deletion", 0, &[]);
    house.ok(&["feedback", "erase", "--user", "user-3", "--yes"]);
    let logged = house.ok(&["audit", "list", "--action", "erase", "--json"]);
    let entry: serde_json::Value = serde_json::from_str(logged.lines().next().unwrap()).unwrap();
    house.set("PSEUDONYM", entry["subject"].as_str().unwrap());
    house.set("OLD_DATABASE_URL", house.old.admin_url("utxoiq"));
    let shown = house.ok(&["backup", "show", &house.envs["BACKUP"]]);
    let head = shown
        .lines()
        .find_map(|line| line.strip_prefix("audit head "));
    house.set("AUDIT_HEAD", head.unwrap().trim());
    house.set("TOKEN_NAME", "phone");
    house.serve_on_new();
    let count = "psql \"$DATABASE_ADMIN_URL\" -Atc \"select count(*) from insight_feedback where user_id = 'user-3'\"";
    assert_eq!(house.shell(count).out.trim(), "1");
    for number in 1..=6 {
        house.run(&format!("restore.md#after-any-restore/{number}"));
    }
    // With the very one that it was restored from, which was being made in it.
    let id = &*house.envs["BACKUP"];
    let found = house.backups();
    let restored = found.iter().find(|one| one["id"] == id);
    assert_eq!(restored.unwrap()["state"], "verified");
    let back = "cp --no-clobber -r kept/. cold";
    house.shell(back).assert("soft deletion", 0, &[]);
    for number in 8..=12 {
        house.run(&format!("restore.md#after-any-restore/{number}"));
    }
    assert_eq!(house.shell(count).out.trim(), "0");
}

/// What is wrong is said, with what to do; and nothing of a secret.
#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_refused_with_what_to_do() {
    let mut house = House::new().await;
    little_is_set(&mut house);
    nothing_is_made(&mut house);
    nothing_is_known_of_it(&house);
    keys_and_addresses(&mut house);
}

fn refused(house: &House, arguments: &[&str], code: i32, words: &[&str]) {
    let said = house.store(arguments);
    said.assert(&format!("{arguments:?}"), code, words);
    assert!(!said.all().contains("panicked"), "{}", said.all());
}

fn little_is_set(house: &mut House) {
    // No settings at all.
    refused(house, &["backup", "list"], 1, &["DATABASE_URL"]);
    refused(house, &["restore"], 1, &["set backup_store.url"]);
    refused(
        house,
        &["restore", "--from", "copy"],
        1,
        &["set backup_copy.url"],
    );
    // Who makes backups needs keys, and the one that is asked for can be made; who restores needs none.
    house.use_stores();
    house.set("UTXOIQ_STORE_DATABASE__BACKUP_URL", "postgresql://x@y/z");
    let keygen = "`utxoiq-store backup keygen`";
    refused(house, &["backup", "create"], 1, &[keygen]);
    for key in ["recovery.key", "drill.key"] {
        house.ok(&["backup", "keygen", "--output", key]);
    }
    house.unset(&["UTXOIQ_STORE_DATABASE__BACKUP_URL"]);
    refused(house, &["restore"], 1, &["set RESTORE_URL, or name a file"]);
    house.set("RESTORE_URL", "rubbish");
    refused(house, &["restore"], 1, &["the store has no backup"]);
}

fn nothing_is_made(house: &mut House) {
    // A service without backups.
    use_keys(house, "recovery.key", "drill.key");
    let server = house.old.admin_url("postgres");
    house
        .shell(&format!("psql '{server}' -c 'create database utxoiq'"))
        .assert("the database", 0, &[]);
    house.serve_on_old();
    house.ok(&["init"]);
    house.ok(&["migrate", "up"]);
    let roles = ["app", "retention", "backup", "drill"]
        .map(|role| format!("-c '\\password utxoiq_{role}'"));
    house
        .shell(&format!("psql \"$DATABASE_ADMIN_URL\" {}", roles.join(" ")))
        .assert("passwords", 0, &[]);
    refused(
        house,
        &["backup", "show", "newest"],
        1,
        &["there is no such backup"],
    );
    refused(
        house,
        &["backup", "verify", "all"],
        1,
        &["there is no such backup"],
    );
    refused(
        house,
        &["backup", "drill"],
        1,
        &["there is no verified backup"],
    );
    let backup_url = house.envs.remove("UTXOIQ_STORE_DATABASE__BACKUP_URL");
    refused(
        house,
        &["backup", "create"],
        1,
        &["set database.backup_url"],
    );
    house.set("UTXOIQ_STORE_DATABASE__BACKUP_URL", backup_url.unwrap());
    house.ok(&["backup", "create"]);
}

fn nothing_is_known_of_it(house: &House) {
    let nobody = "01890000-0000-7000-8000-000000000000";
    for command in ["show", "verify", "drill"] {
        refused(
            house,
            &["backup", command, "xyz"],
            2,
            &["name the id of a backup, or `newest`"],
        );
        refused(
            house,
            &["backup", command, nobody],
            1,
            &["`backup list` shows"],
        );
    }
    refused(
        house,
        &["backup", "drill", "all"],
        1,
        &["one backup is proved at a time"],
    );
    refused(
        house,
        &["restore", "--backup", nobody],
        1,
        &["no manifest of a backup"],
    );
    refused(
        house,
        &["restore", "--backup", "../../x"],
        2,
        &["name the id"],
    );
    refused(house, &["backup", "list", "--limit", "0"], 2, &["0"]);
    refused(
        house,
        &[
            "backup",
            "prune",
            "--as-of",
            "2027-01-01T00:00:00Z",
            "--yes",
        ],
        2,
        &["--yes"],
    );
}

fn keys_and_addresses(house: &mut House) {
    // Keys and addresses.
    fs::write(house.path("rubbish.key"), "AGE-SECRET-KEY-1NOTAKEYNOTAKEY").unwrap();
    fs::write(house.path("bytes.key"), [0xff, 0xfe, 0]).unwrap();
    house.set("RESTORE_URL", house.new.admin_url("postgres"));
    refused(house, &["restore"], 1, &["set RESTORE_KEY, or name a file"]);
    for (file, words) in [
        ("nowhere.key", "nowhere.key cannot be read"),
        ("bytes.key", "bytes.key cannot be read"),
        ("rubbish.key", "no secret key of age"),
    ] {
        let said = house.store(&["restore", "--key-file", file]);
        said.assert(file, 1, &[words]);
        assert!(!said.all().contains("NOTAKEY"), "{}", said.all());
    }
    refused(
        house,
        &["restore", "--key-file", "recovery.key"],
        1,
        &["has no roles", "utxoiq-store init"],
    );
    house.set(
        "RESTORE_URL",
        "postgresql://somebody:secret-word@127.0.0.1:1/x",
    );
    let away = house.store(&["restore", "--key-file", "recovery.key"]);
    assert_eq!(away.code, 1);
    assert!(!away.all().contains("secret-word"), "{}", away.all());
    let wrong = [
        "restore",
        "--key-file",
        "recovery.key",
        "--manifest-sha256",
        "abc",
    ];
    refused(house, &wrong, 1, &["is not the manifest"]);
    // A folder that cannot be written, and a key where a key is.
    refused(
        house,
        &["backup", "keygen", "--output", "no/where.key"],
        1,
        &["cannot be written"],
    );
    refused(
        house,
        &["backup", "keygen", "--output", "drill.key"],
        1,
        &["drill.key"],
    );
}

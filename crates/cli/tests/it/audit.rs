//! `utxoiq-store audit`, on a log of a hundred thousand entries.

use std::{
    fs,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use utxoiq_store_testkit::postgres::{PgCluster, PgOptions};

use crate::support::BINARY;

const ENTRIES: i64 = 100_000;

/// What the program may have resident: the log below is some 75 MB.
const MAX_RESIDENT_KB: u64 = 60_000;

/// A chain of its own making, which takes seconds instead of minutes.
const FILL: &str = "do $$
declare
    previous bytea := decode(repeat('00', 32), 'hex');
    entry audit_log;
begin
    for n in 1..100000 loop
        entry := row(n, timestamptz '2026-01-01Z' + n * interval '1 second', 'retention', 'utxoiq_retention', 'archive',
                     'metrics day ' || n, json_build_object('rows', n, 'note', repeat('x', 500))::text, previous, null);
        entry.hash := audit_hash(previous, entry.sequence, entry.at, entry.actor, entry.database_role, entry.action,
                                 entry.subject, entry.details);
        insert into audit_log values (entry.*);
        previous := entry.hash;
    end loop;
    update audit_head set sequence = 100000, hash = previous;
end $$";

struct Bench {
    cluster: PgCluster,
    folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let bench = Self {
            cluster: PgCluster::start(PgOptions::default()).await,
            folder: TempDir::new().unwrap(),
        };
        bench.ok(&["init"]);
        bench.ok(&["migrate", "up"]);
        bench
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(BINARY);
        command
            .args(arguments)
            .env("DATABASE_ADMIN_URL", self.cluster.admin_url("postgres"))
            .current_dir(self.folder.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a verification says that finds something.
    fn broken(&self, arguments: &[&str]) -> String {
        let output = self.run(&[&["audit", "verify"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The most that a verification had resident, in kilobytes.
    fn most_resident(&self) -> u64 {
        let mut child = self
            .command(&["audit", "verify"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut most = 0;
        while child.try_wait().unwrap().is_none() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
            let high = status.unwrap_or_default().lines().find_map(|line| {
                let kilobytes = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
                kilobytes.parse::<u64>().ok()
            });
            most = most.max(high.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(child.wait().unwrap().success());
        most
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_verified_in_little_memory_exported_and_its_faults_named() {
    let bench = Bench::new().await;
    let url = bench.cluster.admin_url("postgres");
    let (admin, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    assert!(
        bench
            .ok(&["audit", "verify"])
            .starts_with("the chain of 0 entries is whole; its head is 0:000")
    );
    assert_eq!(bench.ok(&["audit", "list"]), "");
    admin.batch_execute(FILL).await.unwrap();

    let started = Instant::now();
    let verified = bench.ok(&["audit", "verify", "--json"]);
    println!("{ENTRIES} entries verified in {:?}", started.elapsed());
    let verified: Value = serde_json::from_str(&verified).unwrap();
    assert_eq!(
        (&verified["valid"], verified["entries"].as_i64()),
        (&Value::Bool(true), Some(ENTRIES))
    );
    let resident = bench.most_resident();
    println!("{resident} kB resident");
    assert!((1..MAX_RESIDENT_KB).contains(&resident), "{resident} kB");

    let head = verified["head"]["hash"].as_str().unwrap();
    let anchor = format!("{ENTRIES}:{head}");
    assert!(
        bench
            .ok(&["audit", "verify", "--anchor", &anchor])
            .contains("it agrees with 1 anchors")
    );
    bench.ok(&["audit", "export", "--output", "log.ndjson"]);
    let again = bench.run(&["audit", "export", "--output", "log.ndjson"]);
    assert!(
        !again.status.success(),
        "a file that is there is not replaced"
    );
    let exported = fs::read_to_string(bench.folder.path().join("log.ndjson")).unwrap();
    assert_eq!(exported.lines().count(), 100_001);
    let last: Value = serde_json::from_str(exported.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["head"]["hash"], last["entries"].as_i64()),
        (&verified["head"]["hash"], Some(ENTRIES))
    );

    let listed = bench.ok(&[
        "audit",
        "list",
        "--subject",
        "metrics day 9999",
        "--limit",
        "3",
    ]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 4, "{listed}");
    assert!(
        lines[1].starts_with("99999  2026-01-02 03:46:39  retention  archive  metrics day 99999"),
        "{listed}"
    );
    let many = bench.ok(&[
        "audit",
        "list",
        "--json",
        "--limit",
        "2500",
        "--to",
        "2026-01-01T01:00:00Z",
    ]);
    assert_eq!(many.lines().count(), 2_500);
    let first: Value = serde_json::from_str(many.lines().next().unwrap()).unwrap();
    assert_eq!(
        (
            first["sequence"].as_i64(),
            first["details"]["rows"].as_i64()
        ),
        (Some(3_599), Some(3_599))
    );

    faults_are_named(&bench, &admin, head).await;
}

/// The end is cut off, and the head set back; then more.
async fn faults_are_named(bench: &Bench, admin: &tokio_postgres::Client, head: &str) {
    let cut = "delete from audit_log where sequence > 99000;
               update audit_head set sequence = 99000, hash = (select hash from audit_log where sequence = 99000)";
    admin.batch_execute(cut).await.unwrap();
    bench.ok(&["audit", "verify"]);
    fs::write(
        bench.folder.path().join("heads.jsonl"),
        format!(
            "{{\"sequence\": {ENTRIES}, \"hash\": \"{head}\", \"found_in\": \"the mail of May\"}}\n"
        ),
    )
    .unwrap();
    let said = bench.broken(&["--anchors", "heads.jsonl"]);
    assert!(
        said.contains("anchor_missing: entry 100000 is not there, and the mail of May knows it"),
        "{said}"
    );
    let tamper = "update audit_log set details = '{}' where sequence = 500; delete from audit_log where sequence between 600 and 610";
    admin.batch_execute(tamper).await.unwrap();
    let said = bench.broken(&[]);
    assert!(
        said.starts_with("the chain of 98989 entries is broken"),
        "{said}"
    );
    assert!(
        said.contains("\nchanged: entry 500 was changed")
            && said.contains("\nremoved: entries 600 to 610 were removed\n"),
        "{said}"
    );
    let wrong = bench.run(&["audit", "verify", "--anchor", "5:abc"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("64 hexadecimal digits"));
}

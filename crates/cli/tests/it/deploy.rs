//! deploy/: what can be said of an image and of Terraform's files without building or applying them. Neither is run here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use utxoiq_store_testkit::Authority;

use crate::{examples::python, support::BINARY};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The environment's names of all settings.
fn settings() -> BTreeSet<String> {
    let text = file("config.example.toml");
    let names = text.lines().filter_map(|line| line.strip_prefix("# env: "));
    names.map(str::to_owned).collect()
}

/// A container of Terraform's: its arguments, what it is told, and which secrets it gets.
#[derive(Debug, Deserialize)]
struct Container {
    args: Vec<String>,
    identity: String,
    settings: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Terraform {
    blocks: BTreeMap<String, Value>,
    containers: BTreeMap<String, Container>,
    readers: BTreeMap<String, Vec<String>>,
}

/// What the files say; `None` where no Python can read them here.
fn terraform() -> Option<Terraform> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/terraform.py");
    let read = Command::new(python()?)
        .arg(script)
        .arg(root().join("deploy/terraform"))
        .output()
        .unwrap();
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
    Some(serde_json::from_slice(&read.stdout).unwrap())
}

/// Believable values of what is only known later.
fn value_of(name: &str, said: &str, folder: &Path) -> String {
    if name.ends_with("CA_FILE") {
        return folder.join("ca.pem").display().to_string();
    }
    match name {
        "UTXOIQ_STORE_DATABASE__REGION" => "europe-west1".to_owned(),
        "UTXOIQ_STORE_DATABASE__POOL_MAX" => "20".to_owned(),
        _ if name.ends_with("RECIPIENT") => recipient(folder, name),
        _ => said.replace("known-later", "example"),
    }
}

fn secret(name: &str, folder: &Path) -> String {
    let url =
        |user: &str, database: &str| format!("postgresql://{user}:word@10.1.2.3:5432/{database}");
    match name {
        "database-url" => url("utxoiq_app", "utxoiq"),
        "database-admin-url" => url("postgres", "utxoiq"),
        "database-retention-url" => url("utxoiq_retention", "utxoiq"),
        "database-backup-url" => url("utxoiq_backup", "utxoiq"),
        "database-drill-url" => url("utxoiq_drill", "postgres"),
        "redis-url" => "rediss://default:word@10.1.2.4:6378/0".to_owned(),
        "drill-identity" => {
            recipient(folder, "UTXOIQ_STORE_BACKUP__DRILL_RECIPIENT");
            let key =
                fs::read_to_string(folder.join("UTXOIQ_STORE_BACKUP__DRILL_RECIPIENT")).unwrap();
            key.lines()
                .find(|line| line.starts_with("AGE-SECRET-KEY"))
                .unwrap()
                .to_owned()
        }
        "alert-webhook-url" | "watch-heartbeat-url" => "https://hooks.example.org/x".to_owned(),
        "pseudonym-key" | "alert-webhook-secret" => {
            "a word of at least thirty-two characters".to_owned()
        }
        other => panic!("what is {other}?"),
    }
}

/// The public key of a pair, which is made where it is not there.
fn recipient(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    let public = folder.join(format!("{name}.public"));
    if !path.exists() {
        let made = Command::new(BINARY)
            .args(["backup", "keygen", "--output"])
            .arg(&path)
            .output()
            .unwrap();
        let said =
            String::from_utf8(made.stdout).unwrap() + &String::from_utf8(made.stderr).unwrap();
        let key = said
            .split_whitespace()
            .find(|word| word.starts_with("age1"))
            .unwrap();
        fs::write(&public, key).unwrap();
    }
    fs::read_to_string(public).unwrap()
}

fn checked(environment: &BTreeMap<String, String>) -> Output {
    Command::new(BINARY)
        .args(["config", "check"])
        .env_clear()
        .envs(environment)
        .output()
        .unwrap()
}

#[test]
fn each_containers_environment_is_a_configuration_that_the_program_takes() {
    let Some(terraform) = terraform() else { return };
    let known = settings();
    let folder = TempDir::new().unwrap();
    fs::copy(Authority::new().file(), folder.path().join("ca.pem")).unwrap();
    for (name, container) in &terraform.containers {
        let mut environment = BTreeMap::new();
        for (variable, said) in &container.settings {
            if variable.starts_with("OTEL_") {
                continue;
            }
            assert!(known.contains(variable), "{name}: {variable} is no setting");
            environment.insert(variable.clone(), value_of(variable, said, folder.path()));
        }
        for (variable, secret_name) in &container.secrets {
            assert!(known.contains(variable), "{name}: {variable} is no setting");
            environment.insert(variable.clone(), secret(secret_name, folder.path()));
            let readers = &terraform.readers[secret_name];
            assert!(
                readers.contains(&container.identity),
                "{name} may not read {secret_name}"
            );
        }
        // What is checked is the configuration of a process that serves: jobs without its connection get one.
        environment
            .entry("DATABASE_URL".to_owned())
            .or_insert_with(|| secret("database-url", folder.path()));
        let said = checked(&environment);
        assert!(
            said.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&said.stderr)
        );
        // Its arguments are a command of the program's.
        let mut help = container.args.clone();
        help.retain(|one| !one.starts_with('-'));
        let said = Command::new(BINARY)
            .args(&help)
            .arg("--help")
            .output()
            .unwrap();
        assert!(said.status.success(), "{name}: {help:?}");
    }
    assert!(terraform.containers.len() >= 6);
    // Who reads a secret runs in a container that has it: no right is there for nothing.
    for (secret, readers) in &terraform.readers {
        for who in readers.iter().filter(|_| !secret.ends_with("-ca")) {
            let has = terraform
                .containers
                .values()
                .any(|one| one.identity == *who && one.secrets.values().any(|name| name == secret));
            assert!(has, "{who} may read {secret} and does not");
        }
    }
}

#[test]
fn the_key_that_opens_backups_is_the_drills_alone_and_the_service_administers_nothing() {
    let Some(terraform) = terraform() else { return };
    let of = |secret: &str| terraform.readers[secret].clone();
    assert_eq!(of("drill-identity"), ["drill"]);
    assert_eq!(of("database-drill-url"), ["drill"]);
    assert_eq!(of("database-admin-url"), ["migrate"]);
    assert!(!of("database-backup-url").contains(&"drill".to_owned()));
    let drill = &terraform.containers["drill"];
    assert!(
        !drill
            .secrets
            .values()
            .any(|name| name.contains("backup-url") || name.contains("admin"))
    );
}

/// All resources of a kind.
fn resources<'a>(terraform: &'a Terraform, kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let all = terraform.blocks["resource"].as_array().unwrap().iter();
    let of_kind = all.filter_map(|block| block.get(kind)?.as_object());
    of_kind
        .flatten()
        .map(|(name, body)| (name.as_str(), body))
        .collect()
}

#[test]
fn buckets_keep_what_they_must_and_nothing_longer() {
    let Some(terraform) = terraform() else { return };
    let buckets = resources(&terraform, "google_storage_bucket");
    let archive = buckets["archive"];
    assert_eq!(
        archive["soft_delete_policy"][0]["retention_duration_seconds"],
        0
    );
    assert_eq!(archive["versioning"][0]["enabled"], false);
    assert!(
        archive.get("retention_policy").is_none(),
        "archives must really go"
    );
    let backups = buckets["backups"];
    let policy = &backups["dynamic"][0]["retention_policy"]["content"][0];
    let period = policy["retention_period"].to_string();
    let factors = period
        .trim_matches(|c: char| !c.is_ascii_digit())
        .split('*');
    let seconds: u64 = factors
        .map(|factor| factor.trim().parse::<u64>().unwrap())
        .product();
    assert!(seconds <= 7 * 86_400, "{seconds}");
    assert!(policy["is_locked"].to_string().contains("lock_backups"));
    for (name, bucket) in &buckets {
        assert_eq!(bucket["uniform_bucket_level_access"], true, "{name}");
        assert_eq!(bucket["public_access_prevention"], "enforced", "{name}");
        let rules: Vec<_> = bucket["lifecycle_rule"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| rule["action"][0]["type"].as_str().unwrap())
            .collect();
        assert!(
            rules.contains(&"AbortIncompleteMultipartUpload"),
            "{name}: {rules:?}"
        );
        assert!(
            !rules.contains(&"Delete"),
            "{name}: the store decides what goes"
        );
    }
    let database = &resources(&terraform, "google_sql_database_instance")["store"]["settings"][0];
    assert_eq!(database["ip_configuration"][0]["ipv4_enabled"], false);
    assert_eq!(
        database["ip_configuration"][0]["ssl_mode"],
        "ENCRYPTED_ONLY"
    );
    assert_eq!(
        database["backup_configuration"][0]["point_in_time_recovery_enabled"],
        true
    );
    let redis = &resources(&terraform, "google_redis_instance")["store"];
    assert_eq!(redis["transit_encryption_mode"], "SERVER_AUTHENTICATION");
    assert_eq!(redis["auth_enabled"], true);
}

/// The instructions of a Dockerfile, lines joined, with comments left out.
fn instructions() -> Vec<(String, String)> {
    let text = file("deploy/Dockerfile");
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let all = joined.lines().filter(|line| !line.trim().is_empty());
    all.map(|line| {
        let (word, rest) = line.trim().split_once(' ').unwrap();
        (
            word.to_owned(),
            rest.split_whitespace().collect::<Vec<_>>().join(" "),
        )
    })
    .collect()
}

#[test]
fn the_image_runs_as_nobody_holds_no_source_and_serves() {
    let all = instructions();
    let of = |word: &str| -> Vec<&str> {
        all.iter()
            .filter(|(name, _)| name == word)
            .map(|(_, rest)| rest.as_str())
            .collect()
    };
    let stages = of("FROM");
    assert_eq!(stages.len(), 2);
    assert!(
        stages[0].ends_with(" AS build") && stages[1].contains("-slim"),
        "{stages:?}"
    );
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let last = &all[last..];
    let copied: Vec<_> = last
        .iter()
        .filter(|(word, _)| word == "COPY" || word == "ADD")
        .collect();
    assert_eq!(copied.len(), 1, "{copied:?}");
    assert!(copied[0].1.starts_with("--from=build "));
    let user = of("USER")[0];
    assert!(
        user.split(':')
            .all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)),
        "{user}"
    );
    assert_eq!(of("ENTRYPOINT"), [r#"["/usr/local/bin/utxoiq-store"]"#]);
    assert_eq!(of("CMD"), [r#"["serve"]"#]);
    // Its compiler is the one that the workspace asks for, and its environment is settings.
    let manifest = file("Cargo.toml");
    let wanted = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap();
    assert!(of("ARG").contains(&format!("RUST_VERSION={}", wanted.trim_matches('"')).as_str()));
    let known = settings();
    let mut environment = BTreeMap::new();
    for pair in of("ENV").iter().flat_map(|line| line.split(' ')) {
        let (name, value) = pair.split_once('=').unwrap();
        assert!(known.contains(name), "{name} is no setting");
        environment.insert(name.to_owned(), value.to_owned());
    }
    let version = of("ARG")
        .iter()
        .find_map(|arg| arg.strip_prefix("POSTGRESQL="))
        .unwrap()
        .to_owned();
    assert_eq!(
        environment.remove("UTXOIQ_STORE_BACKUP__TOOLS_DIR"),
        Some(format!("/usr/lib/postgresql/{version}/bin"))
    );
    environment.insert(
        "DATABASE_URL".to_owned(),
        "postgresql://u@/d?host=/run/x".to_owned(),
    );
    let said = checked(&environment);
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    for (_, run) in all.iter().filter(|(word, _)| word == "RUN") {
        assert!(
            !run.contains("apt-get install") || run.contains("rm -rf /var/lib/apt/lists"),
            "{run}"
        );
        assert!(!run.contains("curl") && !run.contains("wget"), "{run}");
    }
}

#[test]
fn what_is_copied_for_others_code_is_every_manifest_and_the_context_has_it() {
    let all = instructions();
    let copied: BTreeSet<&str> = all
        .iter()
        .filter(|(word, _)| word == "COPY")
        .flat_map(|(_, rest)| rest.split(' '))
        .collect();
    let manifest = file("Cargo.toml");
    let members = manifest
        .lines()
        .find_map(|line| line.strip_prefix("members = "))
        .unwrap();
    let members: Vec<String> = serde_json::from_str(members).unwrap();
    for member in &members {
        assert!(
            copied.contains(format!("{member}/Cargo.toml").as_str()),
            "{member}"
        );
    }
    let context = file(".dockerignore");
    let lines: Vec<_> = context
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(lines[0], "*", "what is not named does not go along");
    for needed in ["!Cargo.toml", "!Cargo.lock", "!crates"] {
        assert!(lines.contains(&needed), "{needed}");
    }
}

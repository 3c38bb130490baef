//! `--json`: what every command prints is one value of JSON, or lines of it, and its fields are those that programs know.
//!
//! The fields of every answer stand in `json/shapes.txt`. One that is new, gone, or of another type fails this test;
//! UTXOIQ_UPDATE_SHAPES=1 writes the file anew, to be looked at and committed.

mod shape;

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::{Value, json};
use utxoiq_store::alert::{Condition, Severity};

use self::shape::Shapes;
use crate::{furnished::Furnished, support::text};

/// Commands whose answers are not looked at here, and why.
const ELSEWHERE: [(&str, &str); 6] = [
    ("serve", "it prints a log"),
    ("completions", "it prints a script"),
    ("backup restore", "the same as restore"),
    ("archive query", "DuckDB prints it: tests/it/archive.rs"),
    ("demo", "it wants a store of its own: tests/it/demo.rs"),
    (
        "migrate new",
        "looked at below, without the service's settings",
    ),
];

/// Commands that print JSON lines.
const LINES: [&str; 6] = [
    "alert list",
    "audit list",
    "audit export",
    "backup list",
    "backup proofs",
    "feedback export",
];

struct World {
    house: Furnished,
    shapes: Shapes,
    asked: BTreeSet<String>,
}

impl World {
    async fn new() -> Self {
        Self {
            house: Furnished::new(&[]).await,
            shapes: Shapes::default(),
            asked: BTreeSet::new(),
        }
    }

    /// Runs a command with `--json`; what it prints is JSON, and its fields are noted.
    async fn ask(&mut self, command: &str, arguments: &[&str]) -> Value {
        let quoted: Vec<String> = arguments
            .iter()
            .map(|argument| format!("'{argument}'"))
            .collect();
        let line = format!("\"$0\" {command} --json {}", quoted.join(" "));
        let output = self.house.shell(&line).await;
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{command} {arguments:?}: {out}{err}"
        );
        let answer = if LINES.contains(&command) {
            let lines = out.lines().map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{command}: {error}: {line}"))
            });
            Value::Array(lines.collect())
        } else {
            serde_json::from_str(&out).unwrap_or_else(|error| {
                panic!("{command} prints no single value of JSON: {error}: {out}")
            })
        };
        self.asked.insert(command.to_owned());
        self.shapes.add(command, &answer);
        answer
    }

    async fn post(&self, path: &str, body: Value) {
        let answer = reqwest::Client::new()
            .post(self.house.service.url(path))
            .bearer_auth(self.house.service.token())
            .header("X-User-Id", "user 1")
            .json(&body)
            .send()
            .await
            .unwrap();
        assert!(
            answer.status().is_success(),
            "{path}: {}",
            answer.text().await.unwrap()
        );
    }
}

fn id(answer: &Value) -> String {
    answer["id"]
        .as_str()
        .unwrap_or_else(|| panic!("no id in {answer}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_answers_in_json_with_the_fields_that_programs_know() {
    let mut world = World::new().await;
    database(&mut world).await;
    backfill(&mut world).await;
    feedback(&mut world).await;
    metrics(&mut world).await;
    cold(&mut world).await;
    watched(&mut world).await;
    backups(&mut world).await;
    program(&mut world).await;
    // Last: until one takes a table away.
    let mut is_lost = false;
    while !is_lost {
        let down = world.ask("migrate down", &["--allow-data-loss"]).await;
        is_lost = !down["lost"].as_array().unwrap().is_empty();
    }
    world.ask("migrate up", &[]).await;

    let all: Vec<Value> =
        serde_json::from_str(&world.house.service.ok(&["reference", "--json"]).await).unwrap();
    for command in &all {
        let name = command["command"].as_str().unwrap();
        let is_elsewhere = ELSEWHERE.iter().any(|(command, _)| *command == name);
        assert!(
            is_elsewhere || world.asked.contains(name),
            "{name} is asked by no test"
        );
        let needs_none = ["serve", "completions"].contains(&name);
        assert!(
            needs_none || command["json"] == true,
            "{name} does not take --json"
        );
    }
    world.shapes.compare(&PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/json/shapes.txt"
    )));
}

async fn database(world: &mut World) {
    world.ask("init", &[]).await;
    world.ask("init", &["--print"]).await;
    world.ask("migrate status", &[]).await;
    world.ask("migrate lint", &[]).await;
    world.ask("migrate lint", &["--rules"]).await;
    world
        .ask(
            "token create",
            &["--name", "other", "--scopes", "stats:read"],
        )
        .await;
    world.ask("token rotate", &["other"]).await;
    world.ask("token list", &[]).await;
    world.ask("token revoke", &["other"]).await;
}

async fn backfill(world: &mut World) {
    let range = ["--type", "blocks", "--from", "1", "--to", "100"];
    let job = id(&world.ask("backfill start", &range).await);
    for command in [
        "backfill show",
        "backfill gaps",
        "backfill pause",
        "backfill resume",
    ] {
        world.ask(command, &[&job]).await;
    }
    world.ask("backfill cancel", &[&job]).await;
    world.ask("backfill list", &[]).await;
    let range = [
        "--type", "fees", "--from", "1", "--to", "10", "--", "true", "{start}",
    ];
    let done = id(&world.ask("backfill run", &range).await);
    world.ask("backfill watch", &[&done]).await;
}

async fn feedback(world: &mut World) {
    let insight = "whale-1";
    world
        .post(
            "/api/v1/feedback/rate",
            json!({"insight_id": insight, "rating": 4, "comment": "good"}),
        )
        .await;
    world
        .post(
            "/api/v1/feedback/flag",
            json!({"insight_id": insight, "flag_type": "spam", "flag_reason": "again"}),
        )
        .await;
    world.ask("feedback stats", &[insight]).await;
    world.ask("feedback search", &["--insight", insight]).await;
    world.ask("feedback top", &[]).await;
    world.ask("feedback flagged", &[]).await;
    world.ask("feedback trend", &[]).await;
    world.ask("feedback export", &[]).await;
    world
        .ask("feedback erase", &["--user", "user 1", "--yes"])
        .await;
}

async fn metrics(world: &mut World) {
    let at = world.house.service.store().now() - chrono::TimeDelta::hours(1);
    let sample = |minutes: i64| {
        let at = at + chrono::TimeDelta::minutes(minutes);
        json!({"service_name": "api", "metric_type": "latency", "metric_value": 1.5, "unit": "ms", "timestamp": at}).to_string()
    };
    let file = world.house.service.path("samples.ndjson");
    fs::write(&file, (0..30).map(sample).collect::<Vec<_>>().join("\n")).unwrap();
    world.ask("metrics import", &[text(&file)]).await;
    world
        .ask("metrics query", &["--service", "api", "--type", "latency"])
        .await;
    world.ask("metrics series", &["--service", "api"]).await;
    world.ask("metrics services", &[]).await;
    world.ask("metrics top", &["--type", "latency"]).await;
    world.ask("metrics degradations", &[]).await;
    world.ask("metrics verify", &[]).await;
}

async fn cold(world: &mut World) {
    let sql = "insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
                   attempt_covered_blocks, claim_epoch, started_at, progressed_at, heard_at, ended_at)
               select gen_random_uuid(), 'old', 0, 9, 'cancelled', '{}', 1, t, 0, 0, t, t, t, t
               from (select now() - interval '200 days' as t) as past";
    world
        .house
        .service
        .admin()
        .await
        .batch_execute(sql)
        .await
        .unwrap();
    world.ask("retention plan", &[]).await;
    world.ask("retention run", &["--yes"]).await;
    world.ask("retention status", &[]).await;
    let hold = id(&world
        .ask(
            "retention hold add",
            &["--user", "user 2", "--reason", "a case"],
        )
        .await);
    world.ask("retention hold list", &[]).await;
    world
        .ask("retention hold release", &[&hold, "--reason", "over"])
        .await;
    let listed = world.ask("archive list", &[]).await;
    let (archive, day) = (
        id(&listed["archives"][0]),
        listed["archives"][0]["day"].as_str().unwrap().to_owned(),
    );
    world.ask("archive show", &[&archive]).await;
    world.ask("archive verify", &[]).await;
    world.ask("archive where-is", &[&day]).await;
    world
        .ask("archive restore", &[&archive, "--reason", "a case"])
        .await;
}

async fn watched(world: &mut World) {
    let store = world.house.service.store();
    let condition = Condition {
        key: "test:something".to_owned(),
        severity: Severity::Warning,
        title: "something is wrong".to_owned(),
        detail: "it is so".to_owned(),
        runbook: "docs/operations/alerts.md",
        labels: std::collections::BTreeMap::new(),
    };
    store
        .alerts()
        .observe(store.pool(), "test", &[condition], store.now())
        .await
        .unwrap();
    world.ask("alert list", &[]).await;
    world
        .ask("alert ack", &["test:something", "--note", "seen"])
        .await;
    world.ask("alert test", &[]).await;
    world.ask("audit list", &[]).await;
    world.ask("audit verify", &[]).await;
    world.ask("audit export", &[]).await;
    world.ask("schedule status", &[]).await;
    world.ask("schedule run", &["fold_feedback"]).await;
    world.ask("schedule tick", &[]).await;
    world.ask("slo", &["C1.1", "C2.1"]).await;
    // Of such as are tried here; a missed one would end with 1.
    world.ask("slo", &["C1.1", "C5.1", "--probe"]).await;
}

async fn backups(world: &mut World) {
    world.ask("backup keygen", &[]).await;
    world.ask("backup create", &[]).await;
    world.ask("backup list", &[]).await;
    world.ask("backup show", &["newest"]).await;
    world.ask("backup verify", &[]).await;
    world.ask("backup prune", &[]).await;
    world.ask("backup drill", &[]).await;
    world.ask("backup proofs", &[]).await;
    world.ask("restore", &[]).await;
    world.ask("backup adopt", &[]).await;
}

async fn program(world: &mut World) {
    let folder = world.house.service.path("man");
    world.ask("man", &["--output", text(&folder)]).await;
    world.ask("config example", &[]).await;
    world.ask("config check", &[]).await;
    world.ask("openapi", &[]).await;
    world.ask("doctor", &[]).await;
    let folder = world.house.service.path("migrations");
    fs::create_dir(&folder).unwrap();
    world
        .ask("migrate new", &["add_something", "--dir", text(&folder)])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_parse_and_every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let shell = |line: String| {
        let output = std::process::Command::new("bash")
            .args(["-o", "pipefail", "-c", &line, crate::support::BINARY])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    shell("\"$0\" completions bash | bash -n".to_owned());
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = shell(format!("\"$0\" completions {name}"));
        assert!(
            script.contains("doctor") && script.contains("sample-minutes"),
            "{name}"
        );
    }
    shell(format!("\"$0\" man --output '{}'", folder.path().display()));
    let commands: Vec<Value> =
        serde_json::from_str(&shell("\"$0\" reference --json".to_owned())).unwrap();
    assert!(commands.len() > 60, "{}", commands.len());
    for command in commands {
        let name = command["command"].as_str().unwrap().replace(' ', "-");
        let page =
            fs::read_to_string(folder.path().join(format!("utxoiq-store-{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    // The reference says what the program does, as it is.
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let told = shell("\"$0\" reference".to_owned());
    assert!(
        fs::read_to_string(book).unwrap() == told,
        "docs/cli.md is not what the program says: run ./dev generate"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_coloured_where_nobody_sees_it_and_an_error_names_the_next_command() {
    let line = "\"$0\" schedule status; \"$0\" doctor";
    let output = std::process::Command::new("bash")
        .args(["-c", line, crate::support::BINARY])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm-256color")
        .env("DATABASE_URL", "postgresql://utxoiq_app:x@127.0.0.1:1/none")
        .output()
        .unwrap();
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!told.contains('\u{1b}'), "{told}");
    assert!(told.contains("next: `utxoiq-store doctor`"), "{told}");
    // `script` gives it a terminal.
    let on_terminal = |variable: &str| {
        let line = format!(
            "{variable} script -qec '{} doctor' /dev/null",
            crate::support::BINARY
        );
        let output = std::process::Command::new("bash")
            .args(["-c", &line])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm-256color")
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains("\u{1b}[3")
    };
    assert!(on_terminal(""));
    assert!(!on_terminal("NO_COLOR=1"));
}

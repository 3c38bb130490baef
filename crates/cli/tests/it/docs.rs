//! The documents say what is so: each block of commands is run with the real program or says why it cannot be, each block of
//! SQL is run on the real schema, settings and commands that are named exist, and links lead somewhere.
//!
//! The runbooks of backups and restores are a story of their own: `tests/it/backup.rs`.

mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use utxoiq_store_testkit::redis::RedisServer;

use self::steps::STEPS;
use crate::{
    archive, backup,
    book::{self, Block},
    furnished::Furnished,
    support::{BINARY, text},
};

fn blocks(language: &str) -> Vec<Block> {
    let blocks = book::books()
        .into_iter()
        .flat_map(|book| book::blocks(&book));
    blocks.filter(|block| block.language == language).collect()
}

/// What bash, Python or psql says to a text on its standard input.
fn fed(mut command: Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn each_block_of_commands_is_run_or_says_why_not() {
    let steps = STEPS.iter().map(|step| step.0);
    let runbooks = backup::RUN.iter().map(|step| step.0);
    let mut known: BTreeSet<&str> = steps.chain(runbooks).collect();
    assert_eq!(
        known.len(),
        STEPS.len() + backup::RUN.len(),
        "a block is in the tables twice"
    );
    for block in blocks("sh") {
        let name = &*block.name;
        match &block.not_run {
            None => assert!(known.remove(name), "{name} is not run"),
            Some(reason) => assert!(reason.len() > 10, "{name}: why is it not run?"),
        }
        let mut bash = Command::new("bash");
        bash.arg("-n");
        let read = fed(bash, &block.text);
        assert!(
            read.status.success() && read.stderr.is_empty(),
            "{name}: {}",
            String::from_utf8_lossy(&read.stderr)
        );
    }
    assert!(known.is_empty(), "no document has these: {known:?}");
}

#[test]
fn every_block_is_of_a_language_that_is_looked_at() {
    let known = [
        "sh",
        "sql",
        "toml",
        "json",
        "python",
        "yaml",
        "text",
        "rust",
        "rust,ignore",
        "",
    ];
    for book in book::books() {
        for block in book::blocks(&book) {
            let (name, language) = (&block.name, &*block.language);
            assert!(known.contains(&language), "{name}: {language}");
            match language {
                "json" => drop(
                    serde_json::from_str::<Value>(&block.text)
                        .unwrap_or_else(|error| panic!("{name}: {error}")),
                ),
                "python" => {
                    let mut python = Command::new("python3");
                    python.args(["-c", "import ast, sys; ast.parse(sys.stdin.read())"]);
                    let read = fed(python, &block.text);
                    assert!(read.status.success(), "{name}: {read:?}");
                }
                _ => assert!(
                    !matches!(language, "" | "text") || !block.text.contains("\n$ "),
                    "{name}: commands are in a block of sh"
                ),
            }
        }
    }
}

/// The settings of a block, each with its table.
fn settings(prefix: &str, table: &toml::Table, found: &mut Vec<String>) {
    for (key, value) in table {
        let name = format!("{prefix}{key}");
        match value {
            toml::Value::Table(table) if name != "oidc.roles" && name != "rate_limit.tiers" => {
                settings(&format!("{name}."), table, found);
            }
            _ => found.push(name),
        }
    }
}

#[test]
fn every_setting_that_is_shown_exists() {
    let example = book::text("config.example.toml");
    let variables: BTreeSet<&str> = example
        .lines()
        .filter_map(|line| line.strip_prefix("# env: "))
        .flat_map(|names| names.split(", "))
        .collect();
    let mut looked_at = 0;
    for block in blocks("toml") {
        let table: toml::Table =
            toml::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.name));
        let mut named = Vec::new();
        settings("", &table, &mut named);
        for name in named {
            let variable = format!("UTXOIQ_STORE_{}", name.replace('.', "__").to_uppercase());
            let (table, key) = name.rsplit_once('.').unwrap();
            let is_known = variables.contains(&*variable)
                || example
                    .split(&format!("\n[{table}]\n"))
                    .nth(1)
                    .is_some_and(|rest| rest.contains(&format!("{key} = ")));
            assert!(is_known, "{}: there is no setting {name}", block.name);
            looked_at += 1;
        }
    }
    assert!(looked_at > 20, "{looked_at}");
}

/// What the program knows: each command, and its options.
fn commands() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(BINARY)
        .args(["reference", "--json"])
        .output()
        .unwrap();
    let told: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    told.iter()
        .map(|one| {
            let options = one["options"].as_array().unwrap().iter();
            (text(&one["command"]), options.map(text).collect())
        })
        .collect()
}

/// Calls of the program in a document's sentences and blocks, each without what comes behind it.
fn calls(book: &str) -> Vec<String> {
    let blocks = book::blocks(book)
        .into_iter()
        .filter(|block| block.language == "sh");
    let lines = blocks.flat_map(|block| {
        let text = block.text.replace("\\\n", " ");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let said = book::code(book).into_iter().chain(lines);
    said.flat_map(|said| {
        let calls = said.split("utxoiq-store ").skip(1);
        let calls = calls.filter_map(|call| call.split(['#', '|', ';', ')', '&']).next());
        calls.map(str::to_owned).collect::<Vec<_>>()
    })
    .collect()
}

/// Behind the program's name, but no command of the reference: one is hidden, the other a connection's name.
const NO_COMMANDS: [&str; 2] = ["reference", "cache"];

#[test]
fn every_command_that_is_named_exists_and_takes_the_options_that_are_named() {
    let commands = commands();
    let mut looked_at = 0;
    for book in book::books() {
        for call in calls(&book) {
            let is_word = |word: &&str| {
                !word.starts_with('-') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            };
            let words: Vec<&str> = call.split(' ').take_while(is_word).collect();
            let name = (1..=words.len())
                .rev()
                .map(|count| words[..count].join(" "))
                .find(|name| commands.contains_key(name));
            let Some(name) = name else {
                let group = format!("{} ", words.join(" "));
                let is_group = commands.keys().any(|known| known.starts_with(&group));
                let is_other = words.is_empty() || NO_COMMANDS.contains(&words[0]);
                assert!(
                    is_group || is_other,
                    "{book}: there is no command utxoiq-store {call}"
                );
                continue;
            };
            looked_at += 1;
            // Behind two dashes stands another's command.
            let own = call.split(" -- ").next().unwrap().split(' ');
            for option in own.filter_map(|word| word.strip_prefix("--")) {
                let option = option.split('=').next().unwrap();
                let option = option.trim_end_matches([',', '.', ']', ':']);
                let is_known = ["", "help", "config", "version"].contains(&option)
                    || commands[&name].contains(option);
                assert!(is_known, "{book}: {name} has no option --{option}");
            }
        }
    }
    assert!(looked_at > 150, "{looked_at}");
}

#[test]
fn every_link_leads_somewhere() {
    for book in book::books() {
        for (file, anchor) in book::links(&book) {
            let path = book::root().join(&file);
            assert!(path.exists(), "{book} links to {file}, which is not there");
            if let Some(anchor) = anchor {
                assert!(
                    book::anchors(&file).contains(&anchor),
                    "{book} links to {file}#{anchor}"
                );
            }
        }
    }
}

/// Lines of SQL that make the state in which a block is of use.
const BEFORE: [(&str, &str); 1] = [(
    "audit.md#when-the-chain-is-broken/1",
    "delete from audit_head;",
)];

#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_sql_runs_and_changes_nothing_it_should_not() {
    let house = Furnished::new(&[]).await;
    let url = house.service.cluster.admin_url("postgres");
    // An entry of the audit log, which one of them reads.
    let hold = ["--insight", "i-1", "--reason", "a case"];
    let hold = [&["retention", "hold", "add"][..], &hold].concat();
    house.service.ok(&hold).await;
    let mut known: BTreeSet<&str> = BEFORE.iter().map(|(name, _)| *name).collect();
    let mut run = 0;
    for block in blocks("sql") {
        if let Some(reason) = &block.not_run {
            assert!(reason.len() > 10, "{}: why is it not run?", block.name);
            continue;
        }
        known.remove(&*block.name);
        let before = BEFORE.iter().find(|(name, _)| *name == block.name);
        let before = before.map_or("", |(_, before)| before);
        let mut psql = Command::new("psql");
        psql.args([&*url, "-v", "ON_ERROR_STOP=1", "-q", "-f", "-"]);
        let said = fed(
            psql,
            &format!("begin;\n{before}\n{};\nrollback;", block.text),
        );
        assert!(
            said.status.success(),
            "{}: {}",
            block.name,
            String::from_utf8_lossy(&said.stderr)
        );
        run += 1;
    }
    assert!(run > 6, "{run}");
    assert!(known.is_empty(), "no document has these: {known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_does_what_they_say() {
    let redis = RedisServer::start().await;
    let mut house = furnish(&redis).await;
    let (blocks, mut wrong) = (blocks("sh"), Vec::new());
    for (name, code, words) in STEPS {
        steps::before(name, &mut house).await;
        let block = blocks.iter().find(|block| block.name == *name);
        let block = block.unwrap_or_else(|| panic!("no document has {name}"));
        if block.text.contains("archive query") && !house.has_duckdb {
            println!("SKIPPED {name}: DuckDB's command line cannot be installed here");
            continue;
        }
        let began = std::time::Instant::now();
        let output = house.house.shell(&block.text).await;
        let said = format!(
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        println!("{name}: {} ms", began.elapsed().as_millis());
        let ended = output.status.code();
        if ended != Some(*code) {
            wrong.push(format!("{name} ends with {ended:?}, not {code}: {said}"));
        }
        let missing = words.iter().filter(|word| !said.contains(**word));
        wrong.extend(missing.map(|word| format!("{name} does not say {word:?}: {said}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A furnished service with a demonstration's data, and what a newcomer's folder has.
pub struct Scene {
    house: Furnished,
    has_duckdb: bool,
}

async fn furnish(redis: &RedisServer) -> Scene {
    let variables = [
        ("REDIS_URL", &*redis.url()),
        ("UTXOIQ_STORE_RATE_LIMIT__TIERS", "free=100/h"),
        ("UTXOIQ_STORE_RATE_LIMIT__USER_TIER", "free"),
    ];
    let mut house = Furnished::new(&variables).await;
    let service = &house.service;
    service
        .ok(&["demo", "--days", "95", "--sample-minutes", "60", "--json"])
        .await;
    // The program's name, and what stands beside the README.
    let path = |name: &str| service.path(name);
    fs::create_dir_all(path("bin")).unwrap();
    fs::create_dir_all(path("target/release")).unwrap();
    fs::create_dir_all(path(".local")).unwrap();
    for link in ["bin/utxoiq-store", "target/release/utxoiq-store"] {
        std::os::unix::fs::symlink(BINARY, path(link)).unwrap();
    }
    let environment = format!(
        "export UTXOIQ_STORE_URL={} UTXOIQ_STORE_TOKEN={}\n",
        service.url(""),
        service.token()
    );
    fs::write(path(".local/env"), environment).unwrap();
    // It runs this very test: here it only knows what the real one knows.
    let dev = format!(
        "'{}' help | grep -q \"^  $1 \"",
        book::root().join("dev").display()
    );
    service.script("dev", &dev);
    // A worker's second of work is shorter.
    service.script("bin/sleep", "exec /bin/sleep 0.01");
    let folders = format!("{}:{}", text(&path("bin")), std::env::var("PATH").unwrap());
    let duckdb = archive::duckdb();
    if let Ok(program) = &duckdb {
        house.set("DUCKDB_BIN", text(program));
    }
    house.set("PATH", folders);
    Scene {
        house,
        has_duckdb: duckdb.is_ok(),
    }
}

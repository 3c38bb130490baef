//! Random requests, made from the OpenAPI document, to a served store: no answer is a fault, none is outside the document,
//! and none tells of the inside.
//!
//! The requests come from the program that `UTXOIQ_SCHEMATHESIS` names, which `./dev test` installs; what is asked of the answers
//! beyond the document is in `crates/server/tests/schemathesis/hooks.py`, with each exception and its reason.

use std::{env, fs, path::Path, process::Stdio, time::Duration};

use utxoiq_store_testkit::urls;

use crate::support::Service;

/// Where its settings are.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/tests/schemathesis");

/// How long the requests of one seed may take.
const PATIENCE: Duration = Duration::from_mins(30);

/// How many requests a run has to make at least: fewer would mean that it did not look.
const FEWEST: u64 = 4_000;

/// The number before some words of the program's report.
fn number_before(report: &str, words: &str) -> u64 {
    let end = report.find(words);
    let digits = end.map(|end| report[..end].trim_end());
    let digits = digits.and_then(|before| before.rsplit([' ', '\n']).next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn no_request_that_the_document_allows_or_does_not_gets_a_fault_or_an_undocumented_answer() {
    let Ok(program) = env::var("UTXOIQ_SCHEMATHESIS") else {
        println!("SKIPPED: UTXOIQ_SCHEMATHESIS does not name the program; ./dev test installs it");
        return;
    };
    let service = Service::start(&[]).await;
    // The same requests each time; others, and many more, in a long run.
    let wanted = urls::scale(FEWEST, 100_000);
    let (examples, seed) = if wanted == FEWEST {
        (25, 1)
    } else {
        (400, urls::seed())
    };
    let mut asked = 0;
    for round in 0.. {
        asked += ask(&program, &service, examples, seed.wrapping_add(round)).await;
        if asked >= wanted {
            break;
        }
    }
    println!("{asked} requests, none of them answered with a fault");
    let log = service.server().output();
    for word in ["panicked", " ERROR "] {
        let line = log.lines().find(|line| line.contains(word));
        assert_eq!(line, None, "the server's log has {word}");
    }
    assert!(!log.contains(service.token()), "the token is in the log");
}

/// Makes the requests of one seed; gives how many there were.
async fn ask(program: &str, service: &Service, examples: u64, seed: u64) -> u64 {
    let mut command = tokio::process::Command::new(program);
    command
        .current_dir(FOLDER)
        .env("HYPOTHESIS_STORAGE_DIRECTORY", service.path("hypothesis"))
        .env("UTXOIQ_STORE_TOKEN", service.token())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.args(["--config-file", "schemathesis.toml"]);
    command.args(["run", &service.url("/openapi.json"), "--no-color"]);
    command.args(["--seed", &seed.to_string()]);
    command.args(["--max-examples", &examples.to_string()]);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = ended.expect("it does not end").unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let file = Path::new(FOLDER).join("../../../../.local/log");
        let _ = fs::create_dir_all(&file);
        let _ = fs::write(file.join("schemathesis.log"), &report);
    }
    assert!(output.status.success(), "seed {seed}: {report}{told}");
    let asked = number_before(&report, " generated");
    assert!(asked >= FEWEST, "only {asked} requests: {report}");
    asked
}

//! The runbook of access: each of its commands is run on a real service, which is asked what became of the secrets.

use std::{fs, path::Path};

use crate::support::Service;

/// The runbook's commands, in order: arguments of the program, one block each.
fn commands() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations/access.md");
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    blocks
        .map(|block| {
            let command = block.split("\n```").next().unwrap();
            let words = command.strip_prefix("utxoiq-store ").unwrap();
            words.split_whitespace().map(str::to_owned).collect()
        })
        .collect()
}

async fn run(service: &Service, command: &[String]) -> String {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    service.ok(&words).await.trim().to_owned()
}

/// What the service answers to who comes with a token.
async fn answered(service: &Service, token: &str) -> u16 {
    let answer = service.get("/api/v1/whoami").bearer_auth(token).send();
    answer.await.unwrap().status().as_u16()
}

/// Waits until the service has noticed, which takes as long as it remembers a token.
async fn refused(service: &Service, token: &str) {
    for _ in 0..100 {
        if answered(service, token).await == 401 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the token still works");
}

/// The line of a list, when it says this.
async fn listed(service: &Service, list: &[String], words: &str) {
    let mut shown = String::new();
    for _ in 0..100 {
        shown = run(service, list).await;
        let line = shown.lines().find(|line| line.contains("  ingest  "));
        if line.is_some_and(|line| line.contains(words)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{words} is not in\n{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_runbook_does_what_it_says() {
    let service = Service::start(&[("LOG__LEVEL", "debug")]).await;
    let commands = commands();
    let [create, rotate, list, force, revoke] = commands.as_slice() else {
        panic!("the runbook has other commands: {commands:?}");
    };
    let first = run(&service, create).await;
    assert!(first.starts_with("uqs_") && !first.contains(char::is_whitespace));
    listed(&service, list, "  default  never  ").await;
    assert_eq!(answered(&service, &first).await, 200);
    listed(&service, list, "  default  20").await;

    let second = run(&service, rotate).await;
    listed(&service, list, "old secret works until 20").await;
    listed(&service, list, "last used never").await;
    for secret in [&second, &first] {
        assert_eq!(answered(&service, secret).await, 200);
    }
    // Who came with it just before is remembered for a moment, and its use is noted after that.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(answered(&service, &first).await, 200);
    listed(&service, list, "last used 20").await;
    let words: Vec<&str> = rotate.iter().map(String::as_str).collect();
    let admin = [("DATABASE_ADMIN_URL", service.cluster.admin_url("postgres"))];
    let admin = admin.each_ref().map(|(name, url)| (*name, url.as_str()));
    let (code, said) = service.run_with(&admin, &words).await;
    assert!(
        code != 0 && said.contains("still works until"),
        "{code}: {said}"
    );

    let third = run(&service, force).await;
    refused(&service, &first).await;
    refused(&service, &second).await;
    assert_eq!(answered(&service, &third).await, 200);
    run(&service, revoke).await;
    refused(&service, &third).await;
    let log = service.server().output();
    for secret in [&first, &second, &third] {
        // The id is no secret; what follows it is.
        let secret = &secret[secret.len() - 43..];
        assert!(!log.contains(secret), "the log has a secret");
    }
}

//! Child processes: what they say, how they end, and that none stays.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use utxoiq_store_testkit::{Proc, RedisServer};

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Proc {
    Proc::spawn("/bin/sh", ["-c", script], [("GREETING", "good morning")])
}

async fn gone(pid: &str) -> bool {
    for _ in 0..400 {
        let stat =
            std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn both_streams_are_captured_and_the_status_told() {
    let process = shell("echo \"$GREETING\"; echo trouble >&2; exit 3");
    let status = process.wait(SOON).await.unwrap();
    assert_eq!(status.code(), Some(3));
    let mut lines: Vec<String> = process.output().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["good morning", "trouble"]);
    assert_eq!(process.lines_seen(), 2);
    assert_eq!(process.status().unwrap().code(), Some(3));
}

#[tokio::test]
async fn a_line_is_waited_for_and_a_missing_one_is_told_with_the_output() {
    let process = shell("echo one; sleep 0.1; echo two; sleep 0.1; echo one");
    assert_eq!(
        process
            .wait_for_line(|line| line == "two", SOON)
            .await
            .unwrap(),
        "two"
    );
    let seen = process.lines_seen();
    assert_eq!(
        process
            .wait_for_line_after(seen, |line| line == "one", SOON)
            .await
            .unwrap(),
        "one"
    );
    let why = process
        .wait_for_line(|line| line == "three", SOON)
        .await
        .unwrap_err();
    assert!(
        why.contains("ended without") && why.contains("two"),
        "{why}"
    );
}

#[tokio::test]
async fn signals_arrive_where_they_should() {
    let script = "trap 'echo interrupted' INT; trap 'echo terminated; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let process = shell(script);
    process
        .wait_for_line(|line| line == "ready", SOON)
        .await
        .unwrap();
    process.interrupt();
    process
        .wait_for_line(|line| line == "interrupted", SOON)
        .await
        .unwrap();
    process.stop();
    process.terminate();
    assert!(
        process.wait(Duration::from_millis(200)).await.is_none(),
        "frozen"
    );
    process.cont();
    assert_eq!(process.wait(SOON).await.unwrap().code(), Some(7));
}

#[tokio::test]
async fn a_kill_takes_the_grandchildren_along_and_a_kill_of_one_does_not() {
    let script = "sleep 300 & echo $!; wait";
    let process = shell(script);
    let grandchild = process
        .wait_for_line(|line| !line.is_empty(), SOON)
        .await
        .unwrap();
    process.kill9_alone();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&process.wait(SOON).await.unwrap()),
        Some(9)
    );
    assert!(Path::new("/proc").join(&grandchild).exists());
    drop(process);
    assert!(
        gone(&grandchild).await,
        "dropping kills the whole group, also when its leader has ended"
    );
}

/// Runs this test binary again with only the next test, which leaves a process and a server behind and is killed.
#[tokio::test]
async fn what_a_killed_test_process_had_started_ends_too() {
    let mut inner = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "process::starts_and_waits_to_be_killed",
            "--ignored",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pids = Vec::new();
    for line in BufReader::new(inner.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.strip_prefix("pid ") {
            Some(pid) => pids.push(pid.to_owned()),
            None if line == "ready" => break,
            None => {}
        }
    }
    assert!(!pids.is_empty());
    inner.kill().unwrap();
    inner.wait().unwrap();
    for pid in pids {
        assert!(gone(&pid).await, "process {pid} lives on");
    }
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn starts_and_waits_to_be_killed() {
    let process = shell("sleep 300 & echo $!; wait");
    let grandchild = process
        .wait_for_line(|line| !line.is_empty(), SOON)
        .await
        .unwrap();
    // The harness leaves its own line open: start a new one.
    println!("\npid {}\npid {grandchild}", process.pid());
    if RedisServer::is_available() {
        let server = RedisServer::start().await;
        println!("ready");
        tokio::time::sleep(SOON * 6).await;
        drop(server);
    } else {
        println!("ready");
        tokio::time::sleep(SOON * 6).await;
    }
}

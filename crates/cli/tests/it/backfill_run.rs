//! `backfill run` and the commands around it.

use std::{fs, time::Duration};

use crate::support::{Service, text, until};

fn lines(path: &std::path::Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

const RUN: [&str; 8] = [
    "backfill", "run", "--type", "blocks", "--from", "0", "--to", "999",
];

fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
    RUN.into_iter().chain(more.iter().copied()).collect()
}

#[tokio::test]
async fn a_job_is_run_shown_and_not_run_again_unless_asked() {
    let service = Service::start(&[]).await;
    let journal = service.path("journal");
    let script = service.script(
        "fetch.sh",
        &format!("echo \"$1-$2\" >> '{}'", journal.display()),
    );
    let args = run(&["--parallel", "3", "--", text(&script), "{start}", "{end}"]);
    let (code, output) = service.run(&args).await;
    assert_eq!(code, 0, "{output}");
    assert_eq!(lines(&journal).len(), 10);
    let (code, output) = service.run(&args).await;
    assert_eq!((code, lines(&journal).len()), (0, 10), "{output}");
    assert!(output.contains("completed already"), "{output}");
    let mut again = args.clone();
    again.insert(8, "--again");
    assert_eq!(service.run(&again).await.0, 0);
    assert_eq!(lines(&journal).len(), 20);

    let jobs = service.json(&["backfill", "list", "--json"]).await;
    assert_eq!(jobs.as_array().unwrap().len(), 2);
    assert_eq!(jobs[0]["status"], "completed");
    let id = jobs[0]["id"].as_str().unwrap();
    let shown = service.ok(&["backfill", "show", id]).await;
    assert!(
        shown.contains("completed") && shown.contains("nothing is missing"),
        "{shown}"
    );
    let (code, output) = service.run(&["backfill", "watch", id]).await;
    assert!(code == 0 && output.contains("completed"), "{output}");
}

#[tokio::test]
async fn a_chunk_that_always_fails_fails_the_job_with_its_error_and_resuming_does_only_it() {
    let service = Service::start(&[]).await;
    let (journal, broken) = (service.path("journal"), service.path("broken"));
    fs::write(&broken, "").unwrap();
    let script = service.script(
        "fetch.sh",
        &format!(
            "if [ $1 = 300 ] && [ -e '{}' ]; then echo 'no such block' >&2; exit 3; fi; echo \"$1\" >> '{}'",
            broken.display(),
            journal.display()
        ),
    );
    let args = run(&[
        "--tries",
        "2",
        "--retry-after",
        "0.01",
        "--",
        text(&script),
        "{start}",
        "{end}",
    ]);
    let (code, output) = service.run(&args).await;
    assert!(code == 1 && output.contains("300-399"), "{output}");
    assert_eq!(lines(&journal).len(), 9);
    let jobs = service.json(&["backfill", "list", "--json"]).await;
    assert_eq!(jobs[0]["status"], "failed");
    let id = jobs[0]["id"].as_str().unwrap();
    let shown = service.ok(&["backfill", "show", id]).await;
    assert!(shown.contains("exit status: 3: no such block"), "{shown}");
    assert!(
        shown.contains("missing: 100 blocks in 1 ranges") && shown.contains("300-399"),
        "{shown}"
    );
    fs::remove_file(&broken).unwrap();
    assert_eq!(service.run(&args).await.0, 0);
    assert_eq!(lines(&journal).len(), 10);
    let details = service.json(&["backfill", "show", id, "--json"]).await;
    assert_eq!(
        (&details["job"]["state"], &details["job"]["attempt"]),
        (&"completed".into(), &2.into())
    );
}

#[tokio::test]
async fn ctrl_c_finishes_what_is_under_way_and_gives_the_rest_back() {
    let service = Service::start(&[]).await;
    let (journal, done) = (service.path("journal"), service.path("done"));
    let script = service.script(
        "fetch.sh",
        &format!(
            "echo $1 >> '{}'; sleep 1; echo $1 >> '{}'",
            journal.display(),
            done.display()
        ),
    );
    let worker = service.spawn(&run(&[
        "--parallel",
        "2",
        "--",
        text(&script),
        "{start}",
        "{end}",
    ]));
    until("work has begun", async || lines(&journal).len() == 2).await;
    worker.interrupt();
    let status = worker
        .wait(Duration::from_secs(20))
        .await
        .expect("it stops");
    assert_eq!(status.code(), Some(130), "{}", worker.output());
    assert_eq!((lines(&journal).len(), lines(&done).len()), (2, 2));
    let jobs = service.json(&["backfill", "list", "--json"]).await;
    assert_eq!(jobs[0]["progress_percentage"], 20.0);
    let id = jobs[0]["id"].as_str().unwrap();
    let gaps = service.json(&["backfill", "gaps", id, "--json"]).await;
    assert_eq!(gaps["missing"].as_array().unwrap().len(), 1);
    assert_eq!(gaps["missing"][0]["claimed_by"], serde_json::Value::Null);
}

#[tokio::test]
async fn pause_resume_and_cancel_steer_a_worker() {
    let service = Service::start(&[("BACKFILL__LEASE_SECONDS", "3")]).await;
    let journal = service.path("journal");
    let script = service.script(
        "fetch.sh",
        &format!("echo $1 >> '{}'; sleep 0.2", journal.display()),
    );
    let worker = service.spawn(&run(&[
        "--chunk",
        "10",
        "--",
        text(&script),
        "{start}",
        "{end}",
    ]));
    until("work has begun", async || lines(&journal).len() > 2).await;
    let jobs = service.json(&["backfill", "list", "--json"]).await;
    let id = jobs[0]["id"].as_str().unwrap();
    assert!(
        service
            .ok(&["backfill", "pause", id])
            .await
            .contains("paused")
    );
    worker
        .wait_for_line(|line| line.contains("is paused"), Duration::from_secs(20))
        .await
        .unwrap();
    let before = lines(&journal).len();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(lines(&journal).len(), before);
    assert!(
        service
            .ok(&["backfill", "resume", id])
            .await
            .contains("missing")
    );
    until("work goes on", async || lines(&journal).len() > before + 2).await;
    assert!(
        service
            .ok(&["backfill", "cancel", id])
            .await
            .contains("cancelled")
    );
    let status = worker.wait(Duration::from_secs(20)).await.expect("it ends");
    assert_eq!(status.code(), Some(1));
    let (code, output) = service.run(&run(&["--", text(&script), "{start}"])).await;
    assert!(
        code == 1 && output.contains("cancelled already") && output.contains("--again"),
        "{output}"
    );
}

/// Two workers as processes, the first frozen past its lease: the second does its part, and the first lands nothing.
#[tokio::test]
async fn a_frozen_worker_that_thaws_after_its_lease_records_nothing_of_what_others_took() {
    let service = Service::start(&[("BACKFILL__LEASE_SECONDS", "3")]).await;
    let script = service.script("fetch.sh", "sleep 0.05");
    let args = run(&[
        "--chunk",
        "10",
        "--parallel",
        "2",
        "--",
        text(&script),
        "{start}",
        "{end}",
    ]);
    let frozen = service.spawn(&args);
    frozen
        .wait_for_line(|line| line.contains("worker"), Duration::from_secs(20))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    frozen.stop();
    let (code, output) = service.run(&args).await;
    assert_eq!(code, 0, "{output}");
    let before = service.json(&["backfill", "list", "--json"]).await;
    frozen.cont();
    let status = frozen.wait(Duration::from_secs(30)).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", frozen.output());
    assert_eq!(service.json(&["backfill", "list", "--json"]).await, before);
    assert_eq!(before[0]["status"], "completed");
}

#[tokio::test]
async fn a_reorganised_chain_rewinds_the_job_before_it_goes_on() {
    let service = Service::start(&[]).await;
    let (journal, chain) = (service.path("journal"), service.path("chain"));
    fs::write(&chain, "old").unwrap();
    let stop = service.path("stop");
    fs::write(&stop, "").unwrap();
    let fetch = service.script(
        "fetch.sh",
        &format!(
            "if [ $1 -ge 500 ] && [ -e '{}' ]; then exit 1; fi; echo \"$1 $(cat '{}')\" >> '{}'",
            stop.display(),
            chain.display(),
            journal.display()
        ),
    );
    // Blocks up to 299 are the same on both chains.
    let hash = service.script(
        "hash.sh",
        &format!(
            "if [ $1 -le 299 ]; then echo same-$1; else echo \"$(cat '{}')-$1\"; fi",
            chain.display()
        ),
    );
    let hash = format!("{} {{block}}", text(&hash));
    let args = run(&[
        "--tries",
        "1",
        "--checkpoint-command",
        &hash,
        "--",
        text(&fetch),
        "{start}",
        "{end}",
    ]);
    assert_eq!(service.run(&args).await.0, 1);
    assert_eq!(lines(&journal).len(), 5);
    fs::write(&chain, "new").unwrap();
    fs::remove_file(&stop).unwrap();
    let (code, output) = service.run(&args).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("goes on from block 300"), "{output}");
    let again: Vec<String> = lines(&journal).split_off(5);
    let expected: Vec<String> = (3..10)
        .map(|chunk| format!("{} new", chunk * 100))
        .collect();
    assert_eq!(again, expected);
}

#[tokio::test]
async fn rubbish_is_refused_with_a_reason() {
    let service = Service::start(&[]).await;
    for (args, code, reason) in [
        (run(&["--", "true"]), 1, "names neither {start} nor {end}"),
        (
            run(&["--chunk", "0", "--", "echo", "{start}"]),
            2,
            "0 is not in 1..",
        ),
        (
            run(&["--retry-after=-1", "--", "echo", "{start}"]),
            1,
            "--retry-after",
        ),
        (
            run(&["--checkpoint-command", "true", "--", "echo", "{start}"]),
            1,
            "{block}",
        ),
        (
            vec![
                "backfill", "start", "--type", "x", "--from", "9", "--to", "3",
            ],
            1,
            "end_block",
        ),
        (
            vec![
                "backfill", "start", "--type", "", "--from", "1", "--to", "3",
            ],
            1,
            "job_type",
        ),
        (
            vec!["backfill", "start", "--type", "x", "--from=-1", "--to", "3"],
            1,
            "start_block",
        ),
        (vec!["backfill", "show", "nope"], 2, "invalid value 'nope'"),
        (
            vec!["backfill", "show", "00000000-0000-0000-0000-000000000000"],
            1,
            "not found",
        ),
        (vec!["backfill", "watch"], 1, "there are no jobs"),
        (
            vec!["backfill", "list", "--limit", "0"],
            2,
            "0 is not in 1..=100",
        ),
        (
            vec!["backfill", "list", "--url", "http://127.0.0.1:1"],
            1,
            "is the service running?",
        ),
    ] {
        let (got, output) = service.run(&args).await;
        assert!(
            got == code && output.contains(reason),
            "{args:?}: {got} {output}"
        );
    }
}

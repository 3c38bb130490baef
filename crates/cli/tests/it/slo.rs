//! `utxoiq-store slo`, and a process that measures itself.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Service;

/// What `slo --json` says, and its exit code.
async fn report(service: &Service, arguments: &[&str]) -> (i32, Value) {
    let mut all = vec!["slo", "--json"];
    all.extend(arguments);
    let line = format!("$0 {}", all.join(" "));
    let (code, printed, _) = service.shell(&line).await;
    let report = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}"));
    (code, report)
}

fn state<'a>(report: &'a Value, id: &str) -> &'a str {
    let criteria = report["criteria"].as_array().unwrap();
    let one = criteria.iter().find(|one| one["id"] == id).unwrap();
    one["state"].as_str().unwrap()
}

#[tokio::test]
async fn a_command_shows_what_a_serving_process_measured_and_fails_when_something_is_missed() {
    let service = Service::start(&[("SLO__FLUSH_SECONDS", "1")]).await;
    // What the schedule does at the next full hour.
    let (made, said) = service
        .run(&["schedule", "run", "make_metric_partitions"])
        .await;
    assert_eq!(made, 0, "{said}");
    let began = Instant::now();
    let sound = loop {
        let (code, report) = report(&service, &[]).await;
        if state(&report, "C6.1") == "met" && state(&report, "C3.2") == "met" {
            assert_eq!(code, i32::from(report["counts"]["missed"] != 0), "{report}");
            break report;
        }
        assert!(began.elapsed() < Duration::from_secs(90), "{report}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert_eq!(sound["criteria"].as_array().unwrap().len(), 40);
    assert_eq!(sound["counts"]["missed"], 0, "{sound}");
    // A criterion turns red within a minute of the evidence, for a command, and over HTTP.
    let admin = service.admin().await;
    admin
        .batch_execute("create table elsewhere partition of system_metrics default")
        .await
        .unwrap();
    let (code, broken) = report(&service, &["C3.2", "C6.1"]).await;
    assert_eq!((code, state(&broken, "C3.2")), (1, "missed"));
    assert_eq!(broken["criteria"].as_array().unwrap().len(), 2);
    let (_, table) = service.run(&["slo", "C3.2"]).await;
    assert!(
        table.contains("✘ missed") && table.contains("default partition"),
        "{table}"
    );
    let noted = "select state from slo_states where criterion = 'C3.2'";
    let began = Instant::now();
    while admin.query_one(noted, &[]).await.unwrap().get::<_, &str>(0) != "missed" {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "nobody has noted it"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn what_can_be_tried_without_a_scratch_database_is_tried_by_hand() {
    let service = Service::start(&[]).await;
    let line = "$0 slo --probe C6.4 C1.1";
    let (code, printed, noted) = service.shell(line).await;
    assert!(
        noted.contains("C6.4") && noted.contains("retried 3 times"),
        "{noted}"
    );
    assert!(
        printed.contains("✔ met") && printed.contains("? unknown"),
        "{printed}"
    );
    assert_eq!(code, 0);
    let (wrong, _) = service.run(&["slo", "C9.1"]).await;
    assert_eq!(wrong, 2);
}

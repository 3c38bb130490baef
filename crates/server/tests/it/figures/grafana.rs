//! deploy/grafana/utxoiq-store.json.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    expression::{Expression, judged_by_promtool, routes},
    file, scraped,
};

const DASHBOARD: &str = "deploy/grafana/utxoiq-store.json";

/// What a slice's row is called, begins so.
const ROWS: [&str; 10] = [
    "Overview",
    "Requests",
    "Backfill",
    "Feedback",
    "Metrics",
    "Cache",
    "Connections",
    "Retention",
    "Backups",
    "Schedule",
];

#[tokio::test]
async fn every_panel_asks_for_what_is_exported() {
    let (exported, routes) = (scraped().await, routes());
    let dashboard: Value = serde_json::from_str(&file(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let title = |panel: &Value| panel["title"].as_str().unwrap().to_owned();
    let mut wrong = Vec::new();
    let mut rules = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{} asks for nothing", title(panel));
        for target in targets {
            let text = target["expr"].as_str().unwrap();
            let expression = Expression::parse(text);
            let unknown = expression.unknown(&exported, &routes);
            wrong.extend(
                unknown
                    .into_iter()
                    .map(|what| format!("{}: {what}", title(panel))),
            );
            // What Grafana puts in.
            let text = text
                .replace("$__rate_interval", "5m")
                .replace("$instance", ".*");
            rules.push(json!({ "record": format!("asked:{}", rules.len()), "expr": text }));
            // A legend names labels that are there.
            let legend = target["legendFormat"].as_str().unwrap();
            for part in legend.split("{{").skip(1) {
                let label = part.split_once("}}").unwrap().0;
                let is_known = label == "instance"
                    || exported
                        .0
                        .values()
                        .any(|family| family.labels.contains(label));
                assert!(is_known, "{}: {legend}", title(panel));
            }
        }
    }
    assert!(wrong.is_empty(), "{DASHBOARD}:\n{}", wrong.join("\n"));
    let rows: Vec<String> = panels
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(title)
        .collect();
    for name in ROWS {
        assert!(
            rows.iter().any(|row| row.starts_with(name)),
            "no row {name}"
        );
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "an id is there twice");
    // JSON is YAML.
    let groups = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    judged_by_promtool(&groups.to_string());
}

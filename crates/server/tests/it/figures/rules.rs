//! deploy/prometheus/rules.yml.

use std::{collections::BTreeMap, collections::BTreeSet};

use serde_json::Value;

use super::{
    expression::{Expression, judged_by_promtool, routes},
    file, scraped,
};

const RULES: &str = "deploy/prometheus/rules.yml";

fn alerts() -> Vec<Value> {
    let all: Value = serde_saphyr::from_str(&file(RULES)).unwrap();
    let groups = all["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

/// The anchors of a page, as they are made of its headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[tokio::test]
async fn every_alert_asks_for_what_is_exported_and_names_a_runbook_that_exists() {
    let (exported, routes) = (scraped().await, routes());
    let mut wrong = Vec::new();
    let mut pages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let alerts = alerts();
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        let expression = Expression::parse(alert["expr"].as_str().unwrap());
        assert!(!expression.selectors.is_empty(), "{name} is about nothing");
        wrong.extend(
            expression
                .unknown(&exported, &routes)
                .into_iter()
                .map(|what| format!("{name}: {what}")),
        );
        let severity = alert["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("warning" | "critical")), "{name}");
        for told in ["summary", "description"] {
            assert!(
                alert["annotations"][told].is_string(),
                "{name} has no {told}"
            );
        }
        let runbook = alert["annotations"]["runbook"].as_str().unwrap();
        let (page, anchor) = runbook.split_once('#').unwrap();
        let known = pages
            .entry(page.to_owned())
            .or_insert_with(|| anchors(&file(page)));
        if !known.contains(anchor) {
            wrong.push(format!("{name}: {page} has no heading {anchor}"));
        }
    }
    assert!(wrong.is_empty(), "{RULES}:\n{}", wrong.join("\n"));
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert["alert"].as_str()).collect();
    assert_eq!(names.len(), alerts.len(), "a name is there twice");
    judged_by_promtool(&file(RULES));
}

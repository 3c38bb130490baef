//! PromQL, as far as needed to know what an expression is about: the samples it selects, by which labels, and which labels it
//! groups by. What an expression computes is left to `promtool`, where this machine has it.

use std::{collections::BTreeSet, env, fs, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use super::{exposition::Exposition, file};

/// Labels that Prometheus gives to all that it scrapes.
const OF_THE_SCRAPE: [&str; 2] = ["instance", "job"];

/// Names that Prometheus makes itself.
const OF_PROMETHEUS: [&str; 1] = ["up"];

/// Words of the language before parentheses with labels.
const GROUPING: [&str; 4] = ["by", "without", "on", "ignoring"];

/// Selected samples.
#[derive(Debug, PartialEq, Eq)]
pub struct Selector {
    name: String,
    /// Label, operator and value.
    matchers: Vec<(String, String, String)>,
}

/// What an expression is about.
#[derive(Debug, Default)]
pub struct Expression {
    pub selectors: Vec<Selector>,
    pub groups: BTreeSet<String>,
}

impl Expression {
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric() || "_\"".contains(c))
        {
            rest = &rest[start..];
            if let Some(quoted) = rest.strip_prefix('"') {
                rest = &quoted[quoted.find('"').unwrap() + 1..];
                continue;
            }
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            let after = after.trim_start();
            if GROUPING.contains(&word) {
                let (labels, after) = after.strip_prefix('(').unwrap().split_once(')').unwrap();
                found
                    .groups
                    .extend(labels.split(',').map(|label| label.trim().to_owned()));
                rest = after;
            } else if word.starts_with("utxoiq_store_") || OF_PROMETHEUS.contains(&word) {
                let matchers = after
                    .strip_prefix('{')
                    .map(|inside| inside.split_once('}').unwrap());
                if let Some((_, after)) = matchers {
                    rest = after;
                }
                found.selectors.push(Selector {
                    name: word.to_owned(),
                    matchers: matchers.map_or_else(Vec::new, |(inside, _)| matchers_of(inside)),
                });
            }
        }
        found
    }

    /// What a service does not export of it.
    pub fn unknown(&self, exported: &Exposition, routes: &BTreeSet<String>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut labels: BTreeSet<&str> = OF_THE_SCRAPE.into();
        for selector in &self.selectors {
            if OF_PROMETHEUS.contains(&selector.name.as_str()) {
                continue;
            }
            let Some(family) = exported.of_sample(&selector.name) else {
                wrong.push(format!("{} is not exported", selector.name));
                continue;
            };
            labels.extend(family.values.keys().map(String::as_str));
            for (label, operator, value) in &selector.matchers {
                if OF_THE_SCRAPE.contains(&label.as_str()) {
                    continue;
                }
                let Some(values) = family.values.get(label) else {
                    wrong.push(format!("{} has no label {label}", selector.name));
                    continue;
                };
                // Of routes only those are exported that were asked for.
                let values = if label == "route" { routes } else { values };
                let is_there = match operator.as_str() {
                    "=" => values.contains(value),
                    "=~" => {
                        let beginning = value.trim_end_matches(".*");
                        values.iter().any(|known| known.starts_with(beginning))
                    }
                    other => panic!("{other} is not read here"),
                };
                if !is_there {
                    wrong.push(format!("{} has no {label} {value}", selector.name));
                }
            }
        }
        let unknown = self
            .groups
            .iter()
            .filter(|label| !labels.contains(label.as_str()));
        wrong
            .extend(unknown.map(|label| format!("nothing here has the label {label} to group by")));
        wrong
    }
}

fn matchers_of(inside: &str) -> Vec<(String, String, String)> {
    let pairs = inside.split("\",").filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| {
            let (label, value) = pair.split_once('"').unwrap();
            let operator =
                label.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == ' ');
            let label = label[..label.len() - operator.len()].trim();
            (
                label.to_owned(),
                operator.to_owned(),
                value.trim_end_matches('"').to_owned(),
            )
        })
        .collect()
}

/// The paths of all calls.
pub fn routes() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(&file("openapi.json")).unwrap();
    document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

#[allow(
    clippy::print_stdout,
    reason = "what was not judged belongs into the output"
)]
/// Lets `promtool` judge rules, where this machine has it (Debian's package `prometheus`, or `UTXOIQ_PROMTOOL`).
pub fn judged_by_promtool(rules: &str) {
    let program = env::var("UTXOIQ_PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rules.yml");
    fs::write(&path, rules).unwrap();
    match Command::new(program)
        .args(["check", "rules"])
        .arg(&path)
        .output()
    {
        Ok(output) => {
            let said =
                String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
        }
        Err(_) => println!(
            "SKIPPED: this machine has no promtool; what the expressions select was compared, what they compute was not"
        ),
    }
}

#[test]
fn an_expression_is_read_as_far_as_it_names_things() {
    let read = Expression::parse(
        r#"sum by (le, kind) (rate(utxoiq_store_a_bucket{kind="x", le=~"0.*"}[5m])) / ignoring(job) up > 1e3 # "utxoiq_store_no""#,
    );
    let matcher = |label: &str, operator: &str, value: &str| {
        (label.to_owned(), operator.to_owned(), value.to_owned())
    };
    assert_eq!(
        read.selectors,
        [
            Selector {
                name: "utxoiq_store_a_bucket".into(),
                matchers: vec![matcher("kind", "=", "x"), matcher("le", "=~", "0.*")]
            },
            Selector {
                name: "up".into(),
                matchers: vec![]
            },
        ]
    );
    assert_eq!(
        read.groups.into_iter().collect::<Vec<_>>(),
        ["job", "kind", "le"]
    );
}

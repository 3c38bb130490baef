//! docs/operations/prometheus.md.

use std::collections::BTreeMap;

use super::{exposition::Family, file, scraped};

const DOCUMENT: &str = "docs/operations/prometheus.md";

/// The rows of the tables whose first column is a family: its type, unit, labels, meaning and what to do.
fn documented() -> BTreeMap<String, Vec<String>> {
    let text = file(DOCUMENT);
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| `utxoiq_store_"));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        let mut cells: Vec<String> = cells.map(|cell| cell.trim().to_owned()).collect();
        let name = cells.remove(0).trim_matches('`').to_owned();
        assert_eq!(cells.len(), 5, "{row}");
        (name, cells)
    })
    .collect()
}

/// The cells that follow from what is exported.
fn cells_of(family: &Family) -> [String; 3] {
    let labels: Vec<String> = family
        .labels
        .iter()
        .map(|label| format!("`{label}`"))
        .collect();
    [family.kind.clone(), family.unit.clone(), labels.join(", ")]
}

#[tokio::test]
async fn every_figure_that_is_exported_is_documented_and_no_other() {
    let exported = scraped().await;
    let mut documented = documented();
    let mut wrong = Vec::new();
    for (name, family) in &exported.0 {
        let is = cells_of(family);
        match documented.remove(name) {
            None => wrong.push(format!(
                "| `{name}` | {} | {} | | |",
                is.join(" | "),
                family.help
            )),
            Some(cells) if cells[..3] != is => {
                wrong.push(format!("{name}: {is:?}, not {:?}", &cells[..3]));
            }
            Some(cells) if cells[3..].iter().any(String::is_empty) => {
                wrong.push(format!(
                    "{name}: neither meaning nor what to do may be empty"
                ));
            }
            Some(_) => {}
        }
    }
    wrong.extend(
        documented
            .into_keys()
            .map(|name| format!("{name} is documented and not exported")),
    );
    assert!(wrong.is_empty(), "{DOCUMENT}:\n{}", wrong.join("\n"));
}

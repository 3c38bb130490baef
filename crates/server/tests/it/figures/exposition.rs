//! OpenMetrics text, as far as these tests ask about it.

use std::collections::{BTreeMap, BTreeSet};

/// A family of figures.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Family {
    pub kind: String,
    pub unit: String,
    pub help: String,
    /// The names of its labels; `le` of a histogram is not among them.
    pub labels: BTreeSet<String>,
    /// The names of its samples, as expressions use them.
    pub samples: BTreeSet<String>,
    /// What each label was.
    pub values: BTreeMap<String, BTreeSet<String>>,
}

/// All that a scrape gave.
pub struct Exposition(pub BTreeMap<String, Family>);

impl Exposition {
    pub fn parse(text: &str) -> Self {
        let mut all: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            let Some(told) = line.strip_prefix("# ") else {
                sample(all.get_mut(&current).unwrap(), line);
                continue;
            };
            let mut words = told.splitn(3, ' ');
            let (what, name, rest) = (words.next(), words.next(), words.next());
            let (Some(name), Some(rest)) = (name, rest) else {
                assert_eq!(told, "EOF");
                continue;
            };
            name.clone_into(&mut current);
            let family = all.entry(name.to_owned()).or_default();
            match what {
                Some("TYPE") => rest.clone_into(&mut family.kind),
                Some("UNIT") => rest.clone_into(&mut family.unit),
                Some("HELP") => rest.clone_into(&mut family.help),
                other => panic!("{other:?} in {line}"),
            }
        }
        Self(all)
    }

    /// The family of a sample's name, as expressions use it.
    pub fn of_sample(&self, sample: &str) -> Option<&Family> {
        self.0
            .values()
            .find(|family| family.samples.contains(sample))
    }
}

fn sample(family: &mut Family, line: &str) {
    let (name, rest) = match line.split_once('{') {
        Some((name, rest)) => (name, rest.rsplit_once('}').unwrap().0),
        None => (line.split_once(' ').unwrap().0, ""),
    };
    family.samples.insert(name.to_owned());
    // No value of ours has a comma or a quote in it.
    for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once('=').unwrap();
        if label != "le" {
            family.labels.insert(label.to_owned());
        }
        let value = value.trim_matches('"').to_owned();
        family
            .values
            .entry(label.to_owned())
            .or_default()
            .insert(value);
    }
}

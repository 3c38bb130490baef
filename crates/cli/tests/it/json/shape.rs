//! Fields and types of answers, as lines that can be compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

/// Members whose names are data, or another's contract.
const OPAQUE: [&str; 9] = [
    "outcome",
    "details",
    "labels",
    "flag_types",
    "flags",
    "results",
    "paths",
    "components",
    "dimensions",
];

/// A member that has one value by each of names that are data: those of tables, of which some have a day in them.
const BY_NAME: &str = "tables";

/// The types that each field of each command's answer was seen with.
#[derive(Default)]
pub struct Shapes(BTreeMap<String, BTreeSet<&'static str>>);

impl Shapes {
    pub fn add(&mut self, command: &str, answer: &Value) {
        self.note(command, answer, false);
    }

    fn note(&mut self, path: &str, value: &Value, is_opaque: bool) {
        self.0
            .entry(path.to_owned())
            .or_default()
            .insert(type_of(value));
        match value {
            Value::Object(members) if !is_opaque => {
                let is_by_name = path.rsplit(['.', ' ']).next() == Some(BY_NAME);
                for (name, value) in members {
                    let name = if is_by_name { "{}" } else { name };
                    let separator = if path.contains(": ") { "." } else { ": " };
                    self.note(
                        &format!("{path}{separator}{name}"),
                        value,
                        OPAQUE.contains(&name),
                    );
                }
            }
            Value::Array(elements) => {
                let separator = if path.contains(": ") { "" } else { ": " };
                for element in elements {
                    self.note(&format!("{path}{separator}[]"), element, is_opaque);
                }
            }
            _ => {}
        }
    }

    fn lines(&self) -> Vec<String> {
        let lines = self.0.iter().map(|(path, types)| {
            let types: Vec<&str> = types.iter().copied().collect();
            format!("{path} = {}", types.join(" | "))
        });
        lines.collect()
    }

    /// Compares with a file: fields are the same, and of the types that the file has.
    pub fn compare(&self, file: &Path) {
        if std::env::var_os("UTXOIQ_UPDATE_SHAPES").is_some() {
            fs::write(file, self.lines().join("\n") + "\n").unwrap();
            return;
        }
        let text = fs::read_to_string(file).unwrap_or_default();
        let known: BTreeMap<&str, BTreeSet<&str>> = text
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(path, types)| (path, types.split(" | ").collect()))
            .collect();
        let mut told = Vec::new();
        for (path, types) in &self.0 {
            match known.get(path.as_str()) {
                None => told.push(format!("new: {path} = {types:?}")),
                Some(known) if !types.iter().all(|name| known.contains(name)) => {
                    told.push(format!("another type: {path} = {types:?}, was {known:?}"));
                }
                Some(_) => {}
            }
        }
        let gone = known.keys().filter(|path| !self.0.contains_key(**path));
        told.extend(gone.map(|path| format!("gone: {path}")));
        assert!(
            told.is_empty(),
            "answers in JSON are not what {} says (UTXOIQ_UPDATE_SHAPES=1 writes it anew):\n{}",
            file.display(),
            told.join("\n")
        );
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

//! What became of a file's samples.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utxoiq_store_server::api::metrics::wire::MetricsImported;

use super::pieces::{MAX_ROW, Piece};
use crate::{
    metrics::figures::count,
    output::plain,
    table::{Side, table},
};

/// A row that is passed over here.
const TOO_LONG: &str = "too_long";

/// A line of one of the files, by its place among them.
type Spot = (usize, u64);

/// How many samples became what, in all files.
#[derive(Debug, Default)]
pub struct Tally {
    pub lines: u64,
    pub stored: u64,
    duplicates: u64,
    conflicts: u64,
    first_conflict: Option<Spot>,
    rejected: BTreeMap<String, Rejected>,
}

#[derive(Debug)]
struct Rejected {
    count: u64,
    first: Spot,
    message: String,
}

impl Tally {
    /// Adds what the service said of a piece of a file.
    pub fn add(&mut self, file: usize, piece: &Piece, answer: &MetricsImported) {
        self.lines += answer.lines;
        self.stored += answer.stored;
        self.duplicates += answer.duplicates;
        self.conflicts += answer.conflicts;
        if let Some(line) = answer.first_conflict {
            let spot = (file, piece.line(line));
            self.first_conflict = Some(self.first_conflict.map_or(spot, |first| first.min(spot)));
        }
        for rejected in &answer.rejected {
            let spot = (file, piece.line(rejected.first_line));
            self.reject(&rejected.reason, rejected.count, spot, &rejected.message);
        }
    }

    /// Adds the rows that were passed over.
    pub fn add_too_long(&mut self, file: usize, lines: &[u64]) {
        for line in lines {
            self.lines += 1;
            let message =
                format!("begins a row of more than {MAX_ROW} bytes: is a quote not closed?");
            self.reject(TOO_LONG, 1, (file, *line), &message);
        }
    }

    /// Adds a row that the service finds too large alone.
    pub fn add_too_large(&mut self, file: usize, piece: &Piece, message: &str) {
        self.lines += 1;
        self.reject(TOO_LONG, 1, (file, piece.first_line), message);
    }

    fn reject(&mut self, reason: &str, count: u64, first: Spot, message: &str) {
        let rejected = self
            .rejected
            .entry(reason.to_owned())
            .or_insert_with(|| Rejected {
                count: 0,
                first,
                message: message.to_owned(),
            });
        rejected.count += count;
        if first < rejected.first {
            rejected.first = first;
            message.clone_into(&mut rejected.message);
        }
    }

    /// Whether all is stored, now or before.
    pub fn is_clean(&self) -> bool {
        self.conflicts == 0 && self.rejected.is_empty()
    }

    fn rejected_total(&self) -> u64 {
        self.rejected.values().map(|rejected| rejected.count).sum()
    }

    /// For people.
    pub fn text(&self, files: &[String]) -> String {
        let spot = |(file, line): Spot| {
            let file = files.get(file).map_or("", String::as_str);
            format!("{}:{line}", plain(file))
        };
        let row = |what: &str, number: u64, first: String| [what.to_owned(), count(number), first];
        let conflict = self
            .first_conflict
            .map(|first| format!("{}: the series has another value at that time", spot(first)));
        let mut rows = vec![
            row("stored", self.stored, String::new()),
            row("duplicates", self.duplicates, String::new()),
            row("conflicts", self.conflicts, conflict.unwrap_or_default()),
            row("rejected", self.rejected_total(), String::new()),
        ];
        for (reason, rejected) in &self.rejected {
            let first = format!("{}: {}", spot(rejected.first), plain(&rejected.message));
            rows.push(row(&format!("  {}", plain(reason)), rejected.count, first));
        }
        let columns = [
            ("SAMPLES", Side::Left),
            ("", Side::Right),
            ("FIRST", Side::Left),
        ];
        table(columns, &rows)
    }

    /// For programs.
    pub fn json(&self, files: &[String]) -> Value {
        let spot = |(file, line): Spot| json!({ "file": files.get(file), "line": line });
        let rejected: Vec<Value> = self
            .rejected
            .iter()
            .map(|(reason, rejected)| {
                json!({
                    "reason": reason,
                    "count": rejected.count,
                    "first": spot(rejected.first),
                    "message": rejected.message,
                })
            })
            .collect();
        json!({
            "lines": self.lines,
            "stored": self.stored,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "first_conflict": self.first_conflict.map(spot),
            "rejected_lines": self.rejected_total(),
            "rejected": rejected,
        })
    }
}

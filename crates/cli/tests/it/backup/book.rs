//! The runbooks as a test reads them: their blocks of commands.

use std::{collections::BTreeSet, fs, path::Path};

/// The runbooks whose commands are run.
pub const BOOKS: [&str; 2] = ["backups.md", "restore.md"];

/// How what is not run is marked, in the line before it.
const NOT_RUN: &str = "<!-- not run: ";

/// A block of commands.
#[derive(Debug)]
pub struct Block {
    /// `restore.md#the-database-is-lost/2`: the second one below that heading.
    pub name: String,
    /// The commands.
    pub commands: String,
    /// Why it is not run.
    pub not_run: Option<String>,
}

/// The text of a runbook.
pub fn text(book: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations");
    fs::read_to_string(path.join(book)).unwrap()
}

/// The anchor of a heading, as it is linked to.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let text: String = heading.to_lowercase().chars().filter(kept).collect();
    text.replace(' ', "-")
}

fn heading(line: &str) -> Option<String> {
    let text = line.trim_start_matches('#');
    (text.len() < line.len() && text.starts_with(' ')).then(|| anchor(text.trim()))
}

/// The anchors of all headings.
pub fn anchors(book: &str) -> BTreeSet<String> {
    prose(book)
        .iter()
        .filter_map(|line| heading(line))
        .collect()
}

/// The blocks of a runbook.
pub fn blocks(book: &str) -> Vec<Block> {
    let text = text(book);
    let mut lines = text.lines();
    let (mut blocks, mut section, mut count, mut before) = (Vec::new(), String::new(), 0, "");
    while let Some(line) = lines.next() {
        if let Some(found) = heading(line) {
            (section, count) = (found, 0);
        } else if line.starts_with("```") {
            let commands: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if line == "```sh" {
                count += 1;
                let reason = before.strip_prefix(NOT_RUN);
                blocks.push(Block {
                    name: format!("{book}#{section}/{count}"),
                    commands: commands.join("\n"),
                    not_run: reason.map(|reason| reason.trim_end_matches(" -->").to_owned()),
                });
            }
        }
        before = line;
    }
    blocks
}

/// The lines that are in no block.
pub fn prose(book: &str) -> Vec<String> {
    let mut is_block = false;
    let text = text(book);
    let lines = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_block ^= is_fence;
        !is_block && !is_fence
    });
    lines.map(str::to_owned).collect()
}

/// Where the links of a runbook to others, or within it, lead: a file, and an anchor in it.
pub fn links(book: &str) -> Vec<(String, Option<String>)> {
    let text = prose(book).join("\n");
    let targets = text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?;
        (!target.contains("://")).then_some(target)
    });
    targets
        .map(|target| match target.split_once('#') {
            Some(("", anchor)) => (book.to_owned(), Some(anchor.to_owned())),
            Some((file, anchor)) => (file.to_owned(), Some(anchor.to_owned())),
            None => (target.to_owned(), None),
        })
        .collect()
}

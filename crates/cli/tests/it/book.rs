//! Documents as a test reads them: their blocks, their links, and the commands in their sentences.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

/// How what is not run is marked, in the line before it.
const NOT_RUN: &str = "<!-- not run: ";

/// The folders that documents are in, beside the root.
const FOLDERS: [&str; 6] = [
    "docs",
    "docs/operations",
    "deploy/terraform",
    "examples/fastapi",
    "examples/opentelemetry",
    "crates/store/migrations",
];

/// A block of a document.
#[derive(Debug)]
pub struct Block {
    /// `restore.md#the-database-is-lost/2`: the second one of its language below that heading.
    pub name: String,
    /// `sh`, `sql`, `toml`, or nothing.
    pub language: String,
    /// Its lines.
    pub text: String,
    /// Why it is not run.
    pub not_run: Option<String>,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All documents, by their paths from the root.
pub fn books() -> Vec<String> {
    let mut books = Vec::new();
    for folder in FOLDERS.iter().copied().chain([""]) {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if Path::new(&name)
                .extension()
                .is_some_and(|extension| extension == "md")
            {
                books.push(
                    format!("{folder}/{name}")
                        .trim_start_matches('/')
                        .to_owned(),
                );
            }
        }
    }
    books.sort();
    books
}

/// The text of a document.
pub fn text(book: &str) -> String {
    fs::read_to_string(root().join(book)).unwrap_or_else(|error| panic!("{book}: {error}"))
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

/// The blocks of a document. They may stand in a list: then their lines begin with spaces.
pub fn blocks(book: &str) -> Vec<Block> {
    let text = text(book);
    let short = book.trim_start_matches("docs/operations/");
    let mut lines = text.lines();
    let (mut blocks, mut section, mut before) = (Vec::<Block>::new(), String::new(), "");
    while let Some(line) = lines.next() {
        if let Some(found) = heading(line) {
            section = found;
        } else if let Some((indent, language)) = line.split_once("```") {
            assert!(
                indent.trim().is_empty(),
                "{book}: a fence within a line: {line}"
            );
            let taken: Vec<&str> = lines
                .by_ref()
                .take_while(|line| line.trim() != "```")
                .map(|line| line.strip_prefix(indent).unwrap_or(line))
                .collect();
            let (place, language) = (format!("{short}#{section}/"), language.trim());
            let earlier = blocks
                .iter()
                .filter(|block| block.language == language && block.name.starts_with(&place));
            let reason = before.trim().strip_prefix(NOT_RUN);
            blocks.push(Block {
                name: format!("{place}{}", earlier.count() + 1),
                language: language.to_owned(),
                text: taken.join("\n"),
                not_run: reason.map(|reason| reason.trim_end_matches(" -->").to_owned()),
            });
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
        let is_fence = line.trim_start().starts_with("```");
        is_block ^= is_fence;
        !is_block && !is_fence
    });
    lines.map(str::to_owned).collect()
}

/// What stands in a document's sentences as code.
pub fn code(book: &str) -> Vec<String> {
    let text = prose(book).join("\n");
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(|part| part.replace('\n', " ")).collect()
}

/// A path without `..`.
fn plain(path: &Path) -> String {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            part => parts.push(part.as_os_str().to_str().unwrap()),
        }
    }
    parts.join("/")
}

/// Where the links of a document to others, or within it, lead: a path from the root, and an anchor in it.
pub fn links(book: &str) -> Vec<(String, Option<String>)> {
    let folder = Path::new(book).parent().unwrap();
    let text = prose(book).join("\n");
    let targets = text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?;
        (!target.contains("://")).then_some(target)
    });
    targets
        .map(|target| match target.split_once('#') {
            Some(("", anchor)) => (book.to_owned(), Some(anchor.to_owned())),
            Some((file, anchor)) => (plain(&folder.join(file)), Some(anchor.to_owned())),
            None => (plain(&folder.join(target)), None),
        })
        .collect()
}

//! Migrations as files: their names, their numbers, their directives.

use std::{collections::BTreeMap, path::Path};

use include_dir::{Dir, include_dir};
use sha2::{Digest as _, Sha256};

use super::sql::{self, Parsed};
use crate::error::{Error, Result};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/migrations");

/// Which way a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Applies.
    Up,
    /// Rolls back.
    Down,
}

/// One file.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its name, for messages.
    pub file: String,
    /// Which way it goes.
    pub direction: Direction,
    /// Its text.
    pub sql: String,
    /// SHA-256 of its text, in hexadecimal.
    pub checksum: String,
    /// Whether it runs in a transaction; `-- utxoiq: no-transaction` says it does not.
    pub in_transaction: bool,
    /// Whether the release before may serve on the new schema; `-- utxoiq: backward-compatible` says so.
    pub backward_compatible: bool,
    /// Its statements and directives.
    pub parsed: Parsed,
}

impl Script {
    /// Reads one file's text.
    pub fn new(
        file: impl Into<String>,
        direction: Direction,
        sql: impl Into<String>,
    ) -> Result<Self> {
        let (file, sql) = (file.into(), sql.into());
        let parsed = sql::parse(&sql).map_err(|error| {
            invalid(format!(
                "{file}, line {}: {} never ends",
                error.line, error.what
            ))
        })?;
        let mut script = Self {
            checksum: checksum(&sql),
            file,
            direction,
            sql,
            in_transaction: true,
            backward_compatible: false,
            parsed,
        };
        script.read_directives()?;
        Ok(script)
    }

    fn read_directives(&mut self) -> Result<()> {
        for directive in &self.parsed.directives {
            let place = format!("{}, line {}", self.file, directive.line);
            match directive.text.as_str() {
                "no-transaction" | "backward-compatible" if directive.before > 0 => {
                    return Err(invalid(format!(
                        "{place}: the directive {} must stand before the first statement",
                        directive.text
                    )));
                }
                "no-transaction" => self.in_transaction = false,
                "backward-compatible" if self.direction == Direction::Up => {
                    self.backward_compatible = true;
                }
                "backward-compatible" => {
                    return Err(invalid(format!(
                        "{place}: backward-compatible belongs into the up file"
                    )));
                }
                text if text.split_whitespace().next() == Some("allow") => {}
                text => {
                    return Err(invalid(format!(
                        "{place}: unknown directive {text:?}; known are no-transaction, backward-compatible and \
                         allow <rule> because <reason>"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// SHA-256 of a text, in hexadecimal.
pub fn checksum(text: &str) -> String {
    let mut shown = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        shown.push_str(&format!("{byte:02x}"));
    }
    shown
}

/// A pair of files.
#[derive(Debug, Clone)]
pub struct Migration {
    /// Its number, from 1.
    pub number: i32,
    /// `verb_noun`.
    pub name: String,
    /// Applies it.
    pub up: Script,
    /// Rolls it back.
    pub down: Script,
}

impl Migration {
    /// `NNNN_verb_noun`.
    pub fn label(&self) -> String {
        label(self.number, &self.name)
    }
}

/// `NNNN_verb_noun`.
pub fn label(number: i32, name: &str) -> String {
    format!("{number:04}_{name}")
}

/// The migrations that this binary carries.
pub fn embedded() -> Result<Vec<Migration>> {
    let files = EMBEDDED.files().map(|file| {
        let name = file.path().display().to_string();
        let text = file.contents_utf8().map(str::to_owned);
        (name, text)
    });
    collect(files)
}

/// The migrations in a folder.
pub fn from_dir(dir: &Path) -> Result<Vec<Migration>> {
    let unreadable = |error: std::io::Error| {
        invalid(format!(
            "the migrations in {} could not be read: {error}",
            dir.display()
        ))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let bytes = if entry.path().extension().is_some_and(|kind| kind == "sql") {
            std::fs::read(entry.path()).map_err(unreadable)?
        } else {
            Vec::new()
        };
        files.push((name, String::from_utf8(bytes).ok()));
    }
    collect(files)
}

type Halves = [Option<Script>; 2];

fn collect(files: impl IntoIterator<Item = (String, Option<String>)>) -> Result<Vec<Migration>> {
    let mut found: BTreeMap<i32, BTreeMap<String, Halves>> = BTreeMap::new();
    for (file, text) in files {
        if file == "README.md" || file.starts_with('.') {
            continue;
        }
        let (number, name, direction) = parse_name(&file).ok_or_else(|| {
            invalid(format!(
                "{file}: migrations are named NNNN_verb_noun.up.sql and NNNN_verb_noun.down.sql, in lower case; \
                 `utxoiq-store migrate new verb_noun` makes such a pair"
            ))
        })?;
        let text = text.ok_or_else(|| invalid(format!("{file} is not UTF-8 text")))?;
        let halves = found.entry(number).or_default().entry(name).or_default();
        halves[direction as usize] = Some(Script::new(file, direction, text)?);
    }
    let mut migrations = Vec::with_capacity(found.len());
    for (number, named) in found {
        migrations.push(pair(number, named)?);
    }
    for (expected, migration) in (1..).zip(&migrations) {
        if migration.number != expected {
            return Err(invalid(format!(
                "there is no migration {expected:04} although there is {}: numbers start at 0001 and have no gaps",
                migration.label()
            )));
        }
    }
    Ok(migrations)
}

fn pair(number: i32, named: BTreeMap<String, Halves>) -> Result<Migration> {
    if named.len() > 1 {
        let labels: Vec<String> = named.keys().map(|name| label(number, name)).collect();
        return Err(invalid(format!(
            "number {number:04} is there more than once: {}; give the later one the next free number",
            labels.join(", ")
        )));
    }
    let Some((name, halves)) = named.into_iter().next() else {
        return Err(Error::internal("a migration without a name"));
    };
    let label = label(number, &name);
    match halves {
        [Some(up), Some(down)] => Ok(Migration {
            number,
            name,
            up,
            down,
        }),
        [None, _] => Err(invalid(format!(
            "{label}.up.sql is missing beside its down file"
        ))),
        [_, None] => Err(invalid(format!(
            "{label}.down.sql is missing: every migration can be rolled back"
        ))),
    }
}

/// Number, name and direction of `NNNN_verb_noun.up.sql`.
fn parse_name(file: &str) -> Option<(i32, String, Direction)> {
    let (stem, direction) = match file.strip_suffix(".up.sql") {
        Some(stem) => (stem, Direction::Up),
        None => (file.strip_suffix(".down.sql")?, Direction::Down),
    };
    let (number, name) = stem.split_once('_')?;
    let digits = number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: i32 = number.parse().ok().filter(|number| digits && *number > 0)?;
    is_verb_noun(name).then(|| (number, name.to_owned(), direction))
}

/// At least two lower-case words, the first of letters only, joined by single underscores; at most 60 characters.
pub fn is_verb_noun(name: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let well_formed = |word: &&str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.len() <= 60
        && words.len() >= 2
        && words.iter().all(well_formed)
        && words[0].bytes().all(|byte| byte.is_ascii_lowercase())
}

fn invalid(message: String) -> Error {
    Error::invalid("migration_invalid", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(files: &[(&str, &str)]) -> String {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Some((*text).to_owned())));
        collect(files).expect_err("must be refused").to_string()
    }

    #[test]
    fn gaps_duplicates_missing_halves_and_wrong_names_are_refused_by_name() {
        for (files, message) in [
            (
                &["0002_add_b.up.sql", "0002_add_b.down.sql"][..],
                "no migration 0001",
            ),
            (&["0001_add_a.up.sql"], "0001_add_a.down.sql is missing"),
            (&["0001_add_a.down.sql"], "0001_add_a.up.sql is missing"),
            (
                &["0001_add_a.up.sql", "0001_add_b.down.sql"],
                "number 0001 is there more than once",
            ),
            (&["1_add_a.up.sql"], "1_add_a.up.sql: migrations are named"),
            (&["0000_add_a.up.sql"], "migrations are named"),
            (&["0001_add.up.sql"], "migrations are named"),
            (&["0001_Add_a.up.sql"], "migrations are named"),
            (&["0001_add__a.up.sql"], "migrations are named"),
            (&["0001_add_a.sql"], "migrations are named"),
            (&["notes.txt"], "migrations are named"),
        ] {
            let files: Vec<_> = files.iter().map(|file| (*file, "select 1")).collect();
            let refused = refusal(&files);
            assert!(refused.contains(message), "{files:?}: {refused}");
        }
    }

    #[test]
    fn directives_are_read_at_the_top_and_unknown_ones_refused() {
        let script = |direction, sql| Script::new("f", direction, sql);
        let up = script(
            Direction::Up,
            "-- utxoiq: no-transaction\n-- utxoiq: backward-compatible\nselect 1",
        )
        .unwrap();
        assert!(!up.in_transaction && up.backward_compatible);
        let plain = script(
            Direction::Up,
            "-- utxoiq: allow rename because nobody reads it yet\nselect 1",
        )
        .unwrap();
        assert!(plain.in_transaction && !plain.backward_compatible);
        for (direction, sql, message) in [
            (
                Direction::Up,
                "-- utxoiq: no-transactions\nselect 1",
                "unknown directive",
            ),
            (
                Direction::Up,
                "select 1;\n-- utxoiq: no-transaction\n",
                "line 2",
            ),
            (
                Direction::Down,
                "-- utxoiq: backward-compatible\nselect 1",
                "up file",
            ),
            (Direction::Up, "select '", "a string never ends"),
        ] {
            let refused = script(direction, sql).unwrap_err().to_string();
            assert!(refused.contains(message), "{sql}: {refused}");
        }
    }

    #[test]
    fn the_embedded_migrations_are_well_formed() {
        embedded().unwrap();
    }
}

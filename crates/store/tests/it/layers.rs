//! The arrows of the crate: a module uses only modules of an earlier row.
//!
//! Read from the source: every `crate::name` outside comments and tests counts, in a `use` or anywhere else.

use std::{collections::BTreeSet, fs, path::Path};

/// The rows, from bottom to top. Modules of one row do not use each other.
const ROWS: &[&[&str]] = &[
    &["clock", "error", "config", "measure", "tls", "trace"],
    &["db"],
    &["cache", "cold", "alert", "schedule", "audit", "token"],
    &["limit", "backfill", "feedback", "metrics"],
    &["backup"],
    &["retention", "erasure"],
    &["slo"],
    &["store"],
    &["worker"],
    &["fuzz"],
];

/// Within the bottom row: the configuration reports its errors, and spans are marked with them.
const WITHIN_A_ROW: &[(&str, &str)] = &[("config", "error"), ("tls", "error"), ("trace", "error")];

/// What `lib.rs` gives a second name, so that `crate::Error` is `crate::error::Error`.
const REEXPORTED: &[(&str, &str)] = &[
    ("Error", "error"),
    ("Kind", "error"),
    ("Result", "error"),
    ("Store", "store"),
];

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// The source without comments and without what is compiled for tests only (which stands at the end of a file).
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The names that follow `crate::` in a source, also those in braces.
fn used(text: &str) -> BTreeSet<String> {
    let code = code(text);
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let is_path = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if is_path {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(first_names(list)),
            None => names.extend(name(rest)),
        }
    }
    names
}

fn name(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The names at the outermost level of a list in braces, whose opening brace was taken.
fn first_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut fresh) = (1, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            _ if fresh && depth == 1 && !c.is_whitespace() => {
                names.extend(name(&list[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// Why a module may not use a name; `None` when it may.
fn objection(module: &str, used: &str) -> Option<String> {
    let target = REEXPORTED
        .iter()
        .find(|(name, _)| *name == used)
        .map_or(used, |(_, module)| *module);
    if module == target || WITHIN_A_ROW.contains(&(module, target)) {
        return None;
    }
    let (Some(from), Some(to)) = (row(module), row(target)) else {
        return Some(format!(
            "{module} uses crate::{used}, which stands in no row"
        ));
    };
    (to >= from).then(|| format!("{module} (row {}) uses {target} (row {})", from + 1, to + 1))
}

fn visit(path: &Path, module: &str, found: &mut Vec<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            visit(&entry.unwrap().path(), module, found);
        }
    } else if path.extension().is_some_and(|kind| kind == "rs") {
        let text = fs::read_to_string(path).unwrap();
        let objections = used(&text)
            .into_iter()
            .filter_map(|name| objection(module, &name));
        found.extend(objections.map(|objection| format!("{}: {objection}", path.display())));
    }
}

#[test]
fn no_module_uses_one_of_its_own_row_or_above() {
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let (mut found, mut modules) = (Vec::new(), 0);
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if module == "lib" {
            continue;
        }
        if row(&module).is_none() {
            found.push(format!(
                "{}: the module {module} stands in no row",
                path.display()
            ));
        }
        modules += 1;
        visit(&path, &module, &mut found);
    }
    assert!(modules > 5, "the sources were not found");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn an_upward_arrow_is_seen_however_it_is_written() {
    let source = "
        use crate::{db::{self, Pool}, error::Result, store,};
        // crate::worker is only talked about
        fn f() { crate::backfill::start(); my_crate::slo::x(); $crate::retention::y(); }
        #[cfg(test)]
        mod tests { use crate::worker; }";
    let source = source.replace("        #[cfg(test)]\n        mod", "#[cfg(test)]\nmod");
    let used: Vec<String> = used(&source).into_iter().collect();
    assert_eq!(used, ["backfill", "db", "error", "retention", "store"]);
    for (module, used) in [
        ("db", "backfill"),
        ("token", "schedule"),
        ("clock", "error"),
        ("backfill", "Store"),
        ("db", "helpers"),
    ] {
        assert!(objection(module, used).is_some(), "{module} → {used}");
    }
    for (module, used) in [
        ("backfill", "db"),
        ("db", "db"),
        ("config", "Error"),
        ("worker", "Store"),
    ] {
        assert_eq!(objection(module, used), None);
    }
}

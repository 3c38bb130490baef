//! Recognises the shape of the few statements that rules ask about.

use std::ops::Range;

use crate::db::migrate::sql::Token;

/// Whether the words begin so.
pub(super) fn starts(tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len() && tokens.iter().zip(words).all(|(token, word)| token.is(word))
}

/// Whether the words begin with one of these.
pub(super) fn starts_with_any(tokens: &[Token], words: &[&str]) -> bool {
    tokens
        .first()
        .is_some_and(|token| words.iter().any(|word| token.is(word)))
}

/// Where these words follow one another.
pub(super) fn positions(tokens: &[Token], words: &[&str]) -> Vec<usize> {
    (0..tokens.len())
        .filter(|at| starts(&tokens[*at..], words))
        .collect()
}

/// Whether these words follow one another somewhere.
pub(super) fn has(tokens: &[Token], words: &[&str]) -> bool {
    !positions(tokens, words).is_empty()
}

/// The lines on which these words begin.
pub(super) fn lines(tokens: &[Token], words: &[&str]) -> Vec<usize> {
    positions(tokens, words)
        .into_iter()
        .map(|at| tokens[at].line)
        .collect()
}

/// Skips words that may stand there, each at most once, in any order.
fn skip(tokens: &[Token], mut at: usize, optional: &[&str]) -> usize {
    while tokens
        .get(at)
        .is_some_and(|token| optional.iter().any(|word| token.is(word)))
    {
        at += 1;
    }
    at
}

/// A name at a position, without the schema `public`, and the position after it.
fn name(tokens: &[Token], at: usize) -> Option<(String, usize)> {
    let first = tokens.get(at).filter(|token| token.is_name())?;
    let qualified = tokens.get(at + 1).is_some_and(|token| token.is("."));
    match tokens
        .get(at + 2)
        .filter(|token| qualified && token.is_name())
    {
        Some(second) if first.text == "public" => Some((second.text.clone(), at + 3)),
        Some(second) => Some((format!("{}.{}", first.text, second.text), at + 3)),
        None => Some((first.text.clone(), at + 1)),
    }
}

/// Splits a range at the commas of one depth.
fn split(tokens: &[Token], range: Range<usize>, depth: usize) -> Vec<&[Token]> {
    tokens[range]
        .split(|token| token.depth == depth && token.is(","))
        .filter(|part| !part.is_empty())
        .collect()
}

/// CREATE TABLE.
pub(super) struct CreateTable<'a> {
    pub(super) name: String,
    /// Columns and constraints.
    pub(super) elements: Vec<&'a [Token]>,
}

pub(super) fn create_table(tokens: &[Token]) -> Option<CreateTable<'_>> {
    if !starts(tokens, &["create"]) {
        return None;
    }
    let at = skip(
        tokens,
        1,
        &["global", "local", "temp", "temporary", "unlogged"],
    );
    if !tokens.get(at)?.is("table") {
        return None;
    }
    let at = skip(tokens, at + 1, &["if", "not", "exists"]);
    let (name, after) = name(tokens, at)?;
    let elements = if tokens.get(after).is_some_and(|token| token.is("(")) {
        let close = tokens[after..]
            .iter()
            .position(|token| token.depth == 0 && token.is(")"));
        split(tokens, after + 1..after + close?, 1)
    } else {
        Vec::new()
    };
    Some(CreateTable { name, elements })
}

/// ALTER TABLE.
pub(super) struct AlterTable<'a> {
    pub(super) name: String,
    /// What it does, in order.
    pub(super) actions: Vec<&'a [Token]>,
}

pub(super) fn alter_table(tokens: &[Token]) -> Option<AlterTable<'_>> {
    if !starts(tokens, &["alter", "table"]) {
        return None;
    }
    let at = skip(tokens, 2, &["if", "exists", "only"]);
    let (name, after) = name(tokens, at)?;
    let actions = split(tokens, after..tokens.len(), 0);
    Some(AlterTable { name, actions })
}

/// CREATE INDEX.
pub(super) struct CreateIndex {
    pub(super) name: Option<String>,
    pub(super) table: String,
    pub(super) concurrently: bool,
    pub(super) if_not_exists: bool,
}

pub(super) fn create_index(tokens: &[Token]) -> Option<CreateIndex> {
    if !starts(tokens, &["create"]) {
        return None;
    }
    let at = skip(tokens, 1, &["unique"]);
    if !tokens.get(at)?.is("index") {
        return None;
    }
    let concurrently = tokens
        .get(at + 1)
        .is_some_and(|token| token.is("concurrently"));
    let at = at + 1 + usize::from(concurrently);
    let if_not_exists = starts(tokens.get(at..)?, &["if", "not", "exists"]);
    let at = at + if if_not_exists { 3 } else { 0 };
    let (index, at) = if tokens.get(at)?.is("on") {
        (None, at)
    } else {
        let (index, after) = name(tokens, at)?;
        (Some(index), after)
    };
    if !tokens.get(at)?.is("on") {
        return None;
    }
    let (table, _) = name(tokens, skip(tokens, at + 1, &["only"]))?;
    Some(CreateIndex {
        name: index,
        table,
        concurrently,
        if_not_exists,
    })
}

/// Whether a statement makes or changes a function or procedure.
pub(super) fn is_function(tokens: &[Token]) -> bool {
    let at = match tokens {
        [first, ..] if first.is("create") => skip(tokens, 1, &["or", "replace"]),
        [first, ..] if first.is("alter") => 1,
        _ => return false,
    };
    tokens
        .get(at)
        .is_some_and(|token| token.is("function") || token.is("procedure"))
}

/// The function's name.
pub(super) fn function_name(tokens: &[Token]) -> Option<String> {
    let at = tokens
        .iter()
        .position(|token| token.is("function") || token.is("procedure"))?;
    name(tokens, at + 1).map(|(name, _)| name)
}

const TABLE_CONSTRAINTS: [&str; 7] = [
    "constraint",
    "primary",
    "unique",
    "check",
    "foreign",
    "exclude",
    "like",
];

/// The definition of a column, from its name on: an element of CREATE TABLE or an action ADD COLUMN.
pub(super) fn column(part: &[Token]) -> Option<&[Token]> {
    let part = if starts(part, &["add"]) {
        let at = skip(part, 1, &["column"]);
        &part[skip(part, at, &["if", "not", "exists"])..]
    } else {
        part
    };
    (!starts_with_any(part, &TABLE_CONSTRAINTS) && part.first()?.is_name()).then_some(part)
}

/// All column definitions of a CREATE or ALTER TABLE.
pub(super) fn columns(tokens: &[Token]) -> Vec<&[Token]> {
    let parts = match (create_table(tokens), alter_table(tokens)) {
        (Some(table), _) => table.elements,
        (_, Some(table)) => added(&table),
        _ => Vec::new(),
    };
    parts.into_iter().filter_map(column).collect()
}

/// The actions that add something.
pub(super) fn added<'a>(table: &AlterTable<'a>) -> Vec<&'a [Token]> {
    table
        .actions
        .iter()
        .copied()
        .filter(|action| starts(action, &["add"]))
        .collect()
}

/// The names of the time functions, with and without parentheses.
const CALLED: [&str; 5] = [
    "now",
    "transaction_timestamp",
    "statement_timestamp",
    "clock_timestamp",
    "timeofday",
];
const BARE: [&str; 5] = [
    "current_timestamp",
    "current_date",
    "current_time",
    "localtimestamp",
    "localtime",
];

/// Where the present time is read.
pub(super) fn time_reads(tokens: &[Token]) -> Vec<usize> {
    let called = |at: usize| tokens.get(at + 1).is_some_and(|next| next.is("("));
    (0..tokens.len())
        .filter(|at| {
            let token = &tokens[*at];
            BARE.iter().any(|word| token.is(word))
                || (called(*at) && CALLED.iter().any(|word| token.is(word)))
        })
        .collect()
}

//! Rules about what blocks everybody else.

use super::{
    Subject,
    shape::{self, added, alter_table, column, has, lines, starts, starts_with_any},
};
use crate::db::migrate::sql::{Token, TokenKind};

pub(super) fn index_concurrently(subject: &Subject<'_>) -> Vec<usize> {
    let index = shape::create_index(subject.tokens());
    let blocks = index.is_some_and(|index| !index.concurrently && subject.exists(&index.table));
    flag(subject, blocks)
}

pub(super) fn concurrently_in_transaction(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let concurrent = starts_with_any(tokens, &["create", "drop", "reindex", "alter"])
        && has(tokens, &["concurrently"]);
    flag(subject, concurrent && subject.script.in_transaction)
}

pub(super) fn one_statement(subject: &Subject<'_>) -> Vec<usize> {
    flag(subject, !subject.script.in_transaction && subject.index > 0)
}

pub(super) fn rerunnable(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let builds = shape::create_index(tokens).is_some_and(|index| index.if_not_exists);
    let drops = starts(tokens, &["drop", "index"]) && has(tokens, &["if", "exists"]);
    flag(subject, !subject.script.in_transaction && !builds && !drops)
}

/// What ALTER TABLE adds to an existing table.
fn added_to_existing<'a>(subject: &'a Subject<'_>) -> Vec<&'a [Token]> {
    alter_table(subject.tokens())
        .filter(|table| subject.exists(&table.name))
        .map_or_else(Vec::new, |table| added(&table))
}

fn at_depth_zero<'a>(part: &'a [Token], word: &'a str) -> impl Iterator<Item = &'a Token> {
    part.iter()
        .filter(move |token| token.depth == 0 && token.is(word))
}

pub(super) fn constraint_not_valid(subject: &Subject<'_>) -> Vec<usize> {
    let checks = |part: &&[Token]| {
        ["check", "references"]
            .iter()
            .any(|word| at_depth_zero(part, word).next().is_some())
            && !has(part, &["not", "valid"])
    };
    first_lines(added_to_existing(subject).into_iter().filter(checks))
}

pub(super) fn validate_separately(subject: &Subject<'_>) -> Vec<usize> {
    let earlier = &subject.script.parsed.statements[..subject.index];
    let adds = |name: &str| {
        earlier.iter().any(|statement| {
            alter_table(&statement.tokens).is_some_and(|table| table.name == name)
                && has(&statement.tokens, &["not", "valid"])
        })
    };
    let validates = alter_table(subject.tokens()).is_some_and(|table| {
        has(subject.tokens(), &["validate", "constraint"]) && adds(&table.name)
    });
    flag(subject, validates)
}

pub(super) fn unique_using_index(subject: &Subject<'_>) -> Vec<usize> {
    let builds = |part: &&[Token]| {
        ["unique", "exclude", "primary"]
            .iter()
            .any(|word| at_depth_zero(part, word).next().is_some())
            && !has(part, &["using", "index"])
    };
    first_lines(added_to_existing(subject).into_iter().filter(builds))
}

fn alters_column(subject: &Subject<'_>, what: &[&str]) -> Vec<usize> {
    let table = alter_table(subject.tokens()).filter(|table| subject.exists(&table.name));
    let actions = table.map_or_else(Vec::new, |table| table.actions);
    first_lines(
        actions
            .into_iter()
            .filter(|action| starts(action, &["alter"]) && has(action, what)),
    )
}

pub(super) fn set_not_null(subject: &Subject<'_>) -> Vec<usize> {
    alters_column(subject, &["set", "not", "null"])
}

pub(super) fn alter_column_type(subject: &Subject<'_>) -> Vec<usize> {
    let table = alter_table(subject.tokens()).filter(|table| subject.exists(&table.name));
    let actions = table.map_or_else(Vec::new, |table| table.actions);
    first_lines(actions.into_iter().filter(|action| {
        let at = 1 + usize::from(action.get(1).is_some_and(|token| token.is("column")));
        let after = action.get(at + 1..).unwrap_or_default();
        starts(action, &["alter"])
            && (starts(after, &["type"]) || starts(after, &["set", "data", "type"]))
    }))
}

pub(super) fn add_column_not_null(subject: &Subject<'_>) -> Vec<usize> {
    let fails = |part: &&[Token]| {
        column(part).is_some_and(|column| {
            has(column, &["not", "null"])
                && !has(column, &["default"])
                && !has(column, &["generated"])
                && !is_serial(column)
        })
    };
    first_lines(added_to_existing(subject).into_iter().filter(fails))
}

/// Functions that give the same for all rows, and are computed once.
const CONSTANT: [&str; 12] = [
    "int4range",
    "int8range",
    "numrange",
    "tstzrange",
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "tstzmultirange",
    "jsonb_build_object",
    "jsonb_build_array",
    "coalesce",
    "now",
];

pub(super) fn volatile_default(subject: &Subject<'_>) -> Vec<usize> {
    let calls = |part: &&[Token]| {
        let Some(at) = part
            .iter()
            .position(|token| token.depth == 0 && token.is("default"))
        else {
            return false;
        };
        let expression = &part[at + 1..];
        let end = expression
            .iter()
            .position(|token| {
                token.depth == 0
                    && ["constraint", "not", "null", "check", "references"]
                        .iter()
                        .any(|word| token.is(word))
            })
            .unwrap_or(expression.len());
        is_computed(&expression[..end])
    };
    first_lines(
        added_to_existing(subject)
            .into_iter()
            .filter(|part| column(part).is_some())
            .filter(calls),
    )
}

/// Whether an expression calls a function that is not known to be constant.
fn is_computed(expression: &[Token]) -> bool {
    (0..expression.len()).any(|at| {
        let name = &expression[at];
        let is_call = name.is_name() && expression.get(at + 1).is_some_and(|next| next.is("("));
        let is_cast = at > 0 && expression[at - 1].is(":");
        is_call && !is_cast && !CONSTANT.contains(&name.text.as_str())
    })
}

fn is_serial(column: &[Token]) -> bool {
    column.get(1).is_some_and(|kind| {
        ["serial", "bigserial", "smallserial"]
            .iter()
            .any(|word| kind.is(word))
    })
}

pub(super) fn rewriting_column(subject: &Subject<'_>) -> Vec<usize> {
    let rewrites = |part: &&[Token]| {
        column(part).is_some_and(|column| {
            is_serial(column) || has(column, &["as", "identity"]) || has(column, &["stored"])
        })
    };
    first_lines(added_to_existing(subject).into_iter().filter(rewrites))
}

pub(super) fn rewrite_table(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let rewrites =
        starts(tokens, &["cluster"]) || (starts(tokens, &["vacuum"]) && has(tokens, &["full"]));
    flag(subject, rewrites)
}

pub(super) fn lock_table(subject: &Subject<'_>) -> Vec<usize> {
    flag(subject, starts(subject.tokens(), &["lock"]))
}

pub(super) fn partition_of(subject: &Subject<'_>) -> Vec<usize> {
    let mut found = lines(subject.tokens(), &["partition", "of"]);
    for statement in &subject.body {
        found.extend(lines(&statement.tokens, &["partition", "of"]));
        // A function makes its statements out of strings.
        let strings = statement
            .tokens
            .iter()
            .filter(|token| token.kind == TokenKind::Text);
        found.extend(
            strings
                .filter(|token| token.text.to_lowercase().contains("partition of"))
                .map(|token| token.line),
        );
    }
    found
}

pub(super) fn default_partition(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let attaches = alter_table(tokens).is_some() && has(tokens, &["attach", "partition"]);
    flag(
        subject,
        attaches && tokens.last().is_some_and(|token| token.is("default")),
    )
}

pub(super) fn detach_concurrently(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    flag(
        subject,
        has(tokens, &["detach", "partition"]) && has(tokens, &["concurrently"]),
    )
}

pub(super) fn flag(subject: &Subject<'_>, broken: bool) -> Vec<usize> {
    if broken {
        vec![subject.line()]
    } else {
        Vec::new()
    }
}

fn first_lines<'a>(parts: impl Iterator<Item = &'a [Token]>) -> Vec<usize> {
    parts
        .filter_map(|part| part.first())
        .map(|token| token.line)
        .collect()
}

//! Rules about what loses data, breaks the release before, or leaves the schema to chance.

use super::{
    Direction, Subject,
    locks::flag,
    shape::{
        self, alter_table, columns, create_table, has, lines, positions, starts, starts_with_any,
        time_reads,
    },
};
use crate::db::migrate::sql::{Token, TokenKind};

pub(super) fn rename(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let harmless = has(tokens, &["rename", "constraint"]) || starts(tokens, &["alter", "index"]);
    if starts(tokens, &["alter"]) && !harmless {
        lines(tokens, &["rename"])
    } else {
        Vec::new()
    }
}

pub(super) fn drop_data(subject: &Subject<'_>) -> Vec<usize> {
    if subject.script.direction == Direction::Down {
        return Vec::new();
    }
    let tokens = subject.tokens();
    if starts(tokens, &["drop", "table"]) || starts(tokens, &["drop", "schema"]) {
        return vec![subject.line()];
    }
    let actions = alter_table(tokens).map_or_else(Vec::new, |table| table.actions);
    actions
        .into_iter()
        .filter(|action| starts(action, &["drop"]) && !starts(action, &["drop", "constraint"]))
        .map(|action| action[0].line)
        .collect()
}

pub(super) fn drop_cascade(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    if starts(tokens, &["drop"]) {
        return lines(tokens, &["cascade"]);
    }
    let actions = alter_table(tokens).map_or_else(Vec::new, |table| table.actions);
    actions
        .into_iter()
        .filter(|action| starts(action, &["drop"]))
        .flat_map(|action| lines(action, &["cascade"]))
        .collect()
}

pub(super) fn truncate(subject: &Subject<'_>) -> Vec<usize> {
    let in_block = if starts(subject.tokens(), &["do"]) {
        &subject.body[..]
    } else {
        &[]
    };
    let mut found: Vec<usize> = in_block
        .iter()
        .flat_map(|inner| truncates(&inner.tokens))
        .collect();
    if starts(subject.tokens(), &["truncate"]) {
        found.push(subject.line());
    }
    found
}

fn truncates(tokens: &[Token]) -> Vec<usize> {
    lines(tokens, &["truncate"])
}

pub(super) fn unbounded_dml(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    if starts(tokens, &["do"]) {
        return subject
            .body
            .iter()
            .flat_map(|inner| unbounded(&inner.tokens))
            .collect();
    }
    if starts_with_any(tokens, &["update", "delete", "with", "insert"]) {
        unbounded(tokens)
    } else {
        Vec::new()
    }
}

fn unbounded(tokens: &[Token]) -> Vec<usize> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let after_clause = at > 0
            && ["for", "on", "do", "key"]
                .iter()
                .any(|word| tokens[at - 1].is(word));
        let changes = (token.is("delete")
            && tokens.get(at + 1).is_some_and(|next| next.is("from")))
            || token.is("update");
        if !changes || after_clause {
            continue;
        }
        let own = tokens[at..]
            .iter()
            .take_while(|other| other.depth >= token.depth);
        if !own
            .into_iter()
            .any(|other| other.depth == token.depth && other.is("where"))
        {
            found.push(token.line);
        }
    }
    found
}

pub(super) fn enum_type(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let makes = starts(tokens, &["create", "type"]) && has(tokens, &["as", "enum"]);
    let grows = starts(tokens, &["alter", "type"]) && has(tokens, &["add", "value"]);
    flag(subject, makes || grows)
}

pub(super) fn explicit_transaction(subject: &Subject<'_>) -> Vec<usize> {
    const WORDS: [&str; 9] = [
        "begin",
        "commit",
        "rollback",
        "start",
        "savepoint",
        "end",
        "abort",
        "release",
        "prepare",
    ];
    flag(subject, starts_with_any(subject.tokens(), &WORDS))
}

pub(super) fn session_setting(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let lasting = starts(tokens, &["set"])
        && !["local", "constraints", "transaction"]
            .iter()
            .any(|word| tokens.get(1).is_some_and(|token| token.is(word)));
    flag(
        subject,
        lasting || starts_with_any(tokens, &["reset", "discard"]),
    )
}

pub(super) fn ownership(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let hands_over = starts(tokens, &["alter"]) && has(tokens, &["owner", "to"]);
    let becomes = starts(tokens, &["set", "local", "role"])
        || starts(tokens, &["set", "role"])
        || starts(tokens, &["set", "session", "authorization"])
        || starts(tokens, &["reassign"]);
    flag(subject, hands_over || becomes)
}

pub(super) fn role_in_migration(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let changes = starts_with_any(tokens, &["create", "alter", "drop"]);
    flag(
        subject,
        changes && tokens.len() > 1 && starts_with_any(&tokens[1..], &["role", "user", "group"]),
    )
}

pub(super) fn grant_to_public(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    flag(
        subject,
        starts(tokens, &["grant"]) && has(tokens, &["to", "public"]),
    )
}

pub(super) fn if_not_exists(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    if create_table(tokens).is_some() || alter_table(tokens).is_some() {
        return lines(tokens, &["if", "not", "exists"]);
    }
    Vec::new()
}

const NAMED: [&str; 5] = ["check", "unique", "references", "exclude", "foreign"];

pub(super) fn unnamed_constraint(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let parts: Vec<&[Token]> = match (create_table(tokens), alter_table(tokens)) {
        (Some(table), _) => table.elements,
        (_, Some(table)) => shape::added(&table)
            .into_iter()
            .map(|action| &action[1..])
            .collect(),
        _ if starts(tokens, &["create", "domain"]) || starts(tokens, &["alter", "domain"]) => {
            vec![tokens]
        }
        _ => Vec::new(),
    };
    parts
        .into_iter()
        .filter(|part| !starts(part, &["constraint"]))
        .flat_map(unnamed)
        .collect()
}

fn unnamed(part: &[Token]) -> Vec<usize> {
    let depth = part.first().map_or(0, |token| token.depth);
    let begins = |at: usize| part[at].depth == depth && NAMED.iter().any(|word| part[at].is(word));
    let named = |at: usize| at >= 2 && part[at - 2].is("constraint");
    // FOREIGN KEY … REFERENCES is one constraint.
    let of_foreign_key =
        |at: usize| part[at].is("references") && part[..at].iter().any(|token| token.is("foreign"));
    (0..part.len())
        .filter(|at| begins(*at) && !named(*at) && !of_foreign_key(*at))
        .map(|at| part[at].line)
        .collect()
}

pub(super) fn unnamed_index(subject: &Subject<'_>) -> Vec<usize> {
    let unnamed = shape::create_index(subject.tokens()).is_some_and(|index| index.name.is_none());
    flag(subject, unnamed)
}

/// Whether a time is read in the DEFAULT of a column (or domain).
fn is_in_default(tokens: &[Token], at: usize) -> bool {
    tokens[..at]
        .iter()
        .rev()
        .take_while(|token| {
            !["check", ",", "constraint", "as"]
                .iter()
                .any(|word| token.is(word))
        })
        .any(|token| token.is("default"))
}

pub(super) fn time_default(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let reads = time_reads(tokens)
        .into_iter()
        .filter(|at| is_in_default(tokens, *at));
    reads.map(|at| tokens[at].line).collect()
}

pub(super) fn time_read(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    let mut found: Vec<usize> = time_reads(tokens)
        .into_iter()
        .filter(|at| !is_in_default(tokens, *at))
        .map(|at| tokens[at].line)
        .collect();
    let in_trigger = shape::is_function(tokens) && has(tokens, &["returns", "trigger"]);
    for inner in &subject.body {
        let reads = time_reads(&inner.tokens)
            .into_iter()
            .map(|at| &inner.tokens[at]);
        found.extend(
            reads
                .filter(|token| !(in_trigger && token.is("clock_timestamp")))
                .map(|token| token.line),
        );
    }
    // Text that means the present time.
    let all = tokens
        .iter()
        .chain(subject.body.iter().flat_map(|inner| &inner.tokens));
    found.extend(
        all.filter(|token| {
            token.kind == TokenKind::Text
                && ["now", "today", "tomorrow", "yesterday"].contains(&token.text.as_str())
        })
        .map(|token| token.line),
    );
    found
}

pub(super) fn timestamp_without_zone(subject: &Subject<'_>) -> Vec<usize> {
    columns_of_type(subject, |kind, rest| {
        kind == "timestamp" && !has(rest, &["with", "time", "zone"])
    })
}

pub(super) fn unhashable_type(subject: &Subject<'_>) -> Vec<usize> {
    columns_of_type(subject, |kind, _| {
        ["json", "point", "bit", "tsvector", "xml"].contains(&kind)
    })
}

fn columns_of_type(subject: &Subject<'_>, is: impl Fn(&str, &[Token]) -> bool) -> Vec<usize> {
    columns(subject.tokens())
        .into_iter()
        .filter_map(|column| column.get(1).map(|kind| (kind, &column[2..])))
        .filter(|(kind, rest)| kind.kind == TokenKind::Word && is(&kind.text, rest))
        .map(|(kind, _)| kind.line)
        .collect()
}

fn is_security_definer(tokens: &[Token]) -> bool {
    shape::is_function(tokens) && has(tokens, &["security", "definer"])
}

pub(super) fn security_definer_search_path(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    flag(
        subject,
        is_security_definer(tokens) && !has(tokens, &["set", "search_path"]),
    )
}

pub(super) fn security_definer_public(subject: &Subject<'_>) -> Vec<usize> {
    let tokens = subject.tokens();
    // A trigger function cannot be called, but whoever may execute it can attach it to a table of its own.
    if !is_security_definer(tokens) {
        return Vec::new();
    }
    let name = shape::function_name(tokens);
    let revoked = subject.script.parsed.statements.iter().any(|statement| {
        let words = &statement.tokens;
        starts(words, &["revoke"])
            && has(words, &["from", "public"])
            && shape::function_name(words) == name
    });
    flag(subject, !revoked)
}

pub(super) fn notify(subject: &Subject<'_>) -> Vec<usize> {
    let statements = subject
        .body
        .iter()
        .map(|inner| &inner.tokens[..])
        .chain([subject.tokens()]);
    statements
        .flat_map(|tokens| {
            let called = lines(tokens, &["pg_notify", "("]);
            let said = positions(tokens, &["notify"])
                .into_iter()
                .filter(|at| *at == 0 || tokens[at - 1].is("begin"));
            called
                .into_iter()
                .chain(said.map(|at| tokens[at].line))
                .collect::<Vec<_>>()
        })
        .collect()
}

pub(super) fn psql_command(subject: &Subject<'_>) -> Vec<usize> {
    lines(subject.tokens(), &["\\"])
}

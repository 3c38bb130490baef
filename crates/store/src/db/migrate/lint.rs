//! Refuses statements that are unsafe on a database in use, with the safe recipe.
//!
//! Every rule stands in [`RULES`] with an example that breaks it and one that keeps it; a test holds both to it. A
//! rule is waived for one statement by a comment before it, which must give the reason:
//! `-- utxoiq: allow <rule> because <reason>`. Two rules cannot be waived, because `up` itself relies on them.
//!
//! "Existing" tables are those that the same file has not made: on a table that nobody else can see yet, everything
//! is quick and safe.

mod bounds;
mod locks;
mod rules;
mod shape;

use std::{collections::BTreeSet, fmt};

use super::{
    Direction, Migration, Script,
    sql::{self, Statement, Token, TokenKind},
};

pub use rules::RULES;

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, as waivers name it.
    pub name: &'static str,
    /// What is wrong and what to do instead.
    pub advice: &'static str,
    /// Which way the examples go.
    pub direction: Direction,
    /// A file that breaks it.
    pub bad: &'static str,
    /// A file that does what was wanted and breaks no rule.
    pub good: &'static str,
    /// The lines of a statement that break it.
    check: fn(&Subject<'_>) -> Vec<usize>,
}

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule's name.
    pub rule: &'static str,
    /// What is wrong and what to do instead.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}: {}",
            self.file, self.line, self.rule, self.advice
        )
    }
}

/// What a rule looks at.
struct Subject<'a> {
    script: &'a Script,
    statement: &'a Statement,
    /// Its place in the file, from 0.
    index: usize,
    /// Tables that the file made before.
    created: &'a BTreeSet<String>,
    /// The statements in its dollar-quoted bodies, with the file's lines.
    body: Vec<Statement>,
}

impl Subject<'_> {
    fn tokens(&self) -> &[Token] {
        &self.statement.tokens
    }

    fn line(&self) -> usize {
        self.statement.line
    }

    fn exists(&self, table: &str) -> bool {
        !self.created.contains(table)
    }
}

/// What breaks a rule in a set of migrations.
pub fn lint(migrations: &[Migration]) -> Vec<Finding> {
    migrations
        .iter()
        .flat_map(|migration| [&migration.up, &migration.down])
        .flat_map(lint_script)
        .collect()
}

/// What breaks a rule in one file.
pub fn lint_script(script: &Script) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut waivers = Waivers::read(script, &mut findings);
    if script.parsed.statements.is_empty() {
        findings.push(Finding {
            file: script.file.clone(),
            line: 1,
            rule: "empty-file",
            advice: "the file does nothing: a down file undoes exactly what its up file did"
                .to_owned(),
        });
    }
    for_each_subject(script, |subject| {
        for rule in RULES {
            let lines = (rule.check)(subject);
            if lines.is_empty()
                || (is_waivable(rule.name) && waivers.waive(rule.name, subject.index))
            {
                continue;
            }
            findings.extend(lines.into_iter().map(|line| Finding {
                file: script.file.clone(),
                line,
                rule: rule.name,
                advice: rule.advice.to_owned(),
            }));
        }
    });
    waivers.report_unused(script, &mut findings);
    findings.sort_by_key(|finding| finding.line);
    findings
}

/// The rules that `up` relies on: it refuses files that break one, waived or not.
const UNWAIVABLE: [&str; 2] = ["explicit-transaction", "one-statement"];

fn is_waivable(rule: &str) -> bool {
    !UNWAIVABLE.contains(&rule)
}

/// Why `up` and `down` cannot run a file: its record could not be one transaction with what it does.
pub(super) fn unrunnable(script: &Script) -> Option<Finding> {
    let mut findings = lint_script(script).into_iter();
    findings.find(|finding| !is_waivable(finding.rule))
}

/// The name of the index that a statement builds CONCURRENTLY.
pub(super) fn index_built_concurrently(statement: &Statement) -> Option<String> {
    let index = shape::create_index(&statement.tokens)?;
    index.concurrently.then_some(index.name).flatten()
}

/// Whether a statement can lose no data although it cannot be tried out first.
pub(super) fn is_index_change(statement: &Statement) -> bool {
    let tokens = &statement.tokens;
    shape::create_index(tokens).is_some() || shape::starts(tokens, &["drop", "index"])
}

fn for_each_subject(script: &Script, mut visit: impl FnMut(&Subject<'_>)) {
    let mut created = BTreeSet::new();
    for (index, statement) in script.parsed.statements.iter().enumerate() {
        visit(&Subject {
            script,
            statement,
            index,
            created: &created,
            body: bodies(statement),
        });
        created.extend(shape::create_table(&statement.tokens).map(|table| table.name));
    }
}

fn bodies(statement: &Statement) -> Vec<Statement> {
    let mut found = Vec::new();
    for token in statement
        .tokens
        .iter()
        .filter(|token| token.kind == TokenKind::Body)
    {
        let Ok(parsed) = sql::parse(&token.text) else {
            continue;
        };
        found.extend(parsed.statements.into_iter().map(|mut inner| {
            let offset = token.line - 1;
            inner.line += offset;
            inner
                .tokens
                .iter_mut()
                .for_each(|token| token.line += offset);
            inner
        }));
    }
    found
}

struct Waiver {
    rule: String,
    index: usize,
    line: usize,
    used: bool,
}

struct Waivers(Vec<Waiver>);

impl Waivers {
    fn read(script: &Script, findings: &mut Vec<Finding>) -> Self {
        let mut waivers = Vec::new();
        for directive in &script.parsed.directives {
            let Some(text) = directive.text.strip_prefix("allow ") else {
                continue;
            };
            match parse_waiver(text) {
                Ok(rule) => waivers.push(Waiver {
                    rule: rule.to_owned(),
                    index: directive.before,
                    line: directive.line,
                    used: false,
                }),
                Err(advice) => findings.push(bad_waiver(script, directive.line, advice)),
            }
        }
        Self(waivers)
    }

    fn waive(&mut self, rule: &str, index: usize) -> bool {
        let found = self
            .0
            .iter_mut()
            .find(|waiver| waiver.rule == rule && waiver.index == index);
        found.map(|waiver| waiver.used = true).is_some()
    }

    fn report_unused(&self, script: &Script, findings: &mut Vec<Finding>) {
        for waiver in self.0.iter().filter(|waiver| !waiver.used) {
            let advice = if is_waivable(&waiver.rule) {
                format!(
                    "the statement after it does not break {}: remove it",
                    waiver.rule
                )
            } else {
                format!("{} cannot be waived", waiver.rule)
            };
            findings.push(bad_waiver(script, waiver.line, advice));
        }
    }
}

fn bad_waiver(script: &Script, line: usize, advice: String) -> Finding {
    Finding {
        file: script.file.clone(),
        line,
        rule: "waiver",
        advice,
    }
}

fn parse_waiver(text: &str) -> Result<&str, String> {
    let (rule, reason) = text.split_once(" because ").unwrap_or((text, ""));
    let rule = rule.trim();
    if !RULES.iter().any(|known| known.name == rule) {
        return Err(format!("there is no rule {rule:?}"));
    }
    if reason.split_whitespace().count() < 2 {
        return Err(format!("say why: -- utxoiq: allow {rule} because <reason>"));
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(direction: Direction, sql: &str) -> Vec<&'static str> {
        let script = Script::new("0001_x_y.sql", direction, sql).unwrap();
        lint_script(&script)
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn every_rule_finds_its_bad_example_and_nothing_finds_its_good_one() {
        for rule in RULES {
            let bad = names(rule.direction, rule.bad);
            assert!(
                bad.contains(&rule.name),
                "{}: {bad:?} in {}",
                rule.name,
                rule.bad
            );
            let good = names(rule.direction, rule.good);
            assert!(good.is_empty(), "{}: {good:?} in {}", rule.name, rule.good);
        }
        let unique: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(unique.len(), RULES.len());
    }

    #[test]
    fn the_embedded_migrations_break_no_rule() {
        let findings = lint(&super::super::source::embedded().unwrap());
        let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{}", shown.join("\n"));
    }

    #[test]
    fn a_waiver_needs_a_known_rule_a_reason_and_a_statement_that_breaks_it() {
        let rename = "alter table t rename column a to b;";
        let waived =
            |text: &str| names(Direction::Up, &format!("-- utxoiq: allow {text}\n{rename}"));
        assert_eq!(
            waived("rename because the table is not read yet"),
            Vec::<&str>::new()
        );
        assert_eq!(waived("rename"), ["waiver", "rename"]);
        assert_eq!(waived("rename because"), ["waiver", "rename"]);
        assert_eq!(
            waived("renames because nobody reads it"),
            ["waiver", "rename"]
        );
        assert_eq!(
            waived("truncate because nobody reads it"),
            ["waiver", "rename"]
        );
        // It holds for one statement only.
        let twice = format!("-- utxoiq: allow rename because the table is new\n{rename}\n{rename}");
        assert_eq!(names(Direction::Up, &twice), ["rename"]);
        let commit = "-- utxoiq: allow explicit-transaction because I want it\ncommit;";
        assert_eq!(
            names(Direction::Up, commit),
            ["waiver", "explicit-transaction"]
        );
    }

    #[test]
    fn findings_name_file_and_line() {
        let script =
            Script::new("0007_x_y.up.sql", Direction::Up, "select 1;\n\ntruncate t;").unwrap();
        let shown = lint_script(&script)[0].to_string();
        assert!(
            shown.starts_with("0007_x_y.up.sql:3: truncate: "),
            "{shown}"
        );
    }

    #[test]
    fn tables_of_the_same_file_may_be_changed_freely() {
        let sql = "create table t (a int);
            create index t_a on t (a);
            alter table t add constraint t_a_positive check (a > 0);
            alter table only public.t alter column a set not null;";
        assert_eq!(names(Direction::Up, sql), Vec::<&str>::new());
    }

    #[test]
    fn words_in_comments_strings_and_names_are_no_statements() {
        let sql = "-- truncate t;\ncreate table \"truncate\" (\"check\" text, timestamp timestamptz not null);
            comment on table \"truncate\" is 'now() is forbidden; drop table x cascade';";
        assert_eq!(names(Direction::Up, sql), Vec::<&str>::new());
    }
}

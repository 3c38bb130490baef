//! The schema as sorted lines of text: what a migration decides, and nothing that the service does by itself.
//!
//! Lines make drift readable: what is there and was not recorded is `+`, what was recorded and is gone is `-`.
//! Partitions are left out, and functions show a hash of their body.

use super::session::Session;
use crate::error::Result;

const QUERY: &str = include_str!("catalogue.sql");

/// What the query leaves out of the relations because no migration decides it.
const DECIDED: [&str; 3] = [
    "\n      and not c.relispartition",
    "\n      and not (n.nspname = 'public' and c.relname ~ '^schema_migrations')",
    "
      and not exists (
          select from pg_class parent
          where parent.relkind = 'p' and parent.relnamespace = c.relnamespace
            and starts_with(c.relname, parent.relname || '_')
            and substr(c.relname, length(parent.relname) + 2) ~ '^[0-9]'
      )",
];

/// The query for the lines of all relations, and of what partitions hold.
pub(super) fn whole() -> String {
    DECIDED
        .iter()
        .fold(QUERY.to_owned(), |sql, left_out| sql.replacen(left_out, "", 1))
        + "
union all
select format('partition %s of %s %s', c.oid::regclass, i.inhparent::regclass, pg_get_expr(c.relpartbound, c.oid))
from pg_class c join pg_inherits i on i.inhrelid = c.oid
where c.relispartition and c.relkind in ('r', 'p')"
}

/// One line of difference between two catalogues.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// Recorded, and gone.
    Missing(String),
    /// There, and not recorded.
    Extra(String),
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(line) => write!(f, "- {line}"),
            Self::Extra(line) => write!(f, "+ {line}"),
        }
    }
}

/// The present catalogue.
pub(super) async fn read(session: &Session) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = session.query(QUERY, &[]).await?;
    // Sorted here: the database's order depends on its collation.
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| row.get::<_, String>(0).replace('\n', " "))
        .collect();
    lines.sort_unstable();
    Ok(lines)
}

/// What differs, in the order of the lines.
pub(super) fn compare(recorded: &[String], present: &[String]) -> Vec<Drift> {
    let missing = recorded
        .iter()
        .filter(|line| present.binary_search(line).is_err());
    let extra = present
        .iter()
        .filter(|line| recorded.binary_search(line).is_err());
    let mut drift: Vec<Drift> = missing
        .cloned()
        .map(Drift::Missing)
        .chain(extra.cloned().map(Drift::Extra))
        .collect();
    drift.sort_by(|a, b| text(a).cmp(text(b)).then_with(|| a.cmp(b)));
    drift
}

fn text(drift: &Drift) -> &str {
    match drift {
        Drift::Missing(line) | Drift::Extra(line) => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_left_out_of_the_query_is_found_in_it() {
        for left_out in DECIDED {
            assert_eq!(QUERY.matches(left_out).count(), 1, "{left_out}");
        }
    }

    #[test]
    fn a_changed_line_is_shown_as_gone_and_new_side_by_side() {
        let lines = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let drift = compare(&lines(&["a", "b 1", "c"]), &lines(&["a", "b 2", "c", "d"]));
        let shown: Vec<String> = drift.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["- b 1", "+ b 2", "+ d"]);
    }
}

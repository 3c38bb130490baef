//! A new pair of files (C5.2): the next number, the time, and the safe recipes at hand.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};

use super::source::{self, is_verb_noun, label};
use crate::error::{Error, Result};

/// Writes the pair for a migration `verb_noun` into a folder and returns the two paths, up first.
///
/// Both files get the next free number and `now`. Nothing that exists is overwritten.
pub fn new_pair(dir: &Path, name: &str, now: DateTime<Utc>) -> Result<[PathBuf; 2]> {
    if !is_verb_noun(name) {
        return Err(Error::invalid(
            "migration_invalid",
            format!(
                "{name:?} is not verb_noun: lower-case words joined by underscores, a verb first, as in add_job_priority"
            ),
        ));
    }
    let last = source::from_dir(dir)?
        .last()
        .map_or(0, |migration| migration.number);
    if last >= 9_999 {
        return Err(Error::invalid(
            "migration_invalid",
            "9999 is the last number: squash old migrations",
        ));
    }
    let label = label(last + 1, name);
    let stamp = now.format("%Y-%m-%dT%H:%M:%SZ");
    let paths = [
        dir.join(format!("{label}.up.sql")),
        dir.join(format!("{label}.down.sql")),
    ];
    write(&paths[0], &format!("-- {label}\n-- created: {stamp}\n{UP}"))?;
    write(
        &paths[1],
        &format!("-- {label}\n-- created: {stamp}\n{DOWN}"),
    )?;
    Ok(paths)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let outcome = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path);
    outcome
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            Error::invalid(
                "migration_invalid",
                format!("{} could not be written: {error}", path.display()),
            )
        })
}

const UP: &str = "\
--
-- Why: (what this is for, and what depends on it)
--
-- The release before keeps serving while and after this runs: add, do not change. If it can serve on the result, say
-- so on a line of its own at the top: \"-- utxoiq: backward-compatible\".
--
-- The safe recipes, each step a migration of its own:
--   index         \"-- utxoiq: no-transaction\" at the top, then only
--                 CREATE INDEX CONCURRENTLY IF NOT EXISTS table_column ON table (column)
--   constraint    ADD CONSTRAINT table_column_rule CHECK (…) NOT VALID; then VALIDATE CONSTRAINT
--   not null      CHECK (column IS NOT NULL) NOT VALID; then VALIDATE; then SET NOT NULL and drop the CHECK
--   new column    nullable, or with a constant default; fill old rows in bounded batches
--   other type    add a column, write both, fill, read the new one; drop the old one a release later
--   rename        add the new name beside the old one; drop the old one a release later
--
-- Name every constraint and index, give times no default, grant each role what it needs:
--   GRANT SELECT, INSERT, UPDATE ON table TO utxoiq_app;

";

const DOWN: &str = "\
--
-- Undoes exactly what the up file did, in reverse order. `migrate down` finds out by itself what that would lose.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_pair_gets_the_next_number_and_the_time_and_is_a_valid_migration() {
        let dir = tempfile::tempdir().unwrap();
        let now = DateTime::from_timestamp(1_767_323_045, 0).unwrap();
        new_pair(dir.path(), "create_first", now).unwrap();
        let [up, down] = new_pair(dir.path(), "add_second_2", now).unwrap();
        assert!(
            up.ends_with("0002_add_second_2.up.sql")
                && down.ends_with("0002_add_second_2.down.sql")
        );
        for path in [up, down] {
            let text = std::fs::read_to_string(path).unwrap();
            assert!(
                text.starts_with("-- 0002_add_second_2\n-- created: 2026-01-02T03:04:05Z\n"),
                "{text}"
            );
        }
        let migrations = source::from_dir(dir.path()).unwrap();
        assert_eq!(migrations.len(), 2);
        assert!(
            migrations
                .iter()
                .all(|migration| migration.up.in_transaction && !migration.up.backward_compatible)
        );
    }

    #[test]
    fn a_name_that_is_not_verb_noun_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "add",
            "Add_job",
            "add job",
            "../add_job",
            "2_jobs",
            "add__job",
            "",
        ] {
            let refused = new_pair(dir.path(), name, DateTime::UNIX_EPOCH)
                .unwrap_err()
                .to_string();
            assert!(refused.contains("verb_noun"), "{refused}");
        }
    }
}

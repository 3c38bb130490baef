//! Migrations (C5).

use super::{found, guarded, of, probed};
use crate::{
    db::migrate::Migrator,
    slo::{
        Finding, Source, Verdict,
        evidence::{Gathered, Migration},
    },
};

/// What was applied; a finding where there is no table of it, or it cannot be read.
fn applied(gathered: &Gathered) -> Result<&[Migration], Finding> {
    match of(&gathered.migrations, Source::Rows)? {
        Some(applied) => Ok(applied),
        None => Err(Finding::missed(
            Source::Rows,
            "there is no table schema_migrations: run `utxoiq-store migrate up`",
        )),
    }
}

fn ours() -> Result<Migrator, Finding> {
    Migrator::embedded()
        .map_err(|error| Finding::unknown(Source::Setting, error.message().to_owned()))
}

/// C5.1: every migration of this release is recorded as it is.
pub fn table(gathered: &Gathered) -> Verdict {
    let recorded = applied(gathered).and_then(|applied| {
        let ours = ours()?;
        let other = ours.migrations().iter().find(|migration| {
            let recorded = applied
                .iter()
                .find(|record| record.number == migration.number);
            recorded.is_some_and(|record| record.up_checksum != migration.up.checksum)
        });
        let count = applied.len() as u64;
        let first_at = applied.iter().map(|record| record.applied_at).min();
        if count == 0 {
            return Ok(Finding::missed(
                Source::Rows,
                "schema_migrations is empty although there is a schema",
            ));
        }
        Ok(Finding::holds(
            other.is_none(),
            Source::Rows,
            format!("schema_migrations has {count} migrations, each with its time and checksum"),
            other.map_or_else(String::new, |one| {
                format!(
                    "{} was applied with another content than this release has",
                    one.label()
                )
            }),
        )
        .measuring(count as f64, "migrations")
        .of(count)
        .from(first_at))
    });
    Verdict::of(
        found(recorded),
        [guarded(gathered, &["constraint schema_migrations_pkey"])],
    )
}

/// C5.2: tried, and so for all that there are.
pub fn new_ones(gathered: &Gathered) -> Verdict {
    let numbers = applied(gathered).map(|applied| {
        let gap = (1..)
            .zip(applied)
            .find(|(number, one)| *number != one.number);
        Finding::holds(
            gap.is_none(),
            Source::Rows,
            format!(
                "the numbers of the applied ones are 1 to {} without a gap",
                applied.len()
            ),
            gap.map_or_else(String::new, |(number, one)| {
                format!(
                    "where {number:04} should be, {:04}_{} was applied",
                    one.number, one.name
                )
            }),
        )
        .of(applied.len() as u64)
    });
    Verdict::of(probed(gathered, "C5.2"), [found(numbers)])
}

/// C5.3: nothing is pending, and what was applied was applied in order.
pub fn pending(gathered: &Gathered) -> Verdict {
    let none = applied(gathered).and_then(|applied| {
        let ours = ours()?;
        let pending: Vec<String> = ours
            .migrations()
            .iter()
            .filter(|migration| {
                !applied
                    .iter()
                    .any(|record| record.number == migration.number)
            })
            .map(crate::db::migrate::Migration::label)
            .collect();
        if !pending.is_empty() {
            let text = format!(
                "pending: {}; run `utxoiq-store migrate up`",
                pending.join(", ")
            );
            return Ok(Finding::missed(Source::Rows, text)
                .measuring(pending.len() as f64, "pending")
                .of(pending.len() as u64));
        }
        let early = applied
            .windows(2)
            .find(|pair| pair[1].applied_at < pair[0].applied_at);
        Ok(Finding::holds(
            early.is_none(),
            Source::Rows,
            "nothing is pending, and each was applied after the one before it",
            early.map_or_else(String::new, |pair| {
                format!(
                    "{:04}_{} was applied before {:04}_{}",
                    pair[1].number, pair[1].name, pair[0].number, pair[0].name
                )
            }),
        )
        .measuring(0.0, "pending")
        .of(applied.len() as u64)
        .from(applied.iter().map(|record| record.applied_at).max()))
    });
    Verdict::of(found(none), [probed(gathered, "C5.3")])
}

/// C5.4: tried, and the way back of the newest one is kept.
pub fn rollback(gathered: &Gathered) -> Verdict {
    let kept = applied(gathered).map(|applied| match applied.last() {
        None => Finding::unknown(Source::Rows, "nothing was applied"),
        Some(newest) => Finding::holds(
            newest.has_way_back,
            Source::Rows,
            format!(
                "the way back of {:04}_{} is kept in the database",
                newest.number, newest.name
            ),
            format!(
                "the way back of {:04}_{} is not kept in the database",
                newest.number, newest.name
            ),
        ),
    });
    Verdict::of(probed(gathered, "C5.4"), [found(kept)])
}

/// C5.5: tried, and no number can be there twice.
pub fn once(gathered: &Gathered) -> Verdict {
    let twice = applied(gathered).map(|applied| {
        let twice = applied
            .windows(2)
            .find(|pair| pair[0].number == pair[1].number);
        Finding::holds(
            twice.is_none(),
            Source::Rows,
            format!("each of {} is recorded once", applied.len()),
            twice.map_or_else(String::new, |pair| {
                format!("{:04} is recorded twice", pair[0].number)
            }),
        )
        .of(applied.len() as u64)
    });
    let guard = guarded(gathered, &["constraint schema_migrations_pkey"]);
    Verdict::of(probed(gathered, "C5.5"), [found(twice), guard])
}

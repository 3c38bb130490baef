//! Whether a restored database is what was backed up.
//!
//! # What is compared
//!
//! | | with the manifest |
//! |---|---|
//! | tables | the same ones, partitions one by one |
//! | rows | of each table the same number and the same [fingerprint](super::fingerprint) |
//! | sequences | the same ones, none behind, and none behind the greatest value in its column |
//! | migrations | the same last one; their table is one of the tables |
//! | catalogue | every line: columns, constraints, indexes and whether they are valid, triggers, functions, owners, grants |
//! | indexes | what amcheck says of each, where that extension may be used |
//!
//! An extension that the restored database has beside those of the backup is no difference: some servers put one into every
//! database. Where the server is of another major version, views are compared without what qualifies their columns. An archive that the cold store does not have is shown, and is no difference of the database's.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::{
    Manifest, Progress,
    connection::Target,
    fingerprint::fingerprints,
    manifest::Fingerprint,
    queries::{source, target},
    restore::is_refusal,
    snapshot,
};
use crate::{
    cold::{ColdStore, ObjectKey},
    db::Dedicated,
    error::{Error, Result},
};

/// How many archives are asked for at once.
const ASKED_AT_ONCE: usize = 8;

/// How many differences, and how many archives, are told one by one.
const MOST: usize = 200;

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is about: `table public.x`, `sequence public.y`, `catalogue`.
    pub object: String,
    /// What is different.
    pub difference: String,
}

impl Difference {
    fn new(object: impl Into<String>, difference: impl Into<String>) -> Self {
        Self {
            object: object.into(),
            difference: difference.into(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.difference)
    }
}

/// What came of comparing a restored database with its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Comparison {
    /// How many tables were compared.
    pub tables: usize,
    /// How many rows they have.
    pub rows: i64,
    /// How many sequences were compared.
    pub sequences: usize,
    /// How many lines the catalogue has.
    pub catalogue_lines: usize,
    /// The last migration.
    pub schema_version: i32,
    /// How many indexes amcheck looked at; `None` where it may not be used there.
    pub indexes_checked: Option<usize>,
    /// What is different: the first 200.
    pub differences: Vec<Difference>,
    /// How much is different.
    pub differences_total: usize,
    /// The archives that the database counts on and the cold store does not have, by their keys: the first 200. `None` where no
    /// cold store was asked.
    pub archives_missing: Option<Vec<String>>,
    /// How many archives the database counts on.
    pub archives: usize,
    /// How long the comparison took.
    pub compare_milliseconds: i64,
}

impl Comparison {
    /// Whether nothing is different.
    pub fn is_equal(&self) -> bool {
        self.differences_total == 0
    }

    /// The differences in one sentence: the first ones by their names.
    pub fn summary(&self) -> String {
        const NAMED: usize = 5;
        let mut named: Vec<String> = self
            .differences
            .iter()
            .take(NAMED)
            .map(ToString::to_string)
            .collect();
        if self.differences_total > NAMED {
            named.push(format!("and {} more", self.differences_total - NAMED));
        }
        named.join("; ")
    }

    fn found(&mut self, difference: Difference) {
        if self.differences.len() < MOST {
            self.differences.push(difference);
        }
        self.differences_total += 1;
    }
}

/// Compares the database with the manifest of the backup that was restored into it.
pub(super) async fn compare(
    at: &Target,
    manifest: &Manifest,
    connections: usize,
    cold: Option<&ColdStore>,
    progress: &Progress,
) -> Result<Comparison> {
    let began = Instant::now();
    progress.begin("comparing", 0);
    let connection = at.open("utxoiq-store restore proof").await?;
    connection.batch_execute(source::SETTINGS).await?;
    let tables = snapshot::tables(&connection).await?;
    let mut found = Comparison::default();
    let (fingerprints, archives) = tokio::join!(
        fingerprints(at, None, &tables, connections, progress),
        missing_archives(manifest, cold)
    );
    let fingerprints = fingerprints?;
    compare_tables(&manifest.tables, &fingerprints, &mut found);
    compare_sequences(&connection, &manifest.sequences, &mut found).await?;
    let facts = snapshot::facts(&connection).await?;
    found.schema_version = facts.schema_version;
    if facts.schema_version != manifest.source.schema_version {
        found.found(Difference::new(
            "migrations",
            format!(
                "the last one is {} instead of {}",
                facts.schema_version, manifest.source.schema_version
            ),
        ));
    }
    let catalogue = snapshot::catalogue(&connection).await?;
    let spell: Spelling =
        if facts.server_version_num / 10_000 == manifest.source.server_version_num / 10_000 {
            as_it_is
        } else {
            without_qualifiers
        };
    compare_catalogue(&manifest.catalogue, &catalogue, spell, &mut found);
    found.indexes_checked = check_indexes(&connection, &mut found).await?;
    connection.close().await;
    found.archives = manifest.archives.len();
    found.archives_missing = archives;
    found.compare_milliseconds = milliseconds(began);
    Ok(found)
}

/// How long it has been, in milliseconds.
pub(super) fn milliseconds(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}

fn compare_tables(
    wanted: &BTreeMap<String, Fingerprint>,
    present: &BTreeMap<String, Fingerprint>,
    found: &mut Comparison,
) {
    for (name, wanted) in wanted {
        let difference = match present.get(name) {
            None => "is missing".to_owned(),
            Some(present) if present.rows != wanted.rows => {
                format!("{} rows instead of {}", present.rows, wanted.rows)
            }
            Some(present) if present.hash != wanted.hash => {
                format!("its {} rows have other values", present.rows)
            }
            Some(_) => continue,
        };
        found.found(Difference::new(format!("table {name}"), difference));
    }
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        found.found(Difference::new(
            format!("table {name}"),
            "is not in the backup",
        ));
    }
    found.tables = present.len();
    found.rows = present.values().map(|table| table.rows).sum();
}

async fn compare_sequences(
    connection: &Dedicated,
    wanted: &BTreeMap<String, i64>,
    found: &mut Comparison,
) -> Result<()> {
    let rows = connection.query(source::SEQUENCES.sql, &[]).await?;
    let mut present = BTreeMap::new();
    for row in &rows {
        let name: String = row.try_get("name")?;
        let last: i64 = row.try_get("last_value")?;
        let column: Option<(String, String)> = row
            .try_get::<_, Option<String>>("of_table")?
            .zip(row.try_get::<_, Option<String>>("of_column")?);
        if let Some((table, column)) = column {
            let sql = target::greatest(&table, &column);
            let greatest: Option<i64> =
                connection.query_one(&sql, &[]).await?.try_get("greatest")?;
            if let Some(greatest) = greatest.filter(|greatest| *greatest > last) {
                found.found(Difference::new(
                    format!("sequence {name}"),
                    format!("it stands at {last}, behind {greatest} in {table}.{column}"),
                ));
            }
        }
        present.insert(name, last);
    }
    for (name, wanted) in wanted {
        let difference = match present.get(name) {
            None => "is missing".to_owned(),
            Some(present) if present < wanted => {
                format!("it stands at {present}, behind {wanted} in the backup")
            }
            Some(_) => continue,
        };
        found.found(Difference::new(format!("sequence {name}"), difference));
    }
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        found.found(Difference::new(
            format!("sequence {name}"),
            "is not in the backup",
        ));
    }
    found.sequences = present.len();
    Ok(())
}

/// How a line of the catalogue is spelt to be compared.
type Spelling = fn(&str) -> Cow<'_, str>;

fn as_it_is(line: &str) -> Cow<'_, str> {
    line.into()
}

/// A view's line without what stands before its columns: servers from version 16 on write that only where it is needed.
///
/// Source: `get_variable` in PostgreSQL's `src/backend/utils/adt/ruleutils.c`.
fn without_qualifiers(line: &str) -> Cow<'_, str> {
    if !line.starts_with("view ") {
        return line.into();
    }
    let is_of_a_name = |c: char| c.is_alphanumeric() || c == '_' || c == '"';
    let mut text = String::with_capacity(line.len());
    // Where what is being read began.
    let mut began = 0;
    for c in line.chars() {
        let qualifies = text[began..].starts_with(|c: char| !c.is_ascii_digit());
        if c == '.' && qualifies {
            text.truncate(began);
            continue;
        }
        text.push(c);
        if !is_of_a_name(c) {
            began = text.len();
        }
    }
    text.into()
}

/// Compares the sorted lines of two catalogues; how often a line is there counts.
fn compare_catalogue(
    wanted: &[String],
    present: &[String],
    spell: Spelling,
    found: &mut Comparison,
) {
    let mut balance: BTreeMap<Cow<'_, str>, i64> = BTreeMap::new();
    for line in wanted {
        *balance.entry(spell(line)).or_default() -= 1;
    }
    for line in present {
        *balance.entry(spell(line)).or_default() += 1;
    }
    for (line, balance) in balance {
        let difference = match balance {
            0 => continue,
            1.. if line.starts_with("extension ") => continue,
            1.. => format!("not in the backup: {line}"),
            _ => format!("missing: {line}"),
        };
        found.found(Difference::new("catalogue", difference));
    }
    found.catalogue_lines = present.len();
}

/// Checks every index with amcheck and leaves nothing of that extension; `None` where it may not be used.
async fn check_indexes(connection: &Dedicated, found: &mut Comparison) -> Result<Option<usize>> {
    connection.batch_execute("begin").await?;
    if let Err(error) = connection.batch_execute(target::AMCHECK).await {
        connection.batch_execute("rollback").await?;
        return if is_refusal(&error) {
            Ok(None)
        } else {
            Err(error.into())
        };
    }
    let mut checked = Some(0);
    for row in connection.query(target::BTREES.sql, &[]).await? {
        let (oid, name): (u32, String) = (row.try_get("oid")?, row.try_get("name")?);
        connection.batch_execute("savepoint one").await?;
        let outcome = connection.query(target::CHECK_BTREE, &[&oid]).await;
        let Err(error) = outcome else {
            checked = checked.map(|checked| checked + 1);
            continue;
        };
        connection.batch_execute("rollback to one").await?;
        if is_refusal(&error) {
            checked = None;
            break;
        }
        let Some(error) = error.as_db_error() else {
            return Err(error.into());
        };
        found.found(Difference::new(format!("index {name}"), error.message()));
    }
    connection.batch_execute("rollback").await?;
    Ok(checked)
}

/// The archives that the cold store does not have, or has in another size; `None` where it was not, or could not be, asked.
async fn missing_archives(manifest: &Manifest, cold: Option<&ColdStore>) -> Option<Vec<String>> {
    let cold = cold?.clone();
    let asked = stream::iter(manifest.archives.clone())
        .map(move |archive| {
            let cold = cold.clone();
            async move {
                let size = match ObjectKey::parse(&archive.object) {
                    Some(key) => cold.size(key).await?,
                    None => None,
                };
                let size = size.and_then(|size| i64::try_from(size).ok());
                let is_there = size == Some(archive.bytes);
                Ok::<_, Error>((!is_there).then_some(archive.object))
            }
        })
        .buffered(ASKED_AT_ONCE)
        .try_filter_map(|missing| async move { Ok(missing) })
        .take(MOST)
        .try_collect::<Vec<_>>()
        .await;
    match asked {
        Ok(missing) => Some(missing),
        Err(error) => {
            tracing::warn!(error = %error.report(), "the cold store could not be asked for the archives of a restored database");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn an_extension_more_is_no_difference_and_a_line_that_is_there_twice_is_one() {
        let mut found = Comparison::default();
        compare_catalogue(
            &lines(&["extension a", "grant x", "index y", "index y"]),
            &lines(&["extension a", "extension b", "grant x", "index y"]),
            as_it_is,
            &mut found,
        );
        assert_eq!(found.summary(), "catalogue: missing: index y");
        compare_catalogue(
            &lines(&["extension a"]),
            &lines(&["grant x"]),
            as_it_is,
            &mut found,
        );
        assert_eq!(
            found.summary(),
            "catalogue: missing: index y; catalogue: missing: extension a; catalogue: not in the backup: grant x"
        );
    }

    #[test]
    fn a_view_is_the_same_however_its_columns_are_qualified_and_another_one_is_not() {
        let older = "view public.v as SELECT t1.id, (t1.a)::text AS a, 1.5 AS n FROM (t JOIN public.u ON (t.id = u.id)) WHERE t.a <> 'x'";
        let newer = "view v as SELECT id, (a)::text AS a, 1.5 AS n FROM (t JOIN u ON (id = id)) WHERE a <> 'x'";
        assert_eq!(without_qualifiers(older), newer);
        let other = newer.replace("1.5", "1.6");
        assert_ne!(without_qualifiers(&other), newer);
        assert_eq!(without_qualifiers("index on public.t"), "index on public.t");
        // The same version spells it the same.
        let mut found = Comparison::default();
        compare_catalogue(&lines(&[older]), &lines(&[newer]), as_it_is, &mut found);
        assert_eq!(found.differences_total, 2);
    }

    #[test]
    fn differences_are_told_up_to_a_limit_and_counted_beyond() {
        let mut found = Comparison::default();
        for number in 0..500 {
            found.found(Difference::new(format!("table t{number}"), "is missing"));
        }
        assert_eq!(
            (found.differences.len(), found.differences_total),
            (MOST, 500)
        );
        assert!(
            found
                .summary()
                .ends_with("table t4: is missing; and 495 more")
        );
    }
}

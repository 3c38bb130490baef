//! Archives as people read them.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use utxoiq_store::{
    cold::Manifest,
    retention::{ArchiveView, Verified, Whereabouts},
};

use crate::{
    output::plain,
    table::{Side, table},
};

/// How many characters of a hash a table shows.
const SHOWN_HASH: usize = 12;

pub fn short(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%MZ").to_string()
}

fn count(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn begin_of(hash: Option<&String>) -> String {
    let hash = hash.and_then(|hash| hash.get(..SHOWN_HASH));
    hash.unwrap_or("-").to_owned()
}

/// A table of archives.
pub fn archives(archives: &[ArchiveView]) -> String {
    let rows: Vec<[String; 8]> = archives
        .iter()
        .map(|archive| {
            let last = archive.ended_at.or(archive.archived_at);
            [
                archive.day.to_string(),
                archive.dataset.to_owned(),
                archive.part.to_string(),
                archive.state.to_string(),
                count(archive.rows),
                count(archive.bytes),
                short(last.unwrap_or(archive.began_at)),
                archive.id.to_string(),
            ]
        })
        .collect();
    let columns = [
        ("DAY", Side::Left),
        ("DATASET", Side::Left),
        ("PART", Side::Right),
        ("STATE", Side::Left),
        ("ROWS", Side::Right),
        ("BYTES", Side::Right),
        ("SINCE", Side::Left),
        ("ID", Side::Left),
    ];
    table(columns, &rows)
}

/// One archive, a line a fact.
pub fn archive(archive: &ArchiveView, manifest: Option<&Manifest>) -> String {
    let time = |time: Option<DateTime<Utc>>| time.map_or_else(|| "-".to_owned(), short);
    let text = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), plain);
    let mut rows = vec![
        ("archive", archive.id.to_string()),
        ("of", format!("{} of {}", archive.dataset, archive.day)),
        ("state", archive.state.to_string()),
        ("object", archive.object.clone()),
        ("rows", count(archive.rows)),
        ("bytes", count(archive.bytes)),
        ("sha256", text(&archive.sha256)),
        ("content sha256", text(&archive.content_sha256)),
        ("began", short(archive.began_at)),
        ("proved", time(archive.proved_at)),
        ("archived", time(archive.archived_at)),
        ("ended", time(archive.ended_at)),
        ("why", text(&archive.end_reason)),
        ("object gone", time(archive.removed_at)),
    ];
    if let Some(replaces) = archive.replaces {
        rows.push(("replaces", replaces.to_string()));
    }
    if let Some(manifest) = manifest {
        rows.push(("written by", manifest.program.clone()));
        rows.push(("schema version", manifest.schema_version.to_string()));
        if let Some(head) = &manifest.audit_head {
            rows.push(("audit head", format!("{}:{}", head.sequence, head.hash)));
        }
    }
    let mut shown = String::new();
    for (name, value) in rows {
        let _ = writeln!(shown, "{name:<15} {value}");
    }
    if let Some(manifest) = manifest {
        shown.push('\n');
        shown.push_str(&columns(manifest));
    }
    shown
}

fn columns(manifest: &Manifest) -> String {
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), plain);
    let rows: Vec<[String; 4]> = manifest
        .columns
        .iter()
        .map(|column| {
            [
                column.name.clone(),
                column.nulls.to_string(),
                value(&column.min),
                value(&column.max),
            ]
        })
        .collect();
    let columns = [
        ("COLUMN", Side::Left),
        ("NULLS", Side::Right),
        ("LEAST", Side::Left),
        ("GREATEST", Side::Left),
    ];
    table(columns, &rows)
}

/// Where a day is: a line a dataset, its archives, and what the audit log says.
pub fn whereabouts(found: &[Whereabouts]) -> String {
    let rows: Vec<[String; 4]> = found
        .iter()
        .map(|is| {
            [
                is.dataset.to_owned(),
                is.place.name().to_owned(),
                is.hot_rows.to_string(),
                is.cold_rows.to_string(),
            ]
        })
        .collect();
    let columns = [
        ("DATASET", Side::Left),
        ("WHERE", Side::Left),
        ("HOT ROWS", Side::Right),
        ("COLD ROWS", Side::Right),
    ];
    let mut shown = table(columns, &rows);
    for is in found {
        if !is.archives.is_empty() {
            let _ = write!(
                shown,
                "\narchives of {}\n{}",
                is.dataset,
                objects(&is.archives)
            );
        }
        if !is.proof.is_empty() {
            let _ = write!(shown, "\nthe audit log about {}\n{}", is.dataset, proof(is));
        }
    }
    shown
}

fn objects(archives: &[ArchiveView]) -> String {
    let rows: Vec<[String; 5]> = archives
        .iter()
        .map(|archive| {
            [
                archive.state.to_string(),
                count(archive.rows),
                begin_of(archive.sha256.as_ref()),
                short(
                    archive
                        .ended_at
                        .or(archive.archived_at)
                        .unwrap_or(archive.began_at),
                ),
                archive.object.clone(),
            ]
        })
        .collect();
    let columns = [
        ("STATE", Side::Left),
        ("ROWS", Side::Right),
        ("SHA256", Side::Left),
        ("SINCE", Side::Left),
        ("OBJECT", Side::Left),
    ];
    table(columns, &rows)
}

fn proof(is: &Whereabouts) -> String {
    let rows: Vec<[String; 6]> = is
        .proof
        .iter()
        .map(|entry| {
            [
                entry.sequence.to_string(),
                short(entry.at),
                plain(&entry.actor),
                plain(&entry.action),
                count(entry.rows),
                entry.reason.as_deref().map(plain).unwrap_or_default(),
            ]
        })
        .collect();
    let columns = [
        ("ENTRY", Side::Right),
        ("AT (UTC)", Side::Left),
        ("ACTOR", Side::Left),
        ("ACTION", Side::Left),
        ("ROWS", Side::Right),
        ("WHY", Side::Left),
    ];
    table(columns, &rows)
}

/// What a verification found.
pub fn verified(verified: &Verified) -> String {
    let Verified {
        archives,
        rows,
        bytes,
        faults,
        audited_as,
    } = verified;
    let mut shown = format!(
        "{archives} archives with {rows} rows in {bytes} bytes were read back; entry {audited_as} of the audit log\n"
    );
    if faults.is_empty() {
        shown.push_str("all is as it was recorded\n");
        return shown;
    }
    let rows: Vec<[String; 3]> = faults
        .iter()
        .map(|fault| {
            [
                fault.wrong.name().to_owned(),
                plain(&fault.object),
                plain(&fault.message),
            ]
        })
        .collect();
    let columns = [
        ("WRONG", Side::Left),
        ("OBJECT", Side::Left),
        ("WHAT", Side::Left),
    ];
    shown.push_str(&table(columns, &rows));
    shown
}

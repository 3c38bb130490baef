//! What came of a restore or a drill, as a terminal shows it.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use utxoiq_store::backup::{Comparison, Difference, Outcome, Proof, Restored};

use crate::{
    output::{out, outln, plain},
    table::{Side, table},
};

/// A restored database, and whether it is equal. Not being so is an exit code of its own.
pub fn restored(restored: &Restored, json: bool) -> anyhow::Result<ExitCode> {
    let manifest = &restored.manifest;
    if json {
        let told = json!({
            "backup_id": manifest.backup_id,
            "object": manifest.object,
            "backup_started_at": manifest.started_at.to_rfc3339(),
            "restore_milliseconds": restored.restore_milliseconds,
            "proved": restored.comparison.is_equal(),
            "comparison": restored.comparison,
        });
        outln!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(code(&restored.comparison));
    }
    outln!("backup     {}", manifest.backup_id);
    outln!("moment     {}", time(manifest.started_at));
    outln!("restored   in {}", seconds(restored.restore_milliseconds));
    comparison(&restored.comparison, false)
}

/// What came of comparing.
pub fn comparison(comparison: &Comparison, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        outln!("{}", serde_json::to_string_pretty(comparison)?);
        return Ok(code(comparison));
    }
    outln!("compared   in {}", seconds(comparison.compare_milliseconds));
    outln!(
        "           {} tables, {} rows, {} sequences, {} lines of the catalogue, migration {:04}",
        comparison.tables,
        comparison.rows,
        comparison.sequences,
        comparison.catalogue_lines,
        comparison.schema_version
    );
    match comparison.indexes_checked {
        Some(checked) => outln!("amcheck    {checked} indexes are sound"),
        None => outln!("amcheck    may not be used there"),
    }
    match &comparison.archives_missing {
        None => outln!(
            "archives   {} are needed; no cold store was asked",
            comparison.archives
        ),
        Some(missing) if missing.is_empty() => {
            outln!("archives   all {} are in cold storage", comparison.archives);
        }
        Some(missing) => {
            outln!(
                "archives   {} of {} are NOT in cold storage:",
                missing.len(),
                comparison.archives
            );
            for key in missing {
                outln!("           {}", plain(key));
            }
        }
    }
    if comparison.is_equal() {
        outln!("proved     it is what was backed up");
        return Ok(code(comparison));
    }
    outln!("NOT PROVED {} differences:", comparison.differences_total);
    differences(&comparison.differences)?;
    let untold = comparison.differences_total - comparison.differences.len();
    if untold > 0 {
        outln!("and {untold} more");
    }
    Ok(code(comparison))
}

fn code(comparison: &Comparison) -> ExitCode {
    ExitCode::from(u8::from(!comparison.is_equal()))
}

fn differences(differences: &[Difference]) -> anyhow::Result<()> {
    let rows: Vec<[String; 2]> = differences
        .iter()
        .map(|one| [plain(&one.object), plain(&one.difference)])
        .collect();
    let columns = ["WHAT", "DIFFERENCE"].map(|name| (name, Side::Left));
    outln!("");
    out!("{}", table(columns, &rows));
    Ok(())
}

/// One proof.
pub fn proof(proof: &Proof) -> anyhow::Result<()> {
    outln!("proof      {}", proof.id);
    outln!(
        "backup     {} of {}",
        proof.backup_id,
        time(proof.backup_started_at)
    );
    outln!("restored   in {}", duration(proof.restore_milliseconds));
    outln!("compared   in {}", duration(proof.compare_milliseconds));
    if let Some(details) = &proof.details {
        outln!(
            "           {} tables, {} rows",
            details["tables"],
            details["rows"]
        );
    }
    outln!("outcome    {}", outcome(proof));
    let told: Vec<Difference> = proof
        .details
        .as_ref()
        .and_then(|details| details["differences"].as_array())
        .into_iter()
        .flatten()
        .map(|one| Difference {
            object: one["object"].as_str().unwrap_or_default().to_owned(),
            difference: one["difference"].as_str().unwrap_or_default().to_owned(),
        })
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    differences(&told)
}

/// Several proofs.
pub fn proofs(proofs: &[Proof]) -> anyhow::Result<()> {
    let rows: Vec<[String; 7]> = proofs
        .iter()
        .map(|proof| {
            [
                proof.id.to_string(),
                time(proof.started_at),
                time(proof.backup_started_at),
                outcome(proof),
                duration(proof.restore_milliseconds),
                duration(proof.compare_milliseconds),
                plain(proof.error.as_deref().unwrap_or("")),
            ]
        })
        .collect();
    let columns = [
        ("PROOF", Side::Left),
        ("BEGAN (UTC)", Side::Left),
        ("BACKUP OF (UTC)", Side::Left),
        ("OUTCOME", Side::Left),
        ("RESTORED IN", Side::Right),
        ("COMPARED IN", Side::Right),
        ("ERROR", Side::Left),
    ];
    out!("{}", table(columns, &rows));
    Ok(())
}

/// A proof for programs.
pub fn proof_as_json(proof: &Proof) -> Value {
    json!({
        "id": proof.id,
        "backup_id": proof.backup_id,
        "backup_started_at": proof.backup_started_at.to_rfc3339(),
        "started_at": proof.started_at.to_rfc3339(),
        "started_by": proof.started_by,
        "target": proof.target,
        "ended_at": proof.ended_at.map(|at| at.to_rfc3339()),
        "outcome": proof.outcome.map(Outcome::as_str),
        "restore_milliseconds": proof.restore_milliseconds,
        "compare_milliseconds": proof.compare_milliseconds,
        "details": proof.details,
        "error": proof.error,
    })
}

fn outcome(proof: &Proof) -> String {
    proof.outcome.map_or("running", Outcome::as_str).to_owned()
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn duration(milliseconds: Option<i64>) -> String {
    milliseconds.map_or_else(|| "-".to_owned(), seconds)
}

fn seconds(milliseconds: i64) -> String {
    format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100)
}

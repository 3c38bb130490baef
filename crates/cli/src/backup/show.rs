//! Backups, manifests and verdicts, as a terminal shows them.

use chrono::{DateTime, Utc};
use indicatif::HumanBytes;
use serde_json::{Value, json};
use utxoiq_store::backup::{Backup, Inventory, Manifest, Pruned};

use crate::{
    output::{note, out, outln, plain},
    table::{Side, table},
};

/// A time to the second; a dash where there is none.
fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(
        || "-".to_owned(),
        |at| at.format("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// The state, with what is wrong.
fn state(backup: &Backup) -> String {
    if backup.damaged_at.is_some() {
        return format!("{} DAMAGED", backup.state);
    }
    backup.state.to_string()
}

pub fn list(backups: &[Backup]) -> anyhow::Result<()> {
    let rows: Vec<[String; 8]> = backups
        .iter()
        .map(|backup| {
            let is_stored = backup.stored_at.is_some();
            let or_dash = |text: String| if is_stored { text } else { "-".to_owned() };
            [
                backup.id.to_string(),
                time(Some(backup.started_at)),
                state(backup),
                or_dash(backup.rows.to_string()),
                or_dash(HumanBytes(backup.stored_bytes).to_string()),
                time(backup.verified_at),
                time(backup.proved_at),
                plain(backup.error.as_deref().unwrap_or("")),
            ]
        })
        .collect();
    let columns = [
        ("BACKUP", Side::Left),
        ("BEGAN (UTC)", Side::Left),
        ("STATE", Side::Left),
        ("ROWS", Side::Right),
        ("STORED", Side::Right),
        ("READ BACK", Side::Left),
        ("PROVED", Side::Left),
        ("ERROR", Side::Left),
    ];
    out!("{}", table(columns, &rows));
    Ok(())
}

pub fn inventory(inventory: &Inventory) {
    for (id, faults) in &inventory.faults {
        note(format_args!(
            "{id} is not as it should be in the store: {faults:?}"
        ));
    }
    if !inventory.unknown.is_empty() {
        note(format_args!(
            "{} backups in the store are not known to the database: `backup adopt` takes them in",
            inventory.unknown.len()
        ));
    }
}

pub fn one(backup: &Backup) -> anyhow::Result<()> {
    outln!("backup     {}", backup.id);
    outln!("state      {}", state(backup));
    outln!(
        "began      {} by {}",
        time(Some(backup.started_at)),
        plain(&backup.started_by)
    );
    outln!("object     {}", backup.key);
    if backup.stored_at.is_some() {
        outln!(
            "size       {} stored, {} before compression",
            HumanBytes(backup.stored_bytes),
            HumanBytes(backup.plain_bytes)
        );
        outln!("rows       {} in {} tables", backup.rows, backup.tables);
        outln!("read back  {}", time(backup.verified_at));
        outln!("copied     {}", time(backup.copied_at));
        outln!("proved     {}", time(backup.proved_at));
    }
    if let Some(sha256) = &backup.manifest_sha256 {
        outln!("manifest   {}", plain(sha256));
    }
    if let Some(error) = &backup.error {
        outln!("error      {}", plain(error));
    }
    Ok(())
}

pub fn manifest(manifest: &Manifest) -> anyhow::Result<()> {
    let source = &manifest.source;
    outln!(
        "database   {} on PostgreSQL {}, schema {:04}",
        plain(&source.database),
        plain(&source.server_version),
        source.schema_version
    );
    outln!(
        "dumped by  {}, {}",
        plain(&manifest.dump.tool),
        plain(&manifest.dump.format)
    );
    outln!("SHA-256    {}", plain(&manifest.dump.stored_sha256));
    for recipient in &manifest.dump.recipients {
        outln!("opened by  {}", plain(recipient));
    }
    if let Some(head) = &manifest.audit_head {
        outln!("audit head {}:{}", head.sequence, plain(&head.hash));
    }
    outln!(
        "needs      {} archives in cold storage",
        manifest.archives.len()
    );
    let mut tables: Vec<_> = manifest.tables.iter().collect();
    tables.sort_by(|a, b| b.1.rows.cmp(&a.1.rows).then(a.0.cmp(b.0)));
    let rows: Vec<[String; 2]> = tables
        .iter()
        .map(|(name, fingerprint)| [plain(name), fingerprint.rows.to_string()])
        .collect();
    out!(
        "\n{}",
        table([("TABLE", Side::Left), ("ROWS", Side::Right)], &rows)
    );
    Ok(())
}

pub fn plan(plan: &[Pruned]) -> anyhow::Result<()> {
    let rows: Vec<[String; 3]> = plan
        .iter()
        .map(|one| {
            [
                one.backup.id.to_string(),
                time(Some(one.backup.started_at)),
                one.verdict.to_string(),
            ]
        })
        .collect();
    if rows.is_empty() {
        note("there are no backups");
        return Ok(());
    }
    let columns = ["BACKUP", "BEGAN (UTC)", "VERDICT"].map(|name| (name, Side::Left));
    out!("{}", table(columns, &rows));
    Ok(())
}

pub fn as_json(backup: &Backup) -> Value {
    let text = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339());
    json!({
        "id": backup.id,
        "state": backup.state.as_str(),
        "slot_at": text(backup.slot_at),
        "started_at": text(Some(backup.started_at)),
        "started_by": backup.started_by,
        "object": backup.key.to_string(),
        "plain_bytes": backup.plain_bytes,
        "stored_bytes": backup.stored_bytes,
        "rows": backup.rows,
        "tables": backup.tables,
        "sha256": backup.sha256,
        "manifest_sha256": backup.manifest_sha256,
        "stored_at": text(backup.stored_at),
        "verified_at": text(backup.verified_at),
        "copied_at": text(backup.copied_at),
        "proved_at": text(backup.proved_at),
        "damaged_at": text(backup.damaged_at),
        "pruned_at": text(backup.pruned_at),
        "error": backup.error,
    })
}

//! `utxoiq-store backup drill` and `backup proofs`: whether backups can be restored. In production a process of its own runs the
//! drill: it alone has the drill key.

use std::process::ExitCode;

use utxoiq_store::{Store, backup::Proof};
use uuid::Uuid;

use super::{Which, compared, progress};
use crate::{
    operator::actor,
    output::{note, outln},
};

/// Proves a backup. Exits 1 where what was restored is not what was backed up.
pub async fn drill(store: &Store, which: Which, json: bool) -> anyhow::Result<ExitCode> {
    let id: Option<Uuid> = match which {
        Which::Newest => None,
        Which::Id(id) => Some(id),
        Which::All => anyhow::bail!("one backup is proved at a time: name its id, or `newest`"),
    };
    let shown = progress::start();
    let backups = store.backups();
    let proved = backups
        .drill(id, &actor(), store.now(), &shown.progress)
        .await;
    shown.finish();
    match proved {
        Ok(proof) => {
            show_one(&proof, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if error.code() == "backup_not_proved" => {
            // The newest is this one: only one goes on at a time.
            if let Some(proof) = backups.proofs(1).await?.first() {
                show_one(proof, json)?;
            }
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn show_one(proof: &Proof, json: bool) -> anyhow::Result<()> {
    if json {
        outln!(
            "{}",
            serde_json::to_string_pretty(&compared::proof_as_json(proof))?
        );
        return Ok(());
    }
    compared::proof(proof)
}

/// The newest proofs.
pub async fn proofs(store: &Store, limit: i64, json: bool) -> anyhow::Result<ExitCode> {
    let proofs = store.backups().proofs(limit).await?;
    if json {
        for proof in &proofs {
            outln!("{}", compared::proof_as_json(proof));
        }
    } else if proofs.is_empty() {
        note("nothing was proved yet: `backup drill` proves the newest backup");
    } else {
        compared::proofs(&proofs)?;
    }
    Ok(ExitCode::SUCCESS)
}

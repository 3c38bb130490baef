//! Removing backups whose time is over (C8.2).

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{
    Backup, Backups, State,
    policy::{self, Candidate, Keep, Reason, Verdict},
    queries,
};
use crate::{
    audit::{self, Action, Entry},
    db,
    error::Result,
};

/// What became of a backup, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// The backup.
    pub backup: Backup,
    /// Why it is kept, or is not.
    pub verdict: Verdict,
}

impl Backups<'_> {
    /// What [`prune`](Self::prune) would do at `now`, the newest backup first. Changes nothing.
    pub async fn plan_prune(&self, now: DateTime<Utc>) -> Result<Vec<Pruned>> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::CANDIDATES, &[&now]).await?;
        drop(connection);
        let backups = rows
            .iter()
            .map(Backup::from_row)
            .collect::<Result<Vec<_>>>()?;
        let found = self.inventory().await?;
        // A run that failed is no backup, and tells that the newest run is not verified. One that is gone from the store, or was
        // changed there, stands for no other; and is not removed for that, since a listing may be wrong, an object may come back,
        // and its second copy may be all that there is.
        let is_suspect = |backup: &Backup| {
            backup.verified_at.is_some()
                && (backup.damaged_at.is_some() || found.faults.contains_key(&backup.id))
        };
        let is_sound = |backup: &Backup| is_sound(backup) && !is_suspect(backup);
        let candidates: Vec<Candidate> = backups
            .iter()
            .map(|backup| Candidate {
                id: backup.id,
                started_at: backup.started_at,
                verified_at: backup.verified_at.filter(|_| is_sound(backup)),
                proved_at: backup.proved_at.filter(|_| is_sound(backup)),
            })
            .collect();
        let settings = &self.config.backup;
        let keep = Keep {
            daily: settings.keep_daily,
            weekly: settings.keep_weekly,
        };
        let mut verdicts = policy::plan(&candidates, keep, now);
        for (backup, verdict) in backups.iter().zip(&mut verdicts) {
            if is_suspect(backup) && !verdict.keep {
                verdict.keep = true;
                verdict.reasons = vec![Reason::Suspect];
            }
        }
        let pairs = backups.into_iter().zip(verdicts);
        Ok(pairs
            .filter(|(backup, _)| matches!(backup.state, State::Stored | State::Verified))
            .map(|(backup, verdict)| Pruned { backup, verdict })
            .collect())
    }

    /// Removes the backups whose time is over from both stores; gives the verdict on each. What a store does not let go stays in
    /// the history, too, and fails this.
    pub async fn prune(&self, now: DateTime<Utc>, actor: &str) -> Result<Vec<Pruned>> {
        let plan = self.plan_prune(now).await?;
        let (first, second) = self.stores()?;
        for pruned in plan.iter().filter(|pruned| !pruned.verdict.keep) {
            let backup = &pruned.backup;
            if let Some(second) = second {
                second.remove(backup.key).await?;
            }
            first.remove(backup.key).await?;
            let at = self.clock.now();
            let mut connection = self.pool.get().await?;
            let tx = connection.transaction().await?;
            db::query_opt(&tx, &queries::PRUNED, &[&backup.id, &at]).await?;
            let details = json!({
                "backup": backup.id,
                "started_at": backup.started_at.to_rfc3339(),
                "sha256": backup.sha256,
                "reason": pruned.verdict.to_string(),
            });
            let subject = backup.key.to_string();
            let entry = Entry::new(at, actor, Action::BackupPrune, &subject, details);
            audit::append_in_tx(&tx, &entry).await?;
            tx.commit().await?;
        }
        Ok(plan)
    }
}

/// Whether it can be counted on.
fn is_sound(backup: &Backup) -> bool {
    backup.state == State::Verified && backup.damaged_at.is_none()
}

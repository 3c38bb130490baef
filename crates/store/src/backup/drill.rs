//! Proving a backup (C8.3): restored into a database of its own, compared with what was backed up, and dropped again.
//!
//! # What it guarantees
//!
//! * **Each proof is recorded** with how long the restore took, which is the time that a real one would take, and with what was
//!   different, by name. One whose process died counts as lost.
//! * **The scratch database is gone afterwards**, after success, failure and cancellation; after a kill the next drill drops it.
//! * **Nobody else sees it**: the right to connect is its maker's alone.
//! * **One at a time**: another one is refused as long as the first gives signs of life.

mod scratch;

use std::{str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

pub use self::scratch::{Scratch, drop_left, left_behind};
use super::{
    Backup, Backups, Progress,
    connection::Target,
    queries::{self, proofs},
    restore::{Restore, Restored},
    run::tells_of_damage,
};
use crate::{
    clock::uuid_at,
    cold::ColdStore,
    config::Secret,
    db,
    error::{Error, Result},
};

/// How a proof ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What was restored is what was backed up.
    Proved,
    /// It is not, or could not be restored.
    Failed,
    /// Its process was not heard of any more.
    Lost,
}

impl Outcome {
    /// The outcome's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

impl FromStr for Outcome {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Proved, Self::Failed, Self::Lost]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| {
                Error::internal("a proof has an outcome that this version does not know")
            })
    }
}

/// A restore that was made to prove a backup.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    /// Its id.
    pub id: Uuid,
    /// The backup.
    pub backup_id: Uuid,
    /// When that began.
    pub backup_started_at: DateTime<Utc>,
    /// When the proof began.
    pub started_at: DateTime<Utc>,
    /// Who asked for it.
    pub started_by: String,
    /// When it counts as lost, while it runs.
    pub lease_expires_at: DateTime<Utc>,
    /// Where it was restored: host, port and scratch database.
    pub target: String,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
    /// How long the restore took (the measured RTO).
    pub restore_milliseconds: Option<i64>,
    /// How long comparing took.
    pub compare_milliseconds: Option<i64>,
    /// What was compared and what was different: a [`Comparison`](super::Comparison), as JSON.
    pub details: Option<Value>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Proof {
    fn from_row(row: &Row) -> Result<Self> {
        let outcome: Option<&str> = row.try_get("outcome")?;
        Ok(Self {
            id: row.try_get("id")?,
            backup_id: row.try_get("backup_id")?,
            backup_started_at: row.try_get("backup_started_at")?,
            started_at: row.try_get("started_at")?,
            started_by: row.try_get("started_by")?,
            lease_expires_at: row.try_get("lease_expires_at")?,
            target: row.try_get("target")?,
            ended_at: row.try_get("ended_at")?,
            outcome: outcome.map(str::parse).transpose()?,
            restore_milliseconds: row.try_get("restore_milliseconds")?,
            compare_milliseconds: row.try_get("compare_milliseconds")?,
            details: row.try_get("details")?,
            error: row.try_get("error")?,
        })
    }
}

/// A drill that has begun.
struct Begun<'a> {
    proof: Uuid,
    backup: Backup,
    identity: &'a Secret,
}

impl Backups<'_> {
    /// The newest proofs, the newest first.
    pub async fn proofs(&self, limit: i64) -> Result<Vec<Proof>> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &proofs::LIST, &[&limit]).await?;
        rows.iter().map(Proof::from_row).collect()
    }

    /// Proves a backup: this one, or the newest verified one, of those not proved yet if there are any.
    ///
    /// # Errors
    ///
    /// `drill_not_configured`; `backup_not_found` where there is none to prove; `drill_running` while another one goes on;
    /// `drill_lost` where that took this one for dead; `backup_not_proved`, with the tables named, where what was restored is not
    /// what was backed up; and whatever went wrong. All but the first three are recorded.
    pub async fn drill(
        &self,
        id: Option<Uuid>,
        actor: &str,
        now: DateTime<Utc>,
        progress: &Progress,
    ) -> Result<Proof> {
        let (server, identity) = self.drill_settings()?;
        let backup = self.to_prove(id).await?;
        let proof = uuid_at(now);
        let mut scratch = Scratch::of(&server, proof)?;
        self.begin_proof(proof, &backup, actor, now, &scratch.target)
            .await?;
        let begun = Begun {
            proof,
            backup,
            identity,
        };
        let restored = tokio::select! {
            restored = self.prove(&begun, &server, &mut scratch, progress) => restored,
            lost = self.keep_proof(proof) => Err(lost),
        };
        progress.begin("dropping the scratch database", 0);
        if let Err(error) = scratch.remove().await {
            tracing::warn!(error = %error.report(), "a scratch database could not be dropped; it is tried once more");
        }
        self.end_proof(&begun, restored).await?;
        let connection = self.pool.get().await?;
        let row = db::query_one(&connection, &proofs::ONE, &[&proof]).await?;
        Proof::from_row(&row)
    }

    fn drill_settings(&self) -> Result<(Target, &Secret)> {
        let missing = |what: &str| {
            Error::conflict(
                "drill_not_configured",
                format!("this process cannot prove a backup: set {what}"),
            )
        };
        let url = self.config.database.drill_url.as_ref().ok_or_else(|| {
            missing("database.drill_url to a connection of the role utxoiq_drill")
        })?;
        let identity = self.config.backup.drill_identity.as_ref().ok_or_else(|| {
            missing("backup.drill_identity to the secret key of backup.drill_recipient")
        })?;
        self.stores()?;
        Ok((Target::parse(url, "database.drill_url")?, identity))
    }

    async fn to_prove(&self, id: Option<Uuid>) -> Result<Backup> {
        let id = if let Some(id) = id {
            id
        } else {
            let connection = self.pool.get().await?;
            let row = db::query_opt(&connection, &proofs::NEXT, &[]).await?;
            row.ok_or_else(|| {
                Error::not_found("backup_not_found", "there is no verified backup to prove")
            })?
            .try_get("id")?
        };
        self.stored(id).await
    }

    async fn begin_proof(
        &self,
        proof: Uuid,
        backup: &Backup,
        actor: &str,
        now: DateTime<Utc>,
        target: &Target,
    ) -> Result<()> {
        let at = self.clock.now();
        let connection = self.pool.get().await?;
        for row in db::query(&connection, &proofs::LOSE, &[&at]).await? {
            let id: Uuid = row.try_get("id")?;
            tracing::warn!(%id, "a proof was given up: its process was not heard of any more");
        }
        let lease = at + self.lease();
        let place = target.place();
        let params: db::Params<'_> = &[&proof, &backup.id, &now, &actor, &lease, &place];
        let begun = db::query_opt(&connection, &proofs::BEGIN, params).await?;
        begun.map(|_| ()).ok_or_else(|| {
            Error::conflict(
                "drill_running",
                "another backup is being proved; `backup proofs` shows since when",
            )
        })
    }

    /// Renews the lease of a proof for as long as it is polled; ends when the proof is over for others.
    async fn keep_proof(&self, proof: Uuid) -> Error {
        let pause = Duration::from_secs(u64::from(self.config.backup.lease_seconds)) / 4;
        let mut heard_at = self.clock.now();
        loop {
            tokio::time::sleep(pause).await;
            let now = self.clock.now();
            let until: DateTime<Utc> = now + self.lease();
            let renewed = async {
                let connection = self.pool.get().await?;
                db::query_opt(&connection, &proofs::RENEW, &[&proof, &until]).await
            };
            match renewed.await {
                Ok(Some(_)) => heard_at = now,
                Ok(None) => {
                    return Error::conflict(
                        "drill_lost",
                        "this proof was taken for dead: its process gave no sign of life",
                    );
                }
                Err(error) if now - heard_at < self.lease() => {
                    tracing::warn!(error = %error.report(), "a proof could not give its sign of life; it is tried again");
                }
                Err(error) => return error,
            }
        }
    }

    async fn prove(
        &self,
        begun: &Begun<'_>,
        server: &Target,
        scratch: &mut Scratch,
        progress: &Progress,
    ) -> Result<Restored> {
        let (first, _) = self.stores()?;
        progress.begin("making a scratch database", 0);
        scratch::sweep(server, self.pool).await?;
        scratch.create().await?;
        let cold = ColdStore::open(&self.config.cold)?;
        let restore = Restore {
            bucket: first,
            key: begun.backup.key,
            manifest_sha256: begun.backup.manifest_sha256.as_deref(),
            identity: begun.identity,
            settings: &self.config.backup,
            cold: cold.as_ref(),
        };
        restore.run(&scratch.target, progress).await
    }

    /// Records how a proof ended; its error is this function's, too.
    async fn end_proof(&self, begun: &Begun<'_>, restored: Result<Restored>) -> Result<()> {
        let now = self.clock.now();
        let (restored, error) = match restored {
            Ok(restored) => {
                let error = not_proved(&restored);
                (Some(restored), error)
            }
            Err(error) => (None, Some(error)),
        };
        let text = error
            .as_ref()
            .map(|error| format!("{}: {}", error.code(), error.message()));
        let restore = restored
            .as_ref()
            .map(|restored| restored.restore_milliseconds);
        let comparison = restored.as_ref().map(|restored| &restored.comparison);
        let compare = comparison.map(|comparison| comparison.compare_milliseconds);
        let details = comparison
            .map(serde_json::to_value)
            .transpose()
            .map_err(|error| Error::internal("a comparison is no JSON").with_source(error))?;
        let recorded = async {
            let connection = self.pool.get().await?;
            if let (Some(text), true) = (&text, error.as_ref().is_some_and(tells_of_damage)) {
                let params: db::Params<'_> = &[&begun.backup.id, &now, text];
                db::execute(&connection, &queries::DAMAGED, params).await?;
            }
            let params: db::Params<'_> = &[&begun.proof, &now, &text, &restore, &compare, &details];
            db::query_opt(&connection, &proofs::END, params).await
        }
        .await;
        match (error, recorded) {
            (Some(error), Err(unrecorded)) => {
                tracing::warn!(error = %unrecorded.report(), "that a backup was not proved could not be recorded");
                Err(error)
            }
            (Some(error), Ok(_)) => Err(error),
            (None, Err(unrecorded)) => Err(unrecorded),
            (None, Ok(None)) => Err(Error::conflict(
                "drill_lost",
                "this proof was taken for dead before it was recorded: its process gave no sign of life",
            )),
            (None, Ok(Some(_))) => Ok(()),
        }
    }
}

/// The error of a restored database that is not what was backed up.
fn not_proved(restored: &Restored) -> Option<Error> {
    let comparison = &restored.comparison;
    (!comparison.is_equal()).then(|| {
        Error::conflict(
            "backup_not_proved",
            format!(
                "what was restored from {} is not what was backed up: {}",
                restored.manifest.object,
                comparison.summary()
            ),
        )
    })
}

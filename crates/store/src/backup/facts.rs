//! What the [watch](super::watch) judges by, out of the history and the stores.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Backup, Backups, Fault, Inventory, State, queries,
    region::{Judgement, Location, ask, judge},
    watch::{self, Missing, Part, Place, Proof, Run},
};
use crate::{
    cold::{Bucket, Provider},
    config::{ObjectStoreSettings, ProofCadence},
    db,
    error::Result,
};

/// How far back the history is looked at: twice as long as a shrink is remembered.
const BACK: TimeDelta = TimeDelta::days(15);

/// How far two machines' clocks may be apart.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What the history says.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// When backups were first known to the schedule; `None` where nothing is configured, or it never ran.
    pub configured_at: Option<DateTime<Utc>>,
    /// The runs.
    pub runs: Vec<Run>,
    /// The proofs.
    pub proofs: Vec<Proof>,
    /// Backups that were found to be something else than was written.
    pub damaged: Vec<Missing>,
}

impl Backups<'_> {
    /// Whether backups are configured at all.
    pub fn is_configured(&self) -> bool {
        self.stores.first.is_some()
    }

    /// What the watch goes by, out of the settings.
    pub fn watch_settings(&self) -> watch::Settings {
        let settings = &self.config.backup;
        watch::Settings {
            late_after: TimeDelta::minutes(settings.late_minutes.into()),
            silent_after: TimeDelta::seconds(settings.lease_seconds.into()),
            shrink_percent: settings.shrink_percent,
            proof_within: match settings.prove {
                ProofCadence::Weekly => TimeDelta::days(8),
                ProofCadence::Daily => TimeDelta::days(2),
            },
            ..watch::Settings::default()
        }
    }

    /// What the history says, as of `now`.
    pub async fn history(&self, now: DateTime<Utc>) -> Result<History> {
        let since = now - BACK;
        // What began in the future was made under a wrong clock, and makes good nothing of today.
        let is_ahead = |started_at: DateTime<Utc>| started_at > now + AHEAD;
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::RECENT, &[&since]).await?;
        let backups = rows
            .iter()
            .map(Backup::from_row)
            .collect::<Result<Vec<_>>>()?;
        let proofs = db::query(&connection, &queries::RECENT_PROOFS, &[&since]).await?;
        let proofs = proofs
            .iter()
            .map(|row| {
                let outcome: Option<&str> = row.try_get("outcome")?;
                let error: Option<String> = row.try_get("error")?;
                let ended_at: Option<DateTime<Utc>> = row.try_get("ended_at")?;
                let lease: DateTime<Utc> = row.try_get("lease_expires_at")?;
                // One that is not heard of any more has failed, whoever records that.
                let is_lost = ended_at.is_none() && lease <= now;
                Ok(Proof {
                    id: row.try_get("id")?,
                    started_at: row.try_get("started_at")?,
                    ended_at: ended_at.or(is_lost.then_some(lease)),
                    ok: outcome == Some("proved"),
                    what: error.unwrap_or_else(|| {
                        "its process was not heard of any more: look at that machine's log"
                            .to_owned()
                    }),
                })
            })
            .filter(|proof: &Result<Proof>| {
                !proof.as_ref().is_ok_and(|one| is_ahead(one.started_at))
            })
            .collect::<Result<Vec<_>>>()?;
        let configured = db::query_opt(&connection, &queries::CONFIGURED_AT, &[]).await?;
        let configured = configured
            .map(|row| row.try_get("first_seen_at"))
            .transpose()?;
        let copies = self.stores.second.is_some();
        Ok(History {
            configured_at: configured.filter(|_| self.is_configured()),
            proofs,
            damaged: backups
                .iter()
                // One that never was right is told as not verified, until the next one is.
                .filter(|backup| backup.damaged_at.is_some() && backup.state == State::Verified)
                .map(|backup| Missing {
                    part: Part::Content,
                    key: backup.key.to_string(),
                })
                .collect(),
            runs: backups
                .iter()
                .filter(|backup| !is_ahead(backup.started_at))
                .filter_map(|backup| run(backup, copies, self.lease()))
                .collect(),
        })
    }

    /// What is missing from the stores, or was changed there, of the backups of the history.
    pub fn missing(&self, runs: &[Run], inventory: &Inventory) -> Vec<Missing> {
        let mut missing = Vec::new();
        for (id, faults) in &inventory.faults {
            let Some(run) = runs.iter().find(|run| run.id == *id) else {
                continue;
            };
            let key = crate::cold::BackupKey::dump(run.started_at, run.id);
            missing.extend(faults.iter().map(|fault| Missing {
                part: match fault {
                    Fault::DumpMissing => Part::Object,
                    Fault::ManifestMissing => Part::Manifest,
                    Fault::Resized | Fault::Rewritten => Part::Content,
                    Fault::CopyMissing => Part::Copy,
                },
                key: match fault {
                    Fault::ManifestMissing => key.manifest().to_string(),
                    _ => key.to_string(),
                },
            }));
        }
        missing
    }

    /// Whether a backup is being made, whoever makes it.
    pub async fn is_running(&self, now: DateTime<Utc>) -> Result<bool> {
        let connection = self.pool.get().await?;
        let row = db::query_one(&connection, &queries::IS_RUNNING, &[&now]).await?;
        Ok(row.try_get("is_running")?)
    }

    /// Where the stores lie, and what is thought of it. Cloud Storage is asked, within the time of a request.
    pub async fn places(&self) -> Vec<Place> {
        let sections: [(Option<&Bucket>, ObjectStoreSettings); 2] = [
            (
                self.stores.first.as_ref(),
                (&self.config.backup_store).into(),
            ),
            (
                self.stores.second.as_ref(),
                (&self.config.backup_copy).into(),
            ),
        ];
        let mut places = Vec::new();
        for (bucket, settings) in sections {
            if let Some(bucket) = bucket {
                let location = located(bucket, &settings).await;
                places.push(Place {
                    store: settings.section,
                    judgement: judge(self.config.database.region.as_deref(), &location),
                });
            }
        }
        places
    }

    /// Refuses stores that are known to lie in the database's region (C8.4).
    pub async fn check_places(&self) -> Result<()> {
        for place in self.places().await {
            if let Judgement::Same { reason } = place.judgement {
                return Err(crate::Error::invalid(
                    "backup_in_same_region",
                    format!("{}: {reason}", place.store),
                ));
            }
        }
        Ok(())
    }
}

/// Where a store lies, as far as it can be known.
async fn located(bucket: &Bucket, settings: &ObjectStoreSettings) -> Location {
    let asked = match bucket.provider() {
        Provider::Folder => Location::Folder,
        Provider::CloudStorage {
            bucket: name,
            base,
            credentials,
        } => {
            let timeout = bucket.timeout().min(std::time::Duration::from_secs(10));
            ask(name, base.as_deref(), credentials, timeout).await
        }
        Provider::S3 {
            region: Some(region),
        } => return Location::parse(region).unwrap_or_else(|_| unknown(settings)),
        Provider::S3 { region: None } | Provider::Other => unknown(settings),
    };
    match (asked, &settings.location) {
        (Location::Unknown { reason }, Some(said)) => {
            Location::parse(said).unwrap_or(Location::Unknown { reason })
        }
        (asked, _) => asked,
    }
}

fn unknown(settings: &ObjectStoreSettings) -> Location {
    Location::Unknown {
        reason: format!(
            "this kind of store does not tell where it is: set {}.location",
            settings.section
        ),
    }
}

fn run(backup: &Backup, copy_expected: bool, lease: TimeDelta) -> Option<Run> {
    let state = match backup.state {
        State::Running => watch::State::Running,
        State::Stored => watch::State::Stored,
        State::Verified => watch::State::Verified,
        State::Failed => watch::State::Failed,
        State::Abandoned => watch::State::Abandoned,
        // It was good, and its time was over.
        State::Pruned if backup.verified_at.is_some() => watch::State::Verified,
        State::Pruned => return None,
    };
    let is_stored = backup.stored_at.is_some();
    Some(Run {
        id: backup.id,
        slot_at: backup.slot_at,
        started_at: backup.started_at,
        heard_at: backup.lease_expires_at - lease,
        state,
        error: backup.error.clone(),
        stored_at: backup.stored_at,
        verified_at: backup.verified_at,
        copy_expected: copy_expected && backup.pruned_at.is_none(),
        copied_at: backup.copied_at,
        plain_bytes: is_stored.then_some(backup.plain_bytes),
        stored_bytes: is_stored.then_some(backup.stored_bytes),
        rows: is_stored.then(|| u64::try_from(backup.rows).unwrap_or_default()),
    })
}

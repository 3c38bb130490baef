//! Whether cold storage has what the database says that it has, to the last byte.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{Archive, ArchiveFilter, Event, Moved, Retention, State, moving::moved};
use crate::{
    audit::{Action, Audit, Entry, hex},
    cold::{Manifest, ObjectKey},
    error::{Error, Result},
};

/// How many archives are listed at once.
const PAGE: i64 = 500;

/// How many faults an entry of the audit log lists.
const LISTED: usize = 50;

/// Which archives are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// One.
    One(Uuid),
    /// Those of days from the first on and before the second.
    Days(NaiveDate, NaiveDate),
    /// Every one; and what else lies in the store.
    All,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// An archive's object is not in the store.
    LostObject,
    /// Its bytes, or what they say, are not what was recorded.
    DamagedObject,
    /// Its manifest is not beside it.
    LostManifest,
    /// The manifest beside it is not the one that the database has.
    DifferentManifest,
    /// What the database has of it does not agree with itself.
    DifferentRecord,
    /// An object that no archive knows, or one that had been seen to be gone.
    OrphanedObject,
    /// Something that is none of ours.
    ForeignObject,
}

impl Wrong {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostObject => "lost_object",
            Self::DamagedObject => "damaged_object",
            Self::LostManifest => "lost_manifest",
            Self::DifferentManifest => "different_manifest",
            Self::DifferentRecord => "different_record",
            Self::OrphanedObject => "orphaned_object",
            Self::ForeignObject => "foreign_object",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveFault {
    /// With which object, below the store's address.
    pub object: String,
    /// What.
    pub wrong: Wrong,
    /// In words, with what to do.
    pub message: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many archives were read back.
    pub archives: u64,
    /// How many rows they have.
    pub rows: i64,
    /// How many bytes were read.
    pub bytes: i64,
    /// What is wrong.
    pub faults: Vec<ArchiveFault>,
    /// Its number in the audit log.
    pub audited_as: i64,
}

impl Verified {
    /// Whether all is well.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Retention<'_> {
    /// Reads archives back from the store, all of them, and compares them with their manifests, in the database and beside
    /// the objects. Of all archives it also looks for objects that nobody knows. The result is noted in the audit log.
    ///
    /// What is wrong is told, not an error. A store that does not answer is one.
    pub async fn verify(&self, which: Which, now: DateTime<Utc>, actor: &str) -> Result<Verified> {
        let mut verified = Verified::default();
        let subject = match which {
            Which::One(id) => {
                let archive = self.archive(id).await?;
                if archive.ended_at.is_some() || archive.state == State::Writing {
                    let message = format!(
                        "the archive is {}: there is nothing to verify",
                        archive.state
                    );
                    return Err(Error::conflict("archive_state", message));
                }
                self.verify_one(&archive, &mut verified).await?;
                format!("{}/{}", archive.dataset, archive.day)
            }
            Which::Days(from, to) => {
                let filter = ArchiveFilter {
                    from: Some(from),
                    to: Some(to),
                    ..ArchiveFilter::default()
                };
                self.verify_listed(&filter, &mut verified).await?;
                format!("archives/{from}..{to}")
            }
            Which::All => {
                self.verify_listed(&ArchiveFilter::default(), &mut verified)
                    .await?;
                self.look_for_orphans(&mut verified).await?;
                "archives".to_owned()
            }
        };
        let listed: &[ArchiveFault] = verified.faults.get(..LISTED).unwrap_or(&verified.faults);
        let listed: Vec<_> = listed
            .iter()
            .map(|fault| json!({"object": fault.object, "wrong": fault.wrong}))
            .collect();
        let details = json!({
            "archives": verified.archives, "rows": verified.rows, "bytes": verified.bytes,
            "faults": verified.faults.len(), "listed": listed,
        });
        let entry = Entry::new(now, actor, Action::Verify, subject, details);
        verified.audited_as = Audit::new(self.pool).append(&entry).await?;
        Ok(verified)
    }

    async fn verify_listed(&self, filter: &ArchiveFilter, verified: &mut Verified) -> Result<()> {
        let mut after = None;
        loop {
            let (archives, next) = self.page(filter, PAGE, after).await?;
            for archive in &archives {
                if archive.ended_at.is_none() && archive.state != State::Writing {
                    self.verify_one(archive, verified).await?;
                }
            }
            if next.is_none() {
                return Ok(());
            }
            after = next;
        }
    }

    async fn verify_one(&self, archive: &Archive, verified: &mut Verified) -> Result<()> {
        self.tell(Event::Began {
            dataset: archive.dataset,
            day: archive.day,
            doing: "verifying",
        });
        let manifest = archive.manifest()?;
        let found = self.faults_of(archive, &manifest).await?;
        // It may have ended while it was read: then its object may be gone.
        if !found.is_empty() && self.archive(archive.id).await?.ended_at.is_some() {
            return Ok(());
        }
        let Moved { rows, bytes, .. } = moved(archive);
        verified.archives += 1;
        verified.rows += rows;
        verified.bytes += bytes;
        verified.faults.extend(found);
        self.tell(Event::Done(moved(archive)));
        Ok(())
    }

    async fn faults_of(&self, archive: &Archive, manifest: &Manifest) -> Result<Vec<ArchiveFault>> {
        let mut faults = Vec::new();
        let mut fault = |wrong: Wrong, message: &str| {
            faults.push(ArchiveFault {
                object: archive.object_key.clone(),
                wrong,
                message: message.to_owned(),
            });
        };
        if !is_recorded(archive, manifest) {
            let message = "the manifest in the database does not agree with the archive's own row: compare both with the audit log";
            fault(Wrong::DifferentRecord, message);
        }
        let cold = self.cold()?;
        let key = archive.key()?;
        match cold.prove(key, &manifest.written()).await {
            Ok(_) => {}
            Err(error) => match error.code() {
                "cold_object_missing" => fault(
                    Wrong::LostObject,
                    "the object is not in the store: look in the bucket's log, and for another version of it",
                ),
                "cold_object_differs" | "cold_object_damaged" => {
                    fault(Wrong::DamagedObject, error.message());
                }
                _ => return Err(error),
            },
        }
        match cold.get_manifest(key).await {
            Ok(beside) if beside == *manifest => {}
            Ok(_) => fault(
                Wrong::DifferentManifest,
                "the manifest beside the object is not the one in the database",
            ),
            Err(error) => match error.code() {
                "cold_object_missing" => fault(
                    Wrong::LostManifest,
                    "the manifest is not beside the object; the database has it: see `archive show`",
                ),
                "cold_object_damaged" => fault(Wrong::DifferentManifest, error.message()),
                _ => return Err(error),
            },
        }
        Ok(faults)
    }

    /// Compares what lies in the store with what the database knows.
    async fn look_for_orphans(&self, verified: &mut Verified) -> Result<()> {
        let mut objects = Vec::new();
        let mut listing = std::pin::pin!(self.cold()?.list());
        while let Some(listed) = listing.try_next().await? {
            objects.push((listed.path, listed.key));
        }
        // Asked after the listing: what began since is not missed.
        let known = self.known_objects().await?;
        for (path, key) in objects {
            let fault = match key {
                None => Some((
                    Wrong::ForeignObject,
                    "it is none of ours: nothing here reads or removes it",
                )),
                Some(key) => match known.get(&key.object()) {
                    None => Some((
                        Wrong::OrphanedObject,
                        "no archive knows it: it may be of another database, or of a later state of this one",
                    )),
                    Some(true) => Some((
                        Wrong::OrphanedObject,
                        "it had been seen to be gone: look for whoever brought it back, and remove it",
                    )),
                    Some(false) => None,
                },
            };
            if let Some((wrong, message)) = fault {
                verified.faults.push(ArchiveFault {
                    object: path,
                    wrong,
                    message: message.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The keys of all archives, and whether their objects were seen to be gone.
    async fn known_objects(&self) -> Result<HashMap<ObjectKey, bool>> {
        let mut known = HashMap::new();
        let mut after = None;
        loop {
            let filter = ArchiveFilter::default();
            let (archives, next) = self.page(&filter, PAGE, after).await?;
            for archive in &archives {
                known.insert(archive.key()?, archive.removed_at.is_some());
            }
            if next.is_none() {
                return Ok(known);
            }
            after = next;
        }
    }
}

/// Whether an archive's row says what its manifest does.
fn is_recorded(archive: &Archive, manifest: &Manifest) -> bool {
    let text = |digest: &Option<Vec<u8>>| digest.as_deref().map(hex);
    text(&archive.sha256).as_deref() == Some(&manifest.sha256)
        && text(&archive.content_sha256).as_deref() == Some(&manifest.content_sha256)
        && archive.rows == i64::try_from(manifest.rows).ok()
        && archive.bytes == i64::try_from(manifest.bytes).ok()
        && archive.object_key == manifest.object
        && archive.id == manifest.archive_id
}

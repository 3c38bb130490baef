//! What is wrong beside the runs: proofs, objects, the database, the place, the settings.

use chrono::{DateTime, Utc};

use super::{
    Facts, Kind, Missing, Part, Place, Proof, Settings, State, critical, has_passed, second,
    warning,
};
use crate::{alert::Condition, backup::region::Judgement};

const OBJECT_MISSING: Kind = critical(
    "backup_object_missing",
    "docs/operations/backups.md#a-backup-is-gone-from-the-store",
);
const MANIFEST_MISSING: Kind = critical(
    "backup_manifest_missing",
    "docs/operations/backups.md#a-manifest-is-gone-from-the-store",
);
const DAMAGED: Kind = critical(
    "backup_damaged",
    "docs/operations/backups.md#a-backup-is-damaged",
);
const COPY_GONE: Kind = warning(
    "backup_copy_gone",
    "docs/operations/backups.md#a-second-copy-is-missing",
);
const PROOF_FAILED: Kind = critical("proof_failed", "docs/operations/backups.md#a-proof-failed");
const PROOF_OVERDUE: Kind = warning(
    "proof_overdue",
    "docs/operations/backups.md#a-proof-is-overdue",
);
const UNREACHABLE: Kind = critical(
    "database_unreachable",
    "docs/operations/backups.md#the-database-does-not-answer",
);
const UNLISTED: Kind = critical(
    "backup_store_unreachable",
    "docs/operations/backups.md#the-backups-store-does-not-answer",
);
const LOCATION_SAME: Kind = critical(
    "backup_location_same",
    "docs/operations/backups.md#the-backups-lie-in-the-databases-region",
);
const LOCATION_UNKNOWN: Kind = warning(
    "backup_location_unknown",
    "docs/operations/backups.md#where-the-backups-lie-is-not-known",
);
const NOT_CONFIGURED: Kind = warning(
    "backups_not_configured",
    "docs/operations/backups.md#backups-are-not-configured",
);

pub(super) fn not_configured() -> Condition {
    NOT_CONFIGURED.about(
        "",
        "no backups are made: they are not configured",
        "a backup needs a store to lie in and a role that reads the database; until both are configured, nothing can be restored",
    )
}

pub(super) fn unreachable(
    now: DateTime<Utc>,
    facts: &Facts,
    settings: &Settings,
) -> Option<Condition> {
    let away = facts.unreachable?;
    let holds = away.looks >= 2 && has_passed(now, away.since, settings.unreachable_after);
    holds.then(|| {
        UNREACHABLE.about(
            "",
            "the database does not answer",
            format!(
                "since {}; as long as it is away no backup can be made, and what is said of backups is what was known then",
                second(away.since)
            ),
        )
    })
}

pub(super) fn unlisted(
    now: DateTime<Utc>,
    facts: &Facts,
    settings: &Settings,
) -> Option<Condition> {
    let away = facts.unlisted?;
    let holds = away.looks >= 2 && has_passed(now, away.since, settings.unreachable_after);
    holds.then(|| {
        UNLISTED.about(
            "",
            "the store of the backups does not answer",
            format!(
                "it could not be listed since {}: nobody would notice if backups went",
                second(away.since)
            ),
        )
    })
}

pub(super) fn gone(missing: &Missing) -> Condition {
    let (kind, what) = match missing.part {
        Part::Content => {
            return DAMAGED.about(
                &missing.key,
                "a backup in the store is not what was read back",
                format!(
                    "{} was changed after it was verified, or is damaged; it cannot be counted on",
                    missing.key
                ),
            );
        }
        Part::Copy => (COPY_GONE, "the second copy of a backup is gone"),
        Part::Object => (OBJECT_MISSING, "a backup is gone from the store"),
        Part::Manifest => (
            MANIFEST_MISSING,
            "the manifest of a backup is gone from the store",
        ),
    };
    kind.about(
        &missing.key,
        what,
        format!("{} was stored and is not there any more", missing.key),
    )
}

/// The proofs that failed, and after which none succeeded.
pub(super) fn failed(proofs: &[Proof]) -> Vec<Condition> {
    let succeeded = last_success(proofs).map(|proof| proof.started_at);
    let mut failed: Vec<&Proof> = proofs
        .iter()
        .filter(|proof| proof.ended_at.is_some() && !proof.ok)
        .filter(|proof| succeeded.is_none_or(|succeeded| succeeded < proof.started_at))
        .collect();
    failed.sort_by_key(|proof| (proof.started_at, proof.id));
    failed
        .into_iter()
        .map(|proof| {
            PROOF_FAILED.about(
                &proof.id.simple().to_string(),
                format!(
                    "the proof of {} failed: the backup may not be restorable",
                    second(proof.started_at)
                ),
                &proof.what,
            )
        })
        .collect()
}

fn last_success(proofs: &[Proof]) -> Option<&Proof> {
    proofs
        .iter()
        .filter(|proof| proof.ended_at.is_some() && proof.ok)
        .max_by_key(|proof| (proof.started_at, proof.id))
}

/// Whether a verified backup waits, and none was proved for too long. Where none was ever proved, it counts from the oldest
/// verified one that is known.
pub(super) fn overdue(now: DateTime<Utc>, facts: &Facts, settings: &Settings) -> Option<Condition> {
    let last = last_success(&facts.proofs);
    let waiting = facts
        .runs
        .iter()
        .filter(|run| run.state == State::Verified)
        .filter_map(|run| run.verified_at)
        .filter(|verified| last.is_none_or(|last| *verified > last.started_at))
        .min()?;
    let since = last.and_then(|last| last.ended_at).unwrap_or(waiting);
    has_passed(now, since, settings.proof_within).then(|| {
        let which = if last.is_some() {
            "the last proof that succeeded ended at"
        } else {
            "none has succeeded, and the oldest verified backup is of"
        };
        PROOF_OVERDUE.about(
            "",
            "no backup was proved for too long",
            format!(
                "{which} {}, which is {} hours ago or more",
                second(since),
                settings.proof_within.num_hours()
            ),
        )
    })
}

pub(super) fn place(place: &Place) -> Option<Condition> {
    match &place.judgement {
        Judgement::Separate => None,
        Judgement::Same { reason } => Some(LOCATION_SAME.about(
            place.store,
            format!("{} lies in the database's region", place.store),
            reason,
        )),
        Judgement::CannotJudge { reason } => Some(LOCATION_UNKNOWN.about(
            place.store,
            format!("where {} lies is not known", place.store),
            reason,
        )),
    }
}

//! Backups: what was made, what of it was seen, what is kept (C8).

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utxoiq_store::{backup, token::Scope};
use uuid::Uuid;

use crate::{
    AppState,
    error::ApiResult,
    input::Query,
    routes::{Call, Routes},
};

const PATH: &str = "/api/v1/monitoring/backups";

/// How long a page is unless said.
const LIMIT: i64 = 30;

/// The longest page.
const MAX_LIMIT: i64 = 1_000;

/// Which runs.
#[derive(Debug, IntoParams)]
#[allow(dead_code, reason = "for the document")]
pub struct BackupsQuery {
    /// `kept`: what is, or becomes, a backup; `all`: also runs that failed, and backups that were removed.
    #[param(inline, default = "kept")]
    state: Option<ShownBackups>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1_000, default = 30)]
    limit: Option<i64>,
    /// How many to leave out.
    #[param(minimum = 0, default = 0)]
    offset: Option<i64>,
}

/// Whether only those that are backups.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "for the document")]
enum ShownBackups {
    /// What is, or becomes, a backup.
    Kept,
    /// Runs that failed and backups that were removed, too.
    All,
}

/// The newest runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backups)]
pub struct Listed {
    /// Whether this service knows where backups lie.
    configured: bool,
    /// When a backup of those listed was last read back and found right.
    last_verified_at: Option<DateTime<Utc>>,
    /// When a restore of a backup was last compared and was equal, of those listed.
    last_proved_at: Option<DateTime<Utc>>,
    /// The runs, the newest first.
    backups: Vec<Backup>,
}

/// A run, and the backup that it made.
#[derive(Debug, Serialize, ToSchema)]
pub struct Backup {
    /// The run's id.
    id: Uuid,
    /// `running`, `stored`, `verified` (all of it was read back), `failed`, `abandoned` or `pruned`.
    state: &'static str,
    /// The time of the schedule that it was made for; null where somebody asked for it.
    slot_at: Option<DateTime<Utc>>,
    /// When it began.
    started_at: DateTime<Utc>,
    /// Who asked for it.
    started_by: String,
    /// The dump's key in the store.
    object: String,
    /// The size of the dump before compression, in bytes; 0 before it is stored.
    plain_bytes: u64,
    /// The size of the stored object, in bytes; 0 before it is stored.
    stored_bytes: u64,
    /// How many rows it has; 0 before it is stored.
    rows: i64,
    /// How many tables it has; 0 before it is stored.
    tables: i32,
    /// The SHA-256 of the stored object, in hexadecimal.
    sha256: Option<String>,
    /// When dump and manifest were there.
    stored_at: Option<DateTime<Utc>>,
    /// When it was last read back and was right.
    verified_at: Option<DateTime<Utc>>,
    /// When the second copy was.
    copied_at: Option<DateTime<Utc>>,
    /// When a restore of it was last compared and was equal.
    proved_at: Option<DateTime<Utc>>,
    /// Since when the store is known to have something else, or nothing.
    damaged_at: Option<DateTime<Utc>>,
    /// When it was removed because its time was over.
    pruned_at: Option<DateTime<Utc>>,
    /// What went wrong.
    error: Option<String>,
}

impl From<backup::Backup> for Backup {
    fn from(backup: backup::Backup) -> Self {
        Self {
            id: backup.id,
            state: backup.state.as_str(),
            slot_at: backup.slot_at,
            started_at: backup.started_at,
            object: backup.key.to_string(),
            started_by: backup.started_by,
            plain_bytes: backup.plain_bytes,
            stored_bytes: backup.stored_bytes,
            rows: backup.rows,
            tables: backup.tables,
            sha256: backup.sha256,
            stored_at: backup.stored_at,
            verified_at: backup.verified_at,
            copied_at: backup.copied_at,
            proved_at: backup.proved_at,
            damaged_at: backup.damaged_at,
            pruned_at: backup.pruned_at,
            error: backup.error,
        }
    }
}

/// The calls.
pub fn routes() -> Routes {
    Routes::new("backups", "What was backed up, read back and proved (C8).").add(
        Call::get(PATH, Scope::BackupsRead, "The latest backups, the newest first")
            .describe(
                "From the history in the database; `utxoiq-store backup list` also compares it with what the store has.",
            )
            .query::<BackupsQuery>()
            .answers::<Listed>("the backups"),
        list,
    )
}

const STATES: &[(&str, bool); 2] = &[("kept", false), ("all", true)];

async fn list(State(state): State<AppState>, Query(mut query): Query) -> ApiResult<Json<Listed>> {
    let all = query.optional_one_of("state", STATES).unwrap_or(false);
    let limit = query.int_or("limit", 1..=MAX_LIMIT, LIMIT);
    let offset = query.int_or("offset", 0..=i64::MAX, 0);
    query.finish()?;
    let backups = state.store.backups();
    let listed = backups.list(all, limit, offset).await?;
    let sound = || {
        let is_sound = |one: &&backup::Backup| one.damaged_at.is_none() && one.pruned_at.is_none();
        listed.iter().filter(is_sound)
    };
    Ok(Json(Listed {
        configured: backups.is_configured(),
        last_verified_at: sound().filter_map(|one| one.verified_at).max(),
        last_proved_at: sound().filter_map(|one| one.proved_at).max(),
        backups: listed.iter().cloned().map(Backup::from).collect(),
    }))
}

//! Whether a process may serve on the schema it finds.

use std::{fmt, sync::OnceLock};

use tokio_postgres::error::SqlState;

use super::{Migrator, queries, source::label};
use crate::{
    db::{self, Pool},
    error::{Error, Result},
};

/// What the schema is to this binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaState {
    /// Exactly what this binary was made for.
    Ready {
        /// The newest migration's number; 0 without any.
        version: i32,
    },
    /// Newer, by migrations that are all marked backward-compatible.
    Newer {
        /// The newest migration's number.
        version: i32,
        /// What this binary does not know, as `NNNN_verb_noun`.
        unknown: Vec<String>,
    },
    /// Nothing was ever applied.
    Unmigrated,
    /// Some of ours are missing.
    TooOld {
        /// Which, as `NNNN_verb_noun`.
        missing: Vec<String>,
    },
    /// Newer, and not marked backward-compatible.
    TooNew {
        /// The unknown migrations that are not, as `NNNN_verb_noun`.
        incompatible: Vec<String>,
    },
    /// Another file was applied under one of our numbers.
    Different {
        /// Ours that were applied with another content, as `NNNN_verb_noun`.
        changed: Vec<String>,
    },
}

impl SchemaState {
    /// Whether this binary may serve.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Ready { .. } | Self::Newer { .. })
    }

    /// Its name for programs, in snake case.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Newer { .. } => "newer",
            Self::Unmigrated => "unmigrated",
            Self::TooOld { .. } => "too_old",
            Self::TooNew { .. } => "too_new",
            Self::Different { .. } => "different",
        }
    }

    /// The error with which a process that may not serve refuses to.
    pub fn require(&self) -> Result<()> {
        if self.serves() {
            return Ok(());
        }
        Err(Error::unavailable("schema_mismatch", self.to_string()))
    }
}

impl fmt::Display for SchemaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { version } => {
                write!(f, "the schema is at {version:04}, as this release wants it")
            }
            Self::Newer { version, unknown } => write!(
                f,
                "the schema is at {version:04}, newer than this release but compatible with it ({})",
                unknown.join(", ")
            ),
            Self::Unmigrated => {
                f.write_str("the database has no schema yet: run `utxoiq-store migrate up`")
            }
            Self::TooOld { missing } => write!(
                f,
                "the schema is older than this release needs: run `utxoiq-store migrate up` (missing: {})",
                missing.join(", ")
            ),
            Self::TooNew { incompatible } => write!(
                f,
                "the schema is newer than this release can serve on: deploy the release that made it, or roll back with \
                 `utxoiq-store migrate down` (incompatible: {})",
                incompatible.join(", ")
            ),
            Self::Different { changed } => write!(
                f,
                "the schema was made by other files than this release has: see `utxoiq-store migrate status` (changed: {})",
                changed.join(", ")
            ),
        }
    }
}

/// Judges the schema against the migrations that this binary carries: one short statement, as any role that may read
/// `schema_migrations`.
pub async fn compatibility(pool: &Pool) -> Result<SchemaState> {
    static EMBEDDED: OnceLock<Migrator> = OnceLock::new();
    if let Some(migrator) = EMBEDDED.get() {
        return migrator.compatibility(pool).await;
    }
    let migrator = Migrator::embedded()?;
    EMBEDDED.get_or_init(|| migrator).compatibility(pool).await
}

/// What was applied, as far as serving depends on it.
struct Version {
    number: i32,
    name: String,
    up_checksum: String,
    backward_compatible: bool,
}

impl Migrator {
    /// Judges the schema against these migrations.
    pub async fn compatibility(&self, pool: &Pool) -> Result<SchemaState> {
        let client = pool.get().await?;
        let rows = match db::query(&client, &queries::SCHEMA_VERSION, &[]).await {
            Ok(rows) => rows,
            Err(error) if error.sql_state() == Some(&SqlState::UNDEFINED_TABLE) => {
                return Ok(SchemaState::Unmigrated);
            }
            Err(error) => return Err(error),
        };
        let applied: Vec<Version> = rows
            .iter()
            .map(|row| Version {
                number: row.get("number"),
                name: row.get("name"),
                up_checksum: row.get("up_checksum"),
                backward_compatible: row.get("backward_compatible"),
            })
            .collect();
        Ok(self.judge(&applied))
    }

    fn judge(&self, applied: &[Version]) -> SchemaState {
        let (mut missing, mut changed) = (Vec::new(), Vec::new());
        for migration in &self.migrations {
            match applied
                .iter()
                .find(|version| version.number == migration.number)
            {
                None => missing.push(migration.label()),
                Some(version) if version.up_checksum != migration.up.checksum => {
                    changed.push(migration.label());
                }
                Some(_) => {}
            }
        }
        let known = |version: &&Version| {
            self.migrations
                .iter()
                .any(|migration| migration.number == version.number)
        };
        let unknown: Vec<&Version> = applied.iter().filter(|version| !known(version)).collect();
        let labels = |versions: &mut dyn Iterator<Item = &&Version>| -> Vec<String> {
            versions
                .map(|version| label(version.number, &version.name))
                .collect()
        };
        let incompatible = labels(
            &mut unknown
                .iter()
                .filter(|version| !version.backward_compatible),
        );
        let version = applied.last().map_or(0, |version| version.number);
        if !changed.is_empty() {
            SchemaState::Different { changed }
        } else if applied.is_empty() && !missing.is_empty() {
            SchemaState::Unmigrated
        } else if !missing.is_empty() {
            SchemaState::TooOld { missing }
        } else if !incompatible.is_empty() {
            SchemaState::TooNew { incompatible }
        } else if !unknown.is_empty() {
            SchemaState::Newer {
                version,
                unknown: labels(&mut unknown.iter()),
            }
        } else {
            SchemaState::Ready { version }
        }
    }
}

//! Applying what is pending.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rand::RngExt as _;
use tokio_postgres::{
    Row,
    error::{ErrorPosition, SqlState},
};

use super::{
    Applied, Limits, Migration, Migrator, Script, catalogue, lint, queries, session::Session,
    source::label, sql::Statement,
};
use crate::{
    clock::Clock,
    error::{Error, Kind, Result},
};

/// One row of `schema_migrations`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub number: i32,
    /// `verb_noun`.
    pub name: String,
    /// The up file's SHA-256 when it was applied.
    pub up_checksum: String,
    /// The down file's SHA-256 when it was applied.
    pub down_checksum: String,
    /// Whether the release before may serve on it.
    pub backward_compatible: bool,
    /// When it was applied.
    pub applied_at: DateTime<Utc>,
    /// The role that connected to apply it.
    pub applied_by: String,
    /// How long it took.
    pub duration: Duration,
}

impl Record {
    fn from_row(row: &Row) -> Self {
        let milliseconds: i64 = row.get("duration_milliseconds");
        Self {
            number: row.get("number"),
            name: row.get("name"),
            up_checksum: row.get("up_checksum"),
            down_checksum: row.get("down_checksum"),
            backward_compatible: row.get("backward_compatible"),
            applied_at: row.get("applied_at"),
            applied_by: row.get("applied_by"),
            duration: Duration::from_millis(milliseconds.unsigned_abs()),
        }
    }

    /// `NNNN_verb_noun`.
    pub fn label(&self) -> String {
        label(self.number, &self.name)
    }
}

impl Migrator {
    /// Applies what is pending, in order, and returns it; an empty list when nothing was.
    ///
    /// Fails as `roles_missing` before `init`, as `migration_locked` when another migrator does not come to an end, as
    /// `migration_changed` when a file is not what was applied, as `migration_blocked` when locks could not be had, and
    /// as `migration_failed` with file, statement, line and the database's words. What was applied before stays.
    pub async fn up(&self, url: &str, clock: &dyn Clock) -> Result<Vec<Applied>> {
        for migration in &self.migrations {
            let scripts = [&migration.up, &migration.down];
            if let Some(finding) = scripts.into_iter().find_map(lint::unrunnable) {
                return Err(Error::invalid("migration_invalid", finding.to_string()));
            }
        }
        let session = Session::open(url).await?;
        let outcome = self.up_in(&session, clock).await;
        session.close().await;
        outcome
    }

    async fn up_in(&self, session: &Session, clock: &dyn Clock) -> Result<Vec<Applied>> {
        session.lock(&self.limits).await?;
        prepare_table(session).await?;
        let history = history(session).await?;
        let mut applied = Vec::new();
        for migration in self.pending(&history)? {
            let done = self.apply(session, migration, clock).await?;
            tracing::info!(
                migration = migration.label(),
                milliseconds = done.duration.as_millis(),
                attempts = done.attempts,
                "applied a migration"
            );
            applied.push(done);
        }
        Ok(applied)
    }

    /// What of ours is not in the history; fails when the history is not the beginning of ours.
    pub(super) fn pending(&self, history: &[Record]) -> Result<&[Migration]> {
        for (expected, record) in (1..).zip(history) {
            if record.number != expected {
                return Err(Error::conflict(
                    "migration_gap",
                    format!(
                        "the database has {} but not migration {expected:04}: its table schema_migrations was changed \
                         by hand; put the missing row back",
                        record.label()
                    ),
                ));
            }
        }
        for (migration, record) in self.migrations.iter().zip(history) {
            if let Some(what) = changed(migration, record) {
                return Err(Error::conflict(
                    "migration_changed",
                    format!(
                        "{} is not what was applied as {} at {}: {what}; put the file back as it was and write a new \
                         migration, or roll back first",
                        migration.label(),
                        record.label(),
                        record.applied_at.format("%Y-%m-%d %H:%M:%S UTC")
                    ),
                ));
            }
        }
        Ok(&self.migrations[history.len().min(self.migrations.len())..])
    }

    async fn apply(
        &self,
        session: &Session,
        migration: &Migration,
        clock: &dyn Clock,
    ) -> Result<Applied> {
        let started = Instant::now();
        let mut attempts = 1;
        loop {
            let applied_at = clock.now();
            let outcome = if migration.up.in_transaction {
                self.apply_in_transaction(session, migration, applied_at, started)
                    .await
            } else {
                self.apply_alone(session, migration, applied_at, started)
                    .await
            };
            let Err(failure) = outcome else {
                return Ok(Applied {
                    number: migration.number,
                    name: migration.name.clone(),
                    applied_at,
                    duration: started.elapsed(),
                    attempts,
                });
            };
            if !failure.is_busy() {
                return Err(failure.into_error());
            }
            if attempts == self.limits.attempts {
                return Err(blocked(session, &failure, attempts).await);
            }
            pause(&self.limits, attempts).await;
            attempts += 1;
        }
    }

    async fn apply_in_transaction(
        &self,
        session: &Session,
        migration: &Migration,
        applied_at: DateTime<Utc>,
        started: Instant,
    ) -> Result<(), Failure> {
        begin(session, &self.limits).await?;
        let outcome = async {
            run(session, &migration.up).await?;
            record(session, migration, applied_at, started).await?;
            session.batch_execute("commit").await.map_err(Failure::from)
        }
        .await;
        if outcome.is_err() {
            // Without a connection the server rolls back by itself.
            let _ = session.batch_execute("rollback").await;
        }
        outcome
    }

    /// A statement that runs in no transaction: what an earlier, killed try left is removed first.
    async fn apply_alone(
        &self,
        session: &Session,
        migration: &Migration,
        applied_at: DateTime<Utc>,
        started: Instant,
    ) -> Result<(), Failure> {
        // Such statements wait for others in a mode that blocks nobody, and would never end under a lock_timeout.
        session.batch_execute("set lock_timeout = 0").await?;
        run_alone(session, &migration.up).await?;
        begin(session, &self.limits).await?;
        record(session, migration, applied_at, started).await?;
        session.batch_execute("commit").await?;
        Ok(())
    }
}

/// What differs between a file and what was applied.
pub(super) fn changed(migration: &Migration, record: &Record) -> Option<String> {
    if migration.name != record.name {
        return Some("its name is another".to_owned());
    }
    let up = migration.up.checksum != record.up_checksum;
    let down = migration.down.checksum != record.down_checksum;
    match (up, down) {
        (false, false) => None,
        (true, false) => Some(format!("{} has changed", migration.up.file)),
        (false, true) => Some(format!("{} has changed", migration.down.file)),
        (true, true) => Some("both files have changed".to_owned()),
    }
}

/// Makes our own table, once.
async fn prepare_table(session: &Session) -> Result<()> {
    if table_exists(session).await? {
        return Ok(());
    }
    session.batch_execute("begin").await?;
    session.batch_execute(queries::CREATE_TABLE).await?;
    session.batch_execute(queries::GRANT_TABLE).await?;
    session.batch_execute("commit").await?;
    Ok(())
}

pub(super) async fn table_exists(session: &Session) -> Result<bool> {
    Ok(session.query_one(queries::TABLE_EXISTS, &[]).await?.get(0))
}

pub(super) async fn history(session: &Session) -> Result<Vec<Record>> {
    let rows = session.query(queries::HISTORY, &[]).await?;
    Ok(rows.iter().map(Record::from_row).collect())
}

pub(super) async fn begin(session: &Session, limits: &Limits) -> Result<(), Failure> {
    let begin = format!(
        "begin; set local lock_timeout = {}",
        limits.lock_timeout.as_millis()
    );
    session.batch_execute(&begin).await?;
    Ok(())
}

/// Runs a file's statements one by one.
pub(super) async fn run(session: &Session, script: &Script) -> Result<(), Failure> {
    for (index, statement) in script.parsed.statements.iter().enumerate() {
        let outcome = session.batch_execute(&statement.text).await;
        outcome.map_err(|error| Failure::of(error, script, index, statement))?;
    }
    Ok(())
}

/// Runs the one statement of a file without a transaction. What a killed try left is removed before, and what a failed
/// one leaves, after.
pub(super) async fn run_alone(session: &Session, script: &Script) -> Result<(), Failure> {
    let index = script
        .parsed
        .statements
        .first()
        .and_then(lint::index_built_concurrently);
    let Some(index) = index else {
        return run(session, script).await;
    };
    remove_invalid_index(session, &index).await?;
    let outcome = run(session, script).await;
    if outcome.is_err() && !session.is_closed() {
        let _ = remove_invalid_index(session, &index).await;
    }
    outcome
}

/// A CREATE INDEX CONCURRENTLY that failed or was killed leaves an index that is never used but always maintained, and
/// that IF NOT EXISTS takes for the real one.
async fn remove_invalid_index(session: &Session, index: &str) -> Result<(), Failure> {
    let row = session
        .query_one(queries::INDEX_IS_INVALID, &[&index])
        .await?;
    if row.get(0) {
        tracing::warn!(
            index,
            "removing an invalid index that an earlier try left behind"
        );
        let drop = format!(
            "drop index concurrently if exists public.\"{}\"",
            index.replace('"', "\"\"")
        );
        session.batch_execute(&drop).await?;
    }
    Ok(())
}

async fn record(
    session: &Session,
    migration: &Migration,
    applied_at: DateTime<Utc>,
    started: Instant,
) -> Result<(), Failure> {
    // A file may have looked elsewhere for its own transaction.
    session
        .batch_execute("set local search_path = public, pg_temp")
        .await?;
    let catalogue = catalogue::read(session).await?.join("\n");
    let milliseconds = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    session
        .execute(
            queries::RECORD,
            &[
                &migration.number,
                &migration.name,
                &migration.up.checksum,
                &migration.down.checksum,
                &migration.down.sql,
                &migration.up.backward_compatible,
                &catalogue,
                &applied_at,
                &milliseconds,
            ],
        )
        .await?;
    Ok(())
}

/// A pause that grows, and that no two migrators share.
pub(super) async fn pause(limits: &Limits, attempt: u32) {
    let longest = limits.longest_pause;
    let pause = (longest / 10).saturating_mul(attempt.min(10));
    let share = rand::rng().random_range(0.5..1.0);
    tokio::time::sleep(pause.mul_f64(share)).await;
}

/// Locks could not be had; says who holds any, the oldest first, because it is nearly always one of them.
pub(super) async fn blocked(session: &Session, failure: &Failure, attempts: u32) -> Error {
    // The role that connected may see more of others than the owner does.
    let _ = session.batch_execute("reset role").await;
    let holders = session
        .query(queries::HOLDERS, &[])
        .await
        .unwrap_or_default();
    let holders: Vec<String> = holders.iter().map(|row| row.get(0)).collect();
    let who = if holders.is_empty() {
        "nobody holds one now".to_owned()
    } else {
        format!("held now by {}", holders.join("; "))
    };
    Error::unavailable(
        "migration_blocked",
        format!(
            "{}: its locks could not be had in {attempts} tries; nothing was changed: run it again when those that hold \
             them are done ({who})",
            failure.place
        ),
    )
}

/// What stopped a try.
#[derive(Debug)]
pub(super) struct Failure {
    place: String,
    error: tokio_postgres::Error,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self {
            place: "the migrator's own bookkeeping".to_owned(),
            error,
        }
    }
}

impl Failure {
    fn of(
        error: tokio_postgres::Error,
        script: &Script,
        index: usize,
        statement: &Statement,
    ) -> Self {
        // The database counts characters from the beginning of the statement.
        let offset = match error.as_db_error().and_then(|error| error.position()) {
            Some(&ErrorPosition::Original(position)) => statement
                .text
                .chars()
                .take((position as usize).saturating_sub(1))
                .filter(|c| *c == '\n')
                .count(),
            _ => 0,
        };
        Self {
            place: format!(
                "{}, statement {}, line {}",
                script.file,
                index + 1,
                statement.line + offset
            ),
            error,
        }
    }

    /// Whether the same can work a moment later.
    pub(super) fn is_busy(&self) -> bool {
        matches!(
            self.error.code(),
            Some(
                &(SqlState::LOCK_NOT_AVAILABLE
                    | SqlState::T_R_DEADLOCK_DETECTED
                    | SqlState::T_R_SERIALIZATION_FAILURE)
            )
        )
    }

    pub(super) fn into_error(self) -> Error {
        let Some(said) = self.error.as_db_error() else {
            return Error::unavailable(
                "migration_interrupted",
                format!(
                    "{}: the connection to the database was lost; `utxoiq-store migrate status` shows what took effect, \
                     and `up` goes on from there",
                    self.place
                ),
            )
            .with_source(self.error);
        };
        let mut message = format!("{}: {}", self.place, said.message());
        for (label, text) in [
            ("detail", said.detail()),
            ("hint", said.hint()),
            ("where", said.where_()),
        ] {
            if let Some(text) = text {
                message.push_str(&format!("; {label}: {text}"));
            }
        }
        message.push_str(" (nothing of this migration stays)");
        Error::new(Kind::Internal, "migration_failed", message)
    }
}

//! Rolling back the newest migration (C5.4), and what that would lose.
//!
//! Nobody can tell from the text of a down file what it costs. So it is tried: run under a savepoint, the tables and
//! columns before and after compared, and undone. What vanished is then counted as it stands. Only when nothing is in
//! it, or the caller said that it may go, is the file run for good:
//!
//! ```text
//! begin → savepoint → run → compare → rollback to savepoint → count
//!                                                              ├ something would be lost: rollback, refuse, say what
//!                                                              └ nothing: lock out writers, count again, run, commit
//! ```
//!
//! The second count matters: the savepoint's locks go with it, and a writer may have come in between.

use super::{
    Direction, Drift, Limits, Migrator, Script,
    apply::{Failure, begin, blocked, pause, run, run_alone, table_exists},
    catalogue, lint,
    loss::{Candidate, Loss, Snapshot},
    queries,
    session::Session,
    source::label,
};
use crate::error::{Error, Result};

/// What the caller accepts.
#[derive(Debug, Clone, Copy, Default)]
pub struct DownOptions {
    /// Whether rows may be lost.
    pub allow_data_loss: bool,
}

/// A migration that was just rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// Its number.
    pub number: i32,
    /// `verb_noun`.
    pub name: String,
    /// What was lost, as the caller allowed.
    pub lost: Vec<Loss>,
    /// How the schema now differs from what was recorded after the migration before, beyond how it differed already;
    /// empty as it should be.
    pub drift: Vec<Drift>,
}

/// The newest migration as the database keeps it.
struct Newest {
    number: i32,
    name: String,
    script: Script,
    /// The catalogue recorded after it.
    after: Vec<String>,
    /// The catalogue recorded by the one before; `None` for the first.
    before: Option<Vec<String>>,
}

impl Migrator {
    /// Rolls back the newest migration, with the down file that was kept when it was applied; `None` when none is.
    ///
    /// Fails as `would_lose_data` with the tables, columns and counts, unless the options allow it.
    pub async fn down(&self, url: &str, options: DownOptions) -> Result<Option<RolledBack>> {
        let session = Session::open(url).await?;
        let outcome = down_in(&session, &self.limits, options).await;
        session.close().await;
        outcome
    }
}

async fn down_in(
    session: &Session,
    limits: &Limits,
    options: DownOptions,
) -> Result<Option<RolledBack>> {
    session.lock(limits).await?;
    let Some(newest) = newest(session).await? else {
        return Ok(None);
    };
    if let Some(finding) = lint::unrunnable(&newest.script) {
        return Err(Error::invalid("migration_invalid", finding.to_string()));
    }
    let mut attempts = 1;
    loop {
        let outcome = if newest.script.in_transaction {
            in_transaction(session, limits, &newest, options).await
        } else {
            alone(session, limits, &newest, options).await
        };
        let failure = match outcome {
            Ok(done) => {
                tracing::info!(
                    migration = label(done.number, &done.name),
                    "rolled back a migration"
                );
                return Ok(Some(done));
            }
            Err(Stop::Refused(error)) => return Err(error),
            Err(Stop::Failed(failure)) => failure,
        };
        if !failure.is_busy() {
            return Err(failure.into_error());
        }
        if attempts == limits.attempts {
            return Err(blocked(session, &failure, attempts).await);
        }
        pause(limits, attempts).await;
        attempts += 1;
    }
}

/// Why a try ended.
enum Stop {
    Refused(Error),
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<tokio_postgres::Error> for Stop {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error.into())
    }
}

async fn newest(session: &Session) -> Result<Option<Newest>> {
    if !table_exists(session).await? {
        return Ok(None);
    }
    let Some(row) = session.query_opt(queries::NEWEST, &[]).await? else {
        return Ok(None);
    };
    let (number, name): (i32, String) = (row.get("number"), row.get("name"));
    let file = format!("{}.down.sql", label(number, &name));
    let before: Option<String> = row.get("catalogue_before");
    Ok(Some(Newest {
        script: Script::new(file, Direction::Down, row.get::<_, String>("down_sql"))?,
        number,
        name,
        after: lines(row.get("catalogue")),
        before: before.as_deref().map(lines),
    }))
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

async fn in_transaction(
    session: &Session,
    limits: &Limits,
    newest: &Newest,
    options: DownOptions,
) -> Result<RolledBack, Stop> {
    begin(session, limits).await?;
    let outcome = async {
        let earlier = earlier_drift(session, newest).await?;
        let lost = what_is_lost(session, newest, options).await?;
        run(session, &newest.script).await?;
        let done = forget(session, newest, lost, &earlier).await?;
        session.batch_execute("commit").await?;
        Ok(done)
    }
    .await;
    if outcome.is_err() {
        // Without a connection the server rolls back by itself.
        let _ = session.batch_execute("rollback").await;
    }
    outcome
}

/// A statement that runs in no transaction cannot be tried; of those, changes of indexes lose nothing.
async fn alone(
    session: &Session,
    limits: &Limits,
    newest: &Newest,
    options: DownOptions,
) -> Result<RolledBack, Stop> {
    let harmless = newest
        .script
        .parsed
        .statements
        .iter()
        .all(lint::is_index_change);
    if !harmless && !options.allow_data_loss {
        return Err(Stop::Refused(Error::conflict(
            "would_lose_data",
            format!(
                "{} runs without a transaction, so that what it loses cannot be found out: read it, then run \
                 `utxoiq-store migrate down --allow-data-loss`",
                newest.script.file
            ),
        )));
    }
    session.batch_execute("set lock_timeout = 0").await?;
    let earlier = earlier_drift(session, newest).await?;
    run_alone(session, &newest.script).await?;
    begin(session, limits).await?;
    let done = forget(session, newest, Vec::new(), &earlier).await?;
    session.batch_execute("commit").await?;
    Ok(done)
}

/// How the schema differs from what was recorded, before the file runs: none of its doing.
async fn earlier_drift(session: &Session, newest: &Newest) -> Result<Vec<Drift>, Stop> {
    Ok(catalogue::compare(
        &newest.after,
        &catalogue::read(session).await?,
    ))
}

/// Removes the record, and looks whether the schema is what it was before.
async fn forget(
    session: &Session,
    newest: &Newest,
    lost: Vec<Loss>,
    earlier: &[Drift],
) -> Result<RolledBack, Stop> {
    session
        .batch_execute("set local search_path = public, pg_temp")
        .await?;
    let removed = session.execute(queries::FORGET, &[&newest.number]).await?;
    if removed != 1 {
        return Err(Stop::Refused(Error::internal(
            "the migration's record was gone",
        )));
    }
    let mut drift = match &newest.before {
        Some(before) => catalogue::compare(before, &catalogue::read(session).await?),
        None => Vec::new(),
    };
    drift.retain(|line| !earlier.contains(line));
    Ok(RolledBack {
        number: newest.number,
        name: newest.name.clone(),
        lost,
        drift,
    })
}

/// Tries the file, undoes it, and counts what would be gone; refuses unless that is nothing, or allowed.
async fn what_is_lost(
    session: &Session,
    newest: &Newest,
    options: DownOptions,
) -> Result<Vec<Loss>, Stop> {
    let before = Snapshot::read(session).await?;
    session.batch_execute("savepoint trial").await?;
    run(session, &newest.script).await?;
    let after = Snapshot::read(session).await?;
    let emptied = emptied(session, &before, &after).await?;
    session.batch_execute("rollback to savepoint trial").await?;
    let candidates = before.gone_in(&after);
    let mut lost = count(session, &candidates).await?;
    lost.extend(rows_gone(session, emptied).await?);
    lost.extend(before.deleted_in(&after));
    if options.allow_data_loss {
        return Ok(lost);
    }
    if lost.is_empty() && !candidates.is_empty() {
        lock_out_writers(session, &candidates).await?;
        lost = count(session, &candidates).await?;
    }
    if lost.is_empty() {
        return Ok(lost);
    }
    let listed: Vec<String> = lost.iter().map(ToString::to_string).collect();
    Err(Stop::Refused(Error::conflict(
        "would_lose_data",
        format!(
            "rolling back {} would lose: {}; save it first, or accept that with `utxoiq-store migrate down \
             --allow-data-loss`",
            label(newest.number, &newest.name),
            listed.join(", ")
        ),
    )))
}

async fn count(session: &Session, candidates: &[Candidate]) -> Result<Vec<Loss>, Stop> {
    let mut lost = Vec::new();
    for candidate in candidates {
        let sql = format!(
            "select count({}) from {}",
            candidate.counted, candidate.table
        );
        let counted: i64 = session.query_one(&sql, &[]).await?.get(0);
        if counted > 0 {
            lost.push(candidate.loss.clone().of(counted));
        }
    }
    Ok(lost)
}

async fn lock_out_writers(session: &Session, candidates: &[Candidate]) -> Result<(), Stop> {
    let mut tables: Vec<&str> = candidates
        .iter()
        .map(|candidate| candidate.table.as_str())
        .collect();
    tables.sort_unstable();
    tables.dedup();
    let lock = format!(
        "lock table {} in share row exclusive mode",
        tables.join(", ")
    );
    Ok(session.batch_execute(&lock).await?)
}

/// Tables whose file was replaced during the trial (TRUNCATE, or a rewrite), with the rows they then had.
async fn emptied(
    session: &Session,
    before: &Snapshot,
    after: &Snapshot,
) -> Result<Vec<(String, i64)>, Stop> {
    let mut found = Vec::new();
    for (oid, table) in &before.tables {
        let Some(then) = after
            .tables
            .get(oid)
            .filter(|then| then.filenode != table.filenode)
        else {
            continue;
        };
        let sql = format!("select count(*) from {}", then.name);
        found.push((
            table.name.clone(),
            session.query_one(&sql, &[]).await?.get(0),
        ));
    }
    Ok(found)
}

async fn rows_gone(session: &Session, emptied: Vec<(String, i64)>) -> Result<Vec<Loss>, Stop> {
    let mut lost = Vec::new();
    for (table, then) in emptied {
        let sql = format!("select count(*) from {table}");
        let rows = session.query_one(&sql, &[]).await?.get::<_, i64>(0) - then;
        if rows > 0 {
            lost.push(Loss::Rows { table, rows });
        }
    }
    Ok(lost)
}

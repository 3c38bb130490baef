//! What is applied, what is pending, and what changed behind our back.

use super::{
    Drift, Migrator, Record,
    apply::{changed, history, table_exists},
    catalogue, queries,
    session::Session,
};
use crate::error::Result;

/// How a database stands to a set of migrations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// What was applied, in order; also what this binary does not know.
    pub applied: Vec<Record>,
    /// Ours that were not applied, as `NNNN_verb_noun`.
    pub pending: Vec<String>,
    /// Applied ones that this binary does not know, as `NNNN_verb_noun`: a newer release was here.
    pub unknown: Vec<String>,
    /// Applied ones whose files are not what was applied, with what differs.
    pub changed: Vec<String>,
    /// How the schema differs from what was recorded after the newest migration.
    pub drift: Vec<Drift>,
}

impl Status {
    /// Whether everything of ours is applied as it is, and the schema is as recorded.
    pub fn is_clean(&self) -> bool {
        self.pending.is_empty() && self.changed.is_empty() && self.drift.is_empty()
    }
}

impl Migrator {
    /// Compares the database with the files. Changes nothing and waits for nobody.
    pub async fn status(&self, url: &str) -> Result<Status> {
        let session = Session::open_to_read(url).await?;
        let outcome = self.status_in(&session).await;
        session.close().await;
        outcome
    }

    async fn status_in(&self, session: &Session) -> Result<Status> {
        session
            .batch_execute(
                "begin isolation level repeatable read read only; set local lock_timeout = '1s'",
            )
            .await?;
        if !table_exists(session).await? {
            return Ok(Status {
                pending: self
                    .migrations
                    .iter()
                    .map(super::Migration::label)
                    .collect(),
                ..Status::default()
            });
        }
        let mut status = self.compare(history(session).await?);
        if let Some(row) = session.query_opt(queries::NEWEST_CATALOGUE, &[]).await? {
            let recorded: Vec<String> = row.get::<_, &str>(0).lines().map(str::to_owned).collect();
            status.drift = catalogue::compare(&recorded, &catalogue::read(session).await?);
        }
        session.batch_execute("commit").await?;
        Ok(status)
    }

    fn compare(&self, applied: Vec<Record>) -> Status {
        let mut status = Status::default();
        for migration in &self.migrations {
            match applied
                .iter()
                .find(|record| record.number == migration.number)
            {
                None => status.pending.push(migration.label()),
                Some(record) => {
                    let what = changed(migration, record);
                    status
                        .changed
                        .extend(what.map(|what| format!("{}: {what}", migration.label())));
                }
            }
        }
        let known = |record: &&Record| {
            self.migrations
                .iter()
                .any(|migration| migration.number == record.number)
        };
        status.unknown = applied
            .iter()
            .filter(|record| !known(record))
            .map(Record::label)
            .collect();
        status.applied = applied;
        status
    }
}

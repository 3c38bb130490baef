//! A database that is there for one proof, or one probe of the criteria, and gone after it.
//!
//! It is dropped when its handle is: in good time by [`Scratch::remove`], else from a thread of its own, since neither a future that
//! is dropped nor a runtime that ends can wait for a server. Where the process is killed, the next drill drops it: its name says
//! which proof it was for.

use std::{collections::BTreeMap, sync::mpsc, thread, time::Duration};

use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::{
    backup::{
        connection::Target,
        queries::{proofs, target},
    },
    config::Secret,
    db::{self, Dedicated, Pool, roles},
    error::{Error, Result},
};

/// How the names of scratch databases begin; a proof's id follows.
const PREFIX: &str = "utxoiq_drill_";

/// Where the server is named.
const SETTING: &str = "database.drill_url";

/// How long the thread that drops a database is waited for.
const DROPPED_WITHIN: Duration = Duration::from_secs(20);

/// A database with the roles' rights and nothing in it.
#[derive(Debug)]
pub struct Scratch {
    server: Target,
    name: String,
    /// The database itself.
    pub(in crate::backup) target: Target,
    is_gone: bool,
}

impl Scratch {
    /// The database for a proof on the server of `server`. Nothing is made yet.
    pub(in crate::backup) fn of(server: &Target, proof: Uuid) -> Result<Self> {
        Self::named(server, format!("{PREFIX}{}", proof.simple()))
    }

    /// A database for something else than a proof, beside the one of `database.drill_url`. Nothing is made yet.
    pub fn beside(drill_url: &Secret, prefix: &str, id: Uuid) -> Result<Self> {
        let server = Target::parse(drill_url, SETTING)?;
        Self::named(&server, format!("{prefix}{}", id.simple()))
    }

    fn named(server: &Target, name: String) -> Result<Self> {
        Ok(Self {
            target: server.with_database(&name)?,
            server: server.clone(),
            name,
            is_gone: true,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes it.
    pub async fn create(&mut self) -> Result<()> {
        let connection = self.server.open("utxoiq-store drill").await?;
        // From here on it may be there, whatever is heard of it.
        self.is_gone = false;
        for sql in target::create_database(&self.name) {
            connection.batch_execute(&sql).await.map_err(|error| {
                let why = error
                    .as_db_error()
                    .map_or("the connection was lost", |error| error.message())
                    .to_owned();
                Error::unavailable(
                    "no_scratch_database",
                    format!("the database to restore into could not be made: {why}"),
                )
                .with_source(error)
            })?;
        }
        connection.close().await;
        let connection = self.target.open("utxoiq-store drill").await?;
        connection.batch_execute(roles::sql_of_database()).await?;
        // What is restored has everybody's grants in it; nobody else is to come in.
        connection
            .batch_execute(&target::close_to_others(&self.name))
            .await?;
        connection.close().await;
        Ok(())
    }

    /// Drops it.
    pub async fn remove(mut self) -> Result<()> {
        drop_database(&self.server, &self.name).await?;
        self.is_gone = true;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_gone {
            return;
        }
        let (server, name) = (self.server.clone(), self.name.clone());
        let (sender, done) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime.map(|runtime| runtime.block_on(drop_database(&server, &name))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(database = name, error = %error.report(), "a scratch database could not be dropped; the next drill does it");
                }
                Err(error) => {
                    tracing::warn!(database = name, %error, "a scratch database could not be dropped; the next drill does it");
                }
            }
            let _ = sender.send(());
        });
        let _ = done.recv_timeout(DROPPED_WITHIN);
    }
}

async fn drop_database(server: &Target, name: &str) -> Result<()> {
    let connection = server.open("utxoiq-store drill").await?;
    drop_on(&connection, name).await?;
    connection.close().await;
    Ok(())
}

/// Drops a database on a connection to another one. Who is in it is put out; where that is refused, since one of the server's own
/// workers (autovacuum), who are nobody's, is among them, it is dropped as if nobody were in it: then the server ends those workers
/// itself, and waits for them.
async fn drop_on(connection: &Dedicated, name: &str) -> Result<()> {
    let dropped = connection.batch_execute(&target::drop_database(name)).await;
    match dropped {
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let unused = target::drop_unused_database(name);
            Ok(connection.batch_execute(&unused).await?)
        }
        dropped => Ok(dropped?),
    }
}

/// The databases on the server of `database.drill_url` that a query names, by the ids at the ends of their names.
pub async fn left_behind(drill_url: &Secret, prefix: &str, sql: &str) -> Result<Vec<Uuid>> {
    let server = Target::parse(drill_url, SETTING)?;
    let connection = server.open("utxoiq-store drill").await?;
    let rows = connection.query(sql, &[]).await?;
    connection.close().await;
    let ids = rows.iter().filter_map(|row| {
        let name: String = row.try_get("name").ok()?;
        Uuid::try_parse(name.strip_prefix(prefix)?).ok()
    });
    Ok(ids.collect())
}

/// Drops the database that [`Scratch::beside`] made for an id.
pub async fn drop_left(drill_url: &Secret, prefix: &str, id: Uuid) -> Result<()> {
    let server = Target::parse(drill_url, SETTING)?;
    drop_database(&server, &format!("{prefix}{}", id.simple())).await
}

/// Drops what proofs that are over have left on the server. What this history does not know is another one's.
pub(super) async fn sweep(server: &Target, history: &Pool) -> Result<()> {
    let connection = server.open("utxoiq-store drill").await?;
    let mut found = BTreeMap::new();
    for row in connection.query(proofs::SCRATCH.sql, &[]).await? {
        let name: String = row.try_get("name")?;
        let id = name
            .strip_prefix(PREFIX)
            .and_then(|id| Uuid::try_parse(id).ok());
        found.extend(id.map(|id| (id, name)));
    }
    if found.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = found.keys().copied().collect();
    let rows = db::query(&history.get().await?, &proofs::OVER, &[&ids]).await?;
    for row in rows {
        let Some(name) = found.get(&row.try_get("id")?) else {
            continue;
        };
        tracing::warn!(database = name, "dropping what a drill has left behind");
        drop_on(&connection, name).await?;
    }
    connection.close().await;
    Ok(())
}

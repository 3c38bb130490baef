//! The one connection a migrator works on, and the lock it holds there.

use std::{
    ops::Deref,
    time::{Duration, Instant},
};

use rand::RngExt as _;
use tokio_postgres::error::SqlState;

use super::{Limits, queries};
use crate::{
    db::{Dedicated, roles},
    error::{Error, Result},
};

/// The session's settings.
///
/// The server asks every second whether we are still there while it works or waits for us, so that the lock of a
/// killed migrator goes soon, and ends a session that froze.
const SETTINGS: &str = "
    set client_connection_check_interval = '1s';
    set idle_in_transaction_session_timeout = '60s';
    set tcp_keepalives_idle = 30;
    set tcp_keepalives_interval = 10;
    set tcp_keepalives_count = 3;
    set statement_timeout = 0;
    set default_transaction_isolation = 'read committed';
    set default_transaction_read_only = off;
    set standard_conforming_strings = on;
    set check_function_bodies = on;
    set client_min_messages = warning;
    set search_path = public, pg_temp;
    set timezone = 'UTC'";

/// A session of the owner's.
pub(super) struct Session {
    connection: Dedicated,
}

impl Deref for Session {
    type Target = Dedicated;

    fn deref(&self) -> &Dedicated {
        &self.connection
    }
}

impl Session {
    /// Connects and becomes the owner.
    pub(super) async fn open(url: &str) -> Result<Self> {
        let session = Self::open_as_is(url).await?;
        session.become_owner().await?;
        Ok(session)
    }

    /// Connects, and becomes the owner where it may: for reading. The migrator may read as the owner only, the
    /// application only as itself.
    pub(super) async fn open_to_read(url: &str) -> Result<Self> {
        let session = Self::open_as_is(url).await?;
        // Refused is as good: then its own rights have to do, and what it reads says whether they did.
        let _ = session.become_owner().await;
        Ok(session)
    }

    /// Connects and stays who it is.
    async fn open_as_is(url: &str) -> Result<Self> {
        let connection = Dedicated::open(url, "utxoiq-store migrate").await?;
        connection.batch_execute(SETTINGS).await?;
        Ok(Self { connection })
    }

    /// Everything a migration makes belongs to the role nobody logs in as.
    async fn become_owner(&self) -> Result<()> {
        let Err(error) = self.batch_execute("set role utxoiq_owner").await else {
            return Ok(());
        };
        let owner = roles::OWNER;
        let message = match error.code() {
            Some(&(SqlState::INVALID_PARAMETER_VALUE | SqlState::UNDEFINED_OBJECT)) => {
                format!(
                    "the role {owner} does not exist: run `utxoiq-store init` first, as an administrator"
                )
            }
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => format!(
                "the connecting role may not become {owner}: connect as {}, or run `utxoiq-store init` again as an administrator",
                roles::MIGRATOR
            ),
            _ => return Err(error.into()),
        };
        Err(Error::conflict("roles_missing", message))
    }

    /// Waits until no other migrator works on this database.
    ///
    /// It asks again and again instead of waiting in `pg_advisory_lock`: a migrator that waits there holds a snapshot
    /// all the time, for which a CREATE INDEX CONCURRENTLY of the migrator at work waits in turn: a deadlock.
    pub(super) async fn lock(&self, limits: &Limits) -> Result<()> {
        let started = Instant::now();
        loop {
            let row = self
                .query_one(queries::TRY_LOCK, &[&queries::LOCK_KEY])
                .await?;
            if row.get(0) {
                return Ok(());
            }
            if started.elapsed() >= limits.wait_for_other {
                return Err(Error::unavailable(
                    "migration_locked",
                    format!(
                        "another migrator has been at work on this database for {} seconds: wait for it, or see who \
                         holds an advisory lock in pg_locks",
                        limits.wait_for_other.as_secs()
                    ),
                ));
            }
            let pause = rand::rng().random_range(20..120);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Gives the lock back and says goodbye.
    pub(super) async fn close(self) {
        // The server would do it too, a moment after the connection is gone.
        let _ = self.execute("select pg_advisory_unlock_all()", &[]).await;
        self.connection.close().await;
    }
}

//! A transaction that cannot be left open on a connection of the pool.

use deadpool_postgres::Object;

use super::{Connection, Pool};
use crate::error::{Error, Result};

/// A connection with a transaction begun on it. Where it is dropped before [`Self::end`], because its caller went away in
/// the middle, the connection leaves the pool: whatever runs on it ends with it, and nobody gets it as it is.
pub struct OpenTransaction {
    connection: Option<Connection>,
}

impl OpenTransaction {
    /// Takes a connection and begins, with `begin` and what else is to be set.
    pub async fn begin(pool: &Pool, begin: &str) -> Result<Self> {
        let open = Self::on(pool.get().await?);
        open.connection()?.batch_execute(begin).await?;
        Ok(open)
    }

    /// On a connection on which the caller begins the transaction.
    pub fn on(connection: Connection) -> Self {
        Self {
            connection: Some(connection),
        }
    }

    /// The connection.
    pub fn connection(&self) -> Result<&Connection> {
        let connection = self.connection.as_ref();
        connection.ok_or_else(|| Error::internal("a transaction that is over was used"))
    }

    /// Commits what succeeded, rolls back what did not, and gives the connection back.
    pub async fn end<T>(mut self, outcome: Result<T>) -> Result<T> {
        let end = if outcome.is_ok() {
            "commit"
        } else {
            "rollback"
        };
        let ended = self.connection()?.batch_execute(end).await;
        if ended.is_ok() {
            self.connection.take();
        }
        // The first failure is the one to tell.
        let value = outcome?;
        ended?;
        Ok(value)
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(Object::take(connection));
        }
    }
}

//! PostgreSQL: the [`pool`] of connections, the [`migrate`] module that owns the schema, and the few lines through
//! which every statement of ours runs.
//!
//! A statement is declared once, in its slice's `queries.rs`, with the types of its parameters and columns
//! ([`Statement`]). It is prepared on first use and kept for the life of the connection. A test prepares every
//! declared statement against the migrated schema and compares the types, so that a column renamed by a migration
//! fails in the tests instead of at night.

mod copy;
mod dedicated;
mod login;
pub mod migrate;
mod open;
mod password;
pub mod pool;
pub mod replica;
pub mod roles;
mod snapshot;
mod tls;

use deadpool_postgres::GenericClient;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

pub use copy::{Copied, Fields, POSTGRES_EPOCH};
pub use dedicated::Dedicated;
pub(crate) use login::password_of;
pub use open::OpenTransaction;
pub use pool::{Connection, Pool};
pub use replica::Reads;
pub use snapshot::{Snapshot, TransactionId};
pub(crate) use tls::variables as tls_variables;

use crate::{
    error::{Error, Result},
    trace,
};

/// One SQL statement with the types it takes and gives.
#[derive(Debug)]
pub struct Statement {
    /// Its name in tests and logs: `slice.verb_noun`.
    pub name: &'static str,
    /// The text, with `$n` parameters.
    pub sql: &'static str,
    /// The parameters' types, in order.
    pub params: &'static [Type],
    /// The columns' names and types, in order; empty for a statement without a result.
    pub columns: &'static [(&'static str, Type)],
}

/// Bound values.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Work that is one statement, in a span that has the statement's name.
pub(crate) fn traced<T>(
    statement: &Statement,
    work: impl Future<Output = Result<T>>,
) -> impl Future<Output = Result<T>> {
    trace::within(trace::statement(statement.name), work)
}

/// Runs a statement and returns all rows.
pub async fn query(
    client: &impl GenericClient,
    statement: &Statement,
    params: Params<'_>,
) -> Result<Vec<Row>> {
    traced(statement, async {
        let prepared = client
            .prepare_typed_cached(statement.sql, statement.params)
            .await?;
        Ok(client.query(&prepared, params).await?)
    })
    .await
}

/// As [`query`], planned for these very values, so that only the partitions that they are about are locked and read: the
/// sessions keep plans for all values. In a transaction of its own, sent together with the statement.
pub async fn query_pruned(
    connection: &Connection,
    statement: &Statement,
    params: Params<'_>,
) -> Result<Vec<Row>> {
    traced(statement, async {
        let prepared = connection
            .prepare_typed_cached(statement.sql, statement.params)
            .await?;
        let (begun, rows, ended) = tokio::join!(
            biased;
            connection.batch_execute("begin read only; set local plan_cache_mode = force_custom_plan"),
            connection.query(&prepared, params),
            connection.batch_execute("commit"),
        );
        begun?;
        let rows = rows?;
        ended?;
        Ok(rows)
    })
    .await
}

/// Runs a statement that gives at most one row.
pub async fn query_opt(
    client: &impl GenericClient,
    statement: &Statement,
    params: Params<'_>,
) -> Result<Option<Row>> {
    traced(statement, async {
        let prepared = client
            .prepare_typed_cached(statement.sql, statement.params)
            .await?;
        Ok(client.query_opt(&prepared, params).await?)
    })
    .await
}

/// Runs a statement that gives exactly one row.
pub async fn query_one(
    client: &impl GenericClient,
    statement: &Statement,
    params: Params<'_>,
) -> Result<Row> {
    query_opt(client, statement, params)
        .await?
        .ok_or_else(|| Error::internal(format!("{} gave no row", statement.name)))
}

/// Runs a statement and returns how many rows it changed.
pub async fn execute(
    client: &impl GenericClient,
    statement: &Statement,
    params: Params<'_>,
) -> Result<u64> {
    traced(statement, async {
        let prepared = client
            .prepare_typed_cached(statement.sql, statement.params)
            .await?;
        Ok(client.execute(&prepared, params).await?)
    })
    .await
}

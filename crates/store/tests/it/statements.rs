//! Every declared statement is prepared against the migrated schema: its types must be those of its declaration.

use tokio_postgres::{error::SqlState, types::Type};
use utxoiq_store::{
    alert, audit, backfill, backup, cache,
    db::{Statement, migrate, replica},
    feedback, metrics, retention, schedule, slo, token,
};

use crate::support::TestDb;

#[tokio::test]
async fn every_statement_takes_and_gives_what_it_declares() {
    let db = TestDb::new().await;
    let client = db.client(utxoiq_store::db::roles::APP).await;
    let mut names = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for statement in all() {
        assert!(
            names.insert(statement.name),
            "{} is declared twice",
            statement.name
        );
        // Without declared types the server infers them: that it infers the same is what is checked.
        let prepared = match client.prepare(statement.sql).await {
            Ok(prepared) => prepared,
            // Where it cannot infer one, the declared types decide.
            Err(error)
                if [
                    SqlState::INDETERMINATE_DATATYPE,
                    SqlState::AMBIGUOUS_PARAMETER,
                ]
                .iter()
                .any(|state| error.code() == Some(state)) =>
            {
                client
                    .prepare_typed(statement.sql, statement.params)
                    .await
                    .unwrap()
            }
            Err(error) => panic!("{}: {error:?}", statement.name),
        };
        let typed = client.prepare_typed(statement.sql, statement.params).await;
        let typed = typed.unwrap_or_else(|error| panic!("{}: {error:?}", statement.name));
        if typed.params() != statement.params || prepared.params().len() != statement.params.len() {
            wrong.push(format!(
                "{}: parameters {:?}, declared {:?}",
                statement.name,
                typed.params(),
                statement.params
            ));
        }
        let columns: Vec<(&str, Type)> = typed
            .columns()
            .iter()
            .map(|column| (column.name(), column.type_().clone()))
            .collect();
        if columns != statement.columns {
            wrong.push(format!(
                "{}: columns {columns:?}, declared {:?}",
                statement.name, statement.columns
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn all() -> Vec<&'static Statement> {
    [
        alert::queries::ALL,
        audit::queries::ALL,
        backfill::queries::ALL,
        cache::outbox::ALL,
        replica::ALL,
        feedback::queries::ALL,
        feedback::queries::READ,
        metrics::queries::ALL,
        migrate::STATEMENTS,
        backup::queries::ALL,
        retention::queries::ALL,
        schedule::queries::ALL,
        slo::queries::ALL,
        token::queries::ALL,
    ]
    .concat()
}

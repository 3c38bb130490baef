//! The criteria: how they are judged, and that each can be seen red.

mod facts;
mod overdue;
mod probes;
mod red;

use utxoiq_store::{
    Store,
    slo::{Criterion, Report},
};

use crate::support::TestDb;

/// What is wrong, for people.
pub fn lines(report: &Report) -> String {
    let line = |one: &Criterion| {
        format!(
            "{} {} {} | {}",
            one.id,
            one.state.as_str(),
            one.summary,
            one.reason.as_deref().unwrap_or("-")
        )
    };
    report
        .criteria
        .iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A store that judges, with these settings more.
pub fn store(db: &TestDb, vars: &[(&str, &str)]) -> Store {
    Store::open(db.settings_with(vars)).unwrap()
}

//! Feedback against a real database.

mod counts;
mod folds;
mod group_commit;
mod storm;
mod writes;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::Client;
use utxoiq_store::{Store, feedback::Counts};

use crate::support::TestDb;

/// A moment to count from.
pub fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 0).unwrap()
}

/// So many seconds after it.
pub fn at(seconds: i64) -> DateTime<Utc> {
    noon() + TimeDelta::seconds(seconds)
}

pub async fn store() -> (TestDb, Store) {
    let db = TestDb::new().await;
    let store = db.store().await;
    (db, store)
}

/// The statistics of an insight's rows, as the store has them.
pub async fn counts(store: &Store, insight_id: &str) -> Counts {
    store.feedback().stats(insight_id).await.unwrap().live
}

/// One number out of the database.
pub async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

pub async fn assert_no_drift(store: &Store) {
    assert_eq!(store.feedback().drift(10).await.unwrap(), []);
}

/// Folded counts of days, and what is not folded yet, as text.
pub async fn days(client: &Client) -> Vec<String> {
    let sql = "select concat_ws(' ', insight_id, day, sum(ratings), sum(rating_sum), sum(comments), sum(flags), sum(withdrawals))
               from (select insight_id, day, ratings, rating_sum, comments, flags, withdrawals from feedback_days
                     union all
                     select insight_id, day, ratings, rating_sum, comments, flags, withdrawals from feedback_day_deltas) as acts
               group by insight_id, day order by 1";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

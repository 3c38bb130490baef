//! What retention owes, as the role that serves is told it.

use tokio_postgres::Client;
use utxoiq_store::db::roles;

use crate::support::TestDb;

const ASK: &str = "select what, due, oldest::text
                   from slo_overdue('2026-02-01', '2026-02-01', '2026-02-01', '2026-02-01', '2026-02-01')
                   where what in ('backfill_jobs', 'feedback', 'feedback_history') order by what";

/// Jobs that ended, and feedback given, at the first and the last moment of each of the first ten days of January.
const ROWS: &str = "
insert into insight_feedback (insight_id, user_id, rating, rated_at, created_at, updated_at)
select 'insight ' || d, 'user ' || d || last, 3, at, at, at
from generate_series(1, 10) d cross join generate_series(0, 1) last
cross join lateral (select '2026-01-01T00:00:00Z'::timestamptz + (d - 1 + last) * interval '1 day' - last * interval '1 microsecond' as at) t;
insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
    attempt_covered_blocks, claim_epoch, started_at, progressed_at, heard_at, ended_at)
select gen_random_uuid(), 'blocks', 0, 9, 'cancelled', '{}', 1, updated_at, 0, 0, updated_at, updated_at, updated_at, updated_at
from insight_feedback";

/// A hold: its columns, and their values.
async fn hold(admin: &Client, columns: &str, values: &str) {
    let sql = format!(
        "insert into legal_holds (id, reason, placed_by, placed_at, {columns})
         values (gen_random_uuid(), 'a case', 'a lawyer', '2026-01-01', {values})"
    );
    admin.batch_execute(&sql).await.unwrap();
}

async fn owed(app: &Client) -> Vec<(String, i64, Option<String>)> {
    let rows = app.query(ASK, &[]).await.unwrap();
    let row = |row: &tokio_postgres::Row| (row.get(0), row.get(1), row.get(2));
    rows.iter().map(row).collect()
}

/// The three kinds, each with how much of it is owed and the oldest day in January.
fn expected(each: [(i64, Option<i32>); 3]) -> Vec<(String, i64, Option<String>)> {
    let kinds = ["backfill_jobs", "feedback", "feedback_history"];
    let one = |(kind, (due, day)): (&str, (i64, Option<i32>))| {
        (
            kind.to_owned(),
            due,
            day.map(|day| format!("2026-01-{day:02}")),
        )
    };
    kinds.into_iter().zip(each).map(one).collect()
}

#[tokio::test]
async fn what_is_held_is_not_owed_and_all_else_is() {
    let db = TestDb::new().await;
    let (admin, app) = (db.admin().await, db.client(roles::APP).await);
    assert_eq!(owed(&app).await, expected([(0, None); 3]));
    admin.batch_execute(ROWS).await.unwrap();
    assert_eq!(owed(&app).await, expected([(20, Some(1)); 3]));

    // From the first moment of the first day to the last one of the last day.
    let days = "scope, dataset, first_day, last_day";
    hold(
        &admin,
        days,
        "'day', 'feedback', '2026-01-01', '2026-01-02'",
    )
    .await;
    assert_eq!(
        owed(&app).await,
        expected([(20, Some(1)), (16, Some(3)), (20, Some(1))])
    );
    // Of all datasets; it overlaps the first one.
    hold(&admin, days, "'day', null, '2026-01-02', '2026-01-04'").await;
    assert_eq!(
        owed(&app).await,
        expected([(14, Some(1)), (12, Some(5)), (14, Some(1))])
    );
    // Beyond what is old enough, too.
    hold(
        &admin,
        days,
        "'day', 'feedback_history', '2026-01-09', '2026-12-31'",
    )
    .await;
    hold(
        &admin,
        days,
        "'day', 'backfill_jobs', '2025-01-01', '2026-01-09'",
    )
    .await;
    assert_eq!(
        owed(&app).await,
        expected([(2, Some(10)), (12, Some(5)), (10, Some(1))])
    );
    hold(&admin, "scope, user_id", "'user', 'user 50'").await;
    hold(&admin, "scope, insight_id", "'insight', 'insight 1'").await;
    assert_eq!(
        owed(&app).await,
        expected([(2, Some(10)), (11, Some(5)), (7, Some(5))])
    );
    hold(&admin, days, "'day', null, '2020-01-01', '2030-01-01'").await;
    assert_eq!(owed(&app).await, expected([(0, None); 3]));
}

/// Blocks of the database that it takes to be told.
async fn blocks_read(admin: &Client) -> i64 {
    let sql = "explain (analyze, buffers, format json)
               select * from slo_overdue('2026-02-01', '2026-02-01', '2026-02-01', '2026-02-01', '2026-02-01')";
    let plan: serde_json::Value = admin.query_one(sql, &[]).await.unwrap().get(0);
    let count = |what: &str| plan[0]["Plan"][what].as_i64().unwrap();
    count("Shared Hit Blocks") + count("Shared Read Blocks")
}

#[tokio::test]
async fn years_under_a_hold_are_not_read() {
    let db = TestDb::new().await;
    let admin = db.admin().await;
    let fill = "insert into insight_feedback (insight_id, user_id, rating, rated_at, created_at, updated_at)
                select 'insight ' || n % 100, 'user ' || n, 3, at, at, at
                from generate_series(1, 30000) n
                cross join lateral (select '2023-01-01T12:00:00Z'::timestamptz + n % 700 * interval '1 day' as at) t";
    admin.batch_execute(fill).await.unwrap();
    let days = "scope, dataset, first_day, last_day";
    hold(&admin, days, "'day', null, '2023-01-01', '2025-12-31'").await;
    admin.batch_execute("vacuum analyze").await.unwrap();
    // The first one also reads the catalogue.
    blocks_read(&admin).await;
    let blocks = blocks_read(&admin).await;
    assert!(blocks < 100, "{blocks} blocks of 30,000 rows that are held");
    // What it counts does read them, so that the measure is one.
    admin
        .batch_execute("delete from legal_holds")
        .await
        .unwrap();
    let blocks = blocks_read(&admin).await;
    assert!(blocks > 100, "{blocks} blocks of 1,000 rows that are not");
}

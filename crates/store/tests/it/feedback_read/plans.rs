//! How the statements are executed: each list from an index of its own, whatever the values.

use tokio_postgres::Client;
use utxoiq_store::{db::Statement, feedback::queries};

use crate::support::TestDb;

/// The plan of a statement as the store's sessions make it: one for all values.
pub async fn plan(client: &Client, statement: &Statement, args: &str) -> String {
    let types: Vec<&str> = statement
        .params
        .iter()
        .map(tokio_postgres::types::Type::name)
        .collect();
    client
        .batch_execute("set plan_cache_mode = force_generic_plan; set jit = off; deallocate all")
        .await
        .unwrap();
    let prepare = format!("prepare asked ({}) as {}", types.join(", "), statement.sql);
    client.batch_execute(&prepare).await.unwrap();
    let explain = format!("explain execute asked ({args})");
    let rows = client.query(&explain, &[]).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.join("\n")
}

const SEARCH_ARGS: &str =
    "'-infinity', 'infinity', 'infinity', '00000000-0000-0000-0000-000000000000', 21, 0, true,
                           'user-1', 'insight-hot', 1, true, 'spam', true";

/// Which index the page is read from, and which the count where the leading condition is all there is.
const SEARCHES: &[(&Statement, &str, &str)] = &[
    (&queries::SEARCH_ONE, "one_per_user", "one_per_user"),
    (
        &queries::SEARCH_USER,
        "user_updated_idx",
        "user_updated_idx",
    ),
    (
        &queries::SEARCH_INSIGHT_FLAGGED,
        "insight_flagged_idx",
        "insight_flagged_idx",
    ),
    (
        &queries::SEARCH_INSIGHT_COMMENTED,
        "insight_commented_idx",
        "insight_commented_idx",
    ),
    (
        &queries::SEARCH_INSIGHT_RATING,
        "insight_rating_idx",
        "insight_rating_idx",
    ),
    (
        &queries::SEARCH_INSIGHT,
        "insight_updated_idx",
        "insight_updated_idx",
    ),
    (&queries::SEARCH_FLAG_TYPE, "flag_type_idx", "flag_type_idx"),
    (&queries::SEARCH_FLAGGED, "flagged_idx", "flagged_idx"),
    (&queries::SEARCH_COMMENTED, "commented_idx", "commented_idx"),
    (
        &queries::SEARCH_RATING,
        "rating_updated_idx",
        "rating_updated_idx",
    ),
    (&queries::SEARCH_TIME, "updated_idx", "updated_idx"),
];

/// So many entries. `insights` and `users` say how many there are beside the hot ones, which have a half and a twentieth.
async fn fill(admin: &Client, rows: u32, insights: u32, users: u32) {
    admin
        .batch_execute(&format!(
            "set session_replication_role = replica;
             insert into insight_feedback (id, insight_id, user_id, rating, rated_at, comment, commented_at, flag_type,
                 flag_reason, flagged_at, created_at, updated_at)
             select gen_random_uuid(), insight, usr, rating, case when rating is not null then t end,
                    comment, case when comment is not null then t end, flag, case when flag is not null then 'because' end,
                    case when flag is not null then t end, t, t
             from (select case when n % 2 = 0 then 'insight-hot' else 'insight-' || n % {insights} end as insight,
                          case when n % 20 = 3 then 'user-hot' else 'user-' || n % {users} end as usr,
                          case when n % 1000 = 1 then 1 when n % 50 = 3 then 2 when n % 10 = 4 then 3 when n % 5 = 2 then 4
                               when n % 97 <> 0 then 5 end as rating,
                          case when n % 97 = 0 or n % 12 = 5 then 'a comment ' || n end as comment,
                          case when n % 2003 = 7 then (array['inaccurate', 'misleading', 'spam', 'inappropriate', 'other'])[1 + n % 5] end as flag,
                          timestamptz '2026-01-01 00:00:00+00' + n * interval '37 seconds' as t
                   from generate_series(1, {rows}) n) made
             on conflict do nothing;
             set session_replication_role = origin;"
        ))
        .await
        .unwrap();
    vacuum(admin, "insight_feedback").await;
}

async fn vacuum(admin: &Client, table: &str) {
    let vacuum = format!("vacuum analyze {table}");
    admin.batch_execute(&vacuum).await.unwrap();
}

fn check(statement: &Statement, plan: &str, page_index: &str, count_index: &str) {
    let index = |name: &str| format!("insight_feedback_{name}");
    let name = statement.name;
    assert!(!plan.contains("Seq Scan"), "{name}\n{plan}");
    let (_, page) = plan.split_once("->  Limit").expect("a page");
    assert!(page.contains(&index(page_index)), "{name}\n{plan}");
    let may_sort = [&queries::SEARCH_ONE, &queries::SEARCH_INSIGHT_FLAGGED];
    if !may_sort.iter().any(|one| one.name == name) {
        assert!(!page.contains("Sort"), "{name}\n{plan}");
    }
    let (_, counts) = plan.split_once("InitPlan 1").expect("a count");
    let (count, _) = counts.split_once("InitPlan 2").expect("another count");
    assert!(count.contains(&index(count_index)), "{name}\n{plan}");
    if !may_sort.iter().any(|one| one.name == name) {
        assert!(count.contains("Index Only Scan"), "{name}\n{plan}");
    }
}

#[tokio::test]
async fn every_search_is_read_from_the_index_that_leaves_the_fewest_rows() {
    // Many insights and users; hardly any of either; each user once.
    for (rows, insights, users) in [
        (200_000, 20_011, 5_003),
        (50_000, 1, 300_007),
        (50_000, 100_003, 1),
    ] {
        let db = TestDb::new().await;
        let admin = db.admin().await;
        fill(&admin, rows, insights, users).await;
        for (statement, page, count) in SEARCHES {
            let plan = plan(&admin, statement, SEARCH_ARGS).await;
            check(statement, &plan, page, count);
        }
    }
}

#[tokio::test]
async fn lists_rankings_and_trends_are_read_from_indexes() {
    let db = TestDb::new().await;
    let admin = db.admin().await;
    fill(&admin, 100_000, 20_011, 5_003).await;
    admin
        .batch_execute(
            "insert into feedback_history (insight_id, user_id, fact, rating, occurred_at)
             select insight_id, user_id, 'rating', rating, rated_at from insight_feedback where rating is not null;
             insert into feedback_stats select insight_id, 0, 0, 0, 0, count(*), count(comment), 0, 0, 0, 0, 0
             from insight_feedback group by insight_id;
             insert into feedback_days select insight_id, date '2026-01-01' + (row_number() over ())::int % 100, 1, 5, 0, 0, 0
             from feedback_stats on conflict do nothing",
        )
        .await
        .unwrap();
    for table in ["feedback_stats", "feedback_history", "feedback_days"] {
        vacuum(&admin, table).await;
    }
    let cases: &[(&Statement, &str, &[&str])] = &[
        (
            &queries::COMMENTS,
            "'insight-hot', 'infinity', '00000000-0000-0000-0000-000000000000', 21, 0",
            &["insight_feedback_comments_idx"],
        ),
        (
            &queries::HISTORY,
            "'user-hot', null, 9223372036854775807, 21, 0",
            &["feedback_history_user_idx"],
        ),
        (
            &queries::FLAGGED,
            "null, null, '-infinity', 'infinity', 9223372036854775807, 'infinity', '', 21, 0",
            &["insight_feedback_insight_flagged_idx"],
        ),
        (
            &queries::TOP_BY_LOWER_BOUND,
            "3, 10, 1, 'infinity', '', 21, 0",
            &["feedback_stats_lower_bound_idx"],
        ),
        (
            &queries::TREND_OF_INSIGHT,
            "'2026-01-01', '2026-02-01', 'insight-hot'",
            &["feedback_days_pkey"],
        ),
    ];
    for (statement, args, indexes) in cases {
        let plan = plan(&admin, statement, args).await;
        for index in *indexes {
            assert!(plan.contains(index), "{}\n{plan}", statement.name);
        }
        for table in ["insight_feedback", "feedback_history", "feedback_days"] {
            let read_whole = plan.contains(&format!("Seq Scan on {table}"));
            assert!(!read_whole, "{}\n{plan}", statement.name);
        }
    }
    let page = plan(&admin, &queries::HISTORY, cases[1].1).await;
    assert!(!page.contains("Sort"), "{page}");
}

#[tokio::test]
async fn an_export_is_planned_for_its_values() {
    let db = TestDb::new().await;
    let admin = db.admin().await;
    fill(&admin, 100_000, 20_011, 5_003).await;
    let sql = queries::DECLARE_EXPORT.sql;
    let explain = async |user: Option<&str>, insight: Option<&str>, kind: Option<&str>| {
        let types = queries::DECLARE_EXPORT.params;
        let explained = admin.prepare_typed(&format!("explain {sql}"), types).await;
        let none = None::<chrono::DateTime<chrono::Utc>>;
        let (rating, has_comment) = (None::<i16>, None::<bool>);
        let is_flagged = kind.is_some();
        let rows = admin
            .query(
                &explained.unwrap(),
                &[
                    &user,
                    &insight,
                    &none,
                    &none,
                    &rating,
                    &is_flagged,
                    &kind,
                    &has_comment,
                    &1_000_000_i64,
                ],
            )
            .await
            .unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        lines.join("\n")
    };
    for (plan, index) in [
        (
            explain(Some("user-7"), None, None).await,
            "user_updated_idx",
        ),
        (
            explain(None, Some("insight-7"), None).await,
            "insight_feedback_insight_",
        ),
        (explain(None, None, Some("spam")).await, "flag"),
    ] {
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{plan}");
        assert!(
            !plan.contains("IS NULL)"),
            "absent conditions are left in\n{plan}"
        );
    }
}

//! Statistics count the rows, whoever writes them and however.

use std::pin::pin;

use futures_util::SinkExt as _;
use tokio_postgres::error::SqlState;
use utxoiq_store::{Store, feedback::Counts};

use super::{assert_no_drift, counts, number, store};

/// The counters of insights a, b and c: ratings from 1 to 5, comments, flags of any type.
async fn abc(store: &Store) -> String {
    let mut all = Vec::new();
    for insight in ["a", "b", "c"] {
        let Counts {
            ratings,
            comments,
            flags,
        } = counts(store, insight).await;
        let [r1, r2, r3, r4, r5] = ratings;
        all.push(format!(
            "{insight} {r1}{r2}{r3}{r4}{r5} {comments} {}",
            flags.iter().sum::<i64>()
        ));
    }
    all.join(", ")
}

/// What psql may do, one after the other, and the counts afterwards. Several statements in one string are one transaction.
const BY_PSQL: &[(&str, &str)] = &[
    (
        "insert into insight_feedback (insight_id, user_id, rating, comment) values ('a', '1', 5, null), ('a', '2', 4, 'x'), ('b', '1', 1, null)",
        "a 00011 1 0, b 10000 0 0, c 00000 0 0",
    ),
    (
        "insert into insight_feedback (insight_id, user_id, rating, flag_type) values ('a', '2', 3, 'spam'), ('b', '2', 2, 'spam')
         on conflict (insight_id, user_id) do update set rating = excluded.rating, flag_type = excluded.flag_type",
        "a 00101 1 1, b 11000 0 1, c 00000 0 0",
    ),
    (
        "insert into insight_feedback (insight_id, user_id, rating) values ('a', '1', 1), ('c', '1', 1) on conflict do nothing",
        "a 00101 1 1, b 11000 0 1, c 10000 0 0",
    ),
    ("update insight_feedback set rating = 5", "a 00002 1 1, b 00002 0 1, c 00001 0 0"),
    ("update insight_feedback set rating = 5", "a 00002 1 1, b 00002 0 1, c 00001 0 0"),
    ("update insight_feedback set insight_id = 'c' where insight_id = 'b' and user_id = '2'", "a 00002 1 1, b 00001 0 0, c 00002 0 1"),
    (
        "update insight_feedback set insight_id = 'b', user_id = '9', rating = 2, comment = 'y' where insight_id = 'c' and user_id = '2'",
        "a 00002 1 1, b 01001 1 1, c 00001 0 0",
    ),
    ("update insight_feedback set id = gen_random_uuid(), rating = 4 where insight_id = 'a'", "a 00020 1 1, b 01001 1 1, c 00001 0 0"),
    (
        // What was rolled back is not counted.
        "begin; update insight_feedback f set id = gen_random_uuid() where insight_id = 'a'; savepoint s;
         delete from insight_feedback; insert into insight_feedback (insight_id, user_id, rating) values ('a', '7', 1);
         rollback to s; insert into insight_feedback (insight_id, user_id, rating) values ('a', '3', 1); commit",
        "a 10020 1 1, b 01001 1 1, c 00001 0 0",
    ),
    (
        "begin; delete from insight_feedback; truncate insight_feedback; rollback",
        "a 10020 1 1, b 01001 1 1, c 00001 0 0",
    ),
    (
        "begin; savepoint s; truncate insight_feedback; rollback to s; insert into insight_feedback (insight_id, user_id, rating) values ('c', '3', 1); commit",
        "a 10020 1 1, b 01001 1 1, c 10001 0 0",
    ),
    (
        "merge into insight_feedback f using (values ('a', '1', 1), ('a', '2', null), ('b', '1', null), ('c', '5', 3)) v (i, u, r)
         on f.insight_id = v.i and f.user_id = v.u
         when matched and v.r is null and v.u = '1' then delete
         when matched then update set rating = v.r
         when not matched then insert (insight_id, user_id, rating) values (v.i, v.u, v.r)",
        "a 20000 1 1, b 01000 1 1, c 10101 0 0",
    ),
    (
        "with moved as (delete from insight_feedback where insight_id = 'c' returning user_id, rating),
              one as (insert into insight_feedback (insight_id, user_id, rating) select 'b', 'from c ' || user_id, rating from moved),
              two as (insert into insight_feedback (insight_id, user_id, rating) select 'a', 'from c ' || user_id, rating from moved)
         update insight_feedback set comment = 'z' where insight_id = 'b' and comment is null or insight_id = 'a' and user_id = '1'",
        "a 30101 2 1, b 11101 1 1, c 00000 0 0",
    ),
    // The last fact of some, and one of several of others.
    ("update insight_feedback set rating = null", "a 00000 2 1, b 00000 1 1, c 00000 0 0"),
    ("update insight_feedback set flag_type = null", "a 00000 2 0, b 00000 1 0, c 00000 0 0"),
    ("delete from insight_feedback where insight_id = 'a'", "a 00000 0 0, b 00000 1 0, c 00000 0 0"),
    (
        "begin; insert into insight_feedback (insight_id, user_id, rating) values ('a', '1', 1); truncate insight_feedback;
         insert into insight_feedback (insight_id, user_id, rating) values ('c', '1', 1); commit",
        "a 00000 0 0, b 00000 0 0, c 10000 0 0",
    ),
    ("truncate insight_feedback", "a 00000 0 0, b 00000 0 0, c 00000 0 0"),
];

#[tokio::test]
async fn whatever_psql_does_is_counted_exactly() {
    // Once with everything open, once folded after every step.
    for folds in [false, true] {
        let (db, store) = store().await;
        let admin = db.admin().await;
        for (sql, expected) in BY_PSQL {
            admin
                .batch_execute(sql)
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            if folds {
                assert!(!store.feedback().fold().await.unwrap().skipped);
            }
            assert_eq!(abc(&store).await, *expected, "after {sql}");
            assert_no_drift(&store).await;
        }
        let empty = "select count(*) from insight_feedback where rating is null and comment is null and flag_type is null";
        assert_eq!(number(&admin, empty).await, 0);
    }
}

#[tokio::test]
async fn a_copy_is_counted_like_any_insert() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    let sink = admin
        .copy_in("copy insight_feedback (insight_id, user_id, rating, comment) from stdin")
        .await
        .unwrap();
    let mut sink = pin!(sink);
    let mut lines = String::new();
    for n in 0..5_000 {
        let (insight, comment) = (["a", "b"][n % 2], ["\\N", "c"][n % 2]);
        lines.push_str(&format!("{insight}\tu{n}\t{}\t{comment}\n", n % 5 + 1));
    }
    sink.send(bytes(lines)).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 5_000);
    assert_eq!(counts(&store, "a").await.ratings, [500; 5]);
    assert_eq!(
        (
            counts(&store, "b").await.total_ratings(),
            counts(&store, "b").await.comments
        ),
        (2_500, 2_500)
    );
    // One row each, not one a row.
    assert_eq!(
        number(&admin, "select count(*) from feedback_deltas").await,
        2
    );
    assert_no_drift(&store).await;
}

fn bytes(text: String) -> std::io::Cursor<Vec<u8>> {
    std::io::Cursor::new(text.into_bytes())
}

#[tokio::test]
async fn sessions_with_an_old_snapshot_count_like_others() {
    let (db, store) = store().await;
    let (old, young) = (db.admin().await, db.admin().await);
    young.batch_execute("insert into insight_feedback (insight_id, user_id, rating) values ('a', '1', 1), ('a', '2', 2), ('a', '3', 3)").await.unwrap();
    old.batch_execute("begin isolation level repeatable read; select * from insight_feedback")
        .await
        .unwrap();
    young.batch_execute("delete from insight_feedback where user_id = '3'; insert into insight_feedback (insight_id, user_id, rating) values ('a', '4', 4)").await.unwrap();
    store.feedback().fold().await.unwrap();
    old.batch_execute(
        "update insight_feedback set rating = 5 where user_id = '1'; delete from insight_feedback where user_id = '2';
         insert into insight_feedback (insight_id, user_id, rating) values ('a', '5', 5)",
    ).await.unwrap();
    // It cannot change what it does not see.
    let refused = old
        .batch_execute("savepoint s; update insight_feedback set rating = 1 where user_id = '3'")
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
    old.batch_execute("rollback to s").await.unwrap();
    assert_eq!(abc(&store).await, "a 11010 0 0, b 00000 0 0, c 00000 0 0");
    assert_no_drift(&store).await;
    old.batch_execute("commit").await.unwrap();
    assert_eq!(abc(&store).await, "a 00012 0 0, b 00000 0 0, c 00000 0 0");
    assert_no_drift(&store).await;
    // TRUNCATE by a session whose snapshot is older than what it empties.
    old.batch_execute("begin isolation level repeatable read; select 1")
        .await
        .unwrap();
    young
        .batch_execute(
            "insert into insight_feedback (insight_id, user_id, rating) values ('b', '1', 1)",
        )
        .await
        .unwrap();
    old.batch_execute("truncate insight_feedback; commit")
        .await
        .unwrap();
    assert_eq!(abc(&store).await, "a 00000 0 0, b 00000 0 0, c 00000 0 0");
    assert_no_drift(&store).await;
}

#[tokio::test]
async fn feedback_without_a_fact_is_refused_and_times_are_filled_in_for_psql() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    let refused = admin
        .batch_execute("insert into insight_feedback (insight_id, user_id) values ('a', '1')")
        .await
        .unwrap_err();
    assert_eq!(
        refused.as_db_error().and_then(|error| error.constraint()),
        Some("insight_feedback_has_a_fact")
    );
    admin
        .batch_execute(
            "insert into insight_feedback (insight_id, user_id, rating) values ('a', '1', 3);
         update insight_feedback set comment = 'late', updated_at = updated_at + interval '1 day';
         update insight_feedback set rating = 2;
         update insight_feedback set flag_type = 'spam', flag_reason = 'r';
         update insight_feedback set flag_reason = 's'",
        )
        .await
        .unwrap();
    let in_order = "select count(*) from insight_feedback
                    where created_at < commented_at and commented_at < rated_at and rated_at < flagged_at and flagged_at = updated_at";
    assert_eq!(number(&admin, in_order).await, 1);
    let acts = "select string_agg(fact, ' ' order by id) from feedback_history";
    assert_eq!(
        admin
            .query_one(acts, &[])
            .await
            .unwrap()
            .get::<_, String>(0),
        "rating comment rating flag flag"
    );
    // The serving role can write none of what triggers write.
    let app = db.client(utxoiq_store::db::roles::APP).await;
    for sql in [
        "insert into feedback_deltas select * from feedback_deltas",
        "delete from insight_feedback",
        "delete from feedback_history",
        "truncate insight_feedback",
        "delete from feedback_stats",
    ] {
        let refused = app.batch_execute(sql).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            "{sql}"
        );
    }
    assert_no_drift(&store).await;
}

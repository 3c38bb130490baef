//! Folding, and the bound below which readers do not look.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio_postgres::{Client, types::Json};
use utxoiq_store::{
    Store,
    feedback::{Fact, FlagType, Folded},
    schedule::{Scheduler, SlotResult},
    worker,
};

use super::{assert_no_drift, counts, days, noon, number, store};

async fn rate(store: &Store, insight: &str, user: &str, rating: i16) {
    store
        .feedback()
        .rate(insight, user, rating, None, noon())
        .await
        .unwrap();
}

const OPEN: &str =
    "select (select count(*) from feedback_deltas) + (select count(*) from feedback_day_deltas)";

#[tokio::test]
async fn a_fold_moves_everything_and_changes_no_figure() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    for n in 0..20 {
        rate(&store, ["a", "b"][n % 2], &n.to_string(), 5).await;
    }
    store
        .feedback()
        .flag("a", "0", FlagType::Spam, None, noon())
        .await
        .unwrap();
    store
        .feedback()
        .withdraw("b", "1", Fact::Rating, noon())
        .await
        .unwrap();
    let before = (
        counts(&store, "a").await,
        counts(&store, "b").await,
        days(&admin).await,
    );
    assert_eq!(
        (before.0.ratings[4], before.0.flags[2], before.1.ratings[4]),
        (10, 1, 9)
    );
    // The writer itself folds, too.
    while store.feedback().fold().await.unwrap().skipped {}
    assert_eq!(number(&admin, OPEN).await, 0);
    assert_eq!(
        (
            counts(&store, "a").await,
            counts(&store, "b").await,
            days(&admin).await
        ),
        before
    );
    let overall = "select string_agg(concat_ws(' ', day, ratings, rating_sum, comments, flags, withdrawals), ', ') from feedback_overall_days";
    assert_eq!(
        admin
            .query_one(overall, &[])
            .await
            .unwrap()
            .get::<_, String>(0),
        "2025-06-15 20 100 0 1 1"
    );
    assert_eq!(store.feedback().fold().await.unwrap(), Folded::default());
    assert_no_drift(&store).await;
}

#[tokio::test]
async fn a_fold_under_way_is_left_alone() {
    let (db, store) = store().await;
    let other = db.admin().await;
    other
        .batch_execute(
            "insert into insight_feedback (insight_id, user_id, rating) values ('a', '1', 1)",
        )
        .await
        .unwrap();
    other
        .batch_execute("begin; select from feedback_fold for update")
        .await
        .unwrap();
    assert!(store.feedback().fold().await.unwrap().skipped);
    assert_eq!(counts(&store, "a").await.total_ratings(), 1);
    other.batch_execute("commit").await.unwrap();
    assert_eq!(store.feedback().fold().await.unwrap().deltas, 1);
    assert_eq!(counts(&store, "a").await.total_ratings(), 1);
}

#[tokio::test]
async fn a_withdrawal_may_be_folded_before_what_was_withdrawn() {
    let (db, store) = store().await;
    let (early, late) = (db.admin().await, db.admin().await);
    early
        .batch_execute("begin; select pg_current_xact_id()")
        .await
        .unwrap();
    let insert = "insert into insight_feedback (insight_id, user_id, rating) select 'a', n, 5 from generate_series(1, 6) n";
    late.batch_execute(insert).await.unwrap();
    early
        .batch_execute("delete from insight_feedback where user_id <> '1'; commit")
        .await
        .unwrap();
    let bound = "select stats_below::text::bigint from feedback_fold";
    assert_eq!(number(&late, bound).await, 0);
    assert_eq!(store.feedback().fold_in_parts(1).await.unwrap().deltas, 2);
    assert!(
        number(&late, bound).await > 0,
        "the last part, with nothing left, has set the bound"
    );
    assert_eq!(counts(&store, "a").await.ratings, [0, 0, 0, 0, 1]);
    assert_no_drift(&store).await;
}

#[tokio::test]
async fn what_is_committed_late_is_neither_missed_nor_skipped() {
    let (db, store) = store().await;
    let slow = db.admin().await;
    // It writes before the fold and commits after it; others commit in between.
    slow.batch_execute(
        "begin; insert into insight_feedback (insight_id, user_id, rating) values ('a', 'slow', 1)",
    )
    .await
    .unwrap();
    for n in 0..5 {
        rate(&store, "a", &n.to_string(), 5).await;
        while store.feedback().fold().await.unwrap().skipped {}
    }
    assert_eq!(counts(&store, "a").await.ratings, [0, 0, 0, 0, 5]);
    slow.batch_execute("commit").await.unwrap();
    assert_eq!(counts(&store, "a").await.ratings, [1, 0, 0, 0, 5]);
    assert_no_drift(&store).await;
    store.feedback().fold().await.unwrap();
    assert_eq!(counts(&store, "a").await.ratings, [1, 0, 0, 0, 5]);
    assert_no_drift(&store).await;
}

#[tokio::test]
async fn a_restored_database_counts_its_transactions_anew_and_stays_exact() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    rate(&store, "a", "1", 1).await;
    while store.feedback().fold().await.unwrap().skipped {}
    rate(&store, "a", "2", 2).await;
    let before = (counts(&store, "a").await, days(&admin).await);
    // As if it came from a cluster with many more transactions.
    let restored = "update feedback_fold set system_identifier = 1, stats_below = '900000000000', days_below = '900000000000'";
    admin.batch_execute(restored).await.unwrap();
    assert_eq!((counts(&store, "a").await, days(&admin).await), before);
    assert_no_drift(&store).await;
    rate(&store, "a", "3", 3).await;
    assert_eq!(counts(&store, "a").await.ratings, [1, 1, 1, 0, 0]);
    // The writer may have folded by itself.
    while store.feedback().fold().await.unwrap().skipped {}
    assert_eq!(number(&admin, OPEN).await, 0);
    let holds = "select count(*) from feedback_fold f, pg_control_system() c
                 where f.system_identifier = c.system_identifier and greatest(stats_below, days_below) < '900000000000'";
    assert_eq!(number(&admin, holds).await, 1);
    rate(&store, "a", "4", 4).await;
    assert_eq!(counts(&store, "a").await.ratings, [1, 1, 1, 1, 0]);
    assert_no_drift(&store).await;
}

/// Pages that reading one insight's statistics takes.
async fn pages(client: &Client) -> i64 {
    let explain =
        "explain (analyze, buffers, format json) select * from feedback_read_stats('{hot}')";
    let plan: Json<serde_json::Value> = client.query_one(explain, &[]).await.unwrap().get(0);
    plan.0[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
        + plan.0[0]["Plan"]["Shared Read Blocks"].as_i64().unwrap()
}

#[tokio::test]
async fn readers_do_not_walk_over_what_was_folded_while_a_snapshot_is_held() {
    let (db, store) = store().await;
    let (admin, held, reader) = (db.admin().await, db.admin().await, db.admin().await);
    // The plan is made while the tables are empty and known to be.
    admin.batch_execute("vacuum analyze").await.unwrap();
    reader
        .batch_execute("set plan_cache_mode = force_generic_plan; set jit = off")
        .await
        .unwrap();
    for _ in 0..3 {
        pages(&reader).await;
    }
    held.batch_execute("begin isolation level repeatable read; select 1")
        .await
        .unwrap();
    let many = "set synchronous_commit = off;
                do $$ begin for n in 1..3000 loop
                    insert into insight_feedback (insight_id, user_id, rating) values ('hot', gen_random_uuid(), 5); commit;
                end loop; end $$";
    for _ in 0..2 {
        for statement in many.split_inclusive("off;") {
            admin.batch_execute(statement).await.unwrap();
        }
        store.feedback().fold().await.unwrap();
    }
    // The bound lags behind the oldest writer of the cluster, where other tests run, too: they are waited for, and then it is
    // folded once, because each fold leaves a dead version of the bound's own row while the snapshot is held.
    let end = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let oldest = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
    let last = number(&admin, end).await;
    let begun = Instant::now();
    while number(&admin, oldest).await < last {
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "someone writes for a minute"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.feedback().fold().await.unwrap();
    rate(&store, "hot", "last", 4).await;
    assert_eq!(counts(&store, "hot").await.ratings, [0, 0, 0, 1, 6_000]);
    let few = pages(&reader).await;
    // Without the bound all of them are walked over.
    admin
        .batch_execute("update feedback_fold set system_identifier = 1")
        .await
        .unwrap();
    let many = pages(&reader).await;
    assert!(
        few < 20 && many > 3 * few,
        "{few} pages, {many} without the bound"
    );
    held.batch_execute("commit").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncating_in_the_middle_of_writes_folds_and_reads_stops_none_of_them() {
    let (db, one) = store().await;
    let other = db.store().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for n in 0..6 {
        let (store, stop) = ([&one, &other][n % 2].clone(), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            for turn in 0.. {
                if stop.load(SeqCst) {
                    return turn;
                }
                rate(
                    &store,
                    ["a", "b"][turn % 2],
                    &format!("{n} {}", turn % 50),
                    3,
                )
                .await;
            }
            0
        }));
    }
    for n in 0..4 {
        let (store, stop) = ([&one, &other][n % 2].clone(), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            for turn in 0.. {
                if stop.load(SeqCst) {
                    return turn;
                }
                if n < 2 {
                    store.feedback().fold_in_parts(10).await.unwrap();
                } else {
                    let loaded = store
                        .feedback()
                        .load_stats(&["a".to_owned(), "b".to_owned()])
                        .await
                        .unwrap();
                    assert!(
                        loaded
                            .stats
                            .iter()
                            .all(|stats| (0..=300).contains(&stats.live.total_ratings())),
                        "{loaded:?}"
                    );
                    store
                        .feedback()
                        .drift(1)
                        .await
                        .map(|drift| assert_eq!(drift, []))
                        .unwrap();
                }
            }
            0
        }));
    }
    let admin = db.admin().await;
    for _ in 0..utxoiq_store_testkit::urls::scale(30, 300) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        admin
            .batch_execute("truncate insight_feedback")
            .await
            .unwrap();
        assert_no_drift(&one).await;
    }
    stop.store(true, SeqCst);
    let turns: Vec<usize> = join_all(tasks)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(turns.iter().all(|turns| *turns > 3), "{turns:?}");
    assert_no_drift(&one).await;
}

#[tokio::test]
async fn a_write_past_the_triggers_is_found_and_the_task_fails_loudly() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    rate(&store, "a", "1", 1).await;
    let past = "set session_replication_role = replica;
                insert into insight_feedback (insight_id, user_id, rating, rated_at, created_at, updated_at)
                values ('b', '1', 4, 'epoch', 'epoch', 'epoch')";
    admin.batch_execute(past).await.unwrap();
    let drift = store.feedback().drift(10).await.unwrap();
    assert_eq!(drift.len(), 1);
    assert_eq!(
        (
            &*drift[0].insight_id,
            drift[0].counted.ratings,
            drift[0].there.ratings
        ),
        ("b", [0; 5], [0, 0, 0, 1, 0])
    );
    // Both tasks, as the schedule runs them.
    let settings = store.config().schedule.clone();
    let scheduler = Scheduler::new(
        store.pool().clone(),
        store.clock(),
        worker::tasks(&store),
        settings,
        "a test",
    )
    .unwrap();
    scheduler.register(store.now()).await.unwrap();
    let found = scheduler
        .run_now("check_feedback_statistics", store.now())
        .await
        .unwrap();
    assert!(
        matches!(found.result, SlotResult::Failed { ref error, .. } if error.contains("at least for: \"b\";")),
        "{found:?}"
    );
    admin
        .batch_execute("delete from insight_feedback where insight_id = 'b'")
        .await
        .unwrap();
    for task in ["fold_feedback", "check_feedback_statistics"] {
        let outcome = scheduler.run_now(task, store.now()).await.unwrap();
        assert!(outcome.result.is_success(), "{outcome:?}");
    }
    assert_eq!(number(&admin, OPEN).await, 0);
}

//! Writes that share a transaction: each gets its own true answer, after the commit, whatever happens to the others.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::Client;
use utxoiq_store::{
    Error, Kind, Store,
    feedback::{WriterSnapshot, Written},
};
use utxoiq_store_testkit::proxy::{Ending, FaultProxy, Mode};

use super::{assert_no_drift, counts, noon, number};
use crate::support::TestDb;

type Call = JoinHandle<Result<Written, Error>>;

fn rate(store: &Store, user: &str, rating: i16) -> Call {
    let (store, user) = (store.clone(), user.to_owned());
    tokio::spawn(async move {
        store
            .feedback()
            .rate("i", &user, rating, None, noon())
            .await
    })
}

/// Waits for something of the writer's.
async fn until(store: &Store, holds: impl Fn(WriterSnapshot) -> bool) {
    let begun = Instant::now();
    while !holds(store.feedback_writer().snapshot()) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            store.feedback_writer()
        );
        sleep(Duration::from_millis(1)).await;
    }
}

/// Stops all writes until it commits: what comes meanwhile waits, but for what was taken already.
async fn stop_writes(client: &Client) {
    client
        .batch_execute("begin; lock table insight_feedback in share mode")
        .await
        .unwrap();
}

/// As many lanes as there may be when all are held up.
const LANES: usize = 8;

/// A store that waits for locks for as long as these tests hold them.
async fn patient_store() -> (TestDb, Store) {
    let db = TestDb::new().await;
    let store = Store::open(db.settings_with(&PATIENCE)).unwrap();
    (db, store)
}

const PATIENCE: [(&str, &str); 2] = [
    (
        "UTXOIQ_STORE_DATABASE__STATEMENT_TIMEOUT_MILLISECONDS",
        "25000",
    ),
    ("UTXOIQ_STORE_DATABASE__LOCK_TIMEOUT_MILLISECONDS", "25000"),
];

/// So many writes, all of them waiting for one and the same transaction behind those that hold the lanes.
async fn waiting(store: &Store, users: &[String]) -> (Vec<Call>, Vec<Call>) {
    let mut first = Vec::new();
    for n in 1..=LANES {
        first.push(rate(store, &format!("first {n}"), 5));
        until(store, |writer| writer.lanes == n && writer.waiting == 0).await;
    }
    let calls: Vec<_> = users.iter().map(|user| rate(store, user, 3)).collect();
    let expected = users.len();
    until(store, |writer| writer.waiting == expected).await;
    (first, calls)
}

fn users(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("u{n}")).collect()
}

async fn all_written(calls: Vec<Call>) -> Vec<Written> {
    join_all(calls)
        .await
        .into_iter()
        .map(|call| call.unwrap().unwrap())
        .collect()
}

#[tokio::test]
async fn what_waits_together_is_committed_together_and_an_idle_store_runs_nothing() {
    let (db, store) = patient_store().await;
    let gate = db.admin().await;
    stop_writes(&gate).await;
    let (first, calls) = waiting(&store, &users(300)).await;
    gate.batch_execute("commit").await.unwrap();
    all_written(first).await;
    let written = all_written(calls).await;
    let mut transactions: Vec<_> = written.iter().map(|written| written.transaction).collect();
    transactions.sort();
    transactions.dedup();
    assert_eq!(transactions.len(), 2, "256 at most, and the rest");
    let snapshot = store.feedback_writer().snapshot();
    assert_eq!((snapshot.commits_total, snapshot.writes_total), (10, 308));
    until(&store, |writer| writer.lanes == 0).await;
    assert_eq!(counts(&store, "i").await.ratings, [0, 0, 300, 0, 8]);
    assert_no_drift(&store).await;
}

#[tokio::test]
async fn one_that_the_database_refuses_does_not_fail_its_neighbours() {
    let (db, store) = patient_store().await;
    let gate = db.admin().await;
    gate.batch_execute(
        "alter table insight_feedback add constraint no_poison check (user_id not like 'poison%')",
    )
    .await
    .unwrap();
    stop_writes(&gate).await;
    let mut users = users(40);
    users[7] = "poison 1".to_owned();
    users[33] = "poison 2".to_owned();
    let (first, calls) = waiting(&store, &users).await;
    // A time that the database cannot keep: it fails before any row is looked at.
    let far = {
        let store = store.clone();
        tokio::spawn(async move {
            let far = chrono::DateTime::<chrono::Utc>::MIN_UTC;
            store.feedback().rate("i", "far", 1, None, far).await
        })
    };
    until(&store, |writer| writer.waiting == 41).await;
    gate.batch_execute("commit").await.unwrap();
    all_written(first).await;
    assert!(far.await.unwrap().is_err());
    for (user, call) in users.iter().zip(calls) {
        let result = call.await.unwrap();
        assert_eq!(
            result.is_err(),
            user.starts_with("poison"),
            "{user}: {result:?}"
        );
    }
    assert_eq!(counts(&store, "i").await.ratings, [0, 0, 38, 0, 8]);
    assert_no_drift(&store).await;
}

/// Makes every commit of feedback do something at its very end.
async fn at_commit(client: &Client, what: &str) {
    let sql = format!(
        "create function at_commit() returns trigger language plpgsql as $$ begin {what}; return null; end $$;
         create constraint trigger at_commit after insert or update on insight_feedback deferrable initially deferred
             for each row execute function at_commit()"
    );
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn nobody_is_answered_before_the_commit() {
    let (db, store) = patient_store().await;
    let gate = db.admin().await;
    at_commit(&gate, "perform pg_advisory_xact_lock(1)").await;
    gate.batch_execute("select pg_advisory_lock(1)")
        .await
        .unwrap();
    let calls: Vec<_> = users(20).iter().map(|user| rate(&store, user, 3)).collect();
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'";
    let watch = db.admin().await;
    while number(&watch, waits).await == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(200)).await;
    assert!(
        calls.iter().all(|call| !call.is_finished()),
        "answered before the commit"
    );
    assert_eq!(
        number(&watch, "select count(*) from insight_feedback").await,
        0
    );
    gate.batch_execute("select pg_advisory_unlock(1)")
        .await
        .unwrap();
    all_written(calls).await;
    assert_eq!(
        number(&watch, "select count(*) from insight_feedback").await,
        20
    );
}

#[tokio::test]
async fn a_commit_that_fails_is_told_to_those_it_fails_for() {
    let (db, store) = patient_store().await;
    let gate = db.admin().await;
    at_commit(
        &gate,
        "if new.user_id = 'u3' then raise 'not this one'; end if",
    )
    .await;
    stop_writes(&gate).await;
    let users = users(10);
    let (first, calls) = waiting(&store, &users).await;
    gate.batch_execute("commit").await.unwrap();
    all_written(first).await;
    for (user, call) in users.iter().zip(calls) {
        assert_eq!(call.await.unwrap().is_err(), user == "u3");
    }
    assert_eq!(counts(&store, "i").await.ratings, [0, 0, 9, 0, 8]);
}

#[tokio::test]
async fn killed_in_the_middle_everyone_is_told_and_nobody_is_left_waiting() {
    let (db, store) = patient_store().await;
    let gate = db.admin().await;
    at_commit(&gate, "perform pg_advisory_xact_lock(1)").await;
    gate.batch_execute("select pg_advisory_lock(1)")
        .await
        .unwrap();
    let calls: Vec<_> = users(20).iter().map(|user| rate(&store, user, 3)).collect();
    let killed = "select count(*) from (
                      select pg_terminate_backend(pid) from pg_stat_activity
                      where datname = current_database() and wait_event = 'advisory') as killed";
    let killer = db.admin().await;
    let begun = Instant::now();
    while calls.iter().any(|call| !call.is_finished()) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "somebody waits for ever"
        );
        number(&killer, killed).await;
        sleep(Duration::from_millis(5)).await;
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), Kind::Unavailable);
    }
    assert_eq!(
        number(&killer, "select count(*) from insight_feedback").await,
        0,
        "nothing is sent again"
    );
    gate.batch_execute("select pg_advisory_unlock(1)")
        .await
        .unwrap();
    rate(&store, "later", 1).await.unwrap().unwrap();
    assert_no_drift(&store).await;
}

#[tokio::test]
async fn a_lost_connection_leaves_the_outcome_open_and_nothing_is_written_twice() {
    let db = TestDb::new().await;
    let url = url::Url::parse(&db.app_url()).unwrap();
    let proxy = FaultProxy::start_for_port(url.port().unwrap()).await;
    let mut through = url.clone();
    through.set_port(Some(proxy.addr().port())).unwrap();
    let store = Store::open(db.settings_with(&[("DATABASE_URL", through.as_str())])).unwrap();
    rate(&store, "before", 1).await.unwrap().unwrap();
    for round in 0..10 {
        proxy.set(Mode::Silent).await;
        let calls: Vec<_> = (0..10)
            .map(|n| rate(&store, &format!("{round} {n}"), 5))
            .collect();
        sleep(Duration::from_millis(3 * round)).await;
        proxy
            .cut(if round % 2 == 0 {
                Ending::Reset
            } else {
                Ending::Close
            })
            .await;
        proxy.set(Mode::Pass).await;
        let answers = timeout(Duration::from_secs(20), join_all(calls))
            .await
            .expect("somebody waits for ever");
        for answer in answers {
            // Those taken later than the cut were written over a new connection.
            if let Err(error) = answer.unwrap() {
                assert_eq!(
                    (error.kind(), error.code()),
                    (Kind::Unavailable, "database_unavailable")
                );
            }
        }
    }
    let told = store.feedback_writer().snapshot().writes_total;
    let admin = db.admin().await;
    let acts = number(&admin, "select count(*) from feedback_history").await;
    assert_eq!(
        acts,
        number(&admin, "select count(*) from insight_feedback").await,
        "none twice"
    );
    assert!(
        acts >= i64::try_from(told).unwrap(),
        "each that was acknowledged"
    );
    assert_no_drift(&store).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_harms_nobody_else() {
    let (db, store) = patient_store().await;
    let gate = db.admin().await;
    stop_writes(&gate).await;
    let users = users(60);
    let (first, calls) = waiting(&store, &users).await;
    // A second one of each user behind the first.
    let seconds: Vec<_> = users.iter().map(|user| rate(&store, user, 4)).collect();
    until(&store, |writer| writer.waiting == 120).await;
    for call in calls.iter().chain(&seconds).step_by(3) {
        call.abort();
    }
    first[0].abort();
    sleep(Duration::from_millis(20)).await;
    gate.batch_execute("commit").await.unwrap();
    for (n, call) in calls.into_iter().chain(seconds).enumerate() {
        let result = call.await;
        assert_eq!(result.is_err(), n % 3 == 0);
        assert!(result.is_err() || result.unwrap().is_ok());
    }
    until(&store, |writer| writer.waiting == 0 && writer.lanes == 0).await;
    // A third of the users went away with both of their writes, before either was taken.
    let there = number(
        &gate,
        "select count(*) from insight_feedback where user_id like 'u%'",
    )
    .await;
    assert_eq!(there, 40);
    assert_no_drift(&store).await;
}

#[tokio::test]
async fn rows_that_someone_has_locked_hold_up_only_their_own_writers() {
    let (db, store) = patient_store().await;
    let locked: Vec<_> = (0..4).map(|n| format!("locked {n}")).collect();
    for user in &locked {
        rate(&store, user, 1).await.unwrap().unwrap();
    }
    let gate = db.admin().await;
    gate.batch_execute("begin; update insight_feedback set comment = 'mine'")
        .await
        .unwrap();
    let mut held = Vec::new();
    for (n, user) in locked.iter().enumerate() {
        held.push(rate(&store, user, 2));
        sleep(Duration::from_millis(if n == 0 { 5 } else { 150 })).await;
    }
    for user in users(30) {
        let begun = Instant::now();
        rate(&store, &user, 3).await.unwrap().unwrap();
        // A tenth of a second at most, until it is seen that all lanes are held up.
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
        sleep(Duration::from_millis(5)).await;
    }
    assert!(held.iter().all(|call| !call.is_finished()));
    gate.batch_execute("commit").await.unwrap();
    for written in all_written(held).await {
        assert_eq!(
            (written.entry.rating, written.entry.comment.as_deref()),
            (Some(2), Some("mine"))
        );
    }
    assert_no_drift(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_whose_rows_are_free_wait_for_no_row_that_is_locked() {
    let db = TestDb::new().await;
    let store = db.store().await;
    for user in ["a", "b", "c"] {
        store
            .feedback()
            .rate("locked", user, 1, None, noon())
            .await
            .unwrap();
    }
    let mut psql = db.admin().await;
    let tx = psql.transaction().await.unwrap();
    tx.batch_execute("select from insight_feedback where insight_id = 'locked' for update")
        .await
        .unwrap();
    let begun = Instant::now();
    let rate = |insight: &'static str, user: String| {
        let store = store.clone();
        tokio::spawn(async move {
            let written = store.feedback().rate(insight, &user, 5, None, noon()).await;
            (written, Instant::now())
        })
    };
    let stuck: Vec<_> = ["a", "b", "c"]
        .map(|user| rate("locked", user.into()))
        .into();
    // Behind the locked rows in the order of keys.
    let free: Vec<_> = users(100)
        .into_iter()
        .map(|user| rate("not locked", user))
        .collect();
    for call in free {
        let (written, at) = call.await.unwrap();
        written.unwrap();
        let waited = at - begun;
        assert!(waited < Duration::from_secs(4), "{waited:?}");
    }
    tx.commit().await.unwrap();
    for call in stuck {
        call.await.unwrap().0.unwrap();
    }
    assert_no_drift(&store).await;
}

#[tokio::test]
async fn a_table_that_someone_has_locked_is_not_waited_for_by_each_write() {
    let db = TestDb::new().await;
    let patience = ("UTXOIQ_STORE_DATABASE__LOCK_TIMEOUT_MILLISECONDS", "300");
    let store = Store::open(db.settings_with(&[patience])).unwrap();
    let gate = db.admin().await;
    stop_writes(&gate).await;
    let begun = Instant::now();
    let calls: Vec<_> = users(100)
        .iter()
        .map(|user| rate(&store, user, 3))
        .collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Unavailable, "database_busy")
        );
    }
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    gate.batch_execute("commit").await.unwrap();
    rate(&store, "later", 3).await.unwrap().unwrap();
    assert_eq!(counts(&store, "i").await.total_ratings(), 1);
}

#[tokio::test]
async fn more_than_may_wait_are_refused_and_the_rest_is_written() {
    let db = TestDb::new().await;
    let store =
        Store::open(db.settings_with(&[("UTXOIQ_STORE_FEEDBACK__MAX_WAITING_WRITES", "300")]))
            .unwrap();
    let gate = db.admin().await;
    stop_writes(&gate).await;
    let (first, calls) = waiting(&store, &users(300)).await;
    let refused = rate(&store, "one too many", 1).await.unwrap().unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (Kind::Unavailable, "overloaded")
    );
    assert_eq!(store.feedback_writer().snapshot().refused_total, 1);
    gate.batch_execute("commit").await.unwrap();
    all_written(first).await;
    all_written(calls).await;
    assert_eq!(counts(&store, "i").await.total_ratings(), 308);
}

#[tokio::test]
async fn two_who_lock_rows_in_opposite_orders_both_go_on() {
    let (db, store) = patient_store().await;
    for user in ["a", "b"] {
        rate(&store, user, 1).await.unwrap().unwrap();
    }
    // It does not look for deadlocks itself, so that the store's transaction is the victim.
    let psql = db.admin().await;
    psql.batch_execute("set deadlock_timeout = '60s'")
        .await
        .unwrap();
    let gate = db.admin().await;
    stop_writes(&gate).await;
    let (first, calls) = waiting(&store, &["a".to_owned(), "b".to_owned()]).await;
    let lock = "begin; select from insight_feedback where user_id = 'b' for update";
    psql.batch_execute(lock).await.unwrap();
    gate.batch_execute("commit").await.unwrap();
    all_written(first).await;
    // The batch has a, and waits for b.
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'transactionid'";
    while number(&gate, waits).await == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    psql.batch_execute("update insight_feedback set comment = 'mine' where user_id = 'a'; commit")
        .await
        .unwrap();
    for written in all_written(calls).await {
        assert_eq!(written.entry.rating, Some(3));
    }
    // Whoever came first, neither has lost what it wrote.
    let both = "select count(*) from insight_feedback where user_id = 'a' and rating = 3 and comment = 'mine'";
    assert_eq!(number(&gate, both).await, 1);
    assert_eq!(counts(&store, "i").await.ratings, [0, 0, 2, 0, 8]);
    assert_no_drift(&store).await;
}

#[test]
fn a_runtime_that_ends_leaves_nobody_of_another_waiting() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (one, other) = (runtime(), runtime());
    let (db, store) = other.block_on(patient_store());
    let gate = other.block_on(db.admin());
    other.block_on(stop_writes(&gate));
    // Its lanes run in the first runtime, and are held up.
    for (n, user) in ["a", "b"].into_iter().enumerate() {
        drop(in_runtime(&one, || rate(&store, user, 1)));
        other.block_on(until(&store, |writer| {
            writer.lanes == n + 1 && writer.waiting == 0
        }));
    }
    // It waits behind the first.
    let call = in_runtime(&other, || rate(&store, "a", 2));
    other.block_on(until(&store, |writer| writer.waiting == 1));
    one.shutdown_timeout(Duration::from_secs(5));
    let answer = other.block_on(async { timeout(Duration::from_secs(5), call).await });
    let error = answer
        .expect("somebody waits for ever")
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Unavailable, "write_interrupted")
    );
    other.block_on(async {
        gate.batch_execute("commit").await.unwrap();
        rate(&store, "d", 1).await.unwrap().unwrap();
        drop(db);
    });
}

fn in_runtime<T>(runtime: &tokio::runtime::Runtime, call: impl FnOnce() -> T) -> T {
    let _inside = runtime.enter();
    call()
}

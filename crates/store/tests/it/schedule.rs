//! The durable schedule: what is due runs once, whoever dies.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use utxoiq_store::{
    Error, Kind,
    clock::FixedClock,
    config::ScheduleSettings,
    db::Pool,
    schedule::{Cadence, Scheduler, SlotResult, SlotState, Task, TaskContext, queries},
};

use crate::support::TestDb;

const DAILY: Cadence = Cadence::DailyAt { hour: 1, minute: 0 };

/// A time in March 2025.
fn at(day: u32, hour: u32, minute: u32) -> DateTime<Utc> {
    format!("2025-03-{day:02}T{hour:02}:{minute:02}:00Z")
        .parse()
        .unwrap()
}

/// One database with one clock, for any number of schedulers.
struct House {
    db: TestDb,
    clock: FixedClock,
}

impl House {
    async fn new() -> Self {
        Self {
            db: TestDb::new().await,
            clock: FixedClock::at(at(1, 12, 0)),
        }
    }

    fn pool(&self) -> Pool {
        Pool::open(
            &self
                .db
                .settings_with(&[("UTXOIQ_STORE_DATABASE__POOL_MIN", "1")])
                .database,
        )
        .unwrap()
    }

    /// A scheduler like that of another process: with a pool of its own.
    fn scheduler(&self, runner: &str, tasks: Vec<Task>) -> Scheduler {
        self.scheduler_with(runner, tasks, |_| {})
    }

    fn scheduler_with(
        &self,
        runner: &str,
        tasks: Vec<Task>,
        change: impl Fn(&mut ScheduleSettings),
    ) -> Scheduler {
        let mut settings = self.db.settings().schedule;
        change(&mut settings);
        Scheduler::new(
            self.pool(),
            Arc::new(self.clock.clone()),
            tasks,
            settings,
            runner,
        )
        .unwrap()
    }

    fn put(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        self.clock.set(time);
        time
    }
}

/// A daily task that counts its runs.
fn counting(runs: &Arc<AtomicUsize>) -> Task {
    let runs = Arc::clone(runs);
    Task::new("count", DAILY, "counts", "", move |context| {
        let runs = Arc::clone(&runs);
        async move {
            runs.fetch_add(1, SeqCst);
            Ok(json!({ "attempt": context.attempt }))
        }
    })
}

/// A daily task whose first run hangs and whose later ones end at once; tells when it hangs.
fn hanging_once(name: &'static str, hangs: &Arc<Notify>) -> Task {
    let (hangs, runs) = (Arc::clone(hangs), Arc::new(AtomicUsize::new(0)));
    Task::new(name, DAILY, "hangs once", "", move |context| {
        let (hangs, is_first) = (Arc::clone(&hangs), runs.fetch_add(1, SeqCst) == 0);
        async move {
            if is_first {
                hangs.notify_one();
                std::future::pending::<()>().await;
            }
            Ok(json!({ "attempt": context.attempt }))
        }
    })
}

fn results(outcomes: &[utxoiq_store::schedule::SlotOutcome]) -> Vec<&SlotResult> {
    outcomes.iter().map(|outcome| &outcome.result).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_runs_once_with_eight_schedulers_ticking_at_once() {
    let house = House::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let schedulers: Vec<_> = (0..8)
        .map(|number| house.scheduler(&format!("runner-{number}"), vec![counting(&runs)]))
        .collect();
    for day in 1..=10 {
        let now = house.put(at(day, 12, 0));
        let ticks = schedulers.iter().map(|scheduler| {
            let scheduler = scheduler.clone();
            tokio::spawn(async move { scheduler.tick(now).await.unwrap() })
        });
        let mut outcomes = Vec::new();
        for tick in ticks.collect::<Vec<_>>() {
            outcomes.extend(tick.await.unwrap());
        }
        // On the first day the task is seen for the first time, at noon.
        let expected = usize::from(day > 1);
        assert_eq!(outcomes.len(), expected, "on day {day}: {outcomes:?}");
        assert_eq!(runs.load(SeqCst), day as usize - 1);
        assert!(
            outcomes
                .iter()
                .all(|outcome| outcome.result.is_success() && outcome.missed == 0)
        );
    }
    let history = schedulers[0].history("count", 100).await.unwrap();
    assert_eq!(history.len(), 9);
    assert_eq!(history[0].slot_at, at(10, 1, 0));
    assert!(
        history
            .iter()
            .all(|slot| slot.state == SlotState::Succeeded && slot.attempts == 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_the_newest_slot_runs_once_and_says_how_many_it_stands_for() {
    let house = House::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let scheduler = house.scheduler("a", vec![counting(&runs)]);
    scheduler.register(at(1, 12, 0)).await.unwrap();
    assert_eq!(scheduler.tick(at(2, 0, 59)).await.unwrap().len(), 0);
    assert_eq!(
        scheduler.tick(house.put(at(2, 1, 0))).await.unwrap()[0].missed,
        0
    );
    // Nobody ticks for a week.
    let other = house.scheduler("b", vec![counting(&runs)]);
    let outcomes = other.tick(house.put(at(9, 7, 0))).await.unwrap();
    assert_eq!(
        (outcomes.len(), outcomes[0].slot_at, outcomes[0].missed),
        (1, at(9, 1, 0), 6)
    );
    assert_eq!(other.tick(at(9, 8, 0)).await.unwrap().len(), 0);
    assert_eq!(scheduler.tick(at(9, 8, 0)).await.unwrap().len(), 0);
    assert_eq!(runs.load(SeqCst), 2);
    assert_eq!(other.history("count", 9).await.unwrap()[0].missed, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_owes_no_slot_from_before_it_was_first_seen() {
    let house = House::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let scheduler = house.scheduler("a", vec![counting(&runs)]);
    assert_eq!(scheduler.tick(at(1, 1, 1)).await.unwrap().len(), 0);
    // Registering again does not move the first time.
    scheduler.register(at(20, 0, 0)).await.unwrap();
    assert_eq!(
        scheduler.status(at(20, 0, 0)).await.unwrap()[0].first_seen_at,
        Some(at(1, 1, 1))
    );
    assert_eq!(
        scheduler.tick(house.put(at(2, 1, 0))).await.unwrap().len(),
        1
    );
}

/// Starts a tick that hangs in its task, and kills it as a process dies: without a word to the database.
async fn kill_a_runner_of_day_two(house: &House, task: Task, hangs: &Notify) {
    let doomed = house.scheduler("doomed", vec![task]);
    doomed.register(at(1, 12, 0)).await.unwrap();
    let now = house.put(at(2, 1, 0));
    let tick = tokio::spawn(async move { doomed.tick(now).await });
    hangs.notified().await;
    tick.abort();
    assert!(tick.await.unwrap_err().is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_claimed_and_not_finished_is_finished_by_another_when_the_lease_is_over() {
    let house = House::new().await;
    let hangs = Arc::new(Notify::new());
    let task = hanging_once("hang", &hangs);
    kill_a_runner_of_day_two(&house, task.clone(), &hangs).await;
    let heir = house.scheduler("heir", vec![task]);
    let lease = TimeDelta::seconds(60);
    let almost = at(2, 1, 0) + lease - TimeDelta::microseconds(1);
    assert_eq!(
        heir.tick(house.put(almost)).await.unwrap().len(),
        0,
        "the lease was not over"
    );
    let outcomes = heir.tick(house.put(at(2, 1, 0) + lease)).await.unwrap();
    assert_eq!(outcomes.len(), 1);
    assert_eq!(
        (outcomes[0].slot_at, outcomes[0].attempt, outcomes[0].missed),
        (at(2, 1, 0), 2, 0)
    );
    assert!(outcomes[0].result.is_success());
    let history = heir.history("hang", 10).await.unwrap();
    assert_eq!(
        (
            history.len(),
            history[0].attempts,
            history[0].runner.as_str()
        ),
        (1, 2, "heir")
    );
    assert_eq!(history[0].error.as_deref(), Some("its runner was lost"));
    assert_eq!(heir.tick(at(2, 9, 0)).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_slot_stands_for_the_one_that_died_with_its_runner() {
    let house = House::new().await;
    let hangs = Arc::new(Notify::new());
    let task = hanging_once("hang", &hangs);
    kill_a_runner_of_day_two(&house, task.clone(), &hangs).await;
    let heir = house.scheduler("heir", vec![task]);
    let outcomes = heir.tick(house.put(at(4, 5, 0))).await.unwrap();
    assert_eq!(
        (outcomes.len(), outcomes[0].slot_at, outcomes[0].missed),
        (1, at(4, 1, 0), 2)
    );
    let history = heir.history("hang", 10).await.unwrap();
    assert_eq!(
        history.iter().map(|slot| slot.state).collect::<Vec<_>>(),
        [SlotState::Succeeded, SlotState::Failed]
    );
    assert!(
        history[1]
            .error
            .as_ref()
            .unwrap()
            .contains("a newer slot stands for it")
    );
    assert_eq!(history[1].retry_at, None);
}

/// A task that hands out its context and ends when it is told to.
fn held(
    contexts: tokio::sync::mpsc::UnboundedSender<(Arc<TaskContext>, oneshot::Sender<()>)>,
) -> Task {
    Task::new("held", DAILY, "is held", "", move |context| {
        let contexts = contexts.clone();
        async move {
            let (go, gone) = oneshot::channel();
            contexts
                .send((context, go))
                .map_err(|_| Error::internal("no test"))?;
            let _ = gone.await;
            Ok(Value::Null)
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_was_only_slow_finds_its_writes_and_its_completion_refused() {
    let house = House::new().await;
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let slow = house.scheduler("slow", vec![held(sender.clone())]);
    slow.register(at(1, 12, 0)).await.unwrap();
    let now = house.put(at(2, 1, 0));
    let slow_tick = tokio::spawn(async move { slow.tick(now).await.unwrap() });
    let (old, old_go) = contexts.recv().await.unwrap();

    let pool = house.pool();
    let mut connection = pool.get().await.unwrap();
    let tx = connection.transaction().await.unwrap();
    old.fence(&tx).await.unwrap();
    tx.commit().await.unwrap();

    let later = house.put(at(2, 1, 1));
    let heir = house.scheduler("heir", vec![held(sender)]);
    let heir_tick = tokio::spawn(async move { heir.tick(later).await.unwrap() });
    let (new, new_go) = contexts.recv().await.unwrap();
    assert!(new.epoch > old.epoch && new.attempt == 2);

    let tx = connection.transaction().await.unwrap();
    let stale = old.fence(&tx).await.unwrap_err();
    assert_eq!(
        (stale.kind(), stale.code()),
        (Kind::Conflict, "stale_lease")
    );
    new.fence(&tx).await.unwrap();
    tx.commit().await.unwrap();

    old_go.send(()).unwrap();
    let slow_outcomes = slow_tick.await.unwrap();
    assert!(
        matches!(results(&slow_outcomes)[..], [SlotResult::Abandoned { .. }]),
        "{slow_outcomes:?}"
    );
    new_go.send(()).unwrap();
    let heir_outcomes = heir_tick.await.unwrap();
    assert_eq!(
        results(&heir_outcomes),
        [&SlotResult::Succeeded {
            outcome: Value::Null
        }]
    );
    let tx = connection.transaction().await.unwrap();
    assert_eq!(
        new.fence(&tx).await.unwrap_err().code(),
        "stale_lease",
        "a finished slot fences nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_transaction_keeps_the_slot_from_being_taken_until_it_ends() {
    let house = House::new().await;
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let slow = house.scheduler("slow", vec![held(sender)]);
    slow.register(at(1, 12, 0)).await.unwrap();
    let now = house.put(at(2, 1, 0));
    let tick = tokio::spawn(async move { slow.tick(now).await });
    let (old, _go) = contexts.recv().await.unwrap();
    let pool = house.pool();
    let mut connection = pool.get().await.unwrap();
    let tx = connection.transaction().await.unwrap();
    old.fence(&tx).await.unwrap();

    let later = house.put(at(2, 1, 5));
    let runs = Arc::new(AtomicUsize::new(0));
    let mut task = counting(&runs);
    task.name = "held";
    let heir = house.scheduler("heir", vec![task]);
    assert_eq!(
        heir.tick(later).await.unwrap().len(),
        0,
        "the slot was taken under an open fence"
    );
    let refused = heir.run_now("held", later).await.unwrap_err();
    assert_eq!(refused.code(), "task_running");
    tx.commit().await.unwrap();
    assert_eq!(heir.tick(later).await.unwrap().len(), 1);
    assert_eq!(runs.load(SeqCst), 1);
    tick.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_does_not_hold_up_the_runners_own_heartbeat() {
    let house = House::new().await;
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let slow = house.scheduler_with("slow", vec![held(sender)], |settings| {
        settings.lease_seconds = 3
    });
    slow.register(at(1, 12, 0)).await.unwrap();
    let now = house.put(at(2, 1, 0));
    let ticking = slow.clone();
    let tick = tokio::spawn(async move { ticking.tick(now).await.unwrap() });
    let (context, go) = contexts.recv().await.unwrap();
    let pool = house.pool();
    let mut connection = pool.get().await.unwrap();
    let tx = connection.transaction().await.unwrap();
    context.fence(&tx).await.unwrap();
    let beat = house.put(at(2, 1, 0) + TimeDelta::seconds(2));
    // A heartbeat comes every real second.
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    assert_eq!(slow.history("held", 1).await.unwrap()[0].heartbeat_at, beat);
    tx.commit().await.unwrap();
    go.send(()).unwrap();
    assert!(tick.await.unwrap()[0].result.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_a_long_task_its_slot() {
    let house = House::new().await;
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let short = |settings: &mut ScheduleSettings| settings.lease_seconds = 3;
    let slow = house.scheduler_with("slow", vec![held(sender.clone())], short);
    let other = house.scheduler_with("other", vec![held(sender)], short);
    slow.register(at(1, 12, 0)).await.unwrap();
    let now = house.put(at(2, 1, 0));
    let tick = tokio::spawn(async move { slow.tick(now).await.unwrap() });
    let (_context, go) = contexts.recv().await.unwrap();
    for round in 1..=3 {
        // The clock passes most of the lease, a real heartbeat renews it, and the old lease is long over.
        house.put(now + TimeDelta::seconds(2 * round));
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(
            other
                .tick(now + TimeDelta::seconds(2 * round + 2))
                .await
                .unwrap()
                .len(),
            0,
            "round {round}"
        );
    }
    go.send(()).unwrap();
    assert!(tick.await.unwrap()[0].result.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_lost_its_lease_has_its_task_cancelled() {
    struct Told(Arc<AtomicUsize>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let house = House::new().await;
    let dropped = Arc::new(AtomicUsize::new(0));
    let began = Arc::new(Notify::new());
    let (told, begins) = (Arc::clone(&dropped), Arc::clone(&began));
    let task = Task::new("held", DAILY, "never ends", "", move |_| {
        let (told, begins) = (Told(Arc::clone(&told)), Arc::clone(&begins));
        async move {
            let _told = told;
            begins.notify_one();
            std::future::pending().await
        }
    });
    let slow = house.scheduler_with("slow", vec![task], |settings| settings.lease_seconds = 3);
    slow.register(at(1, 12, 0)).await.unwrap();
    let now = house.put(at(2, 1, 0));
    let tick = tokio::spawn(async move { slow.tick(now).await.unwrap() });
    began.notified().await;
    let mut other = counting(&Arc::new(AtomicUsize::new(0)));
    other.name = "held";
    let taken = house
        .scheduler("heir", vec![other])
        .tick(now + TimeDelta::seconds(3))
        .await
        .unwrap();
    assert!(taken[0].result.is_success());
    let outcomes = tokio::time::timeout(Duration::from_secs(5), tick)
        .await
        .expect("was not cancelled")
        .unwrap();
    assert!(
        matches!(results(&outcomes)[..], [SlotResult::Abandoned { .. }]),
        "{outcomes:?}"
    );
    assert_eq!(dropped.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_never_runs_beside_itself() {
    let house = House::new().await;
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let one = house.scheduler("one", vec![held(sender.clone())]);
    let two = house.scheduler("two", vec![held(sender)]);
    one.register(at(1, 12, 0)).await.unwrap();
    let now = house.put(at(2, 1, 0));
    let ticking = one.clone();
    let tick = tokio::spawn(async move { ticking.tick(now).await.unwrap() });
    let (_context, go) = contexts.recv().await.unwrap();
    for scheduler in [&one, &two] {
        assert_eq!(scheduler.tick(now).await.unwrap().len(), 0);
        let refused = scheduler.run_now("held", now).await.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.code()),
            (Kind::Conflict, "task_running")
        );
    }
    // The database refuses a second one also to those who do not ask first.
    let error = house
        .db
        .admin()
        .await
        .execute(
            "insert into schedule_slots (task, slot_at, on_demand, missed, epoch, runner, started_at, heartbeat_at, lease_expires_at, state, attempts)
             select task, slot_at + '1 day', on_demand, missed, epoch, runner, started_at, heartbeat_at, lease_expires_at, state, attempts
             from schedule_slots",
            &[],
        )
        .await
        .unwrap_err();
    assert_eq!(
        error.as_db_error().unwrap().constraint(),
        Some("schedule_slots_one_running")
    );
    go.send(()).unwrap();
    assert!(tick.await.unwrap()[0].result.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_demand_is_a_slot_of_its_own() {
    let house = House::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let scheduler = house.scheduler("a", vec![counting(&runs)]);
    let now = house.put(at(1, 12, 0));
    for _ in 0..2 {
        let outcome = scheduler.run_now("count", now).await.unwrap();
        assert!(outcome.result.is_success() && outcome.on_demand);
        assert_eq!(outcome.slot_at, now);
    }
    // It discharges no scheduled slot, not even one due at the same moment.
    assert_eq!(
        scheduler
            .run_now("count", house.put(at(2, 1, 0)))
            .await
            .unwrap()
            .slot_at,
        at(2, 1, 0)
    );
    assert_eq!(scheduler.tick(at(2, 1, 0)).await.unwrap().len(), 1);
    assert_eq!(runs.load(SeqCst), 4);
    let unknown = scheduler.run_now("nothing", now).await.unwrap_err();
    assert_eq!(
        (unknown.kind(), unknown.code()),
        (Kind::NotFound, "task_not_found")
    );
    assert_eq!(
        scheduler.history("nothing", 5).await.unwrap_err().code(),
        "task_not_found"
    );
    assert_eq!(scheduler.history("count", 2).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_demand_that_died_is_gone_on_with_and_one_that_failed_is_not() {
    let house = House::new().await;
    let hangs = Arc::new(Notify::new());
    let task = hanging_once("hang", &hangs);
    let doomed = house.scheduler("doomed", vec![task.clone()]);
    let now = house.put(at(1, 12, 0));
    let run = tokio::spawn(async move { doomed.run_now("hang", now).await });
    hangs.notified().await;
    run.abort();
    let _ = run.await;
    let heir = house.scheduler("heir", vec![task]);
    let outcomes = heir.tick(house.put(at(1, 12, 1))).await.unwrap();
    assert_eq!(
        (outcomes.len(), outcomes[0].on_demand, outcomes[0].attempt),
        (1, true, 2)
    );

    let failing = house.scheduler("a", vec![failing_until("fail", 99, &Arc::default())]);
    let outcome = failing.run_now("fail", at(1, 13, 0)).await.unwrap();
    assert!(
        matches!(outcome.result, SlotResult::Failed { retry_at: None, .. }),
        "{outcome:?}"
    );
    assert_eq!(failing.tick(at(1, 23, 0)).await.unwrap().len(), 0);
}

/// A daily task that fails until its n-th run.
fn failing_until(name: &'static str, good: usize, runs: &Arc<AtomicUsize>) -> Task {
    let runs = Arc::clone(runs);
    Task::new(name, DAILY, "fails", "", move |_| {
        let run = runs.fetch_add(1, SeqCst) + 1;
        async move {
            if run < good {
                return Err(Error::unavailable(
                    "no_luck",
                    format!("run {run} had no luck\0"),
                ));
            }
            Ok(json!({ "run": run }))
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_slot_is_tried_again_with_growing_pauses_then_given_up() {
    let house = House::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let scheduler = house.scheduler("a", vec![failing_until("fail", 99, &runs)]);
    scheduler.register(at(1, 12, 0)).await.unwrap();
    let mut due = at(2, 1, 0);
    for (attempt, pause_minutes) in [
        (1, Some(1)),
        (2, Some(2)),
        (3, Some(4)),
        (4, Some(8)),
        (5, None),
    ] {
        assert_eq!(
            scheduler
                .tick(house.put(due - TimeDelta::microseconds(1)))
                .await
                .unwrap()
                .len(),
            0
        );
        let outcomes = scheduler.tick(house.put(due)).await.unwrap();
        let error = format!("run {attempt} had no luck\u{fffd} (no_luck)");
        let retry_at = pause_minutes.map(|minutes| due + TimeDelta::minutes(minutes));
        assert_eq!(
            results(&outcomes),
            [&SlotResult::Failed { error, retry_at }]
        );
        assert_eq!(outcomes[0].attempt, attempt);
        due = retry_at.unwrap_or(at(2, 23, 0));
    }
    assert_eq!(
        scheduler.tick(house.put(at(3, 0, 59))).await.unwrap().len(),
        0,
        "it was given up"
    );
    // The next day's slot is owed as ever, and says that the one before did not succeed.
    let outcomes = scheduler.tick(house.put(at(3, 1, 0))).await.unwrap();
    assert_eq!(
        (outcomes[0].attempt, outcomes[0].missed, outcomes[0].slot_at),
        (1, 1, at(3, 1, 0))
    );
    assert_eq!(runs.load(SeqCst), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_succeeds_at_last_keeps_the_error_in_its_history() {
    let house = House::new().await;
    let scheduler = house.scheduler("a", vec![failing_until("fail", 2, &Arc::default())]);
    scheduler.register(at(1, 12, 0)).await.unwrap();
    scheduler.tick(house.put(at(2, 1, 0))).await.unwrap();
    assert!(
        scheduler.tick(house.put(at(2, 1, 1))).await.unwrap()[0]
            .result
            .is_success()
    );
    let slot = &scheduler.history("fail", 1).await.unwrap()[0];
    assert_eq!(
        (slot.state, slot.attempts, &slot.outcome),
        (SlotState::Succeeded, 2, &Some(json!({ "run": 2 })))
    );
    assert!(slot.error.as_ref().unwrap().contains("run 1 had no luck"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_due_slot_goes_before_the_retry_of_an_older_one() {
    let house = House::new().await;
    let scheduler = house.scheduler("a", vec![failing_until("fail", 2, &Arc::default())]);
    scheduler.register(at(1, 12, 0)).await.unwrap();
    scheduler.tick(house.put(at(2, 1, 0))).await.unwrap();
    let outcomes = scheduler.tick(house.put(at(3, 1, 0))).await.unwrap();
    assert_eq!(
        (outcomes[0].slot_at, outcomes[0].attempt, outcomes[0].missed),
        (at(3, 1, 0), 1, 1)
    );
    assert!(outcomes[0].result.is_success());
    assert_eq!(
        scheduler.tick(house.put(at(3, 5, 0))).await.unwrap().len(),
        0,
        "the old slot came back"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::panic)] // the task's own
async fn a_panic_is_a_failed_slot_and_the_others_go_on() {
    let house = House::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let in_future = Task::new("burst", DAILY, "panics", "", |_| async { panic!("boom") });
    let before_future = Task::new("burst_early", DAILY, "panics", "", |context| {
        assert!(context.attempt > 9, "boom at once");
        async { Ok(Value::Null) }
    });
    let scheduler = house.scheduler("a", vec![in_future, before_future, counting(&runs)]);
    scheduler.register(at(1, 12, 0)).await.unwrap();
    let outcomes = scheduler.tick(house.put(at(2, 1, 0))).await.unwrap();
    let errors: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match &outcome.result {
            SlotResult::Failed {
                error,
                retry_at: Some(_),
            } => Some(error.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        errors,
        ["the task panicked: boom", "the task panicked: boom at once"]
    );
    assert!(outcomes[2].result.is_success() && runs.load(SeqCst) == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_task_does_not_hold_up_the_others_in_the_loop() {
    let house = House::new().await;
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let tasks = vec![held(sender), counting(&runs)];
    let scheduler = house.scheduler_with("a", tasks, |settings| settings.tick_seconds = 1);
    scheduler.register(at(1, 12, 0)).await.unwrap();
    house.put(at(2, 1, 0));
    let (stop, stopped) = oneshot::channel::<()>();
    let looping = scheduler.clone();
    let forever = tokio::spawn(async move {
        looping
            .run_forever(async { stopped.await.unwrap_or_default() })
            .await;
    });
    let (_context, _go) = contexts.recv().await.unwrap();
    wait_until(|| runs.load(SeqCst) == 1).await;
    house.put(at(3, 1, 0));
    // The long task's lease is over by the clock until its next heartbeat, and it is this process's own.
    wait_until(|| runs.load(SeqCst) == 2).await;
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(4), forever)
        .await
        .expect("did not stop")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_gives_its_slot_back_at_once() {
    let house = House::new().await;
    let hangs = Arc::new(Notify::new());
    let task = hanging_once("hang", &hangs);
    let leaving = house.scheduler("leaving", vec![task.clone()]);
    leaving.register(at(1, 12, 0)).await.unwrap();
    house.put(at(2, 1, 0));
    let (stop, stopped) = oneshot::channel::<()>();
    let forever = tokio::spawn(async move {
        leaving
            .run_forever(async { stopped.await.unwrap_or_default() })
            .await;
    });
    hangs.notified().await;
    stop.send(()).unwrap();
    forever.await.unwrap();
    let heir = house.scheduler("heir", vec![task]);
    let outcomes = heir.tick(at(2, 1, 0)).await.unwrap();
    assert_eq!((outcomes.len(), outcomes[0].attempt), (1, 2));
    assert!(outcomes[0].result.is_success());
}

async fn wait_until(is_true: impl Fn() -> bool) {
    for _ in 0..500 {
        if is_true() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_databases_do_not_disturb_each_other() {
    let (one, two) = (House::new().await, House::new().await);
    let (runs_one, runs_two) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let first = one.scheduler("same", vec![counting(&runs_one)]);
    let second = two.scheduler("same", vec![counting(&runs_two)]);
    first.register(at(1, 12, 0)).await.unwrap();
    second.register(at(1, 12, 0)).await.unwrap();
    assert_eq!(first.tick(one.put(at(2, 1, 0))).await.unwrap().len(), 1);
    assert_eq!((runs_one.load(SeqCst), runs_two.load(SeqCst)), (1, 0));
    assert_eq!(second.history("count", 9).await.unwrap(), []);
    assert_eq!(second.tick(two.put(at(2, 1, 0))).await.unwrap().len(), 1);
    assert_eq!((runs_one.load(SeqCst), runs_two.load(SeqCst)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_ticks_of_dying_runners_lose_no_slot_and_complete_none_twice() {
    // Runners are aborted at random moments: before, in and after the task, also between its end and its record.
    let house = House::new().await;
    let completed: Arc<Mutex<Vec<DateTime<Utc>>>> = Arc::default();
    let hourly = |slow: bool| {
        let completed = Arc::clone(&completed);
        Task::new(
            "work",
            Cadence::Every(60),
            "works",
            "",
            move |context: Arc<TaskContext>| {
                let completed = Arc::clone(&completed);
                async move {
                    if slow {
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                    completed.lock().unwrap().push(context.slot_at);
                    Ok(Value::Null)
                }
            },
        )
    };
    let many = |settings: &mut ScheduleSettings| settings.max_attempts = 1_000;
    let doomed = house.scheduler_with("doomed", vec![hourly(true)], many);
    let heir = house.scheduler_with("heir", vec![hourly(false)], many);
    doomed.register(at(1, 12, 30)).await.unwrap();
    let mut killed = 0;
    for hour in 0..100_u32 {
        let due = at(1, 13, 0) + TimeDelta::hours(i64::from(hour));
        for attempt in 0..10 {
            let now = house.put(due + TimeDelta::minutes(2 * attempt));
            let scheduler = doomed.clone();
            let tick = tokio::spawn(async move { scheduler.tick(now).await });
            tokio::time::sleep(Duration::from_micros(
                u64::from(hour * 37 + 113 * u32::try_from(attempt).unwrap()) % 9_000,
            ))
            .await;
            tick.abort();
            killed += usize::from(tick.await.is_err());
        }
        heir.tick(house.put(due + TimeDelta::minutes(40)))
            .await
            .unwrap();
    }
    let history = heir.history("work", 1_000).await.unwrap();
    assert_eq!(history.len(), 100);
    assert!(
        history
            .iter()
            .all(|slot| slot.state == SlotState::Succeeded && slot.missed == 0)
    );
    assert!(
        killed > 100,
        "only {killed} were killed: the test shows nothing"
    );
    eprintln!(
        "{killed} of 1000 runners died; {} runs for 100 slots",
        completed.lock().unwrap().len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_ran_what_is_next_and_what_is_late() {
    let house = House::new().await;
    let scheduler = house.scheduler("a", vec![failing_until("fail", 2, &Arc::default())]);
    let unseen = &scheduler.status(at(1, 12, 0)).await.unwrap()[0];
    assert_eq!(
        (unseen.first_seen_at, &unseen.last, unseen.overdue),
        (None, &None, false)
    );
    assert_eq!(unseen.cadence, "daily at 01:00 UTC");
    scheduler.register(at(1, 12, 0)).await.unwrap();
    let status = async |now| scheduler.status(now).await.unwrap().remove(0);
    assert!(
        !status(at(2, 1, 1)).await.overdue,
        "a tick and a lease of grace"
    );
    assert!(status(at(2, 1, 2)).await.overdue);
    scheduler.tick(house.put(at(2, 1, 2))).await.unwrap();
    let failed = status(at(2, 1, 2)).await;
    assert_eq!(failed.last.as_ref().unwrap().state, SlotState::Failed);
    assert!(failed.overdue && failed.last_success_at.is_none());
    scheduler.tick(house.put(at(2, 1, 3))).await.unwrap();
    let good = status(at(2, 1, 3)).await;
    assert_eq!(
        (good.overdue, good.next_slot_at, good.last_success_at),
        (false, at(3, 1, 0), Some(at(2, 1, 0)))
    );
    assert!(status(at(3, 2, 0)).await.overdue);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_task_waits_until_it_is_enabled_again() {
    let house = House::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let scheduler = house.scheduler("a", vec![counting(&runs)]);
    scheduler.register(at(1, 12, 0)).await.unwrap();
    let admin = house.db.admin().await;
    admin
        .execute("update schedule_tasks set enabled = false", &[])
        .await
        .unwrap();
    assert_eq!(
        scheduler.tick(house.put(at(5, 2, 0))).await.unwrap().len(),
        0
    );
    let status = scheduler.status(at(5, 2, 0)).await.unwrap().remove(0);
    assert!(!status.enabled && !status.overdue);
    admin
        .execute("update schedule_tasks set enabled = true", &[])
        .await
        .unwrap();
    assert_eq!(scheduler.tick(at(5, 2, 0)).await.unwrap()[0].missed, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_history_is_pruned_but_not_what_is_owed_is_counted_from() {
    let house = House::new().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let scheduler = house.scheduler_with("a", vec![counting(&runs)], |settings| {
        settings.history_days = 5
    });
    for day in 1..=10 {
        scheduler.tick(house.put(at(day, 12, 0))).await.unwrap();
    }
    assert_eq!(scheduler.history("count", 99).await.unwrap().len(), 9);
    // Finished at noon: those of days 2 to 6 are at least 5 days old a moment after noon of day 11.
    assert_eq!(scheduler.prune(at(11, 12, 0)).await.unwrap(), 4);
    assert_eq!(scheduler.prune(at(11, 12, 1)).await.unwrap(), 1);
    assert_eq!(scheduler.prune(at(31, 12, 0)).await.unwrap(), 3);
    let left = scheduler.history("count", 99).await.unwrap();
    assert_eq!((left.len(), left[0].slot_at), (1, at(10, 1, 0)));
    assert_eq!(
        scheduler.tick(house.put(at(31, 12, 0))).await.unwrap()[0].missed,
        20
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_be_is_refused() {
    let house = House::new().await;
    let named = |name, cadence| Task::new(name, cadence, "", "", |_| async { Ok(Value::Null) });
    let impossible = Cadence::DailyAt {
        hour: 24,
        minute: 0,
    };
    for (tasks, code) in [
        (
            vec![named("a", DAILY), named("a", DAILY)],
            "invalid_schedule",
        ),
        (vec![named("A", DAILY)], "invalid_schedule"),
        (vec![named("", DAILY)], "invalid_schedule"),
        (vec![named("a", impossible)], "invalid_cadence"),
        (vec![named("a", Cadence::Every(0))], "invalid_cadence"),
    ] {
        let settings = house.db.settings().schedule;
        let made = Scheduler::new(
            house.pool(),
            Arc::new(house.clock.clone()),
            tasks,
            settings,
            "a",
        );
        assert_eq!(made.err().unwrap().code(), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_a_tick_says_so() {
    let house = House::new().await;
    let scheduler = house.scheduler("a", vec![counting(&Arc::default())]);
    drop(house);
    assert_eq!(
        scheduler.tick(at(2, 1, 0)).await.unwrap_err().kind(),
        Kind::Unavailable
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_has_the_types_it_declares() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    for statement in queries::ALL {
        let prepared = client
            .prepare_typed(statement.sql, statement.params)
            .await
            .unwrap();
        assert_eq!(prepared.params(), statement.params, "{}", statement.name);
        let columns: Vec<_> = prepared
            .columns()
            .iter()
            .map(|c| (c.name(), c.type_().clone()))
            .collect();
        assert_eq!(columns, statement.columns, "{}", statement.name);
    }
}

//! What happens to a slot whose runner dies, or is only slow.

use super::*;

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
        settings.lease_seconds = 3;
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
    until_heartbeat(&slow, beat).await;
    tx.commit().await.unwrap();
    go.send(()).unwrap();
    assert!(tick.await.unwrap()[0].result.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_a_long_task_its_slot() {
    let house = House::new().await;
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let short = |settings: &mut ScheduleSettings| settings.lease_seconds = 3;
    let slow = house.scheduler_with("slow", vec![held(sender)], short);
    let mut taker = counting(&Arc::new(AtomicUsize::new(0)));
    taker.name = "held";
    let other = house.scheduler_with("other", vec![taker], short);
    slow.register(at(1, 12, 0)).await.unwrap();
    let now = house.put(at(2, 1, 0));
    let ticking = slow.clone();
    let tick = tokio::spawn(async move { ticking.tick(now).await.unwrap() });
    let (_context, go) = contexts.recv().await.unwrap();
    for round in 1..=3 {
        // The clock passes most of the lease, a real heartbeat renews it, and the old lease is long over.
        let beat = house.put(now + TimeDelta::seconds(2 * round));
        until_heartbeat(&slow, beat).await;
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
    // Another takes the slot and still runs it when the slow one's next heartbeat comes.
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let heir = house.scheduler("heir", vec![held(sender)]);
    let later = house.put(now + TimeDelta::seconds(3));
    let taking = tokio::spawn(async move { heir.tick(later).await.unwrap() });
    let (_context, go) = contexts.recv().await.unwrap();
    let outcomes = tokio::time::timeout(Duration::from_secs(5), tick)
        .await
        .expect("was not cancelled")
        .unwrap();
    assert!(
        matches!(results(&outcomes)[..], [SlotResult::Abandoned { .. }]),
        "{outcomes:?}"
    );
    go.send(()).unwrap();
    assert!(taking.await.unwrap()[0].result.is_success());
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
    // The attempt was given back with it: a deployment is no failure.
    assert_eq!((outcomes.len(), outcomes[0].attempt), (1, 1));
    assert!(outcomes[0].result.is_success());
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
async fn a_heartbeat_or_completion_in_the_midst_of_a_taking_wins() {
    // Between the decision to take the slot and the taking, the taker raises the epoch: there the slow runner's
    // statement is slipped in.
    for slipped in [
        "heartbeat_at = '2025-03-02 01:05+00', lease_expires_at = '2025-03-02 01:06+00'",
        "state = 'succeeded', outcome = 'null', finished_at = '2025-03-02 01:05+00', lease_expires_at = null",
    ] {
        let house = House::new().await;
        let hangs = Arc::new(Notify::new());
        let task = hanging_once("hang", &hangs);
        kill_a_runner_of_day_two(&house, task.clone(), &hangs).await;
        let sql = format!(
            "create function slip() returns trigger language plpgsql security definer as $$
                 begin update schedule_slots set {slipped}; return new; end $$;
             create trigger slip after update of epoch on schedule_tasks for each row execute function slip()"
        );
        let admin = house.db.admin().await;
        admin.batch_execute(&sql).await.unwrap();
        let heir = house.scheduler("heir", vec![task]);
        let outcomes = heir.tick(house.put(at(2, 1, 5))).await.unwrap();
        assert!(outcomes.is_empty(), "{slipped}: {outcomes:?}");
        admin
            .batch_execute("drop trigger slip on schedule_tasks")
            .await
            .unwrap();
        let outcomes = heir.tick(at(2, 1, 5)).await.unwrap();
        assert_eq!(outcomes.len(), 1, "the taking was rolled back whole");
    }
}

/// Waits until the runner of `held` was heard of at this time.
async fn until_heartbeat(scheduler: &Scheduler, beat: chrono::DateTime<chrono::Utc>) {
    let began = std::time::Instant::now();
    while scheduler.history("held", 1).await.unwrap()[0].heartbeat_at != beat {
        assert!(began.elapsed() < Duration::from_secs(20), "no heartbeat");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

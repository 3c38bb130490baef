//! Errors, panics, and what is tried again.

use super::*;

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
async fn what_is_due_at_once_runs_at_once() {
    let house = House::new().await;
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let scheduler = house.scheduler("a", vec![held(sender), counting(&runs)]);
    scheduler.register(at(1, 12, 0)).await.unwrap();
    let now = house.put(at(2, 1, 0));
    let tick = tokio::spawn(async move { scheduler.tick(now).await.unwrap() });
    let (_context, go) = contexts.recv().await.unwrap();
    wait_until(|| runs.load(SeqCst) == 1).await;
    go.send(()).unwrap();
    assert_eq!(tick.await.unwrap().len(), 2);
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

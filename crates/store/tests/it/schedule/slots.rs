//! What is due, and that it runs once.

use super::*;

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

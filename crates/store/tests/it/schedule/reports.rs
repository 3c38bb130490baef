//! Status, history and its pruning.

use super::*;

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
        settings.history_days = 5;
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

//! Retention on the schedule: in its slot, after a backup, and never beside itself.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use utxoiq_store::{
    Store,
    retention::Held,
    schedule::{Scheduler, SlotOutcome, SlotResult},
    worker,
};

use super::{ACTOR, House, after, day, start};

fn scheduler(store: &Store, runner: &str) -> Scheduler {
    let settings = store.config().schedule.clone();
    let (pool, tasks) = (store.pool().clone(), worker::tasks(store));
    Scheduler::new(pool, store.clock(), tasks, settings, runner).unwrap()
}

fn of<'a>(outcomes: &'a [SlotOutcome], task: &str) -> Option<&'a SlotResult> {
    let found = outcomes.iter().find(|outcome| outcome.task == task);
    found.map(|outcome| &outcome.result)
}

/// A backup that holds its slot until a time.
async fn backup_until(house: &House, at: DateTime<Utc>, until: DateTime<Utc>) {
    let task = "insert into schedule_tasks (task, cadence, first_seen_at) values ('make_backup', 'every hour', $1) on conflict do nothing";
    house.admin.execute(task, &[&at]).await.unwrap();
    let slot = "insert into schedule_slots (task, slot_at, on_demand, state, epoch, runner, attempts, missed, started_at, heartbeat_at, lease_expires_at)
                values ('make_backup', $1, false, 'running', 1, 'another', 1, 0, $1, $1, $2)";
    house.admin.execute(slot, &[&at, &until]).await.unwrap();
}

async fn runs(house: &House) -> i64 {
    house.number("select count(*) from retention_runs").await
}

#[tokio::test]
async fn every_task_of_a_night_is_done_in_its_slot() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    house.samples("a", &[start(first)]).await;
    let token = "insert into service_tokens (id, name, subject, secret_hash, scopes, created_at, created_by, expires_at)
                 values (gen_random_uuid(), 'old', 'old', decode(repeat('ab', 32), 'hex'), '{metrics:read}', '2026-01-01', 'ann', '2026-03-01')";
    house.admin.execute(token, &[]).await.unwrap();
    let held = Held::Day {
        dataset: None,
        first_day: first,
        last_day: first,
    };
    let retention = house.store.retention().unwrap();
    let until = start(after(first, 91));
    retention
        .place_hold(held, "a case", Some(until), start(first), ACTOR)
        .await
        .unwrap();
    let scheduler = scheduler(&house.store, "one");
    let evening = start(after(first, 90)) + TimeDelta::hours(22);
    house.roll_up_to(after(first, 90)).await;
    scheduler.register(evening).await.unwrap();
    let mut seen: BTreeMap<&str, Vec<(String, Value)>> = BTreeMap::new();
    for quarter in 1..=26 {
        let now = evening + TimeDelta::minutes(15 * quarter);
        house.clock.set(now);
        for outcome in scheduler.tick(now).await.unwrap() {
            let SlotResult::Succeeded { outcome: told } = outcome.result else {
                panic!("{outcome:?}");
            };
            let slot = outcome.slot_at.format("%H:%M").to_string();
            seen.entry(outcome.task).or_default().push((slot, told));
        }
    }
    let names: Vec<_> = scheduler.tasks().iter().map(|task| task.name).collect();
    assert_eq!(seen.len(), names.len(), "{names:?}: {seen:?}");
    for (task, slot) in [
        ("release_expired_holds", "00:30"),
        ("end_expired_tokens", "00:40"),
        ("run_retention", "02:00"),
        ("prune_schedule_history", "03:00"),
        ("verify_metrics", "03:30"),
        ("check_feedback_statistics", "04:00"),
    ] {
        let slots: Vec<_> = seen[task].iter().map(|(slot, _)| slot.as_str()).collect();
        assert_eq!(slots, [slot], "{task}");
    }
    // Those that are due again and again.
    assert!(seen["roll_up_metrics"].len() > 20 && seen["make_metric_partitions"].len() >= 6);
    assert_eq!(seen["release_expired_holds"][0].1["released"], 1);
    assert_eq!(seen["end_expired_tokens"][0].1["ended"], 1);
    assert_eq!(seen["run_retention"][0].1["archived"], 1);
    assert_eq!(seen["make_metric_partitions"][0].1["made"], 15);
    let logged = "select count(*) from audit_log where (action, actor) in (('token_expire', 'schedule: end_expired_tokens'),
                      ('hold_release', 'schedule: release_expired_holds'), ('drop', 'schedule: run_retention'))";
    assert_eq!(house.number(logged).await, 3);
    house.assert_chain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_waits_for_a_backup_until_its_slot_or_its_lease_ends_and_not_for_ever() {
    for how in ["ends", "dies", "goes on"] {
        let house = House::on("2026-01-01").await;
        let night = start(day("2026-01-02")) + TimeDelta::hours(2);
        let scheduler = scheduler(&house.store, "one");
        scheduler
            .register(night - TimeDelta::hours(1))
            .await
            .unwrap();
        backup_until(
            &house,
            night - TimeDelta::minutes(5),
            night + TimeDelta::hours(2),
        )
        .await;
        house.clock.set(night);
        let ticking = tokio::spawn(async move { scheduler.tick(night).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(!ticking.is_finished(), "{how}");
        assert_eq!(runs(&house).await, 0, "{how}");
        match how {
            "ends" => {
                let sql = "update schedule_slots set state = 'succeeded', outcome = '{}', lease_expires_at = null, finished_at = started_at
                           where task = 'make_backup'";
                house.admin.execute(sql, &[]).await.unwrap();
            }
            "dies" => house.clock.advance(TimeDelta::hours(2)),
            _ => {
                let sql = "update schedule_slots set lease_expires_at = lease_expires_at + interval '1 day' where task = 'make_backup'";
                house.admin.execute(sql, &[]).await.unwrap();
                house.clock.advance(TimeDelta::hours(4));
            }
        }
        let outcomes = tokio::time::timeout(Duration::from_secs(30), ticking).await;
        let outcomes = outcomes.unwrap().unwrap();
        match (how, of(&outcomes, "run_retention").unwrap()) {
            ("goes on", SlotResult::Failed { error, retry_at }) => {
                assert!(
                    error.contains("backup_running") && retry_at.is_some(),
                    "{error}"
                );
                assert_eq!(runs(&house).await, 0);
            }
            ("ends" | "dies", SlotResult::Succeeded { .. }) => {
                assert_eq!(runs(&house).await, 1, "{how}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_and_an_operator_never_run_retention_beside_each_other() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    house.samples("a", &[start(first)]).await;
    let today = after(first, 91);
    house.roll_up_to(today).await;
    let night = start(today) + TimeDelta::hours(2);
    house.clock.set(night);
    let other = house.another();
    let schedulers = [scheduler(&house.store, "one"), scheduler(&other, "two")];
    schedulers[0]
        .register(night - TimeDelta::minutes(30))
        .await
        .unwrap();
    // The run is held up in its middle.
    let mut blocker = house.db.admin().await;
    let blocking = blocker.transaction().await.unwrap();
    blocking
        .batch_execute("lock table archives in exclusive mode")
        .await
        .unwrap();
    let ticks: Vec<_> = schedulers
        .iter()
        .map(|scheduler| {
            let scheduler = scheduler.clone();
            tokio::spawn(async move { scheduler.tick(night).await.unwrap() })
        })
        .collect();
    while runs(&house).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = other
        .retention()
        .unwrap()
        .run(night, ACTOR)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "retention_running");
    let refused = schedulers[1]
        .run_now("run_retention", night)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "task_running");
    blocking.rollback().await.unwrap();
    let mut outcomes = Vec::new();
    for tick in ticks {
        outcomes.extend(tick.await.unwrap());
    }
    outcomes.retain(|outcome| outcome.task == "run_retention");
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert!(outcomes[0].result.is_success(), "{outcomes:?}");
    assert_eq!(runs(&house).await, 1);
    // An operator runs it; the schedule's attempt fails by name, and is tried again.
    let next = start(after(today, 1)) + TimeDelta::hours(2);
    house.clock.set(next);
    let sql = "insert into retention_runs (began_at, began_by, lease_expires_at) values ($1, 'ann', $1::timestamptz + interval '1 minute')";
    house.admin.execute(sql, &[&next]).await.unwrap();
    let outcomes = schedulers[0].tick(next).await.unwrap();
    let Some(SlotResult::Failed {
        error,
        retry_at: Some(retry_at),
    }) = of(&outcomes, "run_retention")
    else {
        panic!("{outcomes:?}");
    };
    assert!(error.contains("retention_running"), "{error}");
    house.clock.set(*retry_at);
    let outcomes = schedulers[0].tick(*retry_at).await.unwrap();
    assert!(
        of(&outcomes, "run_retention").unwrap().is_success(),
        "{outcomes:?}"
    );
}

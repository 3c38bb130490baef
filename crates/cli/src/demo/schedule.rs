//! What the schedule did: every night's slots, and the last hours of what runs more often.

use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng, RngExt as _};
use serde_json::{Value, json};
use tokio_postgres::types::Json;
use utxoiq_store::{
    db,
    schedule::{Cadence, Scheduler, Task},
    worker,
};

use super::{Demo, Written, queries};

/// How far back what runs within a day is told of.
const OFTEN: TimeDelta = TimeDelta::hours(3);

/// The statement that writes them takes so many at once.
const AT_ONCE: usize = 4_000;

/// The processes of the history.
const RUNNERS: [&str; 3] = ["store-7d4f-0:7", "store-7d4f-1:7", "store-7d4f-2:7"];

/// Writes it.
pub async fn lay(demo: &Demo, written: &mut Written) -> anyhow::Result<()> {
    let store = &demo.store;
    let tasks = worker::tasks(store);
    let scheduler = Scheduler::new(
        store.pool().clone(),
        store.clock(),
        worker::tasks(store),
        store.config().schedule.clone(),
        RUNNERS[0],
    )?;
    scheduler.register(demo.as_of).await?;
    let mut random = demo.random(4);
    let mut rows = Vec::new();
    for task in &tasks {
        rows.extend(slots(demo, task, &mut random));
    }
    let step = demo
        .progress
        .begin("schedule", rows.len().div_ceil(AT_ONCE) as u64);
    let connection = store.pool().get().await?;
    for piece in rows.chunks(AT_ONCE) {
        written.scheduled_runs +=
            db::execute(&connection, &queries::INSERT_SLOTS, &[&Json(piece)]).await?;
        step.done("");
    }
    step.finish(format_args!(
        "{} runs of {} tasks",
        written.scheduled_runs,
        tasks.len()
    ));
    Ok(())
}

fn slots(demo: &Demo, task: &Task, random: &mut impl Rng) -> Vec<Value> {
    let kept = demo.days.min(demo.store.config().schedule.history_days);
    let since = match task.cadence {
        Cadence::Every(_) => demo.as_of - OFTEN,
        _ => demo.as_of - TimeDelta::days(kept),
    };
    let mut slots = Vec::new();
    let mut slot = task.cadence.latest_slot(demo.as_of);
    while slot > since {
        // What took longer than that is not over yet.
        if slot + TimeDelta::minutes(3) < demo.as_of {
            slots.push(run_of(task.name, slot, random));
        }
        slot = task.cadence.latest_slot(slot - TimeDelta::microseconds(1));
    }
    slots.reverse();
    slots
}

fn run_of(task: &str, slot: DateTime<Utc>, random: &mut impl Rng) -> Value {
    let is_nightly = matches!(
        task,
        "make_backup" | "run_retention" | "verify_metrics" | "prove_backup"
    );
    let took = if is_nightly {
        random.random_range(9_000..95_000)
    } else {
        random.random_range(4..180)
    };
    let was_retried = is_nightly && random.random_bool(0.02);
    let late = if was_retried {
        75_000
    } else {
        random.random_range(150..1_900)
    };
    let started = slot + TimeDelta::milliseconds(late);
    let finished = started + TimeDelta::milliseconds(took);
    json!({
        "task": task, "slot_at": slot, "on_demand": false, "state": "succeeded", "epoch": slot.timestamp() / 60,
        "runner": RUNNERS[random.random_range(0..RUNNERS.len())], "attempts": 1 + i32::from(was_retried), "missed": 0,
        "started_at": started, "heartbeat_at": started, "finished_at": finished,
        "outcome": outcome(task, random),
        "error": was_retried.then_some("the connection to the database was lost, and is tried again (database_unavailable)"),
    })
}

fn outcome(task: &str, random: &mut impl Rng) -> Value {
    match task {
        "run_retention" => {
            json!({ "archived": 1, "expired": random.random_range(0..2), "kept": 0, "removed_objects": 1 })
        }
        "make_backup" => json!({ "backup": "stored, read back and copied" }),
        "verify_metrics" => {
            json!({ "days": 1, "compared": random.random_range(900..1_100), "waiting_days": 0 })
        }
        "check_feedback_statistics" => json!({ "differences": 0 }),
        "roll_up_metrics" => {
            json!({ "hours": 0, "again": random.random_range(0..4), "has_more": false })
        }
        "fold_feedback" => {
            json!({ "deltas": random.random_range(0..12), "day_deltas": random.random_range(0..12) })
        }
        "make_metric_partitions" => json!({ "made": 0 }),
        "fail_silent_backfills" => json!({ "failed": [] }),
        "release_expired_holds" => json!({ "released": 0 }),
        "end_expired_tokens" => json!({ "ended": 0 }),
        _ => json!({ "deleted": random.random_range(0..40) }),
    }
}

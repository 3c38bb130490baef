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
    schedule::{Cadence, Scheduler, SlotResult, SlotState, Task, TaskContext},
};

use crate::support::TestDb;

mod failures;
mod leases;
mod reports;
mod slots;

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

async fn wait_until(is_true: impl Fn() -> bool) {
    for _ in 0..500 {
        if is_true() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true");
}

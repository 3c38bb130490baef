//! The durable schedule: tasks that run at their times, once, whichever process is alive then.
//!
//! # What it guarantees
//!
//! * A slot (a task's due time) *completes* once across all instances, and once when it was missed: missed slots of
//!   one task coalesce into the newest, whose `missed` says for how many it stands. A task owes nothing from before
//!   it was first seen.
//! * A slot is held by a lease and an epoch. When its runner dies, another goes on with it once the lease is over.
//!   The runner that was only slow finds its heartbeat, its completion and its fenced writes refused, and its task is
//!   cancelled.
//! * No task runs beside itself: a partial unique index says so, not this code.
//! * A failed slot (an error, a panic, a runner that never came back) is tried again with growing pauses up to
//!   `schedule.max_attempts`, then given up; a newer due slot goes first.
//! * Tasks do not hold each other up: due ones run concurrently, and [`Scheduler::run_forever`] keeps ticking meanwhile.
//!
//! What it cannot give is running once: a runner may die between an effect and its record. Tasks are therefore
//! resumable, their writes to the database are fenced ([`TaskContext::fence`]), and names of objects they store
//! contain the epoch.
//!
//! # Time
//!
//! [`Scheduler::tick`] is a function of `now` and of the tables; the clock is asked only for what happens while a task
//! runs (heartbeats, the finishing time). Leases compare the clocks of different machines. A clock that is wrong by
//! more than the lease takes a slot away too early, which costs a second run and not correctness: the epoch fences.
//!
//! # Taking a lost slot over
//!
//! ```text
//! runner A (slow, epoch 7)                     runner B
//! fence: FOR KEY SHARE on the slot
//!                                              lease over: LOCK_SLOT … FOR UPDATE SKIP LOCKED
//!                                              finds A's transaction open, leaves it to a later tick
//! COMMIT (in time: nobody else has begun)
//!                                              LOCK_SLOT: still epoch 7, still expired; epoch := 8, COMMIT
//! fence: epoch 7 is gone → stale_lease
//! heartbeat: no row → the task is cancelled
//! ```
//!
//! LOCK_SLOT repeats what the decision was based on, so that a heartbeat or completion between the two wins. A fence
//! takes FOR KEY SHARE and not FOR SHARE: the latter would also hold up the runner's own heartbeats, and a fenced
//! transaction longer than the lease would lose it.

mod cadence;
mod claim;
mod decide;
pub mod queries;
mod run;
mod status;
mod task;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};

pub use cadence::Cadence;
pub use run::{SlotOutcome, SlotResult};
pub use status::{Slot, SlotState, TaskStatus};
pub use task::{Task, TaskContext, TaskFuture};

use crate::{
    clock::{Clock, to_micros},
    config::ScheduleSettings,
    db::{self, Pool},
    error::{Error, Result},
};
use decide::TaskState;

/// How long a stopping process waits for its runs to give their slots back; the leases end without it too.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Runs tasks at their times. Clones share everything.
#[derive(Clone)]
pub struct Scheduler {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    clock: Arc<dyn Clock>,
    tasks: Vec<Task>,
    settings: ScheduleSettings,
    runner: String,
    stop: watch::Sender<bool>,
    /// How runs ended here.
    ended: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Scheduler {
    /// A scheduler of these tasks. `runner` names this process in the tables: [`runner_name`].
    ///
    /// Refuses as `invalid_schedule` two tasks of one name, a name that is not snake case, and as `invalid_cadence` an
    /// impossible time of day.
    pub fn new(
        pool: Pool,
        clock: Arc<dyn Clock>,
        tasks: Vec<Task>,
        settings: ScheduleSettings,
        runner: impl Into<String>,
    ) -> Result<Self> {
        let mut names = BTreeSet::new();
        for task in &tasks {
            task.check()?;
            if !names.insert(task.name) {
                return Err(Error::invalid(
                    "invalid_schedule",
                    format!("two tasks have the name {}: rename one", task.name),
                ));
            }
        }
        let runner: String = runner
            .into()
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                clock,
                tasks,
                settings,
                runner: if runner.is_empty() {
                    "unnamed".to_owned()
                } else {
                    runner
                },
                stop: watch::Sender::new(false),
                ended: Mutex::default(),
            }),
        })
    }

    /// The tasks, in the order they were given.
    pub fn tasks(&self) -> &[Task] {
        &self.inner.tasks
    }

    /// Makes the tasks known to the database: from `now` on they owe their slots. Known ones keep their first time.
    /// [`Scheduler::tick`] does it for new tasks by itself.
    pub async fn register(&self, now: DateTime<Utc>) -> Result<()> {
        let (names, cadences): (Vec<&str>, Vec<String>) = self
            .inner
            .tasks
            .iter()
            .map(|task| (task.name, task.cadence.to_string()))
            .unzip();
        let connection = self.inner.pool.get().await?;
        db::execute(
            &connection,
            &queries::REGISTER,
            &[&names, &cadences, &to_micros(now)],
        )
        .await?;
        Ok(())
    }

    /// How the runs that ended in this process did: the task, how (`succeeded`, `failed` or `abandoned`), and how often. Each
    /// task has each of them, so that the first of its kind is seen as one more.
    pub fn runs(&self) -> Vec<(&'static str, &'static str, u64)> {
        let ended = self.inner.ended.lock();
        let ended = ended.unwrap_or_else(PoisonError::into_inner);
        let of = |task: &'static str| {
            let count = |result| ended.get(&(task, result)).copied().unwrap_or_default();
            SlotResult::NAMES.map(|result| (task, result, count(result)))
        };
        self.inner
            .tasks
            .iter()
            .flat_map(|task| of(task.name))
            .collect()
    }

    /// Runs what is due at `now`, all of it at once, and returns when the runs that this call started are done.
    ///
    /// Empty when nothing is due or others run it. Dropping the future abandons the runs: their tasks are cancelled
    /// and others go on with them when the leases are over. Spawn it where the caller may go away.
    pub async fn tick(&self, now: DateTime<Utc>) -> Result<Vec<SlotOutcome>> {
        let now = to_micros(now);
        let inner = &self.inner;
        if *inner.stop.borrow() {
            return Ok(Vec::new());
        }
        let states = self.known_states(now).await?;
        let due = inner.tasks.iter().filter(|task| {
            states.get(task.name).is_some_and(|state| {
                !decide::due(task.cadence, state, now, inner.settings.max_attempts).is_nothing()
            })
        });
        let outcomes = join_all(due.map(|task| inner.run_due(task, now))).await;
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Runs a task now, as a slot of its own that discharges no scheduled one, and returns when it is done. A failure
    /// is not tried again by itself; a lost runner's run is gone on with, as any.
    ///
    /// Fails as `task_not_found`, or as the conflict `task_running` while the task runs anywhere. Dropping the future
    /// abandons the run, as with [`Scheduler::tick`].
    pub async fn run_now(&self, task: &str, now: DateTime<Utc>) -> Result<SlotOutcome> {
        let now = to_micros(now);
        let task = self.task(task)?;
        self.known_states(now).await?;
        let claim = self.inner.claim_on_demand(task, now).await?;
        Ok(self.inner.run(task, claim).await)
    }

    /// Ticks every `schedule.tick_seconds`, also while tasks run, until `shutdown` is ready; then cancels what runs
    /// and gives its slots back, so that another process goes on at once. The only code here that sleeps to move on.
    pub async fn run_forever(&self, shutdown: impl Future<Output = ()>) {
        let mut ticks =
            tokio::time::interval(Duration::from_secs(self.inner.settings.tick_seconds.max(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A tick that runs something holds one of the tasks; a few more may wait for the database.
        let most = self.inner.tasks.len() + 4;
        let mut running = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = running.join_next(), if !running.is_empty() => {}
                _ = ticks.tick() => {
                    if running.len() < most {
                        running.spawn(self.clone().tick_and_log());
                    }
                }
            }
        }
        self.inner.stop.send_replace(true);
        let drained = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, drained).await.is_err() {
            tracing::warn!(
                "scheduled tasks did not stop in time; others go on with them when their leases are over"
            );
        }
    }

    async fn tick_and_log(self) {
        if let Err(error) = self.tick(self.inner.clock.now()).await {
            tracing::warn!(
                error = error.report(),
                "the schedule could not be read; the next tick tries again"
            );
        }
    }

    /// The newest runs of a task, newest slot first; at most 1,000.
    pub async fn history(&self, task: &str, limit: usize) -> Result<Vec<Slot>> {
        let task = self.task(task)?;
        status::history(&self.inner.pool, task.name, limit).await
    }

    /// Each task with its last run and its next time. Reads only: a task never registered has no first time yet.
    pub async fn status(&self, now: DateTime<Utc>) -> Result<Vec<TaskStatus>> {
        self.inner.status(to_micros(now)).await
    }

    /// See [`prune`].
    pub async fn prune(&self, now: DateTime<Utc>) -> Result<u64> {
        prune(&self.inner.pool, &self.inner.settings, now).await
    }

    fn task(&self, name: &str) -> Result<&Task> {
        self.inner
            .tasks
            .iter()
            .find(|task| task.name == name)
            .ok_or_else(|| {
                Error::not_found(
                    "task_not_found",
                    "no such task: `schedule status` shows the names of all",
                )
            })
    }

    /// What the tables say, with new tasks and changed cadences registered first.
    async fn known_states(&self, now: DateTime<Utc>) -> Result<BTreeMap<String, TaskState>> {
        let states = self.inner.load().await?;
        let is_known = |task: &Task| {
            states
                .get(task.name)
                .is_some_and(|state| state.cadence == task.cadence.to_string())
        };
        if self.inner.tasks.iter().all(is_known) {
            return Ok(states);
        }
        self.register(now).await?;
        self.inner.load().await
    }
}

impl Inner {
    async fn load(&self) -> Result<BTreeMap<String, TaskState>> {
        let names: Vec<&str> = self.tasks.iter().map(|task| task.name).collect();
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::LOAD, &[&names]).await?;
        Ok(rows
            .iter()
            .map(|row| (row.get("task"), TaskState::from_row(row)))
            .collect())
    }
}

/// Deletes finished slots older than `schedule.history_days`, and returns how many. The last success of each task
/// stays: what is owed is counted from it.
pub async fn prune(pool: &Pool, settings: &ScheduleSettings, now: DateTime<Utc>) -> Result<u64> {
    let kept = TimeDelta::try_days(settings.history_days).unwrap_or(TimeDelta::MAX);
    let Some(before) = now.checked_sub_signed(kept) else {
        return Ok(0);
    };
    let connection = pool.get().await?;
    db::execute(&connection, &queries::PRUNE, &[&before]).await
}

/// Whether a task runs at `now`: a runner that died runs no more when its lease is over.
pub async fn is_running(pool: &Pool, task: &str, now: DateTime<Utc>) -> Result<bool> {
    let connection = pool.get().await?;
    let row = db::query_one(&connection, &queries::IS_RUNNING, &[&task, &now]).await?;
    Ok(row.try_get("is_running")?)
}

/// This process's name in the tables: host and process id.
pub fn runner_name() -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|host| host.trim().to_owned())
        .filter(|host| !host.is_empty());
    format!(
        "{}:{}",
        host.as_deref().unwrap_or("localhost"),
        std::process::id()
    )
}

//! A run: readers and writers at work while things break, and what is said of it afterwards.

use std::{sync::Arc, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::sleep,
};

use super::{
    checker::{self, Limits, Verdict},
    faults::Step,
    history::{History, Path},
    inject::inject,
    world::{Kind, World},
    writer::Writer,
};

/// How hard the load is.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Readers of each insight through each server. One that waits for a broken server keeps none of another insight.
    pub readers: usize,
    /// The longest a reader waits before it reads again.
    pub pause: Duration,
    /// Servers below this one are not read by readers, only by who has written.
    pub first_read: usize,
    /// How many of the writes go past the servers.
    pub sql_share: f64,
    /// The longest time between two writes of a burst.
    pub gap: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            readers: 1,
            pause: Duration::from_millis(60),
            first_read: 0,
            sql_share: 0.4,
            gap: Duration::from_millis(400),
        }
    }
}

/// Readers and writers at work.
pub struct Storm {
    world: Arc<World>,
    seed: u64,
    stop: watch::Sender<bool>,
    readers: JoinSet<()>,
    writers: JoinSet<()>,
    /// Of the last insight: it writes where a fault is about one write.
    driver: Writer,
}

/// A run that is over.
pub struct Outcome {
    pub history: History,
    pub verdict: Verdict,
}

impl Storm {
    /// Starts to read every insight, and to write every one but the last.
    pub async fn start(world: &Arc<World>, seed: u64, load: Load) -> Self {
        let stop = watch::Sender::new(false);
        let mut storm = Self {
            world: Arc::clone(world),
            seed,
            stop: stop.clone(),
            readers: JoinSet::new(),
            writers: JoinSet::new(),
            driver: Writer::new(world, insights(world) - 1, seed).await,
        };
        for server in load.first_read..world.servers.len() {
            for reader in 0..load.readers * insights(world) {
                let insight = reader % insights(world);
                let mut random =
                    StdRng::seed_from_u64(seed ^ ((server * 1_000 + reader + 1) as u64));
                let (world, stop) = (Arc::clone(world), stop.subscribe());
                storm.readers.spawn(async move {
                    while !*stop.borrow() {
                        world.read(server, insight, None, None).await;
                        sleep(load.pause.mul_f64(random.random())).await;
                    }
                });
            }
        }
        for insight in 0..insights(world) - 1 {
            let writer = Writer::new(world, insight, seed).await;
            storm.writers.spawn(writer.run(load, stop.subscribe()));
        }
        storm
    }

    /// Lets a fault happen, and the calm after it.
    pub async fn step(&mut self, step: &Step) {
        inject(&self.world, step, &mut self.driver).await;
        sleep(step.calm).await;
        for tasks in [&mut self.readers, &mut self.writers] {
            while let Some(ended) = tasks.try_join_next() {
                pass_on(ended);
            }
        }
    }

    /// Whether a stale answer was given so far.
    pub fn is_convicted(&self) -> bool {
        let history = self.world.recorder.history().clone();
        checker::check(&history, limits(&self.world)).stale() > 0
    }

    /// Stops the writers, gives the caches a second, reads everything everywhere once more, and judges.
    pub async fn end(mut self) -> Outcome {
        self.stop.send_replace(true);
        join(&mut self.writers).await;
        join(&mut self.readers).await;
        sleep(Duration::from_millis(1_050)).await;
        for server in 0..self.world.servers.len() {
            for insight in 0..insights(&self.world) {
                self.world.read(server, insight, None, None).await;
            }
        }
        let history = self.world.recorder.history().clone();
        let verdict = checker::check(&history, limits(&self.world));
        let outcome = Outcome { history, verdict };
        println!(
            "{:?} seed {}: {}",
            self.world.kind,
            self.seed,
            outcome.summary()
        );
        outcome
    }
}

fn insights(world: &World) -> usize {
    world.recorder.history().insights.len()
}

/// Many worlds of straw servers run at once: how quick they are is not what they are for.
fn limits(world: &World) -> Limits {
    match world.kind {
        Kind::Product => Limits::default(),
        Kind::Straw(_) => Limits {
            slow: Duration::from_secs(5),
            ..Limits::default()
        },
    }
}

/// A writer's or reader's panic goes on here.
async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        pass_on(ended);
    }
}

fn pass_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        std::panic::resume_unwind(error.into_panic());
    }
}

impl Outcome {
    /// What the run was like, in a few lines.
    pub fn summary(&self) -> String {
        let verdict = &self.verdict;
        let by = |path| {
            let writes = self.history.insights.iter().flatten();
            writes.filter(|write| write.path == path).count()
        };
        format!(
            "{} reads ({} failed with an excuse), {} writes ({} by calls, {} by SQL)\n  \
             oldest answer {:?}; reads took {:?} (median), {:?} (99 %), {:?} (longest)\n  \
             faults {:?}\n  {} violations, {} of them stale answers",
            verdict.reads,
            verdict.excused,
            verdict.writes,
            by(Path::Api),
            by(Path::Sql),
            verdict.oldest,
            verdict.quantile(0.5),
            verdict.quantile(0.99),
            verdict.quantile(1.0),
            self.history.faults,
            verdict.violations.len(),
            verdict.stale()
        )
    }

    /// Fails unless every promise was kept and enough was looked at.
    pub fn must_be_right(&self, seed: u64, least_reads: usize, least_writes: usize) {
        let verdict = &self.verdict;
        assert!(
            verdict.violations.is_empty(),
            "seed {seed}: {}\n{}",
            verdict.explain(&self.history),
            self.summary()
        );
        assert!(
            verdict.reads >= least_reads && verdict.writes >= least_writes,
            "too little was looked at: {}",
            self.summary()
        );
    }
}

//! The state of a run: what is held, what is queued, what is under way.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use uuid::Uuid;

use super::{
    BlockRange, Claim, ClaimKey, Claimed, Coordinator, Event, Heard, Options, Outcome, Status,
    Stop,
    chunk::{self, Chunk, Done},
    is_transient, patiently, pause,
};
use crate::error::{Error, Result};

/// How long a lease is thought to last until the first claim says it.
const FIRST_LEASE: Duration = Duration::from_secs(15);

/// A claim of ours.
struct Held {
    claim: Claim,
    /// The tasks at work in it.
    tasks: Vec<AbortHandle>,
    /// Chunks given up.
    gave_up: Vec<BlockRange>,
    /// Blocks not yet recorded nor given up.
    left: i64,
}

pub(super) struct Run<'a, C, W, E> {
    coordinator: &'a C,
    id: Uuid,
    options: &'a Options,
    work: W,
    on_event: E,
    held: HashMap<Uuid, Held>,
    queue: VecDeque<Chunk>,
    tasks: JoinSet<(Chunk, Done)>,
    lease: Duration,
    /// When the next heartbeats are due.
    beat: Instant,
    /// The first block missing again, when a chunk's hash contradicted a checkpoint.
    reorganised: Option<i64>,
    /// Whether it was said that the job is paused.
    said_paused: bool,
    /// The job's status as last heard.
    status: Status,
    /// Not before, when nothing was free or nobody answered.
    claim_due: Instant,
    /// Whether the last answer was that nothing is free.
    nothing_free: bool,
    /// Since when the coordinator is away, and how often it was asked since.
    away: Option<(Instant, u32)>,
}

impl<'a, C, W, F, E> Run<'a, C, W, E>
where
    C: Coordinator,
    W: Fn(BlockRange, i32) -> F + Clone + Send + 'static,
    F: Future<Output = std::result::Result<Option<String>, String>> + Send + 'static,
    E: FnMut(Event),
{
    pub(super) fn new(
        coordinator: &'a C,
        id: Uuid,
        options: &'a Options,
        work: W,
        on_event: E,
    ) -> Self {
        Self {
            coordinator,
            id,
            options,
            work,
            on_event,
            held: HashMap::new(),
            queue: VecDeque::new(),
            tasks: JoinSet::new(),
            lease: FIRST_LEASE,
            beat: Instant::now() + FIRST_LEASE / 3,
            reorganised: None,
            said_paused: false,
            status: Status::Running,
            claim_due: Instant::now(),
            nothing_free: false,
            away: None,
        }
    }

    pub(super) async fn run(mut self, mut stop: watch::Receiver<Stop>) -> Result<Outcome> {
        loop {
            let stopping = *stop.borrow_and_update();
            if stopping == Stop::Now || (stopping == Stop::Finish && self.tasks.is_empty()) {
                self.give_back().await;
                return Ok(Outcome::Stopped);
            }
            if stopping == Stop::No
                && let Some(outcome) = self.advance().await?
            {
                return Ok(outcome);
            }
            if let Some(from) = self.reorganised {
                self.give_back().await;
                return Ok(Outcome::Reorganised { from });
            }
            let wake = self.next_wake(stopping).min(self.beat);
            tokio::select! {
                Some(joined) = self.tasks.join_next() => {
                    // A task that was aborted belongs to a claim that is gone.
                    if let Ok((chunk, done)) = joined {
                        self.settle(chunk, done)?;
                    }
                }
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= self.beat {
                        self.heartbeat().await;
                        self.beat = Instant::now() + self.lease / 3;
                    }
                }
                Ok(()) = stop.changed() => {}
            }
        }
    }

    /// Claims and starts what can be, or says how the run ends.
    async fn advance(&mut self) -> Result<Option<Outcome>> {
        match self.status {
            Status::Running => {}
            Status::Completed => {
                self.tasks.shutdown().await;
                return Ok(Some(Outcome::Completed));
            }
            Status::Paused => return self.wait_paused().await,
            Status::Failed | Status::Cancelled => {
                self.tasks.shutdown().await;
                return Ok(Some(Outcome::Ended {
                    status: self.status,
                }));
            }
        }
        let wanted = self.options.parallel * 2;
        if self.queue.len() + self.tasks.len() < wanted && Instant::now() >= self.claim_due {
            self.claim().await?;
            if self.status != Status::Running {
                return Box::pin(self.advance()).await;
            }
        }
        self.start_due();
        if self.queue.is_empty()
            && self.tasks.is_empty()
            && self.nothing_free
            && self.has_given_up()
        {
            return self.end_given_up().await.map(Some);
        }
        Ok(None)
    }

    async fn claim(&mut self) -> Result<()> {
        let chunks = i64::try_from(self.options.parallel.saturating_mul(4)).unwrap_or(i64::MAX);
        let size = self.options.chunk.saturating_mul(chunks);
        let claim = self.coordinator.claim(self.id, &self.options.worker, size);
        match in_time(self.lease, claim).await {
            Ok(claimed) => self.take(claimed),
            Err(error) => return self.claim_refused(error).await,
        }
        Ok(())
    }

    fn take(&mut self, claimed: Claimed) {
        self.away = None;
        self.lease = claimed.lease;
        self.beat = self.beat.min(Instant::now() + self.lease / 3);
        self.status = claimed.job.status;
        (self.on_event)(Event::Job(Box::new(claimed.job)));
        self.nothing_free = claimed.claim.is_none();
        let Some(claim) = claimed.claim else {
            // Own claims may be what holds the rest back; asking again is cheap and the lease bounds the wait.
            let wait = claimed
                .retry_after
                .unwrap_or_default()
                .min(self.lease / 3)
                .max(Duration::from_millis(100));
            self.claim_due = Instant::now() + wait;
            if self.tasks.is_empty() && self.queue.is_empty() && self.status == Status::Running {
                (self.on_event)(Event::Waiting {
                    retry_in: claimed.retry_after.unwrap_or_default(),
                });
            }
            return;
        };
        (self.on_event)(Event::Claimed(claim.blocks));
        let now = Instant::now();
        self.queue
            .extend(claim.blocks.chunks(self.options.chunk).map(|blocks| Chunk {
                key: claim.key(),
                blocks,
                attempted: 1,
                due: now,
            }));
        let left = claim.blocks.count();
        self.held.insert(
            claim.id,
            Held {
                claim,
                tasks: Vec::new(),
                gave_up: Vec::new(),
                left,
            },
        );
    }

    /// No claim: the job stands otherwise than thought, or nobody answers.
    async fn claim_refused(&mut self, error: Error) -> Result<()> {
        if is_transient(&error) {
            return self.is_away(error);
        }
        match error.code() {
            "not_running" | "job_final" => self.ask_status().await,
            "too_many_claims" => {
                self.claim_due = Instant::now() + self.lease / 3;
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn is_away(&mut self, error: Error) -> Result<()> {
        let (since, asked) = self.away.unwrap_or((Instant::now(), 0));
        if since.elapsed() >= self.options.patience {
            return Err(error);
        }
        (self.on_event)(Event::Away {
            message: error.message().to_owned(),
        });
        self.away = Some((since, asked + 1));
        self.claim_due =
            Instant::now() + pause(Duration::from_millis(100), asked).min(Duration::from_secs(3));
        Ok(())
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        while self.tasks.len() < self.options.parallel {
            let Some(at) = self.queue.iter().position(|chunk| chunk.due <= now) else {
                return;
            };
            let Some(chunk) = self.queue.remove(at) else {
                return;
            };
            let work = self.work.clone();
            // Called inside the task: a panic is the chunk's, wherever it comes from.
            let work = async move { work(chunk.blocks, chunk.attempted).await };
            let task = chunk::run(self.coordinator.clone(), chunk, self.options.patience, work);
            let handle = self.tasks.spawn(task);
            if let Some(held) = self.held.get_mut(&chunk.key.claim_id) {
                held.tasks.retain(|task| !task.is_finished());
                held.tasks.push(handle);
            }
        }
    }

    fn settle(&mut self, chunk: Chunk, done: Done) -> Result<()> {
        match done {
            Done::Recorded(heard) => {
                (self.on_event)(Event::Recorded(chunk.blocks));
                self.hear(chunk.key, &heard);
                if let Some(held) = self.held.get_mut(&chunk.key.claim_id) {
                    held.left -= chunk.blocks.count();
                }
                Ok(())
            }
            Done::Failed(message) => {
                self.retry_later(chunk, message);
                Ok(())
            }
            Done::Reorganised { from } => {
                self.reorganised = Some(from);
                Ok(())
            }
            Done::Refused(error) if is_transient(&error) => Err(error),
            Done::Refused(error) => {
                self.lose(chunk.key, error.message());
                self.claim_due = Instant::now();
                Ok(())
            }
        }
    }

    fn retry_later(&mut self, chunk: Chunk, message: String) {
        let Some(held) = self.held.get_mut(&chunk.key.claim_id) else {
            return;
        };
        let retry_in = (chunk.attempted < self.options.tries).then(|| {
            pause(
                self.options.backoff,
                u32::try_from(chunk.attempted - 1).unwrap_or(0),
            )
        });
        if let Some(retry_in) = retry_in {
            self.queue.push_back(Chunk {
                attempted: chunk.attempted + 1,
                due: Instant::now() + retry_in,
                ..chunk
            });
        } else {
            held.gave_up.push(chunk.blocks);
            held.left -= chunk.blocks.count();
        }
        (self.on_event)(Event::Failed {
            blocks: chunk.blocks,
            attempted: chunk.attempted,
            message,
            retry_in,
        });
    }

    /// A claim that is not ours any more, for whatever reason.
    fn lose(&mut self, key: ClaimKey, message: &str) {
        let Some(held) = self.held.remove(&key.claim_id) else {
            return;
        };
        for task in held.tasks {
            task.abort();
        }
        self.queue
            .retain(|chunk| chunk.key.claim_id != key.claim_id);
        (self.on_event)(Event::Lost {
            blocks: held.claim.blocks,
            message: message.to_owned(),
        });
    }

    fn hear(&mut self, key: ClaimKey, heard: &Heard) {
        self.status = heard.status;
        if heard.finished {
            self.held.remove(&key.claim_id);
        }
    }

    /// Renews every lease, all at once. An answer that does not come is no loss yet: the lease says when it is.
    async fn heartbeat(&mut self) {
        let beats = self.held.values().map(|held| {
            let key = held.claim.key();
            let beat = in_time(self.lease, self.coordinator.heartbeat(key));
            async move { (key, beat.await) }
        });
        for (key, answer) in join_all(beats.collect::<Vec<_>>()).await {
            match answer {
                Ok(heard) => self.hear(key, &heard),
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    self.lose(key, error.message());
                    self.claim_due = Instant::now();
                }
            }
        }
    }

    /// Reads how the job stands.
    async fn ask_status(&mut self) -> Result<()> {
        match in_time(self.lease, self.coordinator.job(self.id)).await {
            Ok(Some(job)) => {
                self.away = None;
                self.status = job.status;
                self.said_paused &= job.status == Status::Paused;
                (self.on_event)(Event::Job(Box::new(job)));
                Ok(())
            }
            Ok(None) => Err(super::super::not_found(self.id)),
            Err(error) if is_transient(&error) => self.is_away(error),
            Err(error) => Err(error),
        }
    }

    /// Paused: what is under way is finished and recorded, the rest is given back, and then the worker waits.
    async fn wait_paused(&mut self) -> Result<Option<Outcome>> {
        if !self.tasks.is_empty() {
            return Ok(None);
        }
        self.give_back().await;
        if !std::mem::replace(&mut self.said_paused, true) {
            (self.on_event)(Event::Paused);
        }
        if Instant::now() >= self.claim_due {
            self.claim_due = Instant::now() + Duration::from_secs(1).min(self.lease / 3);
            self.ask_status().await?;
        }
        Ok(None)
    }

    /// Gives all claims back. One that cannot be given back now goes when its lease is over.
    async fn give_back(&mut self) {
        self.tasks.shutdown().await;
        self.queue.clear();
        for (_, held) in self.held.drain() {
            if let Err(error) = self.coordinator.release(held.claim.key()).await {
                tracing::warn!(blocks = %held.claim.blocks, %error, "a claim could not be given back; it ends with its lease");
            }
        }
    }

    fn has_given_up(&self) -> bool {
        self.held
            .values()
            .any(|held| !held.gave_up.is_empty() && held.left == 0)
    }

    /// Nothing is left but what failed too often. Claims are given back before others' are counted, so that of two
    /// workers that end at once at least one sees no other and fails the job.
    async fn end_given_up(&mut self) -> Result<Outcome> {
        let mut blocks: Vec<BlockRange> = self
            .held
            .values()
            .flat_map(|held| held.gave_up.iter().copied())
            .collect();
        blocks.sort_unstable();
        self.give_back().await;
        let outcome = Outcome::GaveUp { blocks };
        let patience = self.options.patience;
        if patiently(patience, || self.coordinator.claims_held(self.id)).await? == 0 {
            let message = outcome.to_string();
            patiently(patience, || self.coordinator.fail(self.id, &message)).await?;
        }
        Ok(outcome)
    }

    /// When to look again, if nothing happens before.
    fn next_wake(&self, stopping: Stop) -> Instant {
        let far = Instant::now() + Duration::from_mins(1);
        if stopping != Stop::No {
            return far;
        }
        let room = self.tasks.len() < self.options.parallel;
        let retry = self
            .queue
            .iter()
            .map(|chunk| chunk.due)
            .min()
            .filter(|_| room);
        let hungry = self.queue.len() + self.tasks.len() < self.options.parallel * 2;
        // A paused worker asks only when nothing is under way any more; before that, its tasks' ends wake it.
        let asks = if self.status == Status::Paused {
            self.tasks.is_empty()
        } else {
            hungry
        };
        let claim = asks.then_some(self.claim_due);
        [retry, claim].into_iter().flatten().min().unwrap_or(far)
    }
}

/// A question that must not hold the heartbeats up: no answer within a third of the lease counts as none.
async fn in_time<T>(lease: Duration, ask: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(lease / 3, ask)
        .await
        .unwrap_or_else(|_| {
            Err(Error::unavailable(
                "no_answer",
                "the service did not answer in time",
            ))
        })
}

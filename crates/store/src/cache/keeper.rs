//! The loop that keeps both layers true: hears of every change, and passes it on.
//!
//! One round: poll the outbox; let go of what changed here; delete it in Redis; let go of it here once more, since a read
//! may have found the old value in Redis between the two; only then both layers may serve again for a while, counted from
//! the *beginning* of the round. A round that cannot be completed extends nothing.
//!
//! # A generation in Redis
//!
//! All values in Redis are under a generation, named by the *head*: `generation|snapshot|id`. The head says of this run of
//! Redis: everything visible in this snapshot has been deleted. Every process moves it on after its own deletions; an older
//! head is true as well, so nobody has to win. A process that comes, or comes back, asks the outbox what is new since
//! the head, deletes that, and may read. It needs no memory of what it has missed: a server that was killed between a
//! COMMIT and the deletion, a link that was cut, a Redis that was frozen are all the same to it. Where that cannot
//! be asked (no head, a head from before what was deleted from the outbox, too many changes, all keys of a kind) it begins
//! a new generation, under which there are no values yet; the others find that the head has changed and come in the same way.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::Statement;

use super::{
    Core, FORMAT, FRESH_MILLIS,
    figures::count,
    listener::{Attached, Heard},
    outbox::{self, Change, Cursor, Incarnation, News},
    time,
    wire::{Dead, Wire},
};
use crate::{
    db::Dedicated,
    error::{Error, Result},
    measure::Meter,
};

/// How long one question to the database may take; the link is given up then.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause after a lost link to the database.
const PAUSE: Duration = Duration::from_millis(100);

/// More keys than this are not deleted in Redis one by one: a new generation is begun.
const MAX_DELETED_KEYS: usize = 2_000;

/// How often the wire is looked at, and how often it is asked.
const WATCH: Duration = Duration::from_millis(100);
const PINGS: u32 = 10;

/// The longest pause between two wires; "back in use within 5 s" includes it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A wire that lived for so long was a good one.
const LASTING: Duration = Duration::from_secs(5);

/// Runs rounds for ever.
pub(super) async fn keep(core: Arc<Core>) {
    let mut keeper = Keeper {
        core,
        incarnation: Incarnation::default(),
        cursor: None,
        attachment: None,
    };
    let mut is_told = false;
    loop {
        let ended = keeper.use_one_link(&mut is_told).await;
        if let Err(error) = ended
            && !is_told
        {
            is_told = true;
            tracing::warn!(error = %error.report(), "the changes of cached values cannot be read; the database answers alone");
        }
        sleep(PAUSE).await;
    }
}

/// Makes wires to Redis for ever, one at a time.
pub(super) async fn watch(core: Arc<Core>, connector: super::wire::Connector) {
    let mut news = WireNews::default();
    let mut pause = WATCH;
    loop {
        let began = time::millis();
        match connector.connect().await {
            Ok(wire) => {
                let wire = Arc::new(wire);
                core.set_wire(Some(Arc::clone(&wire)));
                watch_one(&wire, &mut news).await;
                core.set_wire(None);
                let why = wire.cause_of_death();
                news.lost(&why);
            }
            Err(error) => news.lost(&error),
        }
        // One that answers only for a moment, again and again, is left alone for longer.
        let lasted = Duration::from_millis(time::millis() - began);
        pause = if lasted > LASTING {
            WATCH
        } else {
            (pause * 2).min(LONGEST_PAUSE)
        };
        sleep(pause).await;
    }
}

/// What the log was told last: one line for each change that lasts, however often a wire comes and goes.
#[derive(Default)]
struct WireNews {
    is_told_lost: bool,
    is_told_good: bool,
}

impl WireNews {
    fn good(&mut self) {
        if !std::mem::replace(&mut self.is_told_good, true) {
            tracing::info!("Redis answers");
        }
        self.is_told_lost = false;
    }

    fn lost(&mut self, why: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.is_told_lost, true) {
            tracing::warn!(%why, "Redis cannot be used; the database answers until it can");
        }
        self.is_told_good = false;
    }
}

/// Returns when the wire is dead. It is told to be good when it has lasted a little.
async fn watch_one(wire: &Wire, news: &mut WireNews) {
    loop {
        for _ in 0..PINGS {
            sleep(WATCH).await;
            if !wire.is_alive() {
                return;
            }
        }
        if wire.ping().await.is_ok() {
            news.good();
        }
    }
}

struct Keeper {
    core: Arc<Core>,
    /// Which database the cursor is of.
    incarnation: Incarnation,
    cursor: Option<Cursor>,
    attachment: Option<Attachment>,
}

/// This process's place in Redis.
struct Attachment {
    wire: Arc<Wire>,
    head_key: String,
    generation: String,
}

/// The link to the database that rounds use.
struct Link {
    connection: Dedicated,
    poll: Statement,
    incarnation: Incarnation,
}

impl Link {
    async fn poll(&self, since: &Cursor) -> Result<News> {
        outbox::poll(&self.connection, &self.poll, &self.incarnation, since).await
    }
}

/// Asks the database, but not for ever.
async fn patiently<T>(asking: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| {
        Err(Error::unavailable(
            "database_unavailable",
            "the database does not say in time what has changed",
        ))
    })
}

impl Keeper {
    /// Connects, and runs rounds until the link is lost.
    async fn use_one_link(&mut self, is_told: &mut bool) -> Result<()> {
        let core = Arc::clone(&self.core);
        let (connection, poll) = patiently(async {
            let connection = Dedicated::open(core.database_url()?, "utxoiq-store cache").await?;
            // The outbox grows and shrinks: a plan made while it was empty must not read all of it later.
            connection
                .batch_execute(
                    "set enable_seqscan = off; set jit = off; set statement_timeout = 2000",
                )
                .await?;
            let poll = connection
                .prepare_typed(outbox::POLL.sql, outbox::POLL.params)
                .await?;
            Ok((connection, poll))
        })
        .await?;
        let incarnation = patiently(outbox::incarnation(&connection)).await?;
        let link = Link {
            connection,
            poll,
            incarnation,
        };
        if link.incarnation != self.incarnation {
            self.incarnation = link.incarnation.clone();
            self.cursor = None;
            self.detach();
        }
        let mut ticks = interval(Duration::from_millis(
            core.settings.poll_interval_milliseconds,
        ));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.round(&link).await?;
            if std::mem::take(is_told) {
                tracing::info!("the changes of cached values are read again");
            }
        }
    }

    async fn round(&mut self, link: &Link) -> Result<()> {
        let round = self.core.rounds.fetch_add(1, SeqCst) + 1;
        let mut began = time::millis();
        let is_first = self.cursor.is_none();
        let known = match &self.cursor {
            Some(cursor) => {
                let news = patiently(link.poll(cursor)).await?;
                // Where not all is known there is no cursor: should the next question fail, the next round begins anew.
                self.cursor = news.changes.is_some().then_some(news.cursor);
                news.changes
            }
            None => None,
        };
        if known.is_none() {
            if !is_first {
                self.count_generation();
            }
            began = time::millis();
            self.cursor = Some(patiently(outbox::begin(&link.connection)).await?);
        }
        self.let_go(known.as_deref());
        let reaches_redis = self.tell_redis(link, known.as_deref()).await;
        // Once more: between the first time and the deletion in Redis a read may have found the old value there.
        if known.as_ref().is_none_or(|changes| !changes.is_empty()) {
            self.let_go(known.as_deref());
        }
        self.core.extend(began + FRESH_MILLIS, reaches_redis);
        self.settle(round, began, known.as_deref().unwrap_or_default());
        Ok(())
    }

    fn count_generation(&self) {
        tracing::warn!("changes may have been missed: cached values are let go");
        for listener in self.core.listeners() {
            count(&listener.counters().generations);
        }
    }

    /// Lets go of what changed, in this process. `None`: of everything.
    fn let_go(&self, changes: Option<&[Change]>) {
        for listener in self.core.listeners() {
            match changes {
                None => listener.forget_all(),
                Some(changes) => {
                    for change in changes {
                        listener.hear(&change.kind, change.key.as_deref());
                    }
                }
            }
        }
    }

    /// Counts, and tells the spaces that what was written here before this round is known everywhere.
    fn settle(&self, round: u64, began: u64, changes: &[Change]) {
        let took = Duration::from_millis(time::millis() - began);
        for listener in self.core.listeners() {
            listener.settle(round);
            for change in changes {
                if listener.concerns(&change.kind, change.key.as_deref()) != Heard::Nothing {
                    count(&listener.counters().invalidations);
                    listener.counters().observe_latency(change.age + took);
                    let millis = (change.age + took).as_millis();
                    let millis = u64::try_from(millis).unwrap_or(u64::MAX);
                    self.core.meters.record(Meter::Invalidation, millis);
                }
            }
        }
    }

    fn detach(&mut self) {
        self.attachment = None;
        self.core.set_attached(None);
    }

    /// Makes Redis forget what changed; says whether it has heard of everything so far.
    async fn tell_redis(&mut self, link: &Link, changes: Option<&[Change]>) -> bool {
        let Some(wire) = self.core.wire() else {
            self.detach();
            return false;
        };
        let is_same = self
            .attachment
            .as_ref()
            .is_some_and(|attachment| Arc::ptr_eq(&attachment.wire, &wire));
        let told = if is_same {
            self.pass_on(changes).await
        } else {
            Ok(false)
        };
        let told = match told {
            // Not attached to it yet, or its generation was replaced.
            Ok(false) => {
                self.detach();
                self.attach(link, wire).await
            }
            other => other,
        };
        if told.is_err() {
            if self
                .attachment
                .as_ref()
                .is_some_and(|it| it.wire.is_demoted())
            {
                // It may have answered with what its new primary still has.
                self.let_go(None);
            }
            self.detach();
        }
        matches!(told, Ok(true))
    }

    /// Deletes what changed; `false`: the generation is another one, or must be.
    async fn pass_on(&mut self, changes: Option<&[Change]>) -> Result<bool, Dead> {
        let (Some(attachment), Some(cursor)) = (&mut self.attachment, &self.cursor) else {
            return Ok(false);
        };
        let prefix = prefix(&attachment.head_key, &attachment.generation);
        let Some(names) = changes.and_then(|changes| self.core.names(&prefix, changes)) else {
            let head = attachment.wire.head(&attachment.head_key).await?;
            // Ours is over. Where another process has begun the next one already, that one is joined.
            if generation_of(&head) == Some(attachment.generation.as_str()) {
                let (_, new) = new_head(cursor);
                attachment
                    .wire
                    .replace_head(&attachment.head_key, &head, &new)
                    .await?;
            }
            return Ok(false);
        };
        attachment.wire.delete_all(&names).await?;
        // A write in each round: a server that was made a replica would else go on to be read.
        let (wire, generation) = (&attachment.wire, &attachment.generation);
        let moved = wire
            .advance_head(
                &attachment.head_key,
                generation,
                &head_text(generation, cursor),
            )
            .await?;
        if let Some(is_ours) = moved {
            return Ok(is_ours);
        }
        // No memory: the old head stays true, if it is still ours.
        let head = wire.head(&attachment.head_key).await?;
        Ok(generation_of(&head) == Some(generation.as_str()))
    }

    /// Comes in: deletes what is new since the head, or begins a new generation.
    async fn attach(&mut self, link: &Link, wire: Arc<Wire>) -> Result<bool, Dead> {
        let Some(cursor) = &self.cursor else {
            return Ok(false);
        };
        let database = &self.incarnation.name;
        let head_key = format!("utxoiq:{FORMAT}:{database}:{}:head", wire.run_id);
        let head = wire.head(&head_key).await?;
        let known = catch_up(&self.core, link, &wire, &head_key, &head).await?;
        let generation = if let Some(generation) = known {
            generation
        } else {
            let (generation, new) = new_head(cursor);
            if !wire.replace_head(&head_key, &head, &new).await? {
                // Another process was quicker; the next round joins its generation.
                return Ok(false);
            }
            generation
        };
        self.core.set_attached(Some(Attached {
            wire: Arc::clone(&wire),
            prefix: prefix(&head_key, &generation).into(),
        }));
        self.attachment = Some(Attachment {
            wire,
            head_key,
            generation,
        });
        Ok(true)
    }
}

/// Deletes in Redis what is new since the head, and gives its generation; `None` where that is not known.
async fn catch_up(
    core: &Core,
    link: &Link,
    wire: &Wire,
    head_key: &str,
    head: &[u8],
) -> Result<Option<String>, Dead> {
    let Some((generation, since)) = parse_head(head) else {
        return Ok(None);
    };
    let missed = patiently(link.poll(&since)).await;
    let Ok(News {
        changes: Some(changes),
        ..
    }) = missed
    else {
        return Ok(None);
    };
    let Some(names) = core.names(&prefix(head_key, &generation), &changes) else {
        return Ok(None);
    };
    wire.delete_all(&names).await?;
    Ok(Some(generation))
}

impl Core {
    /// The names in Redis of what changed; `None` where they are too many, or all of a kind.
    fn names(&self, prefix: &str, changes: &[Change]) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for listener in self.listeners() {
            for change in changes {
                match listener.concerns(&change.kind, change.key.as_deref()) {
                    Heard::Nothing => {}
                    Heard::All => return None,
                    Heard::Keys => {
                        let key = change.key.as_deref().unwrap_or_default();
                        listener.names(prefix, &change.kind, key, &mut names);
                    }
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        (names.len() <= 2 * MAX_DELETED_KEYS).then_some(names)
    }
}

/// Under what all values of a generation lie.
fn prefix(head_key: &str, generation: &str) -> String {
    let base = head_key.strip_suffix(":head").unwrap_or(head_key);
    format!("{base}:{generation}")
}

pub(super) fn head_text(generation: &str, cursor: &Cursor) -> String {
    format!("{generation}|{}|{}", cursor.snapshot, cursor.last_id)
}

/// A new generation and its head.
fn new_head(cursor: &Cursor) -> (String, String) {
    let generation = format!("{:016x}", rand::random::<u64>());
    let head = head_text(&generation, cursor);
    (generation, head)
}

fn generation_of(head: &[u8]) -> Option<&str> {
    std::str::from_utf8(head).ok()?.split('|').next()
}

pub(super) fn parse_head(head: &[u8]) -> Option<(String, Cursor)> {
    let mut parts = std::str::from_utf8(head).ok()?.split('|');
    let generation = parts.next()?.to_owned();
    let cursor = Cursor {
        snapshot: parts.next()?.parse().ok()?,
        last_id: parts.next()?.parse().ok()?,
    };
    let is_ours = generation.len() == 16
        && generation.bytes().all(|byte| byte.is_ascii_hexdigit())
        && parts.next().is_none();
    is_ours.then_some((generation, cursor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_and_rubbish_is_none() {
        let cursor = Cursor {
            snapshot: "5:9:7".parse().unwrap(),
            last_id: 41,
        };
        let (generation, head) = new_head(&cursor);
        assert_eq!(
            parse_head(head.as_bytes()),
            Some((generation.clone(), cursor))
        );
        assert_eq!(generation_of(head.as_bytes()), Some(generation.as_str()));
        for rubbish in [
            "",
            "|",
            "a|5:9:7|41",
            &head[1..],
            &format!("{head}|"),
            "\u{0}",
        ] {
            assert_eq!(parse_head(rubbish.as_bytes()), None, "{rubbish}");
        }
    }
}

//! Writers: each is the only one of its insight, so that the insight's states are a known sequence.
//!
//! Ratings come, change and go; still no two states of an insight are equal. The writer remembers every state and draws
//! again when a change would lead to one that was there before; should no single change lead to a new one, it inserts so
//! many ratings at once that there are more than ever before. What is read thus says exactly which state it was.
//!
//! A write through a server may fail without telling whether it was done, and what was sent may even arrive later than
//! its repetition (a frozen server, a silent link). So it is repeated with the same user and rating until it is
//! acknowledged, and afterwards that user is left alone for ever: a late arrival then changes nothing.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::{sync::watch, time::sleep};

use super::{
    history::{Failure, Path, Stats},
    sql,
    storm::Load,
    world::{Kind, World, insight_name},
};

struct User {
    name: String,
    rating: i16,
    /// `false`: a write of this user may still be under way.
    settled: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Rate {
        user: String,
        rating: i16,
    },
    Correct {
        user: String,
        rating: i16,
    },
    Remove {
        user: String,
    },
    RateMany {
        users: Vec<String>,
        ratings: Vec<i16>,
    },
}

/// A write through a server whose begin is recorded.
pub struct Begun {
    pub user: String,
    pub rating: i16,
    /// The state it leads to.
    pub state: usize,
}

/// A write that was acknowledged.
pub struct Written {
    /// The server that acknowledged it.
    pub server: usize,
    pub version: Option<String>,
}

pub struct Writer {
    world: Arc<World>,
    insight: usize,
    random: StdRng,
    owner: tokio_postgres::Client,
    users: Vec<User>,
    named: u64,
    stats: Stats,
    seen: HashSet<Stats>,
}

impl Writer {
    pub async fn new(world: &Arc<World>, insight: usize, seed: u64) -> Self {
        Self {
            world: Arc::clone(world),
            insight,
            random: StdRng::seed_from_u64(seed.wrapping_add(insight as u64)),
            owner: world.owner().await,
            users: Vec::new(),
            named: 0,
            stats: Stats::default(),
            seen: HashSet::from([Stats::default()]),
        }
    }

    /// Its insight.
    pub fn insight(&self) -> usize {
        self.insight
    }

    /// Writes until it is told to stop: in bursts, and with pauses in which a value that was left behind grows too old.
    pub async fn run(mut self, load: Load, mut stop: watch::Receiver<bool>) {
        let mut left_of_burst = 2;
        loop {
            let wait = if left_of_burst == 0 {
                left_of_burst = self.random.random_range(1..5);
                Duration::from_millis(self.random.random_range(900..1_600))
            } else {
                load.gap.mul_f64(self.random.random())
            };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = sleep(wait) => {}
            }
            if self.random.random_bool(load.sql_share) || !self.write_by_api_and_look().await {
                self.write_by_sql().await;
            }
            left_of_burst -= 1;
        }
    }

    /// Writes through a server, and then reads as the one who wrote: through the same server, and through another to
    /// which the write's version is sent. `false`: no rating leads to a new state.
    async fn write_by_api_and_look(&mut self) -> bool {
        let Some(begun) = self.begin_by_api() else {
            return false;
        };
        let server = self.any_server();
        let written = self.finish_by_api(server, &begun).await;
        if self.random.random_bool(0.7) {
            self.world
                .read(written.server, self.insight, Some(begun.state), None)
                .await;
        }
        if let Some(version) = &written.version {
            let other = self.any_server();
            self.world
                .read(other, self.insight, Some(begun.state), Some(version))
                .await;
        }
        true
    }

    /// Chooses a write for a server and records its begin. Where no row was ever removed there always is one: a new
    /// user's rating.
    pub fn begin_by_api(&mut self) -> Option<Begun> {
        let (change, stats) = self.choose(Path::Api)?;
        let Change::Rate { user, rating } = change.clone() else {
            panic!("a server cannot do {change:?}");
        };
        let state = self.world.recorder.begins(self.insight, stats, Path::Api);
        self.apply(change, stats);
        Some(Begun {
            user,
            rating,
            state,
        })
    }

    /// Sends a write that was begun until it is acknowledged.
    pub async fn finish_by_api(&mut self, first: usize, begun: &Begun) -> Written {
        let mut server = first;
        loop {
            match self
                .world
                .rate(server, self.insight, &begun.user, begun.rating)
                .await
            {
                Ok(version) => {
                    self.world.recorder.acknowledged(self.insight);
                    assert!(
                        version.is_some() || self.world.kind != Kind::Product,
                        "a write is answered without Store-Version"
                    );
                    return Written { server, version };
                }
                Err(failure) => self.bear(server, &failure, &begun.user),
            }
            sleep(Duration::from_millis(30)).await;
            server = self.any_server();
        }
    }

    /// The outcome of a write is not known.
    fn bear(&mut self, server: usize, failure: &Failure, user: &str) {
        assert!(
            failure.is_unavailability(),
            "server {server} refuses a rating: {failure:?}\n{}",
            self.world.servers[server].output()
        );
        self.unsettle(user);
    }

    /// Leaves a user alone from now on.
    pub fn unsettle(&mut self, user: &str) {
        for known in &mut self.users {
            known.settled &= known.name != user;
        }
    }

    /// Writes as the tables' owner; at times in a transaction that stays open for a while.
    async fn write_by_sql(&mut self) {
        let (change, stats) = self.choose(Path::Sql).unwrap_or_else(|| self.outgrow());
        let open = self
            .random
            .random_bool(0.25)
            .then(|| self.random.random_range(30..500));
        self.world.recorder.begins(self.insight, stats, Path::Sql);
        if open.is_some() {
            self.owner.batch_execute("begin").await.unwrap();
        }
        let insight = insight_name(self.insight);
        let changed = match &change {
            Change::Rate { user, rating } => {
                self.owner
                    .execute(sql::RATE, &[&insight, user, rating])
                    .await
            }
            Change::Correct { user, rating } => {
                self.owner
                    .execute(sql::CORRECT, &[&insight, user, rating])
                    .await
            }
            Change::Remove { user } => self.owner.execute(sql::REMOVE, &[&insight, user]).await,
            Change::RateMany { users, ratings } => {
                self.owner
                    .execute(sql::RATE_MANY, &[&insight, users, ratings])
                    .await
            }
        };
        assert!(changed.unwrap() > 0, "{change:?} changed nothing");
        if let Some(open) = open {
            sleep(Duration::from_millis(open)).await;
            self.owner.batch_execute("commit").await.unwrap();
        }
        self.world.recorder.acknowledged(self.insight);
        self.apply(change, stats);
    }

    fn any_server(&mut self) -> usize {
        self.random.random_range(0..self.world.servers.len())
    }

    /// A change to a state that never was before.
    fn choose(&mut self, path: Path) -> Option<(Change, Stats)> {
        (0..100).find_map(|_| {
            let (change, stats) = self.draw(path);
            (!self.seen.contains(&stats)).then_some((change, stats))
        })
    }

    fn draw(&mut self, path: Path) -> (Change, Stats) {
        let rating = self.random.random_range(1..=5);
        let known = self.known();
        // New users come more often than others go, so that new states never become rare.
        match (self.random.random_range(0..10), known) {
            (0..4, Some((user, before))) => {
                let stats = self.stats.changed(before, -1).changed(rating, 1);
                let by_hand = path == Path::Sql && self.random.random_bool(0.5);
                let change = if by_hand {
                    Change::Correct { user, rating }
                } else {
                    Change::Rate { user, rating }
                };
                (change, stats)
            }
            (4..6, Some((user, before))) if path == Path::Sql => {
                (Change::Remove { user }, self.stats.changed(before, -1))
            }
            (6, _) if path == Path::Sql => self.rate_many(2),
            _ => {
                let user = self.new_user();
                (Change::Rate { user, rating }, self.stats.changed(rating, 1))
            }
        }
    }

    fn known(&mut self) -> Option<(String, i16)> {
        let settled: Vec<&User> = self.users.iter().filter(|user| user.settled).collect();
        let user = settled.choose(&mut self.random)?;
        Some((user.name.clone(), user.rating))
    }

    fn new_user(&mut self) -> String {
        self.named += 1;
        format!("user-{}-{}", self.insight, self.named)
    }

    /// More ratings than there ever were.
    fn outgrow(&mut self) -> (Change, Stats) {
        let most = self
            .seen
            .iter()
            .map(|stats| stats.total())
            .max()
            .unwrap_or_default();
        self.rate_many(most + 1 - self.stats.total())
    }

    fn rate_many(&mut self, count: u64) -> (Change, Stats) {
        let users = (0..count).map(|_| self.new_user()).collect();
        let ratings: Vec<i16> = (0..count)
            .map(|_| self.random.random_range(1..=5))
            .collect();
        let stats = ratings
            .iter()
            .fold(self.stats, |stats, rating| stats.changed(*rating, 1));
        (Change::RateMany { users, ratings }, stats)
    }

    fn apply(&mut self, change: Change, stats: Stats) {
        match change {
            Change::Rate { user, rating } | Change::Correct { user, rating } => {
                self.set(user, rating);
            }
            Change::Remove { user } => self.users.retain(|known| known.name != user),
            Change::RateMany { users, ratings } => {
                for (user, rating) in users.into_iter().zip(ratings) {
                    self.set(user, rating);
                }
            }
        }
        self.stats = stats;
        self.seen.insert(stats);
    }

    fn set(&mut self, name: String, rating: i16) {
        match self.users.iter_mut().find(|user| user.name == name) {
            Some(user) => user.rating = rating,
            None => self.users.push(User {
                name,
                rating,
                settled: true,
            }),
        }
    }
}

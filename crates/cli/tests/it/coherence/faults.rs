//! What breaks, when and for how long: drawn from a seed; pure.

use std::{fmt, time::Duration};

use rand::{
    RngExt as _, SeedableRng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, SliceRandom as _},
};

/// Something that breaks. Servers are numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Redis dies and comes back empty.
    RedisKilled,
    /// Redis dies and comes back with what it held some writes ago.
    RedisBackWithOldData,
    /// Redis accepts and does not answer (SIGSTOP).
    RedisFrozen,
    /// These servers' links to Redis break and cannot be made again for a while.
    RedisLinkCut(Vec<usize>),
    /// Nothing passes these servers' links to Redis; what was sent arrives later.
    RedisLinkSilent(Vec<usize>),
    /// These servers' links to Redis are long.
    RedisLinkSlow(Vec<usize>, Duration),
    /// Redis forgets everything and refuses new values.
    RedisFull,
    /// Redis forgets everything, again and again.
    RedisFlushed,
    /// Redis forgets some values, again and again.
    RedisForgets,
    /// Every value in Redis is overwritten with garbage, again and again.
    RedisGarbage,
    /// A server dies when a write of its has committed and before it could tell anybody, Redis included.
    ServerKilledAfterCommit(usize),
    /// A server dies when it has acknowledged a write.
    ServerKilledAfterAnswer(usize),
    /// A server stands still (SIGSTOP) and goes on later as if nothing had been.
    ServerFrozen(usize),
    /// A server's links to the database break and cannot be made again for a while.
    DatabaseLinkCut(usize),
    /// Nothing passes a server's link to the database; what was sent arrives later.
    DatabaseLinkSilent(usize),
    /// A server's link to the database is long.
    DatabaseLinkSlow(usize, Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{self:?}");
        f.write_str(text.split('(').next().unwrap_or_default())
    }
}

/// A fault, how long it lasts, and the calm after it, in which what it spoilt would be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub fault: Fault,
    pub lasts: Duration,
    pub calm: Duration,
    /// For its own random choices.
    pub seed: u64,
}

impl Step {
    pub fn new(fault: Fault, lasts_milliseconds: u64, calm_milliseconds: u64) -> Self {
        Self {
            fault,
            lasts: Duration::from_millis(lasts_milliseconds),
            calm: Duration::from_millis(calm_milliseconds),
            seed: 1,
        }
    }
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RedisProcess,
    RedisLink,
    RedisData,
    Server,
    DatabaseLink,
}

/// So many faults: one of every kind, in a random order, then again.
pub fn plan(seed: u64, count: u64, servers: usize) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut kinds = Vec::new();
    let mut steps = Vec::new();
    for _ in 0..count {
        if kinds.is_empty() {
            kinds = vec![
                Kind::RedisProcess,
                Kind::RedisLink,
                Kind::RedisData,
                Kind::Server,
                Kind::DatabaseLink,
            ];
            kinds.shuffle(&mut random);
        }
        steps.extend(kinds.pop().map(|kind| step(kind, servers, &mut random)));
    }
    steps
}

fn step(kind: Kind, servers: usize, random: &mut StdRng) -> Step {
    let server = random.random_range(0..servers);
    let links = if random.random_bool(0.5) {
        vec![server]
    } else {
        (0..servers).collect()
    };
    // The longer spans exceed a second, beyond which an old answer is too old.
    let (faults, lasts) = match kind {
        Kind::RedisProcess => (
            vec![
                Fault::RedisKilled,
                Fault::RedisBackWithOldData,
                Fault::RedisFrozen,
            ],
            300..1_300,
        ),
        Kind::RedisLink => (
            vec![
                Fault::RedisLinkCut(links.clone()),
                Fault::RedisLinkSilent(links.clone()),
                Fault::RedisLinkSlow(links.clone(), Duration::from_millis(15)),
                Fault::RedisLinkSlow(links.clone(), Duration::from_millis(30)),
                Fault::RedisLinkSlow(links, Duration::from_millis(200)),
            ],
            300..1_500,
        ),
        Kind::RedisData => (
            vec![
                Fault::RedisFull,
                Fault::RedisFlushed,
                Fault::RedisForgets,
                Fault::RedisGarbage,
            ],
            300..1_000,
        ),
        Kind::Server => (
            vec![
                Fault::ServerKilledAfterCommit(server),
                Fault::ServerKilledAfterAnswer(server),
                Fault::ServerFrozen(server),
            ],
            1_000..2_200,
        ),
        Kind::DatabaseLink => (
            vec![
                Fault::DatabaseLinkCut(server),
                Fault::DatabaseLinkSilent(server),
                Fault::DatabaseLinkSlow(server, Duration::from_millis(300)),
            ],
            1_800..2_600,
        ),
    };
    Step {
        fault: faults.choose(random).unwrap().clone(),
        lasts: Duration::from_millis(random.random_range(lasts)),
        calm: Duration::from_millis(random.random_range(600..1_400)),
        seed: random.random(),
    }
}

#[test]
fn a_plan_comes_from_its_seed_alone_and_every_fault_has_its_turn() {
    assert_eq!(plan(7, 25, 2), plan(7, 25, 2));
    assert_ne!(plan(7, 25, 2), plan(8, 25, 2));
    let names: std::collections::BTreeSet<String> = plan(7, 500, 3)
        .iter()
        .map(|step| step.fault.to_string())
        .collect();
    assert_eq!(names.len(), 16, "{names:?}");
}

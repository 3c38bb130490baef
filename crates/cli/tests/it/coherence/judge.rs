//! Whether the judge can be trusted: it lets the innocent go and convicts the guilty.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use utxoiq_store_testkit::urls;

use super::{
    INSIGHTS, SERVERS,
    faults::{self, Fault, Step},
    has_redis,
    storm::{Load, Storm},
    straw::Protocol,
    world::{Base, Kind, World},
};

/// How often a plan is gone through until a wrong protocol is convicted. Some mistakes are races: they show in most
/// rounds, not in each.
const ROUNDS: u32 = 6;

/// What is done to a protocol.
struct Trial {
    protocol: Protocol,
    load: Load,
    plan: Vec<Step>,
    is_right: bool,
}

impl Trial {
    async fn hold(self, world: Arc<World>, seed: u64) {
        let mut storm = Storm::start(&world, seed, self.load).await;
        let rounds = if self.is_right { 1 } else { ROUNDS };
        'rounds: for _ in 0..rounds {
            for step in &self.plan {
                storm.step(step).await;
                if !self.is_right && storm.is_convicted() {
                    break 'rounds;
                }
            }
        }
        let outcome = storm.end().await;
        if self.is_right {
            outcome.must_be_right(seed, 150, 10);
        } else {
            assert!(
                outcome.verdict.stale() > 0,
                "seed {seed}: {:?} was not convicted: {}",
                self.protocol,
                outcome.summary()
            );
        }
    }
}

/// The right protocols and the naive one get faults as the product does, and the naive one once more without any SQL;
/// each other mistake gets the fault that shows it.
fn trials(seed: u64) -> Vec<Trial> {
    let load = Load {
        pause: Duration::from_millis(200),
        ..Load::default()
    };
    let calls_only = Load {
        sql_share: 0.0,
        ..load
    };
    let usual = faults::plan(seed, 5, SERVERS);
    let some = faults::plan(seed, urls::scale(2, 15), SERVERS);
    // The slow server's fills meet the next write, and nobody else's fill comes before them.
    let racing = Load {
        first_read: 1,
        gap: Duration::from_millis(900),
        ..load
    };
    let far = vec![Step::new(
        Fault::DatabaseLinkSlow(1, Duration::from_millis(300)),
        4_000,
        1_300,
    )];
    let deaf = vec![Step::new(Fault::DatabaseLinkSilent(1), 2_200, 0)];
    let lost_deletes = vec![
        Step::new(Fault::RedisBackWithOldData, 1_000, 1_300),
        Step::new(Fault::RedisLinkSilent(vec![0, 1]), 800, 1_300),
        Step::new(Fault::ServerKilledAfterCommit(0), 1_000, 300),
    ];
    let right = |protocol| Trial {
        protocol,
        load,
        plan: some.clone(),
        is_right: true,
    };
    let wrong = |protocol, load, plan: &[Step]| Trial {
        protocol,
        load,
        plan: plan.to_vec(),
        is_right: false,
    };
    vec![
        right(Protocol::NoCache),
        right(Protocol::LocalWithDeadline),
        wrong(Protocol::DeleteAfterCommit, load, &usual),
        wrong(Protocol::DeleteAfterCommit, calls_only, &lost_deletes),
        wrong(Protocol::DeleteBeforeCommit, calls_only, &far),
        wrong(Protocol::RelayedPlainFill, racing, &far),
        wrong(Protocol::LocalForEver, load, &deaf),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_harness_tells_right_protocols_from_wrong_ones() {
    if !has_redis() {
        return;
    }
    let seed = urls::seed();
    let base = Base::start().await;
    let mut prepared = Vec::new();
    for trial in trials(seed) {
        let kind = Kind::Straw(trial.protocol);
        prepared.push((World::start(&base, kind, SERVERS, INSIGHTS).await, trial));
    }
    let held = prepared
        .into_iter()
        .map(|(world, trial)| trial.hold(world, seed));
    join_all(held).await;
}

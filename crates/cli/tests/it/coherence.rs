//! No one ever sees a number more than a second old, whatever dies.
//!
//! Real server processes, a real PostgreSQL and a real Redis; readers and writers, some of them past the service by SQL;
//! and faults drawn from a seed. What everybody saw is recorded and judged afterwards (`checker.rs`). That the judge
//! can tell right from wrong is itself a test: straw servers with well-known mistakes must fail it, and ones without must
//! pass (`straw.rs`).

mod checker;
mod client;
mod faults;
mod history;
mod inject;
mod judge;
mod psql;
mod redis_away;
mod sql;
mod storm;
mod straw;
mod world;
mod writer;

use utxoiq_store_testkit::{RedisServer, urls};

use self::{
    storm::{Load, Storm},
    world::{Base, Kind, World},
};

const SERVERS: usize = 2;
const INSIGHTS: usize = 6;

/// Whether there is a Redis to break.
fn has_redis() -> bool {
    let available = RedisServer::is_available();
    if !available {
        println!("no Redis on this machine: nothing tested");
    }
    available
}

/// The promise itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_older_than_a_second_whatever_breaks() {
    if !has_redis() {
        return;
    }
    let seed = urls::seed();
    let base = Base::start().await;
    let world = World::start(&base, Kind::Product, SERVERS, INSIGHTS).await;
    let mut storm = Storm::start(&world, seed, Load::default()).await;
    for step in faults::plan(seed, urls::scale(5, 200), SERVERS) {
        storm.step(&step).await;
    }
    let outcome = storm.end().await;
    let mut hits = 0.0;
    for server in 0..SERVERS {
        for layer in ["local", "redis"] {
            hits += world.hits(server, layer).await.unwrap_or_default();
        }
    }
    println!("  {hits} hits by the servers as they are now");
    outcome.must_be_right(seed, 1_000, 40);
    assert!(hits > 0.0, "nothing was cached, so nothing was shown");
}

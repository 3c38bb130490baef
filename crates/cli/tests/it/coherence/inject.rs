//! Makes a planned fault happen, and mends it.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;
use utxoiq_store_testkit::{FaultProxy, Mode, proxy::Ending};

use super::{
    faults::{Fault, Step},
    sql,
    world::{World, insight_name},
    writer::Writer,
};

/// How often what spoils Redis' data does so again.
const AGAIN: Duration = Duration::from_millis(60);
/// A commit is visible to others when it is acknowledged; this is only so that the harness cannot hang.
const COMMIT: Duration = Duration::from_secs(5);

/// Breaks something for as long as the step says; when this returns, it is whole again and every server answers. The
/// calm after it is the caller's. `writer` writes where a fault is about one write.
pub async fn inject(world: &World, step: &Step, writer: &mut Writer) {
    let what = step.fault.to_string();
    // Nobody is excused for Redis.
    let excused = match &step.fault {
        Fault::ServerKilledAfterCommit(server)
        | Fault::ServerKilledAfterAnswer(server)
        | Fault::ServerFrozen(server)
        | Fault::DatabaseLinkCut(server)
        | Fault::DatabaseLinkSilent(server)
        | Fault::DatabaseLinkSlow(server, _) => vec![*server],
        _ => Vec::new(),
    };
    let window = world.recorder.breaks(&what, &excused);
    match &step.fault {
        Fault::RedisKilled
        | Fault::RedisBackWithOldData
        | Fault::RedisFrozen
        | Fault::RedisFull
        | Fault::RedisFlushed
        | Fault::RedisForgets
        | Fault::RedisGarbage => redis(world, step).await,
        Fault::RedisLinkCut(servers) => {
            links(world, servers, Mode::Refuse, step).await;
        }
        Fault::RedisLinkSilent(servers) => links(world, servers, Mode::Silent, step).await,
        Fault::RedisLinkSlow(servers, delay) => {
            links(world, servers, Mode::Delay(*delay), step).await;
        }
        Fault::ServerKilledAfterCommit(server) => {
            killed_after_commit(world, *server, step, writer).await;
        }
        Fault::ServerKilledAfterAnswer(server) => {
            killed_after_answer(world, *server, step, writer).await;
        }
        Fault::ServerFrozen(server) => {
            world.servers[*server].freeze();
            sleep(step.lasts).await;
            world.servers[*server].thaw();
        }
        Fault::DatabaseLinkCut(server) => database_link(world, *server, Mode::Refuse, step).await,
        Fault::DatabaseLinkSilent(server) => {
            database_link(world, *server, Mode::Silent, step).await;
        }
        Fault::DatabaseLinkSlow(server, delay) => {
            database_link(world, *server, Mode::Delay(*delay), step).await;
        }
    }
    for server in excused {
        world.recovered(server).await;
        // What had piled up meanwhile is worked off.
        sleep(Duration::from_millis(200)).await;
    }
    world.recorder.ends(window);
}

async fn redis(world: &World, step: &Step) {
    let redis = &world.redis;
    match step.fault {
        Fault::RedisKilled => {
            redis.kill9().await;
            sleep(step.lasts).await;
            redis.start_again().await;
        }
        Fault::RedisBackWithOldData => {
            redis.save().await;
            sleep(step.lasts).await;
            redis.kill9().await;
            redis.start_again_with_saved().await;
        }
        Fault::RedisFrozen => {
            redis.freeze();
            sleep(step.lasts).await;
            redis.thaw();
        }
        Fault::RedisFull => {
            redis.shrink().await;
            sleep(step.lasts).await;
            redis.grow().await;
        }
        _ => spoil(world, step).await,
    }
}

async fn spoil(world: &World, step: &Step) {
    let end = Instant::now() + step.lasts;
    let mut random = StdRng::seed_from_u64(step.seed);
    while Instant::now() < end {
        match step.fault {
            Fault::RedisFlushed => world.redis.flush().await,
            Fault::RedisForgets => {
                world.redis.remove_some(random.random()).await;
            }
            _ => {
                world.redis.fill_with_garbage(random.random()).await;
            }
        }
        sleep(AGAIN).await;
    }
}

async fn links(world: &World, servers: &[usize], mode: Mode, step: &Step) {
    let links = || {
        servers
            .iter()
            .map(|server| &world.servers[*server].redis_link)
    };
    for link in links() {
        break_link(link, mode, step.seed).await;
    }
    sleep(step.lasts).await;
    for link in links() {
        link.set(Mode::Pass).await;
    }
}

async fn database_link(world: &World, server: usize, mode: Mode, step: &Step) {
    let link = &world.servers[server].database_link;
    break_link(link, mode, step.seed).await;
    sleep(step.lasts).await;
    link.set(Mode::Pass).await;
}

async fn break_link(link: &FaultProxy, mode: Mode, seed: u64) {
    link.set(mode).await;
    if mode == Mode::Refuse {
        let endings = [Ending::Close, Ending::Reset];
        link.cut(endings[usize::from(seed % 2 == 1)]).await;
    }
}

/// Its link to Redis is silent from before the write, and the kill follows as soon as another session sees the commit:
/// nothing that it does after the commit reaches anybody.
async fn killed_after_commit(world: &World, server: usize, step: &Step, writer: &mut Writer) {
    let victim = &world.servers[server];
    let owner = world.owner().await;
    victim.redis_link.set(Mode::Silent).await;
    let begun = writer.begin_by_api().unwrap();
    // The client of a killed server never knows.
    writer.unsettle(&begun.user);
    let insight = insight_name(writer.insight());
    let committed = async {
        loop {
            let row = owner
                .query_opt(sql::RATING, &[&insight, &begun.user])
                .await
                .unwrap();
            if row.is_some_and(|row| row.get::<_, Option<i16>>(0) == Some(begun.rating)) {
                return;
            }
        }
    };
    let sent = world.rate(server, writer.insight(), &begun.user, begun.rating);
    // It is dropped with the kill: what the server would have answered is lost like the server.
    let outlived = async {
        let answer = sent.await;
        sleep(COMMIT).await;
        panic!("server {server} answered {answer:?}, and nothing was committed");
    };
    tokio::select! {
        biased;
        () = committed => {}
        () = outlived => {}
    }
    victim.kill9().await;
    victim.redis_link.set(Mode::Pass).await;
    // Repeated through whoever answers; by the one that was killed when it is back.
    let others: Vec<usize> = (0..world.servers.len())
        .filter(|other| *other != server)
        .collect();
    let other = others.first().copied().unwrap_or(server);
    writer.finish_by_api(other, &begun).await;
    sleep(step.lasts).await;
    victim.start().await;
}

async fn killed_after_answer(world: &World, server: usize, step: &Step, writer: &mut Writer) {
    let begun = writer.begin_by_api().unwrap();
    writer.finish_by_api(server, &begun).await;
    let victim = &world.servers[server];
    victim.kill9().await;
    sleep(step.lasts).await;
    victim.start().await;
}

//! What takes too long, and the pool.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use utxoiq_store::{
    Store,
    backfill::Progress,
    clock::{Clock as _, FixedClock},
    measure::Meter,
    metrics::{
        Accept, Batch, NewSample, SeriesName, micros,
        read::{
            Selector,
            page::{SamplesPage, SamplesStart},
        },
    },
    worker::criteria::{self},
};
use utxoiq_store_testkit::proxy::{FaultProxy, Mode};

use crate::support::TestDb;

use super::world::*;

fn at_block(block: i64) -> Progress {
    Progress {
        current_block: Some(block),
        ..Progress::default()
    }
}

/// A trigger that takes its time, once a statement that it is about.
async fn slow_trigger(world: &World, when: &str, seconds: f64) {
    world
        .sql(&format!(
            "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep({seconds}); return new; end $$;
             create trigger a_slow before {when} execute function slow()"
        ))
        .await;
}

pub async fn slow_progress() -> Seen {
    let world = World::new().await;
    let job = job(&world.store, noon()).await;
    world
        .store
        .backfill()
        .report(job.id, &at_block(10), noon())
        .await
        .unwrap();
    let before = world.judged("C1.2").await;
    slow_trigger(
        &world,
        "update on backfill_jobs for each row when (new.covered is distinct from old.covered)",
        5.1,
    )
    .await;
    world
        .store
        .backfill()
        .report(job.id, &at_block(20), noon())
        .await
        .unwrap();
    (before, world.judged("C1.2").await)
}

/// A world whose database is behind a proxy.
async fn far_away(vars: &[(&str, &str)]) -> (World, FaultProxy) {
    let db = TestDb::new().await;
    let mut url = url::Url::parse(&db.app_url()).unwrap();
    let proxy = FaultProxy::start_for_port(url.port().unwrap_or(5432)).await;
    url.set_port(Some(proxy.addr().port())).unwrap();
    let clock = FixedClock::at(noon());
    let admin = db.admin().await;
    let mut own = vec![("DATABASE_URL", url.as_str())];
    own.extend(vars);
    let store = open(&db, &own, &clock);
    let world = World {
        db,
        store,
        clock,
        admin,
    };
    (world, proxy)
}

pub async fn slow_job_reads() -> Seen {
    let (world, proxy) = far_away(&[]).await;
    job(&world.store, noon()).await;
    let newest = utxoiq_store::backfill::JobFilter {
        limit: 10,
        ..Default::default()
    };
    for _ in 0..3 {
        world.store.backfill().list(&newest).await.unwrap();
    }
    let quick = world.store.pool().meters().drain(Meter::JobRead).unwrap();
    // The first reads prepare their statements, on machines that do much else.
    world
        .store
        .pool()
        .meters()
        .add(Meter::JobRead, 0, quick.count(), 500);
    let before = world.judged("C1.5").await;
    proxy.set(Mode::Delay(Duration::from_millis(120))).await;
    world.store.backfill().list(&newest).await.unwrap();
    proxy.set(Mode::Pass).await;
    (before, world.judged("C1.5").await)
}

pub async fn slow_ratings() -> Seen {
    let world = World::new().await;
    world
        .store
        .feedback()
        .rate("i", "u", 5, None, noon())
        .await
        .unwrap();
    let before = world.judged("C2.1").await;
    slow_trigger(&world, "insert on insight_feedback for each row", 2.1).await;
    world
        .store
        .feedback()
        .rate("i", "v", 5, None, noon())
        .await
        .unwrap();
    (before, world.judged("C2.1").await)
}

pub async fn slow_statistics() -> Seen {
    let (world, proxy) = far_away(&[]).await;
    let feedback = world.store.feedback();
    let mut round = 0;
    let before = loop {
        for _ in 0..300 {
            feedback.stats_seen("i", None).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let before = world.judged("C2.4").await;
        if world.is_settled(&before, round) {
            break before;
        }
        round += 1;
    };
    // Half an hour later, so that the present is judged by itself.
    world.clock.advance(TimeDelta::minutes(30));
    proxy.set(Mode::Delay(Duration::from_millis(130))).await;
    for insight in ["a", "b", "c"] {
        feedback.stats_seen(insight, None).await.unwrap();
    }
    proxy.set(Mode::Pass).await;
    (before, world.judged("C2.4").await)
}

async fn sample(store: &Store, at: DateTime<Utc>, now: DateTime<Utc>) {
    let mut batch = Batch::default();
    let series = batch.series(SeriesName {
        service_name: "web".to_owned(),
        metric_type: "latency".to_owned(),
        unit: "ms".to_owned(),
        labels: BTreeMap::new(),
    });
    batch.push(NewSample {
        series,
        at: Some(micros(at)),
        value: 1.0,
        metadata: None,
    });
    store
        .metrics()
        .record(batch, Accept::Whole, None, now)
        .await
        .unwrap();
}

async fn read_a_day(store: &Store) {
    let selector = Selector {
        service_name: Some("web".to_owned()),
        from: micros(noon() - TimeDelta::days(1)),
        to: micros(noon()),
        ..Selector::default()
    };
    let page = SamplesPage {
        limit: 100,
        start: SamplesStart::Offset(0),
    };
    let render = |_: &_, _: &[_]| utxoiq_store::metrics::Rendered::default();
    store
        .metrics()
        .newest(&selector, page, None, &render)
        .await
        .unwrap();
}

pub async fn slow_days() -> Seen {
    let (world, proxy) = far_away(&[]).await;
    sample(&world.store, noon() - TimeDelta::hours(1), noon()).await;
    read_a_day(&world.store).await;
    // The first read finds out what there is.
    world.store.pool().meters().drain(Meter::DayRead);
    let mut round = 0;
    let before = loop {
        read_a_day(&world.store).await;
        let before = world.judged("C3.3").await;
        if world.is_settled(&before, round) {
            break before;
        }
        round += 1;
    };
    proxy.set(Mode::Delay(Duration::from_millis(250))).await;
    read_a_day(&world.store).await;
    proxy.set(Mode::Pass).await;
    (before, world.judged("C3.3").await)
}

pub async fn too_many_connections() -> Seen {
    let world = World::new().await;
    world.store.pool().maintain().await;
    for _ in 0..2 {
        world.store.slo().keep(world.clock.now()).await.unwrap();
    }
    let before = world.judged("C6.1").await;
    let wide = world.another(&[("DATABASE__POOL_MAX", "24")]);
    let mut held = Vec::new();
    for _ in 0..23 {
        held.push(wide.pool().get().await.unwrap());
    }
    for _ in 0..3 {
        wide.slo().keep(world.clock.now()).await.unwrap();
    }
    drop(held);
    // Judged by the process that keeps to its limits: it is the other one's size that is seen.
    (before, world.judged("C6.1").await)
}

pub async fn waiting_for_a_connection() -> Seen {
    let world = World::with(&[("DATABASE__POOL_MIN", "5"), ("DATABASE__POOL_MAX", "5")]).await;
    let pool = world.store.pool();
    pool.maintain().await;
    for _ in 0..200 {
        drop(pool.get().await.unwrap());
    }
    world.store.pool().meters().drain(Meter::PoolReuse);
    pool.meters().add(Meter::PoolReuse, 0, 1, 5);
    let before = world.judged("C6.2").await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(pool.get().await.unwrap());
    }
    let (last, ()) = tokio::join!(pool.get(), async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        held.clear();
    });
    drop(last.unwrap());
    (before, world.judged("C6.2").await)
}

pub async fn idle_for_an_hour() -> Seen {
    let world = World::new().await;
    world.store.pool().maintain().await;
    let before = world.judged("C6.3").await;
    let lazy = world.another(&[("DATABASE__IDLE_TIMEOUT_SECONDS", "3600")]);
    lazy.pool().maintain().await;
    (before, judged(&lazy, &world.clock, "C6.3").await)
}

pub async fn no_retries() -> Seen {
    let world = World::new().await;
    criteria::probe(&world.store, "test", world.clock.now())
        .await
        .unwrap();
    let before = world.judged("C6.4").await;
    world.clock.advance(TimeDelta::minutes(1));
    let hasty = world.another(&[("DATABASE__CONNECT_RETRIES", "0")]);
    criteria::probe(&hasty, "test", world.clock.now())
        .await
        .unwrap();
    // Judged by the process whose settings are right: it is what was tried that is red.
    (before, world.judged("C6.4").await)
}

pub async fn silent_log() -> Seen {
    let world = World::new().await;
    world.store.pool().maintain().await;
    world.store.pool().meters().record(Meter::PoolLog, 60);
    let before = world.judged("C6.5").await;
    for _ in 0..5 {
        world.clock.advance(TimeDelta::minutes(1));
        world.store.slo().keep(world.clock.now()).await.unwrap();
    }
    (before, world.judged("C6.5").await)
}

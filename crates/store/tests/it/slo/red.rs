//! Each of the 40 is broken on purpose, in a way of its own, and seen red.

use std::{collections::BTreeMap, path::Path, pin::Pin, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    backfill::{BlockRange, Job, NewJob, Progress},
    clock::{Clock as _, FixedClock},
    measure::Meter,
    metrics::{
        Accept, Batch, NewSample, SeriesName, micros,
        read::{
            Selector,
            page::{SamplesPage, SamplesStart},
        },
    },
    slo::{CRITERIA, Criterion, State},
    worker::criteria::{self, Sabotage},
};
use utxoiq_store_testkit::{
    RedisServer,
    proxy::{Ending, FaultProxy, Mode},
};

use crate::support::TestDb;

/// Noon of the day on which things break.
fn noon() -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// A store of its own, with a clock that is put forward by hand.
struct World {
    db: TestDb,
    store: Store,
    clock: FixedClock,
    admin: Client,
}

impl World {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(vars: &[(&str, &str)]) -> Self {
        let db = TestDb::new().await;
        let clock = FixedClock::at(noon());
        let admin = db.admin().await;
        let store = open(&db, vars, &clock);
        Self {
            db,
            store,
            clock,
            admin,
        }
    }

    /// The same database, as another process with other settings sees it.
    fn another(&self, vars: &[(&str, &str)]) -> Store {
        open(&self.db, vars, &self.clock)
    }

    async fn sql(&self, sql: &str) {
        self.admin
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// How a criterion stands now; what was measured is written down first.
    async fn judged(&self, id: &str) -> Criterion {
        judged(&self.store, &self.clock, id).await
    }

    /// What a task that succeeds leaves.
    async fn task(&self, name: &str, cadence: &str, slot_at: &str) {
        self.sql(&format!(
            "insert into schedule_tasks (task, cadence, first_seen_at) values ('{name}', '{cadence}', '2026-01-01') on conflict do nothing;
             insert into schedule_slots (task, slot_at, on_demand, state, epoch, runner, attempts, missed, started_at, heartbeat_at, finished_at, outcome)
             values ('{name}', '{slot_at}', false, 'succeeded', 1, 'test', 1, 0, '{slot_at}'::timestamptz + interval '3 s',
                     '{slot_at}'::timestamptz + interval '3 s', '{slot_at}'::timestamptz + interval '9 s', '{{}}')"
        ))
        .await;
    }

    async fn retention_ran(&self) {
        self.task("run_retention", "daily at 02:00 UTC", "2026-11-23 02:00Z")
            .await;
    }
}

fn open(db: &TestDb, vars: &[(&str, &str)], clock: &FixedClock) -> Store {
    let vars: Vec<(String, &str)> = vars
        .iter()
        .map(|(name, value)| match *name {
            "DATABASE_URL" | "REDIS_URL" => ((*name).to_owned(), *value),
            name => (format!("UTXOIQ_STORE_{name}"), *value),
        })
        .collect();
    let vars: Vec<(&str, &str)> = vars
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    Store::with_clock(db.settings_with(&vars), std::sync::Arc::new(clock.clone())).unwrap()
}

async fn judged(store: &Store, clock: &FixedClock, id: &str) -> Criterion {
    store.slo().keep(clock.now()).await.unwrap();
    looked_at(store, clock, id).await
}

async fn looked_at(store: &Store, clock: &FixedClock, id: &str) -> Criterion {
    // A report of two seconds ago would be given again.
    clock.advance(TimeDelta::seconds(3));
    store.slo().criterion(id, clock.now(), None).await.unwrap()
}

/// How it stood before, and after it was broken.
type Seen = (Criterion, Criterion);

type Break = fn() -> Pin<Box<dyn Future<Output = Seen> + Send>>;

macro_rules! table {
    ($($id:literal => $break:expr,)+) => {
        [$(($id, (|| Box::pin($break)) as Break)),+]
    };
}

/// How each is broken, but for those that one probe tries: they are broken together.
fn breaks() -> Vec<(&'static str, Break)> {
    table! {
        "C1.2" => slow_progress(),
        "C1.5" => slow_job_reads(),
        "C2.1" => slow_ratings(),
        "C2.4" => slow_statistics(),
        "C3.2" => default_partition(),
        "C3.3" => slow_days(),
        "C3.5" => metrics_stay(),
        "C4.1" => redis_not_asked(),
        "C4.2" => every_read_another_insight(),
        "C4.3" => late_news(),
        "C4.4" => values_for_ever(),
        "C4.5" => no_answer_without_redis(),
        "C5.1" => other_content(),
        "C5.3" => pending_migration(),
        "C6.1" => too_many_connections(),
        "C6.2" => waiting_for_a_connection(),
        "C6.3" => idle_for_an_hour(),
        "C6.4" => no_retries(),
        "C6.5" => silent_log(),
        "C7.1" => old_jobs(),
        "C7.2" => old_feedback(),
        "C7.3" => old_archives(),
        "C7.4" => no_run_at_two(),
        "C7.5" => tampered_log(),
        "C8.1" => no_backup_at_one(),
        "C8.2" => weekly_gone(),
        "C8.3" => failed_proof(),
        "C8.4" => same_region(),
        "C8.5" => nobody_told(),
    }
    .into()
}

/// What spoils the scratch database, and the criteria that are red for it.
const SPOILT: &[(&str, &str)] = &[
    ("C1.1", "create function spoil_start() returns trigger language plpgsql as $$ begin new.status := 'paused'; new.paused_by := 'operator'; return new; end $$;
              create trigger a_spoil_start before insert on backfill_jobs for each row when (new.job_type = 'probe') execute function spoil_start()"),
    ("C1.4", "create function spoil_error() returns trigger language plpgsql as $$ begin new.error_message := 'lost'; return new; end $$;
              create trigger a_spoil_error before update on backfill_jobs for each row when (new.status = 'failed') execute function spoil_error()"),
    ("C2.2", "create function spoil_comment() returns trigger language plpgsql as $$ begin new.comment := 'forged'; return new; end $$;
              create trigger a_spoil_comment before insert on insight_feedback for each row when (new.user_id = 'probe-commenter') execute function spoil_comment()"),
    ("C2.3", "create function spoil_flag() returns trigger language plpgsql as $$ begin new.flag_reason := null; return new; end $$;
              create trigger a_spoil_flag before insert on insight_feedback for each row when (new.user_id = 'probe-flagger') execute function spoil_flag()"),
    ("C2.5", "create function spoil_rating() returns trigger language plpgsql as $$ begin new.rating := 3; return new; end $$;
              create trigger a_spoil_rating before insert on insight_feedback for each row when (new.rating = 2) execute function spoil_rating()"),
    ("C3.1", "create function spoil_series() returns trigger language plpgsql as $$ begin new.metric_type := 'other'; return new; end $$;
              create trigger a_spoil_series before insert on metric_series for each row when (new.metric_type = 'reported') execute function spoil_series()"),
    ("C3.4", "create function spoil_rollup() returns trigger language plpgsql as $$ begin new.sum := new.sum * 2; return new; end $$;
              create trigger a_spoil_rollup before insert on metric_rollups for each row execute function spoil_rollup()"),
    ("C5.5", "delete from schema_migrations where number = (select max(number) from schema_migrations)"),
];

/// Those whose way would spoil the others.
const SPOILT_ALONE: &[(&str, &str)] = &[
    ("C1.3", "create function spoil_end() returns trigger language plpgsql as $$ begin new.ended_at := new.ended_at + interval '1 hour'; return new; end $$;
              create trigger a_spoil_end before update on backfill_jobs for each row when (new.status = 'completed') execute function spoil_end()"),
    ("C5.4", "update schema_migrations set down_sql = 'select 1 / 0;' where number = (select max(number) from schema_migrations)"),
];

fn spoil_folder(folder: &Path) {
    // Half a pair: whoever makes the next one must not guess what it is.
    std::fs::write(folder.join("0099_add_half.up.sql"), "select 1;").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_forty_is_broken_and_seen_red() {
    let mut seen: BTreeMap<&str, Seen> = stream::iter(breaks())
        // In a task of its own: one that cannot go on leaves the others to be seen.
        .map(|(id, broken)| async move { Some((id, tokio::spawn(broken()).await.ok()?)) })
        .buffer_unordered(6)
        .filter_map(async |seen| seen)
        .collect()
        .await;
    seen.extend(spoilt_probes().await);
    let mut wrong = Vec::new();
    for definition in &CRITERIA {
        let Some((before, after)) = seen.get(definition.id) else {
            wrong.push(format!("{} was not broken", definition.id));
            continue;
        };
        eprintln!(
            "{} {:?} {} → {:?}",
            definition.id, before.state, before.summary, after.reason
        );
        if before.state != State::Met {
            wrong.push(format!(
                "{} was not met before: {:?}",
                definition.id, before.reason
            ));
        }
        if after.state != State::Missed || after.reason.is_none() {
            wrong.push(format!(
                "{} was not seen red: {:?} {}",
                definition.id, after.state, after.summary
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One sound probe, and then spoilt ones.
async fn spoilt_probes() -> Vec<(&'static str, Seen)> {
    let db = TestDb::new().await;
    let drill_url = db.drill_url();
    let clock = FixedClock::at(noon());
    let store = open(&db, &[("DATABASE__DRILL_URL", &drill_url)], &clock);
    criteria::probe(&store, "test", clock.now()).await.unwrap();
    let mut before = BTreeMap::new();
    for id in SPOILT
        .iter()
        .chain(SPOILT_ALONE)
        .map(|(id, _)| *id)
        .chain(["C5.2"])
    {
        before.insert(id, looked_at(&store, &clock, id).await);
    }
    let mut rounds: Vec<(Vec<&str>, Sabotage)> = SPOILT_ALONE
        .iter()
        .map(|(id, sql)| {
            (
                vec![*id],
                Sabotage {
                    sql: Some((*sql).to_owned()),
                    folder: None,
                },
            )
        })
        .collect();
    let all: Vec<&str> = SPOILT.iter().map(|(_, sql)| *sql).collect();
    let ids = SPOILT.iter().map(|(id, _)| *id).chain(["C5.2"]).collect();
    rounds.push((
        ids,
        Sabotage {
            sql: Some(all.join(";\n")),
            folder: Some(spoil_folder),
        },
    ));
    let mut seen = Vec::new();
    for (ids, sabotage) in rounds {
        clock.advance(TimeDelta::minutes(1));
        let probe = criteria::probe_with(&store, "test", clock.now(), sabotage)
            .await
            .unwrap();
        assert_eq!(probe.error, None);
        for id in ids {
            let after = looked_at(&store, &clock, id).await;
            seen.push((id, (before.remove(id).unwrap(), after)));
        }
    }
    seen
}

async fn job(store: &Store, now: DateTime<Utc>) -> Job {
    let new = NewJob {
        job_type: "blocks".to_owned(),
        blocks: BlockRange {
            start: 0,
            end: 1_000,
        },
        created_by: None,
    };
    store.backfill().start(&new, now).await.unwrap()
}

fn at_block(block: i64) -> Progress {
    Progress {
        current_block: Some(block),
        ..Progress::default()
    }
}

/// A trigger that takes its time.
async fn slow_trigger(world: &World, table: &str, seconds: f64) {
    world
        .sql(&format!(
            "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep({seconds}); return new; end $$;
             create trigger a_slow before insert or update on {table} for each row execute function slow()"
        ))
        .await;
}

async fn slow_progress() -> Seen {
    let world = World::new().await;
    let job = job(&world.store, noon()).await;
    world
        .store
        .backfill()
        .report(job.id, &at_block(10), noon())
        .await
        .unwrap();
    let before = world.judged("C1.2").await;
    slow_trigger(&world, "backfill_jobs", 5.1).await;
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

async fn slow_job_reads() -> Seen {
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

async fn slow_ratings() -> Seen {
    let world = World::new().await;
    world
        .store
        .feedback()
        .rate("i", "u", 5, None, noon())
        .await
        .unwrap();
    let before = world.judged("C2.1").await;
    slow_trigger(&world, "insight_feedback", 2.1).await;
    world
        .store
        .feedback()
        .rate("i", "v", 5, None, noon())
        .await
        .unwrap();
    (before, world.judged("C2.1").await)
}

async fn slow_statistics() -> Seen {
    let (world, proxy) = far_away(&[]).await;
    let feedback = world.store.feedback();
    for _ in 0..300 {
        feedback.stats_seen("i", None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = world.judged("C2.4").await;
    // Half an hour later, so that the present is judged by itself.
    world.clock.advance(TimeDelta::minutes(30));
    proxy.set(Mode::Delay(Duration::from_millis(130))).await;
    for insight in ["a", "b", "c"] {
        feedback.stats_seen(insight, None).await.unwrap();
    }
    proxy.set(Mode::Pass).await;
    (before, world.judged("C2.4").await)
}

async fn default_partition() -> Seen {
    let world = World::new().await;
    world.store.metrics().make_days_ahead(noon()).await.unwrap();
    let before = world.judged("C3.2").await;
    world
        .sql("create table elsewhere partition of system_metrics default")
        .await;
    (before, world.judged("C3.2").await)
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

async fn slow_days() -> Seen {
    let (world, proxy) = far_away(&[]).await;
    sample(&world.store, noon() - TimeDelta::hours(1), noon()).await;
    read_a_day(&world.store).await;
    // The first read finds out what there is.
    world.store.pool().meters().drain(Meter::DayRead);
    for _ in 0..3 {
        read_a_day(&world.store).await;
    }
    let before = world.judged("C3.3").await;
    proxy.set(Mode::Delay(Duration::from_millis(250))).await;
    read_a_day(&world.store).await;
    proxy.set(Mode::Pass).await;
    (before, world.judged("C3.3").await)
}

async fn metrics_stay() -> Seen {
    let world = World::new().await;
    world.retention_ran().await;
    let before = world.judged("C3.5").await;
    world
        .sql("select metric_make_day('2026-08-01', '2026-08-01')")
        .await;
    (before, world.judged("C3.5").await)
}

/// A world with a Redis behind a proxy, in use.
async fn with_redis() -> (World, RedisServer, FaultProxy) {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::start_for_port(redis.port()).await;
    let url = redis.url_through(proxy.addr());
    let world = World::with(&[("REDIS_URL", &url)]).await;
    world.store.cache().start();
    let mut tries = 0;
    while world
        .store
        .cache()
        .figures()
        .iter()
        .map(|one| one.fills)
        .sum::<u64>()
        == 0
    {
        let insight = format!("warm-{tries}");
        world
            .store
            .feedback()
            .rate(&insight, "u", 5, None, noon())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        world
            .store
            .feedback()
            .stats_seen(&insight, None)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        tries += 1;
        assert!(tries < 60, "Redis was never used");
    }
    // What was read before it was in use is not what is asked.
    world
        .store
        .slo()
        .keep(noon() - TimeDelta::days(3))
        .await
        .unwrap();
    (world, redis, proxy)
}

async fn read_statistics(store: &Store, insights: &[&str]) {
    for insight in insights {
        let _ = store.feedback().stats_seen(insight, None).await;
    }
}

async fn redis_not_asked() -> Seen {
    let (world, _redis, proxy) = with_redis().await;
    read_statistics(&world.store, &["a", "b", "c"]).await;
    let before = world.judged("C4.1").await;
    proxy.set(Mode::Refuse).await;
    proxy.cut(Ending::Close).await;
    read_statistics(&world.store, &["d"]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    read_statistics(&world.store, &["e", "f", "g"]).await;
    (before, world.judged("C4.1").await)
}

async fn every_read_another_insight() -> Seen {
    let world = World::new().await;
    world.store.cache().start();
    let feedback = world.store.feedback();
    for _ in 0..2_000 {
        feedback.stats_seen("one", None).await.unwrap();
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let before = world.judged("C4.2").await;
    world.clock.advance(TimeDelta::minutes(30));
    for number in 0..150 {
        feedback
            .stats_seen(&format!("insight-{number}"), None)
            .await
            .unwrap();
    }
    (before, world.judged("C4.2").await)
}

/// Waits until a change was heard of.
async fn heard(store: &Store, more_than: u64) {
    let invalidations = || {
        store
            .cache()
            .figures()
            .iter()
            .map(|one| one.invalidations)
            .sum::<u64>()
    };
    for _ in 0..200 {
        if invalidations() > more_than {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no change was heard of");
}

async fn late_news() -> Seen {
    let world = World::new().await;
    world.store.cache().start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    world
        .store
        .feedback()
        .rate("i", "u", 5, None, noon())
        .await
        .unwrap();
    heard(&world.store, 0).await;
    let before = world.judged("C4.3").await;
    world.clock.advance(TimeDelta::minutes(30));
    let known = world
        .store
        .cache()
        .figures()
        .iter()
        .map(|one| one.invalidations)
        .sum();
    // A change that was written two seconds ago and is seen only now.
    world
        .sql("insert into cache_outbox (kind, key, x, written_at)
              values ('feedback_stats', 'i', pg_current_xact_id(), clock_timestamp() - interval '2 s')")
        .await;
    heard(&world.store, known).await;
    (before, world.judged("C4.3").await)
}

async fn values_for_ever() -> Seen {
    let (world, redis, _proxy) = with_redis().await;
    let before = world.judged("C4.4").await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*:v:*")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        let _: i64 = redis::cmd("PERSIST")
            .arg(key)
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    (before, world.judged("C4.4").await)
}

async fn no_answer_without_redis() -> Seen {
    let (world, _redis, proxy) = with_redis().await;
    proxy.set(Mode::Refuse).await;
    proxy.cut(Ending::Close).await;
    read_statistics(&world.store, &["d"]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    read_statistics(&world.store, &["e", "f", "g"]).await;
    let before = world.judged("C4.5").await;
    world.sql("drop function feedback_read_stats cascade").await;
    read_statistics(&world.store, &["h"]).await;
    (before, world.judged("C4.5").await)
}

async fn other_content() -> Seen {
    let world = World::new().await;
    let before = world.judged("C5.1").await;
    world
        .sql("update schema_migrations set up_checksum = repeat('0', 64) where number = 3")
        .await;
    (before, world.judged("C5.1").await)
}

async fn pending_migration() -> Seen {
    let world = World::new().await;
    let before = world.judged("C5.3").await;
    world.sql("delete from schema_migrations where number = (select max(number) from schema_migrations)").await;
    (before, world.judged("C5.3").await)
}

async fn too_many_connections() -> Seen {
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

async fn waiting_for_a_connection() -> Seen {
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

async fn idle_for_an_hour() -> Seen {
    let world = World::new().await;
    world.store.pool().maintain().await;
    let before = world.judged("C6.3").await;
    let lazy = world.another(&[("DATABASE__IDLE_TIMEOUT_SECONDS", "3600")]);
    lazy.pool().maintain().await;
    (before, judged(&lazy, &world.clock, "C6.3").await)
}

async fn no_retries() -> Seen {
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

async fn silent_log() -> Seen {
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

async fn old_jobs() -> Seen {
    let world = World::new().await;
    world.retention_ran().await;
    let before = world.judged("C7.1").await;
    let long_ago = noon() - TimeDelta::days(190);
    let job = job(&world.store, long_ago).await;
    world
        .store
        .backfill()
        .fail(job.id, "lost", long_ago)
        .await
        .unwrap();
    (before, world.judged("C7.1").await)
}

async fn old_feedback() -> Seen {
    let world = World::new().await;
    world.retention_ran().await;
    let before = world.judged("C7.2").await;
    world
        .store
        .feedback()
        .rate("i", "u", 5, None, noon() - TimeDelta::days(740))
        .await
        .unwrap();
    (before, world.judged("C7.2").await)
}

async fn old_archives() -> Seen {
    let world = World::new().await;
    world.retention_ran().await;
    let before = world.judged("C7.3").await;
    archive(&world, "2025-06-01").await;
    (before, world.judged("C7.3").await)
}

/// An archive of a day of samples, as retention leaves it, with its entries in the log.
async fn archive(world: &World, day: &str) {
    let id = "0195a1b2-0000-7000-8000-0000000000aa";
    world
        .sql(&format!(
            "insert into archives (id, dataset, day, part, state, object_key, began_at, rows, bytes, sha256, content_sha256, manifest, proved_at,
                                   detached_at, archived_at)
             values ('{id}', 'metrics', '{day}', 0, 'archived', 'metrics/{day}', '2026-11-23 02:00Z', 1, 1, sha256('a'), sha256('a'), '{{}}',
                     '2026-11-23 02:00Z', '2026-11-23 02:00Z', '2026-11-23 02:00Z');
             select audit_append('2026-11-23 02:00Z', 'test', action, 'metrics/{day}', '{{\"archive\": \"{id}\"}}')
             from unnest(array['archive', 'drop']) action"
        ))
        .await;
}

async fn no_run_at_two() -> Seen {
    let world = World::new().await;
    world.retention_ran().await;
    let before = world.judged("C7.4").await;
    world.clock.advance(TimeDelta::hours(15));
    (before, world.judged("C7.4").await)
}

async fn tampered_log() -> Seen {
    let world = World::new().await;
    archive(&world, "2026-08-01").await;
    let before = world.judged("C7.5").await;
    world
        .sql("update audit_log set actor = 'nobody' where sequence = 1")
        .await;
    (before, world.judged("C7.5").await)
}

/// A verified backup of a night.
fn backup(night: DateTime<Utc>) -> String {
    let night = night.format("%Y-%m-%d");
    format!(
        "insert into backups (id, slot_at, started_at, started_by, lease_expires_at, state, object_key, plain_bytes, stored_bytes, row_count,
                              table_count, sha256, manifest_sha256, schema_version, stored_at, verified_at, ended_at)
         values (gen_random_uuid(), '{night} 01:00Z', '{night} 01:00:02Z', 'schedule: make_backup', '{night} 01:05Z', 'verified',
                 'backups/' || replace('{night}', '-', '') || 'T010002Z-' || replace(gen_random_uuid()::text, '-', '') || '.dump.age', 1000, 100, 10, 3, sha256('a'), sha256('b'), 15, '{night} 01:01Z', '{night} 01:02Z', '{night} 01:02Z');"
    )
}

async fn nights(world: &World, count: i64) {
    let sql: String = (0..count)
        .map(|ago| backup(noon() - TimeDelta::days(ago)))
        .collect();
    world.sql(&sql).await;
    world
        .task("make_backup", "daily at 01:00 UTC", "2026-11-23 01:00Z")
        .await;
}

async fn no_backup_at_one() -> Seen {
    let world = World::new().await;
    nights(&world, 1).await;
    let before = world.judged("C8.1").await;
    world.clock.advance(TimeDelta::hours(14));
    (before, world.judged("C8.1").await)
}

async fn weekly_gone() -> Seen {
    let world = World::new().await;
    nights(&world, 40).await;
    let before = world.judged("C8.2").await;
    world
        .sql("update backups set state = 'pruned', pruned_at = '2026-11-23 03:00Z' where slot_at = '2026-11-08 01:00Z'")
        .await;
    (before, world.judged("C8.2").await)
}

fn proof(at: &str, outcome: &str) -> String {
    let error = if outcome == "proved" {
        "null"
    } else {
        "'the table backups has other values'"
    };
    format!(
        "insert into backup_proofs (id, backup_id, started_at, started_by, lease_expires_at, target, ended_at, outcome, restore_milliseconds,
                                    compare_milliseconds, error)
         select gen_random_uuid(), id, '{at}', 'test', '{at}', 'host/x', '{at}', '{outcome}', 1000, 1000, {error} from backups limit 1"
    )
}

async fn failed_proof() -> Seen {
    let world = World::new().await;
    nights(&world, 1).await;
    world.sql(&proof("2026-11-22 03:30Z", "proved")).await;
    let before = world.judged("C8.3").await;
    world.sql(&proof("2026-11-23 03:30Z", "failed")).await;
    (before, world.judged("C8.3").await)
}

async fn same_region() -> Seen {
    let bucket = [
        ("BACKUP_STORE__URL", "s3://backups/utxoiq"),
        ("BACKUP_STORE__REGION", "eu-west-1"),
        ("DATABASE__REGION", "eu-central-1"),
    ];
    let world = World::with(&bucket).await;
    let before = world.judged("C8.4").await;
    let moved = [bucket[0], bucket[1], ("DATABASE__REGION", "eu-west-1")];
    let moved = world.another(&moved);
    (before, judged(&moved, &world.clock, "C8.4").await)
}

async fn nobody_told() -> Seen {
    let world = World::with(&[
        ("ALERT__WEBHOOK_URL", "http://127.0.0.1:9/"),
        ("ALERT__WEBHOOK_SECRET", "sixteen characters"),
    ])
    .await;
    world
        .sql("insert into alert_sources (source, observed_at) values ('backups', '2026-11-23 12:00Z')")
        .await;
    let before = world.judged("C8.5").await;
    world
        .sql("insert into backups (id, slot_at, started_at, started_by, lease_expires_at, state, object_key, ended_at, error)
              values (gen_random_uuid(), '2026-11-23 01:00Z', '2026-11-23 01:00Z', 'test', '2026-11-23 01:00Z', 'failed', 'x',
                      '2026-11-23 01:10Z', 'no space')")
        .await;
    (before, world.judged("C8.5").await)
}

//! An acknowledged sample is committed, whatever is killed: the server or PostgreSQL, under intake.

mod writer;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use utxoiq_store::{
    Store,
    clock::{Clock as _, SystemClock},
};
use utxoiq_store_testkit::{PgOptions, urls};

use self::writer::{Kind, Told, Writer};
use crate::support::Service;

/// Two of a kind meet each other in the intake's shared transactions.
const WRITERS: [Kind; 8] = [
    Kind::Recent,
    Kind::Recent,
    Kind::Late,
    Kind::Late,
    Kind::File,
    Kind::File,
    Kind::Untimed,
    Kind::Untimed,
];

/// What is stored: of a type of metric the values by time, in microseconds.
type Stored = BTreeMap<(String, i64), f64>;

async fn stored(service: &Service) -> Stored {
    let sql = "select metric_type, sampled_at, value from system_metrics m join metric_series s on s.id = m.series_id";
    let admin = service.admin().await;
    let rows = admin.query(sql, &[]).await.unwrap();
    let count = rows.len();
    let stored: Stored = rows
        .iter()
        .map(|row| {
            let at: DateTime<Utc> = row.get(1);
            ((row.get(0), at.timestamp_micros()), row.get(2))
        })
        .collect();
    assert_eq!(stored.len(), count, "a series has two samples of one time");
    stored
}

/// Kills one of the two, waits a moment, starts it again.
async fn kill(service: &mut Service, is_server: bool, pause: Duration) {
    if is_server {
        service.server().kill9();
        let ended = service.server().wait(Duration::from_secs(10)).await;
        ended.unwrap();
        tokio::time::sleep(pause).await;
        service.start_server().await;
    } else {
        service.cluster.kill9().await;
        tokio::time::sleep(pause).await;
        service.cluster.start_again().await;
    }
}

/// Waits until so many more requests were acknowledged.
async fn wait_for(acknowledged: &AtomicU64, more: u64, service: &Service) {
    let (started, target) = (Instant::now(), acknowledged.load(Relaxed) + more);
    while acknowledged.load(Relaxed) < target {
        assert!(
            started.elapsed() < Duration::from_mins(2),
            "stuck {} requests before the next kill\n{}",
            target - acknowledged.load(Relaxed),
            service.server().output()
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Rolls up what can be, all the time: what is killed with the database is the roller's work, too.
async fn roll_on(store: Store, is_over: Arc<AtomicBool>) {
    while !is_over.load(Relaxed) {
        // A database that is away now will be there again.
        let _ = store.metrics().roll_up(store.now(), 20).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Rolls up all there is, and compares every rollup with its samples.
async fn verify_all(service: &Service, samples: usize) -> u64 {
    let store = service.store();
    let admin = service.admin().await;
    let later = store.now() + TimeDelta::days(2);
    let target = later - TimeDelta::hours(2);
    let sql = "select rolled_before, (select count(*) from metric_marks) from metric_rollup_state";
    let started = Instant::now();
    loop {
        store.metrics().roll_up(later, 1_000).await.unwrap();
        let row = admin.query_one(sql, &[]).await.unwrap();
        if row.get::<_, DateTime<Utc>>(0) >= target && row.get::<_, i64>(1) == 0 {
            break;
        }
        assert!(started.elapsed() < Duration::from_mins(1), "not rolled up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sql = "select day from metric_days where day <= $1 order by 1";
    let today = store.now().date_naive();
    let mut compared = 0;
    for row in admin.query(sql, &[&today]).await.unwrap() {
        let day: NaiveDate = row.get(0);
        let verified = store.metrics().verify(day, false, later).await.unwrap();
        assert!(
            verified.is_verified && verified.differing == 0,
            "{verified:?}"
        );
        compared += verified.compared;
    }
    let sql = "select coalesce(sum(count), 0)::int8 from metric_rollups where hours = 1";
    let counted: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(usize::try_from(counted).unwrap(), samples);
    compared
}

/// Every sample that was answered for is there, with its value and at the time that the answer said; nothing else is.
fn compare(told: &[Told], stored: &Stored, seed: u64) {
    let mut expected = Stored::new();
    for sample in told.iter().flat_map(|told| &told.samples) {
        let place = (sample.metric_type.clone(), sample.at);
        let twice = expected.insert(place.clone(), sample.value);
        assert_eq!(
            twice, None,
            "seed {seed}: two samples were told to be at {place:?}"
        );
    }
    let lost: Vec<_> = expected
        .iter()
        .filter(|(place, value)| stored.get(*place) != Some(*value))
        .collect();
    assert!(
        lost.is_empty(),
        "seed {seed}: {} of {} acknowledged samples are lost, such as {:?}",
        lost.len(),
        expected.len(),
        lost[0]
    );
    let more: Vec<_> = stored
        .keys()
        .filter(|place| !expected.contains_key(*place))
        .collect();
    assert!(
        more.is_empty(),
        "seed {seed}: {} samples are there twice, such as {:?}",
        more.len(),
        more[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_sample_survives_kill_9_of_server_and_database_and_none_is_there_twice()
{
    let kills = urls::scale(5, 20);
    let seed = urls::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let options = PgOptions {
        fsync: true,
        ..PgOptions::default()
    };
    let mut service = Service::start_on(options, &[]).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..)
        .zip(WRITERS)
        .map(|(number, kind)| {
            let writer = Writer {
                kind,
                number,
                url: service.url("/api/v1/monitoring/metrics"),
                token: service.token().to_owned(),
                now: SystemClock.now(),
                random: StdRng::seed_from_u64(seed.wrapping_add(number + 1)),
            };
            let (over, count) = (Arc::clone(&is_over), Arc::clone(&acknowledged));
            tokio::spawn(writer.write_until(over, count))
        })
        .collect();
    let roller = tokio::spawn(roll_on(service.store(), Arc::clone(&is_over)));
    let mut killed = [0, 0];
    for number in 0..kills {
        wait_for(&acknowledged, 60, &service).await;
        // Anywhere within what is under way; each of the two, then at random.
        tokio::time::sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        let is_server = match number {
            0 => true,
            1 => false,
            _ => random.random_range(0..2) == 0,
        };
        let pause = Duration::from_millis(random.random_range(0..200));
        kill(&mut service, is_server, pause).await;
        killed[usize::from(is_server)] += 1;
    }
    wait_for(&acknowledged, 60, &service).await;
    is_over.store(true, Relaxed);
    let mut told = Vec::new();
    for writer in writers {
        told.push(writer.await.unwrap());
    }
    roller.await.unwrap();

    let stored = stored(&service).await;
    compare(&told, &stored, seed);
    let compared = verify_all(&service, stored.len()).await;
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    println!(
        "{} kills of the server and {} of the database survived: {} samples in {} requests, {} of these sent again, \
         {} samples found stored already; {compared} rollups equal",
        killed[1],
        killed[0],
        stored.len(),
        acknowledged.load(Relaxed),
        sum(|told| told.sent_again),
        sum(|told| told.duplicates),
    );
}

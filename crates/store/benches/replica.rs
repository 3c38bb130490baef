//! What sending reads to a replica costs a reader, and what it takes off the primary.
//!
//! Both servers share the machine's processors, so that reads a second would say nothing of two machines. Two things can be
//! measured all the same:
//!
//! * **What stays with the primary**: the time that processors work for each server, by read, with and without a replica. What
//!   leaves the primary is what its machine has left for other work. Goal for long reads (a millisecond and more): at most 5 % stay.
//! * **What being sure costs a reader**: the same read of the same replica, by a store that asks nobody how far it is (what it
//!   would be with stale reads allowed), in turns. Goal for long reads: a ratio of at least 0.9.
//!
//! And under a steady stream of ratings, which a replica has to replay before it may answer: how many reads it answers (goal: 99 of
//! 100), and how long they take.
//!
//! What it prints is for people to judge: nothing is asserted but that each server was asked what it should be.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is printed: that is what it is for"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on fails"
)]
#![allow(
    dead_code,
    reason = "what is shared with the other measurements is not all used here"
)]

#[path = "../tests/it/support.rs"]
mod database;
#[path = "support/measure.rs"]
mod measure;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::TimeDelta;
use database::{PASSWORD, connect};
use hdrhistogram::Histogram;
use tokio::time::MissedTickBehavior;
use utxoiq_store::{
    Store,
    clock::SystemClock,
    config::Loader,
    db::{migrate::Migrator, roles},
    feedback::{Filter, Page, Ranking},
};
use utxoiq_store_testkit::{PgCluster, PgOptions};

use measure::{
    Options,
    driver::{Sample, drive},
    report::median,
};

const DATABASE: &str = "postgres";

/// $1 ratings by 20,000 users of 25,000 insights, within 90 days.
const FILL: &str = "
insert into insight_feedback (insight_id, user_id, rating, rated_at, created_at, updated_at)
select 'insight ' || n % 25000, 'user ' || (n / 25000 * 13 + n % 25000) % 20000, 1 + n / 90 % 5, at, at, at
from generate_series(1, $1::bigint) n
cross join lateral (select $2::timestamptz - n % 90 * interval '1 day' as at) t";

/// Ratings a second, in the part with writes.
const RATINGS_A_SECOND: u32 = 200;

/// Clients that read meanwhile: few enough that the processors are not what they wait for.
const CLIENTS_MEANWHILE: usize = 4;

type Operation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A read, from the cheapest to the dearest.
#[derive(Clone, Copy)]
struct Read {
    title: &'static str,
    /// Reads once; the number makes turns differ.
    once: fn(&'static Store, i64) -> Operation,
}

const READS: [Read; 3] = [
    Read {
        title: "a user's 50 newest ratings",
        once: |store, n| {
            Box::pin(async move {
                let user = format!("user {}", n * 7_919 % 20_000);
                let found = store.feedback().of_user(&user, &Page::first(50)).await;
                assert!(found.unwrap().total > 0);
            })
        },
    },
    Read {
        title: "search: a day's ratings of 3 stars",
        once: |store, n| {
            Box::pin(async move {
                let to = store.now() - TimeDelta::days(n % 80);
                let filter = Filter {
                    from: Some(to - TimeDelta::days(1)),
                    to: Some(to),
                    rating: Some(3),
                    ..Filter::default()
                };
                let found = store.feedback().search(&filter, &Page::first(50)).await;
                assert!(found.unwrap().total > 0);
            })
        },
    },
    Read {
        title: "the 50 best of 25,000 insights",
        once: |store, _| {
            Box::pin(async move {
                let (feedback, page) = (store.feedback(), Page::first(50));
                let top = feedback.top(Ranking::BayesianMean, 1, &page);
                assert_eq!(top.await.unwrap().insights.len(), 50);
            })
        },
    },
];

#[tokio::main]
async fn main() {
    let options = Options::from_args();
    let bench = Bench::new(&options).await;
    println!(
        "{} clients; {} rounds of {} s for each of three stores: on the primary alone, with a replica, and on the replica unasked",
        options.clients,
        options.rounds,
        options.measured.as_secs()
    );
    for read in READS {
        if asked_for(&options, read.title) {
            bench.compare(&options, read).await;
        }
    }
    if asked_for(&options, "reads while ratings are written") {
        bench.while_written(&options).await;
    }
}

fn asked_for(options: &Options, title: &str) -> bool {
    options
        .only
        .as_ref()
        .is_none_or(|only| title.contains(only))
}

struct Bench {
    primary: PgCluster,
    replica: PgCluster,
    /// Reads from the primary.
    alone: &'static Store,
    /// Reads from the replica as soon as it has what the primary has.
    split: &'static Store,
    /// Reads from the replica without asking.
    unasked: &'static Store,
}

/// What one store did in all rounds of a read.
#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    reads: u64,
    on_primary: Duration,
    on_replica: Duration,
}

impl Side {
    /// Milliseconds of processors for a read.
    fn a_read(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e3 / self.reads as f64
    }
}

impl Bench {
    async fn new(options: &Options) -> Self {
        // As in production: every commit reaches the disk.
        let primary = PgCluster::start(PgOptions {
            fsync: true,
            shared_buffers: "512MB".to_owned(),
            settings: vec![("max_wal_size".to_owned(), "4GB".to_owned())],
            ..PgOptions::default()
        })
        .await;
        let url = primary.admin_url(DATABASE);
        roles::init(&url).await.unwrap();
        let admin = connect(&url).await;
        let set = format!("alter role {} password '{PASSWORD}'", roles::APP);
        admin.batch_execute(&set).await.unwrap();
        let migrator = Migrator::embedded().unwrap();
        migrator.up(&url, &SystemClock).await.unwrap();
        let alone = store(&primary, &[], options);
        admin
            .execute(FILL, &[&options.rows, &alone.now()])
            .await
            .unwrap();
        alone.feedback().fold().await.unwrap();
        admin.batch_execute("vacuum analyze").await.unwrap();
        admin.batch_execute("checkpoint").await.unwrap();
        let replica = primary.standby(&[("hot_standby_feedback", "on")]).await;
        Self {
            alone,
            split: store(&primary, &[&replica], options),
            unasked: store(&replica, &[], options),
            primary,
            replica,
        }
    }

    async fn compare(&self, options: &Options, read: Read) {
        let stores = [self.alone, self.split, self.unasked];
        let mut sides: [Side; 3] = Default::default();
        let served = served(self.split);
        for round in 0..options.rounds {
            for turn in 0..stores.len() {
                let which = (round + turn) % stores.len();
                self.round(options, read, stores[which], &mut sides[which])
                    .await;
            }
        }
        let served = served_since(self.split, served);
        let [alone, split, unasked] = sides;
        assert_eq!(
            alone.on_replica.as_secs(),
            0,
            "it has nothing to do with it"
        );
        assert!(served > split.reads * 9 / 10, "{served} of {}", split.reads);
        let (was, is) = (
            alone.a_read(alone.on_primary),
            split.a_read(split.on_primary),
        );
        println!(
            "{}\n    processors, milliseconds a read: {was:.3} on the primary alone; with a replica {is:.3} there ({:.1} % stay; goal of long reads: at most 5 %) \
             and {:.3} on the replica\n    reads a second: {:.0} unasked, {:.0} sure of it: ratio {:.2} (goal of long reads: at least 0.9); {:.0} on the primary alone",
            read.title,
            is / was * 100.0,
            split.a_read(split.on_replica),
            median(unasked.rates.clone()),
            median(split.rates.clone()),
            median(
                split
                    .rates
                    .iter()
                    .zip(&unasked.rates)
                    .map(|(ours, theirs)| ours / theirs)
                    .collect()
            ),
            median(alone.rates),
        );
    }

    /// Every client reads, again and again; all reads count, so that they are those whose work is counted.
    async fn round(&self, options: &Options, read: Read, store: &'static Store, side: &mut Side) {
        let length = |measured| Options {
            warm_up: Duration::ZERO,
            measured,
            ..options.clone()
        };
        reads(&length(options.warm_up), read, store).await;
        let before = self.worked().await;
        let (count, sample) = reads(&length(options.measured), read, store).await;
        let after = self.worked().await;
        side.reads += count;
        side.rates.push(sample.rate);
        side.on_primary += after[0].saturating_sub(before[0]);
        side.on_replica += after[1].saturating_sub(before[1]);
    }

    /// How long processors have worked for the primary and the replica.
    async fn worked(&self) -> [Duration; 2] {
        [
            self.primary.processor_time().await,
            self.replica.processor_time().await,
        ]
    }

    /// Small reads, for which waiting matters most, while ratings are written at a steady pace.
    async fn while_written(&self, options: &Options) {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(rate_until(self.alone, Arc::clone(&stop)));
        let few = Options {
            clients: CLIENTS_MEANWHILE,
            ..options.clone()
        };
        let before = self.split.reads().snapshot(self.split.now()).remove(0);
        let mut sides = [Sample::latencies(), Sample::latencies()];
        let mut count = 0;
        for round in 0..options.rounds * 2 {
            let which = (round + round / 2) % 2;
            let store = [self.split, self.unasked][which];
            let (reads, sample) = reads(&few, READS[0], store).await;
            sides[which].add(&sample.latencies).unwrap();
            count += if which == 0 { reads } else { 0 };
        }
        stop.store(true, Relaxed);
        let written: u64 = writer.await.unwrap();
        let after = self.split.reads().snapshot(self.split.now()).remove(0);
        let served = after.served_total - before.served_total;
        let milliseconds =
            |side: &Histogram<u64>, quantile| side.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{} while {RATINGS_A_SECOND} ratings a second are written ({written} in all), {CLIENTS_MEANWHILE} clients\n    \
             the replica answered {:.2} % of {count} (goal at least 99 %); {} came too late, {} failed\n    \
             milliseconds: p50 {:.2} and p99 {:.2}; unasked p50 {:.2} and p99 {:.2}",
            READS[0].title,
            served as f64 / count as f64 * 100.0,
            after.late_total - before.late_total,
            after.failed_total - before.failed_total,
            milliseconds(&sides[0], 0.5),
            milliseconds(&sides[0], 0.99),
            milliseconds(&sides[1], 0.5),
            milliseconds(&sides[1], 0.99),
        );
    }
}

/// A process that serves from these servers, with a connection for each client. It never ends: clients need it for as long.
fn store(primary: &PgCluster, replicas: &[&PgCluster], options: &Options) -> &'static Store {
    let address = |cluster: &PgCluster| cluster.url(roles::APP, PASSWORD, DATABASE);
    let replicas: Vec<String> = replicas.iter().map(|one| address(one)).collect();
    let clients = options.clients.to_string();
    let vars = [
        ("DATABASE_URL", address(primary)),
        ("DATABASE_READ_URLS", replicas.join(",")),
        ("UTXOIQ_STORE_DATABASE__POOL_MIN", clients.clone()),
        ("UTXOIQ_STORE_DATABASE__POOL_MAX", clients),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value));
    let settings = Loader::default().env(vars).unwrap().finish().unwrap();
    Box::leak(Box::new(Store::open(settings).unwrap()))
}

/// Has every client read for the given time, and tells how many reads there were in all.
async fn reads(options: &Options, read: Read, store: &'static Store) -> (u64, Sample) {
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let sample = drive(options, move |client, turn| {
        let (count, client) = (Arc::clone(&counter), i64::try_from(client).unwrap());
        async move {
            (read.once)(store, turn * 31 + client).await;
            count.fetch_add(1, Relaxed);
        }
    })
    .await;
    (count.load(Relaxed), sample)
}

fn served(store: &Store) -> u64 {
    store
        .reads()
        .snapshot(store.now())
        .iter()
        .map(|one| one.served_total)
        .sum()
}

fn served_since(store: &Store, before: u64) -> u64 {
    served(store) - before
}

/// Rates at a steady pace; tells how often.
async fn rate_until(store: &'static Store, stop: Arc<AtomicBool>) -> u64 {
    let mut pace = tokio::time::interval(Duration::from_secs(1) / RATINGS_A_SECOND);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut written = 0;
    while !stop.load(Relaxed) {
        pace.tick().await;
        let (insight, user) = (
            format!("insight {}", written % 25_000),
            format!("writer {written}"),
        );
        let rated = store
            .feedback()
            .rate(&insight, &user, 4, None, store.now())
            .await;
        rated.unwrap();
        written += 1;
    }
    written
}

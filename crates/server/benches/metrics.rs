//! Metrics beside the limits of their kind: `\copy`, psql, plain SQL over samples, a constant answer (C3).
//!
//! Server, clients and the database share this machine. Each figure stands beside what it is compared with, measured in
//! the same run. Ten times `--rows` samples are made: one series with a sample a second, and others with one a minute.
//! Nothing is asserted.

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
    reason = "what is shared with other measurements is not all used here"
)]

#[path = "metrics/data.rs"]
mod data;
#[path = "../../store/tests/it/support.rs"]
mod database;
#[path = "metrics/intake.rs"]
mod intake;
#[path = "../../store/benches/support/measure.rs"]
mod measure;
#[path = "metrics/psql.rs"]
mod psql;
#[path = "support/raw.rs"]
mod raw;
#[path = "metrics/reading.rs"]
mod reading;
#[path = "support/service.rs"]
mod service;

use std::time::Instant;

use utxoiq_store::Store;
use utxoiq_store_testkit::RedisServer;

use data::Data;
use database::TestDb;
use measure::Options;

/// What the measurements share.
struct Setting {
    options: Options,
    db: TestDb,
    store: Store,
    address: std::net::SocketAddr,
    token: String,
}

impl Setting {
    /// Whether a part is asked for.
    fn wants(&self, part: &str) -> bool {
        self.options
            .only
            .as_ref()
            .is_none_or(|only| part.contains(only.as_str()))
    }
}

#[tokio::main]
async fn main() {
    let options = Options::from_args();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .init();
    let db = TestDb::new().await;
    let redis = RedisServer::start().await;
    let store = Store::open(db.settings_with(&[("REDIS_URL", &redis.url())])).unwrap();
    let address = service::ours(&store).await;
    let token = service::token(&db, &store).await;
    let setting = Setting {
        options,
        db,
        store,
        address,
        token,
    };
    if setting.wants("intake") {
        intake::measure(&setting).await;
    }
    if ["read", "aggregate", "late"]
        .iter()
        .any(|part| setting.wants(part))
    {
        let data = Data::make(&setting).await;
        reading::whole_day(&setting, &data).await;
        reading::many_readers(&setting, &data).await;
        roll_up(&setting).await;
        reading::aggregates(&setting, &data).await;
        reading::late(&setting, &data).await;
    }
}

/// Everything is rolled up for the first time.
async fn roll_up(setting: &Setting) {
    let began = Instant::now();
    let mut hours = 0;
    loop {
        let rolled = setting
            .store
            .metrics()
            .roll_up(setting.store.now(), 1_000)
            .await
            .unwrap();
        hours += rolled.hours;
        let admin = setting.db.admin().await;
        let lag: i64 = admin
            .query_one("select extract(epoch from now() - rolled_before)::bigint / 3600 from metric_rollup_state", &[])
            .await
            .unwrap()
            .get(0);
        if lag < 2 {
            break;
        }
    }
    println!(
        "{hours} hours of all series rolled up in {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

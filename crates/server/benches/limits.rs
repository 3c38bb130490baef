//! What a rate limit costs: the same hot read by a token with a limit and by one without.
//!
//! The limited one makes a round trip to Redis for each request, the other one none. Nothing is asserted.

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
    reason = "what is shared with the store's measurements is not all used here"
)]

#[path = "../../store/tests/it/support.rs"]
mod database;
#[path = "../../store/benches/support/measure.rs"]
mod measure;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/service.rs"]
mod service;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::Mutex;
use utxoiq_store::{
    Store,
    db::Pool,
    token::{NewToken, Scope, Tokens},
};
use utxoiq_store_testkit::RedisServer;

use database::TestDb;
use measure::{
    Options,
    driver::{Sample, drive},
    report::{C2_4, compare, print_table},
};
use raw::RawClient;

/// So many that no round reaches it: what is measured is counting.
const TIERS: &str = "free=100/h,bench=1000000/s";

#[tokio::main]
async fn main() {
    let options = Options::from_args();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .init();
    let db = TestDb::new().await;
    let redis = RedisServer::start().await;
    let url = redis.url();
    let vars = [
        ("REDIS_URL", url.as_str()),
        ("UTXOIQ_STORE_RATE_LIMIT__TIERS", TIERS),
    ];
    let store = Store::open(db.settings_with(&vars)).unwrap();
    let ours = service::ours(&store).await;
    let limited = request(ours, &token(&db, &store, "limited", Some("bench")).await);
    let unlimited = request(ours, &token(&db, &store, "unlimited", None).await);
    for request in [&limited, &unlimited] {
        warm(ours, request).await;
    }
    options.announce("a caller without a limit");
    let comparison = compare(
        &options,
        "HTTP: statistics, hot, with a limit",
        C2_4,
        async || ask(&options, ours, &limited).await,
        async || ask(&options, ours, &unlimited).await,
    )
    .await;
    print_table("unlimited", [comparison]);
    println!("{:?}", store.limiter().figures());
}

/// A token of a tier; made by an administrator, as always.
async fn token(db: &TestDb, store: &Store, name: &str, tier: Option<&str>) -> String {
    let config = db.settings_with(&[("DATABASE_URL", &db.admin_url())]);
    let pool = Pool::open(&config.database).unwrap();
    let new = NewToken {
        name: name.into(),
        subject: None,
        scopes: [Scope::Admin].into(),
        expires_at: None,
        rate_tier: tier.map(str::to_owned),
        created_by: "bench".into(),
    };
    let (_, secret) = Tokens::new(&pool).create(new, store.now()).await.unwrap();
    secret.expose().to_owned()
}

fn request(ours: SocketAddr, token: &str) -> String {
    format!(
        "GET /api/v1/feedback/stats?insight_id=insight-1 HTTP/1.1\r\nHost: {ours}\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
}

/// Asks until the process answers from its own memory.
async fn warm(address: SocketAddr, request: &str) {
    let mut client = RawClient::connect(address).await;
    for _ in 0..100 {
        client.ask(request.as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ask(options: &Options, address: SocketAddr, request: &str) -> Sample {
    let mut clients = Vec::new();
    for _ in 0..options.clients {
        clients.push(Mutex::new(RawClient::connect(address).await));
    }
    let (clients, request): (Arc<[_]>, Arc<str>) = (clients.into(), request.into());
    drive(options, move |number, _| {
        let (clients, request) = (Arc::clone(&clients), Arc::clone(&request));
        async move {
            let mut client = clients[number].lock().await;
            client.ask(request.as_bytes()).await;
        }
    })
    .await
}

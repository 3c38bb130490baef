//! Statistics read when they are hot, beside a bare axum handler that sends the same bytes (C2.4).
//!
//! Both services and their clients are in this process, the clients as cheap as can be: the ratio says what part of a
//! constant answer's rate is left when the caller is known, the input checked, the answer found and counted. The log is
//! on, as in production. Nothing is asserted.

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

use axum::body::Bytes;
use tokio::sync::Mutex;
use utxoiq_store::Store;
use utxoiq_store_testkit::RedisServer;

use database::TestDb;
use measure::{
    Options,
    driver::{Sample, drive},
    report::{C2_4, compare, print_table},
};
use raw::RawClient;

#[tokio::main]
async fn main() {
    let options = Options::from_args();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .init();
    let db = TestDb::new().await;
    let redis = RedisServer::start().await;
    let store = Store::open(db.settings_with(&[("REDIS_URL", &redis.url())])).unwrap();
    rate(&store).await;
    let ours = service::ours(&store).await;
    let token = service::token(&db, &store).await;
    let request = format!(
        "GET /api/v1/feedback/stats?insight_id=insight-1 HTTP/1.1\r\nHost: {ours}\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let answer = warm(ours, &request).await;
    println!("the answer: {}", String::from_utf8_lossy(&answer));
    let constant = service::constant(answer).await;
    options.announce("a constant answer");
    let comparison = compare(
        &options,
        "HTTP: statistics, hot",
        C2_4,
        async || ask(&options, ours, &request).await,
        async || ask(&options, constant, &request).await,
    )
    .await;
    print_table("constant", [comparison]);
}

async fn rate(store: &Store) {
    for user in 0..20 {
        store
            .feedback()
            .rate(
                "insight-1",
                &format!("user-{user}"),
                1 + user % 5,
                None,
                store.now(),
            )
            .await
            .unwrap();
    }
}

/// Asks until the process answers from its own memory.
async fn warm(address: SocketAddr, request: &str) -> Bytes {
    let mut client = RawClient::connect(address).await;
    for _ in 0..100 {
        client.ask(request.as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Bytes::copy_from_slice(client.ask(request.as_bytes()).await)
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

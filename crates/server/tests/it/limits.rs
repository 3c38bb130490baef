//! The listener's limits, over real connections.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use utxoiq_store_server::{router_of, serve_router};

use crate::support::{settings, state, test_routes};

/// A listening service that runs until the sender is used or dropped.
pub async fn listening(
    vars: &[(&str, &str)],
) -> (
    std::net::SocketAddr,
    oneshot::Sender<()>,
    tokio::task::JoinHandle<utxoiq_store::error::Result<()>>,
) {
    let state = state(settings(vars));
    let router = router_of(
        &state,
        vec![test_routes(), utxoiq_store_server::health::routes()],
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(serve_router(listener, router, state, async {
        let _ = stopped.await;
    }));
    (address, stop, served)
}

#[tokio::test]
async fn a_connection_that_sends_no_whole_head_is_closed() {
    let (address, _stop, _served) =
        listening(&[("UTXOIQ_STORE_SERVER__HEADER_TIMEOUT_SECONDS", "1")]).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /test/ok HTTP/1.1\r\nHost: x\r\n")
        .await
        .unwrap();
    let began = Instant::now();
    let mut read = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), slow.read_to_end(&mut read))
        .await
        .expect("it is closed")
        .unwrap();
    assert!(
        began.elapsed() > Duration::from_millis(800),
        "{:?}",
        began.elapsed()
    );
    assert!(!String::from_utf8_lossy(&read).contains("200 OK"));
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_place() {
    let (address, _stop, _served) =
        listening(&[("UTXOIQ_STORE_SERVER__MAX_CONNECTIONS", "2")]).await;
    let first = TcpStream::connect(address).await.unwrap();
    let _second = TcpStream::connect(address).await.unwrap();
    let mut third = TcpStream::connect(address).await.unwrap();
    let request = b"GET /test/ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    third.write_all(request).await.unwrap();
    let mut read = Vec::new();
    let early =
        tokio::time::timeout(Duration::from_millis(300), third.read_to_end(&mut read)).await;
    assert!(early.is_err(), "answered above the limit");
    drop(first);
    tokio::time::timeout(Duration::from_secs(5), third.read_to_end(&mut read))
        .await
        .expect("it gets the free place")
        .unwrap();
    assert!(String::from_utf8_lossy(&read).starts_with("HTTP/1.1 200 OK"));
}

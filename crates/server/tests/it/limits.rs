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
async fn a_client_that_takes_nothing_of_its_answers_is_disconnected() {
    let vars = [
        ("UTXOIQ_STORE_SERVER__REQUEST_TIMEOUT_SECONDS", "1"),
        (
            "UTXOIQ_STORE_DATABASE__STATEMENT_TIMEOUT_MILLISECONDS",
            "500",
        ),
        ("UTXOIQ_STORE_DATABASE__LOCK_TIMEOUT_MILLISECONDS", "500"),
    ];
    let (address, _stop, _served) = listening(&vars).await;
    let mut deaf = TcpStream::connect(address).await.unwrap();
    // More than the system's buffers hold between the two.
    let times = 4_000;
    let request = "GET /test/page HTTP/1.1\r\nHost: x\r\n\r\n".repeat(times);
    let (mut reader, mut writer) = deaf.split();
    let sending = async {
        let sent = tokio::time::timeout(Duration::from_secs(6), async {
            loop {
                writer.write_all(request.as_bytes()).await?;
            }
            #[expect(unreachable_code, reason = "says of which type it is")]
            std::io::Result::Ok(())
        });
        sent.await.expect("it is disconnected").unwrap_err()
    };
    let error = sending.await;
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest).await;
    assert!(
        matches!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_beyond_the_limit_gets_the_place_of_one_without_a_request() {
    let (address, _stop, _served) =
        listening(&[("UTXOIQ_STORE_SERVER__MAX_CONNECTIONS", "2")]).await;
    let request =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut working = TcpStream::connect(address).await.unwrap();
    let slow = request("/test/slow");
    working.write_all(slow.as_bytes()).await.unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;

    let answer = async |stream: &mut TcpStream| {
        let mut read = Vec::new();
        let reading = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut read));
        reading.await.expect("it ends").unwrap();
        String::from_utf8(read).unwrap()
    };
    let mut third = TcpStream::connect(address).await.unwrap();
    third
        .write_all(request("/test/ok").as_bytes())
        .await
        .unwrap();
    assert!(answer(&mut third).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(answer(&mut silent).await, "", "it said nothing");
    assert!(answer(&mut working).await.starts_with("HTTP/1.1 200 OK"));
}

//! Each mode of the proxy, in front of a server that answers every line with itself.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use utxoiq_store_testkit::proxy::Ending;
use utxoiq_store_testkit::{FaultProxy, Mode};

const SOON: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_millis(150);

async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    addr
}

async fn proxied() -> FaultProxy {
    FaultProxy::start(echo_server().await).await
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello").await?;
    hear(stream).await
}

async fn hear(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut answer = [0; 5];
    timeout(SOON, stream.read_exact(&mut answer))
        .await
        .map_err(|_| ErrorKind::TimedOut)??;
    assert_eq!(&answer, b"hello");
    Ok(())
}

#[tokio::test]
async fn passing_forwards_both_ways_and_counts() {
    let proxy = proxied().await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    ask(&mut stream).await.unwrap();
    assert_eq!((proxy.bytes_to_upstream(), proxy.bytes_to_client()), (5, 5));
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
}

#[tokio::test]
async fn the_end_of_one_direction_is_passed_on_alone() {
    let proxy = proxied().await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, "hello");
}

#[tokio::test]
async fn refusing_lets_present_connections_be_and_the_same_port_opens_again() {
    let proxy = proxied().await;
    let mut present = TcpStream::connect(proxy.addr()).await.unwrap();
    ask(&mut present).await.unwrap();
    for _ in 0..3 {
        proxy.set(Mode::Refuse).await;
        for _ in 0..50 {
            let error = TcpStream::connect(proxy.addr()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        ask(&mut present).await.unwrap();
        proxy.set(Mode::Pass).await;
        ask(&mut TcpStream::connect(proxy.addr()).await.unwrap())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_cut_ends_present_connections_and_new_ones_pass() {
    let proxy = proxied().await;
    for ending in [Ending::Reset, Ending::Close] {
        let mut streams = Vec::new();
        for _ in 0..10 {
            let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
            ask(&mut stream).await.unwrap();
            streams.push(stream);
        }
        assert_eq!(proxy.open(), 10);
        proxy.cut(ending).await;
        assert_eq!(proxy.open(), 0);
        for mut stream in streams {
            let end = stream.read(&mut [0; 1]).await;
            match ending {
                Ending::Reset => assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset),
                Ending::Close => assert_eq!(end.unwrap(), 0),
            }
        }
        ask(&mut TcpStream::connect(proxy.addr()).await.unwrap())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn silence_freezes_old_and_new_connections_and_holds_what_was_said() {
    let proxy = proxied().await;
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    ask(&mut old).await.unwrap();
    proxy.set(Mode::Silent).await;
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    for stream in [&mut old, &mut new] {
        stream.write_all(b"hello").await.unwrap();
        assert!(
            timeout(A_WHILE, stream.read(&mut [0; 1])).await.is_err(),
            "nothing may come"
        );
    }
    assert_eq!(proxy.bytes_to_upstream(), 5);
    proxy.set(Mode::Pass).await;
    for stream in [&mut old, &mut new] {
        hear(stream).await.unwrap();
    }
}

#[tokio::test]
async fn a_delay_lengthens_the_link_and_does_not_narrow_it() {
    let proxy = proxied().await;
    proxy.set(Mode::Delay(A_WHILE)).await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    let start = Instant::now();
    for _ in 0..5 {
        stream.write_all(b"hello").await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..5 {
        hear(&mut stream).await.unwrap();
    }
    let took = start.elapsed();
    assert!(
        took >= A_WHILE * 2,
        "there and back takes twice the delay, not {took:?}"
    );
    assert!(
        took < A_WHILE * 10,
        "five messages on their way at once, not one after the other: {took:?}"
    );
}

#[tokio::test]
async fn dropped_connections_are_counted_with_their_times() {
    let proxy = proxied().await;
    let mut present = TcpStream::connect(proxy.addr()).await.unwrap();
    ask(&mut present).await.unwrap();
    proxy.forget_attempts();
    proxy.set(Mode::DropNew).await;
    for gap in [10, 40, 160] {
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(gap)).await;
    }
    ask(&mut present).await.unwrap();
    let attempts = proxy.attempts();
    assert_eq!(attempts.iter().filter(|attempt| !attempt.kept).count(), 3);
    assert!(attempts[1].at - attempts[0].at >= Duration::from_millis(10));
    assert!(attempts[2].at - attempts[1].at >= Duration::from_millis(40));
}

#[tokio::test]
async fn an_upstream_that_is_away_closes_the_connection() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], utxoiq_store_testkit::ports::free_port()));
    let proxy = FaultProxy::start(nobody).await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn dropping_the_proxy_closes_everything() {
    let proxy = proxied().await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    ask(&mut stream).await.unwrap();
    let addr = proxy.addr();
    drop(proxy);
    assert_eq!(
        timeout(SOON, stream.read(&mut [0; 1]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    let refused = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, refused).await.unwrap();
}

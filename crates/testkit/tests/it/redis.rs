//! A Redis that answers, freezes, dies and comes back empty.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use utxoiq_store_testkit::RedisServer;

/// Sends inline commands; the answers are short enough to come in one piece each.
struct Client {
    stream: TcpStream,
}

impl Client {
    async fn connect(server: &RedisServer) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port()))
            .await
            .unwrap();
        let mut client = Self { stream };
        let url = server.url();
        let password = url
            .trim_start_matches("redis://default:")
            .split('@')
            .next()
            .unwrap();
        assert_eq!(client.ask(&format!("AUTH {password}")).await, "+OK\r\n");
        client
    }

    async fn ask(&mut self, command: &str) -> String {
        self.stream
            .write_all(format!("{command}\r\n").as_bytes())
            .await
            .unwrap();
        self.hear().await
    }

    async fn hear(&mut self) -> String {
        let mut answer = vec![0; 1024];
        let length = self.stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }
}

#[tokio::test]
async fn redis_answers_freezes_dies_and_returns_empty() {
    if !RedisServer::is_available() {
        println!("no Redis on this machine: nothing tested");
        return;
    }
    let server = RedisServer::start_with("maxmemory 64mb").await;
    let mut stranger = TcpStream::connect(("127.0.0.1", server.port()))
        .await
        .unwrap();
    stranger.write_all(b"GET key\r\n").await.unwrap();
    let mut answer = [0; 7];
    stranger.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"-NOAUTH");

    let mut client = Client::connect(&server).await;
    assert_eq!(client.ask("SET key value").await, "+OK\r\n");
    assert_eq!(
        client.ask("CONFIG GET maxmemory").await,
        "*2\r\n$9\r\nmaxmemory\r\n$8\r\n67108864\r\n"
    );

    server.freeze();
    client.stream.write_all(b"GET key\r\n").await.unwrap();
    assert!(
        timeout(Duration::from_millis(150), client.hear())
            .await
            .is_err(),
        "frozen"
    );
    server.thaw();
    assert_eq!(client.hear().await, "$5\r\nvalue\r\n");

    for round in 0..2 {
        server.freeze();
        if round == 0 {
            server.kill9().await;
        } else {
            server.stop().await;
        }
        assert!(
            TcpStream::connect(("127.0.0.1", server.port()))
                .await
                .is_err()
        );
        server.start_again().await;
        client = Client::connect(&server).await;
        assert_eq!(client.ask("GET key").await, "$-1\r\n");
        assert_eq!(client.ask("SET key value").await, "+OK\r\n");
    }
    server.restart().await;
    Client::connect(&server).await;
}

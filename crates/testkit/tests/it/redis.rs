//! A Redis that answers, freezes, dies and comes back empty.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use utxoiq_store_testkit::{RedisServer, redis::Reply};

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

#[tokio::test]
async fn what_redis_holds_is_overwritten_evicted_and_put_back() {
    if !RedisServer::is_available() {
        println!("no Redis on this machine: nothing tested");
        return;
    }
    let server = RedisServer::start().await;
    for number in 0..40 {
        let key = format!("key {number:02}");
        server.ask(&["SET", &key, "old", "EX", "100"]).await;
    }
    server.save().await;

    assert_eq!(server.fill_with_garbage(1).await, 40);
    let mut wrong_types = 0;
    for key in server.keys().await {
        let key = String::from_utf8(key).unwrap();
        match server.ask(&["GET", &key]).await {
            Reply::Bulk(value) => assert_ne!(value, b"old"),
            Reply::Error(refusal) => {
                assert!(refusal.starts_with("WRONGTYPE"), "{refusal}");
                wrong_types += 1;
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            server.ask(&["TTL", &key]).await,
            Reply::Integer(1..)
        ));
    }
    assert!(wrong_types > 0, "the seed has none");

    let removed = server.remove_some(1).await;
    assert!((1..40).contains(&removed), "{removed}");
    assert_eq!(server.keys().await.len(), 40 - removed);

    server.kill9().await;
    server.start_again_with_saved().await;
    assert_eq!(
        server.ask(&["GET", "key 00"]).await,
        Reply::Bulk(b"old".to_vec())
    );
    assert_eq!(server.keys().await.len(), 40);

    server.shrink().await;
    let refused = server.ask(&["SET", "key", "value"]).await;
    assert!(
        matches!(&refused, Reply::Error(text) if text.starts_with("OOM")),
        "{refused:?}"
    );
    assert_eq!(server.keys().await.len(), 0);
    server.grow().await;
    assert_eq!(
        server.ask(&["SET", "key", "value"]).await,
        Reply::Status("OK".to_owned())
    );
    server.flush().await;
    assert_eq!(server.ask(&["GET", "key"]).await, Reply::Nil);

    server.ask(&["SET", "key", "value"]).await;
    server.kill9().await;
    server.start_again().await;
    assert_eq!(server.keys().await.len(), 0, "a start is empty unless told");
}

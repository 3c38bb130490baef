//! The attacks.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::Service;

/// How many connections are opened at once and kept.
const MANY: usize = 10_000;

/// Where, and with which token.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    token: String,
}

type Attack<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Every attack by its name.
pub fn all(target: &Target) -> Vec<(&'static str, Attack<'_>)> {
    vec![
        ("connections that say nothing", Box::pin(target.silent())),
        ("heads that trickle", Box::pin(target.slow_heads())),
        ("bodies that trickle", Box::pin(target.slow_bodies())),
        (
            "bodies that stop before their end",
            Box::pin(target.torn_bodies()),
        ),
        ("bodies of a gigabyte", Box::pin(target.huge_bodies())),
        ("deep and wide JSON", Box::pin(target.deep_json())),
        ("floods of headers", Box::pin(target.headers())),
        (
            "requests whose answers nobody reads",
            Box::pin(target.deaf()),
        ),
    ]
}

impl Target {
    pub fn of(service: &Service) -> Self {
        let url = service.url("");
        Self {
            address: url.trim_start_matches("http://").parse().unwrap(),
            token: service.token().to_owned(),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The head of a POST that is well-formed and allowed.
    fn head(&self, more: &str) -> String {
        format!(
            "POST /api/v1/feedback/rate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n{more}\r\n",
            self.token
        )
    }

    /// Sends a request, and gives the status of its answer; `None` where the connection was closed without one.
    async fn status(&self, head: &str, pieces: impl Iterator<Item = Vec<u8>>) -> Option<u16> {
        let (mut reader, mut writer) = self.connect().await.into_split();
        let head = head.as_bytes().to_vec();
        let pieces: Vec<_> = pieces.collect();
        let sending = tokio::spawn(async move {
            for piece in std::iter::once(head).chain(pieces) {
                if writer.write_all(&piece).await.is_err() {
                    break;
                }
            }
            writer
        });
        let mut answer = [0; 12];
        let read = reader.read_exact(&mut answer).await;
        sending.abort();
        read.ok()?;
        std::str::from_utf8(&answer[9..]).ok()?.parse().ok()
    }

    async fn silent(&self) {
        let opened = (0..MANY).map(|_| TcpStream::connect(self.address));
        let mut opened: Vec<_> = Box::pin(join_all(opened)).await;
        opened.retain(Result::is_ok);
        assert!(
            opened.len() > MANY / 2,
            "only {} could be opened",
            opened.len()
        );
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    /// Connections that each send a byte of `text` every 200 ms, `rounds` times.
    async fn trickle(
        &self,
        connections: usize,
        begin: &str,
        text: &str,
        rounds: usize,
    ) -> Vec<TcpStream> {
        let mut opened = Vec::new();
        for _ in 0..connections {
            let mut stream = self.connect().await;
            stream.write_all(begin.as_bytes()).await.unwrap();
            opened.push(stream);
        }
        for byte in text.bytes().cycle().take(rounds) {
            for stream in &mut opened {
                // One that was closed has had its turn.
                let _ = stream.write_all(&[byte]).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        opened
    }

    async fn slow_heads(&self) {
        let begin = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ";
        let _opened = self.trickle(6_000, begin, "slow", 15).await;
    }

    async fn slow_bodies(&self) {
        let begin = self.head("Content-Length: 1000\r\n");
        let opened = self.trickle(2_000, &begin, "{", 15).await;
        let mut refused = 0;
        for mut stream in opened {
            let mut answer = String::new();
            let reading = stream.read_to_string(&mut answer);
            let ended = tokio::time::timeout(Duration::from_secs(10), reading).await;
            assert!(ended.is_ok(), "a body that trickles keeps its connection");
            refused += usize::from(answer.starts_with("HTTP/1.1 408"));
        }
        // Whoever still sent when the connection was closed sees the reset before the answer.
        assert!(refused > 100, "only {refused} were told 408");
    }

    async fn torn_bodies(&self) {
        let begin = self.head("Content-Length: 4194304\r\n").into_bytes();
        let most = vec![b' '; 4_000_000];
        let each = (0..200).map(|_| async {
            let mut stream = self.connect().await;
            let _ = stream.write_all(&begin).await;
            let _ = stream.write_all(&most).await;
            stream
        });
        let _opened = join_all(each).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    async fn huge_bodies(&self) {
        let promised = self.head("Content-Length: 1073741824\r\n");
        assert_eq!(self.status(&promised, std::iter::empty()).await, Some(413));
        let chunked = self.head("Transfer-Encoding: chunked\r\n");
        let each = (0..8).map(|_| async {
            let (mut reader, mut writer) = self.connect().await.into_split();
            writer.write_all(chunked.as_bytes()).await.unwrap();
            let piece = [b"100000\r\n", &vec![b' '; 1 << 20][..], b"\r\n"].concat();
            let mut sent = 0_u64;
            while sent < 1 << 30 && writer.write_all(&piece).await.is_ok() {
                sent += 1 << 20;
            }
            let mut answer = Vec::new();
            let _ = reader.read_to_end(&mut answer).await;
            sent
        });
        for sent in join_all(each).await {
            assert!(sent < 64 << 20, "{sent} bytes of a body were taken");
        }
    }

    async fn deep_json(&self) {
        let list = |item: &str| {
            let items = 4_190_000 / (item.len() + 1);
            format!("[{}1]", format!("{item},").repeat(items)).into_bytes()
        };
        let object = {
            let fields: Vec<_> = (0..150_000).map(|n| format!("\"k{n}\":[{n}]")).collect();
            format!("{{{}}}", fields.join(",")).into_bytes()
        };
        let bodies = [
            vec![b'['; 4_000_000],
            "{\"a\":".repeat(800_000).into_bytes(),
            list("1"),
            list("[]"),
            list("{}"),
            object,
        ];
        let each = bodies.iter().flat_map(|body| {
            let head = self.head(&format!("Content-Length: {}\r\n", body.len()));
            (0..4).map(move |_| {
                let head = head.clone();
                async move { self.status(&head, std::iter::once(body.clone())).await }
            })
        });
        for status in join_all(each).await {
            assert!(matches!(status, Some(422 | 503)), "{status:?}");
        }
    }

    async fn headers(&self) {
        let headers = |count| "x-same: y\r\n".repeat(count);
        let (many, few) = (headers(5_000), headers(90));
        let long = format!("x-long: {}\r\n", "y".repeat(1 << 20));
        let path = format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(1 << 20));
        for (head, wanted) in [
            (self.head(&many), 431),
            (self.head(&long), 431),
            (path, 431),
            (self.head(&few), 422),
        ] {
            let each = (0..50).map(|_| self.status(&head, std::iter::empty()));
            for status in join_all(each).await {
                // Whoever still sent when the connection was closed sees the reset before the answer.
                assert!(
                    status.is_none_or(|status| status == wanted),
                    "{status:?}, not {wanted}"
                );
            }
        }
    }

    async fn deaf(&self) {
        let request = format!(
            "GET /openapi.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
            self.token
        );
        let requests = request.repeat(200);
        let each = (0..200).map(|_| async {
            let mut stream = self.connect().await;
            let sending = stream.write_all(requests.as_bytes());
            let _ = tokio::time::timeout(Duration::from_secs(5), sending).await;
            stream
        });
        let _opened = join_all(each).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

//! Served TLS, slow bodies, and the headers that browsers heed.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use reqwest::{Certificate, Client};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use utxoiq_store_server::{router_of, serve_router};
use utxoiq_store_testkit::{Authority, Issued};

use crate::{
    limits::listening,
    support::{call, settings, state, test_routes, test_service},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A client that trusts one authority and nobody else.
fn client(authority: &Authority) -> Client {
    utxoiq_store::cold::use_ring();
    let ca = Certificate::from_pem(&fs::read(authority.file()).unwrap()).unwrap();
    let builder = Client::builder().tls_certs_only([ca]).no_proxy();
    builder.timeout(PATIENCE).build().unwrap()
}

fn vars(issued: &Issued) -> [(&'static str, String); 3] {
    let shown = |path: &Path| path.display().to_string();
    [
        (
            "UTXOIQ_STORE_SERVER__TLS_CERTIFICATE_FILE",
            shown(&issued.certificate_file),
        ),
        ("UTXOIQ_STORE_SERVER__TLS_KEY_FILE", shown(&issued.key_file)),
        ("UTXOIQ_STORE_SERVER__TLS_RELOAD_SECONDS", "1".to_owned()),
    ]
}

async fn ok(client: &Client, address: SocketAddr) -> reqwest::Result<reqwest::Response> {
    client
        .get(format!("https://{address}/test/ok"))
        .send()
        .await
}

#[tokio::test]
async fn tls_is_served_and_its_certificate_changes_without_a_restart() {
    let (first, second) = (Authority::new(), Authority::new());
    let folder = TempDir::new().unwrap();
    let files = first.issue(&["127.0.0.1"]).copied_to(folder.path());
    let vars = vars(&files);
    let vars = vars.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (address, stop, served) = listening(&vars).await;

    let old = client(&first);
    let answer = ok(&old, address).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.version(), reqwest::Version::HTTP_11);
    let hsts = answer.headers()["strict-transport-security"].to_str();
    assert!(hsts.unwrap().starts_with("max-age="));
    answer.bytes().await.unwrap();
    assert!(ok(&client(&second), address).await.is_err());
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET /test/ok HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");

    // Half a rotation: what was served goes on, also to new clients.
    let next = second.issue(&["127.0.0.1"]);
    fs::copy(&next.certificate_file, &files.certificate_file).unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(ok(&client(&first), address).await.unwrap().status(), 200);
    next.replace(&files);
    let began = Instant::now();
    while ok(&client(&second), address).await.is_err() {
        assert!(
            began.elapsed() < PATIENCE,
            "the new certificate is not served"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(ok(&client(&first), address).await.is_err());
    // Its connection is older than the new certificate.
    assert_eq!(ok(&old, address).await.unwrap().status(), 200);
    fs::remove_file(&files.key_file).unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(ok(&client(&second), address).await.unwrap().status(), 200);
    drop(stop);
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_handshake_holds_nobody_up_and_ends_in_time() {
    let authority = Authority::new();
    let vars = vars(&authority.issue(&["127.0.0.1"]));
    let mut vars = vars
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()))
        .to_vec();
    vars.push(("UTXOIQ_STORE_SERVER__HEADER_TIMEOUT_SECONDS", "1"));
    vars.push(("UTXOIQ_STORE_SERVER__MAX_CONNECTIONS", "3"));
    let (address, stop, served) = listening(&vars).await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let _other = TcpStream::connect(address).await.unwrap();
    let client = client(&authority);
    assert_eq!(ok(&client, address).await.unwrap().status(), 200);
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    let mut said = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut said));
    closed.await.expect("it is closed").unwrap();
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(900) && took < Duration::from_secs(4),
        "{took:?}"
    );
    // Nor does it hold up the end.
    let _late = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop((client, stop));
    let began = Instant::now();
    served.await.unwrap().unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(800),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_certificate_that_cannot_be_served_stops_the_start() {
    let authority = Authority::new();
    let (one, other) = (authority.issue(&["a.test"]), authority.issue(&["b.test"]));
    let mixed = Issued {
        key_file: other.key_file.clone(),
        ..one.clone()
    };
    let missing = Issued {
        certificate_file: "/no/such.pem".into(),
        ..one.clone()
    };
    let swapped = Issued {
        certificate_file: one.key_file.clone(),
        key_file: one.certificate_file.clone(),
    };
    for (issued, why) in [
        (mixed, "do not go together"),
        (missing, "/no/such.pem"),
        (swapped, "has no certificate"),
    ] {
        let vars = vars(&issued);
        let vars = vars.each_ref().map(|(name, value)| (*name, value.as_str()));
        let state = state(settings(&vars));
        let router = router_of(&state, vec![test_routes()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = serve_router(listener, router, state, std::future::pending());
        let error = served.await.unwrap_err();
        assert_eq!(error.code(), "invalid_config");
        assert!(error.message().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_body_that_trickles_gets_408_and_its_connection_closes() {
    let vars = [
        ("UTXOIQ_STORE_SERVER__REQUEST_TIMEOUT_SECONDS", "1"),
        (
            "UTXOIQ_STORE_DATABASE__STATEMENT_TIMEOUT_MILLISECONDS",
            "900",
        ),
        ("UTXOIQ_STORE_DATABASE__LOCK_TIMEOUT_MILLISECONDS", "900"),
    ];
    let (address, _stop, _served) = listening(&vars).await;
    for sent in [b" ".as_slice(), b""] {
        let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
        let head = "POST /test/body HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
        writing.write_all(head.as_bytes()).await.unwrap();
        let trickling = tokio::spawn(async move {
            while writing.write_all(sent).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let began = Instant::now();
        let mut answer = Vec::new();
        // Closed with bytes unread it may be reset, after the answer.
        let _ = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut answer))
            .await
            .expect("it is closed");
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("\"body_timeout\""), "{answer}");
        assert!(
            began.elapsed() < Duration::from_millis(1_500),
            "{:?}",
            began.elapsed()
        );
        trickling.abort();
    }
}

#[tokio::test]
async fn every_answer_has_the_headers_that_browsers_heed_and_a_page_keeps_its_own() {
    let service = test_service(&[]);
    for (path, status) in [("/test/ok", 200), ("/nothing", 404), ("/test/panic", 500)] {
        let answer = call(&service, "GET", path, None).await;
        assert_eq!(answer.status, status);
        answer.assert_common_headers();
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(
            answer.header("cross-origin-resource-policy"),
            Some("same-origin")
        );
        let nothing = "default-src 'none'; frame-ancestors 'none'";
        assert_eq!(answer.header("content-security-policy"), Some(nothing));
        assert_eq!(answer.header("strict-transport-security"), None);
    }
    let page = call(&service, "GET", "/test/page", None).await;
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'));
    assert_eq!(
        page.headers
            .get_all("content-security-policy")
            .iter()
            .count(),
        1
    );
    let behind = test_service(&[("UTXOIQ_STORE_SERVER__BEHIND_TLS", "true")]);
    let answer = call(&behind, "GET", "/test/ok", None).await;
    assert!(answer.header("strict-transport-security").is_some());
}

//! Stopping.

use std::time::{Duration, Instant};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::limits::listening;

#[tokio::test]
async fn a_request_under_way_is_finished_and_nothing_new_is_accepted() {
    let (address, stop, served) = listening(&[]).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let slow = tokio::spawn(reqwest::get(format!("http://{address}/test/slow")));
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        TcpStream::connect(address).await.is_err(),
        "still accepting"
    );
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(1), idle.read_to_end(&mut rest))
        .await
        .expect("idle connections close at once");
    assert_eq!(closed.unwrap(), 0);
    let answer = slow.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "done");
    tokio::time::timeout(Duration::from_secs(1), served)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_is_not_finished_within_the_grace_period_is_cut_off() {
    let (address, stop, served) =
        listening(&[("UTXOIQ_STORE_SERVER__SHUTDOWN_GRACE_SECONDS", "0")]).await;
    let slow = tokio::spawn(reqwest::get(format!("http://{address}/test/slow")));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
    assert!(slow.await.unwrap().is_err());
    assert!(began.elapsed() < Duration::from_secs(10));
}

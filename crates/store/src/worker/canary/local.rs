//! What needs no database.

use std::time::{Duration, Instant};

use tokio::{net::TcpListener, sync::mpsc};

use super::{Seen, Trial};
use crate::{
    config::{Config, DatabaseSettings, Secret, TlsMode},
    db::Pool,
};

/// C6.4: a server that hangs up is asked again, by the settings of this process.
pub(super) async fn try_retries(trial: &mut Trial<'_>, config: &Config) {
    let work = retries(config);
    trial
        .step("C6.4", "connect to a server that hangs up", async {
            Ok((work.await?, ()))
        })
        .await;
}

async fn retries(config: &Config) -> Seen {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (sender, mut attempts) = mpsc::unbounded_channel();
    let hanging_up = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            drop(socket);
            let _ = sender.send(Instant::now());
        }
    });
    let settings = DatabaseSettings {
        url: Some(Secret::new(format!("postgresql://probe@{address}/probe"))),
        tls: Some(TlsMode::Disable),
        tls_ca_file: None,
        tls_certificate_file: None,
        tls_key_file: None,
        password_source: Secret::new("url"),
        pool_min: 0,
        pool_max: 1,
        acquire_timeout_milliseconds: 30_000,
        ..config.database.clone()
    };
    let pool = Pool::open(&settings)?;
    let got = pool.get().await;
    pool.close();
    hanging_up.abort();
    if got.is_ok() {
        return Err("a server that hangs up gave a connection".into());
    }
    let mut times = Vec::new();
    while let Ok(at) = attempts.try_recv() {
        times.push(at);
    }
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let retries = gaps.len();
    let shown: Vec<String> = gaps
        .iter()
        .map(|gap| format!("{} ms", gap.as_millis()))
        .collect();
    if !(1..=3).contains(&retries) {
        return Err(format!("it was retried {retries} times").into());
    }
    // Each pause is at least twice the base of the one before; what comes on top is at most a half.
    let base = Duration::from_millis(config.database.connect_backoff_milliseconds);
    let is_exponential = gaps
        .iter()
        .zip(0_u32..)
        .all(|(gap, nth)| *gap >= base * 2_u32.pow(nth));
    if !is_exponential {
        return Err(format!("the pauses do not double: {}", shown.join(", ")).into());
    }
    Ok(format!(
        "retried {retries} times after {}",
        shown.join(", ")
    ))
}

//! Redis: whether it is there.
//!
//! The store works without it (C4.5), so nothing here delays or fails a start. A task asks it once a second and keeps
//! the answer; readers of [`Cache::probe`] cause no traffic.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::{
    Client, IntoConnectionInfo, ProtocolVersion, RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::task::JoinHandle;

use crate::{
    config::RedisSettings,
    error::{Error, Result},
};

/// How often Redis is asked.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Whether Redis is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheState {
    /// None is configured.
    Off,
    /// It answered the last ping.
    Up,
    /// It did not answer the last ping, or was not asked yet.
    Down,
}

/// The cache. Clones share it; its pings end with the last of them.
#[derive(Clone)]
pub struct Cache {
    state: Arc<AtomicU8>,
    _pings: Option<Arc<AbortOnDrop>>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("state", &self.probe())
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// Makes the cache; connects in the background. Fails only on an address that is none.
    pub fn open(settings: &RedisSettings) -> Result<Self> {
        let Some(url) = &settings.url else {
            return Ok(Self {
                state: Arc::new(AtomicU8::new(CacheState::Off as u8)),
                _pings: None,
            });
        };
        let timeout = Duration::from_millis(settings.response_timeout_milliseconds);
        // The error is left out: it may quote the address, which holds the password.
        let connection = connect(url.expose(), timeout).map_err(|_| {
            Error::invalid(
                "invalid_config",
                "redis.url is not an address that can be used: redis://:password@host:port/0 or unix:///path",
            )
        })?;
        let state = Arc::new(AtomicU8::new(CacheState::Down as u8));
        let pings = tokio::spawn(ping_forever(connection, Arc::clone(&state)));
        Ok(Self {
            state,
            _pings: Some(Arc::new(AbortOnDrop(pings))),
        })
    }

    /// What the last ping found; no traffic.
    pub fn probe(&self) -> CacheState {
        match self.state.load(Relaxed) {
            state if state == CacheState::Off as u8 => CacheState::Off,
            state if state == CacheState::Up as u8 => CacheState::Up,
            _ => CacheState::Down,
        }
    }
}

/// A connection that is made on first use and again after each loss. No retries: they would block every call for
/// their whole backoff while the server is away.
fn connect(url: &str, timeout: Duration) -> RedisResult<ConnectionManager> {
    let info = url.into_connection_info()?;
    let redis = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    let client = Client::open(info.set_redis_settings(redis))?;
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(Some(PING_INTERVAL))
        .set_response_timeout(Some(timeout));
    ConnectionManager::new_lazy_with_config(client, config)
}

async fn ping(connection: &mut ConnectionManager) -> RedisResult<()> {
    redis::cmd("PING").exec_async(connection).await
}

/// The thin loop: asks, keeps the answer, sleeps.
async fn ping_forever(mut connection: ConnectionManager, state: Arc<AtomicU8>) {
    let mut ticks = tokio::time::interval(PING_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        ticks.tick().await;
        let mut pong = ping(&mut connection).await;
        if pong.is_err() {
            // A command over a lost connection fails and starts a new connection; only the next one uses it.
            pong = ping(&mut connection).await;
        }
        let found = if pong.is_ok() {
            CacheState::Up
        } else {
            CacheState::Down
        };
        if last != Some(found) {
            match pong {
                Ok(()) => tracing::info!("Redis answers"),
                Err(error) => {
                    tracing::warn!(%error, "Redis does not answer; the database answers alone");
                }
            }
        }
        last = Some(found);
        state.store(found as u8, Relaxed);
    }
}

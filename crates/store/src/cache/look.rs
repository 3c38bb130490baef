//! What a Redis says of itself, for whoever looks whether it suits.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

use super::wire::Connector;
use crate::{
    config::Config,
    error::{Error, Result},
};

/// A Redis, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Its version.
    pub version: String,
    /// What it does when its memory is full; `None` where it does not tell.
    pub maxmemory_policy: Option<String>,
    /// The most memory that it takes, in bytes; 0: as much as there is.
    pub maxmemory: u64,
    /// The time by its clock; `None` where it does not tell.
    pub time: Option<DateTime<Utc>>,
    /// How long it was on the way when its clock was read.
    pub round_trip: Duration,
    /// How long a command takes: the middle one of several.
    pub latency: Duration,
}

/// Asks the configured Redis, with the connection that the cache would have; `None` where none is configured.
///
/// # Errors
///
/// `redis_unreachable`, and what is wrong with the address.
pub async fn look(config: &Config) -> Result<Option<Look>> {
    const PINGS: usize = 9;
    let Some(url) = &config.redis.url else {
        return Ok(None);
    };
    let wire = Connector::new(url.expose(), &config.redis)?
        .connect()
        .await
        .map_err(|error| unreachable(&error.to_string()))?;
    let mut took = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let started = Instant::now();
        wire.ping()
            .await
            .map_err(|_| unreachable("it does not answer"))?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    let ask = async |section: &str| -> Result<HashMap<String, String>> {
        let text: Option<String> = wire
            .tell(redis::cmd("INFO").arg(section))
            .await
            .map_err(|_| unreachable("it does not answer"))?;
        Ok(members(&text.unwrap_or_default()))
    };
    let (server, memory) = (ask("server").await?, ask("memory").await?);
    let started = Instant::now();
    let time: Option<(i64, u32)> = wire
        .tell(&redis::cmd("TIME"))
        .await
        .map_err(|_| unreachable("it does not answer"))?;
    let figure = |name: &str| memory.get(name).and_then(|text| text.parse().ok());
    Ok(Some(Look {
        version: server.get("redis_version").cloned().unwrap_or_default(),
        maxmemory_policy: memory.get("maxmemory_policy").cloned(),
        maxmemory: figure("maxmemory").unwrap_or_default(),
        time: time.and_then(|(seconds, micros)| {
            DateTime::from_timestamp(seconds, micros.saturating_mul(1_000))
        }),
        round_trip: started.elapsed(),
        latency: took.get(PINGS / 2).copied().unwrap_or_default(),
    }))
}

fn members(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn unreachable(why: &str) -> Error {
    Error::unavailable(
        "redis_unreachable",
        format!("Redis cannot be reached: {why}"),
    )
}

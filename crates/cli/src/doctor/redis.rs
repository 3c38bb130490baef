//! Redis, and clocks.

use chrono::{DateTime, TimeDelta, Utc};
use utxoiq_store::cache::look::{self, Look};

use super::{Around, Finding};

const CACHE: &str = "docs/operations/cache.md";

/// How far apart clocks may be: leases last 15 s and more.
const NOTABLE: TimeDelta = TimeDelta::seconds(1);
const WRONG: TimeDelta = TimeDelta::seconds(5);

/// The oldest major version.
const OLDEST: u32 = 6;

/// Whether it is there, and suits.
pub async fn look(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "redis";
    let before = around.clock.now();
    match look::look(&around.config).await {
        Ok(None) => vec![Finding::skipped(
            CHECK,
            "redis.url is not set: everything is answered from the database and this process",
        )],
        Err(error) => vec![Finding::failed(
            CHECK,
            format!("{error}: everything is answered from the database"),
            format!("start Redis, or correct redis.url (REDIS_URL): {CACHE}"),
        )],
        Ok(Some(found)) => {
            let limit = around.config.redis.response_timeout_milliseconds;
            let after = around.clock.now();
            // When its clock was read lies before what the last command took.
            let halfway = after - TimeDelta::from_std(found.round_trip / 2).unwrap_or_default();
            vec![
                version(&found),
                latency(&found, limit),
                policy(&found),
                clock("redis clock", "Redis", found.time, halfway.max(before)),
            ]
        }
    }
}

fn version(found: &Look) -> Finding {
    const CHECK: &str = "redis";
    let major = found
        .version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    if major.is_some_and(|major: u32| major < OLDEST) {
        return Finding::failed(
            CHECK,
            format!("Redis {} is too old", found.version),
            "upgrade to Redis 6 or newer, or to Valkey",
        );
    }
    Finding::ok(CHECK, format!("Redis {} answers", found.version))
}

fn latency(found: &Look, limit: u64) -> Finding {
    const CHECK: &str = "redis latency";
    let took = found.latency;
    let says = format!("{:.1} ms a command", took.as_secs_f64() * 1_000.0);
    if took.as_millis() * 5 > u128::from(limit) {
        return Finding::warning(
            CHECK,
            format!("{says}, where {limit} ms declare it dead"),
            format!("move it into the network of the service, or look at its load: {CACHE}"),
        );
    }
    Finding::ok(CHECK, says)
}

/// A full Redis that evicts loses a value of a cache; one that does not refuses every further one.
fn policy(found: &Look) -> Finding {
    const CHECK: &str = "redis memory";
    let policy = found.maxmemory_policy.as_deref().unwrap_or("not told");
    let mebibytes = found.maxmemory / 1_048_576;
    if found.maxmemory > 0 && policy == "noeviction" {
        return Finding::warning(
            CHECK,
            format!(
                "maxmemory is {mebibytes} MiB and maxmemory-policy noeviction: when it is full, it takes no further values and counts no requests"
            ),
            format!(
                "set maxmemory-policy to allkeys-lru (`redis-cli config set maxmemory-policy allkeys-lru`): {CACHE}"
            ),
        );
    }
    if found.maxmemory == 0 {
        return Finding::ok(
            CHECK,
            "it takes as much memory as there is; every value has an end",
        );
    }
    Finding::ok(CHECK, format!("{mebibytes} MiB, {policy}"))
}

/// Whether a clock tells the time that this machine's does.
pub fn clock(
    check: &'static str,
    whose: &str,
    theirs: Option<DateTime<Utc>>,
    ours: DateTime<Utc>,
) -> Finding {
    let Some(theirs) = theirs else {
        return Finding::skipped(check, format!("{whose} does not tell the time"));
    };
    let ahead = theirs - ours;
    let apart = ahead.abs();
    let seconds = apart.num_milliseconds() as f64 / 1_000.0;
    let side = if ahead < TimeDelta::zero() {
        "behind"
    } else {
        "ahead of"
    };
    let says = format!("{whose} is {seconds:.3} s {side} this machine");
    let mend = "let NTP (chrony, systemd-timesyncd) set the clocks of both machines: `timedatectl` shows this one's";
    if apart >= WRONG {
        Finding::failed(check, says, mend)
    } else if apart >= NOTABLE {
        Finding::warning(check, says, mend)
    } else {
        Finding::ok(check, says)
    }
}

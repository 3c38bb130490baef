//! Attempts to come in with tokens that are none: so many a minute from one address, counted in this process.
//!
//! A token of the right form that is not known costs a query, and there are 2¹²⁸ of them. The pool is safe from that anyway
//! ([`TokenCache`](crate::token::TokenCache) looks strangers up two at a time); where the clients' own addresses are known, this
//! saves the queries as well. After `rate_limit.failed_logins_per_minute` of them an address is refused without a look-up, until
//! a minute after the first. What was right lately is looked up even
//! then ([`TokenCache::was_right`](crate::token::TokenCache::was_right)): many stand behind one address, and one of them must not
//! shut out the others.
//!
//! With 60 a minute, say, a program that tries with a wrong token once a second goes on hearing that the token is wrong, and a flood
//! costs one query a second. It is counted here and not in Redis, as what is protected is this process's connections, and who sends floods
//! must not be able to make round trips either.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use moka::{policy::EvictionPolicy, sync};

use super::window::{Rule, Window};

/// The most addresses remembered, the latest ones; some kilobytes each.
const MOST: u64 = 10_000;

const MINUTE: i64 = 60_000_000;

/// Failed attempts by address. Clones share them.
#[derive(Clone)]
pub struct Attempts(Arc<Inner>);

struct Inner {
    rule: Rule,
    failed: sync::Cache<IpAddr, Arc<Mutex<Window>>>,
    refused: AtomicU64,
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").finish_non_exhaustive()
    }
}

impl Attempts {
    /// So many a minute; 0: as many as there are.
    pub fn new(per_minute: u32) -> Self {
        Self(Arc::new(Inner {
            rule: Rule {
                quota: per_minute.into(),
                window: MINUTE,
            },
            failed: sync::Cache::builder()
                .max_capacity(MOST)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(Duration::from_mins(2))
                .build(),
            refused: AtomicU64::new(0),
        }))
    }

    /// How long an address has to wait that failed too often.
    pub fn refusal(&self, address: IpAddr, now: DateTime<Utc>) -> Option<Duration> {
        let inner = &self.0;
        // Nearly always: nobody has failed lately.
        if inner.failed.entry_count() == 0 {
            return None;
        }
        let window = inner.failed.get(&network(address))?;
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = window.until_below(inner.rule.quota, now.timestamp_micros());
        if wait.is_zero() {
            return None;
        }
        inner.refused.fetch_add(1, Relaxed);
        Some(wait)
    }

    /// Notes a failed attempt.
    pub fn failed(&self, address: IpAddr, now: DateTime<Utc>) {
        let inner = &self.0;
        if inner.rule.quota == 0 {
            return;
        }
        let window = inner.failed.get_with(network(address), || {
            Arc::new(Mutex::new(Window::new(inner.rule)))
        });
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        window.add(now.timestamp_micros(), 1);
        drop(window);
        // Makes the count right that is looked at first.
        if inner.failed.entry_count() == 0 {
            inner.failed.run_pending_tasks();
        }
    }

    /// Attempts refused without a look-up.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }
}

/// What one client has: an address of IPv4, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn an_address_that_fails_too_often_waits_a_minute_and_others_do_not() {
        let attempts = Attempts::new(3);
        let now = DateTime::UNIX_EPOCH;
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let refused = |text: &str, now| attempts.refusal(address(text), now);
        assert_eq!(refused("10.0.0.1", now), None);
        for second in [0, 10, 20] {
            let now = now + TimeDelta::seconds(second);
            assert_eq!(refused("10.0.0.1", now), None);
            attempts.failed(address("10.0.0.1"), now);
            attempts.failed(address(&format!("2001:db8:1:2::{second}")), now);
        }
        let now = now + TimeDelta::seconds(30);
        let wait = Some(Duration::from_secs(30));
        assert_eq!(refused("10.0.0.1", now), wait);
        assert_eq!(refused("::ffff:10.0.0.1", now), wait);
        assert_eq!(refused("10.0.0.2", now), None);
        assert_eq!(refused("2001:db8:1:2:ffff::1", now), wait);
        assert_eq!(refused("2001:db8:1:3::1", now), None);
        assert_eq!(attempts.refused(), 3);
        assert_eq!(refused("10.0.0.1", now + TimeDelta::seconds(30)), None);
    }

    #[test]
    fn zero_is_no_limit() {
        let attempts = Attempts::new(0);
        let address = IpAddr::from([10, 0, 0, 1]);
        attempts.failed(address, DateTime::UNIX_EPOCH);
        assert_eq!(attempts.refusal(address, DateTime::UNIX_EPOCH), None);
    }
}

//! Who makes too many requests waits.
//!
//! # What counts
//!
//! Every request of a caller that is known, whatever it is answered: one that is refused for its scope or its input has cost
//! the same look. Only a request that the limit itself refuses counts nothing, so that who waits as long as `Retry-After` says
//! is admitted. Liveness, readiness and the OpenAPI document have no caller, nor has a wrong token; see
//! [`Attempts`](utxoiq_store::limit::Attempts) for these.
//!
//! A service token that names a user in `X-User-Id` can be limited for that user (`rate_limit.acting_tier`), beside its own limit.
//! The user is the same one that comes with a token of the identity provider: it has one quota, not two, where both are of the same tier. The user's limit is
//! asked first. Should the token's own then refuse, the user has lost one request for it: until the token may come again, it
//! is refused from memory before anybody's request is counted.
//!
//! # What callers are told
//!
//! Each answer to a limited caller says how it stands, in the fields of the IETF's draft on `RateLimit` headers, as structured
//! fields: `RateLimit-Policy: "free";q=100;w=3600` (the tier: so many in so many seconds) and `RateLimit: "free";r=42;t=1800` (42
//! more may be made now; after 1,800 s some come back). Of two limits the stricter one is told. The `X-RateLimit-*` headers are
//! not sent: they never had one meaning, above all in whether their reset is a time or a number of seconds.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, Utc};
use utxoiq_store::{
    config::Tier,
    limit::{Limiter, Verdict},
    token::{Caller, Scope},
};

use crate::{
    auth,
    error::{ApiError, ApiResult},
};

/// The name of the header that tells a caller its quota.
pub const POLICY: &str = "RateLimit-Policy";

/// The name of the header that tells a caller what is left of it.
pub const LEFT: &str = "RateLimit";

static POLICY_HEADER: HeaderName = HeaderName::from_static("ratelimit-policy");
static LEFT_HEADER: HeaderName = HeaderName::from_static("ratelimit");

/// The limits that a request comes under. Most service tokens have none, and then this is all that is done.
pub(crate) struct Limits<'a> {
    limiter: &'a Limiter,
    caller: &'a Caller,
    own: Option<&'a Tier>,
    acting: Option<(&'a Tier, String)>,
}

/// How a caller stands, for the headers of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    name: String,
    quota: u64,
    window_seconds: u64,
    verdict: Verdict,
}

impl<'a> Limits<'a> {
    /// Those of a caller's request; `None` if it is not limited.
    pub fn of(limiter: &'a Limiter, caller: &'a Caller, headers: &HeaderMap) -> Option<Self> {
        let own = limiter.tier_of(caller);
        let acting = limiter.acting_tier();
        if own.is_none() && acting.is_none() {
            return None;
        }
        // A name that cannot be read is refused by the call that reads it.
        let named = acting
            .filter(|_| caller.has(Scope::ActAs))
            .and_then(|tier| {
                let user = auth::named_user(headers)?.ok()?;
                Some((tier, Caller::user_key(&user)))
            });
        (own.is_some() || named.is_some()).then_some(Self {
            limiter,
            caller,
            own,
            acting: named,
        })
    }

    /// Counts the request, or refuses it; either way says how its caller stands.
    pub async fn admit(
        self,
        now: DateTime<Utc>,
        standing: &mut Option<Box<Standing>>,
    ) -> ApiResult<()> {
        let limits: Vec<(&Tier, String)> = self
            .acting
            .into_iter()
            .chain(self.own.map(|tier| (tier, self.caller.key())))
            .collect();
        for (tier, key) in &limits {
            if let Some(refusal) = self.limiter.refusal(tier, key, now) {
                return Standing::new(tier, refusal).refuse(standing);
            }
        }
        for (tier, key) in &limits {
            let taken = Standing::new(tier, self.limiter.take(tier, key, now).await);
            if !taken.verdict.is_admitted {
                return taken.refuse(standing);
            }
            if standing
                .as_ref()
                .is_none_or(|other| taken.is_stricter(other))
            {
                *standing = Some(Box::new(taken));
            }
        }
        Ok(())
    }
}

impl Standing {
    fn new(tier: &Tier, verdict: Verdict) -> Self {
        Self {
            name: tier.name.clone(),
            quota: tier.quota,
            window_seconds: tier.window_seconds,
            verdict,
        }
    }

    fn is_stricter(&self, other: &Self) -> bool {
        let (own, others) = (&self.verdict, &other.verdict);
        (own.remaining, others.wait) < (others.remaining, own.wait)
    }

    /// Tells the caller that this limit is used up.
    fn refuse(self, standing: &mut Option<Box<Self>>) -> ApiResult<()> {
        let error =
            ApiError::rate_limited(self.quota, self.window_seconds, seconds(self.verdict.wait));
        *standing = Some(Box::new(self));
        Err(error)
    }

    /// Writes the headers.
    pub fn tell(&self, headers: &mut HeaderMap) {
        // A tier's name is made of small letters, digits, - and _.
        let policy = format!(
            "\"{}\";q={};w={}",
            self.name, self.quota, self.window_seconds
        );
        let left = format!(
            "\"{}\";r={};t={}",
            self.name,
            self.verdict.remaining,
            seconds(self.verdict.wait)
        );
        for (name, value) in [(&POLICY_HEADER, policy), (&LEFT_HEADER, left)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}

/// Whole seconds, rounded up: who waits so long has waited long enough, and nobody is told to come back at once.
pub(crate) fn seconds(wait: Duration) -> u64 {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    whole.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up_and_never_none() {
        let of = |millis| seconds(Duration::from_millis(millis));
        assert_eq!([0, 1, 999, 1_000, 1_001].map(of), [1, 1, 1, 1, 2]);
    }

    #[test]
    fn the_stricter_limit_has_less_left_or_takes_longer() {
        let standing = |remaining, wait| Standing {
            name: "free".into(),
            quota: 100,
            window_seconds: 3_600,
            verdict: Verdict {
                is_admitted: true,
                remaining,
                wait: Duration::from_secs(wait),
            },
        };
        assert!(standing(1, 1).is_stricter(&standing(2, 9)));
        assert!(!standing(2, 9).is_stricter(&standing(1, 1)));
        assert!(standing(1, 9).is_stricter(&standing(1, 1)));
        assert!(!standing(1, 1).is_stricter(&standing(1, 9)));
        let mut headers = HeaderMap::new();
        standing(42, 1_800).tell(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"free\";q=100;w=3600");
        assert_eq!(headers["ratelimit"], "\"free\";r=42;t=1800");
    }
}

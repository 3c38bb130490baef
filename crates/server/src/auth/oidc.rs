//! End users, by the tokens of their identity provider (OpenID Connect).
//!
//! # What it guarantees
//!
//! * A caller is let in only by a token that [`super::jwt`] finds good in every respect and that a key of the provider has
//!   signed. Its `sub` is the user's id, in all calls; nobody is anybody else.
//! * What the caller may do is what everybody may and what its roles add, by the configuration as it was made sure of at the
//!   start ([`utxoiq_store::token::Granted`]). A token's own claim of scopes gives nothing.
//! * Why a token was refused is in the log at level debug and in the figures, never in the answer, and the token in neither.
//! * A token that was found good is remembered by its SHA-256 for `oidc.token_cache_seconds`, until it ends or the
//!   provider's keys change, whichever comes first. Refused ones are not: verifying costs less than a query does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use utxoiq_store::{
    Store,
    config::{Addresses, OidcSettings},
    token::{Caller, Granted, Identity, is_tier},
};

use super::{
    jwt::{Claims, Expected, Jwt, Refusal, has_form},
    provider::{KeysSnapshot, Present, Provider},
};
use crate::error::{ApiError, ApiResult};

/// The most tokens that are remembered. An entry takes less than a kilobyte.
const CAPACITY: u64 = 20_000;

/// A token that was found good.
#[derive(Clone)]
struct Remembered {
    caller: Arc<Caller>,
    /// The keys that it was verified with.
    generation: u64,
}

/// Who may come as an end user.
pub struct Oidc {
    provider: Arc<Provider>,
    expected: Expected,
    granted: Arc<Granted>,
    roles_claim: Option<String>,
    tier_claim: Option<String>,
    /// None where nothing is to be remembered.
    remembered: Option<Cache<[u8; 32], Remembered>>,
    accepted_total: AtomicU64,
    refused_total: [AtomicU64; Refusal::ALL.len()],
}

/// What has become of the tokens of end users, and how the provider's keys stand.
#[derive(Debug, Clone)]
pub struct OidcSnapshot {
    /// The keys.
    pub keys: KeysSnapshot,
    /// Tokens that were verified and found good.
    pub accepted_total: u64,
    /// Tokens that were refused, by reason.
    pub refused_total: [(&'static str, u64); Refusal::ALL.len()],
}

impl Oidc {
    /// Begins to fetch the provider's keys; `None` where none is configured. Fails where keys could never be fetched.
    pub fn start(store: &Store) -> utxoiq_store::Result<Option<Self>> {
        let settings: &OidcSettings = &store.config().oidc;
        let (Some(issuer), Some(address)) = (settings.issuer.clone(), &settings.jwks_url) else {
            return Ok(None);
        };
        for role in store.granted().administrators() {
            tracing::warn!(
                role,
                "everybody whom the identity provider gives this role may do everything here"
            );
        }
        let audiences = settings.audience.as_ref().map(Addresses::as_slice);
        let seconds = settings.token_cache_seconds;
        let remembered = Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_live(Duration::from_secs(seconds));
        Ok(Some(Self {
            provider: Provider::start(store, address)?,
            expected: Expected {
                issuer,
                audiences: audiences.unwrap_or_default().to_vec(),
                skew: TimeDelta::seconds(i64::from(settings.clock_skew_seconds)),
            },
            granted: Arc::clone(store.granted()),
            roles_claim: settings.roles_claim.clone(),
            tier_claim: settings.tier_claim.clone(),
            remembered: (seconds > 0).then(|| remembered.build()),
            accepted_total: AtomicU64::new(0),
            refused_total: Default::default(),
        }))
    }

    /// Whose token it is; `None` where it is none, or not good. Fails with 503 where that cannot be told, because the
    /// provider's keys cannot be had.
    pub async fn authenticate(
        &self,
        token: &str,
        now: DateTime<Utc>,
    ) -> ApiResult<Option<Arc<Caller>>> {
        if !has_form(token) {
            return Ok(self.refused(Refusal::Malformed));
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(caller) = self.known(&hash, now) {
            return Ok(Some(caller));
        }
        let jwt = match Jwt::read(token) {
            Ok(jwt) => jwt,
            Err(refusal) => return Ok(self.refused(refusal)),
        };
        // In a box, so that the way of a token that is known is not as wide as this one.
        let present = Box::pin(self.keys_for(&jwt, now)).await?;
        match self.judge(jwt, &present, now) {
            Ok(caller) => {
                self.accepted_total.fetch_add(1, Relaxed);
                let caller = Arc::new(caller);
                if let Some(remembered) = &self.remembered {
                    let generation = present.generation;
                    let caller = Arc::clone(&caller);
                    remembered.insert(hash, Remembered { caller, generation });
                }
                Ok(Some(caller))
            }
            Err(refusal) => Ok(self.refused(refusal)),
        }
    }

    /// The caller of a token that is remembered, and still good.
    fn known(&self, hash: &[u8; 32], now: DateTime<Utc>) -> Option<Arc<Caller>> {
        let found = self.remembered.as_ref()?.get(hash)?;
        let generation = self.provider.present(now)?.generation;
        let is_good =
            found.generation == generation && found.caller.expires_at.is_some_and(|end| now < end);
        is_good.then_some(found.caller)
    }

    /// The provider's keys, fetched anew where the token's is not among them.
    async fn keys_for(&self, jwt: &Jwt<'_>, now: DateTime<Utc>) -> ApiResult<Present> {
        if let Some(present) = self.provider.present(now)
            && present.keys.know(&jwt.key_id)
        {
            return Ok(present);
        }
        if !self.provider.renew(now).await {
            return Err(unavailable());
        }
        self.provider.present(now).ok_or_else(unavailable)
    }

    fn judge(
        &self,
        jwt: Jwt<'_>,
        present: &Present,
        now: DateTime<Utc>,
    ) -> Result<Caller, Refusal> {
        let claims = jwt.verify(|jwt| present.keys.verify(jwt))?.claims()?;
        let end = claims.check(&self.expected, now)?;
        Ok(self.caller(&claims, end))
    }

    fn caller(&self, claims: &Claims, end: DateTime<Utc>) -> Caller {
        let texts = |claim: &Option<String>| {
            let name = claim.as_deref();
            name.map_or_else(Vec::new, |name| claims.texts(name))
        };
        let tiers = texts(&self.tier_claim);
        let tier = tiers.into_iter().find(|tier| is_tier(tier));
        Caller {
            identity: Identity::User,
            subject: claims.subject().to_owned(),
            scopes: self.granted.to(texts(&self.roles_claim)),
            rate_tier: tier.map(str::to_owned),
            expires_at: Some(end),
        }
    }

    fn refused(&self, refusal: Refusal) -> Option<Arc<Caller>> {
        let reason = refusal.as_str();
        tracing::debug!(reason, "a token of an end user is refused");
        let all = Refusal::ALL.iter().zip(&self.refused_total);
        for (_, count) in all.filter(|(one, _)| **one == refusal) {
            count.fetch_add(1, Relaxed);
        }
        None
    }

    /// What has become of tokens, and how the keys stand at `now`.
    pub fn snapshot(&self, now: DateTime<Utc>) -> OidcSnapshot {
        let count = |at: usize| {
            (
                Refusal::ALL[at].as_str(),
                self.refused_total[at].load(Relaxed),
            )
        };
        OidcSnapshot {
            keys: self.provider.snapshot(now),
            accepted_total: self.accepted_total.load(Relaxed),
            refused_total: std::array::from_fn(count),
        }
    }
}

/// 503: whose token it is cannot be told now.
fn unavailable() -> ApiError {
    ApiError::unavailable(
        "identity_provider_unavailable",
        "the keys of the identity provider cannot be had, so that end users cannot be told apart; send the request again later",
    )
}

//! The identity provider's keys: fetched, renewed, withdrawn, and away. On a clock that the tests move.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use utxoiq_store::{
    Store,
    clock::{Clock as _, FixedClock},
    token::{Caller, Scope},
};
use utxoiq_store_server::{
    auth::{PAUSE, oidc::Oidc},
    error::ApiResult,
};
use utxoiq_store_testkit::{IdentityProvider, Signer, identity::Answers};

use crate::support::settings;

/// A verifier of end users' tokens, and its provider.
struct World {
    provider: IdentityProvider,
    oidc: Oidc,
    clock: FixedClock,
    store: Store,
}

fn noon() -> DateTime<Utc> {
    "2025-03-01T12:00:00Z".parse().unwrap()
}

impl World {
    /// With a provider that publishes these keys and answers so.
    async fn new(signers: &[&Signer], answers: Answers, more: &[(&str, &str)]) -> Self {
        let provider = IdentityProvider::start(signers).await;
        provider.answer(answers);
        let url = provider.keys_url();
        let own = [
            ("UTXOIQ_STORE_OIDC__ISSUER", "https://issuer"),
            ("UTXOIQ_STORE_OIDC__AUDIENCE", "store, other"),
            ("UTXOIQ_STORE_OIDC__JWKS_URL", url.as_str()),
            ("UTXOIQ_STORE_OIDC__TIER_CLAIM", "plan.tier"),
        ];
        let clock = FixedClock::at(noon());
        let config = settings(&[&own[..], more].concat());
        let store = Store::with_clock(config, Arc::new(clock.clone())).unwrap();
        Self {
            oidc: Oidc::start(&store).unwrap().unwrap(),
            provider,
            clock,
            store,
        }
    }

    /// The same, when the keys are there.
    async fn ready(signers: &[&Signer]) -> Self {
        let world = Self::new(signers, Answers::Keys, &[]).await;
        world.until(|world| world.keys() > 0).await;
        world
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        for _ in 0..400 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "{:?}, asked {} times",
            self.oidc.snapshot(self.clock.now()),
            self.provider.asked()
        );
    }

    fn keys(&self) -> usize {
        self.oidc.snapshot(self.clock.now()).keys.keys
    }

    fn failed(&self) -> u64 {
        self.oidc.snapshot(self.clock.now()).keys.failed_total
    }

    async fn judge(&self, token: &str) -> ApiResult<Option<Arc<Caller>>> {
        self.oidc.authenticate(token, self.clock.now()).await
    }

    async fn lets_in(&self, token: &str) -> bool {
        self.judge(token).await.unwrap().is_some()
    }
}

fn claims(now: DateTime<Utc>) -> Value {
    let now = now.timestamp();
    json!({"iss": "https://issuer", "aud": "store", "sub": "user-1", "iat": now, "exp": now + 7 * 86_400, "plan": {"tier": "pro"}})
}

fn token(signer: &Signer) -> String {
    signer.token(&claims(noon()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_user_is_let_in_with_what_everybody_may() {
    let (rsa, p256) = (Signer::rsa("r"), Signer::p256("e"));
    let world = World::ready(&[&rsa, &p256]).await;
    for signer in [&rsa, &p256] {
        let caller = world.judge(&token(signer)).await.unwrap().unwrap();
        assert_eq!(
            (caller.subject.as_str(), caller.key().as_str()),
            ("user-1", "user:user-1")
        );
        assert_eq!(caller.rate_tier.as_deref(), Some("pro"));
        assert_eq!(
            caller.scopes.iter().copied().collect::<Vec<_>>(),
            [Scope::FeedbackRead, Scope::FeedbackWrite, Scope::StatsRead]
        );
        // Its end, and the skew.
        assert_eq!(
            caller.expires_at,
            Some(noon() + TimeDelta::days(7) + TimeDelta::seconds(60))
        );
    }
    let mut odd = claims(noon());
    odd["plan"]["tier"] = json!("No Tier");
    let caller = world.judge(&p256.token(&odd)).await.unwrap().unwrap();
    assert_eq!(caller.rate_tier, None);
    assert_eq!(world.provider.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_token_stops_at_its_end_and_with_its_key() {
    let signer = Signer::p256("e");
    let world = World::ready(&[&signer]).await;
    let mut short = claims(noon());
    short["exp"] = json!(noon().timestamp() + 30);
    let (short, long) = (signer.token(&short), token(&signer));
    assert!(world.lets_in(&short).await && world.lets_in(&long).await);
    assert!(world.lets_in(&long).await);
    let accepted = world.oidc.snapshot(noon()).accepted_total;
    assert_eq!(accepted, 2, "the third time it is remembered");
    world.clock.advance(TimeDelta::seconds(89));
    assert!(world.lets_in(&short).await);
    world.clock.advance(TimeDelta::seconds(1));
    assert!(!world.lets_in(&short).await && world.lets_in(&long).await);
    // Another key of the same name: what the first has signed is nothing from then on.
    world.provider.publish(&[&Signer::p256("e")]);
    world.clock.advance(TimeDelta::hours(1));
    world.until(|world| world.provider.asked() == 2).await;
    world
        .until(|world| world.oidc.snapshot(world.clock.now()).keys.fetched_total == 2)
        .await;
    assert!(!world.lets_in(&long).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_renewed_before_their_time_is_over_and_withdrawn_ones_stop() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let world = World::ready(&[&old]).await;
    world.provider.publish(&[&new]);
    // An hour, of which four fifths must pass.
    world.clock.advance(TimeDelta::minutes(47));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.provider.asked(), 1);
    assert!(world.lets_in(&token(&old)).await);
    world.clock.advance(TimeDelta::minutes(1));
    world
        .until(|world| world.oidc.snapshot(world.clock.now()).keys.fetched_total == 2)
        .await;
    assert!(world.lets_in(&token(&new)).await && !world.lets_in(&token(&old)).await);
    let refused = world.oidc.snapshot(world.clock.now()).refused_total;
    assert!(refused.contains(&("unknown_key", 1)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_asked_for_once_however_many_come() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let world = Arc::new(World::ready(&[&old]).await);
    world.provider.publish(&[&old, &new]);
    let start = token(&new);
    // Within the pause after the first fetch nobody is asked.
    assert!(!world.lets_in(&start).await);
    assert_eq!(world.provider.asked(), 1);
    world.clock.advance(PAUSE);
    let many = (0..30).map(|_| {
        let (world, token) = (Arc::clone(&world), start.clone());
        tokio::spawn(async move { world.lets_in(&token).await })
    });
    for one in many.collect::<Vec<_>>() {
        assert!(one.await.unwrap());
    }
    assert_eq!(world.provider.asked(), 2);
    for made_up in 0..200 {
        let stranger = Signer::p256(&format!("made up {made_up}"));
        assert!(!world.lets_in(&token(&stranger)).await);
    }
    assert_eq!(world.provider.asked(), 2);
    world.clock.advance(PAUSE);
    for made_up in 0..20 {
        let stranger = Signer::p256(&format!("made up {made_up}"));
        assert!(!world.lets_in(&token(&stranger)).await);
    }
    assert_eq!(world.provider.asked(), 3);
    assert!(world.lets_in(&start).await && world.lets_in(&token(&old)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_nobody_can_be_told_and_that_is_503() {
    let signer = Signer::p256("e");
    let elsewhere = IdentityProvider::start(&[&signer]).await;
    for answers in [
        Answers::Status(500),
        Answers::Status(404),
        Answers::Elsewhere(elsewhere.keys_url()),
        Answers::Text("<html>".into()),
        Answers::Text("{\"keys\": []}".into()),
        Answers::Bytes((1 << 20) + 1),
    ] {
        let world = World::new(&[&signer], answers.clone(), &[]).await;
        world.until(|world| world.failed() == 1).await;
        let refused = world.judge(&token(&signer)).await.unwrap_err();
        assert_eq!(
            (refused.status().as_u16(), refused.code()),
            (503, "identity_provider_unavailable"),
            "{answers:?}"
        );
        // What is no token at all is refused without them.
        assert!(!world.lets_in("a.b.c").await);
        // It comes back, and nothing has to be restarted.
        world.provider.answer(Answers::Keys);
        world.clock.advance(PAUSE);
        assert!(world.lets_in(&token(&signer)).await, "{answers:?}");
    }
    assert_eq!(elsewhere.asked(), 0, "a redirection was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_holds_up_a_few_requests_for_a_few_seconds() {
    let signer = Signer::p256("e");
    let world = Arc::new(World::new(&[&signer], Answers::Never, &[]).await);
    world.until(|world| world.provider.asked() == 1).await;
    let many = (0..200).map(|_| {
        let (world, token) = (Arc::clone(&world), token(&signer));
        tokio::spawn(async move {
            let began = tokio::time::Instant::now();
            let refused = world.judge(&token).await.unwrap_err();
            assert_eq!(refused.code(), "identity_provider_unavailable");
            began.elapsed()
        })
    });
    let mut waited = 0;
    for one in many.collect::<Vec<_>>() {
        let took = one.await.unwrap();
        assert!(took < Duration::from_secs(7), "{took:?}");
        waited += usize::from(took > Duration::from_secs(1));
    }
    assert!(waited <= 32, "{waited} requests waited");
    assert_eq!(world.provider.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_provider_is_away_keys_go_on_for_a_bounded_time() {
    let signer = Signer::p256("e");
    let hours = [("UTXOIQ_STORE_OIDC__KEYS_OUTLIVE_HOURS", "2")];
    let world = World::new(&[&signer], Answers::Keys, &hours).await;
    world.until(|world| world.keys() == 1).await;
    let token = token(&signer);
    assert!(world.lets_in(&token).await);
    world.provider.answer(Answers::Status(503));
    // An hour by its own word, and two more.
    world
        .clock
        .set(noon() + TimeDelta::hours(3) - TimeDelta::microseconds(1));
    world.until(|world| world.failed() > 0).await;
    assert!(world.lets_in(&token).await);
    assert!(world.oidc.snapshot(world.clock.now()).keys.is_degraded);
    world.clock.set(noon() + TimeDelta::hours(3));
    let refused = world.judge(&token).await.unwrap_err();
    assert_eq!(refused.code(), "identity_provider_unavailable");
    world.provider.answer(Answers::Keys);
    world.clock.advance(PAUSE);
    assert!(world.lets_in(&token).await);
    assert!(!world.oidc.snapshot(world.clock.now()).keys.is_degraded);
    assert!(world.store.granted().administrators().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_set_does_not_replace_a_good_one() {
    let signer = Signer::p256("e");
    let world = World::ready(&[&signer]).await;
    let mut encrypts = signer.jwk();
    encrypts["use"] = json!("enc");
    world
        .provider
        .publish_values(vec![encrypts, json!("rubbish")]);
    world.clock.advance(TimeDelta::minutes(50));
    world.until(|world| world.failed() == 1).await;
    assert!(world.lets_in(&token(&signer)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_a_clock_which_was_ahead_has_fetched_are_renewed_after_it_is_put_back() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let world = World::new(&[&old], Answers::Keys, &[]).await;
    world.until(|world| world.keys() == 1).await;
    let token = |signer: &Signer| signer.token(&claims(noon() - TimeDelta::days(300)));
    let withdrawn = old.token(&claims(noon() - TimeDelta::days(300)));
    world.provider.publish(&[&new]);
    world.clock.set(noon() - TimeDelta::days(300));
    world.until(|world| world.provider.asked() == 2).await;
    world
        .until(|world| world.oidc.snapshot(world.clock.now()).keys.fetched_total == 2)
        .await;
    assert!(!world.lets_in(&withdrawn).await, "a withdrawn key works");
    assert!(world.lets_in(&token(&new)).await);

    // While the provider is away, too, what is held is good for its time from now, and no longer.
    world.provider.answer(Answers::Status(503));
    world.clock.set(noon() - TimeDelta::days(600));
    world.until(|world| world.failed() > 0).await;
    world.clock.advance(TimeDelta::hours(1));
    assert!(world.oidc.snapshot(world.clock.now()).keys.is_degraded);
}

//! Every way to come that there is, and what comes of it.

use serde_json::{Value, json};
use utxoiq_store::{
    clock::{Clock as _, SystemClock},
    config::Loader,
    db::Pool,
    token::{NewToken, Scope, Tokens},
};
use utxoiq_store_testkit::{
    IdentityProvider, Signer,
    identity::{shared_secret_token, unsigned},
};

use crate::{database::TestDb, live::Live};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "the-project";

/// End users, and who vouches for them.
pub struct People {
    provider: IdentityProvider,
    rsa: Signer,
    p256: Signer,
}

/// The role that gives one scope.
pub fn role(scope: Scope) -> String {
    format!("may {scope}")
}

impl People {
    pub async fn new() -> Self {
        let (rsa, p256) = (Signer::rsa("rsa-1"), Signer::p256("ec-1"));
        Self {
            provider: IdentityProvider::start(&[&rsa, &p256]).await,
            rsa,
            p256,
        }
    }

    /// The settings of a service that lets them in; everybody may nothing, each role gives one scope.
    pub fn settings(&self) -> Vec<(&'static str, &'static str)> {
        let roles = Scope::ALL
            .into_iter()
            .filter(|scope| *scope != Scope::ActAs)
            .map(|scope| format!("{}={scope}", role(scope)));
        // The process of a test ends soon.
        let leak = |text: String| -> &'static str { text.leak() };
        vec![
            ("UTXOIQ_STORE_OIDC__ISSUER", ISSUER),
            ("UTXOIQ_STORE_OIDC__AUDIENCE", AUDIENCE),
            (
                "UTXOIQ_STORE_OIDC__JWKS_URL",
                leak(self.provider.keys_url()),
            ),
            ("UTXOIQ_STORE_OIDC__ROLES_CLAIM", "access.roles"),
            (
                "UTXOIQ_STORE_OIDC__ROLES",
                leak(roles.collect::<Vec<_>>().join(";")),
            ),
            ("UTXOIQ_STORE_OIDC__TIER_CLAIM", "tier"),
            ("UTXOIQ_STORE_OIDC__DEFAULT_SCOPES", ","),
            ("UTXOIQ_STORE_BACKFILL__LEASE_SECONDS", "3600"),
            ("UTXOIQ_STORE_BACKFILL__SILENCE_SECONDS", "7200"),
        ]
    }

    /// What somebody's good token says.
    pub fn claims(user: &str, roles: &[String]) -> Value {
        let now = SystemClock.now().timestamp();
        json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now - 5, "auth_time": now - 5, "exp": now + 3_600,
            "access": {"roles": roles}, "tier": "pro",
        })
    }

    /// Somebody's good token.
    pub fn token(&self, user: &str, roles: &[String]) -> String {
        self.rsa.token(&Self::claims(user, roles))
    }
}

/// What a wrong credential gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    NoToken,
    InvalidToken,
    MissingScope,
}

/// A header `Authorization`, or none.
#[derive(Clone)]
pub struct Credential {
    pub name: &'static str,
    pub header: Option<String>,
    pub expected: Expected,
}

fn bearer(name: &'static str, token: &str) -> Credential {
    Credential {
        name,
        header: Some(format!("Bearer {token}")),
        expected: Expected::InvalidToken,
    }
}

/// Wrong credentials: for all calls, and for a scope.
pub struct Wrong {
    always: Vec<Credential>,
    for_scopes: Vec<(Scope, Vec<Credential>)>,
}

impl Wrong {
    pub fn for_scope(&self, scope: Option<Scope>) -> Vec<Credential> {
        let own = self
            .for_scopes
            .iter()
            .filter(|(one, _)| Some(*one) == scope);
        let own = own.flat_map(|(_, credentials)| credentials);
        self.always.iter().chain(own).cloned().collect()
    }
}

/// The administrator's connection.
pub fn pool(db: &TestDb) -> Pool {
    let vars = [("DATABASE_URL".to_owned(), db.admin_url())];
    let config = Loader::default().env(vars).unwrap().finish().unwrap();
    Pool::open(&config.database).unwrap()
}

/// A service token.
pub async fn service_token(live: &Live, name: &str, scopes: &[Scope]) -> String {
    let new = NewToken {
        name: name.to_owned(),
        subject: None,
        scopes: scopes.iter().copied().collect(),
        rate_tier: None,
        expires_at: None,
        created_by: "test".into(),
    };
    let pool = pool(&live.db);
    let (_, secret) = Tokens::new(&pool)
        .create(new, SystemClock.now())
        .await
        .unwrap();
    secret.expose().to_owned()
}

/// All wrong credentials, each of which may do everything but for what is wrong with it.
pub async fn wrong(live: &Live, people: &People) -> Wrong {
    let mut always = vec![
        Credential {
            name: "nothing",
            header: None,
            expected: Expected::NoToken,
        },
        Credential {
            name: "another scheme",
            header: Some(format!("Basic {}", live.token)),
            expected: Expected::NoToken,
        },
        bearer("rubbish", "x"),
        bearer(
            "rubbish of a service token's form",
            &format!("uqs_{}_{}", "0".repeat(32), "A".repeat(43)),
        ),
        bearer("rubbish of a JWT's form", "eyJ.eyJ.AAAA"),
        bearer("10,000 characters", &"x".repeat(10_000)),
    ];
    always.extend(service_tokens(live).await);
    always.extend(jwts(people));
    let mut for_scopes = Vec::new();
    for scope in Scope::ALL {
        for_scopes.push((scope, without(live, people, scope).await));
    }
    Wrong { always, for_scopes }
}

/// Service tokens that no longer work.
async fn service_tokens(live: &Live) -> Vec<Credential> {
    let expired = service_token(live, "expired", &Scope::ALL).await;
    let revoked = service_token(live, "revoked", &Scope::ALL).await;
    let rotated = service_token(live, "rotated", &Scope::ALL).await;
    let pool = pool(&live.db);
    let (tokens, now) = (Tokens::new(&pool), SystemClock.now());
    tokens.revoke("revoked", now).await.unwrap();
    tokens
        .rotate("rotated", chrono::TimeDelta::zero(), false, now)
        .await
        .unwrap();
    let admin = live.db.admin().await;
    let past = "update service_tokens set created_at = '2020-01-01Z', expires_at = '2020-01-02Z' where name = 'expired'";
    admin.batch_execute(past).await.unwrap();
    vec![
        bearer("an expired service token", &expired),
        bearer("a revoked service token", &revoked),
        bearer("a replaced secret", &rotated),
    ]
}

/// Tokens of an end user who may do everything, each with one thing wrong.
fn jwts(people: &People) -> Vec<Credential> {
    let everything: Vec<String> = Scope::ALL.into_iter().map(role).collect();
    let claims = People::claims("user 1", &everything);
    let but = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        people.p256.token(&claims)
    };
    let now = SystemClock.now().timestamp();
    let none = json!({"alg": "none", "kid": "rsa-1", "typ": "JWT"});
    let stranger = Signer::p256("ec-1");
    let good = people.rsa.token(&claims);
    vec![
        bearer("a JWT that is expired", &but("exp", json!(now - 61))),
        bearer(
            "a JWT of another issuer",
            &but("iss", json!("https://other.example")),
        ),
        bearer(
            "a JWT for another audience",
            &but("aud", json!(["another-project"])),
        ),
        bearer(
            "a JWT whose time has not come",
            &but("nbf", json!(now + 120)),
        ),
        bearer("a JWT of the future", &but("iat", json!(now + 120))),
        bearer("a JWT of nobody", &but("sub", json!(""))),
        bearer("a JWT with another's signature", &stranger.token(&claims)),
        bearer(
            "a JWT without its signature",
            &good[..=good.rfind('.').unwrap_or_default()],
        ),
        bearer(
            "a JWT with alg none",
            &format!("{}.", unsigned(&none, &claims)),
        ),
        bearer(
            "a JWT with HS256",
            &shared_secret_token(&people.rsa.public_bytes(), "rsa-1", &claims),
        ),
        bearer(
            "a JWT of an unknown key",
            &Signer::p256("ec-2").token(&claims),
        ),
    ]
}

/// Credentials that may do everything but what the scope gives.
async fn without(live: &Live, people: &People, scope: Scope) -> Vec<Credential> {
    let others: Vec<Scope> = Scope::ALL
        .into_iter()
        .filter(|one| ![scope, Scope::Admin].contains(one))
        .collect();
    let roles: Vec<String> = others.iter().copied().map(role).collect();
    let service = service_token(live, &format!("all but {scope}"), &others).await;
    let mut credentials = vec![
        bearer("a service token without the scope", &service),
        bearer("a JWT of other roles", &people.token("user 1", &roles)),
        bearer("a JWT without a role", &people.token("user 1", &[])),
    ];
    for credential in &mut credentials {
        credential.expected = Expected::MissingScope;
    }
    credentials
}

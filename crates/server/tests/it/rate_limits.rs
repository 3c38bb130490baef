//! Rate limits, as callers meet them.

use std::{net::IpAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, header},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use utxoiq_store::{cache::CacheState, token::Scope};
use utxoiq_store_server::{
    AppState,
    auth::UserId,
    client::Peer,
    router_of,
    routes::{Call, Routes},
    serve_router,
};
use utxoiq_store_testkit::RedisServer;

use crate::{
    database::TestDb,
    support::{Answer, call, send, state},
    tokens::token_named,
};

/// A service of two calls: one for whoever may write feedback, and one whose scope no token here has.
async fn served(db: &TestDb, vars: &[(&str, &str)]) -> (AppState, Router) {
    let state = state(db.settings_with(vars));
    let has_redis = vars.iter().any(|(name, _)| *name == "REDIS_URL");
    while state.readiness.admit().is_err()
        || has_redis && state.store.cache().probe() != CacheState::Up
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let routes = Routes::new("test", "For tests")
        .add(
            Call::get("/test/whoami", Scope::FeedbackWrite, "the user").for_user(),
            async |UserId(user): UserId| user,
        )
        .add(
            Call::get("/test/never", Scope::RetentionRun, "nothing"),
            async || "never",
        );
    let router = router_of(&state, vec![routes, utxoiq_store_server::metrics::routes()]);
    (state, router)
}

/// A token of a tier, or of none.
async fn token_of(db: &TestDb, name: &str, tier: Option<&str>, scopes: &[Scope]) -> String {
    let token = token_named(db, name, scopes).await;
    let set = "update service_tokens set rate_tier = $2 where name = $1";
    db.admin()
        .await
        .execute(set, &[&name, &tier])
        .await
        .unwrap();
    token
}

/// Name, parameters in order: an item of a structured field that is a string with integer parameters (RFC 9651).
fn item(value: &str) -> (String, Vec<(String, u64)>) {
    let mut parts = value.split(';');
    let name = parts.next().unwrap();
    let name = name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
        .unwrap();
    assert!(!name.contains(['"', '\\']), "{value}");
    let parameters = parts.map(|part| {
        let (key, number) = part.split_once('=').unwrap();
        assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()), "{value}");
        (key.to_owned(), number.parse().unwrap())
    });
    (name.to_owned(), parameters.collect())
}

/// What an answer says is left, and in how many seconds more comes.
fn left(answer: &Answer, policy: &str) -> (u64, u64) {
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some(policy),
        "{answer:?}"
    );
    let (of, _) = item(policy);
    let (name, parameters) = item(answer.header("ratelimit").unwrap());
    assert_eq!(name, of);
    let keys: Vec<_> = parameters.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["r", "t"]);
    (parameters[0].1, parameters[1].1)
}

async fn ask(
    service: &Router,
    token: &str,
    headers: &[(&str, &str)],
    from: Option<&str>,
) -> Answer {
    let mut request =
        Request::get("/test/whoami").header(header::AUTHORIZATION, format!("Bearer {token}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(from) = from {
        request = request.extension(Peer(from.parse::<IpAddr>().unwrap()));
    }
    send(service, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_limited_token_is_told_how_it_stands_and_refused_until_it_waits() {
    const POLICY: &str = "\"small\";q=6;w=3";
    let (db, redis) = (TestDb::new().await, RedisServer::start().await);
    let url = redis.url();
    let vars = [
        ("REDIS_URL", url.as_str()),
        ("UTXOIQ_STORE_RATE_LIMIT__TIERS", "free=100/h,small=6/3s"),
    ];
    let ((one, one_service), (_, other_service)) =
        (served(&db, &vars).await, served(&db, &vars).await);
    let token = token_of(&db, "limited", Some("small"), &[Scope::FeedbackWrite]).await;
    let paths = ["/test/whoami", "/test/never", "/test/whoami"];
    let mut expected = 6;
    for path in paths {
        for service in [&one_service, &other_service] {
            // A request that is refused for its scope counts, too.
            let answer = call(service, "GET", path, Some(&token)).await;
            let status = if path == "/test/never" { 403 } else { 200 };
            assert_eq!(answer.status, status, "{answer:?}");
            expected -= 1;
            let (remaining, seconds) = left(&answer, POLICY);
            assert_eq!(remaining, expected);
            assert!((1..=3).contains(&seconds), "{seconds}");
        }
    }
    for service in [&one_service, &other_service] {
        for _ in 0..10 {
            let refused = call(service, "GET", "/test/whoami", Some(&token)).await;
            assert_eq!(refused.problem(429), "rate_limited");
            let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=3).contains(&wait));
            assert_eq!(left(&refused, POLICY), (0, wait));
        }
    }
    let refused = call(&one_service, "GET", "/test/whoami", Some(&token)).await;
    let wait = refused.header("retry-after").unwrap().parse().unwrap();
    let reader = token_of(&db, "reader", None, &[Scope::PoolRead]).await;
    let figures = call(&one_service, "GET", "/metrics", Some(&reader)).await;
    for line in [
        "utxoiq_store_rate_limited_total{tier=\"small\"} 11",
        "utxoiq_store_rate_limited_total{tier=\"free\"} 0",
        "utxoiq_store_rate_limit_without_redis_total 0",
        "utxoiq_store_rate_limit_callers 1",
    ] {
        assert!(figures.text.contains(line), "{line}: {}", figures.text);
    }
    assert_eq!(figures.header("ratelimit"), None);
    assert!(one.store.limiter().figures().from_memory >= 9);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    let answer = call(&other_service, "GET", "/test/whoami", Some(&token)).await;
    assert_eq!(left(&answer, POLICY).0, 5);
    // A tier that is not there any more leaves no caller without a limit.
    let gone = token_of(&db, "gone", Some("gold"), &[Scope::FeedbackWrite]).await;
    let answer = call(&one_service, "GET", "/test/whoami", Some(&gone)).await;
    assert_eq!(left(&answer, "\"free\";q=100;w=3600").0, 99);
}

#[tokio::test]
async fn a_token_without_a_tier_is_not_limited_and_each_user_it_names_can_be() {
    const FEW: &str = "\"few\";q=2;w=3600";
    let db = TestDb::new().await;
    let (plain, plain_service) = served(&db, &[]).await;
    let own = [Scope::FeedbackWrite, Scope::ActAs];
    let token = token_of(&db, "service", None, &own).await;
    for _ in 0..150 {
        let answer = ask(&plain_service, &token, &[("X-User-Id", "alice")], None).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("ratelimit")),
            (200, None)
        );
    }
    assert_eq!(plain.store.limiter().figures().callers, 0);
    let tiers = [
        (
            "UTXOIQ_STORE_RATE_LIMIT__TIERS",
            "free=100/h,few=2/h,most=5/h",
        ),
        ("UTXOIQ_STORE_RATE_LIMIT__ACTING_TIER", "few"),
    ];
    let (_, service) = served(&db, &tiers).await;
    let as_user =
        async |token: &str, user| ask(&service, token, &[("X-User-Id", user)], None).await;
    for user in ["alice", "bob"] {
        assert_eq!(left(&as_user(&token, user).await, FEW).0, 1);
        assert_eq!(left(&as_user(&token, user).await, FEW).0, 0);
        let refused = as_user(&token, user).await;
        assert_eq!(refused.problem(429), "rate_limited");
        assert_eq!(left(&refused, FEW).0, 0);
    }
    for _ in 0..20 {
        assert_eq!(
            ask(&service, &token, &[], None).await.header("ratelimit"),
            None
        );
    }
    // Who may not act for others names nobody, and is refused for it, not limited.
    let lone = token_of(&db, "lone", None, &[Scope::FeedbackWrite]).await;
    let refused = as_user(&lone, "alice").await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("ratelimit")),
        (403, None)
    );
    // A token with a limit of its own: the stricter of both is told, and both hold.
    let both = token_of(&db, "both", Some("most"), &own).await;
    assert_eq!(left(&as_user(&both, "carol").await, FEW).0, 1);
    for remaining in [3, 2, 1, 0] {
        let answer = ask(&service, &both, &[], None).await;
        assert_eq!(left(&answer, "\"most\";q=5;w=3600").0, remaining);
    }
    let refused = as_user(&both, "dave").await;
    assert_eq!(refused.problem(429), "rate_limited");
    assert_eq!(left(&refused, "\"most\";q=5;w=3600").0, 0);
    // Refused again from memory, it costs the user nothing more.
    for _ in 0..5 {
        assert_eq!(as_user(&both, "dave").await.status, 429);
    }
    assert_eq!(left(&as_user(&token, "dave").await, FEW).0, 0);
}

#[tokio::test]
async fn an_address_that_guesses_tokens_is_not_looked_up_any_more_and_known_ones_pass() {
    let db = TestDb::new().await;
    let vars = [
        ("UTXOIQ_STORE_RATE_LIMIT__FAILED_LOGINS_PER_MINUTE", "3"),
        ("UTXOIQ_STORE_SERVER__TOKEN_CACHE_MILLISECONDS", "0"),
    ];
    let (state, service) = served(&db, &vars).await;
    let (known, new) = (
        token_of(&db, "known", None, &[Scope::FeedbackWrite]).await,
        token_of(&db, "new", None, &[Scope::FeedbackWrite]).await,
    );
    let (here, there) = (Some("203.0.113.5"), Some("203.0.113.6"));
    assert_eq!(ask(&service, &known, &[], here).await.status, 200);
    let guess = |number: u32| format!("{}{number:03}", &known[..known.len() - 3]);
    for number in 0..3 {
        let answer = ask(&service, &guess(number), &[], here).await;
        assert_eq!(answer.problem(401), "unauthorized");
    }
    let before = state
        .store
        .pool()
        .snapshot(state.store.now())
        .acquired_total;
    for number in 3..50 {
        let answer = ask(&service, &guess(number), &[], here).await;
        assert_eq!(answer.problem(429), "too_many_failed_logins");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
    }
    let after = state
        .store
        .pool()
        .snapshot(state.store.now())
        .acquired_total;
    assert!(after - before < 5, "{} look-ups", after - before);
    assert_eq!(state.attempts.refused(), 47);
    assert_eq!(ask(&service, &known, &[], here).await.status, 200);
    assert_eq!(ask(&service, &new, &[], there).await.status, 200);
    // What the client says of itself is not believed: there is no proxy.
    let forwarded = [("X-Forwarded-For", "198.51.100.1")];
    assert_eq!(
        ask(&service, &guess(50), &forwarded, here).await.status,
        429
    );
    assert_eq!(ask(&service, &guess(51), &[], there).await.status, 401);
}

#[tokio::test]
async fn the_address_is_that_of_the_connection_or_what_a_trusted_proxy_says() {
    let db = TestDb::new().await;
    let vars = [
        ("UTXOIQ_STORE_RATE_LIMIT__FAILED_LOGINS_PER_MINUTE", "2"),
        ("UTXOIQ_STORE_SERVER__TRUSTED_PROXIES", "1"),
    ];
    let (state, router) = served(&db, &vars).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_router(
        listener,
        router,
        state,
        std::future::pending(),
    ));
    let status = async |forwarded: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /test/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer uqs_wrong\r\n{forwarded}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer[9..12].to_owned()
    };
    for (forwarded, expected) in [
        ("", ["401", "401", "429"]),
        (
            "X-Forwarded-For: 127.0.0.1, 198.51.100.1\r\n",
            ["401", "401", "429"],
        ),
        (
            "X-Forwarded-For: 198.51.100.1, 198.51.100.2\r\n",
            ["401", "401", "429"],
        ),
    ] {
        for expected in expected {
            assert_eq!(status(forwarded).await, expected, "{forwarded}");
        }
    }
}

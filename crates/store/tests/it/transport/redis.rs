//! TLS to Redis.

use std::{path::Path, time::Duration};

use utxoiq_store::{
    cache::{Cache, CacheState},
    config::Loader,
    error::Result,
};
use utxoiq_store_testkit::{Authority, Issued, RedisServer};

fn cache(url: &str, ca: Option<&Path>, identity: Option<&Issued>) -> Result<Cache> {
    let shown = |path: &Path| path.display().to_string();
    let mut vars = vec![("REDIS_URL".to_owned(), url.to_owned())];
    let mut set = |key: &str, path: &Path| {
        vars.push((format!("UTXOIQ_STORE_REDIS__{key}"), shown(path)));
    };
    if let Some(ca) = ca {
        set("TLS_CA_FILE", ca);
    }
    if let Some(identity) = identity {
        set("TLS_CERTIFICATE_FILE", &identity.certificate_file);
        set("TLS_KEY_FILE", &identity.key_file);
    }
    Cache::open(&Loader::default().env(vars)?.finish()?)
}

async fn is_used(cache: &Cache) -> bool {
    for _ in 0..100 {
        if cache.probe() == CacheState::Up {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(cache.probe(), CacheState::Down);
    false
}

fn address(redis: &RedisServer, scheme: &str, host: &str) -> String {
    let (password, port) = (redis.password(), redis.port());
    format!("{scheme}://default:{password}@{host}:{port}/0")
}

#[tokio::test]
async fn redis_is_used_only_under_its_own_name_and_authority() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let redis = RedisServer::start_tls(&ours.issue(&["127.0.0.1"]), None).await;
    let (ca, other) = (ours.file(), theirs.file());
    let tls = |host: &str| address(&redis, "rediss", host);
    for (url, ca, used) in [
        (tls("127.0.0.1"), Some(ca.as_path()), true),
        (tls("127.0.0.1"), Some(other.as_path()), false),
        (tls("127.0.0.1"), None, false),
        // It answers there as well, and its certificate does not say so.
        (tls("localhost"), Some(ca.as_path()), false),
        (address(&redis, "redis", "127.0.0.1"), None, false),
    ] {
        let cache = cache(&url, ca, None).unwrap();
        assert_eq!(is_used(&cache).await, used, "{ca:?}");
    }
    let expired = RedisServer::start_tls(&ours.issue_expired(&["127.0.0.1"]), None).await;
    let url = address(&expired, "rediss", "127.0.0.1");
    assert!(!is_used(&cache(&url, Some(&ca), None).unwrap()).await);
    let plain = RedisServer::start().await;
    let url = plain.url().replace("redis://", "rediss://");
    assert!(!is_used(&cache(&url, Some(&ca), None).unwrap()).await);
    let missing = cache(&url, Some(Path::new("/no/such.pem")), None);
    let error = missing.err().unwrap();
    assert_eq!(error.code(), "invalid_config");
    assert!(error.message().contains("/no/such.pem"), "{error}");
}

#[tokio::test]
async fn redis_may_ask_for_a_certificate() {
    let (ours, clients) = (Authority::new(), Authority::new());
    let own = ours.issue(&["127.0.0.1"]);
    let redis = RedisServer::start_tls(&own, Some(&clients.file())).await;
    let url = address(&redis, "rediss", "127.0.0.1");
    let ca = ours.file();
    let client = clients.issue(&["store"]);
    assert!(is_used(&cache(&url, Some(&ca), Some(&client)).unwrap()).await);
    assert!(!is_used(&cache(&url, Some(&ca), None).unwrap()).await);
    assert!(!is_used(&cache(&url, Some(&ca), Some(&own)).unwrap()).await);
}

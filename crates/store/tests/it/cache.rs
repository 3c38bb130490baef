//! Whether Redis is there (C4.5): the start never waits for it, and its state follows within about two seconds.

mod coherence;
mod faults;
mod misses;
mod outbox;
mod probe;

use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use utxoiq_store::{
    cache::{Cache, CacheState},
    config::{Config, Loader},
};
use utxoiq_store_testkit::RedisServer;

fn settings(url: &str) -> Config {
    let vars = [("REDIS_URL".to_owned(), url.to_owned())];
    Loader::default().env(vars).unwrap().finish().unwrap()
}

async fn becomes(cache: &Cache, state: CacheState) {
    let began = Instant::now();
    while cache.probe() != state {
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{state:?} expected: {cache:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_an_address_the_cache_is_off() {
    let cache = Cache::open(&settings("")).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(cache.probe(), CacheState::Off);
}

#[tokio::test]
async fn an_unusable_address_is_refused_without_being_shown() {
    // What the settings' own check lets pass and the client cannot read.
    let config = settings("redis://:s3cret@host:6379/not-a-number");
    let error = Cache::open(&config).unwrap_err();
    assert_eq!(error.code(), "invalid_config");
    assert!(error.message().contains("redis.url"));
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn a_redis_that_accepts_and_never_answers_delays_no_start_and_is_down() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let began = Instant::now();
    let cache = Cache::open(&settings(&url)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(cache.probe(), CacheState::Down);
}

#[tokio::test]
async fn the_state_follows_a_redis_that_freezes_dies_and_comes_back() {
    let redis = RedisServer::start().await;
    let cache = Cache::open(&settings(&redis.url())).unwrap();
    becomes(&cache, CacheState::Up).await;
    redis.freeze();
    becomes(&cache, CacheState::Down).await;
    redis.thaw();
    becomes(&cache, CacheState::Up).await;
    redis.kill9().await;
    becomes(&cache, CacheState::Down).await;
    redis.start_again().await;
    becomes(&cache, CacheState::Up).await;
}

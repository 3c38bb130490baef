//! The way to PostgreSQL and to Redis: nobody in between reads or answers, and passwords may come from elsewhere.

mod passwords;
mod postgres;
mod redis;

use utxoiq_store::{
    clock::{Clock as _, SystemClock},
    config::Loader,
    db::{Pool, pool::ConnectCause},
    error::{Error, Result},
};

/// A pool that connects when it is asked to.
fn pool(url: &str) -> Result<Pool> {
    let vars = [
        ("DATABASE_URL", url),
        ("UTXOIQ_STORE_DATABASE__POOL_MIN", "0"),
        (
            "UTXOIQ_STORE_DATABASE__CONNECT_TIMEOUT_MILLISECONDS",
            "10000",
        ),
        (
            "UTXOIQ_STORE_DATABASE__ACQUIRE_TIMEOUT_MILLISECONDS",
            "60000",
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Pool::open(&Loader::default().env(vars)?.finish()?.database)
}

/// The failures that a pool has counted.
fn failures(pool: &Pool) -> Vec<(ConnectCause, u64)> {
    let all = pool.snapshot(SystemClock.now()).connect_failures;
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// All that is said of an error, and that it shows no password.
fn told(error: &Error, secret: &str) -> String {
    let text = format!("{error} {} {error:?}", error.report());
    assert!(!text.contains(secret), "{text}");
    text
}

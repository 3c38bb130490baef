//! Where the test servers are, and how hard to test.
//!
//! `./dev test` starts one throw-away cluster and one Redis for the whole suite and says so in the environment;
//! tests never guess an address, so they can never write to a server that somebody uses.

use std::env;

/// Superuser URL of the throw-away cluster (`UTXOIQ_TEST_ADMIN_URL`).
///
/// The user may create roles and databases; each test makes a database of its own. Without the variable this panics:
/// a suite that skipped its tests in silence would look like one that passed.
pub fn admin_url() -> String {
    match env::var("UTXOIQ_TEST_ADMIN_URL") {
        Ok(url) if !url.is_empty() => url,
        _ => panic!(
            "UTXOIQ_TEST_ADMIN_URL is not set: run the tests with `./dev test [filter]`, which starts a throw-away \
             PostgreSQL for them"
        ),
    }
}

/// URL of the throw-away Redis (`UTXOIQ_TEST_REDIS_URL`); `None` where the machine has no Redis.
pub fn redis_url() -> Option<String> {
    env::var("UTXOIQ_TEST_REDIS_URL")
        .ok()
        .filter(|url| !url.is_empty())
}

/// How many rounds a test makes: `ci` as a rule, `full` when `UTXOIQ_TEST_SCALE=full` (`./dev soak` sets it).
///
/// One test then serves both: short enough to run on every change, long enough overnight to meet its numbers in full.
pub fn scale(ci: u64, full: u64) -> u64 {
    if env::var("UTXOIQ_TEST_SCALE").is_ok_and(|scale| scale == "full") {
        full
    } else {
        ci
    }
}

/// The seed of a test with random choices: `UTXOIQ_TEST_SEED`, or a random one.
///
/// It is printed, and the test harness shows it when the test fails: setting the variable to that number makes the
/// same choices again.
#[allow(
    clippy::print_stderr,
    reason = "the harness captures it and shows it with a failure"
)]
pub fn seed() -> u64 {
    let seed = match env::var("UTXOIQ_TEST_SEED") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("UTXOIQ_TEST_SEED is no number: {text:?}")),
        Err(_) => rand::random(),
    };
    eprintln!("seed {seed}: repeat with UTXOIQ_TEST_SEED={seed}");
    seed
}

//! What the tests of this workspace need and production code must not have: private servers that may be
//! killed, child processes that may be frozen, a TCP proxy and an object store that break on demand, a small server that
//! speaks Cloud Storage's API, an identity provider, receivers of requests and mails, and certificate authorities.
//!
//! It guarantees three things, because a suite that kills servers on purpose is only as trustworthy as its tools:
//!
//! - **Nothing of the machine's own is touched.** Each server has its own directory, a random password and a free
//!   port of 127.0.0.1.
//! - **Nothing is left behind.** Everything stops when its handle is dropped, also by a panic, and also when the test
//!   process itself is killed: a watcher outside the process sees its pipe close and cleans up in its place.
//! - **Killed means dead.** `kill9` returns only when the last process of the server is gone, so what a test observes
//!   afterwards is the state after the crash, not the crash itself.
//!
//! It uses none of the other crates, so that all of them can use it. What cannot be done makes it panic with the
//! reason: a test that has lost its tools has failed, and an error type would only be unwrapped by each caller.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "for tests only: a test that has lost its tools has failed"
)]

pub mod authority;
pub mod collector;
pub mod faulty_store;
pub mod gcs;
pub mod identity;
mod last_will;
pub mod mailbox;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod token_service;
pub mod urls;

pub use authority::{Authority, Issued};
pub use faulty_store::{Fault, FaultyStore, Request};
pub use gcs::FakeGcs;
pub use identity::{IdentityProvider, Signer};
pub use mailbox::{Mail, Mailbox};
pub use postgres::{PgCluster, PgOptions};
pub use process::Proc;
pub use proxy::{FaultProxy, Mode};
pub use receiver::{Received, Receiver};
pub use redis::RedisServer;
pub use token_service::TokenService;

/// Runs work that blocks (starting and stopping servers does) without holding up the other tasks of a test.
///
/// A panic inside goes on in the caller, with its message.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A password that no other server has: 32 random hexadecimal digits.
fn secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}

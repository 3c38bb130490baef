//! The HTTP service of utxoIQ Store.
//!
//! # What it guarantees
//!
//! * Every call is declared once ([`routes`]): path, scope, documentation and handler. No call without a scope exists
//!   except liveness, readiness and the OpenAPI document.
//! * Every failed answer has one form ([`error`]), and nothing that a client sends is answered with 500.
//! * Every limit is in the configuration: body, time, requests in flight, connections, time for a request's head.
//!
//! [`input`] reads requests, [`auth`] knows the caller, [`rate_limit`] how much it may ask, [`version`] lets readers see what they wrote, [`observe`] is
//! what stands around everything, [`api`] has a file for each slice. The composition root opens the store, makes an
//! [`AppState`] and calls [`serve`].

pub mod api;
pub mod auth;
pub mod body;
pub mod client;
pub mod dashboard;
pub mod denials;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod health;
pub mod input;
mod link;
mod listen;
pub mod metrics;
pub mod observe;
pub mod openapi;
mod pieces;
pub mod rate_limit;
pub mod routes;
mod trace;
pub mod version;

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode};
use tokio::net::TcpListener;
use utxoiq_store::{Store, error::Result, limit::Attempts, schedule::Scheduler, token::TokenCache};

use crate::{
    auth::oidc::Oidc, dashboard::Live, denials::Denials, error::ApiError, health::Readiness,
    metrics::Metrics, observe::Gated, routes::Routes,
};

/// What handlers share. Clones are cheap and share everything.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

/// The parts of an [`AppState`].
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The service tokens.
    pub tokens: TokenCache,
    /// The end users; none where no identity provider is configured.
    pub oidc: Option<Arc<Oidc>>,
    /// Failed attempts to come in, by address.
    pub attempts: Attempts,
    /// The scheduled tasks.
    pub scheduler: Scheduler,
    /// Whether this process can serve.
    pub readiness: Readiness,
    /// The process's figures.
    pub metrics: Metrics,
    /// The memory that bodies share.
    pub body_memory: body::BodyMemory,
    /// Refused attempts at what cannot be undone.
    pub denials: Denials,
    /// The dashboard's pages that are kept up to date.
    pub live: Live,
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl AppState {
    /// The state of a process that serves this store and runs these tasks when told; starts the readiness checks. Fails where
    /// the keys of the configured identity provider could never be fetched.
    pub fn new(store: Store, scheduler: Scheduler) -> Result<Self> {
        store.cache().start();
        let remembered = Duration::from_millis(store.config().server.token_cache_milliseconds);
        let oidc = Oidc::start(&store)?.map(Arc::new);
        let readiness = Readiness::watch(&store);
        let attempts = Attempts::new(store.config().rate_limit.failed_logins_per_minute);
        Ok(Self(Arc::new(Parts {
            tokens: TokenCache::new(store.pool().clone(), remembered),
            metrics: Metrics::new(&store, oidc.as_ref(), &attempts, &scheduler, &readiness),
            readiness,
            attempts,
            body_memory: body::BodyMemory::new(&store.config().server),
            denials: Denials::default(),
            live: Live::new(&store),
            oidc,
            scheduler,
            store,
        })))
    }
}

/// The whole service.
pub fn router(state: &AppState) -> Router {
    let mut routes = api::routes();
    routes.push(dashboard::routes());
    router_of(state, routes)
}

/// A service of these calls.
pub fn router_of(state: &AppState, routes: Vec<Routes>) -> Router {
    let unknown_path = async || ApiError::unknown_path();
    let unknown_method = async || StatusCode::METHOD_NOT_ALLOWED;
    routes
        .into_iter()
        .fold(Router::new(), |router, slice| slice.mount(router, state))
        .fallback(Gated::no_call(state, unknown_path))
        .method_not_allowed_fallback(Gated::no_call(state, unknown_method))
        .with_state(state.clone())
}

/// Serves on `listener` until `shutdown` completes, then finishes what is under way within
/// `server.shutdown_grace_seconds`. Fails only at the start, where `server.tls_certificate_file` cannot be served.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let router = router(&state);
    serve_router(listener, router, state, shutdown).await
}

/// As [`serve`], with a router of the caller's.
pub async fn serve_router(
    listener: TcpListener,
    router: Router,
    state: AppState,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let settings = &state.store.config().server;
    listen::serve(listener, router, settings, shutdown, || {
        state.readiness.drain();
    })
    .await
}

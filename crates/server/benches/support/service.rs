//! The service to be measured, in this process, and a bare one beside it.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Bytes, http::header, routing::get};
use tokio::net::TcpListener;
use utxoiq_store::{
    Store,
    db::Pool,
    schedule::Scheduler,
    token::{NewToken, Scope, Tokens},
    worker,
};
use utxoiq_store_server::{AppState, serve};

use crate::database::TestDb;

/// Our service on this store.
pub async fn ours(store: &Store) -> SocketAddr {
    let scheduler = Scheduler::new(
        store.pool().clone(),
        store.clock(),
        worker::tasks(store),
        store.config().schedule.clone(),
        "bench",
    );
    let state = AppState::new(store.clone(), scheduler.unwrap()).unwrap();
    while state.readiness.admit().is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (listener, address) = listen().await;
    tokio::spawn(serve(listener, state, std::future::pending()));
    address
}

/// A bare axum service with one handler, at any path.
pub async fn constant(answer: Bytes) -> SocketAddr {
    let (listener, address) = listen().await;
    let handler = get(async move || ([(header::CONTENT_TYPE, "application/json")], answer.clone()));
    let router = Router::new().fallback_service(handler);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A token that may do everything; made by an administrator, as always.
pub async fn token(db: &TestDb, store: &Store) -> String {
    let config = db.settings_with(&[("DATABASE_URL", &db.admin_url())]);
    let pool = Pool::open(&config.database).unwrap();
    let new = NewToken {
        name: "bench".into(),
        subject: None,
        scopes: [Scope::Admin].into(),
        rate_tier: None,
        expires_at: None,
        created_by: "bench".into(),
    };
    let (_, secret) = Tokens::new(&pool).create(new, store.now()).await.unwrap();
    secret.expose().to_owned()
}

//! Somebody who is posted to, in this process: it records what it gets, and may refuse it, hang, or be away.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::{net::TcpListener, task::JoinHandle};

/// A request.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What it was answered; 0 while it hangs.
    pub status: u16,
}

impl Received {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

#[derive(Default)]
struct Behaviour {
    received: Vec<Received>,
    failing: usize,
    hangs: bool,
}

type Shared = Arc<Mutex<Behaviour>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Behaviour> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A receiver of requests on a free port of 127.0.0.1, until it is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Shared,
    serving: Option<JoinHandle<()>>,
}

impl Receiver {
    /// One that takes everything.
    pub async fn start() -> Self {
        let mut receiver = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            shared: Shared::default(),
            serving: None,
        };
        receiver.up().await;
        receiver
    }

    /// The address of a path here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next so many requests get 503.
    pub fn fail(&self, requests: usize) {
        lock(&self.shared).failing = requests;
    }

    /// From now on requests get no answer, or get one again.
    pub fn hang(&self, hangs: bool) {
        lock(&self.shared).hangs = hangs;
    }

    /// From now on connections are refused.
    pub async fn down(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// It is there again, at the same address.
    pub async fn up(&mut self) {
        let listener = TcpListener::bind(self.address)
            .await
            .expect("its port is free");
        self.address = listener.local_addr().expect("it has an address");
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.shared));
        self.serving = Some(tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        }));
    }

    /// Every request, in order.
    pub fn requests(&self) -> Vec<Received> {
        lock(&self.shared).received.clone()
    }

    /// The requests that were taken.
    pub fn taken(&self) -> Vec<Received> {
        let mut requests = self.requests();
        requests.retain(|request| request.status == 200);
        requests
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let (hangs, status) = {
        let mut behaviour = lock(&shared);
        let status = match behaviour.failing {
            0 => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        behaviour.failing = behaviour.failing.saturating_sub(1);
        let hangs = behaviour.hangs;
        behaviour.received.push(Received {
            target: parts.uri.to_string(),
            headers: parts.headers,
            body,
            status: if hangs { 0 } else { status.as_u16() },
        });
        (hangs, status)
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    // No connection outlives its request, so that who is away is away.
    (status, [(header::CONNECTION, "close")], "ok").into_response()
}

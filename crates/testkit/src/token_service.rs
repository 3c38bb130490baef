//! A small server that gives tokens as Google's metadata server does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The server; dropping it ends it.
#[derive(Debug)]
pub struct TokenService {
    state: Shared,
    addr: SocketAddr,
    task: JoinHandle<()>,
}

type Shared = Arc<Mutex<Served>>;

#[derive(Debug)]
struct Served {
    answer: Result<(String, u64), String>,
    asked: usize,
}

impl TokenService {
    /// Starts it with a token, good for so many seconds.
    pub async fn start(token: &str, expires_in: u64) -> Self {
        let state = Arc::new(Mutex::new(Served {
            answer: Ok((token.to_owned(), expires_in)),
            asked: 0,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("no port");
        let addr = listener.local_addr().expect("no address");
        let router = Router::new()
            .route("/token", get(answer))
            .with_state(Arc::clone(&state));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("cannot serve");
        });
        Self { state, addr, task }
    }

    /// Where tokens are asked for.
    pub fn url(&self) -> String {
        format!("http://{}/token", self.addr)
    }

    /// From now on gives this token.
    pub fn rotate(&self, token: &str, expires_in: u64) {
        self.lock().answer = Ok((token.to_owned(), expires_in));
    }

    /// From now on answers 200 with this text.
    pub fn babble(&self, text: &str) {
        self.lock().answer = Err(text.to_owned());
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.lock().asked
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Served> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TokenService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(state): State<Shared>, headers: HeaderMap) -> Response {
    if headers
        .get("metadata-flavor")
        .is_none_or(|flavor| flavor != "Google")
    {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.asked += 1;
    match &state.answer {
        Ok((token, expires_in)) => Json(serde_json::json!({
            "access_token": token,
            "expires_in": expires_in,
            "token_type": "Bearer",
        }))
        .into_response(),
        Err(text) => text.clone().into_response(),
    }
}

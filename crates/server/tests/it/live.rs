//! The whole service on a port, over a database of its own, asked as a client asks it.

use std::{collections::BTreeSet, net::SocketAddr, sync::Mutex, time::Duration};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use utxoiq_store::{db::roles, token::Scope};
use utxoiq_store_server::{openapi, serve};

use crate::{
    database::TestDb,
    support::{Answer, state},
    tokens::token_named,
};

/// A listening service; it ends with this value.
pub struct Live {
    pub db: TestDb,
    pub address: SocketAddr,
    pub client: Client,
    /// A token with every scope.
    pub token: String,
    /// The calls that were answered 200, as the document names them.
    succeeded: Mutex<BTreeSet<(String, String)>>,
    _cold: TempDir,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
}

impl Live {
    pub async fn new(vars: &[(&str, &str)]) -> Self {
        utxoiq_store::cold::use_ring();
        let db = TestDb::new().await;
        let cold = TempDir::new().unwrap();
        let (retention, folder) = (
            db.url_of(roles::RETENTION),
            format!("file://{}", cold.path().display()),
        );
        let own = [
            ("UTXOIQ_STORE_DATABASE__RETENTION_URL", retention.as_str()),
            ("UTXOIQ_STORE_COLD__URL", folder.as_str()),
            (
                "UTXOIQ_STORE_RETENTION__PSEUDONYM_KEY",
                "a key of at least thirty-two characters",
            ),
        ];
        let state = state(db.settings_with(&[&own[..], vars].concat()));
        while state.readiness.admit().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(listener, state, stopped).await.unwrap();
        });
        Self {
            token: token_named(&db, "all", &Scope::ALL).await,
            db,
            address,
            client: Client::new(),
            succeeded: Mutex::default(),
            _cold: cold,
            stop: Some(stop),
            served: Some(served),
        }
    }

    /// Stops it, and waits until it has ended.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            served.await.unwrap();
        }
    }

    /// A request without a token; `target` is path and query.
    pub fn request(&self, method: &str, target: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let url = format!("http://{}{target}", self.address);
        self.client.request(method, url)
    }

    /// A request with the token.
    pub fn authorized(&self, method: &str, target: &str) -> RequestBuilder {
        self.request(method, target).bearer_auth(&self.token)
    }

    /// Makes a call as the document names it: `/api/v1/monitoring/backfill/{job_id}/pause`, or from
    /// `monitoring/backfill` on, with its path's fields, which are percent-encoded here, a query and a body.
    pub async fn call(&self, call: &str, fields: &[&str], body: Option<Value>) -> Answer {
        let (method, path) = call.split_once(' ').unwrap();
        let (template, query) = path.split_once('?').unwrap_or((path, ""));
        let template = format!("/api/v1/monitoring/backfill{template}");
        let mut target = fill_encoded(&template, fields);
        if !query.is_empty() {
            target = format!("{target}?{query}");
        }
        let mut request = self.authorized(method, &target);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = answer(request).await;
        if answer.status == 200 {
            let call = (method.to_lowercase(), template);
            self.succeeded.lock().unwrap().insert(call);
        }
        answer
    }

    /// As [`call`](Self::call), answered 200: the answer's body.
    pub async fn ok(&self, call: &str, fields: &[&str], body: Value) -> Value {
        let body = Some(body).filter(|body| !body.is_null());
        let answer = self.call(call, fields, body).await;
        assert_eq!(answer.status, 200, "{call}: {answer:?}");
        answer.assert_common_headers();
        answer.json()
    }

    /// As [`call`](Self::call), refused: the problem's code.
    pub async fn refused(&self, call: &str, fields: &[&str], body: Value, status: u16) -> String {
        let body = Some(body).filter(|body| !body.is_null());
        self.call(call, fields, body).await.problem(status)
    }

    /// The documented calls below a path that were never answered 200.
    pub fn never_succeeded(&self, below: &str) -> Vec<(String, String)> {
        let succeeded = self.succeeded.lock().unwrap();
        documented()
            .into_iter()
            .map(|call| (call.method, call.path))
            .filter(|(method, path)| {
                path.starts_with(below) && !succeeded.contains(&(method.clone(), path.clone()))
            })
            .collect()
    }
}

/// A call of the document.
pub struct Documented {
    pub method: String,
    pub path: String,
    pub operation: Value,
}

/// Every call of the document.
pub fn documented() -> Vec<Documented> {
    let document: Value = serde_json::from_str(openapi::json()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let calls = paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(|(method, operation)| Documented {
            method: method.clone(),
            path: path.clone(),
            operation: operation.clone(),
        })
    });
    calls.collect()
}

/// Puts values, as they are, in place of a template's `{…}`.
pub fn fill<'a>(template: &str, fields: impl IntoIterator<Item = &'a str>) -> String {
    let mut fields = fields.into_iter();
    let segments = template.split('/').map(|segment| {
        if segment.starts_with('{') {
            fields.next().expect("a value for each field of the path")
        } else {
            segment
        }
    });
    let filled = segments.collect::<Vec<_>>().join("/");
    assert!(fields.next().is_none(), "more values than {template} has");
    filled
}

/// As [`fill`], with values that are percent-encoded first.
pub fn fill_encoded(template: &str, fields: &[&str]) -> String {
    let encoded: Vec<_> = fields.iter().map(|value| encode(value)).collect();
    fill(template, encoded.iter().map(String::as_str))
}

/// Percent-encodes all but letters, digits, `-`, `_`, `.` and `~`.
pub fn encode(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// Sends a request and reads its answer whole.
pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

/// A job that knows no lease.
pub fn start(job_type: &str, first: i64, last: i64) -> Value {
    json!({"job_type": job_type, "start_block": first, "end_block": last})
}

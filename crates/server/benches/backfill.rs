//! Latest status and progress of backfill jobs over HTTP, beside a service that only sends the same answer (C1.2, C1.5).
//!
//! Both services and their clients are in this process: the ratio says what part of the machine the answers themselves
//! leave to the protocol. Nothing is asserted.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is printed: that is what it is for"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on fails"
)]
#![allow(
    dead_code,
    reason = "what is shared with the store's measurements is not all used here"
)]

#[path = "../../store/tests/it/support.rs"]
mod database;
#[path = "../../store/benches/support/measure.rs"]
mod measure;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, body::Bytes, http::header};
use reqwest::{Client, RequestBuilder};
use tokio::net::TcpListener;
use utxoiq_store::{
    db::Pool,
    schedule::Scheduler,
    token::{NewToken, Scope, Tokens},
    worker,
};
use utxoiq_store_server::{AppState, serve};

use measure::{
    Options,
    driver::{Sample, drive},
    fixture::Fixture,
    report::{C1_2, C1_5, Comparison, Criterion, compare, print_table},
};

const PATH: &str = "/api/v1/monitoring/backfill";

#[tokio::main]
async fn main() {
    let options = Options::from_args();
    let fixture = Fixture::new(&options).await;
    let service = Service::start(&options, &fixture).await;
    options.announce("a constant answer");
    let comparisons = [
        latest(&options, &service).await,
        one_job(&options, &service, &fixture).await,
        progress(&options, &service, &fixture).await,
    ];
    print_table("constant", comparisons);
}

async fn latest(options: &Options, service: &Service) -> Option<Comparison> {
    let request =
        |client: &Client, base: &str, _, _| client.get(format!("{base}{PATH}/status?limit=1"));
    service
        .measure(options, "HTTP: latest status", C1_5, async || (), request)
        .await
}

async fn one_job(options: &Options, service: &Service, fixture: &Fixture) -> Option<Comparison> {
    let any_job = fixture.any_job();
    let request = move |client: &Client, base: &str, number, turn| {
        client.get(format!("{base}{PATH}/{}", any_job(number, turn)))
    };
    service
        .measure(
            options,
            "HTTP: status of one job",
            C1_5,
            async || (),
            request,
        )
        .await
}

async fn progress(options: &Options, service: &Service, fixture: &Fixture) -> Option<Comparison> {
    let reported = fixture.reported();
    let request = move |client: &Client, base: &str, number, turn| {
        let (job, block) = reported(number, turn);
        client
            .post(format!("{base}{PATH}/progress?job_id={job}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(format!(
                "{{\"current_block\": {block}, \"progress_percentage\": 1.5}}"
            ))
    };
    let reset = async || fixture.reset().await;
    service
        .measure(options, "HTTP: progress, committed", C1_2, reset, request)
        .await
}

/// The service, and clients that keep their connections.
struct Service {
    url: String,
    clients: Arc<[Client]>,
}

impl Service {
    async fn start(options: &Options, fixture: &Fixture) -> Self {
        let store = fixture.store;
        let scheduler = Scheduler::new(
            store.pool().clone(),
            store.clock(),
            worker::tasks(store),
            store.config().schedule.clone(),
            "bench",
        );
        let state = AppState::new(store.clone(), scheduler.unwrap()).unwrap();
        while state.readiness.admit().is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let (listener, address) = listen().await;
        tokio::spawn(serve(listener, state, std::future::pending()));
        let token = token(fixture).await;
        Self {
            url: format!("http://{address}"),
            clients: (0..options.clients).map(|_| client(&token)).collect(),
        }
    }

    /// Measures a request to the service beside the same request to one that sends the same answer without work.
    async fn measure<R>(
        &self,
        options: &Options,
        title: &'static str,
        criterion: Criterion,
        prepare: impl AsyncFn(),
        request: R,
    ) -> Option<Comparison>
    where
        R: Fn(&Client, &str, usize, i64) -> RequestBuilder + Copy + Send + Sync + 'static,
    {
        prepare().await;
        let answer = read(request(&self.clients[0], &self.url, 0, 0)).await;
        let constant = constant_service(answer).await;
        let ours = async || {
            prepare().await;
            self.drive(options, &self.url, request).await
        };
        let theirs = async || self.drive(options, &constant, request).await;
        compare(options, title, criterion, ours, theirs).await
    }

    async fn drive<R>(&self, options: &Options, url: &str, request: R) -> Sample
    where
        R: Fn(&Client, &str, usize, i64) -> RequestBuilder + Copy + Send + Sync + 'static,
    {
        let (clients, url): (_, Arc<str>) = (Arc::clone(&self.clients), url.into());
        drive(options, move |number, turn| {
            let request = request(&clients[number], &url, number, turn);
            async move {
                read(request).await;
            }
        })
        .await
    }
}

/// Sends a request and reads the answer to its end.
async fn read(request: RequestBuilder) -> Bytes {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.bytes().await.unwrap();
    assert!(status.is_success(), "{status}: {body:?}");
    body
}

/// A service that answers whatever it is asked with these bytes of JSON.
async fn constant_service(answer: Bytes) -> String {
    let (listener, address) = listen().await;
    let router = Router::new().fallback(async move |_: Bytes| {
        ([(header::CONTENT_TYPE, "application/json")], answer.clone())
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn client(token: &str) -> Client {
    let mut value = header::HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    value.set_sensitive(true);
    utxoiq_store::cold::use_ring();
    Client::builder()
        .default_headers(header::HeaderMap::from_iter([(
            header::AUTHORIZATION,
            value,
        )]))
        .tcp_nodelay(true)
        .no_proxy()
        .build()
        .unwrap()
}

/// A token that may read and write backfill jobs; made by an administrator, as always.
async fn token(fixture: &Fixture) -> String {
    let url = fixture.database.admin_url();
    let config = fixture.database.settings_with(&[("DATABASE_URL", &url)]);
    let pool = Pool::open(&config.database).unwrap();
    let new = NewToken {
        name: "bench".into(),
        subject: None,
        scopes: [Scope::BackfillRead, Scope::BackfillWrite].into(),
        rate_tier: None,
        expires_at: None,
        created_by: "bench".into(),
    };
    let (_, secret) = Tokens::new(&pool)
        .create(new, fixture.store.now())
        .await
        .unwrap();
    secret.expose().to_owned()
}

//! The accept loop: HTTP/1.1 with limits that axum's own server does not set.
//!
//! * A connection that does not send a request's head in time is closed, so that slow or silent clients cannot hold
//!   connections for ever. The same time bounds how long a kept-alive connection may be idle.
//! * At most so many connections are open; further ones wait in the system's queue until one closes.
//! * On shutdown nothing new is accepted, idle connections close, requests under way are finished within the grace
//!   period, and what is left then is cut off.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use utxoiq_store::config::ServerSettings;

use crate::client::Peer;

/// The largest request head, in bytes; hyper answers a larger one with 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The pause after the system refused a connection because it has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    CutOff,
}

/// Serves until `shutdown` completes, then drains. `draining` is called when no connection is accepted any more.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    settings: &ServerSettings,
    shutdown: impl Future<Output = ()>,
    draining: impl FnOnce(),
) {
    let max_connections = settings
        .max_connections
        .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
    let places = Arc::new(Semaphore::new(max_connections));
    let (phase, _) = watch::channel(Phase::Serving);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(settings.header_timeout_seconds))
        .max_buf_size(MAX_HEAD_BYTES);
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (stream, address) = accept(&listener).await;
            tokio::spawn(connection(
                builder.clone(),
                stream,
                Peer(address.ip()),
                router.clone(),
                phase.subscribe(),
                place,
            ));
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
    drop(listener);
    draining();
    phase.send_replace(Phase::Draining);
    let all_places = places.acquire_many(u32::try_from(max_connections).unwrap_or(u32::MAX));
    let grace = Duration::from_secs(settings.shutdown_grace_seconds);
    if tokio::time::timeout(grace, all_places).await.is_err() {
        let left = max_connections - places.available_permits();
        tracing::warn!(
            connections = left,
            "cut off what was not finished within server.shutdown_grace_seconds"
        );
        phase.send_replace(Phase::CutOff);
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client gave up while it waited: nothing to do with us.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    builder: http1::Builder,
    stream: TcpStream,
    peer: Peer,
    router: Router,
    mut phase: watch::Receiver<Phase>,
    _place: OwnedSemaphorePermit,
) {
    // Answers are written whole: waiting for more would only delay them. Where it cannot be set, they are just slower.
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            changed = phase.changed() => {
                let now = if changed.is_ok() { *phase.borrow_and_update() } else { Phase::CutOff };
                match now {
                    Phase::Serving => {}
                    Phase::Draining => served.as_mut().graceful_shutdown(),
                    Phase::CutOff => return,
                }
            }
        }
    }
}

//! The accept loop: HTTP/1.1 with limits that axum's own server does not set.
//!
//! * A connection that does not send a request's head in time is closed, so that slow or silent clients cannot hold
//!   connections for ever. The same time bounds how long a kept-alive connection may be idle.
//! * At most so many connections are open; a further one gets the place of the one that has been without a request the
//!   longest ([`places`]).
//! * A client that takes nothing of its answer for `server.request_timeout_seconds` is disconnected: what it asked for takes memory.
//! * With a certificate, TLS 1.2 or newer is spoken and nothing else. A handshake holds a place and has the head's time; who is
//!   slow at it keeps nobody else from being accepted.
//! * On shutdown `/readyz` says so first; for `server.shutdown_delay_seconds` all is answered as before, with `Connection: close`, so
//!   that a balancer turns away before the door is closed. Then nothing new is accepted, idle connections close, requests under
//!   way are finished within the grace period, and what is left then is cut off.
//!
//! ```text
//! told to stop ──► not ready, still serving ──► door closed, finishing ──► cut off
//!                  └─ shutdown_delay_seconds ─┘└─ shutdown_grace_seconds ─┘
//! ```

mod places;
mod tls;

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    http::{HeaderValue, Request, Response, header},
};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_io_timeout::TimeoutStream;
use utxoiq_store::{config::ServerSettings, error::Result};

use self::{
    places::{Place, Places, Seat},
    tls::ServedTls,
};

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

/// What all connections share.
struct Shared {
    builder: http1::Builder,
    router: Router,
    tls: Option<ServedTls>,
    handshake_timeout: Duration,
    write_timeout: Duration,
    /// Whether clients are asked to go elsewhere.
    leaving: Arc<AtomicBool>,
}

/// Serves until `shutdown` completes, then drains. `draining` is called when clients are to go elsewhere. Fails only
/// at the start, on a certificate that cannot be served.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    settings: &ServerSettings,
    shutdown: impl Future<Output = ()>,
    draining: impl FnOnce(),
) -> Result<()> {
    let (tls, seen) = ServedTls::open(settings).await?.unzip();
    let places = Places::new(settings.max_connections);
    let (phase, _) = watch::channel(Phase::Serving);
    let head_timeout = Duration::from_secs(settings.header_timeout_seconds);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    let shared = Arc::new(Shared {
        builder,
        router,
        tls,
        handshake_timeout: head_timeout,
        write_timeout: Duration::from_secs(settings.request_timeout_seconds),
        leaving: Arc::default(),
    });
    let leaving = Arc::clone(&shared.leaving);
    let told = async {
        shutdown.await;
        draining();
        leaving.store(true, Relaxed);
        tokio::time::sleep(Duration::from_secs(settings.shutdown_delay_seconds)).await;
    };
    let accepting = async {
        loop {
            let (stream, address) = accept(&listener).await;
            let place = places.take().await;
            let shared = Arc::clone(&shared);
            tokio::spawn(connection(
                shared,
                stream,
                Peer(address.ip()),
                phase.subscribe(),
                place,
            ));
        }
    };
    let following = async {
        match (&shared.tls, seen) {
            (Some(tls), Some(seen)) => tls.follow(seen).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = accepting => {}
        () = following => {}
        () = told => {}
    }
    drop(listener);
    phase.send_replace(Phase::Draining);
    let grace = Duration::from_secs(settings.shutdown_grace_seconds);
    if tokio::time::timeout(grace, places.all_left())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = places.count(),
            "cut off what was not finished within server.shutdown_grace_seconds"
        );
        phase.send_replace(Phase::CutOff);
    }
    Ok(())
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
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: Peer,
    mut phase: watch::Receiver<Phase>,
    place: Place,
) {
    // Answers are written whole: waiting for more would only delay them. Where it cannot be set, they are just slower.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(shared.write_timeout));
    let stream = Box::pin(stream);
    let Some(tls) = &shared.tls else {
        return requests(&shared, stream, phase, peer, &place.seat).await;
    };
    let handshake = tls.acceptor().accept(stream);
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(shared.handshake_timeout, handshake) => shaken,
        // Nothing was asked yet: nothing is lost.
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        () = place.seat.given_away() => return,
    };
    match shaken {
        Ok(Ok(stream)) => requests(&shared, stream, phase, peer, &place.seat).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Answers the requests of one connection until it ends.
async fn requests(
    shared: &Shared,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut phase: watch::Receiver<Phase>,
    peer: Peer,
    seat: &Arc<Seat>,
) {
    let service = Seated {
        seat: Arc::clone(seat),
        peer,
        leaving: Arc::clone(&shared.leaving),
        service: TowerToHyperService::new(shared.router.clone()),
    };
    let serving = shared
        .builder
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(serving);
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = seat.given_away() => return,
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

/// The service of one connection, which tells its place when a request is being answered.
struct Seated {
    seat: Arc<Seat>,
    peer: Peer,
    leaving: Arc<AtomicBool>,
    service: TowerToHyperService<Router>,
}

impl Service<Request<Incoming>> for Seated {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let Some(working) = self.seat.work() else {
            let gone = io::Error::other("the connection's place was given away");
            return Box::pin(std::future::ready(Err(gone)));
        };
        request.extensions_mut().insert(self.peer);
        let answering = self.service.call(request);
        let leaving = Arc::clone(&self.leaving);
        Box::pin(async move {
            let Ok(mut answer) = answering.await;
            if leaving.load(Relaxed) {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            if answer.body().size_hint().exact().is_some() {
                return Ok(answer);
            }
            // It streams: the request lasts until the last piece.
            Ok(answer.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _still = &working;
                    frame
                }))
            }))
        })
    }
}

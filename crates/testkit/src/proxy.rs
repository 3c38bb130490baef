//! A TCP proxy that breaks on demand.
//!
//! It stands between a client and a server of ours and shows the client every way in which a network fails that can be
//! made without root: refused, closed at once, reset in the middle, slow, and silent. What it cannot make is a link
//! whose packets vanish *without acknowledgement* (a pulled cable): the kernel here acknowledges what the proxy has not
//! read. A client's read timeout is tested by [`Mode::Silent`], its TCP keepalive is not.
//!
//! Each connection is one task that owns both sockets: when it ends, both are closed, and there is no half of it that
//! could linger.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::ports;

/// Chunks that may be on their way in one direction. With 16 KiB each, a delayed link still carries 1 MiB in flight.
const IN_FLIGHT: usize = 64;
const CHUNK: usize = 16 * 1024;

/// What the proxy does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards everything.
    Pass,
    /// New connections are refused by the kernel (the listener is closed), so no attempt is seen or counted. Present
    /// ones go on: [`FaultProxy::cut`] ends them.
    Refuse,
    /// New connections are accepted, counted with their time, and closed at once. Present ones go on. The mode to
    /// measure with how often and in what rhythm a client tries again.
    DropNew,
    /// New connections are accepted, and nothing is forwarded in either direction, also not on present ones: a peer
    /// that froze. Going back to [`Mode::Pass`] delivers what was held.
    Silent,
    /// Forwards everything later by this much, in each direction: a round trip takes twice as long. Bandwidth stays.
    Delay(Duration),
}

/// How [`FaultProxy::cut`] ends connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As a process that exits: the peer reads the end of the stream.
    Close,
    /// As a crashed host that came back, or a firewall that forgot: the peer gets "connection reset".
    Reset,
}

/// A connection attempt that reached the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When it was accepted.
    pub at: std::time::Instant,
    /// `false`: it was closed at once ([`Mode::DropNew`]).
    pub kept: bool,
}

/// A proxy on a free port of 127.0.0.1. Dropping it closes its listener and all connections.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<(Mode, oneshot::Sender<()>)>,
    acceptor: JoinHandle<()>,
}

impl FaultProxy {
    /// Starts in [`Mode::Pass`]. The upstream need not run: as long as it does not, connections are closed at once.
    pub async fn start(upstream: SocketAddr) -> Self {
        let (listener, addr) = listen().await;
        let shared = Arc::new(Shared {
            upstream,
            mode: watch::Sender::new(Mode::Pass),
            generation: Mutex::new(watch::Sender::new(None)),
            attempts: Mutex::new(Vec::new()),
            bytes_to_upstream: AtomicU64::new(0),
            bytes_to_client: AtomicU64::new(0),
        });
        let (commands, inbox) = mpsc::unbounded_channel();
        let acceptor = tokio::spawn(accept(addr, listener, Arc::clone(&shared), inbox));
        Self {
            addr,
            shared,
            commands,
            acceptor,
        }
    }

    /// Starts in front of a server on this port of 127.0.0.1.
    pub async fn start_for_port(port: u16) -> Self {
        Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
    }

    /// Where clients connect to; it stays the same in every mode.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Switches the mode; on return it is in force, for present connections too.
    pub async fn set(&self, mode: Mode) {
        let (done, is_done) = oneshot::channel();
        let _ = self.commands.send((mode, done));
        is_done
            .await
            .expect("the proxy has stopped: was its runtime dropped before it?");
    }

    /// Ends all present connections and returns when both sides of each are closed; the mode stays, so that new ones
    /// pass if they passed before. One that the kernel holds and the proxy has not accepted yet counts as new.
    pub async fn cut(&self, ending: Ending) {
        let present = std::mem::replace(
            &mut *lock(&self.shared.generation),
            watch::Sender::new(None),
        );
        present.send_replace(Some(ending));
        present.closed().await;
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        lock(&self.shared.generation).receiver_count()
    }

    /// How many connections were accepted so far, those closed at once included. Refused ones are not seen.
    pub fn accepted(&self) -> usize {
        lock(&self.shared.attempts).len()
    }

    /// Every accepted connection with its time, oldest first.
    pub fn attempts(&self) -> Vec<Attempt> {
        lock(&self.shared.attempts).clone()
    }

    /// Forgets the attempts so far, so that a test counts from here.
    pub fn forget_attempts(&self) {
        lock(&self.shared.attempts).clear();
    }

    /// Bytes written to the upstream so far.
    pub fn bytes_to_upstream(&self) -> u64 {
        self.shared.bytes_to_upstream.load(Ordering::Relaxed)
    }

    /// Bytes written to clients so far.
    pub fn bytes_to_client(&self) -> u64 {
        self.shared.bytes_to_client.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        lock(&self.shared.generation).send_replace(Some(Ending::Close));
    }
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    mode: watch::Sender<Mode>,
    /// The present connections: each holds a receiver, so the sender can tell them all to end and see when they have.
    /// A cut replaces it, which is what separates present connections from new ones.
    generation: Mutex<watch::Sender<Option<Ending>>>,
    attempts: Mutex<Vec<Attempt>>,
    bytes_to_upstream: AtomicU64,
    bytes_to_client: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen() -> (TcpListener, SocketAddr) {
    for _ in 0..20 {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free_port()));
        if let Ok(listener) = TcpListener::bind(addr).await {
            return (listener, addr);
        }
    }
    panic!("20 ports were taken by somebody else between being found free and being used");
}

async fn accept(
    addr: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
    mut commands: mpsc::UnboundedReceiver<(Mode, oneshot::Sender<()>)>,
) {
    let mut listener = Some(listener);
    loop {
        let next = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            // Commands first: after `set(DropNew)` not one more connection is kept.
            biased;
            command = commands.recv() => {
                let Some((mode, done)) = command else { return };
                if mode == Mode::Refuse {
                    listener = None;
                } else if listener.is_none() {
                    listener = Some(listen_again(addr).await);
                }
                shared.mode.send_replace(mode);
                let _ = done.send(());
            }
            accepted = next => {
                // An error here is one connection that its client gave up before it was accepted.
                let Ok((client, _)) = accepted else { continue };
                let kept = *shared.mode.borrow() != Mode::DropNew;
                lock(&shared.attempts).push(Attempt { at: std::time::Instant::now(), kept });
                if kept {
                    let endings = lock(&shared.generation).subscribe();
                    tokio::spawn(carry(client, Arc::clone(&shared), endings));
                }
            }
        }
    }
}

/// Clients know the port: it is waited for, should another process have taken it while nothing listened.
async fn listen_again(addr: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(addr).await {
            Ok(listener) => return listener,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// One connection, from accepting to closing. `endings` goes last of all: its drop says that both sockets are closed.
async fn carry(
    mut client: TcpStream,
    shared: Arc<Shared>,
    mut endings: watch::Receiver<Option<Ending>>,
) {
    let mut server = None;
    let ending = {
        let forwarding = async {
            let server = server.insert(TcpStream::connect(shared.upstream).await?);
            // A proxy that collects small packets would be slow where the real link is not.
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            tokio::try_join!(
                forward(
                    from_client,
                    to_server,
                    &shared.mode,
                    &shared.bytes_to_upstream
                ),
                forward(
                    from_server,
                    to_client,
                    &shared.mode,
                    &shared.bytes_to_client
                ),
            )
        };
        tokio::select! {
            result = forwarding => match result {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ending::Reset,
                Ok(_) | Err(_) => Ending::Close,
            },
            ending = endings.wait_for(Option::is_some) => ending.ok().and_then(|ending| *ending).unwrap_or(Ending::Close),
        }
    };
    if ending == Ending::Reset {
        for stream in [Some(&client), server.as_ref()].into_iter().flatten() {
            let _ = stream.set_zero_linger();
        }
    }
    drop((client, server));
    drop(endings);
}

/// One direction. Reading and writing are apart, with the time of arrival between them, so that a delay makes the link
/// longer and not narrower.
async fn forward(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mode: &watch::Sender<Mode>,
    counter: &AtomicU64,
) -> io::Result<()> {
    let (queue, mut arrived) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let reading = async move {
        loop {
            let mut chunk = vec![0; CHUNK];
            let length = from.read(&mut chunk).await?;
            chunk.truncate(length);
            // An empty chunk is the end of the stream; it takes its turn like the others.
            if queue.send((Instant::now(), chunk)).await.is_err() || length == 0 {
                return Ok(());
            }
        }
    };
    let writing = async move {
        let mut modes = mode.subscribe();
        while let Some((at, chunk)) = arrived.recv().await {
            wait_for_turn(at, &mut modes).await;
            if chunk.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(&chunk).await?;
            counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// Returns when what arrived `at` may go on; looks again whenever the mode changes.
async fn wait_for_turn(at: Instant, modes: &mut watch::Receiver<Mode>) {
    loop {
        let mode = *modes.borrow_and_update();
        let turn = async {
            match mode {
                Mode::Silent => pending().await,
                Mode::Delay(delay) => sleep_until(at + delay).await,
                Mode::Pass | Mode::Refuse | Mode::DropNew => {}
            }
        };
        tokio::select! {
            biased;
            () = turn => return,
            changed = modes.changed() => if changed.is_err() { return },
        }
    }
}

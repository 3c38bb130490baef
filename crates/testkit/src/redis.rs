//! A private Redis that may be killed or frozen, and whose data may be broken.

use std::env;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::last_will::LastWill;
use crate::{Issued, blocking, ports, secret};

mod data;
mod wire;

pub use wire::Reply;

const START_TIMEOUT: Duration = Duration::from_mins(1);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// A private Redis on a free port of 127.0.0.1, with a random password and nothing on disk. Dropping it stops it.
#[derive(Debug)]
pub struct RedisServer {
    server: Arc<Mutex<Server>>,
    port: u16,
    password: String,
}

impl RedisServer {
    /// Whether this machine has a Redis to start. Where it has none, a test that needs one says so and returns.
    pub fn is_available() -> bool {
        program().is_some()
    }

    /// Starts a server that keeps nothing on disk; returns when it answers.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts a server with more lines of configuration (`redis.conf`), for instance `maxmemory 1mb`.
    pub async fn start_with(configuration: &str) -> Self {
        let more = configuration.to_owned();
        blocking(move || {
            let server = Server::create(more, false);
            let (port, password) = (server.port, server.password.clone());
            Self {
                server: Arc::new(Mutex::new(server)),
                port,
                password,
            }
        })
        .await
    }

    /// Starts a server that speaks TLS only, with this certificate; with an authority of clients, these must show one of its
    /// certificates.
    pub async fn start_tls(issued: &Issued, client_ca_file: Option<&Path>) -> Self {
        let file = |path: &Path| path.display().to_string();
        let mut more = format!(
            "tls-cert-file \"{}\"\ntls-key-file \"{}\"\n",
            file(&issued.certificate_file),
            file(&issued.key_file)
        );
        match client_ca_file {
            Some(ca) => more.push_str(&format!("tls-ca-cert-file \"{}\"\n", file(ca))),
            None => more.push_str("tls-auth-clients no\n"),
        }
        blocking(move || {
            let server = Server::create(more, true);
            let (port, password) = (server.port, server.password.clone());
            Self {
                server: Arc::new(Mutex::new(server)),
                port,
                password,
            }
        })
        .await
    }

    /// Its password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The port of 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL with the password.
    pub fn url(&self) -> String {
        self.url_through(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// URL with the password, through another address: that of a [`FaultProxy`](crate::FaultProxy) in front of it.
    pub fn url_through(&self, addr: SocketAddr) -> String {
        format!("redis://default:{}@{addr}/0", self.password)
    }

    /// SIGKILL; returns when the process is gone.
    pub async fn kill9(&self) {
        self.with(Server::kill9).await;
    }

    /// An orderly shutdown.
    pub async fn stop(&self) {
        self.with(Server::stop).await;
    }

    /// Starts it again after [`kill9`](Self::kill9) or [`stop`](Self::stop), on the same port and, unless configured
    /// otherwise, empty.
    pub async fn start_again(&self) {
        self.with(|server| {
            assert!(server.process.is_none(), "Redis runs already");
            server.start_on_same_port();
        })
        .await;
    }

    /// An orderly shutdown and a start.
    pub async fn restart(&self) {
        self.with(|server| {
            server.stop();
            server.start_on_same_port();
        })
        .await;
    }

    /// SIGSTOP: from now on it accepts connections (the kernel does) and answers nothing, until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.lock().signal(Signal::STOP);
    }

    /// SIGCONT: it answers again, also what was sent to it meanwhile.
    pub fn thaw(&self) {
        self.lock().signal(Signal::CONT);
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Server) -> T + Send + 'static,
    ) -> T {
        let server = Arc::clone(&self.server);
        blocking(move || work(&mut lock(&server))).await
    }

    fn lock(&self) -> MutexGuard<'_, Server> {
        lock(&self.server)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.lock().kill9();
    }
}

fn lock(server: &Mutex<Server>) -> MutexGuard<'_, Server> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Redis, or Valkey where the distribution has replaced it.
fn program() -> Option<PathBuf> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    ["redis-server", "valkey-server"].iter().find_map(|name| {
        env::split_paths(&on_path)
            .map(|dir| dir.join(name))
            .find(|path| path.is_file())
    })
}

/// The server itself; all its methods block.
#[derive(Debug)]
struct Server {
    program: PathBuf,
    port: u16,
    password: String,
    more: String,
    is_tls: bool,
    process: Option<Child>,
    last_will: LastWill,
    dir: TempDir,
}

impl Server {
    fn create(more: String, is_tls: bool) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("testkit-redis-")
            .tempdir()
            .expect("no temporary folder");
        let mut server = Self {
            program: program().expect("no redis-server on PATH: `./dev test` installs it"),
            port: 0,
            password: secret(),
            more,
            is_tls,
            process: None,
            last_will: LastWill::new(Some(dir.path())),
            dir,
        };
        for _ in 0..20 {
            server.port = ports::free_port();
            if server.try_start() {
                return server;
            }
        }
        panic!("Redis did not start on any of 20 ports");
    }

    fn start_on_same_port(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.try_start() {
            assert!(
                Instant::now() < deadline,
                "Redis did not start again on port {}",
                self.port
            );
            thread::sleep(POLL * 20);
        }
    }

    /// `false` when it ended by itself, which with a sound configuration means: the port was taken.
    fn try_start(&mut self) -> bool {
        let configuration = format!(
            "bind 127.0.0.1\n{}\nrequirepass {}\ndaemonize no\nsave \"\"\nappendonly no\ndir \"{}\"\n{}\n",
            self.listens(),
            self.password,
            self.dir.path().display(),
            self.more,
        );
        // Through standard input: the password is then neither an argument, which is public, nor a file.
        let mut process = Command::new(&self.program)
            .arg("-")
            .current_dir(self.dir.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot run Redis");
        self.last_will.kills_process(process.id());
        let mut input = process.stdin.take().expect("the pipe was asked for");
        // Should it have ended already, that is seen below.
        let _ = input.write_all(configuration.as_bytes());
        drop(input);
        let deadline = Instant::now() + START_TIMEOUT;
        while process.try_wait().expect("cannot wait for Redis").is_none() {
            if self.answers().unwrap_or(false) {
                self.process = Some(process);
                return true;
            }
            assert!(
                Instant::now() < deadline,
                "Redis runs and does not answer on port {}",
                self.port
            );
            thread::sleep(POLL);
        }
        self.last_will.kills_nothing();
        false
    }

    /// Where it listens. Beside TLS there is a socket, over which the test kit asks without it.
    fn listens(&self) -> String {
        if self.is_tls {
            let socket = self.dir.path().join("socket");
            format!(
                "port 0\ntls-port {}\nunixsocket \"{}\"",
                self.port,
                socket.display()
            )
        } else {
            format!("port {}", self.port)
        }
    }

    /// Whether *our* server answers: another one on this port does not know the password.
    fn answers(&self) -> io::Result<bool> {
        let timeout = Duration::from_secs(1);
        if self.is_tls {
            let mut stream = UnixStream::connect(self.dir.path().join("socket"))?;
            stream.set_read_timeout(Some(timeout))?;
            return self.knows_password(&mut stream);
        }
        let mut stream = TcpStream::connect_timeout(
            &SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
            timeout,
        )?;
        stream.set_read_timeout(Some(timeout))?;
        self.knows_password(&mut stream)
    }

    fn knows_password(&self, stream: &mut (impl Read + Write)) -> io::Result<bool> {
        stream.write_all(format!("AUTH {}\r\n", self.password).as_bytes())?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+OK\r\n")
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("Redis does not run");
        kill_process(Pid::from_child(process), signal).expect("cannot signal Redis");
    }

    fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            self.last_will.kills_nothing();
        }
    }

    fn stop(&mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        // A frozen process takes the signal only once it goes on.
        let pid = Pid::from_child(process);
        let _ = kill_process(pid, Signal::TERM);
        let _ = kill_process(pid, Signal::CONT);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while process.try_wait().expect("cannot wait for Redis").is_none()
            && Instant::now() < deadline
        {
            thread::sleep(POLL);
        }
        self.kill9();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
    }
}

//! The world of a run: one PostgreSQL, one Redis, and several server processes, each with links of its own that can be
//! broken.
//!
//! ```text
//!  readers, writers ── HTTP ──► server 0 ── link ──► PostgreSQL ◄── SQL of the owner
//!                  └── HTTP ──► server 1 ── link ──┘
//!                                   each also ── link ──► Redis
//! ```

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use reqwest::Client;
use tokio::time::sleep;
use url::Url;
use utxoiq_store_testkit::{FaultProxy, PgCluster, PgOptions, Proc, RedisServer, ports::free_port};

use super::{
    client::READ_TIMEOUT,
    history::{Recorder, Stats},
    sql,
    straw::{self, Protocol},
};
use crate::support::{BINARY, PASSWORD, until};

const PATIENCE: Duration = Duration::from_mins(1);
/// A server whose faults have ended must answer again within this.
const RECOVERY: Duration = Duration::from_secs(20);

/// A migrated database to be copied, and a token. The worlds of all tests that run at once share its cluster, so that
/// each also meets the others' open transactions.
pub struct Base {
    cluster: PgCluster,
    token: String,
}

const TEMPLATE: &str = "postgres";

impl Base {
    /// The one that is there, or a new one.
    pub async fn start() -> Arc<Self> {
        static PRESENT: tokio::sync::Mutex<Weak<Base>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut present = PRESENT.lock().await;
        if let Some(base) = present.upgrade() {
            return base;
        }
        let base = Self::new().await;
        *present = Arc::downgrade(&base);
        base
    }

    async fn new() -> Arc<Self> {
        let cluster = PgCluster::start(PgOptions::default()).await;
        let url = cluster.admin_url(TEMPLATE);
        run(&url, &["init"]).await;
        let client = connect(&url).await;
        let set = format!("alter role utxoiq_app password '{PASSWORD}'");
        client.batch_execute(&set).await.unwrap();
        run(&url, &["migrate", "up"]).await;
        let create = ["token", "create", "--name", "coherence", "--scopes", "all"];
        let token = run(&url, &create).await.trim().to_owned();
        Arc::new(Self { cluster, token })
    }

    /// A copy of the migrated database; its administrator's address.
    async fn copy(&self, name: &str) -> String {
        // Nobody may be connected to what is copied: another copy may be under way, a session may be closing.
        let client = connect(&self.cluster.admin_url("template1")).await;
        let sql = format!("create database {name} template {TEMPLATE}");
        until("the database can be copied", async || {
            client.batch_execute(&sql).await.is_ok()
        })
        .await;
        self.cluster.admin_url(name)
    }
}

/// Runs an administrator's command that must succeed; gives what it printed.
async fn run(admin_url: &str, arguments: &[&str]) -> String {
    let output = tokio::process::Command::new(BINARY)
        .args(arguments)
        .env("DATABASE_URL", admin_url)
        .env("DATABASE_ADMIN_URL", admin_url)
        .env("REDIS_URL", "")
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A connection.
pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// An insight's name.
pub fn insight_name(number: usize) -> String {
    format!("insight-{number}")
}

/// What serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The product.
    Product,
    /// A straw server.
    Straw(Protocol),
}

pub struct World {
    pub recorder: Arc<Recorder>,
    pub redis: RedisServer,
    pub servers: Vec<Server>,
    pub kind: Kind,
    /// What its callers show.
    pub token: String,
    /// Kept as long as the world.
    base: Arc<Base>,
    admin_url: String,
    probes: AtomicU64,
}

/// One server process with its links.
pub struct Server {
    number: usize,
    port: AtomicU16,
    pub client: Client,
    pub redis_link: FaultProxy,
    pub database_link: FaultProxy,
    process: Mutex<Option<Proc>>,
    environment: Vec<(String, String)>,
    kind: Kind,
}

impl World {
    /// So many servers, ready, and so many insights, all without ratings.
    pub async fn start(base: &Arc<Base>, kind: Kind, servers: usize, insights: usize) -> Arc<Self> {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let admin_url = base
            .copy(&format!("world_{}", NAMES.fetch_add(1, Relaxed)))
            .await;
        if matches!(kind, Kind::Straw(_)) {
            connect(&admin_url)
                .await
                .batch_execute(sql::STRAW_CHANGES)
                .await
                .unwrap();
        }
        let redis = RedisServer::start().await;
        let mut world = Self {
            recorder: Arc::new(Recorder::new(insights)),
            redis,
            servers: Vec::new(),
            kind,
            token: base.token.clone(),
            base: Arc::clone(base),
            admin_url,
            probes: AtomicU64::new(0),
        };
        for number in 0..servers {
            world.servers.push(world.new_server(number).await);
        }
        for server in &world.servers {
            server.start().await;
            world.recovered(server.number).await;
        }
        let world = Arc::new(world);
        world.recorder.watch_the_machine();
        world
    }

    async fn new_server(&self, number: usize) -> Server {
        let redis_link = FaultProxy::start_for_port(self.redis.port()).await;
        let database_link = FaultProxy::start_for_port(self.base.cluster.port()).await;
        let mut database_url = Url::parse(&self.admin_url).unwrap();
        database_url
            .set_port(Some(database_link.addr().port()))
            .unwrap();
        if self.kind == Kind::Product {
            database_url.set_username("utxoiq_app").unwrap();
            database_url.set_password(Some(PASSWORD)).unwrap();
        }
        let mut environment = vec![
            ("DATABASE_URL".to_owned(), database_url.to_string()),
            (
                "REDIS_URL".to_owned(),
                self.redis.url_through(redis_link.addr()),
            ),
        ];
        if let Kind::Straw(protocol) = self.kind {
            environment.push((straw::PROTOCOL.to_owned(), protocol.name()));
            if number == 0 {
                environment.push((straw::RELAYS.to_owned(), String::new()));
            }
        }
        utxoiq_store::cold::use_ring();
        Server {
            number,
            port: AtomicU16::new(free_port()),
            client: Client::builder().no_proxy().build().unwrap(),
            redis_link,
            database_link,
            process: Mutex::default(),
            environment,
            kind: self.kind,
        }
    }

    /// A connection past all links that acts as the tables' owner.
    pub async fn owner(&self) -> tokio_postgres::Client {
        let client = connect(&self.admin_url).await;
        client.batch_execute("set role utxoiq_owner").await.unwrap();
        client
    }

    /// Waits until a server answers from the database: for an insight that nobody has asked for before.
    pub async fn recovered(&self, server: usize) {
        let deadline = Instant::now() + RECOVERY;
        loop {
            let probe = format!("probe-{}", self.probes.fetch_add(1, Relaxed));
            match self.stats(server, &probe, None).await {
                Ok(stats) => {
                    assert_eq!(stats, Stats::default());
                    return;
                }
                Err(failure) => assert!(
                    Instant::now() < deadline,
                    "server {server} does not recover: {failure:?}\n{}",
                    self.servers[server].output()
                ),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Server {
    /// Starts the process and waits until it is ready.
    ///
    /// Somebody else may have taken its port since it was found free, or since the process was killed: then it gets
    /// another one.
    pub async fn start(&self) {
        let mut tries = 0;
        loop {
            let process = self.spawn();
            let listening = process
                .wait_for_line(|line| line.contains("listening"), PATIENCE)
                .await;
            match listening {
                Ok(_) => {
                    *self.process() = Some(process);
                    break;
                }
                Err(output) if output.contains("in use") && tries < 5 => tries += 1,
                Err(output) => panic!("server {} does not start: {output}", self.number),
            }
            self.port.store(free_port(), Relaxed);
        }
        until("the server is ready", async || {
            let ready = format!("{}/readyz", self.root());
            let answer = self.client.get(ready).timeout(READ_TIMEOUT).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    fn spawn(&self) -> Proc {
        let listen = format!("127.0.0.1:{}", self.port.load(Relaxed));
        let environment = self.environment.clone();
        match self.kind {
            Kind::Product => Proc::spawn(BINARY, ["serve", "--listen", &listen], environment),
            Kind::Straw(_) => {
                let address = (straw::LISTEN.to_owned(), listen);
                let environment = environment.into_iter().chain([address]);
                Proc::spawn(
                    std::env::current_exe().unwrap(),
                    straw::ARGUMENTS,
                    environment,
                )
            }
        }
    }

    /// Its address.
    pub fn root(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.load(Relaxed))
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill9(&self) {
        self.process().as_ref().unwrap().kill9();
        until("the killed server is gone", async || {
            self.process()
                .as_ref()
                .is_none_or(|process| process.status().is_some())
        })
        .await;
        *self.process() = None;
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        self.process().as_ref().unwrap().stop();
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process().as_ref().unwrap().cont();
    }

    /// What it has logged.
    pub fn output(&self) -> String {
        let process = self.process();
        let output = process.as_ref().map(Proc::output).unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn process(&self) -> MutexGuard<'_, Option<Proc>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

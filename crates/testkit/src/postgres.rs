//! A private PostgreSQL cluster that may be killed.
//!
//! The suite shares one cluster (see [`crate::urls::admin_url`]). A test that kills the server, or needs a setting of
//! its own, starts a [`PgCluster`]: about a second, then it can be crashed and restarted as often as the test likes.
//!
//! Why not `pg_ctl`: the postmaster is started directly, so that it is *our* child. Its process id is then certain (no
//! file to read that an earlier life left behind), and its death is seen at once.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
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

/// A start may replay a lot of WAL after a kill under load, on a machine that is busy compiling.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// A fast shutdown writes a checkpoint.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);
/// Backends notice the postmaster's death when they next wait for something; one that computes is killed after this.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// The only user of a new cluster.
const SUPERUSER: &str = "postgres";

/// How a [`PgCluster`] differs from the usual one.
#[derive(Debug, Clone)]
pub struct PgOptions {
    /// `true`: commits reach the disk, as in production. `false` (the default) is several times faster and loses
    /// nothing when *processes* are killed, which is all that a test can do; only a dying machine would tell them apart.
    pub fsync: bool,
    /// 300 unless told: tests of the pool ask for far more connections than a service does.
    pub max_connections: u32,
    /// 32 MB unless told: many clusters may run at once.
    pub shared_buffers: String,
    /// Further settings, as in `postgresql.conf`; they win over the ones above.
    pub settings: Vec<(String, String)>,
    /// The folder of `postgres` and `initdb`; [`find_bin_dir`] looks for it unless told.
    pub bin_dir: Option<PathBuf>,
    /// The certificate that it serves TLS with; none: no TLS.
    pub certificate: Option<Issued>,
    /// The file of the authority whose certificates clients may show.
    pub client_ca_file: Option<PathBuf>,
    /// The whole of `pg_hba.conf`; scram for everybody unless told.
    pub hba: Option<String>,
    /// Whether it also listens on a socket, in [`PgCluster::socket_dir`].
    pub socket: bool,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            fsync: false,
            max_connections: 300,
            shared_buffers: "32MB".to_owned(),
            settings: Vec::new(),
            bin_dir: None,
            certificate: None,
            client_ca_file: None,
            hba: None,
            socket: false,
        }
    }
}

/// The folder that has both `postgres` and `initdb`: `PG_BIN`, then `PATH`, then `/usr/lib/postgresql/*/bin`, newest
/// first.
///
/// Both, because Debian puts wrappers of the client programs on `PATH` and the server's programs elsewhere. A `PG_BIN`
/// without them panics instead of being passed over: who names a version wants that one tested.
pub fn find_bin_dir() -> PathBuf {
    let complete = |dir: &Path| dir.join("postgres").is_file() && dir.join("initdb").is_file();
    if let Some(dir) = env::var_os("PG_BIN").filter(|dir| !dir.is_empty()) {
        let dir = PathBuf::from(dir);
        assert!(
            complete(&dir),
            "PG_BIN={} has no postgres and initdb",
            dir.display()
        );
        return dir;
    }
    let on_path = env::var_os("PATH").unwrap_or_default();
    if let Some(dir) = env::split_paths(&on_path).find(|dir| complete(dir)) {
        return dir;
    }
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, dir)| complete(dir))
        .collect();
    packaged.sort();
    packaged
        .pop()
        .map(|(_, dir)| dir)
        .expect("no PostgreSQL found: set PG_BIN, or run `./dev test`, which installs it")
}

/// A private cluster on a free port of 127.0.0.1. Dropping it stops the server and removes its files.
#[derive(Debug)]
pub struct PgCluster {
    cluster: Arc<Mutex<Cluster>>,
    port: u16,
    password: String,
}

impl PgCluster {
    /// Makes a new cluster and starts it; returns when it answers.
    ///
    /// Its superuser is `postgres`, with a random password and scram authentication; encoding UTF-8, locale `C.UTF-8`.
    /// Another process that takes the chosen port in the meantime costs another try, not the test.
    pub async fn start(options: PgOptions) -> Self {
        blocking(move || {
            let password = secret();
            let cluster = Cluster::create(&options, &password);
            let port = cluster.port;
            Self {
                cluster: Arc::new(Mutex::new(cluster)),
                port,
                password,
            }
        })
        .await
    }

    /// A hot standby of this cluster: a copy of it, made now, that goes on streaming. Same users and passwords. What
    /// `settings` say wins over what the copy brings.
    pub async fn standby(&self, settings: &[(&str, &str)]) -> Self {
        let (primary, password) = (self.port, self.password.clone());
        let (bin_dir, fsync) = {
            let cluster = self.lock();
            (cluster.bin_dir.clone(), cluster.fsync)
        };
        let mut text = String::new();
        for (name, value) in settings {
            let _ = writeln!(text, "{name} = '{value}'");
        }
        blocking(move || {
            let cluster = Cluster::copy_of(primary, &password, bin_dir, fsync, &text);
            Self {
                port: cluster.port,
                cluster: Arc::new(Mutex::new(cluster)),
                password,
            }
        })
        .await
    }

    /// The port of 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL of the superuser for one database (`postgres` exists always).
    pub fn admin_url(&self, database: &str) -> String {
        self.url(SUPERUSER, &self.password, database)
    }

    /// URL of any user for one database; the parts are escaped.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!(
            "postgres://{}:{}@127.0.0.1:{}/{}",
            escaped(user),
            escaped(password),
            self.port,
            escaped(database)
        )
    }

    /// The password of the superuser.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The folder of its socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.lock().dir().to_owned()
    }

    /// From its next start, or `select pg_reload_conf()`, it shows this certificate.
    pub fn use_certificate(&self, issued: &Issued) {
        self.lock().use_certificate(issued);
    }

    /// Where the server logs; a test that fails may want to show it.
    pub fn log(&self) -> String {
        self.lock().log()
    }

    /// How long processors have worked for this server so far, in all its processes, also those that have ended. It is
    /// counted in ticks of the kernel, a hundredth of a second each: a difference says something from a second on.
    pub async fn processor_time(&self) -> Duration {
        self.with(|cluster| processor_time(cluster.pid(), &cluster.data))
            .await
    }

    /// Kills the postmaster with SIGKILL and returns when its last child is gone and its shared memory free.
    ///
    /// Until then a new start is refused ("pre-existing shared memory block is still in use"), and a backend that has
    /// not noticed yet may still commit. One that computes without ever waiting is killed after 5 seconds.
    pub async fn kill9(&self) {
        self.with(Cluster::kill9).await;
    }

    /// Starts the server again after [`kill9`](Self::kill9) or [`stop`](Self::stop), on the same port and files;
    /// returns when it has recovered and answers.
    pub async fn start_again(&self) {
        self.with(|cluster| {
            assert!(cluster.postmaster.is_none(), "the cluster runs already");
            cluster.start_on_same_port();
        })
        .await;
    }

    /// A fast shutdown: open transactions are rolled back, clients see their connection end (SQLSTATE 57P01).
    pub async fn stop(&self) {
        self.with(|cluster| cluster.stop(Signal::INT)).await;
    }

    /// A fast shutdown and a start, as after an upgrade.
    pub async fn restart(&self) {
        self.with(|cluster| {
            cluster.stop(Signal::INT);
            cluster.start_on_same_port();
        })
        .await;
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Cluster) -> T + Send + 'static,
    ) -> T {
        let cluster = Arc::clone(&self.cluster);
        blocking(move || work(&mut lock(&cluster))).await
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        lock(&self.cluster)
    }
}

impl Drop for PgCluster {
    /// Stops here and now. The last reference may be held by a restart that was cancelled half-way and is still at work
    /// on its own thread: the lock waits for it, where leaving it to the reference count could outlive the process.
    fn drop(&mut self) {
        self.lock().destroy();
    }
}

/// A panic in one call must not keep the next, or `Drop`, from stopping the server.
fn lock(cluster: &Mutex<Cluster>) -> MutexGuard<'_, Cluster> {
    cluster.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cluster itself; all its methods block.
#[derive(Debug)]
struct Cluster {
    bin_dir: PathBuf,
    account: Option<Account>,
    port: u16,
    postmaster: Option<Child>,
    data: PathBuf,
    log_file: PathBuf,
    last_will: LastWill,
    dir: Option<TempDir>,
    fsync: bool,
}

impl Cluster {
    fn create(options: &PgOptions, password: &str) -> Self {
        let bin_dir = options.bin_dir.clone().unwrap_or_else(find_bin_dir);
        let cluster = Self::without_data(bin_dir, options.fsync);
        cluster.initdb(options, password);
        cluster.started()
    }

    fn copy_of(primary: u16, password: &str, bin_dir: PathBuf, fsync: bool, own: &str) -> Self {
        // Where `postgres` is a link, its companions are where it leads.
        let bin_dir = fs::canonicalize(bin_dir.join("postgres"))
            .ok()
            .and_then(|postgres| Some(postgres.parent()?.to_owned()))
            .unwrap_or(bin_dir);
        let cluster = Self::without_data(bin_dir, fsync);
        let output = cluster
            .command("pg_basebackup")
            .env("PGPASSWORD", password)
            .args(["--host", "127.0.0.1", "--port", &primary.to_string()])
            .args(["--username", SUPERUSER, "--checkpoint", "fast"])
            // With what it takes to go on streaming.
            .args(["--write-recovery-conf", "--pgdata"])
            .arg(&cluster.data)
            .args((!fsync).then_some("--no-sync"))
            .output()
            .expect("cannot run pg_basebackup");
        assert!(
            output.status.success(),
            "pg_basebackup failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        File::options()
            .append(true)
            .open(cluster.data.join("postgresql.auto.conf"))
            .and_then(|mut file| file.write_all(own.as_bytes()))
            .expect("cannot write a standby's settings");
        cluster.started()
    }

    fn without_data(bin_dir: PathBuf, fsync: bool) -> Self {
        let account = Account::for_servers();
        let dir = private_dir(account);
        Self {
            bin_dir,
            account,
            port: 0,
            postmaster: None,
            log_file: dir.path().join("log"),
            last_will: LastWill::new(Some(dir.path())),
            data: dir.path().join("data"),
            dir: Some(dir),
            fsync,
        }
    }

    fn started(mut self) -> Self {
        for _ in 0..20 {
            self.port = ports::free_port();
            match self.try_start() {
                Ok(()) => return self,
                Err(StartError::PortTaken) => {}
                Err(StartError::Other(reason)) => panic!("{reason}"),
            }
        }
        panic!("20 ports were taken by somebody else between being found free and being used");
    }

    fn initdb(&self, options: &PgOptions, password: &str) {
        // A file, not an argument: arguments are public on the machine.
        let password_file = self.dir().join("password");
        File::create(&password_file)
            .and_then(|mut file| {
                file.set_permissions(Permissions::from_mode(0o600))?;
                writeln!(file, "{password}")
            })
            .expect("cannot write the password file");
        if let Some(account) = self.account {
            account.give(&password_file);
        }
        let output = self
            .command("initdb")
            .arg("-D")
            .arg(&self.data)
            .args([
                "--username",
                SUPERUSER,
                "--auth",
                "scram-sha-256",
                "--encoding",
                "UTF8",
                "--locale",
                "C.UTF-8",
            ])
            .arg("--pwfile")
            .arg(&password_file)
            .args((!options.fsync).then_some("--no-sync"))
            .output()
            .expect("cannot run initdb");
        assert!(
            output.status.success(),
            "initdb failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        fs::remove_file(&password_file).expect("cannot remove the password file");
        let mut settings = settings(options);
        if options.socket {
            let _ = writeln!(
                settings,
                "unix_socket_directories = '{}'",
                self.dir().display()
            );
        }
        if let Some(issued) = &options.certificate {
            self.use_certificate(issued);
            let own = "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n";
            settings.push_str(own);
        }
        if let Some(ca) = &options.client_ca_file {
            let own = self.data.join("clients.pem");
            fs::copy(ca, &own).expect("cannot copy an authority");
            settings.push_str("ssl_ca_file = 'clients.pem'\n");
        }
        File::options()
            .append(true)
            .open(self.data.join("postgresql.conf"))
            .and_then(|mut file| file.write_all(settings.as_bytes()))
            .expect("cannot write postgresql.conf");
        if let Some(hba) = &options.hba {
            fs::write(self.data.join("pg_hba.conf"), hba).expect("cannot write pg_hba.conf");
        }
    }

    /// The server reads a key only if it owns it and nobody else may read it.
    fn use_certificate(&self, issued: &Issued) {
        let own = issued.copied_to(&self.data);
        for file in [&own.certificate_file, &own.key_file] {
            fs::set_permissions(file, Permissions::from_mode(0o600)).expect("cannot close a file");
            if let Some(account) = self.account {
                account.give(file);
            }
        }
    }

    /// The clients know the port: it is waited for, should another process have taken it while the server was down.
    fn start_on_same_port(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.try_start() {
                Ok(()) => return,
                Err(StartError::PortTaken) if Instant::now() < deadline => thread::sleep(POLL * 10),
                Err(StartError::PortTaken) => {
                    panic!("port {} is taken by another process", self.port)
                }
                Err(StartError::Other(reason)) => panic!("{reason}"),
            }
        }
    }

    fn try_start(&mut self) -> Result<(), StartError> {
        let log_before = self.log().len();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log_file)
            .expect("cannot open the log");
        let mut postmaster = self
            .command("postgres")
            .arg("-D")
            .arg(&self.data)
            .args(["-p", &self.port.to_string()])
            .stdout(log.try_clone().expect("cannot share the log"))
            .stderr(log)
            .spawn()
            .expect("cannot run postgres");
        let pid = postmaster.id();
        self.last_will.kills_process(pid);
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if self.says_ready(pid) {
                self.postmaster = Some(postmaster);
                return Ok(());
            }
            let ended = postmaster.try_wait().expect("cannot wait for postgres");
            if ended.is_none() && Instant::now() < deadline {
                thread::sleep(POLL);
                continue;
            }
            let _ = postmaster.kill();
            let _ = postmaster.wait();
            self.wait_for_children();
            self.last_will.kills_nothing();
            let log = self.log().split_off(log_before);
            if ended.is_some() && log.contains("could not bind IPv4 address") {
                return Err(StartError::PortTaken);
            }
            return Err(StartError::Other(format!("postgres did not start: {log}")));
        }
    }

    /// The server's own word: line 1 of its lock file is the process id, line 8 becomes `ready` once it accepts
    /// connections.
    fn says_ready(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(self.data.join("postmaster.pid")) else {
            return false;
        };
        let mut lines = text.lines();
        lines.next() == Some(pid.to_string().as_str())
            && lines.nth(6).is_some_and(|status| status.trim() == "ready")
    }

    fn kill9(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            let _ = postmaster.kill();
            let _ = postmaster.wait();
            self.wait_for_children();
            self.last_will.kills_nothing();
        }
    }

    fn stop(&mut self, signal: Signal) {
        let Some(mut postmaster) = self.postmaster.take() else {
            return;
        };
        let _ = kill_process(Pid::from_child(&postmaster), signal);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if postmaster
                .try_wait()
                .expect("cannot wait for postgres")
                .is_some()
            {
                self.last_will.kills_nothing();
                return;
            }
            thread::sleep(POLL);
        }
        self.postmaster = Some(postmaster);
        self.kill9();
    }

    /// Every process of a cluster works in its data directory: when none does, all are gone.
    fn wait_for_children(&self) {
        let deadline = Instant::now() + ORPHAN_TIMEOUT;
        loop {
            let left = processes_in(&self.data);
            if left.is_empty() {
                return;
            }
            if Instant::now() >= deadline {
                for pid in left {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            thread::sleep(POLL);
        }
    }

    /// Nobody will read this cluster again: no checkpoint, no questions.
    fn destroy(&mut self) {
        self.stop(Signal::QUIT);
        self.dir = None;
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin_dir.join(program));
        // Without the environment: PGPORT, PGDATA or a LANG with translated messages would change what it does. In a
        // process group of its own: Ctrl-C belongs to the test, which stops its servers in order.
        command
            .env_clear()
            .env(
                "PATH",
                env::var_os("PATH")
                    .as_deref()
                    .unwrap_or(OsStr::new("/usr/bin:/bin")),
            )
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .current_dir(self.dir())
            .process_group(0)
            .stdin(Stdio::null());
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    fn pid(&self) -> u32 {
        self.postmaster
            .as_ref()
            .expect("the cluster does not run")
            .id()
    }

    fn dir(&self) -> &Path {
        self.dir.as_ref().expect("the cluster was destroyed").path()
    }

    fn log(&self) -> String {
        fs::read(&self.log_file)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.destroy();
    }
}

enum StartError {
    PortTaken,
    Other(String),
}

/// The account that servers run as when the tests run as root: the server refuses to be root.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// `None` when we are no root: then servers run as ourselves.
    fn for_servers() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let id = |kind: &str| {
            let output = Command::new("id").args([kind, "postgres"]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        let (Some(uid), Some(gid)) = (id("-u"), id("-g")) else {
            panic!("PostgreSQL does not run as root, and there is no user `postgres` to run it as");
        };
        Some(Self { uid, gid })
    }

    fn give(self, path: &Path) {
        chown(path, Some(self.uid), Some(self.gid))
            .expect("cannot give a file to the user postgres");
    }

    /// Whether this account gets to `dir`, which a parent such as `/root` may forbid.
    fn reaches(self, dir: &Path) -> bool {
        Command::new("test")
            .arg("-x")
            .arg(dir)
            .current_dir("/")
            .uid(self.uid)
            .gid(self.gid)
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// A new directory that only the servers' account may enter, and really can.
fn private_dir(account: Option<Account>) -> TempDir {
    let bases = [
        env::temp_dir(),
        PathBuf::from("/tmp"),
        PathBuf::from("/var/tmp"),
    ];
    let base = bases
        .iter()
        .find(|base| account.is_none_or(|account| account.reaches(base)))
        .expect("the user postgres cannot enter any temporary folder");
    let dir = tempfile::Builder::new()
        .prefix("testkit-postgres-")
        .tempdir_in(base)
        .expect("no temporary folder");
    if let Some(account) = account {
        account.give(dir.path());
    }
    dir
}

/// The processes whose working directory is `dir`.
fn processes_in(dir: &Path) -> Vec<Pid> {
    let Ok(dir) = dir.canonicalize() else {
        return Vec::new();
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir))
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// What the processes of a cluster have used, user and system. The postmaster waits for its children, and with that the
/// kernel adds theirs to what it keeps for it.
fn processor_time(postmaster: u32, data: &Path) -> Duration {
    let of_one = |pid: Pid| {
        let pid = pid.as_raw_nonzero().get();
        // One that has just ended is counted with the postmaster's children.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in brackets, may hold anything; user, system, and both of ended children are the 12th to 15th after it.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let taken = if u32::try_from(pid).is_ok_and(|pid| pid == postmaster) {
            4
        } else {
            2
        };
        fields
            .split_whitespace()
            .skip(11)
            .take(taken)
            .map(|ticks| ticks.parse::<u64>().expect("the kernel counts in ticks"))
            .sum::<u64>()
    };
    let ticks: u64 = processes_in(data).into_iter().map(of_one).sum();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

fn settings(options: &PgOptions) -> String {
    let on = |yes: bool| if yes { "on" } else { "off" };
    let mut text = format!(
        "\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n\
         fsync = {fsync}\nfull_page_writes = {fsync}\nmax_connections = {connections}\nshared_buffers = '{buffers}'\n",
        fsync = on(options.fsync),
        connections = options.max_connections,
        buffers = options.shared_buffers,
    );
    for (name, value) in &options.settings {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    text
}

/// Percent-encodes everything that is not plain in any part of a URL.
fn escaped(part: &str) -> String {
    part.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

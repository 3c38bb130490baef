//! A whole service of a test's own: cluster, schema, token, server.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use utxoiq_store::{Store, config::Loader};
use utxoiq_store_testkit::{
    ports::free_port,
    postgres::{PgCluster, PgOptions},
    process::Proc,
};

pub const BINARY: &str = env!("CARGO_BIN_EXE_utxoiq-store");
pub const PASSWORD: &str = "only-for-tests";
const PATIENCE: Duration = Duration::from_mins(1);

/// The service and all it needs; everything ends with it.
pub struct Service {
    pub cluster: PgCluster,
    pub folder: TempDir,
    server: Option<Proc>,
    port: u16,
    token: String,
    settings: Vec<(String, String)>,
}

impl Service {
    /// A service with these settings (`("BACKFILL__LEASE_SECONDS", "2")`).
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_on(PgOptions::default(), settings).await
    }

    /// The same with these variables as they are, too.
    pub async fn start_in(variables: &[(&str, &str)], settings: &[(&str, &str)]) -> Self {
        Self::start_of(PgOptions::default(), variables, settings).await
    }

    /// The same on a cluster with these options.
    pub async fn start_on(options: PgOptions, settings: &[(&str, &str)]) -> Self {
        Self::start_of(options, &[], settings).await
    }

    async fn start_of(
        options: PgOptions,
        variables: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> Self {
        let cluster = PgCluster::start(options).await;
        let mut service = Self {
            cluster,
            folder: folder_with_cold_store(),
            server: None,
            port: free_port(),
            token: String::new(),
            settings: settings
                .iter()
                .map(|(key, value)| (format!("UTXOIQ_STORE_{key}"), (*value).to_owned()))
                .chain(
                    variables
                        .iter()
                        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
                )
                .collect(),
        };
        service.ok(&["init"]).await;
        let admin = service.admin().await;
        admin
            .batch_execute(&format!(
                "alter role utxoiq_app password '{PASSWORD}'; alter role utxoiq_retention password '{PASSWORD}'"
            ))
            .await
            .unwrap();
        service.ok(&["migrate", "up"]).await;
        let token = service
            .ok(&["token", "create", "--name", "test", "--scopes", "all"])
            .await;
        token.trim().clone_into(&mut service.token);
        service.start_server().await;
        service.ready().await;
        service
    }

    fn envs(&self) -> Vec<(String, String)> {
        let mut envs = vec![
            (
                "DATABASE_URL".to_owned(),
                self.cluster.url("utxoiq_app", PASSWORD, "postgres"),
            ),
            (
                "UTXOIQ_STORE_URL".to_owned(),
                format!("http://127.0.0.1:{}", self.port),
            ),
            ("UTXOIQ_STORE_TOKEN".to_owned(), self.token.clone()),
            ("REDIS_URL".to_owned(), String::new()),
            (
                "UTXOIQ_STORE_DATABASE__RETENTION_URL".to_owned(),
                self.cluster.url("utxoiq_retention", PASSWORD, "postgres"),
            ),
            (
                "UTXOIQ_STORE_COLD__URL".to_owned(),
                format!("file://{}", self.path("cold").display()),
            ),
            (
                "UTXOIQ_STORE_COLD__CACHE_DIR".to_owned(),
                text(&self.path("cold-cache")).to_owned(),
            ),
            (
                "UTXOIQ_STORE_RETENTION__PSEUDONYM_KEY".to_owned(),
                "a key of at least thirty-two characters".to_owned(),
            ),
        ];
        envs.extend(self.settings.iter().cloned());
        envs
    }

    /// Starts the binary with these arguments.
    pub fn spawn(&self, args: &[&str]) -> Proc {
        Proc::spawn(BINARY, args, self.envs())
    }

    /// The same with these variables of the environment, too.
    pub fn spawn_with(&self, more: &[(String, String)], args: &[&str]) -> Proc {
        Proc::spawn(BINARY, args, self.envs_with(more))
    }

    /// The service's environment, and more.
    pub fn envs_with(&self, more: &[(String, String)]) -> Vec<(String, String)> {
        self.envs()
            .into_iter()
            .chain(more.iter().cloned())
            .collect()
    }

    /// Runs the binary to its end: its exit code and everything it printed.
    pub async fn run(&self, args: &[&str]) -> (i32, String) {
        let process = self.spawn(args);
        let status = process
            .wait(PATIENCE)
            .await
            .unwrap_or_else(|| panic!("{args:?} does not end: {}", process.output()));
        (status.code().unwrap_or(-1), process.output())
    }

    /// The same with these variables of the environment, too.
    pub async fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> (i32, String) {
        let more = variables.iter();
        let more = more.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let envs: Vec<_> = self.envs().into_iter().chain(more).collect();
        let process = Proc::spawn(BINARY, args, envs);
        let status = process.wait(PATIENCE).await;
        let status = status.unwrap_or_else(|| panic!("{args:?} does not end"));
        (status.code().unwrap_or(-1), process.output())
    }

    /// Runs a line of shell in which `$0` is the binary: its exit code, and both its outputs.
    pub async fn shell(&self, line: &str) -> (i32, String, String) {
        let output = tokio::process::Command::new("bash")
            .args(["-o", "pipefail", "-c", line, BINARY])
            .envs(self.envs())
            .output()
            .await
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        (code, text(&output.stdout), text(&output.stderr))
    }

    /// Runs an administrator's command that must succeed; gives its standard output.
    pub async fn ok(&self, args: &[&str]) -> String {
        let output = tokio::process::Command::new(BINARY)
            .args(args)
            .envs(self.envs())
            .env("DATABASE_ADMIN_URL", self.cluster.admin_url("postgres"))
            .output()
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, its output as JSON.
    pub async fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(args).await).unwrap()
    }

    /// Starts the server, on the same port each time.
    pub async fn start_server(&mut self) {
        let listen = format!("127.0.0.1:{}", self.port);
        let server = self.spawn(&["serve", "--listen", &listen]);
        let listening = server
            .wait_for_line(|line| line.contains("listening"), PATIENCE)
            .await;
        listening.unwrap_or_else(|output| panic!("the server does not start: {output}"));
        self.server = Some(server);
    }

    /// Tells the server to stop, and waits until it has.
    pub async fn stop_server(&mut self) {
        let server = self.server.take().unwrap();
        server.terminate();
        let stopped = server.wait(PATIENCE).await;
        assert!(
            stopped.is_some(),
            "the server does not stop: {}",
            server.output()
        );
    }

    /// Waits until the service says that it is ready.
    pub async fn ready(&self) {
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        until("the service is ready", async || {
            utxoiq_store::cold::use_ring();
            reqwest::get(&url)
                .await
                .is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// A GET without a token.
    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        reqwest::Client::new().get(format!("http://127.0.0.1:{}{path}", self.port))
    }

    /// Where a path of the service is.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The token of an administrator.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The library on the service's own database.
    pub fn store(&self) -> Store {
        let config = Loader::default().env(self.envs()).unwrap();
        Store::open(config.finish().unwrap()).unwrap()
    }

    /// The server's process.
    pub fn server(&self) -> &Proc {
        self.server.as_ref().unwrap()
    }

    /// A connection as the superuser; waits for a server that is just starting.
    pub async fn admin(&self) -> tokio_postgres::Client {
        let url = self.cluster.admin_url("postgres");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    /// An executable script in the test's folder.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A file in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A folder with one for archives in it.
fn folder_with_cold_store() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("cold")).unwrap();
    folder
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

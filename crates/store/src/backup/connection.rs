//! How PostgreSQL's tools are told where to connect: by their environment, never by their arguments, which everybody on the
//! machine can read.

use std::{env, ffi::OsString, path::Path};

use tokio::process::Command;
use tokio_postgres::config::Host;

use crate::{
    config::{DatabaseUrl, Secret},
    db::{Dedicated, password_of, tls_variables},
    error::{Error, Result},
};

/// What a tool may see of this process's environment: where programs, libraries, certificates and home are.
const PASSED_ON: [&str; 7] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "PGSSLROOTCERT",
];

/// An address, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Target {
    url: DatabaseUrl,
    variables: Vec<(&'static str, OsString)>,
}

impl Target {
    /// Reads a connection string; `setting` names where it is from.
    pub fn parse(url: &Secret, setting: &str) -> Result<Self> {
        Self::of(DatabaseUrl::parse(url.expose(), setting)?)
    }

    fn of(url: DatabaseUrl) -> Result<Self> {
        let setting = url.setting();
        let wrong = |why: &str| Error::invalid("invalid_config", format!("{setting} {why}"));
        let config = url.config();
        if config.get_hosts().len() > 1 || !config.get_hostaddrs().is_empty() {
            return Err(wrong(
                "names several hosts, or the address of one: name one host, so that all tools work on the same server",
            ));
        }
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => OsString::from(host),
            Some(Host::Unix(path)) => path.clone().into_os_string(),
            None => return Err(wrong("names no host")),
        };
        let database = config
            .get_dbname()
            .ok_or_else(|| wrong("names no database"))?;
        let user = config.get_user().ok_or_else(|| wrong("names no user"))?;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let mut variables = vec![
            ("PGHOST", host),
            ("PGPORT", port.to_string().into()),
            ("PGUSER", user.into()),
            ("PGDATABASE", database.into()),
        ];
        let tls = tls_variables(url.tls());
        variables.extend(tls.into_iter().map(|(name, value)| (name, value.into())));
        Ok(Self { url, variables })
    }

    /// The same server and user, another database.
    pub fn with_database(&self, name: &str) -> Result<Self> {
        Self::of(self.url.with_database(name))
    }

    /// Opens a session of our own.
    pub async fn open(&self, application: &str) -> Result<Dedicated> {
        Dedicated::enter(self.url.clone(), application).await
    }

    /// The database's name.
    pub fn database(&self) -> String {
        self.variable("PGDATABASE")
    }

    /// Where it is, without who connects: `host:port/database`.
    pub fn place(&self) -> String {
        let of = |name| self.variable(name);
        format!("{}:{}/{}", of("PGHOST"), of("PGPORT"), of("PGDATABASE"))
    }

    fn variable(&self, name: &str) -> String {
        self.variables
            .iter()
            .find(|(variable, _)| *variable == name)
            .map(|(_, value)| value.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// A command of a tool that connects there; it is killed where nobody waits for it any more.
    pub async fn command(&self, tool: &Path, application: &str) -> Result<Command> {
        let mut command = Command::new(tool);
        command.env_clear().kill_on_drop(true);
        for name in PASSED_ON {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .envs(self.variables.iter().cloned())
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("PGAPPNAME", application)
            .env("PGCONNECT_TIMEOUT", "10");
        if let Some(password) = password_of(&self.url).await? {
            command.env("PGPASSWORD", password.expose());
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tool_gets_the_password_by_its_environment_and_nobody_else_gets_it() {
        let url =
            Secret::new("postgresql://ann:s%2Fecret@db.example:6543/utxoiq?connect_timeout=3");
        let target = Target::parse(&url, "database.backup_url").unwrap();
        let command = target
            .command(Path::new("/bin/true"), "test")
            .await
            .unwrap();
        let command = command.as_std();
        assert_eq!(command.get_args().count(), 0);
        let of = |name: &str| {
            command
                .get_envs()
                .find(|(variable, _)| *variable == name)
                .and_then(|(_, value)| value)
                .map(|value| value.to_string_lossy().into_owned())
        };
        assert_eq!(of("PGPASSWORD").as_deref(), Some("s/ecret"));
        assert_eq!(of("PGHOST").as_deref(), Some("db.example"));
        assert_eq!(of("PGPORT").as_deref(), Some("6543"));
        assert_eq!(target.place(), "db.example:6543/utxoiq");
        assert!(!format!("{target:?}").contains("ecret"));
        let scratch = target.with_database("drill_1").unwrap();
        assert_eq!(scratch.place(), "db.example:6543/drill_1");
        for wrong in [
            "postgresql://db.example/utxoiq",
            "postgresql:///x",
            "rubbish",
        ] {
            let error = Target::parse(&Secret::new(wrong), "database.backup_url")
                .err()
                .unwrap();
            assert_eq!(error.code(), "invalid_config", "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_tool_is_as_careful_about_tls_as_we_are() {
        let authority = utxoiq_store_testkit::Authority::new();
        let cluster = utxoiq_store_testkit::PgCluster::start(utxoiq_store_testkit::PgOptions {
            certificate: Some(authority.issue(&["127.0.0.1"])),
            hba: Some("hostssl all all all scram-sha-256\nlocal all all scram-sha-256\n".into()),
            socket: true,
            ..Default::default()
        })
        .await;
        let psql = utxoiq_store_testkit::postgres::find_bin_dir().join("psql");
        let ask = async |url: String| {
            let target = Target::parse(&Secret::new(url), "database.backup_url").unwrap();
            let mut command = target.command(&psql, "test").await.unwrap();
            let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
            let output = command.args(["-XAtwc", sql]).output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            (said, String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let other = utxoiq_store_testkit::Authority::new();
        let url = cluster.admin_url("postgres");
        let verify = |ca: &utxoiq_store_testkit::Authority, mode: &str| {
            format!("{url}?sslmode={mode}&sslrootcert={}", ca.file().display())
        };
        for mode in ["verify-full", "verify-ca", "require"] {
            assert_eq!(ask(verify(&authority, mode)).await.0, "t", "{mode}");
            let (_, refused) = ask(verify(&other, mode)).await;
            assert!(refused.contains("certificate verify failed"), "{refused}");
        }
        let localhost = verify(&authority, "verify-full").replace("127.0.0.1", "localhost");
        let (_, refused) = ask(localhost).await;
        assert!(refused.contains("does not match host name"), "{refused}");
        // The system's authorities do not know it.
        let (_, refused) = ask(format!("{url}?sslmode=verify-full")).await;
        assert!(refused.contains("certificate"), "{refused}");
        let socket = format!(
            "postgresql://postgres:{}@/postgres?host={}&port={}&sslmode=verify-full",
            cluster.password(),
            cluster.socket_dir().display(),
            cluster.port()
        );
        assert_eq!(ask(socket).await.0, "f");
    }
}

//! How PostgreSQL's tools are told where to connect: by their environment, never by their arguments, which everybody on the
//! machine can read.

use std::{env, ffi::OsString, path::Path};

use tokio::process::Command;
use tokio_postgres::config::{Host, SslMode};
use url::Url;

use crate::{
    config::Secret,
    db::Dedicated,
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

/// A connection string, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Target {
    url: Secret,
    variables: Vec<(&'static str, OsString)>,
    password: Option<Secret>,
}

impl Target {
    /// Reads a connection string; `setting` names where it is from.
    pub fn parse(url: &Secret, setting: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid("invalid_config", format!("{setting} {why}"));
        let config: tokio_postgres::Config = url
            .expose()
            .parse()
            .map_err(|_| wrong("is not a PostgreSQL connection string"))?;
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
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => "disable",
            SslMode::Require => "require",
            _ => "prefer",
        };
        let password = config
            .get_password()
            .map(|password| Secret::new(String::from_utf8_lossy(password)));
        Ok(Self {
            url: url.clone(),
            variables: vec![
                ("PGHOST", host),
                ("PGPORT", port.to_string().into()),
                ("PGUSER", user.into()),
                ("PGDATABASE", database.into()),
                ("PGSSLMODE", tls.into()),
            ],
            password,
        })
    }

    /// The same server and user, another database.
    pub fn with_database(&self, name: &str) -> Result<Self> {
        let mut url = Url::parse(self.url.expose()).map_err(|_| {
            Error::invalid(
                "invalid_config",
                "database.drill_url must be an address: postgresql://user:password@host:port/database",
            )
        })?;
        url.set_path(name);
        let target = Self::parse(&Secret::new(url.as_str()), "database.drill_url")?;
        // A parameter of the address wins over its path.
        if target.database() != name {
            return Err(Error::invalid(
                "invalid_config",
                "database.drill_url names its database by a parameter: name it by the path, postgresql://user:password@host:port/database",
            ));
        }
        Ok(target)
    }

    /// Opens a session of our own.
    pub async fn open(&self, application: &str) -> Result<Dedicated> {
        Dedicated::open(self.url.expose(), application).await
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
    pub fn command(&self, tool: &Path, application: &str) -> Command {
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
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password.expose());
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_gets_the_password_by_its_environment_and_nobody_else_gets_it() {
        let url =
            Secret::new("postgresql://ann:s%2Fecret@db.example:6543/utxoiq?connect_timeout=3");
        let target = Target::parse(&url, "database.backup_url").unwrap();
        let command = target.command(Path::new("/bin/true"), "test");
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
}

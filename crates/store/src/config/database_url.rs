//! An address of PostgreSQL, and how the way to it is secured.
//!
//! # What it guarantees
//!
//! * `?sslmode=verify-full&sslrootcert=/ca.pem` means what it means to libpq, in each address and in both
//!   forms (`postgresql://…` and `key=value`): the driver itself knows neither, and would refuse them.
//! * The settings `database.tls…` and `database.password_source` are defaults for all addresses. They are written into
//!   the address when the configuration is read, so that whoever gets an address gets all of it; what the address says
//!   itself wins.
//! * A socket of this machine is never spoken TLS to: the kernel says who is there, and the server would refuse it.
//! * A token is a bearer's: beyond this machine it is sent only to a server whose certificate is verified. Who answers asks
//!   for it in clear text, so that encryption alone would give it to whoever interposes.
//!
//! # Modes
//!
//! | `sslmode`     | encrypted        | who is there                                                             |
//! |---------------|------------------|--------------------------------------------------------------------------|
//! | `disable`     | no               | not known                                                                |
//! | `prefer`      | if offered       | not known; the default, as in libpq                                      |
//! | `require`     | yes              | not known: stops who listens, not who interposes; with a CA: `verify-ca` |
//! | `verify-ca`   | yes              | somebody with a certificate of that CA                                   |
//! | `verify-full` | yes              | the host that the address names; the default where a CA is named         |

mod text;

use std::{fmt, net::IpAddr, path::PathBuf};

use serde::Deserialize;
use tokio_postgres::config::{Host, SslMode};
use url::Url;

use super::{DatabaseSettings, Secret, SecretUrls, is_loopback};
use crate::error::{Error, Result};

/// Where a process on Google's platform gets the tokens of its own service account. They let it log in to databases and do
/// nothing else: whoever should get hold of one can do no more.
pub const GOOGLE_METADATA: &str = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token?scopes=https://www.googleapis.com/auth/sqlservice.login";

/// How a connection is secured; the names are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Never.
    Disable,
    /// Where the server offers it, whoever it is.
    Prefer,
    /// Always, whoever it is.
    Require,
    /// Always, with a server whose certificate is of the named authority.
    VerifyCa,
    /// Always, with the server that the address names.
    VerifyFull,
}

impl TlsMode {
    /// Its name in addresses, settings and libpq's environment.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Disable,
            Self::Prefer,
            Self::Require,
            Self::VerifyCa,
            Self::VerifyFull,
        ];
        all.into_iter().find(|mode| mode.as_str() == text)
    }

    /// Whether nothing is said without encryption.
    pub fn is_encrypted(self) -> bool {
        !matches!(self, Self::Disable | Self::Prefer)
    }

    /// Whether the server's certificate is verified.
    pub fn is_verified(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

/// How one address is secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// How much.
    pub mode: TlsMode,
    /// The file (PEM) of the authorities that may sign the server's certificate; none: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The files (PEM) of this side's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Where the password is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// The address has it, or none is needed.
    Url,
    /// A file, read anew for each connection.
    File(PathBuf),
    /// A token of the platform, asked for at this address in the way of Google's metadata server.
    Token(TokenAddress),
}

/// Where tokens are asked for. `Debug` and `Display` leave its query out, which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenAddress(String);

impl TokenAddress {
    /// All of it, to ask there and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.find(['?', '#']).unwrap_or(self.0.len());
        f.write_str(&self.0[..end])
    }
}

impl fmt::Debug for TokenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PasswordSource {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("file:") {
            return path
                .starts_with('/')
                .then(|| Self::File(PathBuf::from(path)));
        }
        match text {
            "url" => Some(Self::Url),
            "gcp_metadata" => Some(Self::Token(TokenAddress(GOOGLE_METADATA.to_owned()))),
            address => {
                is_safe_to_ask(address).then(|| Self::Token(TokenAddress(address.to_owned())))
            }
        }
    }
}

/// Whether a token may be asked for there: over TLS, or where nothing leaves the machine or the platform's own link.
fn is_safe_to_ask(address: &str) -> bool {
    const LINK_LOCAL: [&str; 2] = ["metadata.google.internal", "169.254.169.254"];
    let Ok(url) = Url::parse(address) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let is_plain = url.username().is_empty() && url.password().is_none();
    is_plain
        && match url.scheme() {
            "https" => !host.is_empty(),
            "http" => LINK_LOCAL.contains(&host) || is_loopback(host),
            _ => false,
        }
}

/// An address that was read and checked. `Debug` shows neither user nor password.
#[derive(Clone)]
pub struct DatabaseUrl {
    config: tokio_postgres::Config,
    tls: Tls,
    password_source: PasswordSource,
    setting: String,
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseUrl")
            .field("place", &self.place())
            .field("tls", &self.tls)
            .field("password_source", &self.password_source)
            .finish_non_exhaustive()
    }
}

impl DatabaseUrl {
    /// Reads an address; `setting` is what messages call it. No message shows any of it.
    pub fn parse(address: &str, setting: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid("invalid_config", format!("{setting} {why}"));
        let no_address = "must look like postgresql://user:password@host:port/database";
        let (rest, ours) = text::split(address).ok_or_else(|| wrong(no_address))?;
        let mut config: tokio_postgres::Config = rest.parse().map_err(|_| wrong(no_address))?;
        let is_local_socket =
            !config.get_hosts().is_empty() && config.get_hosts().iter().all(is_socket);
        let tls = ours.tls(is_local_socket).map_err(wrong)?;
        let source = ours.password_source.as_deref().unwrap_or("url");
        let password_source = PasswordSource::parse(source).ok_or_else(|| {
            wrong("has a password_source that is none: url, file:/path, gcp_metadata, or an https:// address that answers as Google's metadata server")
        })?;
        if password_source != PasswordSource::Url && config.get_password().is_some() {
            return Err(wrong(
                "has a password and a password_source: leave one of them out",
            ));
        }
        config.ssl_mode(match tls.mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        let url = Self {
            config,
            tls,
            password_source,
            setting: setting.to_owned(),
        };
        url.check().map_err(wrong)?;
        Ok(url)
    }

    fn check(&self) -> Result<(), &'static str> {
        let hosts = self.config.get_hosts();
        if self.tls.mode.is_encrypted() && hosts.iter().any(is_socket) {
            return Err("names hosts and sockets together: with TLS, name either");
        }
        if self.tls.mode != TlsMode::Disable
            && hosts.is_empty()
            && !self.config.get_hostaddrs().is_empty()
        {
            return Err(
                "names a hostaddr and no host: name the host, as its certificate does, or say sslmode=disable",
            );
        }
        let is_token = matches!(self.password_source, PasswordSource::Token(_));
        if is_token && !self.tls.mode.is_verified() && !self.stays_on_this_machine() {
            return Err(
                "would send a token to whoever answers: say sslmode=verify-full (or verify-ca) and name the server's CA with sslrootcert, or use the socket of the platform's connector",
            );
        }
        Ok(())
    }

    /// The driver's own configuration; a password is in it only where the address has one.
    pub fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }

    /// How it is secured.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Where the password is from.
    pub fn password_source(&self) -> &PasswordSource {
        &self.password_source
    }

    /// What messages call it.
    pub fn setting(&self) -> &str {
        &self.setting
    }

    /// The same server and user, another database.
    pub fn with_database(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.config.dbname(name);
        other
    }

    /// Whether all that is said stays on this machine: over a socket, or by loopback.
    pub fn stays_on_this_machine(&self) -> bool {
        let addresses = self.config.get_hostaddrs();
        if !addresses.is_empty() {
            return addresses.iter().all(IpAddr::is_loopback);
        }
        self.config.get_hosts().iter().all(|host| match host {
            Host::Tcp(host) => is_loopback(host),
            Host::Unix(_) => true,
        })
    }

    /// Where it is, without who connects.
    pub fn place(&self) -> String {
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(host) => host.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let database = self.config.get_dbname().unwrap_or_default();
        format!("{}:{port}/{database}", hosts.join(","))
    }
}

fn is_socket(host: &Host) -> bool {
    matches!(host, Host::Unix(_))
}

impl DatabaseSettings {
    /// An address with the settings of all addresses, as far as it does not say otherwise itself. Done twice it is the
    /// same as done once; an address that cannot be read stays as it is, and is refused where it is used.
    pub fn completed(&self, address: &str) -> String {
        text::complete(
            address,
            &text::Ours {
                mode: self.tls.map(|mode| mode.as_str().to_owned()),
                ca_file: self.tls_ca_file.clone(),
                certificate_file: self.tls_certificate_file.clone(),
                key_file: self.tls_key_file.clone(),
                password_source: Some(self.password_source.expose().to_owned())
                    .filter(|source| source != "url"),
            },
        )
    }

    /// Completes all addresses.
    pub(super) fn complete(&mut self) {
        let complete = |settings: &Self, url: &Option<Secret>| {
            url.as_ref()
                .map(|url| Secret::new(settings.completed(url.expose())))
        };
        self.url = complete(self, &self.url);
        self.admin_url = complete(self, &self.admin_url);
        self.retention_url = complete(self, &self.retention_url);
        self.backup_url = complete(self, &self.backup_url);
        self.drill_url = complete(self, &self.drill_url);
        let read_urls = self.read_urls.as_ref();
        self.read_urls = read_urls.map(|urls| urls.map(|url| self.completed(url)));
    }

    /// The addresses and what they say of TLS are looked at now, not when they are first used; they are never shown.
    pub(super) fn check_addresses(&self) -> Result<()> {
        // Alone, too: a mistake in a default is told by its own name.
        if PasswordSource::parse(self.password_source.expose()).is_none() {
            return Err(Error::invalid(
                "invalid_config",
                "database.password_source must be url, file:/path, gcp_metadata, or an https:// address that answers as Google's metadata server",
            ));
        }
        if self.tls_certificate_file.is_some() != self.tls_key_file.is_some() {
            return Err(Error::invalid(
                "invalid_config",
                "database.tls_certificate_file and database.tls_key_file belong together: set both, or neither",
            ));
        }
        for (name, url) in [
            ("database.url", &self.url),
            ("database.admin_url", &self.admin_url),
            ("database.retention_url", &self.retention_url),
            ("database.backup_url", &self.backup_url),
            ("database.drill_url", &self.drill_url),
        ] {
            if let Some(url) = url {
                DatabaseUrl::parse(url.expose(), name)?;
            }
        }
        for url in self.read_urls.iter().flat_map(SecretUrls::as_slice) {
            DatabaseUrl::parse(url.expose(), "database.read_urls")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

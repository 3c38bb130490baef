//! Making one connection: typed causes of failure, and retries with exponential backoff and jitter (C6.4).

use std::{fmt, io, pin::Pin, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use deadpool_postgres::Connect;
use rand::RngExt as _;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, error::SqlState};

use super::Counters;
use crate::{
    config::{DatabaseSettings, DatabaseUrl},
    db::{
        login::{Login, NO_PASSWORD},
        password::NoPassword,
        tls,
    },
    error::{Error, Result},
    measure::{GAVE_UP_EARLY, Meter},
};

/// Why a connection could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectCause {
    /// Nothing listens there, or the address is unknown.
    Refused,
    /// No answer within the connect timeout.
    Timeout,
    /// The server has no connection left for us.
    TooManyClients,
    /// The server starts, stops or recovers.
    Starting,
    /// The role or its password was not accepted; retrying would not help.
    Authentication,
    /// The database does not exist; retrying would not help.
    NoDatabase,
    /// TLS could not be agreed on, or the server is not who it should be; retrying would not help.
    Tls,
    /// The password could not be had from where it is kept.
    Password,
    /// Anything else.
    Other,
}

impl ConnectCause {
    /// All causes, in the order of their counters.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Timeout,
        Self::TooManyClients,
        Self::Starting,
        Self::Authentication,
        Self::NoDatabase,
        Self::Tls,
        Self::Password,
        Self::Other,
    ];

    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::TooManyClients => "too_many_clients",
            Self::Starting => "starting",
            Self::Authentication => "authentication",
            Self::NoDatabase => "no_database",
            Self::Tls => "tls",
            Self::Password => "password",
            Self::Other => "other",
        }
    }

    /// Whether another attempt can do better.
    pub fn is_transient(self) -> bool {
        !matches!(self, Self::Authentication | Self::NoDatabase | Self::Tls)
    }

    pub(in crate::db) fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(state) = error.code() {
            return match state {
                &SqlState::TOO_MANY_CONNECTIONS => Self::TooManyClients,
                &(SqlState::CANNOT_CONNECT_NOW
                | SqlState::ADMIN_SHUTDOWN
                | SqlState::CRASH_SHUTDOWN) => Self::Starting,
                &(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                    Self::Authentication
                }
                &SqlState::INVALID_CATALOG_NAME => Self::NoDatabase,
                _ => Self::Other,
            };
        }
        if NoPassword::in_error(error).is_some() {
            return Self::Password;
        }
        if tls::failure(error).is_some() {
            return Self::Tls;
        }
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return match io.kind() {
                    io::ErrorKind::TimedOut => Self::Timeout,
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused,
                    _ => Self::Other,
                };
            }
            cause = inner.source();
        }
        // The only error of the driver without a source and a state is its timeout; see `Login::connect`.
        if std::error::Error::source(error).is_none() && !error.is_closed() {
            Self::Timeout
        } else {
            Self::Other
        }
    }
}

impl fmt::Display for ConnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The typed error of a connection that could not be made after all attempts.
pub(in crate::db) fn connect_error(error: tokio_postgres::Error) -> Error {
    let message = match ConnectCause::of(&error) {
        ConnectCause::Refused => {
            "the database refuses connections: check that it runs and that database.url names its host and port"
        }
        ConnectCause::Timeout => {
            "the database did not answer in time: check the network between it and this service"
        }
        ConnectCause::TooManyClients => {
            "the database has no connection left: raise its max_connections or lower database.pool_max"
        }
        ConnectCause::Starting => {
            "the database is starting or stopping; send the request again later"
        }
        ConnectCause::Authentication => {
            "the database did not accept this service's role or password: check database.url"
        }
        ConnectCause::NoDatabase => "the database named by database.url does not exist",
        ConnectCause::Tls => {
            let message = tls::failure(&error).unwrap_or("TLS with the database failed");
            return Error::unavailable("database_tls_failed", message).with_source(error);
        }
        ConnectCause::Password => {
            return Error::unavailable("database_password_unavailable", NO_PASSWORD)
                .with_source(error);
        }
        ConnectCause::Other => "no connection to the database could be made; the log has the cause",
    };
    Error::unavailable("database_unavailable", message).with_source(error)
}

/// The error of a request whose time was over before a connection could be made.
pub(super) fn unreachable() -> Error {
    Error::unavailable(
        "database_unavailable",
        "no connection to the database could be made in time; the log has the cause",
    )
}

/// The way in that the settings say.
pub(super) fn login(settings: &DatabaseSettings) -> Result<Login> {
    let address = settings.completed(settings.url()?);
    Login::new(DatabaseUrl::parse(&address, "database.url")?)
}

/// The driver's configuration: what the URL says, with our limits.
pub(super) fn client_config(login: &Login, settings: &DatabaseSettings) -> Config {
    let mut config = login.config().clone();
    let timeout = Duration::from_millis(settings.connect_timeout_milliseconds);
    config
        .connect_timeout(timeout)
        // A half-open link is caught by nothing else: no statement waits longer for a peer that is gone.
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(30));
    if config.get_application_name().is_none() {
        config.application_name("utxoiq-store");
    }
    // Statements are few, prepared, and written for one plan that serves all parameters; left to itself, PostgreSQL plans
    // those with `limit $1` again at every execution, which takes longer than executing them. The same unknown limit makes
    // a plan look dear enough to be compiled, which takes 170 ms.
    let ours = format!(
        "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={} -c TimeZone=UTC \
         -c plan_cache_mode=force_generic_plan -c jit=off",
        settings.statement_timeout_milliseconds,
        settings.lock_timeout_milliseconds,
        settings.statement_timeout_milliseconds,
    );
    // What the URL asks for comes last and wins.
    config.options(match config.get_options() {
        Some(theirs) => format!("{ours} {theirs}"),
        None => ours,
    });
    config
}

/// Connects, with retries.
pub(super) struct Connector {
    login: Login,
    timeout: Duration,
    retries: u32,
    backoff: Duration,
    counters: Arc<Counters>,
}

impl Connector {
    pub(super) fn new(login: Login, settings: &DatabaseSettings, counters: Arc<Counters>) -> Self {
        Self {
            login,
            timeout: Duration::from_millis(settings.connect_timeout_milliseconds),
            retries: settings.connect_retries,
            backoff: Duration::from_millis(settings.connect_backoff_milliseconds),
            counters,
        }
    }
}

impl Connector {
    /// Notes how often a failed attempt was repeated before it succeeded or was given up.
    fn record(&self, retries: u32) {
        let is_early = retries == 0;
        let value = if is_early {
            GAVE_UP_EARLY
        } else {
            retries.into()
        };
        self.counters.meters.record(Meter::ConnectRetries, value);
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        config: &Config,
    ) -> Pin<
        Box<
            dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>>
                + Send
                + '_,
        >,
    > {
        let config = config.clone();
        Box::pin(async move {
            let mut retry = 0;
            loop {
                let error = match self.login.connect(&config, self.timeout).await {
                    Ok(made) => {
                        self.counters.created.fetch_add(1, Relaxed);
                        self.counters.failing.store(false, Relaxed);
                        if retry > 0 {
                            self.record(retry);
                        }
                        return Ok(made);
                    }
                    Err(error) => error,
                };
                let cause = ConnectCause::of(&error);
                self.counters.failing.store(true, Relaxed);
                self.counters.connect_failures[cause as usize].fetch_add(1, Relaxed);
                if retry == self.retries || !cause.is_transient() {
                    // Where another attempt could do no better there was nothing to retry.
                    if cause.is_transient() {
                        self.record(retry);
                    }
                    tracing::warn!(%cause, attempts = retry + 1, %error, "could not connect to the database");
                    return Err(error);
                }
                self.counters.connect_retries.fetch_add(1, Relaxed);
                tokio::time::sleep(backoff(self.backoff, retry)).await;
                retry += 1;
            }
        })
    }
}

/// The pause before retry number `retry` (from 0): doubled each time, between the whole and one and a half of it, so
/// that gaps always grow and clients that failed together do not come back together.
fn backoff(base: Duration, retry: u32) -> Duration {
    let pause = base * 2_u32.saturating_pow(retry);
    pause + pause.mul_f64(rand::rng().random_range(0.0..0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gap_is_longer_than_the_one_before() {
        for _ in 0..1_000 {
            let gaps: Vec<_> = (0..3)
                .map(|retry| backoff(Duration::from_millis(100), retry))
                .collect();
            assert!(gaps.is_sorted_by(|a, b| a < b), "{gaps:?}");
            assert!(gaps[2] < Duration::from_millis(600));
        }
    }
}

//! The way in: one address with its TLS and its password, for the pool, for sessions of one's own and for tools.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    password::{self, NoPassword},
    pool::ConnectCause,
    tls,
};
use crate::{
    config::{DatabaseUrl, Secret},
    error::{Error, Result},
};

/// What a connection is made with. Files of TLS are read once, the password is asked for at each connection.
pub(super) struct Login {
    url: DatabaseUrl,
    tls: MakeRustlsConnect,
}

impl Login {
    /// Reads the address' files, and warns once where it is careless.
    pub fn new(url: DatabaseUrl) -> Result<Self> {
        let tls = tls::connector(&url)?;
        tls::warn_once(&url);
        Ok(Self { url, tls })
    }

    /// The driver's configuration, to be given back to [`Login::connect`] with what the caller adds.
    pub fn config(&self) -> &Config {
        self.url.config()
    }

    /// One attempt, bounded as a whole: the driver's own timeout covers only the TCP handshake, and a server that accepts
    /// and never answers would hold it for ever.
    pub async fn connect(
        &self,
        config: &Config,
        timeout: Duration,
    ) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        // Boxed: the handshake and the question for a password are large, and everything that connects would carry them.
        tokio::time::timeout(timeout, Box::pin(self.enter(config)))
            .await
            .unwrap_or_else(|_| Err(tokio_postgres::Error::__private_api_timeout()))
    }

    async fn enter(
        &self,
        config: &Config,
    ) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let source = self.url.password_source();
        let found = match password::find(source).await {
            Ok(Some(found)) => found,
            Ok(None) => return self.attempt(config).await,
            Err(none) => return Err(none.into_driver_error().await),
        };
        let error = match self.attempt(&with(config, &found.password)).await {
            Err(error) if found.is_kept => error,
            made => return made,
        };
        // A token may end before its time: then there is a newer one.
        if ConnectCause::of(&error) != ConnectCause::Authentication {
            return Err(error);
        }
        password::forget(source, &found.password).await;
        match password::find(source).await {
            Ok(Some(newer)) if newer.password != found.password => {
                self.attempt(&with(config, &newer.password)).await
            }
            _ => Err(error),
        }
    }

    async fn attempt(
        &self,
        config: &Config,
    ) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let (client, connection) = config.connect(self.tls.clone()).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database connection ended");
            }
        });
        Ok((client, task))
    }
}

fn with(config: &Config, password: &Secret) -> Config {
    let mut config = config.clone();
    config.password(password.expose());
    config
}

/// The password that an address has, or has elsewhere, for a tool of PostgreSQL; a token is good for connecting soon.
pub async fn password_of(url: &DatabaseUrl) -> Result<Option<Secret>> {
    tls::warn_once(url);
    let there = url.config().get_password();
    match Box::pin(password::find(url.password_source())).await {
        Ok(Some(found)) => Ok(Some(found.password)),
        Ok(None) => Ok(there.map(|there| Secret::new(String::from_utf8_lossy(there)))),
        Err(none) => Err(no_password(none)),
    }
}

fn no_password(why: NoPassword) -> Error {
    Error::unavailable("database_password_unavailable", NO_PASSWORD).with_source(why)
}

/// What people are told; the log has where it was looked for.
pub(super) const NO_PASSWORD: &str = "the password of the database could not be had from where database.password_source says; the log has the cause";

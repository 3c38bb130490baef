//! One connection outside the pool, for work whose session state must not outlive it: session locks, roles, settings.
//!
//! Dropping it closes the socket at once, whatever the server is doing; [`Dedicated::close`] says goodbye properly.

use std::{ops::Deref, time::Duration};

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use super::pool::connect_error;
use crate::error::{Error, Result};

/// How long connecting may take as a whole.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that nobody else uses.
pub struct Dedicated {
    client: Client,
    driver: AbortOnDrop,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Dedicated {
    /// Connects to `url`; `application` is what the server's activity view shows.
    pub async fn open(url: &str, application: &str) -> Result<Self> {
        let mut config: Config = url.parse().map_err(|_| {
            Error::invalid(
                "invalid_config",
                "the database's address is not a PostgreSQL connection string: check database.admin_url and database.url",
            )
        })?;
        config
            .application_name(application)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(30));
        // The driver's own timeout covers only the handshake of the network.
        let (client, connection) = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls))
            .await
            .map_err(|_| {
                Error::unavailable(
                    "database_unavailable",
                    "the database did not answer in time: check the network between it and this process",
                )
            })?
            .map_err(connect_error)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a dedicated database connection ended");
            }
        });
        Ok(Self {
            client,
            driver: AbortOnDrop(driver),
        })
    }

    /// Says goodbye to the server and waits until the connection is closed.
    pub async fn close(self) {
        let Self { client, mut driver } = self;
        drop(client);
        // A server that does not answer must not hold the caller.
        let _ = tokio::time::timeout(Duration::from_secs(5), &mut driver.0).await;
    }
}

impl Deref for Dedicated {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

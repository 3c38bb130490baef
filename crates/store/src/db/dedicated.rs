//! One connection outside the pool, for work whose session state must not outlive it: session locks, roles, settings.
//!
//! Dropping it closes the socket at once, whatever the server is doing; [`Dedicated::close`] says goodbye properly.

use std::{ops::Deref, time::Duration};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::{login::Login, pool::connect_error};
use crate::{config::DatabaseUrl, error::Result};

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
        let url = DatabaseUrl::parse(url, "the database's address (database.url or admin_url)")?;
        Self::enter(url, application).await
    }

    /// Connects to an address that was read before.
    pub async fn enter(url: DatabaseUrl, application: &str) -> Result<Self> {
        let login = Login::new(url)?;
        let mut config = login.config().clone();
        config
            .application_name(application)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(30));
        // In a box: what shakes hands is wide, and would widen everything that may connect.
        let connecting = Box::pin(login.connect(&config, CONNECT_TIMEOUT));
        let (client, driver) = connecting.await.map_err(connect_error)?;
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

//! The handle that callers hold: one pool, one clock, one configuration, and a noun for each slice.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    backfill::Backfill,
    clock::{Clock, SystemClock},
    config::Config,
    db::Pool,
    error::Result,
    token::Tokens,
};

/// The store. Clones share everything.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// Opens the store with the system's clock; connects in the background.
    pub fn open(config: Config) -> Result<Self> {
        Self::with_clock(config, Arc::new(SystemClock))
    }

    /// Opens the store with a clock of the caller's.
    pub fn with_clock(config: Config, clock: Arc<dyn Clock>) -> Result<Self> {
        let pool = Pool::open(&config.database)?;
        Ok(Self {
            pool,
            config: Arc::new(config),
            clock,
        })
    }

    /// The present time by the store's clock. Read it once for each request or tick and pass it on.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The store's clock, for what outlives a call.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Service tokens, as far as the serving role may: making and revoking needs an administrator's pool.
    pub fn tokens(&self) -> Tokens<'_> {
        Tokens::new(&self.pool)
    }

    /// Backfill jobs.
    pub fn backfill(&self) -> Backfill<'_> {
        Backfill::new(&self.pool, &self.config.backfill)
    }

    /// The connection pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

//! The handle that callers hold: one pool, one clock, one configuration, and a noun for each slice.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    alert::Alerts,
    audit::{self, Audit},
    backfill::{
        Backfill, BlockRange, CheckpointOutcome, ClaimKey, Claimed, Heard, Job, JobCaches,
        worker::Coordinator,
    },
    backup::{BackupStores, Backups},
    cache::Cache,
    clock::{Clock, SystemClock},
    cold::ColdStore,
    config::{Config, DatabaseSettings},
    db::{Pool, Reads},
    error::{Error, Result},
    feedback::{Feedback, StatsCache, Writer},
    limit::Limiter,
    metrics::{Intake, MetricCaches, Metrics},
    retention::Retention,
    slo::{self, Slo},
    token::{Granted, Tokens},
};

/// The store. Clones share everything.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    reads: Reads,
    cache: Cache,
    limiter: Limiter,
    jobs: JobCaches,
    stats: StatsCache,
    feedback_writer: Writer,
    metric_caches: MetricCaches,
    intake: Intake,
    cold: Option<ColdStore>,
    backup_stores: BackupStores,
    alerts: Alerts,
    retention_pool: Option<Pool>,
    granted: Arc<Granted>,
    slo: Arc<slo::Shared>,
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
        let cache = Cache::open(&config)?;
        let feedback_writer = Writer::new(&pool, &config.feedback);
        let cold = ColdStore::open(&config.cold)?;
        let metric_caches = MetricCaches::new(&cache, &pool, &config.metrics, cold.as_ref());
        Ok(Self {
            intake: Intake::new(&pool, &config.metrics, &metric_caches),
            metric_caches,
            limiter: Limiter::new(&cache, &config.rate_limit, Arc::clone(&clock)),
            jobs: JobCaches::new(&cache, &pool),
            stats: StatsCache::new(&cache, &pool, &feedback_writer),
            cold,
            backup_stores: BackupStores::open(&config)?,
            alerts: Alerts::open(&config)?,
            retention_pool: retention_pool(&config)?,
            reads: Reads::open(&pool, &config.database)?,
            granted: Arc::new(Granted::new(&config.oidc)?),
            slo: Arc::default(),
            pool,
            cache,
            feedback_writer,
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

    /// What end users may do.
    pub fn granted(&self) -> &Arc<Granted> {
        &self.granted
    }

    /// The audit log.
    pub fn audit(&self) -> Audit<'_> {
        Audit::new(&self.pool)
    }

    /// What the audit log calls a user; fails with `no_pseudonym_key` where no key is configured.
    pub fn pseudonym(&self, user_id: &str) -> Result<String> {
        audit::pseudonym_by(&self.config.retention, user_id)
    }

    /// Alerts, and whom they are sent to. They take the pool with each call, since they go on without it.
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// Backfill jobs.
    pub fn backfill(&self) -> Backfill<'_> {
        Backfill::new(&self.pool, &self.reads, &self.config.backfill, &self.jobs)
    }

    /// Feedback of users on insights.
    pub fn feedback(&self) -> Feedback<'_> {
        Feedback::new(
            &self.pool,
            &self.reads,
            &self.config.feedback,
            &self.feedback_writer,
            &self.stats,
        )
    }

    /// System metrics.
    pub fn metrics(&self) -> Metrics<'_> {
        Metrics::new(
            &self.pool,
            &self.reads,
            &self.config.metrics,
            &self.intake,
            &self.metric_caches,
        )
    }

    /// The cold store, where one is configured.
    pub fn cold(&self) -> Option<&ColdStore> {
        self.cold.as_ref()
    }

    /// The same with another cold store, or none: for one that no URL names.
    #[must_use]
    pub fn with_cold(mut self, cold: Option<ColdStore>) -> Self {
        self.cold = cold;
        self
    }

    /// Retention, as the role that archives.
    ///
    /// Fails with `retention_not_configured` where this process has no connection of that role.
    pub fn retention(&self) -> Result<Retention<'_>> {
        let pool = self.retention_pool.as_ref().ok_or_else(|| {
            Error::conflict(
                "retention_not_configured",
                "this process cannot archive or delete: set database.retention_url to a connection of the role utxoiq_retention",
            )
        })?;
        Ok(Retention::new(
            pool,
            self.cold.as_ref(),
            self.metrics(),
            &self.config,
            self.clock(),
        ))
    }

    /// Backups.
    pub fn backups(&self) -> Backups<'_> {
        Backups::new(&self.pool, &self.backup_stores, &self.config, self.clock())
    }

    /// The same with other stores of backups: for ones that no URL names.
    #[must_use]
    pub fn with_backup_stores(mut self, stores: BackupStores) -> Self {
        self.backup_stores = stores;
        self
    }

    /// The criteria, and how they stand.
    pub fn slo(&self) -> Slo<'_> {
        Slo::new(
            &self.pool,
            &self.config,
            &self.cache,
            &self.alerts,
            self.backups(),
            &self.slo,
        )
    }

    /// What gathers samples into shared transactions.
    pub fn metrics_intake(&self) -> &Intake {
        &self.intake
    }

    /// What gathers the writes of feedback into shared transactions.
    pub fn feedback_writer(&self) -> &Writer {
        &self.feedback_writer
    }

    /// The connection pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Where long reads go: to replicas, where there are some.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The rate limits of callers.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Connections of the role that archives: few, none while nothing is done, and with time for statements about a whole day.
fn retention_pool(config: &Config) -> Result<Option<Pool>> {
    let Some(url) = &config.database.retention_url else {
        return Ok(None);
    };
    let settings = DatabaseSettings {
        url: Some(url.clone()),
        pool_min: 0,
        pool_max: 6,
        statement_timeout_milliseconds: 3_600_000,
        ..config.database.clone()
    };
    Pool::open(&settings).map(Some)
}

/// A worker in this process works on the database directly.
impl Coordinator for Store {
    async fn claim(&self, id: Uuid, worker: &str, max_blocks: i64) -> Result<Claimed> {
        self.backfill()
            .claim(id, worker, max_blocks, self.now())
            .await
    }

    async fn record(&self, key: ClaimKey, blocks: BlockRange) -> Result<Heard> {
        self.backfill().record(key, blocks, self.now()).await
    }

    async fn heartbeat(&self, key: ClaimKey) -> Result<Heard> {
        self.backfill().heartbeat(key, self.now()).await
    }

    async fn release(&self, key: ClaimKey) -> Result<Job> {
        self.backfill().release(key, self.now()).await
    }

    async fn record_error(
        &self,
        key: ClaimKey,
        blocks: BlockRange,
        attempted: i32,
        message: &str,
    ) -> Result<Heard> {
        self.backfill()
            .record_error(key, blocks, attempted, message, self.now())
            .await
    }

    async fn checkpoint(
        &self,
        key: ClaimKey,
        block: i64,
        block_hash: &str,
    ) -> Result<CheckpointOutcome> {
        self.backfill()
            .checkpoint(key, block, block_hash, self.now())
            .await
    }

    async fn fail(&self, id: Uuid, error_message: &str) -> Result<Job> {
        self.backfill().fail(id, error_message, self.now()).await
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        self.backfill().get(id).await
    }

    async fn claims_held(&self, id: Uuid) -> Result<usize> {
        let gaps = self.backfill().gaps(id, self.now()).await?;
        Ok(gaps.iter().filter(|gap| gap.claimed_by.is_some()).count())
    }
}

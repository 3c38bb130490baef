//! What values may not be, alone and together. Every refusal names its keys.

mod alert;
mod oidc;

use tracing::Level;

use super::{
    BackfillSettings, BackupSettings, CacheSettings, Config, DatabaseSettings, FeedbackSettings,
    LogSettings, MetricsSettings, ObjectStoreSettings, RateLimitSettings, RedisSettings,
    RetentionSettings, ScheduleSettings, Secret, ServerSettings, SloSettings,
};
use crate::error::{Error, Result};

/// Whether a rule is broken, and what to say then.
type Rule = (bool, &'static str);

impl Config {
    /// Refuses values that cannot work or that contradict each other.
    pub(super) fn check(mut self) -> Result<Self> {
        self.database.complete();
        let between_sections: [Rule; 2] = [
            (
                self.database.statement_timeout_milliseconds
                    >= self.server.request_timeout_seconds.saturating_mul(1_000),
                "database.statement_timeout_milliseconds must be below server.request_timeout_seconds: a request would end before its statement does",
            ),
            (
                i64::from(self.retention.metrics_days) <= self.metrics.hot_days,
                "retention.metrics_days must be above metrics.hot_days: it counts from the day of the samples",
            ),
        ];
        let rules = self
            .server
            .rules()
            .into_iter()
            .chain(self.rate_limit.rules())
            .chain(self.database.rules())
            .chain(self.backfill.rules())
            .chain(self.feedback.rules())
            .chain(self.metrics.rules())
            .chain(self.cache.rules())
            .chain(self.retention.rules())
            .chain(self.backup.rules())
            .chain(self.schedule.rules())
            .chain(self.slo.rules())
            .chain(between_sections);
        for (broken, message) in rules {
            refuse_if(broken, message)?;
        }
        self.redis.check()?;
        self.database.check_addresses()?;
        ObjectStoreSettings::from(&self.cold).check()?;
        ObjectStoreSettings::from(&self.backup_store).check()?;
        ObjectStoreSettings::from(&self.backup_copy).check()?;
        self.check_backup_stores()?;
        self.alert.check()?;
        self.oidc.check()?;
        self.log.check()?;
        Ok(self)
    }
}

pub(super) fn refuse_if(broken: bool, message: impl Into<String>) -> Result<()> {
    if broken {
        Err(Error::invalid("invalid_config", message.into()))
    } else {
        Ok(())
    }
}

impl Config {
    /// What backups need of each other.
    fn check_backup_stores(&self) -> Result<()> {
        let backup = &self.backup;
        let has_keys = backup.recovery_recipient.is_some() && backup.drill_recipient.is_some();
        // Whoever only restores, after everything else was lost, needs to know no more than where the backups are.
        let makes_backups = self.backup_store.url.is_some() && self.database.backup_url.is_some();
        refuse_if(
            makes_backups && !has_keys,
            "backup.recovery_recipient and backup.drill_recipient must be set where backup_store.url and database.backup_url are: `utxoiq-store backup keygen` makes a key",
        )?;
        refuse_if(
            has_keys && backup.recovery_recipient == backup.drill_recipient,
            "backup.recovery_recipient and backup.drill_recipient must be two keys: the one that is kept offline must not be held by the process that proves",
        )?;
        refuse_if(
            self.backup_copy.url.is_some() && self.backup_store.url.is_none(),
            "backup_copy.url needs backup_store.url: it is a second copy",
        )?;
        refuse_if(
            self.backup_copy.url.is_some()
                && self.backup_copy.url == self.backup_store.url
                && self.backup_copy.endpoint == self.backup_store.endpoint,
            "backup_copy.url must be another place than backup_store.url",
        )
    }
}

impl BackupSettings {
    fn rules(&self) -> [Rule; 7] {
        [
            (
                !(1..=366).contains(&self.keep_daily) || self.keep_weekly > 520,
                "backup.keep_daily must be from 1 to 366, and backup.keep_weekly at most 520",
            ),
            (
                !(1..=19).contains(&self.compression_level),
                "backup.compression_level must be from 1 to 19",
            ),
            (
                !(1..=16).contains(&self.jobs),
                "backup.jobs must be from 1 to 16",
            ),
            (
                !(10..=86_400).contains(&self.stall_seconds),
                "backup.stall_seconds must be from 10 to 86400",
            ),
            (
                !(10..=3_600).contains(&self.lease_seconds),
                "backup.lease_seconds must be from 10 to 3600",
            ),
            (
                !(1..=1_380).contains(&self.late_minutes),
                "backup.late_minutes must be from 1 to 1380: the next one is due then",
            ),
            (
                self.shrink_percent > 100,
                "backup.shrink_percent must be at most 100",
            ),
        ]
    }
}

impl MetricsSettings {
    fn rules(&self) -> [Rule; 8] {
        [
            (
                !(1..=3_650).contains(&self.hot_days),
                "metrics.hot_days must be from 1 to 3650",
            ),
            (
                !(0..=86_400).contains(&self.max_ahead_seconds),
                "metrics.max_ahead_seconds must be from 0 to 86400: partitions are made for that far ahead",
            ),
            (
                !(7..=90).contains(&self.days_ahead),
                "metrics.days_ahead must be from 7 to 90",
            ),
            (
                self.max_series_per_service < 1 || self.max_services < 1,
                "metrics.max_series_per_service and metrics.max_services must be at least 1",
            ),
            (
                !(1..=100_000).contains(&self.max_samples_per_commit)
                    || self.max_waiting_samples < self.max_samples_per_commit,
                "metrics.max_samples_per_commit must be from 1 to 100000, and metrics.max_waiting_samples not below it",
            ),
            (
                !(1..=744).contains(&self.idempotency_hours),
                "metrics.idempotency_hours must be from 1 to 744",
            ),
            (
                !(0..=86_400).contains(&self.closing_seconds),
                "metrics.closing_seconds must be from 0 to 86400",
            ),
            (
                self.max_samples_per_read < 1 || self.max_series_per_read < 1,
                "metrics.max_samples_per_read and metrics.max_series_per_read must be at least 1",
            ),
        ]
    }
}

impl RetentionSettings {
    fn rules(&self) -> [Rule; 6] {
        let key = self.pseudonym_key.as_ref().map(Secret::expose);
        [
            (
                key.is_some_and(|key| key.chars().count() < 32),
                "retention.pseudonym_key must have at least 32 characters: who could guess it could tell whose pseudonym is whose",
            ),
            (
                !(2..=36_500).contains(&self.metrics_days),
                "retention.metrics_days must be from 2 to 36500",
            ),
            (
                !(1..=36_500).contains(&self.backfill_hot_days)
                    || !(1..=1_200).contains(&self.feedback_hot_months),
                "retention.backfill_hot_days must be from 1 to 36500, and retention.feedback_hot_months from 1 to 1200",
            ),
            (
                self.backfill_cold_months > 1_200 || self.feedback_cold_months > 1_200,
                "retention.backfill_cold_months and retention.feedback_cold_months must be at most 1200",
            ),
            (
                !(1..=20_000).contains(&self.batch_rows),
                "retention.batch_rows must be from 1 to 20000: a batch is restored as one value",
            ),
            (
                !(10..=86_400).contains(&self.lease_seconds) || self.lock_attempts == 0,
                "retention.lease_seconds must be from 10 to 86400, and retention.lock_attempts at least 1",
            ),
        ]
    }
}

impl ServerSettings {
    fn rules(&self) -> [Rule; 10] {
        [
            (
                self.trusted_proxies > 10,
                "server.trusted_proxies must be at most 10",
            ),
            (
                self.max_body_memory_bytes < self.max_body_bytes.saturating_mul(2),
                "server.max_body_memory_bytes must be at least twice server.max_body_bytes: one large body must leave room for others",
            ),
            (
                self.body_timeout_seconds == 0,
                "server.body_timeout_seconds must be at least 1",
            ),
            (
                self.tls_reload_seconds == 0,
                "server.tls_reload_seconds must be at least 1",
            ),
            (
                self.tls_certificate_file.is_some() != self.tls_key_file.is_some(),
                "server.tls_certificate_file and server.tls_key_file belong together: set both, or neither",
            ),
            (
                self.max_body_bytes < 1_024,
                "server.max_body_bytes must be at least 1024",
            ),
            (
                self.request_timeout_seconds == 0,
                "server.request_timeout_seconds must be at least 1",
            ),
            (
                self.max_connections == 0,
                "server.max_connections must be at least 1",
            ),
            (
                self.max_requests_in_flight == 0,
                "server.max_requests_in_flight must be at least 1",
            ),
            (
                self.header_timeout_seconds == 0,
                "server.header_timeout_seconds must be at least 1",
            ),
        ]
    }
}

impl RateLimitSettings {
    fn rules(&self) -> [Rule; 3] {
        let is_unknown = |name: &Option<String>| {
            name.as_ref()
                .is_some_and(|name| self.tiers.get(name).is_none())
        };
        [
            (
                self.tiers.get(&self.user_tier).is_none()
                    || is_unknown(&self.token_tier)
                    || is_unknown(&self.acting_tier),
                "rate_limit.user_tier, rate_limit.token_tier and rate_limit.acting_tier must be names of rate_limit.tiers",
            ),
            (
                !(100..=1_000_000).contains(&self.max_local_callers),
                "rate_limit.max_local_callers must be from 100 to 1000000",
            ),
            (
                self.failed_logins_per_minute > 1_000_000,
                "rate_limit.failed_logins_per_minute must be at most 1000000",
            ),
        ]
    }
}

impl DatabaseSettings {
    fn rules(&self) -> [Rule; 13] {
        [
            (
                self.read_urls
                    .as_ref()
                    .is_some_and(|urls| urls.as_slice().len() > 16),
                "database.read_urls must name at most 16 replicas: each gets a pool of connections",
            ),
            (
                !(10..=10_000).contains(&self.replica_patience_milliseconds),
                "database.replica_patience_milliseconds must be from 10 to 10000",
            ),
            (self.pool_max == 0, "database.pool_max must be at least 1"),
            (
                self.pool_min > self.pool_max,
                "database.pool_min must not exceed database.pool_max",
            ),
            (
                self.idle_timeout_seconds == 0,
                "database.idle_timeout_seconds must be at least 1",
            ),
            (
                self.max_lifetime_seconds == 0,
                "database.max_lifetime_seconds must be at least 1",
            ),
            (
                self.acquire_timeout_milliseconds == 0,
                "database.acquire_timeout_milliseconds must be at least 1",
            ),
            (
                self.connect_timeout_milliseconds == 0,
                "database.connect_timeout_milliseconds must be at least 1",
            ),
            (
                self.connect_retries > 10,
                "database.connect_retries must not exceed 10: callers wait meanwhile",
            ),
            (
                self.acquire_timeout_milliseconds < self.longest_connect_milliseconds(),
                "database.acquire_timeout_milliseconds must leave room for all attempts to connect: database.connect_timeout_milliseconds for each of 1 + database.connect_retries, and one and a half times the doubling database.connect_backoff_milliseconds between them",
            ),
            (
                self.pool_log_interval_seconds == 0,
                "database.pool_log_interval_seconds must be at least 1",
            ),
            (
                self.statement_timeout_milliseconds == 0,
                "database.statement_timeout_milliseconds must be at least 1",
            ),
            (
                self.lock_timeout_milliseconds == 0
                    || self.lock_timeout_milliseconds > self.statement_timeout_milliseconds,
                "database.lock_timeout_milliseconds must be at least 1 and not exceed database.statement_timeout_milliseconds",
            ),
        ]
    }

    /// How long connecting takes when every attempt uses its time up and every pause its jitter.
    fn longest_connect_milliseconds(&self) -> u64 {
        let attempts = u64::from(self.connect_retries) + 1;
        let doublings = 2_u64.saturating_pow(self.connect_retries) - 1;
        let pauses = self.connect_backoff_milliseconds.saturating_mul(doublings);
        self.connect_timeout_milliseconds
            .saturating_mul(attempts)
            .saturating_add(pauses.saturating_mul(3) / 2)
    }
}

impl BackfillSettings {
    fn rules(&self) -> [Rule; 6] {
        [
            (
                self.lease_seconds < 3,
                "backfill.lease_seconds must be at least 3: a worker's heartbeat comes three times a lease",
            ),
            (
                self.silence_seconds <= self.lease_seconds,
                "backfill.silence_seconds must exceed backfill.lease_seconds: a job would fail while a worker still holds its lease",
            ),
            (
                self.max_claim_blocks < 1,
                "backfill.max_claim_blocks must be at least 1",
            ),
            (
                self.max_claims_per_job < 1,
                "backfill.max_claims_per_job must be at least 1",
            ),
            (
                self.max_errors_per_job < 1,
                "backfill.max_errors_per_job must be at least 1",
            ),
            (
                self.max_checkpoints_per_job < 1,
                "backfill.max_checkpoints_per_job must be at least 1",
            ),
        ]
    }
}

impl FeedbackSettings {
    fn rules(&self) -> [Rule; 6] {
        [
            (
                !(1.0..=5.0).contains(&self.prior_mean),
                "feedback.prior_mean must be a rating, from 1 to 5",
            ),
            (
                !(self.prior_ratings >= 0.0 && self.prior_ratings <= 1e9),
                "feedback.prior_ratings must be from 0 to 1000000000",
            ),
            (
                !(1..=5_000).contains(&self.max_writes_per_commit),
                "feedback.max_writes_per_commit must be from 1 to 5000",
            ),
            (
                self.max_waiting_writes < self.max_writes_per_commit,
                "feedback.max_waiting_writes must be at least feedback.max_writes_per_commit",
            ),
            (
                !(10..=60_000).contains(&self.fold_interval_milliseconds),
                "feedback.fold_interval_milliseconds must be from 10 to 60000: what is not folded is summed at each read",
            ),
            (
                self.max_export_rows < 1,
                "feedback.max_export_rows must be at least 1",
            ),
        ]
    }
}

impl CacheSettings {
    fn rules(&self) -> [Rule; 7] {
        [
            (
                self.metrics_ttl_seconds < 2 || self.metrics_ttl_seconds > 86_400,
                "cache.metrics_ttl_seconds must be from 2 to 86400",
            ),
            (
                self.feedback_ttl_seconds < 2 || self.feedback_ttl_seconds > 86_400,
                "cache.feedback_ttl_seconds must be from 2 to 86400",
            ),
            (
                self.backfill_ttl_seconds < 2 || self.backfill_ttl_seconds > 86_400,
                "cache.backfill_ttl_seconds must be from 2 to 86400",
            ),
            (
                self.local_capacity > 10_000_000,
                "cache.local_capacity must not exceed 10000000",
            ),
            (
                !(1..=50).contains(&self.poll_interval_milliseconds),
                "cache.poll_interval_milliseconds must be from 1 to 50",
            ),
            (
                !(1..=5_000).contains(&self.max_keys_per_load),
                "cache.max_keys_per_load must be from 1 to 5000",
            ),
            (
                self.outbox_seconds < 10,
                "cache.outbox_seconds must be at least 10",
            ),
        ]
    }
}

impl ScheduleSettings {
    fn rules(&self) -> [Rule; 5] {
        [
            (
                self.tick_seconds == 0,
                "schedule.tick_seconds must be at least 1",
            ),
            (
                self.lease_seconds < 3,
                "schedule.lease_seconds must be at least 3: a runner's heartbeat comes three times a lease",
            ),
            (
                self.max_attempts < 1,
                "schedule.max_attempts must be at least 1",
            ),
            (
                self.retry_backoff_seconds == 0,
                "schedule.retry_backoff_seconds must be at least 1",
            ),
            (
                self.history_days < 1,
                "schedule.history_days must be at least 1",
            ),
        ]
    }
}

impl SloSettings {
    fn rules(&self) -> [Rule; 4] {
        [
            (
                !(1..=744).contains(&self.window_hours),
                "slo.window_hours must be between 1 and 744",
            ),
            (
                !(1..=30).contains(&self.flush_seconds),
                "slo.flush_seconds must be between 1 and 30: what is measured must show within a minute",
            ),
            (
                self.keep_days < 1 || self.keep_days.saturating_mul(24) < self.window_hours,
                "slo.keep_days must be at least 1, and not shorter than slo.window_hours",
            ),
            (
                !(1..=1_440).contains(&self.probe_minutes),
                "slo.probe_minutes must be between 1 and 1440",
            ),
        ]
    }
}

impl RedisSettings {
    fn check(&self) -> Result<()> {
        const SCHEMES: [&str; 4] = ["redis://", "rediss://", "unix://", "redis+unix://"];
        refuse_if(
            !(1..=50).contains(&self.response_timeout_milliseconds),
            "redis.response_timeout_milliseconds must be from 1 to 50: a request may lose no more to a Redis that does not answer",
        )?;
        refuse_if(
            self.tls_certificate_file.is_some() != self.tls_key_file.is_some(),
            "redis.tls_certificate_file and redis.tls_key_file belong together: set both, or neither",
        )?;
        let Some(url) = self.url.as_ref().map(Secret::expose) else {
            return Ok(());
        };
        let is_tls = url.starts_with("rediss://");
        refuse_if(
            !is_tls && self.tls_ca_file.is_some(),
            "redis.tls_ca_file is set and redis.url does not ask for TLS: begin it with rediss://",
        )?;
        refuse_if(
            !is_tls && self.tls_certificate_file.is_some(),
            "redis.tls_certificate_file is set and redis.url does not ask for TLS: begin it with rediss://",
        )?;
        refuse_if(
            !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) || url::Url::parse(url).is_err(),
            "redis.url must look like redis://:password@host:port/0, rediss://… for TLS, or unix:///path",
        )?;
        refuse_if(
            is_tls && url.contains('#'),
            "redis.url has a fragment: certificates are always verified; name the authority with redis.tls_ca_file",
        )
    }
}

impl LogSettings {
    /// A bare word is a level or a mistake: the log's own reader takes it for a module's name, and logs nothing else.
    fn check(&self) -> Result<()> {
        let is_level =
            |word: &str| word.eq_ignore_ascii_case("off") || word.parse::<Level>().is_ok();
        let wrong = self
            .level
            .split(',')
            .map(str::trim)
            .any(|word| !word.contains('=') && !is_level(word));
        refuse_if(
            wrong,
            "log.level must be error, warn, info, debug or trace, or a filter such as info,utxoiq_store=debug",
        )
    }
}

//! The declaration of every setting.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{Addresses, Roles, Secret, SecretUrls, Setting, Tiers, TlsMode};
use crate::error::{Error, Result};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of `key=value` pairs, for people.
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

/// How often the newest backup is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofCadence {
    /// Once a week.
    Weekly,
    /// Once a day.
    Daily,
}

/// Makes the structs, and the list of settings, from one declaration: `key: type = default as TOML`. A setting
/// without a default is an `Option`.
macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $name:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $type:ty $(= $default:literal)?, )+
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $name {
                $( $(#[doc = $doc])+ pub $key: $type, )+
            }

            impl $name {
                fn from_table(table: &mut toml::Table) -> Result<Self> {
                    Ok(Self {
                        $( $key: take(table, stringify!($section), stringify!($key), settings!(@default $($default)?))?, )+
                    })
                }
            }
        )+

        /// The whole configuration.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $( $(#[doc = $section_doc])+ pub $section: $name, )+
        }

        impl Config {
            /// Takes every setting out of `tables` (a table of sections), or its default; values of wrong type or
            /// range are refused by name.
            pub(super) fn from_tables(tables: &mut toml::Table) -> Result<Self> {
                $(
                    let mut section = match tables.remove(stringify!($section)) {
                        None => toml::Table::new(),
                        Some(toml::Value::Table(table)) => table,
                        Some(_) => return Err(bad(stringify!($section), "must be a section")),
                    };
                    let $section = $name::from_table(&mut section)?;
                )+
                Ok(Self { $($section),+ })
            }
        }

        /// Every setting, in the order of the example file.
        pub const SETTINGS: &[Setting] = &[
            $($( Setting {
                section: stringify!($section),
                key: stringify!($key),
                default: settings!(@default $($default)?),
                doc: concat!($($doc, "\n"),+),
            }, )+)+
        ];
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}

settings! {
    /// The HTTP service.
    server: ServerSettings {
        /// The address to listen on.
        listen: SocketAddr = "\"127.0.0.1:8080\"",
        /// The file (PEM) with the certificate to serve TLS with, its intermediates behind it; none: plain HTTP, for loopback or
        /// behind a proxy that speaks TLS. It is read again when it changes, without a restart.
        tls_certificate_file: Option<String>,
        /// The file (PEM) with that certificate's key.
        tls_key_file: Option<String>,
        /// How often these files are looked at.
        tls_reload_seconds: u64 = "60",
        /// Whether a proxy before this process speaks TLS with clients: browsers are then told to come by TLS only
        /// (Strict-Transport-Security), as they are where this process speaks it itself.
        behind_tls: bool = "false",
        /// The largest request body, in bytes; a larger one gets 413. A batch of 5,000 metrics is about 700 kB.
        max_body_bytes: usize = "4194304",
        /// The most memory that bodies take together while they are read and worked on, in bytes; further ones get 503. Those that
        /// arrive in one piece, up to 64 kB, are not counted: a connection buffers as much anyway.
        max_body_memory_bytes: usize = "268435456",
        /// A body that is not there after so long, or after nine tenths of a request's time, gets 408.
        body_timeout_seconds: u64 = "20",
        /// A request that takes longer gets 503.
        request_timeout_seconds: u64 = "30",
        /// How long a process that was told to stop goes on accepting, while /readyz says that it is stopping and every answer asks
        /// its client to connect anew: as long as a balancer takes to notice, so that no request meets a closed door. 0 where whoever
        /// stops it sends nothing more (Cloud Run).
        shutdown_delay_seconds: u64 = "0",
        /// How long a stopping process waits for requests under way, after that.
        shutdown_grace_seconds: u64 = "20",
        /// The most requests worked on at once; further ones get 503 with Retry-After. They would only queue for
        /// the pool's connections.
        max_requests_in_flight: usize = "1024",
        /// The most connections open at once; further ones wait in the system's queue. Each takes a file descriptor.
        max_connections: usize = "4096",
        /// A connection that sends no request, or not its whole head, for so long is closed; also bounds how long a
        /// kept-alive connection is idle, so it must exceed what clients and load balancers keep one for.
        header_timeout_seconds: u64 = "75",
        /// The most dashboard pages that are kept up to date at once; further ones get 503, and show what they showed. Each is a
        /// connection, and a look at what it shows each second.
        max_live_streams: usize = "64",
        /// How long a token's check is remembered, which bounds how long a revoked one still works.
        token_cache_milliseconds: u64 = "1000",
        /// How many proxies of one's own stand before this process, each of which adds its client to X-Forwarded-For: the client's
        /// address is then the one so far from the right. With 0 the header is not read, since anyone can send it.
        trusted_proxies: usize = "0",
    }
    /// How many requests a caller may make. Every process counts in Redis, so that a limit is one over all of them; without Redis
    /// each counts alone.
    rate_limit: RateLimitSettings {
        /// The tiers: name=requests/window, the window s, m or h, or so many of them (200/10s). In no window, wherever it begins,
        /// a caller makes more requests, and all of them may come at once.
        tiers: Tiers = "\"free=100/h,pro=1000/h,power=10000/h\"",
        /// The tier of end users whose token names none, and of callers whose tier is not among the tiers.
        user_tier: String = "\"free\"",
        /// The tier of service tokens that have none; none: they are not limited. The platform's own services make thousands of
        /// requests a second.
        token_tier: Option<String>,
        /// The tier of each user whom a service token names in X-User-Id, beside the token's own; none: they are not limited.
        acting_tier: Option<String>,
        /// The most callers remembered in this process, the latest ones; at most 4 kB each, for most a tenth of it.
        max_local_callers: u64 = "20000",
        /// How many requests with wrong service tokens one client address (of IPv6 one /64) may make in a minute; then it gets 429
        /// without a look-up, except with tokens that were right within the last hour. 0: as many as it likes; a flood takes two
        /// connections at most. Only where the address is the client's own: behind a load balancer that needs server.trusted_proxies,
        /// or one client's floods would shut out all new ones.
        failed_logins_per_minute: u32 = "0",
    }
    /// End users, who sign in with an identity provider (OpenID Connect). Without these settings only service tokens are taken.
    /// docs/operations/access.md has the values of Firebase.
    oidc: OidcSettings {
        /// Who issues the tokens, exactly as their claim iss has it. Firebase: https://securetoken.google.com/PROJECT.
        issuer: Option<String>,
        /// For whom they are issued, as their claim aud has it: one name, several with commas between them, or a list; one of them
        /// must be right. Firebase: PROJECT.
        audience: Option<Addresses>,
        /// Where the provider publishes its keys, as a JSON Web Key Set. Firebase:
        /// https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com.
        jwks_url: Option<String>,
        /// How far the provider's clock and this one may be apart; an expired token works for so long, at most 300.
        clock_skew_seconds: u32 = "60",
        /// How long a token that was verified is not verified again; it never outlives its end or its key.
        token_cache_seconds: u64 = "60",
        /// How long keys are used beyond the time that the provider gave them while it cannot be reached.
        keys_outlive_hours: u32 = "24",
        /// The claim with a person's role, or a list of roles; dots lead into nested claims.
        roles_claim: Option<String>,
        /// What each role may do: analyst=metrics:read,stats:read;operator=alerts:read, or a table of lists. Never act_as.
        roles: Option<Roles>,
        /// What everybody who is signed in may do.
        default_scopes: Addresses = "\"feedback:read,feedback:write,stats:read\"",
        /// The claim with the tier of a person's rate limit; dots lead into nested claims.
        tier_claim: Option<String>,
    }
    /// PostgreSQL.
    database: DatabaseSettings {
        /// The connection string of the role that serves: postgresql://user:password@host:port/database. It and the others
        /// take libpq's sslmode, sslrootcert, sslcert and sslkey, and password_source; what they do not say, the settings below do.
        url: Option<Secret>,
        /// The connection strings of replicas (hot standbys) of this database, of the role that serves, with commas between them: long
        /// reads go to them as long as they answer just what the primary would, and to the primary otherwise.
        read_urls: Option<SecretUrls>,
        /// How long a read waits for a replica to have what the primary had when the read began; then the primary answers it.
        replica_patience_milliseconds: u64 = "250",
        /// The connection string for init, migrate, token and test databases; database.url where it is not set.
        admin_url: Option<Secret>,
        /// The connection string of the role that archives and deletes (utxoiq_retention), which no other one can. Where it is
        /// not set, this process can neither run retention nor place a hold, restore or erase.
        retention_url: Option<Secret>,
        /// The connection string of the role that is backed up with (utxoiq_backup), which may read everything. Where it is not
        /// set, this process can make no backup.
        backup_url: Option<Secret>,
        /// The connection string of the role that test restores are made with (utxoiq_drill), to a database of the server to restore
        /// on, which is not the one that is served from (postgres, say): the scratch database is made beside it. Where it is not
        /// set, this process can prove no backup.
        drill_url: Option<Secret>,
        /// TLS to the database, as libpq names it: disable, prefer, require, verify-ca or verify-full. Where it is not set, prefer;
        /// or verify-full, where a CA is named. Only the last two know who answers.
        tls: Option<TlsMode>,
        /// The file (PEM) of the authorities that may have signed the database's certificate (Cloud SQL's server CA); none: those
        /// that the system trusts.
        tls_ca_file: Option<String>,
        /// The file (PEM) of the certificate that this side shows, where the database asks for one.
        tls_certificate_file: Option<String>,
        /// The file (PEM) of its key.
        tls_key_file: Option<String>,
        /// Where the password of addresses without one is from, asked anew for each connection: url (there is none), file:/path,
        /// gcp_metadata (the platform's token, for Cloud SQL's IAM authentication), or an https:// address that answers as
        /// Google's metadata server does. Tokens are sent only to a verified server (verify-ca, verify-full), a socket or loopback.
        password_source: Secret = "\"url\"",
        /// The region the database is in (europe-west1, say). Backups may not lie in it (C8.4).
        region: Option<String>,
        /// Connections kept open (C6.1).
        pool_min: usize = "5",
        /// The most connections (C6.1).
        pool_max: usize = "20",
        /// Connections above the minimum that were idle for so long are closed (C6.3).
        idle_timeout_seconds: u64 = "300",
        /// A connection is replaced at this age, so that a failover or a changed setting reaches all of them.
        max_lifetime_seconds: u64 = "1800",
        /// How long a request waits for a connection before it gets 503; covers connecting with all retries.
        acquire_timeout_milliseconds: u64 = "10000",
        /// How long one attempt to connect may take.
        connect_timeout_milliseconds: u64 = "2000",
        /// How often a failed attempt to connect is repeated (C6.4). Statements are never repeated.
        connect_retries: u32 = "3",
        /// The pause before the first retry; doubled each time, plus up to a half at random.
        connect_backoff_milliseconds: u64 = "100",
        /// The longest a statement may run.
        statement_timeout_milliseconds: u64 = "10000",
        /// The longest a statement waits for a lock.
        lock_timeout_milliseconds: u64 = "5000",
        /// How often active, idle and waiting are logged (C6.5).
        pool_log_interval_seconds: u64 = "60",
    }
    /// Redis. Without it everything works, from the database alone (C4.5).
    redis: RedisSettings {
        /// The address: redis://:password@host:port/0, rediss:// for TLS (certificate and host name are verified), or
        /// unix:///path for a socket.
        url: Option<Secret>,
        /// The file (PEM) of the authorities that may have signed Redis' certificate (Memorystore's CA); none: those that the
        /// system trusts.
        tls_ca_file: Option<String>,
        /// The file (PEM) of the certificate that this side shows, where Redis asks for one.
        tls_certificate_file: Option<String>,
        /// The file (PEM) of its key.
        tls_key_file: Option<String>,
        /// How long a command may take; what a request can lose to a Redis that does not answer.
        response_timeout_milliseconds: u64 = "50",
    }
    /// Backfill jobs.
    backfill: BackfillSettings {
        /// How long a worker's claim lasts without a heartbeat; then others may claim what it had not finished.
        lease_seconds: u64 = "15",
        /// A running job of which nothing was heard for so long becomes failed, 'worker lost', and can be resumed.
        silence_seconds: u64 = "900",
        /// The most blocks one claim may hold, so that a job can be shared.
        max_claim_blocks: i64 = "1000000",
        /// The most claims a job may have at once.
        max_claims_per_job: i64 = "256",
        /// The most chunk errors kept for a job; the oldest go first.
        max_errors_per_job: i64 = "1000",
        /// The most block-hash checkpoints kept for a job; the lowest go first.
        max_checkpoints_per_job: i64 = "1000",
    }
    /// Feedback of users on insights.
    feedback: FeedbackSettings {
        /// The mean rating that an insight has in the ranking before anyone has rated it (the prior of the Bayesian mean).
        prior_mean: f64 = "3.0",
        /// How many ratings that prior counts for: more of them let fewer insights with few ratings to the top.
        prior_ratings: f64 = "10.0",
        /// The most writes of concurrent requests that share one transaction.
        max_writes_per_commit: usize = "256",
        /// The most writes that wait for a transaction; further ones get 503.
        max_waiting_writes: usize = "10000",
        /// How often what was counted is folded into one row for each insight, while there are writes.
        fold_interval_milliseconds: u64 = "1000",
        /// The longest export, in rows.
        max_export_rows: i64 = "10000000",
    }
    /// System metrics.
    metrics: MetricsSettings {
        /// For how many days back samples are accepted; older days are archived (C3.5).
        hot_days: i64 = "90",
        /// How far ahead of this service's clock a sample may be.
        max_ahead_seconds: i64 = "600",
        /// For how many days ahead partitions are made (C3.2); at least 7, so that a week without a schedule stops no intake.
        days_ahead: i64 = "14",
        /// The most series of one service; more of them are refused, and the labels to blame are named.
        max_series_per_service: i64 = "10000",
        /// The most services, about: as many more as begin to report in one moment.
        max_services: i64 = "1000",
        /// The most labels of a series.
        max_labels_per_series: usize = "32",
        /// The longest name of a label.
        max_label_name_characters: usize = "100",
        /// The longest value of a label.
        max_label_value_characters: usize = "500",
        /// The most metadata of a sample, in bytes of JSON.
        max_metadata_bytes: usize = "8192",
        /// The most samples that concurrent requests share one transaction for.
        max_samples_per_commit: usize = "20000",
        /// The most samples that wait for a transaction; further ones get 429 with Retry-After. Each takes some 60 bytes.
        max_waiting_samples: usize = "500000",
        /// For how long a request with an Idempotency-Key is remembered.
        idempotency_hours: i64 = "24",
        /// How long after its end an hour is rolled up; samples that come later cost their hour another turn.
        closing_seconds: i64 = "120",
        /// The most samples of an hour of one series that are cached; denser ones are read from the database each time.
        max_cached_samples_per_hour: usize = "7200",
        /// The most samples that one read streams; a longer one goes on with its Link.
        max_samples_per_read: i64 = "1000000",
        /// The most series that one read is about.
        max_series_per_read: i64 = "1000",
    }
    /// The cache of feedback statistics, backfill jobs and metrics, in this process and in Redis (C4).
    cache: CacheSettings {
        /// How long statistics of feedback are kept (C4.4), less up to a tenth at random.
        feedback_ttl_seconds: u64 = "3600",
        /// How long backfill jobs are kept (C4.4), less up to a tenth at random.
        backfill_ttl_seconds: u64 = "300",
        /// How long samples of metrics, and lists of series, are kept (C4.4), less up to a tenth at random.
        metrics_ttl_seconds: u64 = "300",
        /// The most values of each kind kept in this process.
        local_capacity: u64 = "100000",
        /// The most memory for samples of metrics in this process, in bytes.
        metrics_local_bytes: u64 = "268435456",
        /// How often this process asks the database what has changed. At most 50: what a process has not heard of for
        /// 700 ms it does not serve from a cache.
        poll_interval_milliseconds: u64 = "50",
        /// The most keys loaded by one query; concurrent misses share one.
        max_keys_per_load: usize = "500",
        /// Changes are kept for so long for processes that could not ask; one that was silent for longer starts its
        /// caches anew.
        outbox_seconds: u64 = "120",
    }
    /// Archives in object storage. Without it nothing is archived, and so nothing leaves the database.
    cold: ColdSettings {
        /// Where archives lie: gs://bucket/prefix (Cloud Storage), s3://bucket/prefix, or file:///folder, which must be there.
        url: Option<String>,
        /// The address of the object store, where it is not its provider's own: an S3-compatible one or an emulator.
        endpoint: Option<String>,
        /// Whether the object store may be spoken to without TLS.
        allow_http: bool = "false",
        /// The region of an S3 bucket.
        region: Option<String>,
        /// The id of the access key of an S3 bucket; none: the platform's own identity.
        access_key_id: Option<Secret>,
        /// The secret of that access key.
        secret_access_key: Option<Secret>,
        /// The file with a service account's key for Cloud Storage; none: the platform's own identity.
        service_account_path: Option<String>,
        /// The private folder for verified copies of what is read; a folder below the system's temporary one where it is not set.
        cache_dir: Option<String>,
        /// The most that these copies take, in bytes, beside those that are being read.
        cache_bytes: u64 = "2147483648",
        /// How long one request to the object store may take, with all its retries.
        timeout_seconds: u64 = "30",
    }
    /// How long what is kept where (C7). How long samples of metrics are hot is metrics.hot_days.
    retention: RetentionSettings {
        /// On which day after its own a day of metrics is deleted from cold storage (C7.3).
        metrics_days: u32 = "455",
        /// How long backfill jobs stay in the database after they ended (C7.1).
        backfill_hot_days: u32 = "180",
        /// How long they stay in cold storage after that.
        backfill_cold_months: u32 = "24",
        /// How long feedback and its history stay in the database after their last change (C7.2).
        feedback_hot_months: u32 = "24",
        /// How long they stay in cold storage after that.
        feedback_cold_months: u32 = "12",
        /// The most rows of feedback that one archive has: they are compared and deleted in one transaction. Of jobs, 100.
        batch_rows: i64 = "10000",
        /// How long a run may give no sign of life before another one may begin.
        lease_seconds: u32 = "120",
        /// How often a day's partition is tried to be detached, 100 ms each, before it is left to the next run.
        lock_attempts: u32 = "50",
        /// The key of the pseudonyms under which the audit log names users (C7.5): at least 32 characters, kept as long as
        /// the log. Without it nobody can be erased, since that could not be logged.
        pseudonym_key: Option<Secret>,
        /// How long retention waits for a running backup before it fails and is tried again.
        wait_for_backup_seconds: u32 = "14400",
    }
    /// Backups (C8). Where they lie is backup_store.
    backup: BackupSettings {
        /// The public key (age1…) of the recovery key, which is kept offline: `backup keygen` makes a pair.
        recovery_recipient: Option<String>,
        /// The public key (age1…) of the drill key, which only the process that proves backups holds.
        drill_recipient: Option<String>,
        /// The drill key (AGE-SECRET-KEY-1…). Where it is not set, this process can prove no backup; in production only the job that
        /// proves has it.
        drill_identity: Option<Secret>,
        /// How many daily backups are kept (C8.2): the newest of each of so many days.
        keep_daily: u32 = "7",
        /// How many weekly backups are kept (C8.2): the newest of each of so many weeks that are over.
        keep_weekly: u32 = "4",
        /// How often the newest backup is restored and compared (C8.3): weekly or daily.
        prove: ProofCadence = "\"weekly\"",
        /// The level of zstd, 1 to 19: 8 is smaller than pg_dump's own compression, and not slower.
        compression_level: i32 = "8",
        /// How many connections compute fingerprints, and how many jobs restore.
        jobs: usize = "2",
        /// The folder of pg_dump and pg_restore; where it is not set, they are looked for in the usual places.
        tools_dir: Option<String>,
        /// The folder on whose disk a restore unpacks its dump, in a file without a name; the system's temporary one where it is not
        /// set.
        scratch_dir: Option<String>,
        /// A backup or restore that has not moved for so long has failed.
        stall_seconds: u64 = "600",
        /// How long a run may give no sign of life before it counts as dead.
        lease_seconds: u32 = "60",
        /// A backup that has not been verified so long after its time is late, and is alerted.
        late_minutes: u32 = "180",
        /// A backup that has less than so much of the previous one's rows or bytes has shrunk, and is alerted.
        shrink_percent: u32 = "50",
    }
    /// The object store of the backups, in another region than the database (C8.4).
    backup_store: BackupStoreSettings {
        /// Where backups lie: gs://bucket/prefix (Cloud Storage), s3://bucket/prefix, or file:///folder, which must be there. Without it
        /// there are no backups.
        url: Option<String>,
        /// Where that bucket is: a region (europe-west4), a multi-region (EU) or two regions (us-central1+us-east1). Cloud Storage
        /// is asked; others are believed. It may not be the database's region (C8.4).
        location: Option<String>,
        /// The address of the object store, where it is not its provider's own: an S3-compatible one or an emulator.
        endpoint: Option<String>,
        /// Whether the object store may be spoken to without TLS.
        allow_http: bool = "false",
        /// The region of an S3 bucket.
        region: Option<String>,
        /// The id of the access key of an S3 bucket; none: the platform's own identity.
        access_key_id: Option<Secret>,
        /// The secret of that access key.
        secret_access_key: Option<Secret>,
        /// The file with a service account's key for Cloud Storage; none: the platform's own identity.
        service_account_path: Option<String>,
        /// How long one request to the object store may take, with all its retries; a part of a backup is one.
        timeout_seconds: u64 = "120",
    }
    /// A second object store, to which every backup is copied.
    backup_copy: BackupCopySettings {
        /// Where second copies lie: gs://bucket/prefix (Cloud Storage), s3://bucket/prefix, or file:///folder, which must be there.
        url: Option<String>,
        /// Where that bucket is: a region (europe-west4), a multi-region (EU) or two regions (us-central1+us-east1). Cloud Storage
        /// is asked; others are believed. It may not be the database's region (C8.4).
        location: Option<String>,
        /// The address of the object store, where it is not its provider's own: an S3-compatible one or an emulator.
        endpoint: Option<String>,
        /// Whether the object store may be spoken to without TLS.
        allow_http: bool = "false",
        /// The region of an S3 bucket.
        region: Option<String>,
        /// The id of the access key of an S3 bucket; none: the platform's own identity.
        access_key_id: Option<Secret>,
        /// The secret of that access key.
        secret_access_key: Option<Secret>,
        /// The file with a service account's key for Cloud Storage; none: the platform's own identity.
        service_account_path: Option<String>,
        /// How long one request to the object store may take, with all its retries; a part of a backup is one.
        timeout_seconds: u64 = "120",
    }
    /// Whom alerts are sent to. They are always logged, too. Addresses are secrets: whoever has one can send to it.
    alert: AlertSettings {
        /// A webhook of your own, http:// or https://, which gets each notice as JSON.
        webhook_url: Option<Secret>,
        /// The key with which these are signed, at least 16 characters: the header Utxoiq-Signature.
        webhook_secret: Option<Secret>,
        /// An incoming webhook of Slack.
        slack_url: Option<Secret>,
        /// Prometheus's Alertmanager, without its path: http://alertmanager:9093.
        alertmanager_url: Option<Secret>,
        /// The mail server: smtps://user:password@host:465, or smtp://host:25 without TLS; with ?tls=required it begins without.
        smtp_url: Option<Secret>,
        /// Whom mails are from.
        email_from: Option<String>,
        /// Whom mails are to: one address, several with commas between them, or a list. Each gets a mail of its own.
        email_to: Option<Addresses>,
        /// How often what is wrong is told again until it is acknowledged or over (C8.5).
        repeat_minutes: u32 = "60",
        /// How long a receiver has to answer; then it is tried again later.
        timeout_seconds: u64 = "10",
        /// What is told when a backup begins, succeeds and fails, in the form of healthchecks.io: it raises the alarm when it
        /// hears nothing.
        backup_heartbeat_url: Option<Secret>,
        /// The same for the process that watches: told every minute that it is there.
        watch_heartbeat_url: Option<Secret>,
    }
    /// The durable schedule.
    schedule: ScheduleSettings {
        /// Whether this process runs due tasks itself; where it does not, `schedule tick` or the tick call must.
        enabled: bool = "true",
        /// How often this process looks for due tasks.
        tick_seconds: u64 = "5",
        /// How long a runner holds a slot without a heartbeat; then another finishes it.
        lease_seconds: u64 = "60",
        /// How often a failed slot is tried in all.
        max_attempts: i32 = "5",
        /// The pause before a failed slot's first retry; doubled each time, an hour at most.
        retry_backoff_seconds: u64 = "60",
        /// How long the history of slots is kept.
        history_days: i64 = "400",
    }
    /// How the criteria are judged: `utxoiq-store slo`, GET /api/v1/slo.
    slo: SloSettings {
        /// How far back what was measured is looked at, unless a reader asks for another time; at most 744. Beside it, the last five
        /// minutes are judged by themselves.
        window_hours: i64 = "24",
        /// How often this process writes down what it has measured; what a killed process loses is at most that much.
        flush_seconds: u64 = "10",
        /// For how many days what was measured is kept.
        keep_days: i64 = "31",
        /// How often capabilities are tried in a scratch database, in minutes; database.drill_url says where. What was tried twice as
        /// long ago says nothing any more.
        probe_minutes: u32 = "15",
    }
    /// Logs, on standard error.
    log: LogSettings {
        /// error, warn, info, debug or trace, also per module: info,utxoiq_store::db=debug.
        level: String = "\"info\"",
        /// text or json.
        format: LogFormat = "\"text\"",
    }
}

fn bad(name: &str, why: &str) -> Error {
    Error::invalid("invalid_config", format!("{name}: {why}"))
}

/// Takes one value out of its section. The message of a wrong one names the key and never shows the value, which
/// may be a secret.
fn take<T: serde::de::DeserializeOwned>(
    table: &mut toml::Table,
    section: &str,
    key: &str,
    default: Option<&str>,
) -> Result<T> {
    let name = format!("{section}.{key}");
    let value = match (table.remove(key), default) {
        (Some(value), _) => value,
        (None, Some(default)) => {
            parse(default).ok_or_else(|| bad(&name, "its own default does not parse"))?
        }
        // No value and no default: an `Option`, which reads an absent value as `None`.
        (None, None) => return T::deserialize(absent()).map_err(|_| bad(&name, "must be set")),
    };
    let found = value.type_str();
    T::deserialize(value).map_err(|error| {
        bad(
            &name,
            &format!("{}, found a {found}", expectation::<T>(&error)),
        )
    })
}

/// What would have been right, without the value itself.
fn expectation<T>(error: &toml::de::Error) -> String {
    let message = error.message();
    match message.split_once("expected ") {
        Some((_, expected)) => format!("expected {}", expected.trim_end()),
        None => format!(
            "is not a valid {}",
            std::any::type_name::<T>()
                .rsplit("::")
                .next()
                .unwrap_or("value")
        ),
    }
}

fn absent() -> impl serde::Deserializer<'static, Error = serde::de::value::Error> {
    serde::de::value::UnitDeserializer::new()
}

/// Reads one TOML value.
pub(super) fn parse(text: &str) -> Option<toml::Value> {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()?
        .remove("value")
}

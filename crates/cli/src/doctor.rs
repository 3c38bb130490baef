//! `utxoiq-store doctor`: looks at everything around the store, and says of each finding how to mend it.
//!
//! * **It changes nothing**, but for one small object in each object store, which it writes, reads and removes.
//! * **It ends in time.** Checks run beside each other, each with a time limit of its own; one that hangs is a finding.
//! * **Its answer has an order that is always the same**, so that two can be compared.
//! * **It needs nothing to work.** Settings that cannot be read, a database that is away, a folder that is missing: each is a
//!   finding, and the rest is looked at as far as it can be.

mod certificates;
mod database;
mod finding;
mod places;
mod queries;
mod redis;
mod service;
mod space;
mod work;

use std::{future::Future, pin::Pin, process::ExitCode, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressDrawTarget};
use utxoiq_store::{
    Store,
    clock::{Clock, SystemClock},
    config::{BackupCopySettings, BackupStoreSettings, ColdSettings, Config, DatabaseSettings},
};

use self::finding::{Finding, State};
use crate::{Context, client::Connection, output::outln};

/// How long a check may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 1 where a check failed, else with 0: warnings are no failure.

Examples:
  utxoiq-store doctor
  utxoiq-store doctor --json | jq -r '.findings[] | select(.state == \"failed\") | .mend'
  utxoiq-store doctor --as-of 2027-03-01T00:00:00Z      which certificates will have run out by then"
)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    /// As if it were this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    as_of: Option<DateTime<Utc>>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// What the checks look at.
struct Around {
    config: Config,
    /// None where it cannot be opened: its own settings are then what a check finds.
    store: Option<Store>,
    connection: Connection,
    clock: Arc<dyn Clock>,
}

/// The system's clock, moved.
struct Moved(TimeDelta);

impl Clock for Moved {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + self.0
    }
}

/// What a check gives.
type Looking<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + Send + 'a>>;

/// Looks at everything.
pub async fn run(args: Args, context: Context) -> anyhow::Result<ExitCode> {
    let shift = args
        .as_of
        .map_or(TimeDelta::zero(), |time| time - SystemClock.now());
    let clock: Arc<dyn Clock> = Arc::new(Moved(shift));
    let around = Around {
        store: open(&context.config, &clock),
        config: context.config,
        connection: args.connection,
        clock,
    };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_message("looking");
    bar.enable_steady_tick(Duration::from_millis(100));
    let mut findings = vec![Finding::ok(
        "configuration",
        "it can be read, and nothing in it contradicts itself",
    )];
    findings.extend(around.look().await);
    bar.finish_and_clear();
    tell(&findings, args.json)
}

/// Says that the configuration cannot be read, after which nothing can be looked at.
pub fn unreadable(error: &anyhow::Error, json: bool) -> anyhow::Result<ExitCode> {
    let finding = Finding::failed(
        "configuration",
        format!("{error:#}"),
        "correct what it names: `utxoiq-store config example` shows every setting with its default",
    );
    tell(&[finding], json)
}

fn tell(findings: &[Finding], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        outln!(
            "{}",
            serde_json::to_string_pretty(&finding::as_json(findings))?
        );
    } else {
        crate::output::out!("{}", finding::as_text(findings));
    }
    let has_failed = findings
        .iter()
        .any(|finding| finding.state == State::Failed);
    Ok(ExitCode::from(u8::from(has_failed)))
}

/// The store, without those of objects where they are what is wrong.
fn open(config: &Config, clock: &Arc<dyn Clock>) -> Option<Store> {
    let few = Config {
        database: DatabaseSettings {
            pool_min: 0,
            pool_max: 4,
            connect_retries: 0,
            acquire_timeout_milliseconds: 3_000,
            ..config.database.clone()
        },
        ..config.clone()
    };
    let without = Config {
        cold: ColdSettings {
            url: None,
            ..few.cold.clone()
        },
        backup_store: BackupStoreSettings {
            url: None,
            ..few.backup_store.clone()
        },
        backup_copy: BackupCopySettings {
            url: None,
            ..few.backup_copy.clone()
        },
        ..few.clone()
    };
    Store::with_clock(few, Arc::clone(clock))
        .or_else(|_| Store::with_clock(without, Arc::clone(clock)))
        .ok()
}

impl Around {
    async fn look(&self) -> Vec<Finding> {
        let checks: Vec<(&'static str, Looking<'_>)> = vec![
            ("database.url", Box::pin(database::address(self, 0))),
            ("database.admin_url", Box::pin(database::address(self, 1))),
            (
                "database.retention_url",
                Box::pin(database::address(self, 2)),
            ),
            ("database.backup_url", Box::pin(database::address(self, 3))),
            ("database.drill_url", Box::pin(database::address(self, 4))),
            ("database grants", Box::pin(database::grants(self))),
            ("schema", Box::pin(database::schema(self))),
            ("database server", Box::pin(database::server(self))),
            ("redis", Box::pin(redis::look(self))),
            (
                "cold",
                Box::pin(places::probe(
                    self,
                    (&self.config.cold).into(),
                    "nothing is archived, and so nothing leaves the database",
                )),
            ),
            (
                "backup_store",
                Box::pin(places::probe(
                    self,
                    (&self.config.backup_store).into(),
                    "there are no backups",
                )),
            ),
            (
                "backup_copy",
                Box::pin(places::probe(
                    self,
                    (&self.config.backup_copy).into(),
                    "backups have no second copy",
                )),
            ),
            ("backup places", Box::pin(places::regions(self))),
            ("backup tools", Box::pin(places::tools(self))),
            ("free space", Box::pin(space::look(self))),
            ("service", Box::pin(service::ready(self))),
            ("token", Box::pin(service::token(self))),
            ("schedule", Box::pin(work::schedule(self))),
            ("alerts", Box::pin(work::alerts(self))),
            ("backups", Box::pin(work::backups(self))),
            ("retention", Box::pin(work::retention(self))),
            ("certificates", Box::pin(certificates::look(self))),
        ];
        let looking = checks.into_iter().map(|(name, check)| async move {
            tokio::time::timeout(WITHIN, check).await.unwrap_or_else(|_| {
                vec![Finding::failed(
                    name,
                    format!("no answer within {} s", WITHIN.as_secs()),
                    "look whether it is overloaded, or whether a firewall drops what is sent to it",
                )]
            })
        });
        join_all(looking).await.into_iter().flatten().collect()
    }

    /// The store, or what is said where there is none.
    fn store(&self, check: &'static str) -> Result<&Store, Vec<Finding>> {
        self.store.as_ref().ok_or_else(|| {
            vec![Finding::skipped(
                check,
                "the store cannot be opened with these settings",
            )]
        })
    }
}

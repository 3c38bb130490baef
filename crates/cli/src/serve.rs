//! `utxoiq-store serve`: the HTTP service, the scheduled tasks and the pool's log, until a signal.
//!
//! A schema that this program cannot use stops the start. A database that is merely away does not: the process listens,
//! says at `/readyz` what is missing, and serves when it comes; then the schema is judged as at a start, except that
//! the process stays and refuses calls, since its supervisor would only start it again.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::MissedTickBehavior,
};
use utxoiq_store::{
    Kind, Store,
    db::migrate,
    schedule::{self, Scheduler},
    worker,
};
use utxoiq_store_server::AppState;

use crate::Context;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Listen here instead of at server.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

pub async fn run(args: Args, context: Context) -> anyhow::Result<ExitCode> {
    let mut config = context.config;
    if let Some(listen) = args.listen {
        config.server.listen = listen;
    }
    let mut stop_signals = StopSignals::new()?;
    raise_descriptor_limit(config.server.max_connections);
    let address = config.server.listen;
    let store = Store::open(config)?;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("could not listen on {address}: choose another with --listen or server.listen")
    })?;
    check_schema(&store).await?;
    store.backups().check_places().await?;

    let scheduler = Scheduler::new(
        store.pool().clone(),
        store.clock(),
        worker::tasks(&store),
        store.config().schedule.clone(),
        schedule::runner_name(),
    )?;
    let state = AppState::new(store.clone(), scheduler.clone())?;
    let (stop, stopping) = watch::channel(false);
    let pool_log = tokio::spawn(log_pool(store.clone()));
    let criteria = tokio::spawn(worker::criteria::keep_forever(store.clone()));
    let copies = tokio::spawn(worker::copies::purge_forever(store.clone()));
    let watch = tokio::spawn(worker::watch::watch_forever(store.clone()));
    let schedule = store.config().schedule.enabled.then(|| {
        let stopping = stopping.clone();
        tokio::spawn(async move { scheduler.run_forever(stopped(stopping)).await })
    });

    tracing::info!(address = %listener.local_addr()?, "listening");
    let serving = utxoiq_store_server::serve(listener, state, stopped(stopping));
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => served?,
        name = stop_signals.next() => {
            tracing::info!("{name}: finishing what is under way; a second signal ends it at once");
            stop.send_replace(true);
            let finished = async {
                serving.await?;
                if let Some(schedule) = schedule {
                    let _ = schedule.await; // it logs its own troubles
                }
                anyhow::Ok(())
            };
            tokio::select! {
                finished = finished => finished?,
                name = stop_signals.next() => {
                    tracing::warn!("{name}: ended at once");
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    }
    pool_log.abort();
    criteria.abort();
    copies.abort();
    watch.abort();
    store.pool().close();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Every connection takes a file descriptor, and the usual soft limit is below the connections that are allowed: without
/// room the process could not even answer whether it lives.
fn raise_descriptor_limit(max_connections: usize) {
    const OTHERS: u64 = 128; // the pool, the log, Redis, and some to spare
    let wanted = u64::try_from(max_connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHERS);
    let limit = getrlimit(Resource::Nofile);
    let raised = limit
        .maximum
        .map_or(wanted, |maximum| maximum.min(wanted))
        .max(limit.current.unwrap_or(wanted));
    let new = Rlimit {
        current: Some(raised),
        maximum: limit.maximum,
    };
    let in_force = if setrlimit(Resource::Nofile, new).is_ok() {
        raised
    } else {
        limit.current.unwrap_or(raised)
    };
    if in_force < wanted {
        tracing::warn!(
            "{in_force} file descriptors are too few for server.max_connections = {max_connections}: raise the limit (ulimit -Hn) to {wanted} or lower the setting"
        );
    }
}

/// Refuses a schema that this program cannot use; lets a database that is away pass.
async fn check_schema(store: &Store) -> anyhow::Result<()> {
    match migrate::compatibility(store.pool()).await {
        Ok(schema) => {
            schema.require()?;
            tracing::info!("{schema}");
            Ok(())
        }
        Err(error) if error.kind() == Kind::Unavailable => {
            tracing::warn!(
                "{error}; listening anyway, and serving as soon as the database answers"
            );
            Ok(())
        }
        Err(error) => Err(error).context("the schema could not be judged"),
    }
}

/// The thin loop that logs the pool's figures (C6.5).
async fn log_pool(store: Store) {
    let every = Duration::from_secs(store.config().database.pool_log_interval_seconds);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        store.pool().log(store.now());
    }
}

/// Completes when the process is told to stop.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error says that the sender is gone, and with it whoever could tell.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// SIGTERM from a supervisor and SIGINT from a keyboard.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

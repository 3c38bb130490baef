//! The process's own figures, in the OpenMetrics text that Prometheus reads.
//!
//! `/metrics` needs a token like everything else: its figures tell an outsider when the service is weak. It asks for
//! `pool:read`, which already means "may see how this process fares". Scrapers send a token through their
//! `authorization.credentials_file`.
//!
//! Labels come from small closed sets (the route's pattern, never the path; known methods; the status' class), so that
//! nothing a client sends makes a new series.

mod end_users;
mod facts;
mod limits;
mod replicas;

use std::{fmt, sync::Arc, time::Duration};

use self::facts::Facts;
use axum::{
    extract::State,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};
use utxoiq_store::{
    Store,
    cache::{self, CacheState, Figures},
    db::pool::{PoolSnapshot, WaitHistogram},
    feedback::WriterSnapshot,
    limit::Attempts,
    metrics::IntakeSnapshot,
    schedule::Scheduler,
    token::Scope,
    trace::{EXPORTED, Exported, Fate},
};

use crate::{
    AppState,
    auth::oidc::Oidc,
    error::{ApiError, ApiResult},
    health::Readiness,
    routes::{Call, Routes},
};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the latency histogram, in seconds: the criteria's 5, 100 and 200 ms and 2 s are among them.
const LATENCY_BOUNDS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

/// The figures of a process. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    latency: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    bodies_awaited: Gauge,
    facts: Facts,
}

/// The figures of a route's requests of one method: who has them counts without making labels.
#[derive(Clone)]
pub(crate) struct MethodFigures {
    latency: Histogram,
    /// In the order of [`CLASSES`].
    requests: [Counter; CLASSES.len()],
}

impl MethodFigures {
    /// Counts one request; `status` is absent when the client went away before its answer.
    pub(crate) fn count(&self, status: Option<StatusCode>, took: Duration) {
        self.latency.observe(took.as_secs_f64());
        self.requests[status.map_or(CLASSES.len() - 1, class)].inc();
    }
}

/// How requests end; the last: the client went away before its answer.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "gone"];

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The figures of a process that serves this store, to end users, too, where there is who knows them.
    pub fn new(
        store: &Store,
        oidc: Option<&Arc<Oidc>>,
        attempts: &Attempts,
        scheduler: &Scheduler,
        readiness: &Readiness,
    ) -> Self {
        let mut registry = Registry::with_prefix("utxoiq_store");
        let requests = Family::default();
        let latency: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(LATENCY_BOUNDS));
        let in_flight = Gauge::default();
        let bodies_awaited = Gauge::default();
        registry.register(
            "http_requests",
            "Requests answered, by route and class of status",
            requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "How long requests took, from their head to their answer",
            Unit::Seconds,
            latency.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests being worked on",
            in_flight.clone(),
        );
        registry.register(
            "http_bodies_awaited",
            "Requests whose body is still on its way; they are not among those being worked on",
            bodies_awaited.clone(),
        );
        registry.register(
            "build",
            "What runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let own = StoreFigures(store.clone(), attempts.clone(), readiness.clone());
        registry.register_collector(Box::new(own));
        let facts = Facts::new(store, scheduler);
        registry.register_collector(Box::new(facts.clone()));
        if let Some(oidc) = oidc {
            registry.register_collector(end_users::figures(store, oidc));
        }
        Self {
            registry: Arc::new(registry),
            requests,
            latency,
            in_flight,
            bodies_awaited,
            facts,
        }
    }

    /// How many requests wait for their body.
    pub(crate) fn bodies_awaited(&self) -> &Gauge {
        &self.bodies_awaited
    }

    /// How many requests are being worked on.
    pub(crate) fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    /// The figures of a route's requests of one method.
    pub(crate) fn figures(&self, method: &Method, route: &str) -> MethodFigures {
        let (method, route) = (method_label(method), route.to_owned());
        let requests = CLASSES.map(|status| {
            self.requests.get_or_create_owned(&RequestLabels {
                method,
                route: route.clone(),
                status,
            })
        });
        let latency = self
            .latency
            .get_or_create_owned(&RouteLabels { method, route });
        MethodFigures { latency, requests }
    }

    /// All figures as text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

/// A status' place among [`CLASSES`].
fn class(status: StatusCode) -> usize {
    match status.as_u16() {
        ..200 => 0,
        200..300 => 1,
        300..400 => 2,
        400..500 => 3,
        500.. => 4,
    }
}

/// Reads the store's own counters at each scrape.
#[derive(Clone)]
struct StoreFigures(Store, Attempts, Readiness);

impl fmt::Debug for StoreFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreFigures")
    }
}

impl Collector for StoreFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let is_ready = i64::from(self.2.is_ready());
        gauge(
            &mut encoder,
            "ready",
            "Whether this process can serve",
            is_ready,
        )?;
        cache_state(&mut encoder, self.0.cache().probe())?;
        heard(&mut encoder, self.0.cache().heard())?;
        writes(&mut encoder, &self.0.feedback_writer().snapshot())?;
        cache_figures(&mut encoder, &self.0.cache().figures())?;
        intake(&mut encoder, &self.0.metrics_intake().snapshot())?;
        spans(&mut encoder)?;
        limits::encode(&mut encoder, &self.0.limiter().figures(), self.1.refused())?;
        let now = self.0.now();
        pool(&mut encoder, &self.0.pool().snapshot(now))?;
        replicas::encode(&mut encoder, &self.0.reads().snapshot(now))
    }
}

/// Nothing where no Redis is configured: then none can be away.
fn cache_state(encoder: &mut DescriptorEncoder<'_>, state: CacheState) -> Result<(), fmt::Error> {
    let is_up = match state {
        CacheState::Off => None,
        CacheState::Up => Some(1_i64),
        CacheState::Down => Some(0),
    };
    let family =
        encoder.encode_descriptor("cache_up", "Whether Redis answers", None, MetricType::Gauge)?;
    is_up.map_or(Ok(()), |is_up| ConstGauge::new(is_up).encode(family))
}

/// What a cached read, or a change, came to.
type CacheCounter = (&'static str, &'static str, fn(&Figures) -> u64);

const CACHE_COUNTERS: [CacheCounter; 9] = [
    ("cache_fills", "Values stored in Redis", |f| f.fills),
    ("cache_misses", "Reads answered by the database", |f| {
        f.misses
    }),
    (
        "cache_joined",
        "Reads that joined one that was under way",
        |f| f.joined,
    ),
    (
        "cache_loads",
        "Queries for what was missed; one may load many values",
        |f| f.loads,
    ),
    (
        "cache_stale_refused",
        "Values found and not served because of a change known here",
        |f| f.stale_refused,
    ),
    (
        "cache_damaged",
        "What was found in Redis and is no value",
        |f| f.damaged,
    ),
    (
        "cache_fill_refused",
        "Values not stored in Redis because something changed while they were read",
        |f| f.fills_refused,
    ),
    ("cache_invalidations", "Changes heard of", |f| {
        f.invalidations
    }),
    (
        "cache_generations",
        "How often everything was let go because changes may have been missed",
        |f| f.generations,
    ),
];

fn cache_figures(encoder: &mut DescriptorEncoder<'_>, all: &[Figures]) -> Result<(), fmt::Error> {
    let mut hits = encoder.encode_descriptor(
        "cache_hits",
        "Reads answered without the database",
        None,
        MetricType::Counter,
    )?;
    for figures in all {
        for (layer, count) in [("local", figures.hits_local), ("redis", figures.hits_redis)] {
            let labels = [("kind", figures.kind.as_str()), ("layer", layer)];
            ConstCounter::new(count).encode(hits.encode_family(&labels)?)?;
        }
    }
    for (name, help, read) in CACHE_COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for figures in all {
            let labels = [("kind", figures.kind.as_str())];
            ConstCounter::new(read(figures)).encode(family.encode_family(&labels)?)?;
        }
    }
    let mut latency = encoder.encode_descriptor(
        "cache_invalidation_latency",
        "From a change in the database to its being gone from both layers here",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for figures in all {
        let bounds = cache::LATENCY_BOUNDS
            .iter()
            .map(|millis| *millis as f64 / 1e3);
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(figures.latency).collect();
        let labels = [("kind", figures.kind.as_str())];
        latency
            .encode_family(&labels)?
            .encode_histogram::<[(&str, &str); 0]>(
                figures.latency_sum_milliseconds as f64 / 1e3,
                figures.latency.iter().sum(),
                &buckets,
                None,
            )?;
    }
    Ok(())
}

/// How far behind the database's changes this process is, at most.
fn heard(encoder: &mut DescriptorEncoder<'_>, heard: Option<Duration>) -> Result<(), fmt::Error> {
    let Some(heard) = heard else {
        return Ok(());
    };
    ConstGauge::new(heard.as_secs_f64()).encode(encoder.encode_descriptor(
        "cache_heard_age",
        "How long ago this process began to ask the outbox, the last time that it was answered",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?)
}

/// What the writer of feedback has done, and what waits in it.
fn writes(encoder: &mut DescriptorEncoder<'_>, writer: &WriterSnapshot) -> Result<(), fmt::Error> {
    gauge(
        encoder,
        "feedback_waiting",
        "Writes of feedback on their way into the database",
        signed(writer.waiting),
    )?;
    for (name, help, count) in [
        (
            "feedback_writes",
            "Writes of feedback that were committed",
            writer.writes_total,
        ),
        (
            "feedback_commits",
            "Transactions that wrote feedback",
            writer.commits_total,
        ),
        (
            "feedback_refused",
            "Writes refused because too many were waiting",
            writer.refused_total,
        ),
    ] {
        counter(encoder, name, help, count)?;
    }
    Ok(())
}

/// What the intake of samples has done, and what waits in it.
fn intake(encoder: &mut DescriptorEncoder<'_>, intake: &IntakeSnapshot) -> Result<(), fmt::Error> {
    gauge(
        encoder,
        "intake_waiting",
        "Samples of metrics on their way into the database",
        signed(intake.waiting),
    )?;
    for (name, help, count) in [
        ("intake_stored", "Samples stored", intake.stored_total),
        (
            "intake_duplicates",
            "Samples that were stored before",
            intake.duplicates_total,
        ),
        (
            "intake_conflicts",
            "Samples not stored because their series has another value at that time",
            intake.conflicts_total,
        ),
        (
            "intake_commits",
            "Transactions that stored samples",
            intake.commits_total,
        ),
        (
            "intake_refused",
            "Requests refused with 429 because too many samples were waiting",
            intake.refused_total,
        ),
    ] {
        counter(encoder, name, help, count)?;
    }
    let mut family = encoder.encode_descriptor(
        "intake_rejected",
        "Samples that were not accepted",
        None,
        MetricType::Counter,
    )?;
    for (reason, count) in intake.rejected_total {
        let labels = [("reason", reason.as_str())];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// What became of the spans of traces; all 0 where none are exported.
fn spans(encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    counter(
        encoder,
        "spans_exported",
        "Spans that the collector of traces took",
        EXPORTED.count(Fate::Sent),
    )?;
    let mut family = encoder.encode_descriptor(
        "spans_dropped",
        "Spans that were lost",
        None,
        MetricType::Counter,
    )?;
    for (fate, reason) in Exported::LOSSES {
        let labels = [("reason", reason)];
        ConstCounter::new(EXPORTED.count(fate)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn pool(encoder: &mut DescriptorEncoder<'_>, pool: &PoolSnapshot) -> Result<(), fmt::Error> {
    let connections = [("active", pool.active), ("idle", pool.idle)];
    let mut family = encoder.encode_descriptor(
        "pool_connections",
        "Connections by state",
        None,
        MetricType::Gauge,
    )?;
    for (state, count) in connections {
        ConstGauge::new(signed(count)).encode(family.encode_family(&[("state", state)])?)?;
    }
    gauge(
        encoder,
        "pool_connections_min",
        "The configured minimum of connections",
        signed(pool.min),
    )?;
    gauge(
        encoder,
        "pool_connections_max",
        "The configured maximum of connections",
        signed(pool.max),
    )?;
    gauge(
        encoder,
        "pool_waiting",
        "Requests waiting for a connection",
        signed(pool.waiting),
    )?;
    pool_counters(encoder, pool)?;
    let mut family = encoder.encode_descriptor(
        "pool_connect_failures",
        "Failed attempts to connect",
        None,
        MetricType::Counter,
    )?;
    for (cause, count) in &pool.connect_failures {
        ConstCounter::new(*count).encode(family.encode_family(&[("cause", cause.as_str())])?)?;
    }
    let wait = encoder.encode_descriptor(
        "pool_wait",
        "How long requests waited for a connection",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    wait_histogram(wait, &pool.wait)
}

fn pool_counters(
    encoder: &mut DescriptorEncoder<'_>,
    pool: &PoolSnapshot,
) -> Result<(), fmt::Error> {
    for (name, help, count) in [
        (
            "pool_acquired",
            "Connections handed out",
            pool.acquired_total,
        ),
        (
            "pool_timed_out",
            "Requests that gave up waiting for a connection",
            pool.timed_out_total,
        ),
        ("pool_created", "Connections made", pool.created_total),
        (
            "pool_closed_idle",
            "Connections closed because they were idle",
            pool.closed_idle_total,
        ),
        (
            "pool_closed_aged",
            "Connections replaced because of their age",
            pool.closed_aged_total,
        ),
        (
            "pool_connect_retries",
            "Attempts to connect that followed a failed one",
            pool.connect_retries_total,
        ),
    ] {
        counter(encoder, name, help, count)?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> Result<(), fmt::Error> {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    count: u64,
) -> Result<(), fmt::Error> {
    let metric = ConstCounter::new(count);
    metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn wait_histogram(mut encoder: MetricEncoder<'_>, wait: &WaitHistogram) -> Result<(), fmt::Error> {
    let seconds = |micros: u64| micros as f64 / 1e6;
    let mut buckets: Vec<(f64, u64)> = wait
        .buckets
        .iter()
        .map(|(bound, count)| (seconds(*bound), *count))
        .collect();
    buckets.push((f64::INFINITY, wait.above));
    encoder.encode_histogram::<[(&str, &str); 0]>(
        seconds(wait.sum_microseconds),
        wait.count(),
        &buckets,
        None,
    )
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The figures' own call.
pub fn routes() -> Routes {
    Routes::new("metrics", "The process's own figures").add(
        Call::get(
            "/metrics",
            Scope::PoolRead,
            "The process's figures for Prometheus",
        )
        .answers_document("application/openmetrics-text", "OpenMetrics text"),
        show,
    )
}

async fn show(State(state): State<AppState>) -> ApiResult<Response> {
    state.metrics.facts.refresh().await;
    let text = state.metrics.encode().map_err(|error| {
        ApiError::from(
            utxoiq_store::Error::internal("metrics could not be written").with_source(error),
        )
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

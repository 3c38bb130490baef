//! Traces: spans go to a collector by OTLP (protobuf over HTTP), where OpenTelemetry's standard variables ask for it.
//!
//! A span that has ended is put into a bounded queue, without waiting; a task takes what is there and sends it. Where the
//! collector is away, slow or full, spans are dropped and counted (`utxoiq_store_spans_dropped_total`), and the log says so
//! once a minute: a request never waits for its own trace. At the end what is queued is sent within [`FLUSH`].

mod queue;
mod sender;
mod settings;

use std::time::Duration;

use clap::CommandFactory as _;
use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::{sync::oneshot, task::JoinHandle};
use tracing::{Instrument as _, Span};
use utxoiq_store::trace;

use self::{
    queue::{Drain, Queue},
    sender::Sender,
};
use settings::{Asked, Settings};

/// How long the end of the process may wait for what is still queued.
const FLUSH: Duration = Duration::from_secs(3);

/// The way of spans to the collector; nothing is sent before [`Self::start`].
pub struct Traces {
    provider: SdkTracerProvider,
    drain: Drain,
}

/// The same while it sends.
struct Sending {
    provider: SdkTracerProvider,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What the environment asks for; fails where that cannot be done, with what to do about it.
pub fn asked() -> anyhow::Result<Option<Traces>> {
    match Settings::read(|name| std::env::var(name).ok()) {
        Asked::Off => Ok(None),
        Asked::Unable(why) => Err(anyhow::Error::msg(why)),
        Asked::On(settings) => Traces::new(&settings).map(Some),
    }
}

/// Does the work of the process while traces are sent. A command is one trace; a server's are its requests and tasks.
pub async fn around<T>(
    traces: Option<Traces>,
    serves: bool,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let Some(traces) = traces else {
        return work.await;
    };
    let sending = traces.start();
    let span = if serves {
        Span::none()
    } else {
        trace::root(&command(), "")
    };
    let done = work.instrument(span.clone()).await;
    if done.is_err() {
        trace::failed(&span, "failed");
    }
    drop(span);
    sending.finish().await;
    done
}

/// Which command runs: its name and no argument of it.
fn command() -> String {
    let commands = crate::Cli::command();
    let mut arguments = std::env::args();
    let name = arguments.find_map(|one| Some(commands.find_subcommand(one)?.get_name().to_owned()));
    format!("utxoiq-store {}", name.unwrap_or_default())
}

impl Traces {
    /// Fails where the variables name no address that can be sent to.
    fn new(settings: &Settings) -> anyhow::Result<Self> {
        let sender = Sender::new(settings)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(sender.clone())
            .build()
            // The reason may quote the address.
            .map_err(|_| {
                anyhow::anyhow!("no traces: OTEL_EXPORTER_OTLP_ENDPOINT, _TRACES_ENDPOINT, _HEADERS or _COMPRESSION is not what it should be")
            })?;
        let (queue, mut drain) = Queue::new(settings, exporter, sender);
        let resource = resource(settings);
        drain.set_resource(&resource);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        global::set_text_map_propagator(TraceContextPropagator::new());
        Ok(Self { provider, drain })
    }

    /// What makes the spans.
    pub fn tracer(&self) -> SdkTracer {
        self.provider.tracer("utxoiq-store")
    }

    /// Begins to send, on the runtime that this is called on.
    fn start(self) -> Sending {
        let (stop, stopping) = oneshot::channel();
        Sending {
            provider: self.provider,
            stop,
            task: tokio::spawn(self.drain.run(stopping)),
        }
    }
}

impl Sending {
    /// Sends what is still queued, as far as there is time.
    async fn finish(self) {
        // What is not sent was counted; there is nobody to tell.
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(FLUSH, self.task).await;
        drop(self.provider);
    }
}

/// What the spans are of: `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` win.
fn resource(settings: &Settings) -> Resource {
    let mut builder = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if !settings.is_named {
        builder = builder.with_service_name("utxoiq-store");
    }
    builder.build()
}

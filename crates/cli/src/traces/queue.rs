//! The queue between those who make spans and the task that sends them.

use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter as _, SpanProcessor},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use utxoiq_store::trace::{EXPORTED, Fate};

use super::{Sender, Settings};

/// How often the log says that spans are lost.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Where spans go in. Full, it drops them: nobody waits here.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Sender<SpanData>);

/// Where they come out.
pub(super) struct Drain {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    sender: Sender,
    batch: usize,
    linger: Duration,
    timeout: Duration,
    told: Option<Instant>,
    lost_when_told: u64,
}

impl Queue {
    pub(super) fn new(
        settings: &Settings,
        exporter: SpanExporter,
        sender: Sender,
    ) -> (Self, Drain) {
        let (queue, spans) = mpsc::channel(settings.queue);
        let drain = Drain {
            spans,
            exporter,
            sender,
            batch: settings.batch,
            linger: settings.linger,
            // The client ends it first.
            timeout: settings.timeout + Duration::from_secs(1),
            told: None,
            lost_when_told: 0,
        };
        (Self(queue), drain)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.0.try_send(span).is_err() {
            EXPORTED.add(Fate::QueueFull, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Drain {
    pub(super) fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }

    /// Sends until it is told to stop, and then what is left.
    pub(super) async fn run(mut self, mut stopping: oneshot::Receiver<()>) {
        let mut is_stopping = false;
        let mut spans = Vec::with_capacity(self.batch);
        loop {
            if self
                .gather(&mut spans, &mut stopping, &mut is_stopping)
                .await
                == 0
            {
                return;
            }
            self.send(std::mem::take(&mut spans)).await;
        }
    }

    /// Takes what there is: a whole batch at once, a smaller one when it has waited for others; 0 at the end.
    async fn gather(
        &mut self,
        spans: &mut Vec<SpanData>,
        stopping: &mut oneshot::Receiver<()>,
        is_stopping: &mut bool,
    ) -> usize {
        let mut lingering = std::pin::pin!(sleep(self.linger));
        while spans.len() < self.batch {
            let room = self.batch - spans.len();
            tokio::select! {
                biased;
                _ = &mut *stopping, if !*is_stopping => {
                    *is_stopping = true;
                    self.spans.close();
                }
                taken = self.spans.recv_many(spans, room) => if taken == 0 {
                    break;
                },
                () = lingering.as_mut() => {
                    if !spans.is_empty() {
                        break;
                    }
                    lingering.as_mut().reset(tokio::time::Instant::now() + self.linger);
                }
            }
        }
        spans.len()
    }

    async fn send(&mut self, spans: Vec<SpanData>) {
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let sent = timeout(self.timeout, self.exporter.export(spans)).await;
        let is_sent = matches!(sent, Ok(Ok(())));
        let fate = if is_sent { Fate::Sent } else { Fate::NotTaken };
        EXPORTED.add(fate, count);
        self.tell();
    }

    /// Says that spans are lost, once a minute at most.
    fn tell(&mut self) {
        let lost = EXPORTED.count(Fate::QueueFull) + EXPORTED.count(Fate::NotTaken);
        let is_news = lost > self.lost_when_told;
        if !is_news || self.told.is_some_and(|told| told.elapsed() < TOLD_EVERY) {
            return;
        }
        let dropped = lost - self.lost_when_told;
        let why = self.sender.failure();
        let why = why.as_deref().unwrap_or("more spans than it takes");
        tracing::warn!(
            dropped,
            why,
            "spans of traces were dropped: the collector at OTEL_EXPORTER_OTLP_ENDPOINT does not take them; requests are not touched by it"
        );
        self.told = Some(Instant::now());
        self.lost_when_told = lost;
    }
}

//! The log: lines on standard error, so that standard output stays the answer.
//!
//! A line that is written while a request is worked on carries the request's id, which the answer carries, too. The id comes
//! from the task, not from a span: a span for each request costs as much as finding the caller and the answer together. Where
//! traces are exported ([`crate::traces`]), a line carries the ids of its trace and span as well; those spans are no part of
//! the log otherwise, and where no traces are exported they are not made.

use std::{fmt, io::IsTerminal as _};

use opentelemetry::{Context, trace::TraceContextExt as _};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, JsonFields, Writer},
        layer,
    },
    layer::SubscriberExt as _,
    registry,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};
use utxoiq_store::{
    config::{LogFormat, LogSettings},
    trace::TARGET,
};
use utxoiq_store_server::observe::with_request_id;

use crate::traces::Traces;

/// Starts the log. A command that answers and ends tells what it has to tell there: its log begins at warnings, unless a
/// level was chosen.
pub fn start(settings: &LogSettings, serves: bool, traces: Option<&Traces>) -> anyhow::Result<()> {
    let filter = filter(&settings.level, serves)?;
    match traces {
        None => registry().with(filter).with(lines(settings.format)).init(),
        Some(traces) => {
            let spans = tracing_opentelemetry::layer()
                .with_tracer(traces.tracer())
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_level(false)
                .with_tracked_inactivity(false);
            // No events: a message of the log can say more than a span may.
            let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
            let log = lines(settings.format).with_filter(filter);
            registry().with(log).with(spans.with_filter(ours)).init();
        }
    }
    Ok(())
}

/// What the log lets through.
fn filter(level: &str, serves: bool) -> anyhow::Result<EnvFilter> {
    let level = match level {
        "info" if !serves => "warn",
        level => level,
    };
    let filter = EnvFilter::try_new(level).map_err(|_| {
        anyhow::anyhow!(
            "log.level: expected a level such as info, or a filter such as info,utxoiq_store=debug"
        )
    })?;
    // Spans of traces are for the collector only: what the log lets through would be made also where there is none.
    Ok(filter.add_directive(format!("{TARGET}=off").parse()?))
}

/// The layer that writes lines.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let ansi = std::io::stderr().is_terminal();
    let layer = layer().with_ansi(ansi).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let lines = Format::default().with_ansi(ansi);
            layer
                .event_format(Lines::new(lines, append_to_text))
                .boxed()
        }
        LogFormat::Json => {
            let lines = Format::default().json();
            layer
                .fmt_fields(JsonFields::new())
                .event_format(Lines::new(lines, prepend_to_json))
                .boxed()
        }
    }
}

/// Puts a name and an id into a line.
type Put = fn(&str, &str, &str) -> String;

/// A format whose lines say which request they are about, and which trace they are in.
struct Lines<F> {
    format: F,
    put: Put,
}

impl<F> Lines<F> {
    fn new(format: F, put: Put) -> Self {
        Self { format, put }
    }
}

impl<S, N, F> FormatEvent<S, N> for Lines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let id = with_request_id(str::to_owned);
        let trace = trace();
        if id.is_none() && trace.is_none() {
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.format
            .format_event(context, Writer::new(&mut line), event)?;
        if let Some((trace_id, span_id)) = trace {
            line = (self.put)(&line, "span_id", &span_id);
            line = (self.put)(&line, "trace_id", &trace_id);
        }
        if let Some(id) = id {
            line = (self.put)(&line, "request_id", &id);
        }
        writer.write_str(&line)
    }
}

/// The ids of the trace and the span that are being worked in.
fn trace() -> Option<(String, String)> {
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid()
            .then(|| (ids.trace_id().to_string(), ids.span_id().to_string()))
    })
}

/// Ids have letters, digits, `-`, `_` and `.` only: nothing in them needs quotes.
fn append_to_text(line: &str, name: &str, id: &str) -> String {
    format!("{} {name}={id}\n", line.trim_end_matches('\n'))
}

fn prepend_to_json(line: &str, name: &str, id: &str) -> String {
    match line.strip_prefix('{') {
        Some(members) => format!("{{\"{name}\":\"{id}\",{members}"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
#[allow(
    clippy::print_stdout,
    reason = "what was measured belongs into the test's output"
)]
mod tests {
    use std::{
        hint::black_box,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        time::Instant,
    };

    use tracing::{Id, span::Attributes};
    use tracing_subscriber::layer::Context as LayerContext;
    use utxoiq_store::trace;

    use super::*;

    /// Counts spans that are made.
    #[derive(Clone, Default)]
    struct Made(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Made {
        fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: LayerContext<'_, S>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// What a request does about spans, and what goes on beside it.
    fn work() {
        let request = trace::root("request", "");
        let _within = request.enter();
        black_box(trace::statement("feedback.write"));
        black_box(trace::redis("look"));
        black_box(trace::current());
    }

    #[test]
    fn where_nobody_listens_no_span_is_made_whatever_the_log_shows() {
        for level in ["info", "debug", "trace", "utxoiq_store=trace", "off"] {
            let made = Made::default();
            let log = registry().with(filter(level, true).unwrap());
            tracing::subscriber::with_default(log.with(made.clone()), || {
                work();
                assert!(!trace::is_on());
                let began = Instant::now();
                (0..100_000).for_each(|_| work());
                println!(
                    "{level}: {:?} for a request's five checks",
                    began.elapsed() / 100_000
                );
            });
            assert_eq!(made.0.load(SeqCst), 0, "{level}");
        }
        let made = Made::default();
        let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
        let both = registry().with(made.clone().with_filter(ours));
        tracing::subscriber::with_default(both, || {
            work();
            tracing::info_span!("of another").in_scope(|| tracing::info!("an event"));
        });
        assert_eq!(made.0.load(SeqCst), 3);
    }
}

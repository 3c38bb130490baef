//! The log: lines on standard error, so that standard output stays the answer.
//!
//! A line that is written while a request is worked on carries the request's id, which the answer carries, too. The id comes
//! from the task, not from a span: a span for each request costs as much as finding the caller and the answer together.

use std::{fmt, io::IsTerminal as _};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, JsonFields, Writer},
    },
    registry::LookupSpan,
};
use utxoiq_store::config::{LogFormat, LogSettings};
use utxoiq_store_server::observe::with_request_id;

/// Starts the log. A command that answers and ends tells what it has to tell there: its log begins at warnings, unless a
/// level was chosen.
pub fn start(settings: &LogSettings, serves: bool) -> anyhow::Result<()> {
    let level = match settings.level.as_str() {
        "info" if !serves => "warn",
        level => level,
    };
    let filter = EnvFilter::try_new(level).map_err(|_| {
        anyhow::anyhow!(
            "log.level: expected a level such as info, or a filter such as info,utxoiq_store=debug"
        )
    })?;
    let ansi = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => {
            let lines = Format::default().with_ansi(ansi);
            log.event_format(Lines::new(lines, append_to_text)).init();
        }
        LogFormat::Json => {
            let lines = Format::default().json();
            log.fmt_fields(JsonFields::new())
                .event_format(Lines::new(lines, prepend_to_json))
                .init();
        }
    }
    Ok(())
}

/// Puts a request's id into a line.
type Put = fn(&str, &str) -> String;

/// A format whose lines say which request they are about.
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
        let Some(id) = with_request_id(str::to_owned) else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format
            .format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&(self.put)(&line, &id))
    }
}

/// Ids have letters, digits, `-`, `_` and `.` only: nothing in them needs quotes.
fn append_to_text(line: &str, id: &str) -> String {
    format!("{} request_id={id}\n", line.trim_end_matches('\n'))
}

fn prepend_to_json(line: &str, id: &str) -> String {
    match line.strip_prefix('{') {
        Some(members) => format!("{{\"request_id\":\"{id}\",{members}"),
        None => line.to_owned(),
    }
}

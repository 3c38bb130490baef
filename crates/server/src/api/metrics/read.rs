//! Reading samples and series.
//!
//! * [`list`]: the contract's call: a page of samples, the newest first, with a `Link` where more remain.
//! * [`stream`]: all samples of some series, or so many points of each for a chart.
//! * [`catalogue`]: which services and series there are.
//! * [`aggregate`]: what they amount to by hour, day or week.
//! * [`compare`]: the greatest series, and those that got worse.

mod aggregate;
mod catalogue;
mod compare;
pub(super) mod labels;
mod list;
mod stream;

use utxoiq_store::{
    error::Error,
    metrics::{MAX_METRIC_TYPE, MAX_SERVICE_NAME, MAX_UNIT, micros, read::Selector},
};

use crate::{input::Input, link, routes::Routes};

/// No cursor is longer.
const MAX_CURSOR: usize = 32;

/// The longest condition on labels.
const MAX_LABELS: usize = 2_000;

/// Adds the calls.
pub fn add(routes: Routes) -> Routes {
    let routes = catalogue::add(stream::add(list::add(routes)));
    compare::add(aggregate::add(routes))
}

/// Reads which series.
fn series(query: &mut Input) -> Selector {
    let mut selector = Selector {
        service_name: query.optional_name("service_name", 1..=MAX_SERVICE_NAME),
        metric_type: query.optional_name("metric_type", 1..=MAX_METRIC_TYPE),
        unit: query.optional_name("unit", 0..=MAX_UNIT),
        ..Selector::default()
    };
    if let Some(text) = query.optional_name("labels", 1..=MAX_LABELS) {
        match labels::parse(&text) {
            Ok(labels) => selector.labels = labels,
            Err(message) => query.refuse("labels", message),
        }
    }
    selector
}

/// Reads which samples: of these series, from `start_time` on and before `end_time`.
fn samples(query: &mut Input) -> Selector {
    let selector = series(query);
    let (start, end) = (query.time("start_time"), query.time("end_time"));
    Selector {
        from: micros(start),
        to: micros(end),
        ..selector
    }
}

/// Reads a cursor, if there is one.
fn cursor<T: std::str::FromStr<Err = Error>>(query: &mut Input) -> Option<T> {
    let text = query.optional_text("cursor", 1..=MAX_CURSOR)?;
    let read = text.parse::<T>();
    if let Err(error) = &read {
        for wrong in error.field_errors() {
            query.refuse("cursor", wrong.message.as_str());
        }
    }
    read.ok()
}

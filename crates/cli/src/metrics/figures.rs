//! Figures, times and series as people read them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use utxoiq_store_server::api::metrics::wire_read::MetricSeries;

use crate::output::plain;

/// A number with six significant digits.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{value:.3e}");
    }
    // Between -4 and 8.
    #[allow(clippy::cast_possible_truncation)]
    let magnitude = size.log10().floor() as i32;
    let decimals = usize::try_from(5 - magnitude).unwrap_or_default();
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A count in groups of three digits.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time to the second.
pub fn second(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `api latency{host=a} [ms]`
pub fn name(series: &MetricSeries) -> String {
    let mut text = format!(
        "{} {}",
        plain(&series.service_name),
        plain(&series.metric_type)
    );
    let labels = labels(&series.labels);
    if !labels.is_empty() {
        text.push_str(&format!("{{{labels}}}"));
    }
    if !series.unit.is_empty() {
        text.push_str(&format!(" [{}]", plain(&series.unit)));
    }
    text
}

/// `host=a, region=b`
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    let all = labels
        .iter()
        .map(|(name, value)| format!("{}={}", plain(name), plain(value)));
    all.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_six_digits_and_no_more() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-12.5, "-12.5"),
            (123.456_789, "123.457"),
            (99_999.96, "100000"),
            (1_234_567.8, "1234568"),
            (0.000_123_456_789, "0.000123457"),
            (1e-7, "1.000e-7"),
            (1e12, "1.000e12"),
            (100.0, "100"),
        ] {
            assert_eq!(figure(value), text);
        }
        assert_eq!(
            (count(7), count(1_234), count(1_234_567)),
            ("7".into(), "1,234".into(), "1,234,567".into())
        );
    }
}

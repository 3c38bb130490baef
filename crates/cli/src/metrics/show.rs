//! Lists of series, services and rankings for people.

use utxoiq_store_server::api::metrics::{
    wire_figures::{MetricDegradations, TopMetrics},
    wire_read::{MetricSeriesPage, MetricServices},
};

use super::figures::{count, figure, labels, name, second};
use crate::{
    output::plain,
    table::{Side, bar, table},
};

/// A page of series.
pub fn series(page: &MetricSeriesPage) -> String {
    use Side::{Left, Right};
    if page.series.is_empty() {
        return "no such series\n".to_owned();
    }
    let rows: Vec<_> = page
        .series
        .iter()
        .map(|series| {
            [
                series.id.to_string(),
                plain(&series.service_name),
                plain(&series.metric_type),
                plain(&series.unit),
                labels(&series.labels),
            ]
        })
        .collect();
    let columns = [
        ("ID", Right),
        ("SERVICE", Left),
        ("TYPE", Left),
        ("UNIT", Left),
        ("LABELS", Left),
    ];
    let mut text = table(columns, &rows);
    if let Some(cursor) = &page.next_cursor {
        text.push_str(&format!("more: --cursor {cursor}\n"));
    }
    text
}

/// Services, and what their series come from.
pub fn services(page: &MetricServices) -> String {
    use Side::{Left, Right};
    if page.services.is_empty() {
        return "no services here\n".to_owned();
    }
    let rows: Vec<_> = page
        .services
        .iter()
        .map(|service| {
            [
                plain(&service.service_name),
                service.series.to_string(),
                service.types.to_string(),
                second(service.created_at),
                bar(service.series as f64, page.max_series as f64),
            ]
        })
        .collect();
    let columns = [
        ("SERVICE", Left),
        ("SERIES", Right),
        ("TYPES", Right),
        ("SINCE", Left),
        ("OF ITS SERIES", Left),
    ];
    let mut text = table(columns, &rows);
    text.push_str(&format!("a service may have {} series\n", page.max_series));
    for service in &page.services {
        let of = plain(&service.service_name);
        for worst in &service.worst_labels {
            text.push_str(&format!(
                "{of}: label {} has {} values, most of them of {}\n",
                plain(&worst.label),
                worst.values,
                plain(&worst.metric_type)
            ));
        }
        for worst in &service.worst_types {
            let kind = plain(&worst.metric_type);
            text.push_str(&format!("{of}: type {kind} has {} series\n", worst.series));
        }
    }
    if let Some(after) = &page.next_after {
        text.push_str(&format!("more: --after {:?}\n", plain(after)));
    }
    text
}

/// The ranking.
pub fn top(top: &TopMetrics) -> String {
    use Side::{Left, Right};
    let range = format!("{} to {}", second(top.start_time), second(top.as_of));
    if top.series.is_empty() {
        return format!("no such series has rollups from {range}\n");
    }
    let most = top.series.iter().map(|series| series.value);
    let most = most.fold(0.0, f64::max);
    let rows: Vec<_> = top
        .series
        .iter()
        .map(|series| {
            [
                name(&series.series),
                figure(series.value),
                count(series.count.unsigned_abs()),
                figure(series.avg_value),
                figure(series.p95),
                figure(series.max_value),
                bar(series.value, most),
            ]
        })
        .collect();
    let by = format!("BY {}", plain(&top.by).to_uppercase());
    let columns = [
        ("SERIES", Left),
        (by.as_str(), Right),
        ("SAMPLES", Right),
        ("AVG", Right),
        ("P95", Right),
        ("MAX", Right),
        ("", Left),
    ];
    format!("{range}\n{}", table(columns, &rows))
}

/// What got worse.
pub fn degradations(found: &MetricDegradations) -> String {
    use Side::{Left, Right};
    let mut text = format!(
        "{} from {} to {}: {} series judged, {} with too little history, {} without samples\n",
        plain(&found.statistic),
        second(found.start_time),
        second(found.end_time),
        found.judged,
        found.not_enough_history,
        found.silent
    );
    if found.degradations.is_empty() {
        text.push_str("none got worse\n");
        return text;
    }
    let rows: Vec<_> = found
        .degradations
        .iter()
        .map(|one| {
            [
                name(&one.series),
                figure(one.current),
                figure(one.baseline),
                one.change.map_or_else(
                    || "-".to_owned(),
                    |change| format!("{:+.1} %", change * 100.0),
                ),
                format!("{:.1}", one.z),
                figure(one.spread),
                format!("{} h by {}", one.history_hours, plain(&one.season)),
                count(one.count),
            ]
        })
        .collect();
    let columns = [
        ("SERIES", Left),
        ("NOW", Right),
        ("EXPECTED", Right),
        ("CHANGE", Right),
        ("Z", Right),
        ("SPREAD", Right),
        ("AGAINST", Right),
        ("SAMPLES", Right),
    ];
    text.push_str(&table(columns, &rows));
    text
}

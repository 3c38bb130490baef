//! Metrics: one service and type drawn over time, and what got worse.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use utxoiq_store::{
    Error,
    metrics::{
        Aggregated, Bucket, Degradation, DegradationQuery, Degradations, Interval, MAX_METRIC_TYPE,
        MAX_SERVICE_NAME, MAX_UNIT, Series, Statistic,
        degradation::{Season, Settings},
        micros,
        read::Selector,
    },
    token::Scope,
};

use super::{
    Asked, View, Viewer,
    chart::{Chart, Line, Points},
    layout, parts, still_page,
};
use crate::{AppState, error::ApiResult, routes::Routes};

const PATH: &str = "/dashboard/metrics";

/// How many services and series one may choose from; who knows another one writes its name into the address.
const CHOICES: i64 = 500;

/// The ranges, in hours, and the rollup that a chart of such a range has unless said.
const RANGES: &[(&str, (i64, Interval)); 6] = &[
    ("24h", (24, Interval::Hour)),
    ("7d", (168, Interval::Hour)),
    ("30d", (720, Interval::Day)),
    ("90d", (2_160, Interval::Day)),
    ("1y", (8_760, Interval::Week)),
    ("2y", (17_520, Interval::Week)),
];

const INTERVALS: &[(&str, Interval); 3] = &[
    ("hour", Interval::Hour),
    ("day", Interval::Day),
    ("week", Interval::Week),
];

/// Adds the page.
pub(super) fn add(routes: Routes) -> Routes {
    still_page(routes, PATH, Some(Scope::MetricsRead), view)
}

/// What got worse in the last hour, as it was judged in the last minute; `None` where there are too many series to judge at once.
pub(super) async fn degradations(
    state: &AppState,
    now: DateTime<Utc>,
) -> ApiResult<Arc<Option<Degradations>>> {
    let judging = async {
        let look = DegradationQuery {
            selector: Selector::default(),
            hours: 1,
            end: now,
            statistic: Statistic::P95,
            settings: Settings::default(),
        };
        match state.store.metrics().degradations(&look).await {
            Ok(found) => Ok(Arc::new(Some(found))),
            Err(error) if error.code() == "too_many_series_matched" => Ok(Arc::new(None)),
            Err(error) => Err(error),
        }
    };
    let judged = state.live.degradations.try_get_with((), judging).await;
    Ok(judged.map_err(Error::shared)?)
}

/// What is drawn.
struct Wanted {
    service: String,
    metric_type: String,
    unit: String,
    range: &'static str,
    hours: i64,
    interval: Interval,
}

async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut query, .. } = asked;
    let service = query.optional_name("service", 1..=MAX_SERVICE_NAME);
    let metric_type = query.optional_name("type", 1..=MAX_METRIC_TYPE);
    let unit = query.optional_name("unit", 1..=MAX_UNIT);
    let (hours, usual) = query
        .optional_one_of("range", RANGES)
        .unwrap_or(RANGES[1].1);
    let interval = query.optional_one_of("rollup", INTERVALS).unwrap_or(usual);
    query.finish()?;
    let metrics = state.store.metrics();
    let (services, _) = metrics.services(CHOICES, None).await?;
    let names: Vec<String> = services
        .into_iter()
        .map(|service| service.service_name)
        .collect();
    let Some(service) = service.or_else(|| names.first().cloned()) else {
        return Ok(View::new("Metrics").with("none", html! { section.card { (parts::empty("No service has reported a metric yet. One line of CSV is enough to begin:", "utxoiq-store metrics import samples.csv")) } }));
    };
    let selector = Selector {
        service_name: Some(service.clone()),
        ..Selector::default()
    };
    let (series, _) = metrics.series(&selector, CHOICES, None).await?;
    let metric_type = metric_type
        .or_else(|| series.first().map(|one| one.name.metric_type.clone()))
        .unwrap_or_default();
    let range = RANGES
        .iter()
        .find(|one| one.1.0 == hours)
        .map_or("7d", |one| one.0);
    let wanted = Wanted {
        service,
        metric_type,
        unit: unit.unwrap_or_default(),
        range,
        hours,
        interval,
    };
    let drawn = chart(&state, &wanted, viewer.now).await?;
    Ok(View::new("Metrics")
        .with("conditions", form(&wanted, &names, &series))
        .with("chart", drawn)
        .with(
            "degradations",
            worse(
                (*degradations(&state, viewer.now).await?).as_ref(),
                viewer.now,
            ),
        ))
}

fn form(wanted: &Wanted, names: &[String], series: &[Series]) -> Markup {
    let known = |names: &mut BTreeSet<String>, chosen: &str| {
        if !chosen.is_empty() {
            names.insert(chosen.to_owned());
        }
    };
    let mut services: BTreeSet<String> = names.iter().cloned().collect();
    known(&mut services, &wanted.service);
    let mut types: BTreeSet<String> = series
        .iter()
        .map(|one| one.name.metric_type.clone())
        .collect();
    known(&mut types, &wanted.metric_type);
    let of_type = series
        .iter()
        .filter(|one| one.name.metric_type == wanted.metric_type);
    let mut units: BTreeSet<String> = of_type.map(|one| one.name.unit.clone()).collect();
    known(&mut units, &wanted.unit);
    let choices = |all: &BTreeSet<String>| -> Vec<(String, String)> {
        all.iter().map(|one| (one.clone(), one.clone())).collect()
    };
    let borrowed = |all: &[(String, String)], none: bool| -> Vec<(String, String)> {
        let none = none.then(|| (String::new(), "all".to_owned()));
        none.into_iter().chain(all.iter().cloned()).collect()
    };
    let select = |name: &str, label: &str, all: Vec<(String, String)>, chosen: &str| {
        let all: Vec<(&str, &str)> = all
            .iter()
            .map(|(value, word)| (value.as_str(), word.as_str()))
            .collect();
        parts::choice(name, label, &all, chosen)
    };
    let ranges = RANGES.map(|one| (one.0, one.0));
    let intervals = INTERVALS.map(|one| (one.0, one.0));
    html! {
        form.conditions method="get" action=(PATH) {
            (select("service", "Service", choices(&services), &wanted.service))
            (select("type", "Metric", choices(&types), &wanted.metric_type))
            @if units.len() > 1 { (select("unit", "Unit", borrowed(&choices(&units), true), &wanted.unit)) }
            (parts::choice("range", "Range", &ranges, wanted.range))
            (parts::choice("rollup", "Rollup", &intervals, wanted.interval.as_str()))
            button type="submit" { "Show" }
        }
    }
}

async fn chart(state: &AppState, wanted: &Wanted, now: DateTime<Utc>) -> ApiResult<Markup> {
    let long = TimeDelta::try_hours(wanted.hours).unwrap_or_default();
    let begin = now.checked_sub_signed(long).unwrap_or(now);
    let selector = Selector {
        service_name: Some(wanted.service.clone()),
        metric_type: Some(wanted.metric_type.clone()),
        unit: Some(wanted.unit.clone()).filter(|unit| !unit.is_empty()),
        from: micros(begin),
        to: micros(now),
        ..Selector::default()
    };
    let found = state
        .store
        .metrics()
        .aggregate(&selector, wanted.interval, None, now)
        .await?;
    let title = format!("{} · {}", wanted.service, wanted.metric_type);
    if found.buckets.is_empty() {
        return Ok(
            html! { section.card { h2 { (title) } (parts::empty("There are no samples in this range. Choose a longer one.", "")) } },
        );
    }
    Ok(
        html! { section.card { h2 { (title) } (summary(&found)) (drawn(&title, &found, wanted, begin, now)) (table(&found)) } },
    )
}

fn summary(found: &Aggregated) -> Markup {
    let count: u64 = found.buckets.iter().map(|bucket| bucket.count).sum();
    let last = found.buckets.last();
    html! {
        p.hint {
            (parts::count(count)) " samples of " (parts::count(found.series)) " series"
            @if let Some(last) = last { ", the last one " b { (parts::number(last.last)) } }
            @if !found.is_complete { ". Buckets at the ends are parts." }
        }
    }
}

/// How far apart buckets begin, in seconds.
fn step(interval: Interval) -> i64 {
    match interval {
        Interval::Hour => 3_600,
        Interval::Day => 86_400,
        Interval::Week => 604_800,
    }
}

/// Values of buckets as a line that ends where buckets are missing.
fn line<T: Copy>(buckets: &[Bucket], step: i64, of: impl Fn(&Bucket) -> T) -> Points<T> {
    let mut points = Vec::with_capacity(buckets.len());
    let mut before: Option<i64> = None;
    for bucket in buckets {
        let at = bucket.start.timestamp();
        if let Some(gap) = before
            .map(|before| before + step)
            .filter(|expected| *expected < at)
        {
            points.push((gap, None));
        }
        points.push((at, Some(of(bucket))));
        before = Some(at);
    }
    points
}

fn drawn(
    title: &str,
    found: &Aggregated,
    wanted: &Wanted,
    begin: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Markup {
    let (buckets, step) = (&found.buckets, step(wanted.interval));
    let low = buckets
        .iter()
        .map(|bucket| bucket.min)
        .fold(f64::INFINITY, f64::min);
    let high = buckets
        .iter()
        .map(|bucket| bucket.max)
        .fold(f64::NEG_INFINITY, f64::max);
    let first = buckets
        .first()
        .map_or(begin, |bucket| bucket.start.min(begin));
    Chart {
        title,
        description: format!(
            "By {}, from {} to {}: values between {} and {}",
            wanted.interval.as_str(),
            parts::day(begin.date_naive()),
            parts::day(now.date_naive()),
            parts::number(low),
            parts::number(high)
        ),
        span: first.timestamp()..now.timestamp(),
        band: Some((
            "least to greatest",
            line(buckets, step, |bucket| (bucket.min, bucket.max)),
        )),
        lines: vec![
            Line {
                name: "p50",
                points: line(buckets, step, |bucket| bucket.p50),
            },
            Line {
                name: "p95",
                points: line(buckets, step, |bucket| bucket.p95),
            },
            Line {
                name: "p99",
                points: line(buckets, step, |bucket| bucket.p99),
            },
        ],
        from_zero: low >= 0.0 && low < high * 0.5,
    }
    .draw()
}

fn table(found: &Aggregated) -> Markup {
    let rows: Vec<Vec<Markup>> = found
        .buckets
        .iter()
        .rev()
        .take(400)
        .map(|bucket| {
            let figures = [
                bucket.mean,
                bucket.min,
                bucket.p50,
                bucket.p95,
                bucket.p99,
                bucket.max,
            ];
            let first = [
                parts::exactly(bucket.start),
                parts::cell(parts::count(bucket.count)),
            ];
            first
                .into_iter()
                .chain(figures.map(|value| parts::cell(parts::number(value))))
                .collect()
        })
        .collect();
    parts::figures(
        "Figures by bucket, the newest first",
        &[
            "From (UTC)",
            "#Samples",
            "#Mean",
            "#Least",
            "#p50",
            "#p95",
            "#p99",
            "#Greatest",
        ],
        &rows,
    )
}

fn worse(found: Option<&Degradations>, now: DateTime<Utc>) -> Markup {
    let Some(found) = found else {
        return parts::card(
            "What got worse",
            &parts::empty(
                "There are too many series to judge all at once. Ask for those of one service:",
                "utxoiq-store metrics degradations --service NAME",
            ),
        );
    };
    let rows: Vec<Vec<Markup>> = found.degradations.iter().take(100).map(row).collect();
    let content = html! {
        p.hint { "The p95 of the last hour beside the same hours of the weeks or days before: " (found.judged) " series judged, " (found.not_enough_history) " with too little history, " (found.silent) " silent. " (parts::exact_words(now)) }
        @if rows.is_empty() { (parts::empty("Nothing got worse.", "")) }
        @else { (parts::table("Series that got worse", &["Series", "#Now", "#Expected", "#Change", "#z", "Beside"], &rows)) }
    };
    parts::card("What got worse", &content)
}

fn row(one: &Degradation) -> Vec<Markup> {
    let (series, figures) = (&one.series, &one.figures);
    let query = layout::encoded(&[
        ("service", &series.name.service_name),
        ("type", &series.name.metric_type),
        ("unit", &series.name.unit),
        ("range", "7d"),
    ]);
    let change = figures.change.map_or_else(
        || "–".to_owned(),
        |change| format!("{:+.0} %", change * 100.0),
    );
    let season = match figures.season {
        Season::Week => "the weeks before",
        Season::Day => "the days before",
    };
    vec![
        html! { a href=(format!("{PATH}?{query}")) { (series.name.service_name) " · " (series.name.metric_type) } },
        parts::cell(parts::number(figures.current)),
        parts::cell(parts::number(figures.baseline)),
        parts::cell(change),
        parts::cell(parts::number(figures.z)),
        parts::cell(season),
    ]
}

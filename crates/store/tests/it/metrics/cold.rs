//! Samples are read alike wherever they are.

mod moving;
mod same;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use utxoiq_store::{
    Store,
    metrics::{
        Accept, Batch, DegradationQuery, Interval, NewSample, Outcome, SeriesName, Statistic,
        TopBy, degradation, micros,
        read::{
            Selector,
            page::{SamplesPage, SamplesStart, StreamCursor},
            stream::SampleRead,
        },
    },
};

use super::read::{Numbers, render, text};
use crate::retention::{House, after, day, start};

/// Samples of so many days are made.
pub const DAYS: u64 = 6;

pub fn first() -> NaiveDate {
    day("2026-01-01")
}

fn name(service: &str, kind: &str, host: &str) -> SeriesName {
    SeriesName {
        service_name: service.into(),
        metric_type: kind.into(),
        unit: "ms".into(),
        labels: BTreeMap::from([("host".to_owned(), host.to_owned())]),
    }
}

/// Series of all kinds: busy and sparse ones, some with metadata, some silent for days, and many small ones.
pub async fn seed(house: &House, numbers: &mut Numbers) {
    let mut batch = Batch::default();
    let mut names: Vec<SeriesName> = ["a", "b", "c"]
        .map(|host| name("api", "latency", host))
        .into();
    names.extend(["a", "b"].map(|host| name("web", "latency", host)));
    names.push(name("web", "errors", "a"));
    let busy = names.len();
    names.extend((0..110).map(|host| name("many", "latency", &format!("m{host}"))));
    for (which, name) in names.into_iter().enumerate() {
        let series = batch.series(name);
        for day in 0..DAYS {
            // The last day but one has no samples at all.
            if day == DAYS - 2 || numbers.next(4) == 0 {
                continue;
            }
            let count = if which < busy {
                40 + numbers.next(60)
            } else {
                numbers.next(3)
            };
            for n in 0..count {
                let second = match numbers.next(5) {
                    0 => numbers.signed(24) * 3_600,
                    _ => numbers.signed(86_400),
                };
                let at = micros(start(after(first(), day)) + TimeDelta::seconds(second));
                let value = match numbers.next(12) {
                    0 => -0.0,
                    1 => 1e300,
                    2 => -1e300,
                    3 => f64::MIN_POSITIVE,
                    _ => numbers.signed(100_000) as f64 / 7.0,
                };
                let metadata = (numbers.next(3) == 0)
                    .then(|| format!(r#"{{"n": {n}, "ü": ["☃", null], "x": 1.50}}"#).into());
                batch.push(NewSample {
                    series,
                    at: Some(at),
                    value,
                    metadata,
                });
            }
        }
    }
    let now = start(after(first(), DAYS));
    let metrics = house.store.metrics();
    let recorded = metrics
        .record(batch, Accept::Partial, None, now)
        .await
        .unwrap();
    for sample in recorded.samples {
        assert!(
            !matches!(sample.outcome, Outcome::Rejected(_)),
            "{sample:?}"
        );
    }
    // What came past the intake comes back as it is, too.
    let sql = "update system_metrics set value = '-0' where value = 0";
    assert!(house.admin.execute(sql, &[]).await.unwrap() > 5);
    house.roll_up_to(after(first(), DAYS + 3)).await;
}

fn selector(
    service: Option<&str>,
    kind: Option<&str>,
    host: Option<&str>,
    (from, to): (i64, i64),
) -> Selector {
    Selector {
        service_name: service.map(Into::into),
        metric_type: kind.map(Into::into),
        unit: None,
        labels: host
            .map(|host| ("host".to_owned(), host.to_owned()))
            .into_iter()
            .collect(),
        from,
        to,
    }
}

/// Ranges of time: all, a day, ragged ones within and across days.
fn ranges() -> Vec<(i64, i64)> {
    let at =
        |day: u64, seconds: i64| micros(start(after(first(), day)) + TimeDelta::seconds(seconds));
    vec![
        (at(0, -86_400), at(DAYS + 1, 0)),
        (at(0, 34_567), at(3, 45_678)),
        (at(2, 10_000), at(2, 30_001)),
        (at(1, 80_000), at(2, 3_000)),
    ]
}

fn selectors() -> Vec<Selector> {
    let whose = [
        (Some("api"), Some("latency"), Some("a")),
        (Some("api"), Some("latency"), None),
        (Some("web"), None, None),
        (Some("many"), None, None),
        (None, Some("latency"), Some("a")),
        (None, None, None),
    ];
    let of = |range| whose.map(|(service, kind, host)| selector(service, kind, host, range));
    ranges().into_iter().flat_map(of).collect()
}

/// All that pages, streams and charts give.
async fn samples(store: &Store) -> Vec<(String, String)> {
    let metrics = store.metrics();
    let mut found = Vec::new();
    for selector in selectors() {
        for (limit, offset) in [(10_000, 0), (7, 3), (50, 120), (3, 400)] {
            let mut start = SamplesStart::Offset(offset);
            let mut all = String::new();
            for _ in 0..3 {
                let page = SamplesPage { limit, start };
                let page = metrics
                    .newest(&selector, page, None, &render)
                    .await
                    .unwrap();
                all.push_str(&text(&page));
                all.push_str(&format!("| {} {:?}\n", page.count, page.next));
                match page.next {
                    Some(next) => start = SamplesStart::After(next),
                    None => break,
                }
            }
            found.push((format!("page {limit} after {offset} of {selector:?}"), all));
        }
        found.push((
            format!("stream of {selector:?}"),
            stream(store, &selector).await,
        ));
        for points in [40, 400] {
            let mut read = metrics.points(&selector, points, None).await.unwrap();
            let mut all = String::new();
            while let Some(series) = read.next().await.unwrap() {
                all.push_str(&format!("{} {:?}\n", series.series.id, series.points));
            }
            found.push((format!("{points} points of {selector:?}"), all));
        }
    }
    found
}

/// A whole read, in as many reads as it takes.
pub async fn stream(store: &Store, selector: &Selector) -> String {
    let (mut all, mut after) = (String::new(), None::<StreamCursor>);
    loop {
        let mut read = store.metrics().samples(selector, after).await.unwrap();
        all.push_str(&rest_of(&mut read).await);
        after = read.rest();
        if after.is_none() {
            return all;
        }
    }
}

/// What a read gives from here on.
async fn rest_of(read: &mut SampleRead) -> String {
    let mut all = String::new();
    while let Some(part) = read.next().await.unwrap() {
        assert!(!part.samples.is_empty());
        for sample in part.samples {
            all.push_str(&format!("{} {sample:?}\n", part.series.id));
        }
    }
    all
}

/// All that is computed.
async fn figures(store: &Store, now: DateTime<Utc>) -> Vec<(String, String)> {
    let metrics = store.metrics();
    let mut found = Vec::new();
    for selector in selectors() {
        for interval in Interval::ALL {
            let given = metrics.aggregate(&selector, interval, None, now).await;
            let what = format!("{interval:?} of {selector:?}");
            found.push((what, format!("{:?}", given.unwrap())));
        }
        let look = DegradationQuery {
            end: DateTime::from_timestamp_micros(selector.to).unwrap(),
            selector: selector.clone(),
            hours: 30,
            statistic: Statistic::P95,
            settings: degradation::Settings {
                threshold: 0.1,
                ..degradation::Settings::default()
            },
        };
        let given = metrics.degradations(&look).await.unwrap();
        found.push((
            format!("degradations of {selector:?}"),
            format!("{given:?}"),
        ));
    }
    let top = metrics.top(TopBy::Mean, None, None, 2_400, 20).await;
    found.push(("top".into(), format!("{:?}", top.unwrap())));
    found
}

/// Everything that can be read.
pub async fn everything(store: &Store) -> Vec<(String, String)> {
    let mut found = samples(store).await;
    found.extend(figures(store, start(after(first(), 200))).await);
    found
}

pub fn assert_same(now: &[(String, String)], before: &[(String, String)], when: &str) {
    assert_eq!(now.len(), before.len());
    for (now, before) in now.iter().zip(before) {
        assert_eq!(now, before, "{when}");
    }
}

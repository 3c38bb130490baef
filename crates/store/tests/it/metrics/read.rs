//! Reading samples: pages from the cache and from the database, whole series, charts, and what series there are.

mod coherence;
mod pruning;
mod stream;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    cache::Kind,
    db::TransactionId,
    metrics::{
        Batch, NewSample, Rendered, Sample, Series, SeriesName,
        read::{
            RenderedPage, Selector,
            page::{SampleCursor, SamplesPage, SamplesStart},
        },
    },
};

use super::{at, batch, micros, record, series, store_all};
use crate::support::TestDb;

/// A sample as a test sees it: time, series, value, metadata.
pub type Seen = (i64, i32, f64, Option<String>);

/// Splitmix: the same numbers each time.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    pub fn signed(&mut self, below: u64) -> i64 {
        i64::try_from(self.next(below)).unwrap()
    }

    pub fn place(&mut self, below: usize) -> usize {
        usize::try_from(self.next(below as u64)).unwrap()
    }

    pub fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.place(choices.len())].clone()
    }
}

/// One line a sample, so that a page can be taken apart again.
pub fn render(series: &Series, samples: &[Sample]) -> Rendered {
    let (mut out, mut ends) = (String::new(), Vec::new());
    for Sample(at, value, metadata) in samples.iter().rev() {
        let line = serde_json::json!([at, series.id, value, metadata]);
        out.push_str(&format!("{line},"));
        ends.push(u32::try_from(out.len()).unwrap());
    }
    Rendered {
        bytes: out.into(),
        ends: ends.into(),
    }
}

pub fn text(page: &RenderedPage) -> String {
    let parts = page
        .parts
        .iter()
        .map(|part| std::str::from_utf8(part).unwrap());
    parts.collect()
}

pub fn seen(page: &RenderedPage) -> Vec<Seen> {
    let text = text(page);
    let array = format!("[{}]", text.trim_end_matches(','));
    let found: Vec<Seen> = serde_json::from_str(&array).unwrap();
    assert_eq!(found.len(), page.count);
    found
}

pub fn first(limit: i64) -> SamplesPage {
    SamplesPage {
        limit,
        start: SamplesStart::Offset(0),
    }
}

pub fn after(limit: i64, cursor: SampleCursor) -> SamplesPage {
    // Through its text, as it comes back from a client.
    let cursor = cursor.to_string().parse().unwrap();
    SamplesPage {
        limit,
        start: SamplesStart::After(cursor),
    }
}

pub async fn newest(store: &Store, selector: &Selector, page: SamplesPage) -> RenderedPage {
    let metrics = store.metrics();
    metrics.newest(selector, page, None, &render).await.unwrap()
}

/// What plain SQL gives.
pub async fn plain(client: &Client, selector: &Selector, limit: i64, offset: i64) -> Vec<Seen> {
    let labels = serde_json::to_value(&selector.labels).unwrap();
    let time = |micros| DateTime::<Utc>::from_timestamp_micros(micros).unwrap();
    let sql = "select m.sampled_at, m.series_id, m.value, m.metadata::text
               from system_metrics m join metric_series s on s.id = m.series_id
               where sampled_at >= $1 and sampled_at < $2 and ($3::text is null or service_name = $3)
                 and ($4::text is null or metric_type = $4) and ($5::text is null or unit = $5) and labels @> $6
               order by 1 desc, 2 desc limit $7 offset $8";
    let rows = client
        .query(
            sql,
            &[
                &time(selector.from),
                &time(selector.to),
                &selector.service_name,
                &selector.metric_type,
                &selector.unit,
                &labels,
                &limit,
                &offset,
            ],
        )
        .await
        .unwrap();
    rows.iter()
        .map(|row| (micros(row.get(0)), row.get(1), row.get(2), row.get(3)))
        .collect()
}

pub fn named(service: &str, kind: &str, host: &str) -> SeriesName {
    SeriesName {
        service_name: service.into(),
        ..series(kind, host)
    }
}

/// Of a service, maybe a type, maybe a host, around noon.
pub fn selector(service: Option<&str>, kind: Option<&str>, host: Option<&str>) -> Selector {
    let host = host.map(|host| ("host".to_owned(), host.to_owned()));
    Selector {
        service_name: service.map(Into::into),
        metric_type: kind.map(Into::into),
        unit: None,
        labels: host.into_iter().collect::<BTreeMap<_, _>>(),
        from: at(-86_400),
        to: at(600),
    }
}

/// Some 4,000 samples of 140 series in two days, many at the same times and at the edges of hours and days.
fn random_samples(numbers: &mut Numbers) -> Batch {
    let mut batch = Batch::default();
    let mut names: Vec<SeriesName> = Vec::new();
    for host in ["a", "b", "c"] {
        names.extend([named("api", "cpu", host), named("web", "cpu", host)]);
    }
    names.push(named("web", "mem", "a"));
    let few = names.len();
    names.extend((0..130).map(|host| named("many", "cpu", &format!("h{host}"))));
    let mut taken = std::collections::BTreeSet::new();
    for index in 0..4_000 {
        let which = match index % 4 {
            0 => numbers.place(names.len()),
            1 => 0,
            _ => numbers.place(few),
        };
        let seconds = -numbers.signed(2 * 86_400);
        let time = match numbers.next(4) {
            0 => at(seconds / 3_600 * 3_600),
            1 => at(seconds / 3_600 * 3_600) - 1,
            2 => at(seconds / 60 * 60),
            _ => at(seconds) + numbers.signed(1_000_000),
        };
        if !taken.insert((which, time)) {
            continue;
        }
        let series = batch.series(names[which].clone());
        let metadata =
            (numbers.next(3) == 0).then(|| format!(r#"{{"n": {index}, "x": "ä,"}}"#).into());
        batch.push(NewSample {
            series,
            at: Some(time),
            value: numbers.signed(1_000) as f64 / 8.0,
            metadata,
        });
    }
    batch
}

fn random_selector(numbers: &mut Numbers) -> Selector {
    let (service, kind, host) = numbers.of(&[
        (Some("api"), Some("cpu"), Some("a")),
        (Some("api"), Some("cpu"), Some("a")),
        (Some("api"), Some("cpu"), None),
        (Some("api"), Some("cpu"), Some("none")),
        (Some("web"), None, None),
        (None, None, Some("a")),
        (None, Some("cpu"), None),
        (Some("many"), Some("cpu"), None),
        (None, None, None),
    ]);
    let hours = numbers.signed(50);
    let length = numbers.signed(30);
    let from = -hours * 3_600 + numbers.of(&[0, 0, -1, 1, 700]);
    Selector {
        unit: numbers.of(&[None, None, Some("ms".to_owned()), Some("s".to_owned())]),
        from: at(from),
        to: at(from + length * 3_600 + numbers.of(&[0, 0, 1, 900])),
        ..selector(service, kind, host)
    }
}

#[tokio::test]
async fn pages_are_what_plain_sql_gives_and_the_same_bytes_from_the_cache_and_the_database() {
    let db = TestDb::new().await;
    let store = db.store().await;
    // No hour is kept: what the cache would answer comes from the database.
    let bare = db.settings_with(&[("UTXOIQ_STORE_METRICS__MAX_CACHED_SAMPLES_PER_HOUR", "1")]);
    let bare = Store::open(bare).unwrap();
    let client = db.admin().await;
    let mut numbers = Numbers(7);
    store_all(&store, random_samples(&mut numbers)).await;
    let mut nonempty = 0;
    for turn in 0..250 {
        let selector = random_selector(&mut numbers);
        let limit = numbers.of(&[1, 2, 7, 50, 300, 10_000]);
        let offset = numbers.of(&[0, 0, 1, 10, 500]);
        let page = SamplesPage {
            limit,
            start: SamplesStart::Offset(offset),
        };
        let found = newest(&store, &selector, page).await;
        let wanted = plain(&client, &selector, limit + 1, offset).await;
        let shown: Vec<Seen> = wanted
            .iter()
            .take(usize::try_from(limit).unwrap())
            .cloned()
            .collect();
        assert_eq!(seen(&found), shown, "turn {turn}: {selector:?} {page:?}");
        let remain = wanted.len() > shown.len();
        assert_eq!(
            found.next.is_some(),
            remain,
            "turn {turn}: {selector:?} {page:?}"
        );
        let other = newest(&bare, &selector, page).await;
        assert_eq!(text(&found), text(&other), "turn {turn}");
        assert_eq!(found.next, other.next);
        nonempty += usize::from(!shown.is_empty());
        if turn % 5 == 0 && limit >= 7 {
            let rest = plain(&client, &selector, 100_000, offset + limit).await;
            let mut followed = Vec::new();
            let mut next = found.next;
            while let Some(cursor) = next {
                let page = newest(&store, &selector, after(limit, cursor)).await;
                assert!(page.count > 0, "a page that was announced is empty");
                followed.extend(seen(&page));
                next = page.next;
            }
            assert_eq!(followed, rest, "turn {turn}: {selector:?} {page:?}");
        }
    }
    assert!(nonempty > 100, "{nonempty}");
    let figures = store.cache().figures();
    let hours = figures.iter().find(|one| one.kind == Kind::MetricSamples);
    assert!(hours.unwrap().hits_local > 100, "{hours:?}");
}

#[tokio::test]
async fn what_is_out_of_range_is_refused_and_what_no_calendar_has_is_empty() {
    let db = TestDb::new().await;
    let store = db.store().await;
    store_all(&store, batch(&series("cpu", "a"), [(at(0), 1.0)])).await;
    let all = Selector {
        from: i64::MIN,
        to: i64::MAX,
        ..Selector::default()
    };
    assert_eq!(newest(&store, &all, first(1)).await.count, 1);
    let ends = Selector {
        from: i64::MAX,
        to: i64::MIN,
        ..selector(Some("api"), Some("cpu"), None)
    };
    assert_eq!(newest(&store, &ends, first(1)).await.count, 0);
    for (limit, offset, field) in [
        (0, 0, "limit"),
        (10_001, 0, "limit"),
        (1, -1, "offset"),
        (1, 100_001, "offset"),
    ] {
        let page = SamplesPage {
            limit,
            start: SamplesStart::Offset(offset),
        };
        let metrics = store.metrics();
        let refused = metrics.newest(&all, page, None, &render).await.unwrap_err();
        assert_eq!(refused.field_errors()[0].field, field);
        if offset > 0 {
            assert!(
                refused.field_errors()[0].message.contains("cursor"),
                "{refused}"
            );
        }
    }
    for cursor in [(i64::MIN, i32::MIN), (i64::MAX, i32::MAX), (0, 0)] {
        let cursor = SampleCursor {
            at: cursor.0,
            series_id: cursor.1,
        };
        for selector in [&all, &selector(Some("api"), Some("cpu"), None)] {
            let page = newest(&store, selector, after(5, cursor)).await;
            assert_eq!(page.count, usize::from(cursor.at == i64::MAX));
        }
    }
}

#[tokio::test]
async fn pages_by_cursor_give_each_sample_once_while_others_are_written() {
    let db = TestDb::new().await;
    let store = db.store().await;
    let (a, b) = (series("cpu", "a"), series("cpu", "b"));
    let there: Vec<_> = (0..400).map(|n| (at(-n * 50), n as f64)).collect();
    store_all(&store, batch(&a, there.clone())).await;
    store_all(&store, batch(&b, there.clone())).await;
    for (host, count) in [(Some("a"), 400), (None, 800)] {
        let writer = store.clone();
        let (a, b) = (a.clone(), b.clone());
        let writing = tokio::spawn(async move {
            for n in 0..200_i64 {
                // Above, between, and below, each in a place of its own.
                let places = [at(300) + n, at(-n * 97) + 17 + n, at(-40_000) - n];
                for name in [&a, &b] {
                    record(&writer, batch(name, places.map(|place| (place, -1.0)))).await;
                }
            }
        });
        for _ in 0..3 {
            let selector = selector(Some("api"), Some("cpu"), host);
            let mut page = newest(&store, &selector, first(13)).await;
            let mut found = seen(&page);
            while let Some(next) = page.next {
                page = newest(&store, &selector, after(13, next)).await;
                found.extend(seen(&page));
            }
            assert!(
                found
                    .windows(2)
                    .all(|two| (two[0].0, two[0].1) > (two[1].0, two[1].1))
            );
            let stayed = found.iter().filter(|sample| sample.2 >= 0.0).count();
            assert_eq!(stayed, count);
        }
        writing.await.unwrap();
    }
}

#[tokio::test]
async fn series_and_services_are_listed_and_the_worst_are_named() {
    let db = TestDb::new().await;
    let settings = db.settings_with(&[("UTXOIQ_STORE_METRICS__MAX_SERIES_PER_SERVICE", "50")]);
    let store = Store::open(settings).unwrap();
    let mut all = Batch::default();
    for host in 0..30 {
        let series = all.series(named("api", "cpu", &format!("h{host}")));
        all.push(NewSample {
            series,
            at: Some(at(0)),
            value: 1.0,
            metadata: None,
        });
    }
    store_all(&store, all).await;
    store_all(&store, batch(&named("web", "mem", "h1"), [(at(0), 1.0)])).await;
    let metrics = store.metrics();
    let (services, more) = metrics.services(1, None).await.unwrap();
    assert!(more);
    let api = &services[0];
    assert_eq!((&*api.service_name, api.series, api.types), ("api", 30, 1));
    let worst = api.worst.as_ref().unwrap();
    assert_eq!(
        (&*worst.labels[0].label, worst.labels[0].values),
        ("host", 30)
    );
    assert_eq!(worst.types, [("cpu".to_owned(), 30)]);
    let (services, more) = metrics.services(1, Some("api")).await.unwrap();
    assert_eq!(
        (&*services[0].service_name, &services[0].worst, more),
        ("web", &None, false)
    );

    let of_api = selector(Some("api"), None, None);
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = metrics.series(&of_api, 7, after).await.unwrap();
        found.extend(page.into_iter().map(|series| series.id));
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 30);
    assert!(found.windows(2).all(|two| two[0] < two[1]));
    let by_label = selector(None, None, Some("h1"));
    let (page, next) = metrics.series(&by_label, 1_000, None).await.unwrap();
    assert_eq!((page.len(), next), (2, None));
    assert!(metrics.series(&by_label, 1_001, None).await.is_err());
}

pub async fn newest_after(
    store: &Store,
    selector: &Selector,
    seen: Option<TransactionId>,
) -> Vec<Seen> {
    let metrics = store.metrics();
    let page = metrics.newest(selector, first(10_000), seen, &render).await;
    self::seen(&page.unwrap())
}

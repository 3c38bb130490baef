//! The cache: whether Redis is there, and how often it spares the database a question (C4).

use maud::{Markup, html};
use utxoiq_store::{
    cache::{CacheState, Figures, LATENCY_BOUNDS},
    token::Scope,
};

use super::{
    Asked, View, Viewer,
    chart::{self, Chart, Line},
    page,
    parts::{self, Card, Tone},
};
use crate::{AppState, error::ApiResult, routes::Routes};

/// Adds the page.
pub(super) fn add(routes: Routes) -> Routes {
    let scope = Some(Scope::PoolRead);
    page(
        routes,
        "/dashboard/cache",
        "/dashboard/live/cache",
        scope,
        view,
    )
}

/// What is said of Redis.
pub(super) fn word(state: CacheState) -> (Tone, &'static str) {
    match state {
        CacheState::Up => (Tone::Good, "Redis answers"),
        CacheState::Down => (Tone::Warning, "Redis is away"),
        CacheState::Off => (Tone::Plain, "no Redis"),
    }
}

async fn view(state: AppState, _: Viewer, asked: Asked) -> ApiResult<View> {
    asked.query.finish()?;
    let cache = state.store.cache();
    let figures = cache.figures();
    let redis = cache.probe();
    let (tone, name) = word(redis);
    let (breaker, note) = match redis {
        CacheState::Up => ("closed", "requests ask Redis"),
        CacheState::Down => (
            "open",
            "requests do not wait for Redis; a task tries to connect",
        ),
        CacheState::Off => (
            "–",
            "set redis.url to share what is cached between processes",
        ),
    };
    let sum = |of: fn(&Figures) -> u64| figures.iter().map(of).sum::<u64>();
    let (local, shared, missed) = (
        sum(|kind| kind.hits_local),
        sum(|kind| kind.hits_redis),
        sum(|kind| kind.misses),
    );
    let share = |hits: u64| of(hits, local + shared + missed);
    let cards = html! {
        div.cards {
            (Card { name: "Redis", link: None, figure: parts::state(tone, name), note: html! { (note) } }.draw())
            (Card { name: "Breaker", link: None, figure: html! { (breaker) }, note: html! { "opens after 50 ms without an answer" } }.draw())
            (Card { name: "From this process", link: None, figure: html! { (share(local)) }, note: html! { (parts::many(local, "read")) } }.draw())
            (Card { name: "From Redis", link: None, figure: html! { (share(shared)) }, note: html! { (parts::many(shared, "read")) } }.draw())
            (Card { name: "From the database", link: None, figure: html! { (share(missed)) }, note: html! { (parts::many(missed, "read")) " in " (parts::count(sum(|kind| kind.loads))) " queries" } }.draw())
            (Card { name: "New generations", link: None, figure: html! { (parts::count(sum(|kind| kind.generations))) }, note: html! { "all let go, as changes may have been missed" } }.draw())
        }
    };
    Ok(View::new("Cache")
        .beside(html! { span.hint { "of the process that answers" } })
        .with("cards", cards)
        .with("kinds", parts::card("By kind of value", &kinds(&figures)))
        .with(
            "history",
            parts::card("Hit rate, the last hour", &history(&state)),
        )
        .with("latency", latency(&figures)))
}

fn of(hits: u64, reads: u64) -> String {
    if reads == 0 {
        "–".to_owned()
    } else {
        parts::percent(hits as f64 / reads as f64)
    }
}

fn kinds(figures: &[Figures]) -> Markup {
    let rows: Vec<Vec<Markup>> = figures
        .iter()
        .map(|kind| {
            let hits = kind.hits_local + kind.hits_redis;
            let reads = hits + kind.misses;
            let numbers = [
                kind.hits_local,
                kind.hits_redis,
                kind.misses,
                kind.joined,
                kind.fills,
                kind.fills_refused,
                kind.invalidations,
            ];
            let first = [
                html! { code { (kind.kind.as_str()) } },
                html! { (parts::bar("Hit rate", hits as f64, reads as f64)) },
                parts::cell(of(hits, reads)),
            ];
            first
                .into_iter()
                .chain(numbers.map(|number| parts::cell(parts::count(number))))
                .collect()
        })
        .collect();
    let columns = [
        "Kind",
        "Hit rate",
        "#%",
        "#Process",
        "#Redis",
        "#Database",
        "#Joined",
        "#Stored",
        "#Not stored",
        "#Changes",
    ];
    html! {
        (parts::table("Reads by kind of value", &columns, &rows))
        p.hint { "Not stored: something changed while it was read. The cache of feedback statistics is to hit at least 90 % (C4.2)." }
    }
}

fn history(state: &AppState) -> Markup {
    let looks = state.live.history().looks();
    let points: Vec<(i64, Option<f64>)> = looks
        .windows(2)
        .map(|pair| {
            let reads = pair[1].reads - pair[0].reads;
            let hits = pair[1].hits - pair[0].hits;
            (
                pair[1].at,
                (reads > 0).then(|| hits as f64 * 100.0 / reads as f64),
            )
        })
        .collect();
    let Some(end) = points.last().map(|point| point.0) else {
        return parts::empty(
            "The process has just begun; there is something to draw in half a minute.",
            "",
        );
    };
    if points.iter().all(|point| point.1.is_none()) {
        return parts::empty("Nothing that is cached was read in this time.", "");
    }
    let chart = Chart {
        title: "Hit rate",
        description: "Share of reads that needed no query, in percent, every ten seconds"
            .to_owned(),
        span: end - 3_600..end,
        band: None,
        lines: vec![Line {
            name: "hits of all reads, %",
            points: points.clone(),
        }],
        from_zero: true,
    };
    let rows: Vec<Vec<Markup>> = points
        .iter()
        .rev()
        .filter_map(|(at, rate)| {
            Some(vec![
                parts::cell(time(*at)),
                parts::cell(parts::number((*rate)?)),
            ])
        })
        .take(60)
        .collect();
    html! { (chart.draw()) (parts::figures("Hit rate", &["Time", "#%"], &rows)) }
}

/// A time of today.
pub(super) fn time(at: i64) -> String {
    chrono::DateTime::from_timestamp(at, 0)
        .map_or_else(String::new, |at| at.format("%H:%M:%S").to_string())
}

fn latency(figures: &[Figures]) -> Markup {
    let count = |at: usize| figures.iter().map(|kind| kind.latency[at]).sum::<u64>();
    let classes: Vec<(String, f64)> = (0..=LATENCY_BOUNDS.len())
        .map(|at| {
            let name = LATENCY_BOUNDS
                .get(at)
                .map_or_else(|| "more".to_owned(), |bound| format!("{bound} ms"));
            (name, count(at) as f64)
        })
        .collect();
    let all: f64 = classes.iter().map(|class| class.1).sum();
    let rows: Vec<Vec<Markup>> = classes
        .iter()
        .map(|(name, count)| {
            vec![
                parts::cell(name.clone()),
                parts::cell(parts::number(*count)),
            ]
        })
        .collect();
    let content = if all == 0.0 {
        parts::empty(
            "Nothing that is cached has changed since the process began.",
            "",
        )
    } else {
        html! {
            (chart::bars("Time from a change to its being gone from this process", "Counts by upper bound; 1,000 ms are allowed", &classes))
            (parts::figures("Changes by time", &["Up to", "#Changes"], &rows))
        }
    };
    parts::card(
        "From a change to its being gone (C4.3 allows 1 s)",
        &content,
    )
}

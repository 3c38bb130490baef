//! The connection pool (C6).

use maud::{Markup, html};
use utxoiq_store::{db::pool::PoolSnapshot, token::Scope};

use super::{
    Asked, View, Viewer, cache,
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
        "/dashboard/pool",
        "/dashboard/live/pool",
        scope,
        view,
    )
}

async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    asked.query.finish()?;
    let pool = state.store.pool().snapshot(viewer.now);
    let micros = |bound: Option<u64>| bound.map_or_else(|| "–".to_owned(), lasting);
    let waits = (
        micros(pool.wait.quantile(0.5)),
        micros(pool.wait.quantile(0.99)),
    );
    let waiting = if pool.waiting > 0 {
        parts::state(Tone::Warning, "waiting")
    } else {
        parts::state(Tone::Good, "nobody waits")
    };
    let cards = html! {
        div.cards {
            (Card { name: "Active", link: None, figure: html! { (pool.active) small { " of " (pool.max) } }, note: parts::bar("Active", pool.active as f64, pool.max as f64) }.draw())
            (Card { name: "Idle", link: None, figure: html! { (pool.idle) }, note: html! { "at least " (pool.min) " connections are kept" } }.draw())
            (Card { name: "Waiting", link: None, figure: html! { (pool.waiting) }, note: waiting }.draw())
            (Card { name: "Wait, half below", link: None, figure: html! { (waits.0) }, note: html! { "99 of 100 below " (waits.1) } }.draw())
            (Card { name: "Gave up waiting", link: None, figure: html! { (parts::count(pool.timed_out_total)) }, note: html! { "since the process began" } }.draw())
        }
    };
    Ok(View::new("Connection pool")
        .beside(html! { span.hint { "of the process that answers" } })
        .with("cards", cards)
        .with(
            "history",
            parts::card("Connections, the last hour", &history(&state, &pool)),
        )
        .with(
            "waits",
            parts::card("How long requests waited for a connection", &waited(&pool)),
        )
        .with(
            "totals",
            parts::card("Since the process began", &totals(&pool)),
        ))
}

/// Microseconds in the unit that fits.
fn lasting(micros: u64) -> String {
    match micros {
        0..=999 => format!("{micros} µs"),
        1_000..=999_999 => format!("{} ms", micros / 1_000),
        _ => format!("{} s", parts::number(micros as f64 / 1e6)),
    }
}

fn history(state: &AppState, pool: &PoolSnapshot) -> Markup {
    let looks = state.live.history().looks();
    let Some(end) = looks.last().map(|look| look.at) else {
        return parts::empty(
            "The process has just begun; there is something to draw in half a minute.",
            "",
        );
    };
    let line = |name, of: fn(&super::history::Look) -> usize| Line {
        name,
        points: looks
            .iter()
            .map(|look| (look.at, Some(of(look) as f64)))
            .collect(),
    };
    let span = end - 3_600..end;
    let flat = |name, count: usize| Line {
        name,
        points: vec![
            (span.start, Some(count as f64)),
            (span.end, Some(count as f64)),
        ],
    };
    let chart = Chart {
        title: "Connections",
        description: format!(
            "{} active, {} idle, {} waiting, between {} and {}",
            pool.active, pool.idle, pool.waiting, pool.min, pool.max
        ),
        lines: vec![
            line("active", |look| look.active),
            line("idle", |look| look.idle),
            line("waiting", |look| look.waiting),
            flat("most", pool.max),
            flat("kept at least", pool.min),
        ],
        band: None,
        from_zero: true,
        span,
    };
    let rows: Vec<Vec<Markup>> = looks
        .iter()
        .rev()
        .step_by(6)
        .map(|look| {
            vec![
                parts::cell(cache::time(look.at)),
                parts::cell(look.active.to_string()),
                parts::cell(look.idle.to_string()),
                parts::cell(look.waiting.to_string()),
            ]
        })
        .collect();
    html! { (chart.draw()) (parts::figures("Connections by minute", &["Time", "#Active", "#Idle", "#Waiting"], &rows)) }
}

fn waited(pool: &PoolSnapshot) -> Markup {
    let mut classes: Vec<(String, f64)> = pool
        .wait
        .buckets
        .iter()
        .map(|(bound, count)| (lasting(*bound), *count as f64))
        .collect();
    classes.push(("more".to_owned(), pool.wait.above as f64));
    let rows: Vec<Vec<Markup>> = classes
        .iter()
        .map(|(bound, count)| {
            vec![
                parts::cell(bound.clone()),
                parts::cell(parts::number(*count)),
            ]
        })
        .collect();
    html! {
        (chart::bars("Waits", &format!("{} waits by upper bound; a connection is to be had within 10 ms", pool.wait.count()), &classes))
        (parts::figures("Waits by upper bound", &["Up to", "#Waits"], &rows))
    }
}

fn totals(pool: &PoolSnapshot) -> Markup {
    let failures: u64 = pool.connect_failures.iter().map(|(_, count)| count).sum();
    html! {
        dl.facts {
            dt { "Handed out" } dd { (parts::count(pool.acquired_total)) }
            dt { "Made" } dd { (parts::count(pool.created_total)) }
            dt { "Closed as idle" } dd { (parts::count(pool.closed_idle_total)) }
            dt { "Replaced by age" } dd { (parts::count(pool.closed_aged_total)) }
            dt { "Tried again to connect" } dd { (parts::count(pool.connect_retries_total)) }
            dt { "Failed to connect" } dd { (parts::count(failures)) @for (cause, count) in pool.connect_failures.iter().filter(|(_, count)| *count > 0) { ", " (cause.as_str()) " " (parts::count(*count)) } }
        }
    }
}

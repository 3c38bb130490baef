//! The 40 criteria: what each asks for, how it stands, and what says so.

use maud::{Markup, html};
use utxoiq_store::{
    slo::{Criterion, State},
    token::Scope,
};

use super::{
    Asked, View, Viewer, page,
    parts::{self, Card, Tone},
};
use crate::{AppState, error::ApiResult, routes::Routes};

const PATH: &str = "/dashboard/criteria";
const STATES: &[(&str, State); 3] = &[
    ("met", State::Met),
    ("missed", State::Missed),
    ("unknown", State::Unknown),
];

/// Adds the page.
pub(super) fn add(routes: Routes) -> Routes {
    page(
        routes,
        PATH,
        "/dashboard/live/criteria",
        Some(Scope::SloRead),
        view,
    )
}

async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut query, .. } = asked;
    let wanted = query.optional_one_of("state", STATES);
    query.finish()?;
    let report = state.store.slo().report(viewer.now, None).await;
    let counts = report.counts;
    let cards = html! {
        p.unseen role="status" { (counts.met) " met, " (counts.missed) " missed, " (counts.unknown) " cannot be judged yet" }
        div.cards {
            @for (name, count, state, tone) in [("Met", counts.met, "met", Tone::Good), ("Missed", counts.missed, "missed", Tone::Bad), ("Cannot be judged yet", counts.unknown, "unknown", Tone::Warning)] {
                (Card { name, link: Some(&format!("{PATH}?state={state}")), figure: html! { (count) small { " of " (report.criteria.len()) } }, note: parts::state(if count == 0 && tone != Tone::Good { Tone::Plain } else { tone }, state) }.draw())
            }
        }
    };
    let shown: Vec<&Criterion> = report
        .criteria
        .iter()
        .filter(|one| wanted.is_none_or(|wanted| one.state == wanted))
        .collect();
    Ok(View::new("Criteria")
        .beside(html! { span.hint { "what processes measured over the last " (report.window_seconds / 3_600) " h" } @if wanted.is_some() { " " a.button href=(PATH) { "Show all" } } })
        .with("counts", cards)
        .with("criteria", html! {
            @if shown.is_empty() { section.card { (parts::empty("No criterion is in this state.", "")) } }
            @for chapter in 1..=8_usize {
                @let of: Vec<&&Criterion> = shown.iter().filter(|one| one.chapter == chapter).collect();
                @if let Some(first) = of.first() {
                    section.card {
                        h2 { (chapter) ". " (first.chapter_title) }
                        (parts::table(first.chapter_title, &["No.", "State", "Criterion", "#Measured", "#Of", "Since", "Evidence"], &of.iter().map(|one| row(one, &viewer)).collect::<Vec<_>>()))
                    }
                }
            }
        }))
}

fn row(one: &Criterion, viewer: &Viewer) -> Vec<Markup> {
    vec![
        html! { b #(one.id) { (one.id) } },
        badge(one.state),
        html! { div.long { b { (one.title) } br; span.hint { (one.target) } @if let Some(reason) = one.reason.as_ref().filter(|reason| **reason != one.summary) { br; (parts::sentence(reason)) } } },
        html! { @match &one.measured { Some(measured) => { (parts::number(measured.value)) " " (measured.unit) }, None => "–" } },
        html! { @match one.sample_size { Some(count) => (parts::count(count)), None => "–" } },
        parts::ago(one.since, viewer.now),
        evidence(one),
    ]
}

fn evidence(one: &Criterion) -> Markup {
    html! {
        div.long {
            (parts::sentence(&one.summary))
            @if !one.evidence.is_empty() {
                details data-keep=(one.id) {
                    summary { (parts::many(one.evidence.len(), "piece")) }
                    ul { @for piece in &one.evidence { li { (badge(piece.state)) " " (parts::sentence(&piece.text)) " " a href=(piece.page) { "See the page" } " " code { (piece.call) } } } }
                }
            }
        }
    }
}

fn badge(state: State) -> Markup {
    let tone = match state {
        State::Met => Tone::Good,
        State::Missed => Tone::Bad,
        State::Unknown => Tone::Warning,
    };
    parts::state(tone, state.as_str())
}

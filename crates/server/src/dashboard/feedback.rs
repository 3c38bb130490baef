//! What users think: the best and the worst insights, one of them, the review queue, and the search.

mod insight;
mod queue;
mod search;

use chrono::Days;
use maud::{Markup, html};
use utxoiq_store::{
    feedback::{FlagType, Page, Ranked, Ranking, TrendDay},
    token::Scope,
};

use super::{
    Asked, View, Viewer,
    chart::{Chart, Line},
    parts, still_page,
};
use crate::{AppState, error::ApiResult, routes::Routes};

const PATH: &str = "/dashboard/feedback";
const INSIGHT: &str = "/dashboard/feedback/insight";
const FLAGGED: &str = "/dashboard/feedback/flagged";
const SEARCH: &str = "/dashboard/feedback/search";

/// How many insights are at the top, and at the bottom.
const BEST: i64 = 10;

/// Over how many days a trend may go.
const SPANS: &[(&str, u64); 3] = &[("30", 30), ("90", 90), ("365", 365)];

const FLAG_TYPES: &[(&str, FlagType); 5] = &[
    ("inaccurate", FlagType::Inaccurate),
    ("misleading", FlagType::Misleading),
    ("spam", FlagType::Spam),
    ("inappropriate", FlagType::Inappropriate),
    ("other", FlagType::Other),
];

/// Adds the pages.
pub(super) fn add(routes: Routes) -> Routes {
    let (stats, all) = (Some(Scope::StatsRead), Some(Scope::FeedbackReadAll));
    let routes = still_page(routes, PATH, stats, view);
    let routes = still_page(routes, INSIGHT, stats, insight::view);
    still_page(
        still_page(routes, FLAGGED, all, queue::view),
        SEARCH,
        all,
        search::view,
    )
}

async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut query, .. } = asked;
    let days = query.optional_one_of("days", SPANS).unwrap_or(90);
    let min_ratings = query.int_or("min_ratings", 1..=1_000_000, 5);
    query.finish()?;
    let feedback = state.store.feedback();
    let today = viewer.now.date_naive();
    let to = today.succ_opt().unwrap_or(today);
    let from = to.checked_sub_days(Days::new(days)).unwrap_or(to);
    let trend = feedback.trend(None, from, to).await?;
    let top = feedback
        .top(Ranking::BayesianMean, min_ratings, &Page::first(BEST))
        .await?
        .insights;
    let bottom = feedback.bottom(min_ratings, BEST).await?;
    Ok(View::new("Feedback")
        .with("find", html! { (tabs(PATH, &viewer)) (find("")) })
        .with("trend", html! { section.card { h2 { "What users did" } (spans(PATH, "", days)) (drawn(&trend)) } })
        .with("ranking", html! {
            form.conditions method="get" action=(PATH) {
                input type="hidden" name="days" value=(days);
                (parts::field("min_ratings", "Ranked from so many ratings", "number", &min_ratings.to_string()))
                button type="submit" { "Rank" }
            }
            div.columns { (ranked("Top", &top)) (ranked("Bottom", &bottom)) }
        }))
}

/// The pages about feedback that the visitor may see.
fn tabs(here: &str, viewer: &Viewer) -> Markup {
    let all = [
        (PATH, "Insights", Scope::StatsRead),
        (FLAGGED, "Flagged", Scope::FeedbackReadAll),
        (SEARCH, "Search", Scope::FeedbackReadAll),
    ];
    html! {
        ul.tabs {
            @for (path, name, scope) in all {
                @if viewer.may(scope) { li { a href=(path) aria-current=[(path == here).then_some("true")] { (name) } } }
            }
        }
    }
}

fn find(insight_id: &str) -> Markup {
    html! {
        form.conditions method="get" action=(INSIGHT) {
            (parts::field("insight_id", "Insight", "search", insight_id))
            button type="submit" { "Show the insight" }
        }
    }
}

/// Links to other spans of a trend.
fn spans(path: &str, conditions: &str, chosen: u64) -> Markup {
    html! {
        ul.tabs {
            @for (word, days) in SPANS {
                li { a href=(format!("{path}?{conditions}days={word}")) aria-current=[(*days == chosen).then_some("true")] { (word) " days" } }
            }
        }
    }
}

/// The address of an insight's page.
fn address(insight_id: &str) -> String {
    format!("{INSIGHT}?insight_id={}", parts::encode(insight_id))
}

/// A trend: ratings a day with their mean below.
fn drawn(trend: &[TrendDay]) -> Markup {
    let at = |day: &TrendDay| parts::begin(day.day).timestamp();
    let (Some(first), Some(last)) = (trend.first(), trend.last()) else {
        return html! {};
    };
    let span = at(first)..at(last);
    let line = |name, of: fn(&TrendDay) -> i64| Line {
        name,
        points: trend
            .iter()
            .map(|day| (at(day), Some(of(day) as f64)))
            .collect(),
    };
    let total: i64 = trend.iter().map(|day| day.ratings).sum();
    if trend
        .iter()
        .all(|day| day.ratings + day.comments + day.flags == 0)
    {
        return parts::empty("Nobody said anything in this time.", "");
    }
    let acts = Chart {
        title: "Ratings, comments and flags a day",
        description: format!("{total} ratings in {} days", trend.len()),
        span: span.clone(),
        band: None,
        lines: vec![
            line("ratings", |day| day.ratings),
            line("comments", |day| day.comments),
            line("flags", |day| day.flags),
        ],
        from_zero: true,
    };
    let mean = Chart {
        title: "Mean rating of the day",
        description: "From 1 to 5; days without ratings are left out".to_owned(),
        span,
        band: None,
        lines: vec![Line {
            name: "mean rating of the day",
            points: trend
                .iter()
                .map(|day| (at(day), day.average_rating()))
                .collect(),
        }],
        from_zero: false,
    };
    let rows: Vec<Vec<Markup>> = trend
        .iter()
        .rev()
        .map(|day| {
            let mean = day
                .average_rating()
                .map_or_else(|| "–".to_owned(), |mean| format!("{mean:.2}"));
            vec![
                parts::cell(parts::day(day.day)),
                parts::cell(parts::count(day.ratings)),
                parts::cell(mean),
                parts::cell(parts::count(day.comments)),
                parts::cell(parts::count(day.flags)),
                parts::cell(parts::count(day.withdrawals)),
            ]
        })
        .collect();
    html! {
        div.columns { (acts.draw()) (mean.draw()) }
        (parts::figures("By day", &["Day", "#Ratings", "#Mean", "#Comments", "#Flags", "#Withdrawn"], &rows))
    }
}

fn ranked(title: &str, insights: &[Ranked]) -> Markup {
    let rows: Vec<Vec<Markup>> = insights
        .iter()
        .map(|one| {
            vec![
                html! { a href=(address(&one.insight_id)) { (parts::name(&one.insight_id)) } },
                html! { (parts::bar("Mean rating", one.average_rating, 5.0)) },
                parts::cell(format!("{:.2}", one.average_rating)),
                parts::cell(parts::count(one.total_ratings)),
                parts::cell(format!("{:.2}", one.bayesian_mean)),
            ]
        })
        .collect();
    let table = if rows.is_empty() {
        parts::empty("No insight has so many ratings.", "")
    } else {
        parts::table(
            title,
            &["Insight", "Mean", "#Mean", "#Ratings", "#Score"],
            &rows,
        )
    };
    parts::card(title, &table)
}

/// A rating as stars, and as a number for who does not see them.
fn stars(rating: Option<i16>) -> Markup {
    html! {
        @match rating {
            Some(rating) => span.one-line role="img" aria-label=(format!("{rating} of 5")) { @for star in 1..=5 { (if star <= rating { "★" } else { "☆" }) } },
            None => span.hint { "–" },
        }
    }
}

//! One insight: what users think of it now, what they ever did, and what they wrote.

use chrono::Days;
use maud::{Markup, html};
use utxoiq_store::{
    feedback::{Counts, FlagType, Page},
    token::Scope,
};

use super::{INSIGHT, PATH, SPANS, drawn, find, spans, stars, tabs};
use crate::{
    AppState,
    dashboard::{
        Asked, View, Viewer,
        parts::{self, Card},
    },
    error::ApiResult,
};

/// How many comments are shown.
const COMMENTS: i64 = 20;

/// The page.
pub(super) async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut query, .. } = asked;
    let insight_id = query.name("insight_id", 1..=100);
    let days = query.optional_one_of("days", SPANS).unwrap_or(90);
    query.finish()?;
    let feedback = state.store.feedback();
    let stats = feedback.stats(&insight_id).await?;
    let today = viewer.now.date_naive();
    let to = today.succ_opt().unwrap_or(today);
    let from = to.checked_sub_days(Days::new(days)).unwrap_or(to);
    let trend = feedback.trend(Some(&insight_id), from, to).await?;
    let view = View::new(insight_id.clone())
        .beside(html! { a.button href=(PATH) { "All insights" } })
        .with("find", html! { (tabs(PATH, &viewer)) (find(&insight_id)) })
        .with("figures", cards(&stats.live))
        .with("distribution", html! {
            div.columns {
                (distribution("Ratings now", &stats.live))
                (distribution("Ratings ever, with those that retention has summed up", &sum(&stats.live, &stats.retired)))
                (flags(&stats.live))
            }
        })
        .with("trend", html! { section.card { h2 { "What users did" } (spans(INSIGHT, &format!("insight_id={}&", parts::encode(&insight_id)), days)) (drawn(&trend)) } });
    if !viewer.may(Scope::FeedbackRead) {
        return Ok(view);
    }
    let found = feedback
        .comments(&insight_id, &Page::first(COMMENTS))
        .await?;
    let rows: Vec<Vec<Markup>> = found
        .entries
        .iter()
        .map(|entry| {
            vec![
                parts::ago_or(entry.commented_at, viewer.now, "–"),
                html! { div.long { (entry.comment.as_deref().unwrap_or_default()) } },
                stars(entry.rating),
                parts::name(&entry.user_id),
            ]
        })
        .collect();
    let table = if rows.is_empty() {
        parts::empty("Nobody has written a comment.", "")
    } else {
        parts::table(
            "Comments, the newest first",
            &["When", "Comment", "Rating", "User"],
            &rows,
        )
    };
    Ok(view.with(
        "comments",
        parts::card(&format!("Comments ({})", parts::count(found.total)), &table),
    ))
}

fn cards(live: &Counts) -> Markup {
    let total = live.total_ratings();
    html! {
        div.cards {
            (Card { name: "Mean rating", link: None, figure: html! { @if total == 0 { "–" } @else { (format!("{:.2}", live.average_rating())) small { " of 5" } } }, note: html! { "of the ratings that stand now" } }.draw())
            (Card { name: "Ratings", link: None, figure: html! { (parts::count(total)) }, note: html! { "one a user" } }.draw())
            (Card { name: "Comments", link: None, figure: html! { (parts::count(live.comments)) }, note: html! { "one a user" } }.draw())
            (Card { name: "Flags", link: None, figure: html! { (parts::count(live.total_flags())) }, note: html! { "that stand now" } }.draw())
        }
    }
}

fn sum(live: &Counts, retired: &Counts) -> Counts {
    let mut sum = *live;
    for (of, more) in sum.ratings.iter_mut().zip(retired.ratings) {
        *of += more;
    }
    for (of, more) in sum.flags.iter_mut().zip(retired.flags) {
        *of += more;
    }
    sum.comments += retired.comments;
    sum
}

fn distribution(title: &str, counts: &Counts) -> Markup {
    let total = counts.total_ratings();
    let content = html! {
        dl.bars {
            @for at in (0..5_usize).rev() {
                dt { (at + 1) " ★" }
                dd { (parts::bar(&format!("{} of 5", at + 1), counts.ratings[at] as f64, total as f64)) }
                dd { (parts::count(counts.ratings[at])) }
            }
        }
        p.hint { (parts::count(total)) " ratings, " (parts::count(counts.comments)) " comments, " (parts::count(counts.total_flags())) " flags" }
    };
    parts::card(title, &content)
}

fn flags(counts: &Counts) -> Markup {
    let total = counts.total_flags();
    let content = html! {
        dl.bars {
            @for (kind, count) in FlagType::ALL.iter().zip(counts.flags) {
                dt { (kind.as_str()) }
                dd { (parts::bar(kind.as_str(), count as f64, total as f64)) }
                dd { (parts::count(count)) }
            }
        }
    };
    parts::card("Flags now", &content)
}

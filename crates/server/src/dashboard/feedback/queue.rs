//! The review queue: flagged insights, those with the most flags first.

use maud::{Markup, html};
use utxoiq_store::feedback::{FlagType, FlaggedFilter, FlaggedInsight, Page, Start};

use super::{FLAG_TYPES, FLAGGED, address, tabs};
use crate::{
    AppState,
    dashboard::{Asked, View, Viewer, layout, parts},
    error::ApiResult,
};

const LIMIT: i64 = 20;

/// The page.
pub(super) async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut query, .. } = asked;
    let flag_type = query.optional_one_of("flag", FLAG_TYPES);
    let offset = query.int_or("offset", 0..=i64::MAX, 0);
    query.finish()?;
    let filter = FlaggedFilter {
        flag_type,
        ..FlaggedFilter::default()
    };
    let page = Page {
        limit: LIMIT,
        start: Start::Offset(offset),
    };
    let found = state.store.feedback().flagged(&filter, &page).await?;
    let word = flag_type.map_or("", FlagType::as_str);
    let kinds: Vec<(&str, &str)> = std::iter::once(("", "any"))
        .chain(
            FlagType::ALL
                .iter()
                .map(|kind| (kind.as_str(), kind.as_str())),
        )
        .collect();
    let earlier = (offset > 0).then(|| format!("offset={}", (offset - LIMIT).max(0)));
    let later = found
        .next
        .is_some()
        .then(|| format!("offset={}", offset.saturating_add(LIMIT)));
    Ok(View::new("Flagged insights")
        .with("conditions", html! {
            (tabs(FLAGGED, &viewer))
            form.conditions method="get" action=(FLAGGED) { (parts::choice("flag", "Flagged as", &kinds, word)) button type="submit" { "Filter" } }
        })
        .with("queue", html! {
            p.hint { (parts::count(found.total)) " insights, those with the most flags first. A flag goes when its user withdraws it." }
            @if found.insights.is_empty() { section.card { (parts::empty("Nothing is flagged like this.", "")) } }
            @for one in &found.insights { (shown(one, &viewer)) }
            (parts::pager(FLAGGED, &layout::encoded(&[("flag", word)]), earlier.as_deref(), later.as_deref()))
        }))
}

fn shown(one: &FlaggedInsight, viewer: &Viewer) -> Markup {
    html! {
        section.card {
            h2 { a href=(address(&one.insight_id)) { (one.insight_id) } }
            p {
                b { (parts::count(one.total_flags)) } " flags: "
                @for (kind, count) in FlagType::ALL.iter().zip(one.flags).filter(|(_, count)| *count > 0) { (kind.as_str()) " " (parts::count(count)) " · " }
                "last " (parts::ago(one.last_flagged_at, viewer.now)) ", first " (parts::ago(one.first_flagged_at, viewer.now))
                @if let Some(mean) = one.average_rating { " · mean rating " (format!("{mean:.2}")) " of " (parts::count(one.total_ratings)) }
            }
            @if !one.latest_reasons.is_empty() {
                (parts::table("The latest reasons", &["When", "As", "Reason", "User"], &one.latest_reasons.iter().map(|reason| vec![
                    parts::ago(reason.flagged_at, viewer.now), parts::cell(reason.flag_type.as_str()),
                    html! { div.long { (reason.reason) } }, parts::name(&reason.user_id),
                ]).collect::<Vec<_>>()))
            }
        }
    }
}

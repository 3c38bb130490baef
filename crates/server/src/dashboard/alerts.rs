//! Alerts: what is wrong, who knows of it, and taking it (C8.5).

use axum::{
    extract::{Request, State},
    response::{IntoResponse as _, Redirect, Response},
};
use maud::{Markup, html};
use utxoiq_store::{
    alert::{Alert, Filter, Listed, MAX_NOTE, Severity},
    token::Scope,
};

use super::{
    Asked, View, Viewer, Visitor, login, page,
    parts::{self, Tone},
};
use crate::{
    AppState,
    error::ApiResult,
    input::Path,
    routes::{Call, Routes},
};

const PATH: &str = "/dashboard/alerts";
const LIMIT: i64 = 25;
const STATES: &[(&str, Filter); 2] = &[("open", Filter::Open), ("all", Filter::All)];

/// Adds the page and what is done on it.
pub(super) fn add(routes: Routes) -> Routes {
    let routes = page(
        routes,
        PATH,
        "/dashboard/live/alerts",
        Some(Scope::AlertsRead),
        view,
    );
    routes.add(
        Call::done(
            "/dashboard/alerts/{alert_id}/acknowledge",
            Some(Scope::AlertsAcknowledge),
            "Take an alert",
        ),
        acknowledge,
    )
}

async fn view(state: AppState, viewer: Viewer, asked: Asked) -> ApiResult<View> {
    let Asked { mut query, .. } = asked;
    let filter = query
        .optional_one_of("state", STATES)
        .unwrap_or(Filter::Open);
    let offset = query.int_or("offset", 0..=i64::MAX, 0);
    query.finish()?;
    let store = &state.store;
    let found = store
        .alerts()
        .list(store.pool(), filter, LIMIT, offset)
        .await?;
    let word = if filter == Filter::Open {
        "open"
    } else {
        "all"
    };
    let earlier = (offset > 0).then(|| format!("offset={}", (offset - LIMIT).max(0)));
    let later = found
        .has_more
        .then(|| format!("offset={}", offset.saturating_add(LIMIT)));
    let sinks = store.alerts().sinks();
    Ok(View::new("Alerts")
        .with("tabs", html! {
            ul.tabs {
                @for (state, name) in [("open", "Open"), ("all", "All")] {
                    li { a href=(format!("{PATH}?state={state}")) aria-current=[(state == word).then_some("true")] { (name) } }
                }
            }
            p.hint { "Told to: " @if sinks.is_empty() { "nobody. Set alert.* in the configuration." } @else { (sinks.join(", ")) } }
        })
        .with("alerts", html! {
            p.unseen role="status" { (found.alerts.len()) " alerts on this page" }
            @if found.alerts.is_empty() { section.card { (parts::empty("Nothing is wrong. Whether receivers would hear of it is tried by", "utxoiq-store alert test")) } }
            @for listed in &found.alerts { (shown(listed, &viewer)) }
            (parts::pager(PATH, &format!("state={word}"), earlier.as_deref(), later.as_deref()))
        }))
}

fn shown(listed: &Listed, viewer: &Viewer) -> Markup {
    let (alert, now) = (&listed.alert, viewer.now);
    let badge = match (alert.resolved_at, alert.severity) {
        (Some(_), _) => parts::state(Tone::Good, "resolved"),
        (None, Severity::Critical) => parts::state(Tone::Bad, "critical"),
        (None, Severity::Warning) => parts::state(Tone::Warning, "warning"),
    };
    html! {
        section.card {
            h2 { (badge) " " (parts::sentence(&alert.title).trim_end_matches('.')) }
            p { (parts::sentence(&alert.detail)) }
            dl.facts {
                dt { "Since" } dd { (parts::ago(alert.opened_at, now)) ", seen " (parts::ago(alert.seen_at, now)) }
                @if let Some(at) = alert.resolved_at { dt { "Over" } dd { (parts::ago(at, now)) } }
                dt { "Taken" } dd { @match (&alert.acknowledged_by, alert.acknowledged_at) { (Some(by), Some(at)) => { "by " (by) " " (parts::ago(at, now)) @if let Some(note) = &alert.note { ": " (note) } }, _ => "by nobody" } }
                dt { "Told" } dd { (parts::many(listed.deliveries.len(), "receiver")) }
                dt { "What to do" } dd { code { (alert.runbook) } }
                dt { "Key" } dd { code { (alert.key) } }
            }
            @if can_take(alert) && viewer.may(Scope::AlertsAcknowledge) {
                form.conditions method="post" action=(format!("{PATH}/{}/acknowledge", alert.id)) {
                    (parts::field("note", "Note (what you do about it)", "text", ""))
                    button type="submit" { "Take it" }
                }
            }
        }
    }
}

fn can_take(alert: &Alert) -> bool {
    alert.resolved_at.is_none() && alert.acknowledged_at.is_none()
}

async fn acknowledge(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(mut path): Path,
    request: Request,
) -> ApiResult<Response> {
    let id = path.uuid("alert_id").to_string();
    let mut fields = login::fields(&state, request).await?;
    let note = fields
        .optional_text("note", 0..=MAX_NOTE)
        .filter(|note| !note.trim().is_empty());
    path.and(fields).finish()?;
    let store = &state.store;
    let by = crate::api::retention::actor(store, &visitor.caller)?;
    store
        .alerts()
        .acknowledge(store.pool(), &id, &by, note.as_deref(), store.now())
        .await?;
    Ok(Redirect::to(&format!("{PATH}?done=acknowledged")).into_response())
}

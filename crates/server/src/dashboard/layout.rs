//! The frame of every page: its head, the menu, and what a page says that could not be shown.

use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use maud::{DOCTYPE, Markup, html};
use utxoiq_store::token::{Caller, Identity, Scope};

use super::{BASE, View, Visitor, assets, parts};
use crate::{error::Problem, input::Input, observe};

/// A page in the menu.
struct Entry {
    path: &'static str,
    name: &'static str,
    /// What its page asks for; all of them have something to show to who has one of these.
    scopes: &'static [Scope],
}

const fn entry(path: &'static str, name: &'static str, scopes: &'static [Scope]) -> Entry {
    Entry { path, name, scopes }
}

/// The menu, in groups.
const MENU: [(&str, &[Entry]); 4] = [
    (
        "",
        &[
            entry("/", "Overview", &[]),
            entry("/dashboard/criteria", "Criteria", &[Scope::SloRead]),
        ],
    ),
    (
        "Data",
        &[
            entry("/dashboard/backfill", "Backfill", &[Scope::BackfillRead]),
            entry("/dashboard/feedback", "Feedback", &[Scope::StatsRead]),
            entry("/dashboard/metrics", "Metrics", &[Scope::MetricsRead]),
        ],
    ),
    (
        "Machinery",
        &[
            entry("/dashboard/cache", "Cache", &[Scope::PoolRead]),
            entry("/dashboard/pool", "Pool", &[Scope::PoolRead]),
            entry("/dashboard/schedule", "Schedule", &[Scope::ScheduleRun]),
            entry("/dashboard/alerts", "Alerts", &[Scope::AlertsRead]),
        ],
    ),
    (
        "Keeping",
        &[
            entry("/dashboard/storage", "Storage", &[Scope::RetentionRead]),
            entry("/dashboard/backups", "Backups", &[Scope::BackupsRead]),
            entry("/dashboard/audit", "Audit", &[Scope::AuditRead]),
        ],
    ),
];

/// What a page says of what was just done; an address carries its word.
const DONE: &[(&str, &str); 7] = &[
    (
        "paused",
        "The job is paused. Its workers hear it on their next heartbeat.",
    ),
    ("resumed", "The job goes on."),
    ("cancelled", "The job is cancelled for good."),
    (
        "acknowledged",
        "The alert is yours. It is not told again while it is open.",
    ),
    ("ran", "The task ran."),
    ("running", "The task runs. This page shows how it ends."),
    ("failed", "The task ran and failed; its row says why."),
];

/// The head of a page of this title.
pub(super) fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            title { (title) " · utxoIQ Store" }
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="referrer" content="no-referrer";
            link rel="icon" type="image/svg+xml" href=(assets::address("icon.svg"));
            link rel="stylesheet" href=(assets::address("style.css"));
            script src=(assets::address("script.js")) defer {}
        }
    }
}

/// A page as an answer.
pub(super) fn page(visitor: &Visitor, view: &View, is_live: bool) -> Response {
    let live = is_live.then(|| live_address(&visitor.target));
    let main = html! {
        div.title {
            h1 { (view.title) }
            (view.beside)
            span.live #live role="status" hidden {}
        }
        @if let Some(message) = done(&visitor.target) {
            p.note.good role="status" { (message) }
        }
        @for section in &view.sections {
            div #(section.id) { (section.html) }
        }
    };
    let page = framed(
        &visitor.caller,
        &visitor.target,
        &view.title,
        live.as_deref(),
        &main,
    );
    answer(StatusCode::OK, &page)
}

fn answer(status: StatusCode, page: &Markup) -> Response {
    let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    (
        status,
        [observe::page_policy()],
        [kind],
        Html(page.0.clone()),
    )
        .into_response()
}

/// Where a page is told what changes on it.
fn live_address(target: &str) -> String {
    let rest = target.strip_prefix(BASE).unwrap_or(target);
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    let name = if rest.is_empty() || rest.starts_with('?') {
        "overview"
    } else {
        ""
    };
    format!("{BASE}/live/{name}{rest}")
}

/// What was just done, as the address says it.
fn done(target: &str) -> Option<&'static str> {
    let (_, query) = target.split_once('?')?;
    let mut query = Input::query(query).ok()?;
    query.optional_one_of("done", DONE)
}

fn framed(caller: &Caller, target: &str, title: &str, live: Option<&str>, main: &Markup) -> Markup {
    let path = target.split('?').next().unwrap_or_default();
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body {
                a.skip href="#main" { "Skip to the content" }
                header.bar {
                    a.brand href="/" { (assets::logo()) span { "utxoIQ " b { "Store" } } }
                    details.menu {
                        summary { "Menu" }
                        nav aria-label="Pages" { (menu(caller, path)) (who(caller)) }
                    }
                }
                aside.side {
                    a.brand href="/" { (assets::logo()) span { "utxoIQ " b { "Store" } } }
                    nav aria-label="Pages" { (menu(caller, path)) }
                    (who(caller))
                }
                main #main tabindex="-1" data-live=[live] { (main) }
            }
        }
    }
}

/// The pages that the caller may see.
fn menu(caller: &Caller, path: &str) -> Markup {
    let may = |entry: &&Entry| {
        entry.scopes.is_empty() || entry.scopes.iter().any(|scope| caller.has(*scope))
    };
    let is_here = |entry: &Entry| {
        path == entry.path
            || (entry.path != "/"
                && path
                    .strip_prefix(entry.path)
                    .is_some_and(|rest| rest.starts_with('/')))
    };
    html! {
        @for (group, entries) in MENU {
            @let shown: Vec<&Entry> = entries.iter().filter(may).collect();
            @if !shown.is_empty() {
                @if !group.is_empty() { p.group { (group) } }
                ul {
                    @for entry in shown {
                        li { a href=(entry.path) aria-current=[is_here(entry).then_some("page")] { (entry.name) } }
                    }
                }
            }
        }
    }
}

fn who(caller: &Caller) -> Markup {
    let name = match &caller.identity {
        Identity::Token { name, .. } => name,
        Identity::User => &caller.subject,
    };
    html! {
        div.who {
            p { span.hint { "Logged in as" } br; b { (name) } }
            form method="post" action="/logout" { button type="submit" { "Log out" } }
        }
    }
}

/// The page that says what went wrong, and what to do.
pub(super) fn failed(
    caller: Option<&Caller>,
    target: &str,
    is_reading: bool,
    problem: &Problem,
    request_id: &str,
) -> Response {
    let title = match problem.status() {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::CONFLICT => "Not possible now",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        status if status.is_client_error() => "This cannot be shown",
        _ => "Out of order",
    };
    let path = target.split('?').next().unwrap_or_default();
    let main = html! {
        div.title { h1 { (title) } }
        section.card.problem {
            p { (parts::sentence(problem.detail())) }
            @if let Some(scope) = problem.member("scope") {
                p { "Your token lacks the scope " code { (scope) } ". An administrator makes one that has it:" }
                pre data-copy { "utxoiq-store token create --name my-dashboard --scopes " (scope) }
            }
            @if !problem.errors().is_empty() {
                ul { @for error in problem.errors() { li { code { (error.field) } " " (error.message) } } }
            }
            p.actions {
                @if is_reading && problem.status().is_server_error() {
                    a.button href=(target) { "Try again" }
                } @else if is_reading && target.contains('?') && problem.status() != StatusCode::NOT_FOUND {
                    a.button href=(path) { "Show the page without conditions" }
                }
                a.button href="/" { "Overview" }
            }
            p.hint { code { (problem.code()) } " · request " code { (request_id) } }
        }
    };
    let page = if let Some(caller) = caller {
        framed(caller, target, title, None, &main)
    } else {
        html! {
            (DOCTYPE)
            html lang="en" { (head(title)) body.login { main { (main) } } }
        }
    };
    answer(problem.status(), &page)
}

/// The page that a visitor gets who followed a link of another site: it goes to the same address, from here, so that the browser
/// sends along who is logged in. See [`super::session`].
pub(super) fn knock_again(target: &str) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "utxoIQ Store" }
                meta http-equiv="refresh" content=(format!("0;url={target}"));
                link rel="stylesheet" href=(assets::address("style.css"));
            }
            body.login { main { p { a href=(target) { "Go on to the page" } } } }
        }
    };
    answer(StatusCode::OK, &page)
}

/// Whether an address's parameter can be read: what is shown again in links.
pub(super) fn encoded(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={}", parts::encode(value)))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_knows_where_it_is_told_what_changes() {
        for (target, live) in [
            ("/", "/dashboard/live/overview"),
            ("/?done=ran", "/dashboard/live/overview?done=ran"),
            ("/dashboard/pool", "/dashboard/live/pool"),
            (
                "/dashboard/backfill/x?y=1",
                "/dashboard/live/backfill/x?y=1",
            ),
        ] {
            assert_eq!(live_address(target), live);
        }
    }

    #[test]
    fn what_was_done_is_told_in_words_of_ours_only() {
        assert!(done("/?done=paused").is_some());
        assert!(done("/?done=<b>").is_none() && done("/?x=1").is_none() && done("/").is_none());
    }
}

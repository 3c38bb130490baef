//! The table of pages: each with its scope. A page without a row fails, as does a row without a page.

use std::collections::BTreeSet;

use utxoiq_store::token::Scope;
use utxoiq_store_server::{dashboard, openapi, routes::Access};

use super::Browser;
use crate::live::{Live, answer, start};

/// Method, path and scope; the last says whether it is a page by itself, or loaded by one.
const TABLE: &[(&str, &str, Option<Scope>, bool)] = &[
    ("get", "/", None, true),
    ("get", "/dashboard/alerts", Some(Scope::AlertsRead), true),
    (
        "post",
        "/dashboard/alerts/{alert_id}/acknowledge",
        Some(Scope::AlertsAcknowledge),
        true,
    ),
    ("get", "/dashboard/audit", Some(Scope::AuditRead), true),
    (
        "get",
        "/dashboard/audit/verify",
        Some(Scope::AuditRead),
        true,
    ),
    (
        "get",
        "/dashboard/backfill",
        Some(Scope::BackfillRead),
        true,
    ),
    (
        "get",
        "/dashboard/backfill/{job_id}",
        Some(Scope::BackfillRead),
        true,
    ),
    (
        "post",
        "/dashboard/backfill/{job_id}/cancel",
        Some(Scope::BackfillWrite),
        true,
    ),
    (
        "post",
        "/dashboard/backfill/{job_id}/pause",
        Some(Scope::BackfillWrite),
        true,
    ),
    (
        "post",
        "/dashboard/backfill/{job_id}/resume",
        Some(Scope::BackfillWrite),
        true,
    ),
    ("get", "/dashboard/backups", Some(Scope::BackupsRead), true),
    ("get", "/dashboard/cache", Some(Scope::PoolRead), true),
    ("get", "/dashboard/criteria", Some(Scope::SloRead), true),
    ("get", "/dashboard/feedback", Some(Scope::StatsRead), true),
    (
        "get",
        "/dashboard/feedback/flagged",
        Some(Scope::FeedbackReadAll),
        true,
    ),
    (
        "get",
        "/dashboard/feedback/insight",
        Some(Scope::StatsRead),
        true,
    ),
    (
        "get",
        "/dashboard/feedback/search",
        Some(Scope::FeedbackReadAll),
        true,
    ),
    (
        "get",
        "/dashboard/live/alerts",
        Some(Scope::AlertsRead),
        false,
    ),
    (
        "get",
        "/dashboard/live/backfill",
        Some(Scope::BackfillRead),
        false,
    ),
    (
        "get",
        "/dashboard/live/backfill/{job_id}",
        Some(Scope::BackfillRead),
        false,
    ),
    ("get", "/dashboard/live/cache", Some(Scope::PoolRead), false),
    (
        "get",
        "/dashboard/live/criteria",
        Some(Scope::SloRead),
        false,
    ),
    ("get", "/dashboard/live/overview", None, false),
    ("get", "/dashboard/live/pool", Some(Scope::PoolRead), false),
    (
        "get",
        "/dashboard/live/schedule",
        Some(Scope::ScheduleRun),
        false,
    ),
    (
        "get",
        "/dashboard/live/schedule/{task}",
        Some(Scope::ScheduleRun),
        false,
    ),
    ("get", "/dashboard/metrics", Some(Scope::MetricsRead), true),
    ("get", "/dashboard/pool", Some(Scope::PoolRead), true),
    ("get", "/dashboard/schedule", Some(Scope::ScheduleRun), true),
    (
        "get",
        "/dashboard/schedule/{task}",
        Some(Scope::ScheduleRun),
        true,
    ),
    (
        "post",
        "/dashboard/schedule/{task}/run",
        Some(Scope::ScheduleRun),
        true,
    ),
    (
        "get",
        "/dashboard/storage",
        Some(Scope::RetentionRead),
        true,
    ),
    ("get", "/dashboard/{*rest}", None, true),
    ("post", "/logout", None, true),
];

/// What everybody may load: the log-in, and what it is made of.
const OPEN: [(&str, &str); 4] = [
    ("get", "/dashboard/asset/{hash}/{name}"),
    ("get", "/favicon.ico"),
    ("get", "/login"),
    ("post", "/login"),
];

#[test]
fn every_page_has_a_row_with_its_scope() {
    let mut open = BTreeSet::new();
    let mut declared = BTreeSet::new();
    for (method, path, access) in dashboard::routes().table() {
        match access {
            Access::Open => assert!(open.insert((method, path))),
            Access::Page(scope) => assert!(declared.insert((method, path, scope, true))),
            Access::Fragment(scope) => assert!(declared.insert((method, path, scope, false))),
            Access::Authenticated | Access::Needs(_) => panic!("{path} is no page"),
        }
    }
    assert_eq!(open, BTreeSet::from(OPEN));
    let rows: BTreeSet<_> = TABLE.iter().copied().collect();
    let missing: Vec<_> = declared.difference(&rows).collect();
    let gone: Vec<_> = rows.difference(&declared).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "no row: {missing:?}; no page: {gone:?}"
    );
}

#[test]
fn no_page_is_in_the_document_of_calls() {
    for word in ["/dashboard", "/login", "/logout", "/favicon"] {
        assert!(!openapi::json().contains(word), "{word}");
    }
}

/// A row's address with something that is there.
fn target(path: &str, job: &str) -> String {
    let filled = path
        .replace("{job_id}", job)
        .replace("{task}", "fail_silent_backfills")
        .replace("{alert_id}", "018f0000-0000-7000-8000-000000000000")
        .replace("{*rest}", "nothing");
    if path.ends_with("/insight") {
        format!("{filled}?insight_id=x")
    } else {
        filled
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_is_shown_to_anybody_but_who_may_see_it() {
    let live = Live::new(&[]).await;
    let job = live.ok("POST /start", &[], start("of a page", 0, 9)).await;
    let job = job["id"].as_str().unwrap().to_owned();
    let nobody = Browser::new();
    let wrong = Browser::with(&format!("uqs_{}_{}", "0".repeat(32), "A".repeat(43)));
    for (at, (method, path, scope, is_page)) in TABLE.iter().enumerate() {
        let target = target(path, &job);
        let what = format!("{method} {target}");
        for (browser, challenge) in [(&nobody, "/login?to="), (&wrong, "/login?to=")] {
            let refused = answer(browser.ask(&live, method, &target)).await;
            if *is_page {
                assert!(refused.leads_to().starts_with(challenge), "{what}");
            } else {
                assert_eq!(refused.problem(401), "unauthorized", "{what}");
            }
        }
        let Some(scope) = scope else { continue };
        let others: Vec<Scope> = Scope::ALL
            .into_iter()
            .filter(|one| one != scope && *one != Scope::Admin)
            .collect();
        let lacking = Browser::of(&live, &format!("all but {at}"), &others).await;
        let refused = answer(lacking.ask(&live, method, &target)).await;
        if *is_page {
            assert!(
                refused.page(403).contains(&format!("<code>{scope}</code>")),
                "{what}: {}",
                refused.text
            );
            // The menu has what the visitor may see, and not this page.
            let is_in_menu = refused.text.contains(&format!("<a href=\"{path}\""));
            assert!(!is_in_menu && refused.text.contains("Log out"), "{what}");
        } else {
            assert_eq!(refused.problem(403), "missing_scope", "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_shown_to_who_has_its_scope_and_nothing_else() {
    let live = Live::new(&[]).await;
    for (at, (method, path, scope, is_page)) in TABLE.iter().enumerate() {
        let scopes = [scope.unwrap_or(Scope::ActAs)];
        let browser = Browser::of(&live, &format!("only {at}"), &scopes).await;
        let job = start(&format!("of page {at}"), 0, 9);
        let job = live.ok("POST /start", &[], job).await;
        let target = target(path, job["id"].as_str().unwrap());
        let what = format!("{method} {target}");
        let asked = browser.ask(&live, method, &target).send().await.unwrap();
        let expected = match (*method, *is_page, *path) {
            (_, _, "/dashboard/{*rest}" | "/dashboard/alerts/{alert_id}/acknowledge") => 404,
            ("post", ..) => 303,
            _ => 200,
        };
        let status = asked.status().as_u16();
        if *is_page {
            let text = asked.text().await.unwrap();
            assert_eq!(status, expected, "{what}: {text}");
        } else {
            assert_eq!(status, 200, "{what}");
            assert_eq!(asked.headers()["content-type"], "text/event-stream");
        }
    }
}

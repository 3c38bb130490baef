//! The table of calls and credentials: who may make which call, and whose data it then answers about.
//!
//! A call without a row fails, as does a row without a call, or one whose scope is another. Each call is made with every
//! credential that there is, on good requests ([`crate::bad_input::good`]): what lets in succeeds, everything else gets
//! exactly 401 or 403.

mod credentials;
mod others;
mod table;

use std::collections::BTreeSet;

use utxoiq_store::token::Scope;
use utxoiq_store_server::{
    api,
    routes::{Access, Routes},
};

use crate::{
    bad_input::{
        good::{Good, Jobs, good},
        with_body,
    },
    live::{Live, answer},
    support::Answer,
};
use credentials::{Expected, service_token};
pub use credentials::{People, pool, role};
use table::{Row, TABLE};

/// Whom [`good`] requests are made for.
const USER: &str = "user 1";

/// Makes a call with a header `Authorization`.
async fn ask(live: &Live, row: &Row, good: &Good, authorization: Option<&str>) -> Answer {
    let mut request = live.request(row.method, &good.target(row.path));
    for (name, value) in &good.headers {
        request = request.header(*name, *value);
    }
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    answer(with_body(request, good)).await
}

/// The good request to a call; whoami takes nothing.
fn good_to(row: &Row, jobs: &Jobs) -> Good {
    if row.path == "/api/v1/whoami" {
        return Good::default();
    }
    good(row.method, row.path, jobs)
        .unwrap_or_else(|| panic!("{} {}: give it a good request", row.method, row.path))
}

#[test]
fn every_call_has_a_row_with_its_scope() {
    let declared: BTreeSet<_> = api::routes()
        .iter()
        .flat_map(Routes::table)
        .filter_map(|(method, path, access)| match access {
            Access::Open => None,
            Access::Authenticated => Some((path, method, None)),
            Access::Needs(scope) => Some((path, method, Some(scope))),
            Access::Page(_) | Access::Fragment(_) => panic!("{path} is a page, not a call"),
        })
        .collect();
    let rows: BTreeSet<_> = TABLE
        .iter()
        .map(|row| (row.path, row.method, row.scope))
        .collect();
    assert_eq!(rows.len(), TABLE.len(), "a call has two rows");
    let missing: Vec<_> = declared.difference(&rows).collect();
    let gone: Vec<_> = rows.difference(&declared).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "no row: {missing:?}; no call: {gone:?}"
    );
}

#[test]
fn the_table_in_the_documentation_is_this_one() {
    let kept = include_str!("../../../../docs/operations/access.md");
    let missing: Vec<_> = TABLE
        .iter()
        .map(Row::documented)
        .filter(|line| !kept.contains(line.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/operations/access.md lacks:\n{}",
        missing.join("\n")
    );
    let lines = kept
        .lines()
        .filter(|line| line.starts_with("| `GET /") || line.starts_with("| `P"));
    assert_eq!(
        lines.count(),
        TABLE.len(),
        "docs/operations/access.md has more rows"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_made_with_anything_but_the_right_credential() {
    let people = People::new().await;
    let live = Live::new(&people.settings()).await;
    let jobs = Jobs::new(&live, 0).await;
    let wrong = credentials::wrong(&live, &people).await;
    let mut asked = 0;
    for row in TABLE {
        let good = good_to(row, &jobs);
        let name = format!("{} {}", row.method, row.path);
        for credential in wrong.for_scope(row.scope) {
            let refused = ask(&live, row, &good, credential.header.as_deref()).await;
            let what = format!("{name} with {}", credential.name);
            match credential.expected {
                Expected::NoToken => {
                    assert_eq!(refused.problem(401), "unauthorized", "{what}");
                    assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{what}");
                }
                Expected::InvalidToken => {
                    assert_eq!(refused.problem(401), "unauthorized", "{what}");
                    let challenge = Some("Bearer error=\"invalid_token\"");
                    assert_eq!(refused.header("www-authenticate"), challenge, "{what}");
                }
                Expected::MissingScope => {
                    assert_eq!(refused.problem(403), "missing_scope", "{what}");
                    let scope = row.scope.map(Scope::as_str);
                    assert_eq!(refused.json()["scope"].as_str(), scope, "{what}");
                }
            }
            asked += 1;
        }
    }
    assert!(asked > 1_500, "only {asked} requests");
    // Whatever was wrong, the words are the same.
    let row = &TABLE[0];
    let mut words = BTreeSet::new();
    for credential in wrong.for_scope(row.scope) {
        if credential.expected != Expected::MissingScope {
            let refused = ask(&live, row, &Good::default(), credential.header.as_deref()).await;
            let mut body = refused.json();
            body.as_object_mut().unwrap().remove("request_id");
            words.insert(body.to_string());
        }
    }
    assert_eq!(words.len(), 1, "{words:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_made_with_a_service_token_of_its_scope() {
    let live = Live::new(&[]).await;
    for (index, row) in TABLE.iter().enumerate() {
        let jobs = Jobs::new(&live, index).await;
        let good = good_to(row, &jobs);
        let mut scopes = Vec::from_iter(row.scope);
        if good.headers.iter().any(|(name, _)| *name == "X-User-Id") {
            scopes.push(Scope::ActAs);
        }
        if scopes.is_empty() {
            scopes.push(Scope::PoolRead);
        }
        let token = service_token(&live, &format!("right {index}"), &scopes).await;
        let right = ask(&live, row, &good, Some(&format!("Bearer {token}"))).await;
        assert!(
            right.status.is_success(),
            "{} {}: {right:?}",
            row.method,
            row.path
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_made_by_an_end_user_whose_role_gives_its_scope() {
    let people = People::new().await;
    let live = Live::new(&people.settings()).await;
    for (index, row) in TABLE.iter().enumerate() {
        let jobs = Jobs::new(&live, index).await;
        let mut good = good_to(row, &jobs);
        // Nobody but itself.
        good.headers.retain(|(name, _)| *name != "X-User-Id");
        let roles: Vec<String> = row.scope.into_iter().map(role).collect();
        let token = people.token(USER, &roles);
        let right = ask(&live, row, &good, Some(&format!("Bearer {token}"))).await;
        assert!(
            right.status.is_success(),
            "{} {}: {right:?}",
            row.method,
            row.path
        );
    }
    // What they did that is audited is told under a pseudonym.
    let admin = live.db.admin().await;
    let told = "select string_agg(distinct actor, ', ') from audit_log where actor like 'user%'";
    let told: String = admin.query_one(told, &[]).await.unwrap().get(0);
    assert!(told.starts_with("user: p:") && told.len() == 72, "{told}");
    let held = "select placed_by from legal_holds where placed_by not in ('test') union all
                select acknowledged_by from alerts where acknowledged_by is not null
                union all select caller from metric_requests";
    let held: Vec<String> = admin
        .query(held, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(held.len() >= 3, "{held:?}");
    assert!(
        held.iter()
            .all(|who| who.starts_with("user:") && !who.contains(USER)),
        "{held:?}"
    );
}

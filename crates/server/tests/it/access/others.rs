//! What is one user's is not another's.

use serde_json::json;
use utxoiq_store::token::Scope;

use super::{
    People, ask, role,
    table::{Row, TABLE, Whose},
};
use crate::{
    bad_input::good::Good,
    live::{Live, answer},
    support::Answer,
};

const WORDS: &str = "what only Ada said";

/// A call of a user; the body is null where there is none.
async fn call(live: &Live, call: &str, token: &str, body: serde_json::Value) -> Answer {
    let (method, target) = call.split_once(' ').unwrap();
    let mut request = live.request(method, target).bearer_auth(token);
    if !body.is_null() {
        request = request.json(&body);
    }
    answer(request).await
}

/// What the database has of Ada's.
async fn adas(live: &Live) -> String {
    let admin = live.db.admin().await;
    let sql =
        "select (select jsonb_agg(to_jsonb(f)) from insight_feedback f where user_id = 'ada')::text
                   || (select count(*) from feedback_history where user_id = 'ada')";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_or_changes_what_is_anothers() {
    let people = People::new().await;
    let live = Live::new(&people.settings()).await;
    let roles = [Scope::FeedbackRead, Scope::FeedbackWrite].map(role);
    let (ada, bob) = (people.token("ada", &roles), people.token("bob", &roles));
    for (path, body) in [
        (
            "rate",
            json!({"insight_id": "i", "rating": 5, "comment": WORDS}),
        ),
        (
            "flag",
            json!({"insight_id": "i", "flag_type": "spam", "flag_reason": WORDS}),
        ),
    ] {
        let said = call(&live, &format!("POST /api/v1/feedback/{path}"), &ada, body).await;
        assert_eq!(said.json()["user_id"], "ada", "{said:?}");
    }
    let before = adas(&live).await;
    let mut tried = Vec::new();
    for row in TABLE.iter().filter(|row| row.whose == Whose::Own) {
        tried.push(row.path);
        let name = format!("{} {}", row.method, row.path);
        let as_bob = answers_to_bob(&live, row, &bob).await;
        assert!(
            !as_bob.text.contains(WORDS) && !as_bob.text.contains("ada"),
            "{name}: {as_bob:?}"
        );
        // Nor by her name, in any place where a call could look for one.
        if row.path == "/api/v1/whoami" {
            continue;
        }
        let good = Good {
            query: vec![("insight_id", "i".into())],
            body: if row.method == "post" {
                json!({"insight_id": "i", "rating": 1, "comment": "x", "flag_type": "other", "fact": "all"})
            } else {
                json!(null)
            },
            headers: vec![("X-User-Id", "ada")],
            ..Good::default()
        };
        let named = ask(&live, row, &good, Some(&format!("Bearer {bob}"))).await;
        assert_eq!(named.problem(403), "missing_scope", "{name}");
    }
    assert_eq!(tried.len(), 8, "{tried:?}");
    for target in [
        "search?user_id=ada",
        "search",
        "search?insight_id=i",
        "history?user_id=ada&insight_id=i",
    ] {
        let refused = call(
            &live,
            &format!("GET /api/v1/feedback/{target}"),
            &bob,
            json!(null),
        )
        .await;
        assert_eq!(refused.problem(403), "missing_scope", "{target}");
        assert_eq!(refused.json()["scope"], "feedback:read_all", "{target}");
    }
    assert_eq!(adas(&live).await, before);
    // She herself sees it.
    for target in [
        "user",
        "search?user_id=ada",
        "history?user_id=ada&insight_id=i",
    ] {
        let own = call(
            &live,
            &format!("GET /api/v1/feedback/{target}"),
            &ada,
            json!(null),
        )
        .await;
        assert!(
            own.status == 200 && own.text.contains(WORDS),
            "{target}: {own:?}"
        );
    }
}

/// Bob's own request to a call, with Ada's name wherever a body or a query could have one.
async fn answers_to_bob(live: &Live, row: &Row, bob: &str) -> Answer {
    let body = match row.path.rsplit('/').next().unwrap() {
        "rate" => json!({"insight_id": "i", "rating": 1, "user_id": "ada"}),
        "comment" => json!({"insight_id": "i", "comment": "mine", "user_id": "ada"}),
        "flag" => json!({"insight_id": "i", "flag_type": "other", "user_id": "ada"}),
        "withdraw" => json!({"insight_id": "i", "fact": "flag", "user_id": "ada"}),
        _ => json!(null),
    };
    let query = match row.path.rsplit('/').next().unwrap() {
        "search" => "?user_id=bob",
        "history" => "?user_id=bob&insight_id=i",
        _ => "",
    };
    let method = row.method.to_uppercase();
    let answered = call(live, &format!("{method} {}{query}", row.path), bob, body).await;
    assert_eq!(answered.status, 200, "{}: {answered:?}", row.path);
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_told_who_they_are() {
    let people = People::new().await;
    let live = Live::new(&people.settings()).await;
    let token = people.token("ada", &[role(Scope::StatsRead), "unknown".into()]);
    let told = call(&live, "GET /api/v1/whoami", &token, json!(null))
        .await
        .json();
    let end = told["expires_at"].as_str().unwrap().to_owned();
    assert!(end.as_str() > "2026" && end.ends_with('Z'), "{end}");
    let expected = json!({
        "kind": "user", "subject": "ada", "name": null, "scopes": ["stats:read"], "tier": "pro", "expires_at": end,
    });
    assert_eq!(told, expected);
    let service =
        super::service_token(&live, "ingest", &[Scope::MetricsWrite, Scope::StatsRead]).await;
    let told = call(&live, "GET /api/v1/whoami", &service, json!(null))
        .await
        .json();
    let expected = json!({
        "kind": "service_token", "subject": "ingest", "name": "ingest", "scopes": ["stats:read", "metrics:write"],
        "tier": null, "expires_at": null,
    });
    assert_eq!(told, expected);
}

//! What a client must not send, to every call: a table made from the OpenAPI document.
//!
//! Each call is tested on jobs of its own with a good request ([`good`]), of which one thing at a time is made bad
//! ([`requests`]): a field of the body, a parameter, the body as a whole, its content type. The answer names what is bad,
//! and the database holds what it held. At the end the good request is sent, and works: what was refused before was
//! refused for what was bad in it, and would have been stored.
//!
//! A call or a field that the document has and this test does not know fails it.

pub mod good;
mod random;
mod requests;
mod values;

use reqwest::{RequestBuilder, header::CONTENT_TYPE};
use serde_json::Value;
use tokio_postgres::Client;
use utxoiq_store::token::Scope;

use crate::{
    live::{Documented, Live, answer, documented},
    support::Answer,
    tokens::token_named,
};
use good::{EXCLUDED, Good, Jobs, good};
use requests::{Bad, bad_headers, bad_json, bad_parameters, bodies, documents, in_a_list};
use values::{Kind, Named};

/// Above the largest text that is sent, 1 MB, and not so large that sending more takes long.
const MAX_BODY: usize = 2 << 20;

const LIMITS: &[(&str, &str)] = &[
    ("UTXOIQ_STORE_SERVER__MAX_BODY_BYTES", "2097152"),
    // No lease ends while its call is tested.
    ("UTXOIQ_STORE_BACKFILL__LEASE_SECONDS", "3600"),
    ("UTXOIQ_STORE_BACKFILL__SILENCE_SECONDS", "7200"),
];

/// The calls that need a token.
fn guarded() -> Vec<(Documented, Scope)> {
    let calls = documented().into_iter().filter_map(|call| {
        let scope = call.operation["security"][0]["token"][0].as_str()?;
        let scope = Scope::ALL.into_iter().find(|one| one.as_str() == scope);
        Some((call, scope.unwrap()))
    });
    calls.collect()
}

/// What a task makes, sooner or later, of the rows of feedback and their history.
const COUNTED: [&str; 6] = [
    "feedback_stats",
    "feedback_deltas",
    "feedback_days",
    "feedback_overall_days",
    "feedback_day_deltas",
    "feedback_fold",
];

/// A number for everything that the database holds, but for when tokens were used last and what is counted of feedback.
async fn fingerprint(admin: &Client) -> Vec<(String, i64, String)> {
    let tables = "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1";
    let mut held = Vec::new();
    for row in admin.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        if COUNTED.contains(&table.as_str()) {
            continue;
        }
        let content = match table.as_str() {
            "service_tokens" => "to_jsonb(t) - 'last_used_at'",
            _ => "to_jsonb(t)",
        };
        let sql = format!(
            "select count(*), coalesce(sum(hashtextextended(({content})::text, 0)::numeric), 0)::text from {table} t"
        );
        let row = admin.query_one(&sql, &[]).await.unwrap();
        held.push((table, row.get(0), row.get(1)));
    }
    assert!(held.len() >= 7, "{held:?}");
    held
}

/// Sends a request with one bad thing in it, and checks that the answer says so.
async fn is_refused(live: &Live, call: &Documented, good: &Good, bad: &Bad) {
    let name = format!("{} {}: {}", call.method, call.path, bad.what);
    let mut request = live.authorized(&call.method, &bad.target);
    let is_replaced = |name: &str| bad.headers.iter().any(|(bad, _)| *bad == name);
    for (name, value) in good.headers.iter().filter(|(name, _)| !is_replaced(name)) {
        request = request.header(*name, *value);
    }
    for (name, value) in &bad.headers {
        request = request.header(*name, value.as_slice());
    }
    if let Some(body) = &bad.body {
        request = request
            .header(CONTENT_TYPE, bad.content_type)
            .body(body.clone());
    }
    let answer = answer(request).await;
    assert_eq!(answer.status, bad.status, "{name}: {answer:?}");
    assert_eq!(answer.problem(bad.status), bad.code, "{name}: {answer:?}");
    assert_eq!(answer.fields(), bad.fields, "{name}");
    assert!(answer.text.len() < 2_000, "{name}: sends back what it got");
}

/// Everything bad that the call can be sent.
fn bad_requests(call: &Documented, good: &Good) -> Vec<Bad> {
    let parameters = call.operation["parameters"].as_array();
    let all: Vec<_> = parameters
        .into_iter()
        .flatten()
        .map(Named::parameter)
        .collect();
    let of = |place: &str| {
        let here = all.iter().filter(|parameter| parameter.place == place);
        here.cloned().collect::<Vec<_>>()
    };
    let (in_path, in_query, in_header) = (of("path"), of("query"), of("header"));
    assert_eq!(
        all.len(),
        in_path.len() + in_query.len() + in_header.len(),
        "{}: teach this test",
        call.path
    );
    let in_order = |parameters: &[Named]| {
        let found = parameters.iter().map(|parameter| parameter.name.clone());
        found.collect::<Vec<_>>()
    };
    let mut wanted = in_order(&in_query);
    wanted.retain(|name| name != EXCLUDED);
    assert_eq!(
        wanted,
        good.query_names(),
        "{} {}: {:?}",
        call.method,
        call.path,
        good.query
    );
    let headers: Vec<_> = good.headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        in_order(&in_header),
        headers,
        "{} {}",
        call.method,
        call.path
    );
    let mut bad = bad_parameters(&call.path, good, &in_path, &in_query);
    bad.extend(bad_headers(&call.path, good));

    let target = good.target(&call.path);
    if let Some((content_type, _)) = good.document {
        bad.extend(documents(&target, content_type, MAX_BODY));
        return bad;
    }
    let schema = &call.operation["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(
        schema.is_null(),
        good.body.is_null(),
        "{} {}",
        call.method,
        call.path
    );
    let (schema, body) = match &good.body {
        Value::Array(items) => (&schema["items"], &items[0]),
        body => (schema, body),
    };
    if !schema.is_null() {
        let fields = Named::fields(schema);
        let mut known: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
        let mut documented = in_order(&fields);
        known.sort();
        documented.sort();
        assert_eq!(
            known, documented,
            "{} {}: send every field",
            call.method, call.path
        );
        let mut bodies = bodies(&target, body, MAX_BODY);
        bodies.extend(bad_json(&target, body, &fields));
        if good.body.is_array() {
            bodies = in_a_list(bodies);
        }
        bad.extend(bodies);
    }
    bad
}

/// The good request's body.
pub fn with_body(request: RequestBuilder, good: &Good) -> RequestBuilder {
    match &good.document {
        Some((content_type, document)) => request
            .header(CONTENT_TYPE, *content_type)
            .body(document.clone()),
        None if good.body.is_null() => request,
        None => request.json(&good.body),
    }
}

#[tokio::test]
async fn nothing_bad_that_a_client_sends_fails_us_or_is_stored() {
    let live = Live::new(LIMITS).await;
    let admin = live.db.admin().await;
    let mut sent = 0;
    for (index, (call, _)) in guarded().iter().enumerate() {
        let name = format!("{} {}", call.method, call.path);
        let jobs = Jobs::new(&live, index).await;
        let good = good(&call.method, &call.path, &jobs)
            .unwrap_or_else(|| panic!("{name} is new: give it a good request in good.rs"));
        let before = fingerprint(&admin).await;
        for bad in bad_requests(call, &good) {
            is_refused(&live, call, &good, &bad).await;
            sent += 1;
        }
        assert_eq!(
            fingerprint(&admin).await,
            before,
            "{name} stored something bad"
        );

        let mut request = live.authorized(&call.method, &good.target(&call.path));
        for (name, value) in &good.headers {
            request = request.header(*name, *value);
        }
        let answer = answer(with_body(request, &good)).await;
        let is_success = answer.status.is_success();
        assert!(is_success, "{name}: the good request: {answer:?}");
        if ["/backfill", "/feedback"]
            .iter()
            .any(|slice| call.path.contains(slice))
        {
            let changed = fingerprint(&admin).await != before;
            assert_eq!(changed, call.method != "get", "{name}: the good request");
        }
    }
    assert!(sent > 3_000, "only {sent} bad requests");
}

#[tokio::test]
async fn no_call_is_made_without_its_scope() {
    let live = Live::new(LIMITS).await;
    let admin = live.db.admin().await;
    let jobs = Jobs::new(&live, 0).await;
    let mut others = Vec::new();
    for scope in Scope::ALL {
        let but_it: Vec<_> = Scope::ALL
            .into_iter()
            .filter(|one| ![scope, Scope::Admin].contains(one))
            .collect();
        others.push(token_named(&live.db, &format!("all but {scope}"), &but_it).await);
    }
    let before = fingerprint(&admin).await;
    for (call, scope) in guarded() {
        let name = format!("{} {}", call.method, call.path);
        let good = good(&call.method, &call.path, &jobs).unwrap();
        let ask = async |authorization: &[&str]| -> Answer {
            let mut request = live.request(&call.method, &good.target(&call.path));
            for (name, value) in &good.headers {
                request = request.header(*name, *value);
            }
            request = with_body(request, &good);
            for value in authorization {
                request = request.header("authorization", *value);
            }
            answer(request).await
        };
        let right = format!("Bearer {}", live.token);
        let (torn, basic) = (&right[..right.len() - 1], format!("Basic {}", live.token));
        let doubled = format!("{right}{}", &right[7..]);
        let unknown = format!("Bearer uqs_{}", "A".repeat(43));
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &[&live.token],
            &[torn],
            &[&basic],
            &[&doubled],
            &[&unknown],
            &[&right, &right],
        ] {
            let refused = ask(wrong).await;
            assert_eq!(refused.problem(401), "unauthorized", "{name} {wrong:?}");
            let challenge = refused.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer"), "{challenge}");
        }
        let position = Scope::ALL.into_iter().position(|one| one == scope).unwrap();
        let refused = ask(&[&format!("Bearer {}", others[position])]).await;
        assert_eq!(refused.problem(403), "missing_scope", "{name}");
        assert_eq!(refused.json()["scope"], scope.as_str(), "{name}");
    }
    // Attempts at what cannot be undone are in the audit log, one a token and scope: nothing else was stored.
    let without_audit = |held: Vec<(String, i64, String)>| {
        let held = held.into_iter();
        held.filter(|(table, ..)| !table.starts_with("audit_"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        without_audit(fingerprint(&admin).await),
        without_audit(before)
    );
    let attempts = "select string_agg((details::jsonb ->> 'attempted') || ' ' || actor, ', ' order by actor) from audit_log
                    where action = 'denied' and details::jsonb ->> 'code' = 'missing_scope'";
    let attempts: String = admin.query_one(attempts, &[]).await.unwrap().get(0);
    let expected = [
        "erase token: all but feedback:erase",
        "hold_add token: all but retention:hold",
        "run_begin token: all but retention:run",
    ];
    // A scope without a call yet has no attempts.
    assert!(
        attempts
            .split(", ")
            .all(|attempt| expected.contains(&attempt)),
        "{attempts}"
    );
    assert!(
        attempts.contains(expected[1]) && attempts.contains(expected[2]),
        "{attempts}"
    );
}

#[tokio::test]
async fn a_body_is_not_read_before_its_sender_is_known() {
    let live = Live::new(LIMITS).await;
    let bad = live
        .request("POST", "/api/v1/monitoring/backfill/start")
        .header(CONTENT_TYPE, "text/plain")
        .body("{".repeat(100));
    assert_eq!(answer(bad).await.problem(401), "unauthorized");
}

#[test]
fn the_table_has_what_the_design_lists() {
    let all = |kind: &Kind| {
        let values = values::of(kind).into_iter().map(|(raw, _)| raw);
        values.collect::<Vec<_>>()
    };
    let text = all(&Kind::Text {
        min: 1,
        max: Some(9),
    });
    let has = |values: &[Vec<u8>], raw: &str| values.iter().any(|value| value == raw.as_bytes());
    for raw in [
        "NaN",
        "Infinity",
        "-Infinity",
        r#""a\u0000b""#,
        r#""\ud800""#,
        r#""""#,
        "[]",
        "{}",
        "5",
    ] {
        assert!(has(&text, raw), "{raw}");
    }
    assert!(text.iter().any(|value| value.len() > 1_000_000));
    assert!(text.iter().any(|value| std::str::from_utf8(value).is_err()));
    let int = all(&Kind::Int { min: 0, max: None });
    for raw in [
        "-1",
        "1e30",
        "99999999999999999999",
        "4.5",
        "true",
        r#""abc""#,
    ] {
        assert!(has(&int, raw), "{raw}");
    }
}

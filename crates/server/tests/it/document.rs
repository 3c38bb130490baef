//! The table of calls and its document.

use std::collections::BTreeSet;

use serde_json::Value;
use utxoiq_store_server::{
    api, openapi, router,
    routes::{Access, Routes},
};

use crate::support::{call, settings, state};

fn document() -> Value {
    serde_json::from_str(openapi::json()).unwrap()
}

#[test]
fn the_checked_in_document_is_the_present_one() {
    let kept = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi.json"))
        .unwrap();
    assert!(
        kept == openapi::json(),
        "openapi.json is out of date: write it with `utxoiq-store openapi`"
    );
}

#[test]
fn every_call_is_documented_with_its_scope_and_its_errors() {
    let document = document();
    let mut declared = BTreeSet::new();
    for (method, path, access) in api::routes().iter().flat_map(Routes::table) {
        assert!(
            declared.insert((path.to_owned(), method.to_owned())),
            "{method} {path} is there twice"
        );
        let operation = &document["paths"][path][method];
        assert!(operation["summary"].is_string(), "{method} {path}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(
            answers.contains_key("200") != answers.contains_key("204"),
            "{method} {path}"
        );
        assert!(answers.contains_key("500"), "{method} {path}");
        match access {
            Access::Open => assert!(operation["security"].is_null(), "{path}"),
            Access::Page(_) | Access::Fragment(_) => panic!("{path} is a page, not a call"),
            Access::Authenticated => {
                let either = serde_json::json!([{"token": []}, {"user": []}]);
                assert_eq!(operation["security"], either, "{path}");
                assert!(
                    answers.contains_key("401") && !answers.contains_key("403"),
                    "{path}"
                );
            }
            Access::Needs(scope) => {
                let scopes = [scope.as_str()];
                let either = serde_json::json!([{"token": scopes}, {"user": scopes}]);
                assert_eq!(operation["security"], either, "{method} {path}");
                for header in ["RateLimit", "RateLimit-Policy", "Retry-After"] {
                    let declared = &answers["429"]["headers"][header];
                    assert!(declared["schema"].is_object(), "{method} {path} {header}");
                }
                for status in ["401", "403", "429", "503"] {
                    let schema =
                        &answers[status]["content"]["application/problem+json"]["schema"]["$ref"];
                    assert_eq!(
                        schema, "#/components/schemas/Problem",
                        "{method} {path} {status}"
                    );
                }
            }
        }
        if !operation["requestBody"].is_null() {
            assert!(
                ["413", "415"]
                    .iter()
                    .all(|status| answers.contains_key(*status)),
                "{method} {path}"
            );
            // What other protocols send gets the status that they know for what cannot be read.
            assert!(
                answers.contains_key("422") || answers.contains_key("400"),
                "{method} {path}"
            );
        }
    }
    let documented: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .keys()
                .map(|method| (path.clone(), method.clone()))
        })
        .collect();
    assert_eq!(declared, documented);
}

#[test]
fn only_liveness_readiness_and_the_document_are_open() {
    let open: Vec<_> = api::routes()
        .iter()
        .flat_map(|slice| slice.table().collect::<Vec<_>>())
        .filter(|(_, _, access)| *access == Access::Open)
        .map(|(_, path, _)| path)
        .collect();
    assert_eq!(open, ["/healthz", "/readyz", "/openapi.json"]);
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(
                    members
                        .get("$ref")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn the_router_takes_exactly_the_documented_methods() {
    let document = document();
    let service = router(&state(settings(&[])));
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace(['{', '}'], "");
        for method in ["get", "post", "put", "delete", "patch", "options"] {
            let answer = call(&service, &method.to_uppercase(), &path, None).await;
            let is_taken = answer.status != 405;
            assert_eq!(
                is_taken,
                item.get(method).is_some(),
                "{method} {path}: {answer:?}"
            );
            if !is_taken {
                answer.problem(405);
            }
        }
    }
    let served = call(&service, "GET", "/openapi.json", None).await;
    assert_eq!(
        (served.status.as_u16(), served.text.as_str()),
        (200, openapi::json())
    );
}

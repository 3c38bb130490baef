//! What clients can send, through a whole request.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use crate::support::{call, post, send, test_service};

fn good() -> Value {
    json!({"text": "blocks", "block": 1, "percentage": 50.5})
}

fn with(field: &str, value: Value) -> Value {
    let mut body = good();
    body[field] = value;
    body
}

#[tokio::test]
async fn bad_values_get_422_that_names_the_field() {
    let service = test_service(&[]);
    let megabyte = "x".repeat(1_000_000);
    let cases = [
        ("text", json!("")),
        ("text", json!(" \t")),
        ("text", json!("a\0b")),
        ("text", json!(5)),
        ("text", json!(true)),
        ("text", json!(null)),
        ("text", json!(["a"])),
        ("text", json!({"a": "b"})),
        ("text", json!(megabyte)),
        ("text", json!("x".repeat(51))),
        ("comment", json!("x".repeat(1_001))),
        ("comment", json!(megabyte)),
        ("block", json!(-1)),
        ("block", json!(4.5)),
        ("block", json!("abc")),
        ("block", json!("")),
        ("block", json!(true)),
        ("block", json!([1])),
        ("block", json!(9_223_372_036_854_775_808_u64)),
        ("block", json!(u64::MAX)),
        ("block", json!(1e300)),
        ("block", json!("9223372036854775808")),
        ("block", json!("NaN")),
        ("block", json!(megabyte)),
        ("percentage", json!(-0.1)),
        ("percentage", json!(100.1)),
        ("percentage", json!("NaN")),
        ("percentage", json!("Infinity")),
        ("percentage", json!("1e400")),
        ("percentage", json!(true)),
        ("value", json!("-inf")),
        ("value", json!("abc")),
        ("value", json!({})),
        ("at", json!("soon")),
        ("at", json!("2026-11-01")),
        ("at", json!(1_764_547_200)),
        ("at", json!("2026-11-01T00:00:00+99:00")),
        ("id", json!("")),
        ("id", json!("not-a-uuid")),
        ("id", json!(7)),
        ("status", json!("bogus")),
        ("status", json!("")),
        ("status", json!(1)),
        ("flag", json!("yes")),
    ];
    for (field, value) in cases {
        let shown: String = value.to_string().chars().take(40).collect();
        let answer = post(&service, "/test/body", with(field, value).to_string()).await;
        assert_eq!(answer.problem(422), "invalid_input", "{field}: {shown}");
        assert_eq!(answer.fields(), [field], "{shown}");
        assert!(
            answer.text.len() < 1_000,
            "the value is not sent back: {shown}"
        );
    }
}

#[tokio::test]
async fn every_bad_field_is_told_at_once() {
    let service = test_service(&[]);
    let answer = post(
        &service,
        "/test/body",
        r#"{"text": "", "percentage": 101, "status": "x"}"#,
    )
    .await;
    answer.problem(422);
    assert_eq!(answer.fields(), ["text", "block", "percentage", "status"]);
}

#[tokio::test]
async fn what_the_platform_accepted_is_accepted() {
    let service = test_service(&[]);
    let body = json!({
        "text": "blocks", "block": "5", "percentage": "51.0", "value": 45, "at": "2026-12-01T00:00:00",
        "id": "cb9f60050980421e945bc8a183c55e90", "status": null, "comment": null, "bogus": {"a": [1]},
    });
    let answer = post(&service, "/test/body", body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let read = answer.json();
    assert_eq!(read["block"], 5);
    assert_eq!(read["percentage"], 51.0);
    assert_eq!(read["at"], "2026-12-01T00:00:00Z");
    assert_eq!(read["id"], "cb9f6005-0980-421e-945b-c8a183c55e90");
    let answer = post(
        &service,
        "/test/body",
        with("block", json!(5.0)).to_string(),
    )
    .await;
    assert_eq!(answer.json()["block"], 5);
    let answer = post(
        &service,
        "/test/body",
        with("block", json!(i64::MAX)).to_string(),
    )
    .await;
    assert_eq!(answer.json()["block"], i64::MAX);
}

#[tokio::test]
async fn bodies_that_are_no_json_get_422_with_the_position() {
    let service = test_service(&[]);
    let deep = "[".repeat(100_000);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("blank", b"  ".to_vec()),
        ("torn", br#"{"text": "a""#.to_vec()),
        ("NaN", br#"{"percentage": NaN}"#.to_vec()),
        ("Infinity", br#"{"percentage": -Infinity}"#.to_vec()),
        ("1e400", br#"{"percentage": 1e400}"#.to_vec()),
        ("lone surrogate", br#"{"text": "\ud800"}"#.to_vec()),
        ("not UTF-8", b"{\"text\": \"\xff\"}".to_vec()),
        ("repeated key", br#"{"block": 1, "block": 2}"#.to_vec()),
        ("deep", deep.into_bytes()),
        ("form", b"text=a&block=1".to_vec()),
    ];
    for (name, body) in cases {
        let answer = post(&service, "/test/body", body).await;
        assert_eq!(answer.problem(422), "malformed_json", "{name}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains("line 1 column") || detail.contains("empty"),
            "{name}: {detail}"
        );
    }
    for document in ["[1, 2]", "\"x\"", "1", "null", "true"] {
        let answer = post(&service, "/test/body", document).await;
        assert_eq!(answer.problem(422), "invalid_input", "{document}");
    }
}

#[tokio::test]
async fn only_json_content_types_are_read() {
    let service = test_service(&[]);
    let send_as = async |content_type: Option<&str>| {
        let mut request = Request::post("/test/body");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        send(
            &service,
            request.body(Body::from(good().to_string())).unwrap(),
        )
        .await
    };
    for good in [
        None,
        Some("application/json"),
        Some("application/json; charset=utf-8"),
        Some("application/x+json"),
    ] {
        assert_eq!(send_as(good).await.status, 200, "{good:?}");
    }
    for bad in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ] {
        assert_eq!(
            send_as(Some(bad)).await.problem(415),
            "unsupported_media_type",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_batch_names_the_position_of_each_bad_item() {
    let service = test_service(&[]);
    let batch = json!([good(), with("value", json!("x")), 7]);
    let answer = post(&service, "/test/batch", batch.to_string()).await;
    answer.problem(422);
    assert_eq!(answer.fields(), ["1.value", "2"]);
    assert_eq!(post(&service, "/test/batch", "[]").await.json(), 0);
    let three = json!([good(), good(), good()]);
    assert_eq!(
        post(&service, "/test/batch", three.to_string())
            .await
            .json(),
        3
    );
    let four = json!([good(), good(), good(), good()]);
    post(&service, "/test/batch", four.to_string())
        .await
        .problem(422);
    post(&service, "/test/batch", "{}").await.problem(422);
}

#[tokio::test]
async fn queries_and_paths_are_read_as_strictly() {
    let service = test_service(&[]);
    let path = "/test/query?text=a%20b&block=5&percentage=1e1&at=2026-12-01T00:00:00%2B01:00&block=7&flag=true";
    let read = call(&service, "GET", path, None).await.json();
    assert_eq!(read["text"], "a b");
    assert_eq!(read["block"], 7);
    assert_eq!(read["at"], "2026-11-30T23:00:00Z");
    assert_eq!(read["flag"], true);
    for (query, fields) in [
        ("", vec!["text", "block", "percentage"]),
        ("text=&block=1&percentage=1", vec!["text"]),
        ("text=a%00b&block=1&percentage=1", vec!["text"]),
        (
            "text=a&block=9223372036854775808&percentage=1",
            vec!["block"],
        ),
        ("text=a&block=-1&percentage=1", vec!["block"]),
        ("text=a&block=&percentage=1", vec!["block"]),
        ("text=a&block=1&percentage=nan", vec!["percentage"]),
        ("text=%ff&block=1&percentage=1", vec!["text"]),
        ("text=%ed%a0%80&block=1&percentage=1", vec!["text"]),
        ("text=%zz&block=1&percentage=1", vec!["text"]),
    ] {
        let answer = call(&service, "GET", &format!("/test/query?{query}"), None).await;
        answer.problem(422);
        assert_eq!(answer.fields(), fields, "{query}");
    }
    let found = call(
        &service,
        "GET",
        "/test/path/cb9f60050980421e945bc8a183c55e90",
        None,
    )
    .await;
    assert_eq!(found.status, 200);
    for id in ["nope", "%00", "%ff", "a%20b", "%2e", "%zz", "100%", "%4"] {
        call(&service, "GET", &format!("/test/path/{id}"), None)
            .await
            .problem(422);
    }
}

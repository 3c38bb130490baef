//! Every failed answer has one form.

use axum::{
    body::Body,
    http::{Request, header},
};

use crate::support::{call, post, send, test_service};

#[tokio::test]
async fn an_unknown_path_gets_404_and_an_unknown_method_405_with_allow() {
    let service = test_service(&[]);
    for path in [
        "/",
        "/nothing",
        "/test",
        "/test/ok/",
        "/%ff",
        "//test/ok",
        "/test/../test/ok",
    ] {
        assert_eq!(
            call(&service, "GET", path, None).await.problem(404),
            "unknown_path",
            "{path}"
        );
    }
    let answer = call(&service, "DELETE", "/test/ok", None).await;
    assert_eq!(answer.problem(405), "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    let answer = call(&service, "GET", "/test/body", None).await;
    answer.problem(405);
    assert_eq!(answer.header("allow"), Some("POST"));
    call(&service, "BREW", "/test/ok", None).await.problem(405);
}

#[tokio::test]
async fn a_panic_is_answered_and_tells_nothing() {
    let service = test_service(&[]);
    let answer = call(&service, "GET", "/test/panic", None).await;
    assert_eq!(answer.problem(500), "internal");
    assert!(!answer.text.contains("s3cret"), "{answer:?}");
    assert_eq!(call(&service, "GET", "/test/ok", None).await.status, 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered() {
    let vars = [
        ("UTXOIQ_STORE_SERVER__REQUEST_TIMEOUT_SECONDS", "1"),
        (
            "UTXOIQ_STORE_DATABASE__STATEMENT_TIMEOUT_MILLISECONDS",
            "900",
        ),
        ("UTXOIQ_STORE_DATABASE__LOCK_TIMEOUT_MILLISECONDS", "900"),
    ];
    let answer = call(&test_service(&vars), "GET", "/test/slow", None).await;
    assert_eq!(answer.problem(503), "timeout");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_request_beyond_those_in_flight_is_turned_away() {
    let service = test_service(&[("UTXOIQ_STORE_SERVER__MAX_REQUESTS_IN_FLIGHT", "2")]);
    let slow = || call(&service, "GET", "/test/slow", None);
    let third = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        call(&service, "GET", "/test/ok", None).await
    };
    let (first, second, third) = tokio::join!(slow(), slow(), third);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    assert_eq!(third.problem(503), "overloaded");
    assert!(third.header("retry-after").is_some());
    assert_eq!(call(&service, "GET", "/test/ok", None).await.status, 200);
}

#[tokio::test]
async fn a_body_up_to_the_limit_is_read_and_a_larger_one_gets_413() {
    let service = test_service(&[("UTXOIQ_STORE_SERVER__MAX_BODY_BYTES", "1024")]);
    for (length, too_large) in [
        (1_023, false),
        (1_024, false),
        (1_025, true),
        (1_000_000, true),
    ] {
        let answer = post(
            &service,
            "/test/batch",
            format!("[]{}", " ".repeat(length - 2)),
        )
        .await;
        if too_large {
            assert_eq!(answer.problem(413), "too_large", "{length}");
        } else {
            assert_eq!(answer.status, 200, "{length}");
        }
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_replaced() {
    let service = test_service(&[]);
    let with_id = async |id: &[u8], path: &str| {
        let request = Request::get(path)
            .header("x-request-id", id)
            .body(Body::empty())
            .unwrap();
        let answer = send(&service, request).await;
        answer.assert_common_headers();
        answer.header("x-request-id").unwrap().to_owned()
    };
    let longest = "x".repeat(64);
    for good in ["a", "trace-1_2.3", longest.as_str()] {
        assert_eq!(with_id(good.as_bytes(), "/test/ok").await, good);
        assert_eq!(with_id(good.as_bytes(), "/nothing").await, good);
    }
    let too_long = "x".repeat(65);
    for bad in [
        b"".as_slice(),
        b"a b",
        b"a\tb",
        b"<x>",
        b"\xff",
        too_long.as_bytes(),
    ] {
        let id = with_id(bad, "/test/ok").await;
        assert_eq!(id.len(), 36, "{id}");
    }
    let answer = call(&service, "GET", "/test/ok", None).await;
    assert_eq!(
        answer.header(header::CONTENT_TYPE.as_str()),
        Some("application/json")
    );
    assert_ne!(
        answer.header("x-request-id"),
        call(&service, "GET", "/test/ok", None)
            .await
            .header("x-request-id")
    );
}

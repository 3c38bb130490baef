//! Logging in and out, and what other sites can do about it.

use utxoiq_store::{
    clock::{Clock as _, SystemClock},
    token::{Scope, Tokens},
};

use super::Browser;
use crate::{
    access::{People, pool},
    live::{Live, answer, encode},
    tokens::token_named,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_logs_in_and_leads_back_to_the_page_that_was_asked_for() {
    let live = Live::new(&[]).await;
    let mut browser = Browser::new();
    let asked = browser
        .get(&live, "/dashboard/backfill?state=running")
        .await;
    assert_eq!(
        asked.leads_to(),
        "/login?to=%2Fdashboard%2Fbackfill%3Fstate%3Drunning"
    );
    let form = browser.get(&live, asked.leads_to()).await;
    assert!(
        form.page(200)
            .contains("value=\"/dashboard/backfill?state=running\"")
    );
    let fields = format!(
        "token={}&to={}",
        live.token,
        encode("/dashboard/backfill?state=running")
    );
    let logged_in = browser.post(&live, "/login", &fields).await;
    assert_eq!(logged_in.leads_to(), "/dashboard/backfill?state=running");
    let cookie = logged_in.header("set-cookie").unwrap();
    let (pair, flags) = cookie.split_once("; ").unwrap();
    assert_eq!(pair, format!("utxoiq_store={}", live.token));
    assert_eq!(flags, "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
    browser.cookie = Some(pair.to_owned());
    let page = browser.get(&live, logged_in.leads_to()).await;
    assert!(page.page(200).contains("<h1>Backfill</h1>"));
    assert!(!page.text.contains(&live.token) && !logged_in.text.contains(&live.token));
    let out = browser.post(&live, "/logout", "").await;
    assert_eq!(out.leads_to(), "/login?why=left");
    assert!(
        out.header("set-cookie")
            .unwrap()
            .starts_with("utxoiq_store=; Path=/; Max-Age=0;")
    );
    assert!(
        browser
            .get(&live, out.leads_to())
            .await
            .page(200)
            .contains("You are logged out.")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_tls_the_cookie_is_secure_and_bound_to_the_host() {
    let live = Live::new(&[("UTXOIQ_STORE_SERVER__BEHIND_TLS", "true")]).await;
    let mut browser = Browser::new();
    let logged_in = browser
        .post(&live, "/login", &format!("token={}", live.token))
        .await;
    let cookie = logged_in.header("set-cookie").unwrap();
    let (pair, flags) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-utxoiq_store=uqs_"), "{pair}");
    assert_eq!(
        flags,
        "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"
    );
    // One without the prefix, which a plain connection could have set, does not count.
    browser.cookie = Some(format!("utxoiq_store={}", live.token));
    assert!(
        browser
            .get(&live, "/")
            .await
            .leads_to()
            .starts_with("/login")
    );
    browser.cookie = Some(pair.to_owned());
    browser.get(&live, "/").await.page(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_user_logs_in_with_the_identity_providers_token() {
    let people = People::new().await;
    let live = Live::new(&people.settings()).await;
    let token = people.token("user 1", &[crate::access::role(Scope::BackfillRead)]);
    let mut browser = Browser::new();
    let logged_in = browser
        .post(&live, "/login", &format!("token={}", encode(&token)))
        .await;
    assert_eq!(logged_in.leads_to(), "/");
    browser.cookie = logged_in
        .header("set-cookie")
        .unwrap()
        .split("; ")
        .next()
        .map(str::to_owned);
    let page = browser.get(&live, "/").await;
    assert!(
        page.page(200).contains("<b>user 1</b>") && page.text.contains("/dashboard/backfill\"")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_does_not_log_in_and_is_not_shown_again() {
    let live = Live::new(&[("UTXOIQ_STORE_RATE_LIMIT__FAILED_LOGINS_PER_MINUTE", "3")]).await;
    let browser = Browser::new();
    for wrong in [
        "",
        "x",
        "uqs_no",
        "a%3Bb",
        "%3Cscript%3E",
        "%0d%0aSet-Cookie%3A+a%3Db",
    ] {
        let refused = browser
            .post(&live, "/login", &format!("token={wrong}"))
            .await;
        let page = refused.page(401);
        assert!(
            page.contains("This token does not let in") && !page.contains("uqs_no"),
            "{page}"
        );
        assert!(refused.header("set-cookie").is_none());
    }
    let form = format!("uqs_{}_{}", "0".repeat(32), "A".repeat(43));
    for _ in 0..2 {
        browser
            .post(&live, "/login", &format!("token={form}"))
            .await
            .page(401);
    }
    let refused = browser
        .post(&live, "/login", &format!("token={form}"))
        .await;
    assert!(
        refused
            .page(429)
            .contains("too many requests with tokens that are not valid")
    );
    let long = browser
        .post(&live, "/login", &format!("token={}", "x".repeat(5_000)))
        .await;
    long.page(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_in_leads_to_pages_of_this_host_only() {
    let live = Live::new(&[]).await;
    let browser = Browser::new();
    for evil in [
        "//evil",
        "/\\evil",
        "https://evil/",
        "\\\\evil",
        "/\t/evil",
        "javascript:alert(1)",
        "/x\r\ny",
    ] {
        let fields = format!("token={}&to={}", live.token, encode(evil));
        let logged_in = browser.post(&live, "/login", &fields).await;
        assert_eq!(logged_in.leads_to(), "/", "{evil:?}");
        let form = browser
            .get(&live, &format!("/login?to={}", encode(evil)))
            .await;
        assert!(
            form.page(200).contains("name=\"to\" value=\"/\""),
            "{evil:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_site_logs_in_or_acts() {
    let live = Live::new(&[]).await;
    let browser = Browser::with(&live.token);
    let job = live
        .ok("POST /start", &[], crate::live::start("kept", 0, 9))
        .await;
    let target = format!("/dashboard/backfill/{}/pause", job["id"].as_str().unwrap());
    let sites: [&[(&str, &str)]; 5] = [
        &[],
        &[("sec-fetch-site", "cross-site")],
        &[
            ("sec-fetch-site", "same-site"),
            ("origin", "http://127.0.0.1"),
        ],
        &[("origin", "http://evil")],
        &[("origin", "null")],
    ];
    for headers in sites {
        for (path, form) in [
            (target.as_str(), String::new()),
            ("/login", format!("token={}", live.token)),
            ("/logout", String::new()),
        ] {
            let url = format!("http://{}{path}", live.address);
            let mut request = browser
                .client
                .post(url)
                .header("cookie", browser.cookie.clone().unwrap());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form);
            let refused = answer(request).await;
            assert!(
                refused
                    .page(403)
                    .contains("was not sent by a page of this dashboard"),
                "{path} {headers:?}"
            );
            assert!(refused.header("set-cookie").is_none());
        }
    }
    let after = live
        .ok(
            "GET /{id}",
            &[job["id"].as_str().unwrap()],
            serde_json::Value::Null,
        )
        .await;
    assert_eq!(after["status"], "running");
    // A browser that says nothing of the site says where the page is from.
    let url = format!("http://{}{target}", live.address);
    let own = browser
        .client
        .post(url)
        .header("cookie", browser.cookie.clone().unwrap());
    let own = answer(own.header("origin", format!("http://{}", live.address))).await;
    assert!(own.leads_to().ends_with("?done=paused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_is_no_credential_of_the_api() {
    let live = Live::new(&[]).await;
    let browser = Browser::with(&live.token);
    for path in [
        "/api/v1/whoami",
        "/metrics",
        "/api/v1/monitoring/backfill/status",
    ] {
        assert_eq!(browser.get(&live, path).await.problem(401), "unauthorized");
    }
    // And a header is none of the dashboard: what a page may is what its visitor logged in with.
    let bearer = answer(
        Browser::new()
            .ask(&live, "get", "/")
            .bearer_auth(&live.token),
    )
    .await;
    assert!(bearer.leads_to().starts_with("/login"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_revoked_ends_the_session_and_is_told() {
    let live = Live::new(&[("UTXOIQ_STORE_SERVER__TOKEN_CACHE_MILLISECONDS", "0")]).await;
    let browser = Browser::with(&token_named(&live.db, "short", &[Scope::BackfillRead]).await);
    browser.get(&live, "/dashboard/backfill").await.page(200);
    Tokens::new(&pool(&live.db))
        .revoke("short", SystemClock.now())
        .await
        .unwrap();
    let gone = browser.get(&live, "/dashboard/backfill").await;
    assert_eq!(
        gone.leads_to(),
        "/login?to=%2Fdashboard%2Fbackfill&why=ended"
    );
    assert!(gone.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(
        browser
            .get(&live, gone.leads_to())
            .await
            .page(200)
            .contains("expired or was revoked")
    );
    let live_part = browser.get(&live, "/dashboard/live/backfill").await;
    assert_eq!(live_part.problem(401), "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_link_of_another_site_comes_to_the_page_by_one_of_ours() {
    let live = Live::new(&[]).await;
    let client = Browser::new().client;
    let from_elsewhere = client
        .get(format!(
            "http://{}/dashboard/alerts?state=all",
            live.address
        ))
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-dest", "document");
    let page = answer(from_elsewhere).await;
    assert_eq!(page.status, 200);
    assert!(
        page.text
            .contains("content=\"0;url=/dashboard/alerts?state=all\""),
        "{}",
        page.text
    );
    assert!(!page.text.contains("Logged in as"));
}

//! The dashboard in a real browser, over the real service: every page opened and every action clicked, in both colour schemes,
//! on a desk and on a phone. Whatever the browser complains about fails the test, and so does a request to anywhere else.
//!
//! With `UTXOIQ_SCREENSHOTS` set, pictures of all pages are written below `target/screenshots`.

mod driver;

use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use utxoiq_store::clock::{Clock as _, SystemClock};

use crate::support::Service;
use driver::{Browser, Look, Screen};

/// The pages, by the name of their picture. `{job}` is a job's id.
const PAGES: &[(&str, &str)] = &[
    ("overview", "/"),
    ("criteria", "/dashboard/criteria"),
    ("backfill", "/dashboard/backfill"),
    ("job", "/dashboard/backfill/{job}"),
    ("feedback", "/dashboard/feedback?min_ratings=1"),
    (
        "insight",
        "/dashboard/feedback/insight?insight_id=fee-spike",
    ),
    ("flagged", "/dashboard/feedback/flagged"),
    ("search", "/dashboard/feedback/search"),
    ("metrics", "/dashboard/metrics?range=24h"),
    ("cache", "/dashboard/cache"),
    ("pool", "/dashboard/pool"),
    ("schedule", "/dashboard/schedule"),
    ("task", "/dashboard/schedule/fail_silent_backfills"),
    ("alerts", "/dashboard/alerts?state=all"),
    ("storage", "/dashboard/storage"),
    ("backups", "/dashboard/backups"),
    ("audit", "/dashboard/audit"),
    ("audit-verified", "/dashboard/audit/verify"),
];

fn post_to(service: &Service, path: &str) -> RequestBuilder {
    Client::new()
        .post(service.url(path))
        .bearer_auth(service.token())
}

fn get_from(service: &Service, path: &str) -> RequestBuilder {
    service.get(path).bearer_auth(service.token())
}

/// Something on every page; gives a job's id.
async fn lay_data(service: &Service) -> String {
    let post = async |path: &str, body: Value| {
        let request = post_to(service, path).json(&body);
        let answer = request.send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "{path}: {}",
            answer.text().await.unwrap()
        );
        answer.json::<Value>().await.unwrap()
    };
    let job = json!({"job_type": "blocks", "start_block": 800_000, "end_block": 800_999, "created_by": "mara"});
    let job = post("/api/v1/monitoring/backfill/start", job).await;
    let id = job["id"].as_str().unwrap().to_owned();
    let progress = json!({"current_block": 800_400, "progress_percentage": 40});
    post(
        &format!("/api/v1/monitoring/backfill/progress?job_id={id}"),
        progress,
    )
    .await;
    for (user, rating) in (1..=5).map(|n| (format!("user {n}"), n)) {
        let rate = json!({"insight_id": "fee-spike", "rating": rating, "comment": "Seen <b>twice</b> & kept."});
        let flag = json!({"insight_id": "fee-spike", "flag_type": "spam", "flag_reason": "the same again"});
        for (call, body) in [("rate", rate), ("flag", flag)] {
            let request = post_to(service, &format!("/api/v1/feedback/{call}"));
            let answer = request.header("x-user-id", &user).json(&body).send().await;
            assert_eq!(answer.unwrap().status(), 200);
        }
    }
    let now = SystemClock.now();
    let samples: Vec<Value> = (0..600_i64)
        .map(|n| {
            let at = now - chrono::TimeDelta::minutes(2 * n);
            let value = 100.0 + 40.0 * (n as f64 / 40.0).sin();
            json!({"service_name": "web-api", "metric_type": "latency", "metric_value": value, "unit": "ms", "timestamp": at})
        })
        .collect();
    post("/api/v1/monitoring/metrics/batch", samples.into()).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_shown_on_every_screen_without_a_complaint() {
    let service = Service::start(&[]).await;
    let job = lay_data(&service).await;
    for screen in [Screen::Desk, Screen::Phone] {
        for look in [Look::Light, Look::Dark] {
            let (service, job) = (&service, &job);
            Browser::run(screen, look, true, async |browser| {
                browser.open(&service.url("/login")).await;
                browser.picture("login").await;
                browser.log_in(service).await;
                for (name, path) in PAGES {
                    let path = path.replace("{job}", job);
                    browser.open(&service.url(&path)).await;
                    browser.is_a_page(name).await;
                    browser.picture(name).await;
                }
                browser.asked_only(&service.url("")).await;
                browser.has_no_complaint().await;
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_is_done_by_a_click_and_told() {
    let service = Service::start(&[]).await;
    let job = lay_data(&service).await;
    let (service, job) = (&service, &job);
    Browser::run(Screen::Desk, Look::Light, true, async |browser| {
        let page = service.url(&format!("/dashboard/backfill/{job}"));
        // The log-in leads to the page that was asked for.
        browser.open(&page).await;
        browser.log_in_here(service.token()).await;
        browser.arrives(&page, Duration::from_secs(5)).await;
        for (action, told) in [
            ("Pause", "The job is paused."),
            ("Resume", "The job goes on."),
        ] {
            browser.click(&format!("//button[text()='{action}']")).await;
            browser.sees(told, Duration::from_secs(5)).await;
        }
        browser.click("//summary[contains(., 'Cancel')]").await;
        browser.click("//button[text()='Yes, cancel']").await;
        browser
            .sees("The job is cancelled for good.", Duration::from_secs(5))
            .await;
        let state = get_from(service, &format!("/api/v1/monitoring/backfill/{job}/state"))
            .send()
            .await;
        assert_eq!(
            state.unwrap().json::<Value>().await.unwrap()["state"],
            "cancelled"
        );

        browser
            .open(&service.url("/dashboard/schedule/fail_silent_backfills"))
            .await;
        browser.click("//summary[contains(., 'Run')]").await;
        browser.click("//button[text()='Yes, run']").await;
        browser.sees("The task ran.", Duration::from_secs(10)).await;
        browser.sees("by hand", Duration::from_secs(5)).await;

        alert(service).await;
        browser.open(&service.url("/dashboard/alerts")).await;
        browser.write("//input[@name='note']", "on it").await;
        browser.click("//button[text()='Take it']").await;
        browser
            .sees("The alert is yours.", Duration::from_secs(5))
            .await;
        browser.sees("on it", Duration::from_secs(5)).await;

        // Conditions of lists, and the ways from one page to the next.
        browser.open(&service.url("/dashboard/backfill")).await;
        browser.click("//a[text()='Failed or cancelled']").await;
        browser.sees("cancelled", Duration::from_secs(5)).await;
        browser.open(&service.url("/dashboard/feedback")).await;
        browser
            .write("//input[@name='insight_id']", "fee-spike")
            .await;
        browser.click("//button[text()='Show the insight']").await;
        browser
            .sees("Seen <b>twice</b> & kept.", Duration::from_secs(5))
            .await;
        browser.open(&service.url("/dashboard/metrics")).await;
        browser
            .click("//select[@name='range']/option[@value='30d']")
            .await;
        browser.click("//button[text()='Show']").await;
        browser.arrives("range=30d", Duration::from_secs(5)).await;
        browser.click("//summary[text()='Figures']").await;
        browser.click("//aside//a[text()='Audit']").await;
        browser.click("//a[text()='Verify now']").await;
        browser
            .sees("the chain holds", Duration::from_secs(10))
            .await;

        browser.click("//aside//button[text()='Log out']").await;
        browser
            .sees("You are logged out.", Duration::from_secs(5))
            .await;
        browser.open(&page).await;
        browser.arrives("/login?to=", Duration::from_secs(5)).await;
        browser.asked_only(&service.url("")).await;
        browser.has_no_complaint().await;
    })
    .await;
}

/// Waits until there is an alert: that of backups that are not configured.
async fn alert(service: &Service) {
    let began = Instant::now();
    loop {
        let answer = get_from(service, "/api/v1/monitoring/alerts")
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        if answer["alerts"]
            .as_array()
            .is_some_and(|alerts| !alerts.is_empty())
        {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_mins(3),
            "no alert comes: {answer}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_is_seen_without_a_reload_and_the_keyboard_reaches_everything() {
    let service = Service::start(&[]).await;
    let job = lay_data(&service).await;
    let (service, job) = (&service, &job);
    Browser::run(Screen::Desk, Look::Dark, true, async |browser| {
        browser
            .open(&service.url(&format!("/dashboard/backfill/{job}")))
            .await;
        browser.log_in_here(service.token()).await;
        browser.sees("Live", Duration::from_secs(5)).await;
        browser.script("window.isTheSame = true").await;
        let progress = json!({"current_block": 800_900, "progress_percentage": 90});
        let path = format!("/api/v1/monitoring/backfill/progress?job_id={job}");
        let began = Instant::now();
        post_to(service, &path)
            .json(&progress)
            .send()
            .await
            .unwrap();
        browser
            .sees("900 of 1\u{202f}000", Duration::from_secs(3))
            .await;
        println!("a change was seen after {} ms", began.elapsed().as_millis());
        assert_eq!(browser.script("return window.isTheSame").await, true);

        // The first stop leads past the menu.
        browser.press_tab().await;
        assert_eq!(browser.focused().await, "Skip to the content");
        let mut seen = Vec::new();
        while browser.focused().await != "Pause" {
            seen.push(browser.focused().await);
            assert!(seen.len() < 60, "the keyboard does not reach it: {seen:?}");
            browser.press_tab().await;
        }
        assert!(seen.iter().any(|stop| stop == "Metrics"), "{seen:?}");
        // What has the focus keeps it while the page changes below it.
        let progress = json!({"current_block": 800_950, "progress_percentage": 95});
        post_to(service, &path)
            .json(&progress)
            .send()
            .await
            .unwrap();
        browser
            .sees("950 of 1\u{202f}000", Duration::from_secs(3))
            .await;
        assert_eq!(browser.focused().await, "Pause");
        browser.press_enter().await;
        browser
            .sees("The job is paused.", Duration::from_secs(5))
            .await;
        browser.has_no_complaint().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_script_pages_and_actions_work() {
    let service = Service::start(&[]).await;
    let job = lay_data(&service).await;
    let (service, job) = (&service, &job);
    Browser::run(Screen::Phone, Look::Light, false, async |browser| {
        browser
            .open(&service.url(&format!("/dashboard/backfill/{job}")))
            .await;
        browser.log_in_here(service.token()).await;
        browser.click("//summary[contains(., 'Cancel')]").await;
        browser.click("//button[text()='Yes, cancel']").await;
        browser
            .sees("The job is cancelled for good.", Duration::from_secs(5))
            .await;
        browser.click("//summary[text()='Menu']").await;
        browser.click("//header//a[text()='Pool']").await;
        browser
            .sees("Connection pool", Duration::from_secs(5))
            .await;
    })
    .await;
}

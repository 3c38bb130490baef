//! What is on pages: everything as text, and a clear word for rubbish.

use serde_json::json;

use super::Browser;
use crate::live::{Live, answer, encode};

const MARKUP: &str = "<script>alert(1)</script>";

async fn rate(live: &Live, insight: &str, user: &str, comment: &str) {
    for (call, body) in [
        (
            "rate",
            json!({"insight_id": insight, "rating": 4, "comment": comment}),
        ),
        (
            "flag",
            json!({"insight_id": insight, "flag_type": "spam", "flag_reason": comment}),
        ),
    ] {
        let request = live.authorized("post", &format!("/api/v1/feedback/{call}"));
        let rated = answer(request.header("x-user-id", user).json(&body)).await;
        assert_eq!(rated.status, 200, "{rated:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_is_text_on_every_page() {
    let live = Live::new(&[]).await;
    let browser = Browser::with(&live.token);
    let insight = "\"><img src=x onerror='alert(1)'> & 100%";
    rate(&live, insight, "<b>user</b>", MARKUP).await;
    let job = json!({"job_type": "<i>\"type\"</i>", "start_block": 0, "end_block": 9, "created_by": MARKUP});
    let job = live.ok("POST /start", &[], job).await;
    let id = job["id"].as_str().unwrap();
    live.ok("POST /{id}/fail", &[id], json!({"error_message": MARKUP}))
        .await;
    let sample = json!([{"service_name": "<u>service</u>", "metric_type": "\"'><a>", "metric_value": 1, "unit": "<s>"}]);
    let reported = answer(
        live.authorized("post", "/api/v1/monitoring/metrics/batch")
            .json(&sample),
    )
    .await;
    assert_eq!(reported.status, 200, "{reported:?}");
    let insight_page = format!("/dashboard/feedback/insight?insight_id={}", encode(insight));
    let pages = [
        ("/", "&lt;"),
        ("/dashboard/backfill", "&lt;i&gt;&quot;type&quot;&lt;/i&gt;"),
        (&format!("/dashboard/backfill/{id}"), "&lt;script&gt;"),
        (
            "/dashboard/feedback?min_ratings=1",
            "onerror='alert(1)'&gt; &amp; 100%",
        ),
        (&insight_page, "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("/dashboard/feedback/flagged", "&lt;b&gt;user&lt;/b&gt;"),
        ("/dashboard/feedback/search", "&lt;script&gt;"),
        ("/dashboard/metrics", "&lt;u&gt;service&lt;/u&gt;"),
    ];
    for (page, escaped) in pages {
        let shown = browser.get(&live, page).await;
        let text = shown.page(200);
        if page != "/" {
            assert!(text.contains(escaped), "{page}: {text}");
        }
        for raw in ["<script>", "<img", "<i>", "<u>", "<s>", "<b>user", "\"'>"] {
            assert!(!text.contains(raw), "{raw} on {page}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_in_an_address_is_refused_in_the_form_of_a_page() {
    let live = Live::new(&[]).await;
    let browser = Browser::with(&live.token);
    let refused = [
        ("/dashboard/backfill?state=asleep", 422, "state"),
        ("/dashboard/backfill?offset=-1", 422, "offset"),
        (
            "/dashboard/backfill?offset=99999999999999999999",
            422,
            "offset",
        ),
        ("/dashboard/backfill?type=%ff", 422, "type"),
        ("/dashboard/backfill?type=a%00b", 422, "type"),
        ("/dashboard/backfill/no-id", 422, "job_id"),
        (
            "/dashboard/backfill/00000000-0000-0000-0000-000000000000",
            404,
            "no backfill job",
        ),
        ("/dashboard/feedback?days=7", 422, "days"),
        ("/dashboard/feedback?min_ratings=0", 422, "min_ratings"),
        ("/dashboard/feedback/insight", 422, "insight_id"),
        ("/dashboard/feedback/search?rating=6", 422, "rating"),
        ("/dashboard/feedback/search?cursor=x", 422, "cursor"),
        ("/dashboard/feedback/search?from=yesterday", 422, "from"),
        (
            "/dashboard/feedback/search?from=2026-02-01&to=2026-01-01",
            400,
            "ends before it begins",
        ),
        ("/dashboard/metrics?range=1m", 422, "range"),
        ("/dashboard/metrics?service=a%0Ab", 422, "service"),
        ("/dashboard/audit?action=x", 422, "action"),
        ("/dashboard/audit?cursor=%3Cb%3E", 422, "cursor"),
        ("/dashboard/audit?from=0000-00-00", 422, "from"),
        ("/dashboard/storage?dataset=x", 422, "dataset"),
        ("/dashboard/storage?day=x", 422, "day"),
        ("/dashboard/schedule/none", 404, "no task"),
        ("/dashboard/alerts?state=x", 422, "state"),
        ("/dashboard/criteria?state=x", 422, "state"),
        ("/dashboard/nowhere", 404, "no such page"),
    ];
    for (page, status, word) in refused {
        let told = browser.get(&live, page).await;
        assert!(told.page(status).contains(word), "{page}: {}", told.text);
    }
    for extreme in ["0001-01-01", "9999-12-31", "262142-12-31", "-262143-01-01"] {
        for page in [
            "feedback/search?from=",
            "feedback/search?to=",
            "audit?from=",
            "audit?to=",
            "storage?day=",
        ] {
            let shown = browser
                .get(&live, &format!("/dashboard/{page}{extreme}"))
                .await;
            assert!(
                matches!(shown.status.as_u16(), 200 | 422),
                "{page}{extreme}: {shown:?}"
            );
        }
    }
    // Fields that a form left empty are no conditions.
    for empty in [
        "backfill?state=&type=",
        "feedback/search?user=&rating=&from=",
        "audit?action=&cursor=",
        "metrics?service=&range=",
    ] {
        browser
            .get(&live, &format!("/dashboard/{empty}"))
            .await
            .page(200);
    }
    // And nobody's words are told as those of the dashboard.
    let told = browser.get(&live, "/?done=%3Cb%3Ehacked").await;
    assert!(!told.page(200).contains("<b>hacked") && !told.text.contains("note good"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_done_once_and_told_on_the_page_it_leads_to() {
    let live = Live::new(&[]).await;
    let browser = Browser::with(&live.token);
    let job = live
        .ok("POST /start", &[], crate::live::start("steered", 0, 9))
        .await;
    let address = format!("/dashboard/backfill/{}", job["id"].as_str().unwrap());
    for (action, status) in [
        ("pause", "paused"),
        ("resume", "running"),
        ("cancel", "cancelled"),
    ] {
        let done = browser
            .post(&live, &format!("{address}/{action}"), "")
            .await;
        let told = browser.get(&live, done.leads_to()).await;
        let page = told.page(200);
        assert!(
            page.contains("note good") && page.contains(&format!("The job is {status}")),
            "{page}"
        );
    }
    let late = browser.post(&live, &format!("{address}/resume"), "").await;
    assert!(late.page(409).contains("job_final"));
    let ran = browser
        .post(&live, "/dashboard/schedule/fail_silent_backfills/run", "")
        .await;
    assert_eq!(
        ran.leads_to(),
        "/dashboard/schedule/fail_silent_backfills?done=ran"
    );
    assert!(
        browser
            .get(&live, ran.leads_to())
            .await
            .page(200)
            .contains("by hand")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pages_load_is_kept_for_ever_under_the_hash_of_its_content() {
    let live = Live::new(&[]).await;
    let page = Browser::new().get(&live, "/login").await;
    for name in ["style.css", "script.js", "icon.svg"] {
        let end = page.text.find(name).unwrap() + name.len();
        let start = page.text[..end].rfind('"').unwrap() + 1;
        let loaded = Browser::new().get(&live, &page.text[start..end]).await;
        assert_eq!(
            loaded.header("cache-control"),
            Some("public, max-age=31536000, immutable")
        );
        let old = Browser::new()
            .get(&live, &format!("/dashboard/asset/old/{name}"))
            .await;
        assert_eq!(
            (old.status.as_u16(), old.header("cache-control")),
            (200, Some("no-store"))
        );
    }
}

//! Feedback over HTTP: who may say and read what, what is counted, paged and exported.

mod export;
mod pages;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use utxoiq_store::token::Scope;

use crate::{
    live::{Live, answer, encode},
    support::Answer,
    tokens::token_named,
};

/// A caller: a token, and the user it names.
struct Caller<'a> {
    live: &'a Live,
    token: String,
    user: Option<String>,
}

impl<'a> Caller<'a> {
    /// A caller with a token of its own; its user is `owner of {name}`.
    async fn new(live: &'a Live, name: &str, scopes: &[Scope]) -> Self {
        Self {
            live,
            token: token_named(&live.db, name, scopes).await,
            user: None,
        }
    }

    /// The token with all scopes, for a user.
    fn of(live: &'a Live, user: &str) -> Self {
        Self {
            live,
            token: live.token.clone(),
            user: Some(user.to_owned()),
        }
    }

    /// The same token, for another user.
    fn naming(&self, user: &str) -> Self {
        Self {
            live: self.live,
            token: self.token.clone(),
            user: Some(user.to_owned()),
        }
    }

    fn request(&self, method: &str, call: &str) -> reqwest::RequestBuilder {
        let target = format!("/api/v1/feedback/{call}");
        let request = self.live.request(method, &target).bearer_auth(&self.token);
        match &self.user {
            Some(user) => request.header("x-user-id", user),
            None => request,
        }
    }

    async fn get(&self, call: &str) -> Answer {
        answer(self.request("GET", call)).await
    }

    /// As [`get`](Self::get), answered 200.
    async fn read(&self, call: &str) -> Value {
        let answer = self.get(call).await;
        assert_eq!(answer.status, 200, "{call}: {answer:?}");
        answer.assert_common_headers();
        answer.json()
    }

    async fn post(&self, call: &str, body: Value) -> Answer {
        answer(self.request("POST", call).json(&body)).await
    }

    /// As [`post`](Self::post), answered 200, with a version.
    async fn write(&self, call: &str, body: Value) -> Value {
        let answer = self.post(call, body).await;
        assert_eq!(answer.status, 200, "{call}: {answer:?}");
        let version = answer.header("store-version").unwrap();
        assert!(version.parse::<u64>().is_ok(), "{version}");
        answer.json()
    }

    async fn rate(&self, insight: &str, rating: i64) -> Value {
        let body = json!({"insight_id": insight, "rating": rating});
        self.write("rate", body).await
    }

    async fn comment(&self, insight: &str, comment: &str) -> Value {
        let body = json!({"insight_id": insight, "comment": comment});
        self.write("comment", body).await
    }

    /// That the answer is 403 for want of a scope.
    async fn lacks(&self, scope: Scope, call: &str) {
        let refused = self.get(call).await;
        assert_eq!(refused.problem(403), "missing_scope", "{call}: {refused:?}");
        let body = refused.json();
        assert_eq!(body["scope"], scope.as_str(), "{call}");
        assert!(body["detail"].as_str().unwrap().contains(scope.as_str()));
    }
}

/// What a list is of, by a field of its items.
fn each<'a>(answer: &'a Value, list: &str, field: &str) -> Vec<&'a str> {
    let items = answer[list].as_array().unwrap().iter();
    items.map(|item| item[field].as_str().unwrap()).collect()
}

fn names(object: &Value) -> BTreeSet<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test]
async fn two_hundred_first_ratings_at_once_by_one_user_are_two_hundred_successes_and_one_row() {
    let live = Live::new(&[]).await;
    let user = Caller::of(&live, "eager");
    let all: Vec<_> = (0..200_i64)
        .map(|index| {
            let body = json!({"insight_id": "hot", "rating": index % 5 + 1});
            tokio::spawn(answer(user.request("POST", "rate").json(&body)))
        })
        .collect();
    let mut ids = BTreeSet::new();
    for (index, answered) in (0_i64..).zip(all) {
        let answer = answered.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let said = answer.json();
        assert_eq!(said["rating"], index % 5 + 1, "each its own answer");
        ids.insert(said["id"].to_string());
    }
    assert_eq!(ids.len(), 1);
    let admin = live.db.admin().await;
    let row = admin
        .query_one(
            "select count(*), max(rating)::bigint from insight_feedback",
            &[],
        )
        .await
        .unwrap();
    let (rows, rating): (i64, i64) = (row.get(0), row.get(1));
    assert_eq!(rows, 1);
    let stats = user.read("stats?insight_id=hot").await;
    assert_eq!(stats["total_ratings"], 1);
    assert_eq!(stats["rating_distribution"][rating.to_string()], 1);
    assert_eq!(stats["average_rating"].as_f64(), Some(rating as f64));
}

#[tokio::test]
async fn what_is_said_is_counted_kept_and_taken_back() {
    let live = Live::new(&[]).await;
    let user = Caller::of(&live, "ü 1");
    let said = user.rate("i", 4).await;
    assert_eq!(
        names(&said),
        "id insight_id user_id rating comment flag_type flag_reason created_at updated_at"
            .split(' ')
            .collect()
    );
    assert_eq!(
        (&said["user_id"], &said["insight_id"]),
        (&json!("ü 1"), &json!("i"))
    );
    // A rating without a comment keeps the one that is there; null is no comment.
    user.comment("i", " so so \n").await;
    let rated = json!({"insight_id": "i", "rating": "5", "comment": null, "user_id": "someone else", "more": [1]});
    let said = user.write("rate", rated).await;
    assert_eq!(
        (&said["rating"], &said["comment"]),
        (&json!(5), &json!(" so so \n"))
    );
    assert_eq!(said["user_id"], "ü 1");
    // A blank reason is none.
    let flag = |kind: &str, reason: Value| json!({"insight_id": "i", "flag_type": kind, "flag_reason": reason});
    let said = user
        .write("flag", flag("spam", json!("an advertisement")))
        .await;
    assert_eq!(
        (&said["flag_type"], &said["flag_reason"]),
        (&json!("spam"), &json!("an advertisement"))
    );
    for blank in [json!(""), json!(" \n"), Value::Null] {
        let said = user.write("flag", flag("other", blank)).await;
        assert_eq!(
            (&said["flag_type"], &said["flag_reason"]),
            (&json!("other"), &Value::Null)
        );
    }
    Caller::of(&live, "2").rate("i", 2).await;

    let stats = user.read("stats?insight_id=i").await;
    let expected = json!({
        "total_ratings": 2, "average_rating": 3.5,
        "rating_distribution": {"1": 0, "2": 1, "3": 0, "4": 0, "5": 1},
        "total_comments": 1, "total_flags": 1, "flag_types": {"other": 1},
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(stats[name], *value, "{name}");
        assert_eq!(stats["lifetime"][name], *value, "lifetime {name}");
    }

    let nothing = json!({"insight_id": "i", "fact": "comment"});
    let refused = Caller::of(&live, "2").post("withdraw", nothing).await;
    assert_eq!(refused.problem(404), "nothing_to_withdraw");
    assert_eq!(refused.header("store-version"), None);
    for fact in ["flag", "comment", "rating"] {
        let left = user
            .write("withdraw", json!({"insight_id": "i", "fact": fact}))
            .await;
        let field = if fact == "flag" { "flag_type" } else { fact };
        assert_eq!((&left["id"], &left[field]), (&said["id"], &Value::Null));
    }
    let stats = user.read("stats?insight_id=i").await;
    assert_eq!(
        (
            &stats["total_ratings"],
            &stats["total_comments"],
            &stats["total_flags"]
        ),
        (&json!(1), &json!(0), &json!(0))
    );
    assert_eq!(user.read("user").await["total"], 0);

    let history = user.read("history?insight_id=i").await;
    let acts = history["acts"].as_array().unwrap().iter();
    let acts: Vec<_> = acts
        .map(|act| {
            format!(
                "{} {}",
                act["action"].as_str().unwrap(),
                act["fact"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        acts[..3],
        ["withdrawn rating", "withdrawn comment", "withdrawn flag"]
    );
    assert_eq!(acts[acts.len() - 2..], ["given comment", "given rating"]);
    assert_eq!(
        (&history["user_id"], &history["next_cursor"]),
        (&json!("ü 1"), &Value::Null)
    );
    // What was said before and is gone now does not come back with a new fact.
    let anew = user.comment("i", "again").await;
    assert_eq!(
        (&anew["rating"], &anew["flag_type"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn what_others_said_is_read_with_its_scope_only() {
    use Scope::{ActAs, Admin, FeedbackRead, FeedbackReadAll, FeedbackWrite, StatsRead};
    let live = Live::new(&[]).await;
    let plain = [FeedbackRead, FeedbackWrite, StatsRead];
    let alice = Caller::new(&live, "alice", &plain).await;
    let bob = Caller::new(&live, "bob", &plain).await;
    let (of_alice, of_bob) = (encode("owner of alice"), encode("owner of bob"));
    alice.rate("i", 5).await;
    bob.comment("i", "by bob").await;
    bob.write(
        "flag",
        json!({"insight_id": "i", "flag_type": "spam", "flag_reason": "by bob"}),
    )
    .await;

    for call in [
        format!("search?user_id={of_bob}"),
        "search".to_owned(),
        "search?insight_id=i".to_owned(),
        format!("history?user_id={of_bob}"),
        format!("history?user_id={of_bob}&insight_id=i"),
        "flagged".to_owned(),
        "export".to_owned(),
        format!("export?user_id={of_alice}"),
    ] {
        alice.lacks(FeedbackReadAll, &call).await;
    }
    for call in ["user", "search?user_id=owner+of+bob", "history"] {
        alice.naming("owner of bob").lacks(ActAs, call).await;
    }
    // Nor can anyone speak for others.
    let mut forged = json!({"insight_id": "j", "rating": 1, "user_id": "owner of bob"});
    assert_eq!(
        alice.write("rate", forged.take()).await["user_id"],
        "owner of alice"
    );
    let refused = alice.naming("owner of bob");
    let refused = refused
        .post("rate", json!({"insight_id": "j", "rating": 1}))
        .await;
    assert_eq!(refused.problem(403), "missing_scope");

    let own = alice.read(&format!("search?user_id={of_alice}")).await;
    assert_eq!(
        (&own["total"], each(&own, "feedback", "user_id")),
        (&json!(2), vec!["owner of alice"; 2])
    );
    for call in ["history".to_owned(), format!("history?user_id={of_alice}")] {
        let own = alice.read(&call).await;
        assert_eq!(
            (&own["user_id"], own["acts"].as_array().unwrap().len()),
            (&json!("owner of alice"), 2)
        );
    }
    let own = alice.read("user").await;
    assert_eq!(
        (&own["user_id"], &own["total"]),
        (&json!("owner of alice"), &json!(2))
    );
    // Comments are for everyone who may read feedback, with their writers, as the contract has it.
    let comments = alice.read("comments?insight_id=i").await;
    assert_eq!(each(&comments, "comments", "user_id"), ["owner of bob"]);
    assert_eq!(
        names(&comments["comments"][0]),
        "id user_id comment created_at updated_at"
            .split(' ')
            .collect()
    );
    for call in ["stats?insight_id=i", "top", "trend"] {
        assert!(
            !alice.get(call).await.text.contains("owner of"),
            "{call} names a user"
        );
    }

    let reviewer = Caller::new(&live, "reviewer", &[FeedbackRead, FeedbackReadAll]).await;
    let admin = Caller::new(&live, "admin", &[Admin]).await;
    for all in [&reviewer, &admin] {
        assert_eq!(all.read("search").await["total"], 3);
        assert_eq!(
            all.read(&format!("search?user_id={of_bob}")).await["total"],
            1
        );
        let acts = all.read(&format!("history?user_id={of_bob}")).await;
        assert_eq!(each(&acts, "acts", "fact"), ["flag", "comment"]);
        let flagged = all.read("flagged").await;
        assert_eq!(
            flagged["insights"][0]["latest_reasons"][0]["reason"],
            "by bob"
        );
        assert!(all.get("export").await.text.contains("by bob"));
        all.naming("owner of bob").lacks(ActAs, "user").await;
    }
    // Who speaks for a user reads as that user.
    let proxy = Caller::new(&live, "proxy", &[FeedbackRead, ActAs]).await;
    proxy
        .lacks(FeedbackReadAll, &format!("search?user_id={of_bob}"))
        .await;
    let as_bob = proxy.naming("owner of bob");
    assert_eq!(
        as_bob.read(&format!("search?user_id={of_bob}")).await["total"],
        1
    );
    as_bob
        .lacks(FeedbackReadAll, &format!("search?user_id={of_alice}"))
        .await;
}

#[tokio::test]
async fn a_reader_that_sends_a_writes_version_back_sees_the_write() {
    let live = Live::new(&[]).await;
    for turn in 1..=20_i64 {
        let user = Caller::of(&live, &format!("u{turn}"));
        let written = user
            .post("rate", json!({"insight_id": "i", "rating": 3}))
            .await;
        let version = written.header("store-version").unwrap().to_owned();
        for call in ["stats?insight_id=i", "comments?insight_id=i", "user"] {
            let request = user.request("GET", call).header("store-version", &version);
            let answer = answer(request).await;
            assert_eq!(answer.status, 200, "{call}: {answer:?}");
            if call.starts_with("stats") {
                assert_eq!(answer.json()["total_ratings"], turn);
            }
        }
    }
    for (call, version) in [
        ("stats?insight_id=i", "soon"),
        ("user", "-1"),
        ("comments?insight_id=i", ""),
    ] {
        let caller = Caller::of(&live, "u1");
        let refused = answer(caller.request("GET", call).header("store-version", version)).await;
        assert_eq!(refused.problem(422), "invalid_input", "{call}");
        assert_eq!(refused.fields(), ["Store-Version"], "{call}");
    }
}

#[tokio::test]
async fn ids_with_control_characters_and_ranges_that_end_before_they_begin_are_refused() {
    let live = Live::new(&[]).await;
    let user = Caller::of(&live, "u");
    for id in ["a\nb", "\u{7}", "a\u{85}", "tab\there", "del\u{7f}"] {
        let refused = user
            .post("rate", json!({"insight_id": id, "rating": 1}))
            .await;
        assert_eq!(
            (refused.problem(422), refused.fields()),
            ("invalid_input".into(), vec!["insight_id".to_owned()])
        );
        for call in [
            "stats", "comments", "search", "history", "flagged", "trend", "export",
        ] {
            let refused = user.get(&format!("{call}?insight_id={}", encode(id))).await;
            assert_eq!(refused.problem(422), "invalid_input", "{call}");
            assert_eq!(refused.fields(), ["insight_id"], "{call}");
        }
    }
    // 100 characters are 100 characters in any script.
    let longest = "₿".repeat(100);
    user.rate(&longest, 1).await;
    assert_eq!(
        user.read(&format!("stats?insight_id={}", encode(&longest)))
            .await["total_ratings"],
        1
    );
    let comment = "😀".repeat(1_000);
    assert_eq!(
        user.comment("long", &comment).await["comment"],
        comment.as_str()
    );

    let times = "from=2026-02-01T00:00:00Z&to=2026-01-31T23:59:59Z";
    for call in [
        format!("search?{times}"),
        format!("flagged?{times}"),
        format!("export?{times}"),
        "trend?from_day=2026-02-01&to_day=2026-01-31".to_owned(),
    ] {
        assert_eq!(
            user.get(&call).await.problem(400),
            "invalid_range",
            "{call}"
        );
    }
    let long = user
        .get("trend?from_day=2020-01-01&to_day=2026-01-01")
        .await;
    assert_eq!(
        (long.problem(422), long.fields()),
        ("invalid_input".into(), vec!["to_day".to_owned()])
    );
}

#[tokio::test]
async fn insights_are_ranked_reviewed_and_followed_day_by_day() {
    let live = Live::new(&[]).await;
    for user in 0..20 {
        let user = Caller::of(&live, &format!("u{user}"));
        user.rate("loved by many", 5).await;
    }
    let one = Caller::of(&live, "u0");
    one.rate("loved by one", 5).await;
    one.rate("hated", 1).await;
    for (user, insight, kind) in [
        ("a", "hated", "spam"),
        ("b", "hated", "other"),
        ("c", "loved by one", "spam"),
    ] {
        let flag =
            json!({"insight_id": insight, "flag_type": kind, "flag_reason": format!("by {user}")});
        Caller::of(&live, user).write("flag", flag).await;
    }
    for ranking in ["bayesian_mean", "lower_bound"] {
        let top = one.read(&format!("top?ranking={ranking}")).await;
        assert_eq!(
            each(&top, "insights", "insight_id"),
            ["loved by many", "loved by one", "hated"]
        );
        assert_eq!(top["ranking"], ranking);
        for insight in top["insights"].as_array().unwrap() {
            let id = encode(insight["insight_id"].as_str().unwrap());
            let stats = one.read(&format!("stats?insight_id={id}")).await;
            for score in ["bayesian_mean", "lower_bound", "average_rating"] {
                let (one, other) = (
                    insight[score].as_f64().unwrap(),
                    stats[score].as_f64().unwrap(),
                );
                assert!(
                    (one - other).abs() < 1e-9,
                    "{score} of {id}: {one} and {other}"
                );
            }
        }
    }
    let top = one.read("top?min_ratings=2").await;
    assert_eq!(
        (each(&top, "insights", "insight_id"), &top["min_ratings"]),
        (vec!["loved by many"], &json!(2))
    );

    let flagged = one.read("flagged").await;
    assert_eq!(
        (each(&flagged, "insights", "insight_id"), &flagged["total"]),
        (vec!["hated", "loved by one"], &json!(2))
    );
    let hated = &flagged["insights"][0];
    assert_eq!(
        (&hated["flag_types"], &hated["total_flags"]),
        (&json!({"spam": 1, "other": 1}), &json!(2))
    );
    assert_eq!(
        (&hated["total_ratings"], &hated["average_rating"]),
        (&json!(1), &json!(1.0))
    );
    let reasons: Vec<_> = hated["latest_reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flag| &flag["reason"])
        .collect();
    assert_eq!(reasons, ["by b", "by a"]);
    let spam = one.read("flagged?flag_type=spam&insight_id=hated").await;
    assert_eq!(
        (&spam["total"], &spam["insights"][0]["total_flags"]),
        (&json!(1), &json!(1))
    );

    let trend = one.read("trend").await;
    let days = trend["days"].as_array().unwrap();
    assert_eq!((days.len(), &trend["insight_id"]), (30, &Value::Null));
    // Around midnight the day may be yesterday.
    let sum = |field: &str| {
        days.iter()
            .map(|day| day[field].as_i64().unwrap())
            .sum::<i64>()
    };
    assert_eq!(
        (
            sum("ratings"),
            sum("flags"),
            sum("comments"),
            sum("withdrawals")
        ),
        (22, 3, 0, 0)
    );
    let of_one = one.read("trend?insight_id=hated").await;
    let today = of_one["days"]
        .as_array()
        .unwrap()
        .iter()
        .find(|day| day["ratings"] == 1)
        .unwrap();
    assert_eq!(
        (&today["average_rating"], &today["flags"]),
        (&json!(1.0), &json!(2))
    );
    assert_eq!(days[0]["average_rating"], Value::Null);
}

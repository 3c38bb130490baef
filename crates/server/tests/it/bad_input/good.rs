//! A good request to each call, with every field it knows, and the jobs it is made on.

use serde_json::{Value, json};
use utxoiq_store::clock::{Clock as _, SystemClock};
use uuid::Uuid;

use crate::live::{Live, answer, encode, fill_encoded, start};

/// A request that works.
#[derive(Debug, Default)]
pub struct Good {
    /// The values of the path's fields.
    pub path: Vec<String>,
    /// The query's parameters, in the document's order.
    pub query: Vec<(&'static str, String)>,
    /// The body; null where the call takes none.
    pub body: Value,
    /// The headers that the call takes, in the document's order.
    pub headers: Vec<(&'static str, &'static str)>,
    /// A body that is not JSON: its type and itself.
    pub document: Option<(&'static str, Vec<u8>)>,
}

/// The parameter that a good request leaves out, as it excludes another one.
pub const EXCLUDED: &str = "cursor";

impl Good {
    /// Path and query.
    pub fn target(&self, template: &str) -> String {
        let fields: Vec<_> = self.path.iter().map(String::as_str).collect();
        let path = fill_encoded(template, &fields);
        let query: Vec<_> = self
            .query
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        if query.is_empty() {
            path
        } else {
            format!("{path}?{}", query.join("&"))
        }
    }

    pub fn query_names(&self) -> Vec<&str> {
        self.query.iter().map(|(name, _)| *name).collect()
    }
}

/// One job in each situation that some call needs.
pub struct Jobs {
    /// The beginning of each job's type.
    kind: String,
    /// Blocks 0 to 99: 0 to 49 are claimed, 0 to 9 finished, 5 has a checkpoint.
    leased: String,
    claim: String,
    epoch: i64,
    /// Blocks 0 to 99 and no worker.
    plain: String,
    /// The same, failed.
    failed: String,
    /// Without a missing block, and not completed yet.
    whole: String,
    /// The id of a script's job.
    script: String,
    /// An insight that [`USER`] has rated, flagged and commented on.
    insight: String,
    /// A legal hold.
    hold: String,
    /// An open alert.
    alert: String,
}

/// For whom feedback is given.
const USER: &str = "user 1";

impl Jobs {
    pub async fn new(live: &Live, index: usize) -> Self {
        let kind = format!("k{index}");
        let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
        let begun = async |name: &str| {
            let body = start(&format!("{kind}-{name}"), 0, 99);
            id(&live.ok("POST /start", &[], body).await)
        };
        let leased = begun("leased").await;
        let wanted = json!({"worker": "w", "max_blocks": 50});
        let claimed = live.ok("POST /{job_id}/claim", &[&leased], wanted).await;
        let claim = claimed["claim"]["claim_id"].as_str().unwrap().to_owned();
        let epoch = claimed["claim"]["epoch"].as_i64().unwrap();
        let at = [leased.as_str(), claim.as_str()];
        let done = json!({"epoch": epoch, "start_block": 0, "end_block": 9});
        live.ok("POST /{job_id}/claims/{claim_id}/record", &at, done)
            .await;
        let hash = json!({"epoch": epoch, "block": 5, "block_hash": "05"});
        live.ok("POST /{job_id}/claims/{claim_id}/checkpoint", &at, hash)
            .await;

        let failed = begun("failed").await;
        let why = json!({"error_message": "x"});
        live.ok("POST /{job_id}/fail", &[&failed], why).await;
        let whole = begun("whole").await;
        let admin = live.db.admin().await;
        let fill = format!("update backfill_jobs set covered = '{{[0,100)}}' where id = '{whole}'");
        admin.batch_execute(&fill).await.unwrap();
        // A day without samples, rolled up.
        let day = "select metric_make_day('2026-01-01', '2026-01-01');
                   update metric_rollup_state set rolled_before = '2026-01-03', closing_before = '2026-01-03'";
        admin.batch_execute(day).await.unwrap();
        // It is held, so that it is there for every call.
        let hold = Uuid::new_v4().to_string();
        let held = format!(
            "insert into legal_holds (id, scope, dataset, first_day, last_day, reason, placed_by, placed_at)
             values ('{hold}', 'day', 'metrics', '2026-01-01', '2026-01-01', 'for these tests', 'test', '2026-01-01')"
        );
        admin.batch_execute(&held).await.unwrap();
        let alert = Uuid::new_v4().to_string();
        let opened = format!(
            "insert into alerts (id, key, source, severity, title, detail, runbook, labels, opened_at, seen_at)
             values ('{alert}', '{kind}', 'test', 'warning', 'it is wrong', '', '', '{{}}', '2026-01-01', '2026-01-01')"
        );
        admin.batch_execute(&opened).await.unwrap();
        let script = format!("{kind} 1/2 %");
        let first = i64::try_from(index).unwrap() * 1_000;
        let script_start = json!({"job_id": script, "start_block": first, "end_block": first + 99});
        live.ok("POST ", &[], script_start).await;
        let insight = format!("{kind} insight");
        for (call, said) in [
            ("rate", json!({"rating": 3, "comment": "so so"})),
            ("flag", json!({"flag_type": "spam"})),
        ] {
            let mut body = said;
            body["insight_id"] = json!(insight);
            let said = live.authorized("POST", &format!("/api/v1/feedback/{call}"));
            let said = said.header("x-user-id", USER).json(&body);
            assert_eq!(answer(said).await.status, 200);
        }
        Self {
            plain: begun("plain").await,
            kind,
            leased,
            claim,
            epoch,
            failed,
            whole,
            script,
            insight,
            hold,
            alert,
        }
    }

    fn of(&self, job: &str, body: Value) -> Good {
        Good {
            path: vec![match job {
                "leased" => self.leased.clone(),
                "plain" => self.plain.clone(),
                "failed" => self.failed.clone(),
                _ => self.whole.clone(),
            }],
            body,
            ..Good::default()
        }
    }

    fn of_claim(&self, mut body: Value) -> Good {
        body["epoch"] = json!(self.epoch);
        let path = vec![self.leased.clone(), self.claim.clone()];
        Good {
            path,
            body,
            ..Good::default()
        }
    }

    fn new_job(&self, first: i64) -> Value {
        let mut body = start(&format!("{}-new", self.kind), first, first + 9);
        body["created_by"] = json!("admin@utxoiq.com");
        body
    }
}

/// What the reporter script says of itself.
fn figures(own: &Value) -> Value {
    let mut body = json!({
        "status": "running", "blocks_processed": 5, "blocks_remaining": 95, "progress_percent": 5.0,
        "rate_blocks_per_sec": 12.5, "estimated_completion": "2026-11-23T00:00:00Z",
        "updated_at": "2026-11-22T23:50:00", "error_count": 0,
    });
    let own = own.as_object().cloned().unwrap_or_default();
    body.as_object_mut().unwrap().extend(own);
    body
}

/// The good request to a call; `None` where this test does not know the call.
pub fn good(method: &str, path: &str, jobs: &Jobs) -> Option<Good> {
    if let Some(call) = path.strip_prefix("/api/v1/feedback/") {
        return feedback(method, call, jobs);
    }
    let of_metrics = match method {
        "get" => metrics_read(path),
        _ => metrics(path).filter(|_| method == "post"),
    };
    if of_metrics.is_some() {
        return of_metrics;
    }
    if let Some(call) = path.strip_prefix("/api/v1/monitoring/archives") {
        return archives(call);
    }
    if let Some(call) = path.strip_prefix("/api/v1/monitoring/retention") {
        return retention(method, call, jobs);
    }
    // A list of backups has the conditions of a list of alerts.
    let list = path.strip_prefix("/api/v1/monitoring/backups");
    if let Some(call) = list.or_else(|| path.strip_prefix("/api/v1/monitoring/alerts")) {
        return alerts(call, jobs);
    }
    if let Some(call) = path.strip_prefix("/api/v1/slo") {
        return criteria(call);
    }
    if let Some(call) = path.strip_prefix("/api/v1/monitoring/audit") {
        return audit(call);
    }
    let Some(call) = path.strip_prefix("/api/v1/monitoring/backfill") else {
        return match (method, path) {
            (
                "get",
                "/api/v1/monitoring/database/pool" | "/api/v1/monitoring/schedule" | "/metrics",
            )
            | ("post", "/api/v1/monitoring/schedule/tick") => Some(Good::default()),
            _ => None,
        };
    };
    backfill(method, call, jobs)
}

fn backfill(method: &str, call: &str, jobs: &Jobs) -> Option<Good> {
    let body = |body: Value| Good {
        body,
        ..Good::default()
    };
    // Above all other jobs of their type: blocks of scripts' jobs may not overlap.
    let above = 1_000_000;
    Some(match (method, call) {
        ("post", "/start") => body(jobs.new_job(0)),
        ("post", "/open") => {
            let mut open = jobs.new_job(10);
            open["again"] = json!(true);
            body(open)
        }
        ("post", "/progress") => Good {
            query: vec![("job_id", jobs.plain.clone())],
            ..body(json!({
                "current_block": 7, "progress_percentage": 7.5, "estimated_completion": "2026-12-01T00:00:00",
                "status": "running", "error_message": "none",
            }))
        },
        ("get", "/status") => Good {
            query: vec![
                ("status", "running".into()),
                ("job_type", format!("{}-plain", jobs.kind)),
                ("limit", "5".into()),
                ("offset", "0".into()),
            ],
            ..Good::default()
        },
        ("post", "") => body(figures(&json!({
            "job_id": format!("{} again", jobs.script), "start_block": above, "end_block": above + 99,
            "current_block": above + 5, "started_at": "2026-11-22T23:45:22",
        }))),
        ("put", "/{job_id}") => {
            let current = jobs.kind[1..].parse::<i64>().unwrap() * 1_000 + 5;
            let own = json!({"current_block": current, "error_message": "none"});
            Good {
                path: vec![jobs.script.clone()],
                ..body(figures(&own))
            }
        }
        ("get", "/{job_id}" | "/{job_id}/state" | "/{job_id}/details" | "/{job_id}/gaps") => {
            jobs.of("leased", Value::Null)
        }
        ("post", "/{job_id}/pause" | "/{job_id}/cancel") => jobs.of("plain", Value::Null),
        ("post", "/{job_id}/resume") => jobs.of("failed", Value::Null),
        ("post", "/{job_id}/complete") => jobs.of("whole", Value::Null),
        ("post", "/{job_id}/fail") => jobs.of("plain", json!({"error_message": "disk full"})),
        ("post", "/{job_id}/rewind") => jobs.of("leased", json!({"from_block": 3})),
        ("post", "/{job_id}/verify") => {
            jobs.of("leased", json!({"block": 5, "block_hash": "other"}))
        }
        ("post", "/{job_id}/claim") => jobs.of("plain", json!({"worker": "w", "max_blocks": 5})),
        ("post", "/{job_id}/claims/{claim_id}/record") => {
            jobs.of_claim(json!({"start_block": 10, "end_block": 19}))
        }
        ("post", "/{job_id}/claims/{claim_id}/error") => jobs.of_claim(
            json!({"start_block": 10, "end_block": 19, "attempted": 1, "message": "rpc timeout"}),
        ),
        ("post", "/{job_id}/claims/{claim_id}/checkpoint") => {
            jobs.of_claim(json!({"block": 9, "block_hash": "09"}))
        }
        (
            "post",
            "/{job_id}/claims/{claim_id}/heartbeat" | "/{job_id}/claims/{claim_id}/release",
        ) => jobs.of_claim(json!({})),
        _ => return None,
    })
}

fn criteria(call: &str) -> Option<Good> {
    let window = ("window_hours", "2".into());
    match call {
        "" => Some(Good {
            query: vec![("state", "met".into()), window],
            ..Good::default()
        }),
        "/{criterion}" => Some(Good {
            path: vec!["C1.1".into()],
            query: vec![window],
            ..Good::default()
        }),
        _ => None,
    }
}

fn metrics(path: &str) -> Option<Good> {
    let body = |key, body: Value| Good {
        body,
        headers: vec![("Idempotency-Key", key)],
        ..Good::default()
    };
    let document = |content_type, document: &[u8]| Good {
        document: Some((content_type, document.to_vec())),
        ..Good::default()
    };
    let sample = json!({
        "service_name": "web", "metric_type": "cpu", "metric_value": 45.5, "unit": "percent", "timestamp": SystemClock.now(),
        "metric_metadata": {"a": [1]}, "labels": {"host": "h"},
    });
    Some(
        match path.strip_prefix("/api/v1/monitoring/").unwrap_or(path) {
            "metrics" => body("k-1", sample),
            "metrics/batch" => body("k-2", json!([sample])),
            "metrics/verify" => Good {
                body: json!({"day": "2026-01-01", "repair": false}),
                ..Good::default()
            },
            "metrics/import" => document("application/x-ndjson", sample.to_string().as_bytes()),
            // An empty message is a whole one; in snappy, nothing is its length.
            "/v1/metrics" => document("application/x-protobuf", b""),
            "/api/v1/write" => document("application/x-protobuf", b"\0"),
            _ => return None,
        },
    )
}

fn metrics_read(path: &str) -> Option<Good> {
    let series = [
        ("service_name", "web"),
        ("metric_type", "cpu"),
        ("unit", "percent"),
        ("labels", "host=h"),
    ];
    let times = [
        ("start_time", "2026-01-01T00:00:00Z"),
        ("end_time", "2026-01-02T00:00:00"),
    ];
    let (limit, offset) = (("limit", "5"), ("offset", "0"));
    let good = |query: &[&[(&'static str, &str)]], headers: &[(&'static str, &'static str)]| Good {
        query: query
            .concat()
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect(),
        headers: headers.to_vec(),
        ..Good::default()
    };
    Some(match path.strip_prefix("/api/v1/monitoring/metrics")? {
        "" => good(
            &[&series, &times, &[limit, offset]],
            &[("Store-Version", "1")],
        ),
        "/samples" => good(
            &[&series, &times, &[("format", "ndjson"), ("points", "10")]],
            &[],
        ),
        "/series" => good(&[&series, &[limit]], &[]),
        "/aggregate" => good(
            &[&series, &times, &[("interval", "day")]],
            &[("Store-Version", "1")],
        ),
        "/degradations" => good(
            &[
                &series,
                &[
                    ("hours", "24"),
                    ("end_time", "2026-01-02T00:00:00Z"),
                    ("statistic", "p95"),
                    ("direction", "both"),
                    ("threshold", "3.5"),
                    ("min_change", "0.1"),
                ],
            ],
            &[],
        ),
        "/top" => good(
            &[&series[..2], &[("by", "max"), ("hours", "24"), limit]],
            &[],
        ),
        "/services" => good(&[&[limit, ("after", "web")]], &[]),
        _ => return None,
    })
}

fn archives(call: &str) -> Option<Good> {
    let query = |parameters: &[(&'static str, &str)]| Good {
        query: parameters
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        ..Good::default()
    };
    Some(match call {
        "" => query(&[
            ("dataset", "feedback"),
            ("from", "2026-01-01"),
            ("to", "2026-01-02"),
            ("state", "archived"),
            ("limit", "5"),
        ]),
        "/where-is" => query(&[("day", "2026-01-01"), ("dataset", "metrics")]),
        _ => return None,
    })
}

fn audit(call: &str) -> Option<Good> {
    let query = |parameters: &[(&'static str, &str)]| Good {
        query: parameters
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        ..Good::default()
    };
    let genesis = format!("0:{}", "0".repeat(64));
    Some(match call {
        "" => query(&[
            ("action", "archive"),
            ("subject", "metrics"),
            ("actor", "retention"),
            ("from", "2026-01-01T00:00:00Z"),
            ("to", "2026-01-02T00:00:00Z"),
            ("limit", "5"),
        ]),
        "/verify" => query(&[("anchors", &genesis)]),
        "/export" => Good::default(),
        _ => return None,
    })
}

fn feedback(method: &str, call: &str, jobs: &Jobs) -> Option<Good> {
    let (user, version) = (("X-User-Id", USER), ("Store-Version", "1"));
    let body = |mut body: Value| {
        body["insight_id"] = json!(jobs.insight);
        Good {
            body,
            headers: vec![user],
            ..Good::default()
        }
    };
    let query = |parameters: &[(&'static str, &str)], headers: &[(&'static str, &'static str)]| {
        let parameters = parameters.iter();
        Good {
            query: parameters
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            headers: headers.to_vec(),
            ..Good::default()
        }
    };
    let (insight, whose) = (("insight_id", jobs.insight.as_str()), ("user_id", USER));
    let page = [("limit", "5"), ("offset", "0")];
    let (from, to) = (
        ("from", "2026-01-01T00:00:00Z"),
        ("to", "2100-01-01T00:00:00Z"),
    );
    let conditions = [
        whose,
        insight,
        from,
        to,
        ("rating", "3"),
        ("flag", "spam"),
        ("has_comment", "true"),
    ];
    Some(match (method, call) {
        ("post", "rate") => body(json!({"rating": 5, "comment": "good"})),
        ("post", "comment") => body(json!({"comment": "bad"})),
        ("post", "flag") => body(json!({"flag_type": "other", "flag_reason": "why not"})),
        ("post", "erase") => Good {
            body: json!({"user_id": "nobody that is needed"}),
            ..Good::default()
        },
        ("post", "withdraw") => body(json!({"fact": "flag"})),
        ("get", "stats") => query(&[insight], &[version]),
        ("get", "comments") => query(&[&[insight], &page[..]].concat(), &[version]),
        ("get", "user") => query(&page, &[user, version]),
        ("get", "search") => query(&[&conditions, &page[..]].concat(), &[user]),
        ("get", "history") => query(&[&[whose, insight], &page[..]].concat(), &[user]),
        ("get", "flagged") => query(
            &[&[("flag_type", "spam"), insight, from, to], &page[..]].concat(),
            &[],
        ),
        ("get", "top") => query(
            &[
                &[("ranking", "lower_bound"), ("min_ratings", "1")],
                &page[..],
            ]
            .concat(),
            &[],
        ),
        ("get", "trend") => query(
            &[
                insight,
                ("from_day", "2026-01-01"),
                ("to_day", "2026-02-01"),
            ],
            &[],
        ),
        ("get", "export") => query(&[&[("format", "ndjson")], &conditions[..]].concat(), &[]),
        _ => return None,
    })
}

fn alerts(call: &str, jobs: &Jobs) -> Option<Good> {
    Some(match call {
        "" => Good {
            query: vec![
                ("state", "all".into()),
                ("limit", "5".into()),
                ("offset", "0".into()),
            ],
            ..Good::default()
        },
        "/{alert_id}/acknowledge" => Good {
            path: vec![jobs.alert.clone()],
            body: json!({ "note": "on it" }),
            ..Good::default()
        },
        _ => return None,
    })
}

fn retention(method: &str, call: &str, jobs: &Jobs) -> Option<Good> {
    let query = |name, value: &str| Good {
        query: vec![(name, value.to_owned())],
        ..Good::default()
    };
    Some(match (method, call) {
        ("post", "/run") | ("get", "/holds") => Good::default(),
        ("get", "/plan") => query("as_of", "2027-01-01T00:00:00Z"),
        ("get", "/status") => query("limit", "5"),
        ("post", "/holds") => Good {
            body: json!({
                "scope": "day", "dataset": "feedback", "first_day": "2024-02-28", "last_day": "2024-02-29",
                "user_id": "user-1", "insight_id": "insight-1", "reason": "case 7", "expires_at": "2099-01-01T00:00:00Z",
            }),
            ..Good::default()
        },
        ("post", "/holds/{hold_id}/release") => Good {
            path: vec![jobs.hold.clone()],
            body: json!({ "reason": "over" }),
            ..Good::default()
        },
        _ => return None,
    })
}

//! Random requests: good ones of which some parts are replaced by what a generator draws, all calls in turn.
//!
//! Nothing is said of what each is answered but that it is the answer of a service that works: no 5xx other than a deliberate 503,
//! every refusal in the one form, and nothing of the inside in it.

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngSeed, TestRunner},
};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Map, Value};
use utxoiq_store_testkit::urls;

use super::{
    LIMITS,
    good::{Good, Jobs, good},
    guarded, with_body,
};
use crate::{
    live::{Live, answer, encode},
    support::Answer,
};

/// What 503 is answered for on purpose: what the test's service lacks, or has too much of for a moment.
const DELIBERATE: [&str; 8] = [
    "overloaded",
    "timeout",
    "backup_running",
    "retention_not_configured",
    "cold_store_unavailable",
    "database_unavailable",
    "statement_timeout",
    "lock_timeout",
];

/// Calls that work through a lot, whatever they are sent: one in so many turns.
const RARELY: [(&str, u64); 4] = [
    ("/retention/run", 50),
    ("/schedule/", 50),
    ("/audit", 10),
    ("/feedback/export", 10),
];

/// Words that have broken somebody's service.
const WORDS: &[&str] = &[
    "",
    " ",
    "\0",
    "a\0b",
    "null",
    "NaN",
    "Infinity",
    "-0",
    "1e400",
    "9223372036854775808",
    "-1",
    "0x10",
    "١٢",
    "true",
    "2026-01-01T00:00:00Z",
    "0000-00-00",
    "9999-12-31T23:59:60Z",
    "+262143-01-01T00:00:00Z",
    "2026-02-30",
    "'; drop table x; --",
    "%s%n",
    "{{7*7}}",
    "../../etc/passwd",
    "\u{feff}",
    "\u{202e}abc",
    "e\u{301}",
    "👩‍👩‍👧‍👦",
    "\r\nX-Injected: 1",
    "<script>",
    "\\u0000",
    "00000000-0000-0000-0000-000000000000",
    "*",
    "hour",
    "week",
    "running",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(WORDS).prop_map(str::to_owned),
        2 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| number.to_string()),
        2 => ".{0,40}",
        1 => (1_usize..5_000).prop_map(|length| "x".repeat(length)),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(word(), inner, 0..6)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// What is done to a good request.
#[derive(Debug, Clone)]
enum Change {
    Query(prop::sample::Index, String),
    NoQuery(prop::sample::Index),
    Twice(prop::sample::Index, String),
    Unknown(String, String),
    Path(prop::sample::Index, String),
    Field(prop::sample::Index, Value),
    NoField(prop::sample::Index),
    Body(Value),
    Bytes(Vec<u8>),
    Header(prop::sample::Index, String),
    ContentType(String),
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        4 => (place(), word()).prop_map(|(place, value)| Change::Query(place, value)),
        1 => place().prop_map(Change::NoQuery),
        1 => (place(), word()).prop_map(|(place, value)| Change::Twice(place, value)),
        1 => (word(), word()).prop_map(|(name, value)| Change::Unknown(name, value)),
        2 => (place(), word()).prop_map(|(place, value)| Change::Path(place, value)),
        6 => (place(), json()).prop_map(|(place, value)| Change::Field(place, value)),
        1 => place().prop_map(Change::NoField),
        1 => json().prop_map(Change::Body),
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Change::Bytes),
        1 => (place(), "[ -~]{0,30}").prop_map(|(place, value)| Change::Header(place, value)),
        1 => "[ -~]{0,30}".prop_map(Change::ContentType),
    ]
}

/// A request that was good.
struct Request {
    good: Good,
    more_query: String,
    bytes: Option<Vec<u8>>,
    content_type: Option<String>,
    headers: Vec<(&'static str, String)>,
}

impl Request {
    fn new(good: Good) -> Self {
        let headers = good.headers.iter();
        Self {
            headers: headers
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            good,
            more_query: String::new(),
            bytes: None,
            content_type: None,
        }
    }

    fn fields(&mut self) -> Option<&mut Map<String, Value>> {
        match &mut self.good.body {
            Value::Array(items) => items.first_mut()?.as_object_mut(),
            body => body.as_object_mut(),
        }
    }

    fn make(&mut self, change: Change) {
        let good = &mut self.good;
        match change {
            Change::Query(at, value) if !good.query.is_empty() => {
                at.get_mut(&mut good.query).1 = value;
            }
            Change::NoQuery(at) if !good.query.is_empty() => {
                good.query.remove(at.index(good.query.len()));
            }
            Change::Twice(at, value) if !good.query.is_empty() => {
                let name = at.get(&good.query).0;
                good.query.push((name, value));
            }
            Change::Unknown(name, value) => {
                self.more_query += &format!("&{}={}", encode(&name), encode(&value));
            }
            Change::Path(at, value) if !good.path.is_empty() => *at.get_mut(&mut good.path) = value,
            Change::Field(at, value) => {
                if let Some(fields) = self.fields()
                    && let Some(name) = fields.keys().nth(at.index(fields.len().max(1))).cloned()
                {
                    fields.insert(name, value);
                }
            }
            Change::NoField(at) => {
                if let Some(fields) = self.fields()
                    && let Some(name) = fields.keys().nth(at.index(fields.len().max(1))).cloned()
                {
                    fields.remove(&name);
                }
            }
            Change::Body(value) => good.body = value,
            Change::Bytes(bytes) => self.bytes = Some(bytes),
            Change::Header(at, value) if !self.headers.is_empty() => {
                at.get_mut(&mut self.headers).1 = value;
            }
            Change::ContentType(value) => self.content_type = Some(value),
            _ => {}
        }
    }

    async fn send(&self, live: &Live, method: &str, path: &str) -> Answer {
        let target = self.good.target(path);
        let joint = if target.contains('?') { "" } else { "?" };
        let mut request = live.authorized(method, &format!("{target}{joint}{}", self.more_query));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request = match &self.bytes {
            Some(bytes) => request.body(bytes.clone()),
            None => with_body(request, &self.good),
        };
        if let Some(content_type) = &self.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        answer(request).await
    }
}

/// Whether an answer is one of a service that works.
fn judge(name: &str, answer: &Answer) {
    let status = answer.status.as_u16();
    if status < 400 {
        return;
    }
    let code = answer.problem(status);
    assert!(
        status < 500 || (status == 503 && DELIBERATE.contains(&code.as_str())),
        "{name}: {answer:?}"
    );
    let text = answer.text.to_lowercase();
    for inside in [
        "panicked",
        "tokio_postgres",
        "utxoiq_app",
        "/src/",
        "select ",
        "insert into",
    ] {
        assert!(!text.contains(inside), "{name}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_requests_are_never_answered_with_an_error_of_ours() {
    let live = Live::new(LIMITS).await;
    let (calls, jobs) = (guarded(), Jobs::new(&live, 0).await);
    let wanted = urls::scale(3_000, 100_000);
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(urls::seed()),
        ..Config::default()
    });
    let changes = prop::collection::vec(change(), 0..4);
    let (mut sent, mut turn, mut refused) = (0, 0, 0);
    while sent < wanted {
        turn += 1;
        for (call, _) in &calls {
            let rarely = RARELY.iter().find(|(path, _)| call.path.contains(path));
            if rarely.is_some_and(|(_, turns)| turn % turns != 1) {
                continue;
            }
            let name = format!("{} {}", call.method, call.path);
            for _ in 0..10 {
                let mut request = Request::new(good(&call.method, &call.path, &jobs).unwrap());
                for change in changes.new_tree(&mut runner).unwrap().current() {
                    request.make(change);
                }
                let answer = request.send(&live, &call.method, &call.path).await;
                judge(&name, &answer);
                sent += 1;
                refused += u64::from(answer.status.is_client_error());
                if rarely.is_some() {
                    break;
                }
            }
        }
    }
    // Both ways are gone: what is good goes through, what is bad is refused.
    assert!(
        refused > sent / 4 && refused < sent * 19 / 20,
        "{refused} of {sent} were refused"
    );
}

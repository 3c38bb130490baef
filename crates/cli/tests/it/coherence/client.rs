//! What readers and writers say to a server, and how its answers are understood.

use std::{collections::HashMap, time::Duration};

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::{
    history::{Call, Failure, Purpose, Stats},
    world::{World, insight_name},
};

/// Longer than a server may be frozen, so that its late answers are judged, too.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// The header that names the transaction of a write.
const VERSION: &str = "Store-Version";

impl World {
    /// Reads an insight through a server and records what was seen; `version` is sent along.
    pub async fn read(
        &self,
        server: usize,
        insight: usize,
        own: Option<usize>,
        version: Option<&str>,
    ) {
        let start = self.recorder.now();
        let outcome = self.stats(server, &insight_name(insight), version).await;
        let end = self.recorder.now();
        let purpose = Purpose::Read { insight, own };
        self.recorder.history().calls.push(Call {
            server,
            purpose,
            start,
            end,
            outcome,
        });
    }

    /// An insight's statistics through a server; not recorded.
    pub async fn stats(
        &self,
        server: usize,
        insight: &str,
        version: Option<&str>,
    ) -> Result<Stats, Failure> {
        let mut request = self.request(server, |client, root| {
            client.get(format!("{root}/api/v1/feedback/stats?insight_id={insight}"))
        });
        if let Some(version) = version {
            request = request.header(VERSION, version);
        }
        let (_, body) = answer(request.timeout(READ_TIMEOUT)).await?;
        parse(&body, insight)
    }

    /// Rates through a server and records the call; gives the write's version.
    pub async fn rate(
        &self,
        server: usize,
        insight: usize,
        user: &str,
        rating: i16,
    ) -> Result<Option<String>, Failure> {
        let start = self.recorder.now();
        let request = self.request(server, |client, root| {
            client
                .post(format!("{root}/api/v1/feedback/rate"))
                .header("X-User-Id", user)
                .json(&json!({"insight_id": insight_name(insight), "rating": rating}))
        });
        let answer = answer(request.timeout(WRITE_TIMEOUT)).await;
        let end = self.recorder.now();
        let (version, outcome) = match answer {
            Ok((version, _)) => (Ok(version), Ok(Stats::default())),
            Err(failure) => (Err(failure.clone()), Err(failure)),
        };
        self.recorder.history().calls.push(Call {
            server,
            purpose: Purpose::Write,
            start,
            end,
            outcome,
        });
        version
    }

    fn request(
        &self,
        server: usize,
        make: impl FnOnce(&Client, &str) -> RequestBuilder,
    ) -> RequestBuilder {
        let server = &self.servers[server];
        make(&server.client, &server.root()).bearer_auth(&self.token)
    }

    /// The sum of a counter's series that have all these labels (`layer="redis"`), as `/metrics` has it; `None` where it
    /// is not served.
    pub async fn metric(&self, server: usize, name: &str, labels: &[&str]) -> Option<f64> {
        let request = self.request(server, |client, root| client.get(format!("{root}/metrics")));
        let text = request
            .timeout(READ_TIMEOUT)
            .send()
            .await
            .ok()?
            .text()
            .await
            .ok()?;
        let mut values = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// Hits of cached statistics so far, in a layer.
    pub async fn hits(&self, server: usize, layer: &str) -> Option<f64> {
        let layer = format!("layer=\"{layer}\"");
        let labels = ["kind=\"feedback_stats\"", layer.as_str()];
        self.metric(server, "utxoiq_store_cache_hits_total", &labels)
            .await
    }
}

/// The version and the body of an answer that must be 200.
async fn answer(request: RequestBuilder) -> Result<(Option<String>, String), Failure> {
    let failed = |error: reqwest::Error| {
        if error.is_timeout() {
            Failure::TimedOut
        } else {
            Failure::NoAnswer(format!("{error:?}"))
        }
    };
    let answer = request.send().await.map_err(failed)?;
    let status = answer.status().as_u16();
    let version = answer
        .headers()
        .get(VERSION)
        .map(|value| value.to_str().unwrap().to_owned());
    let body = answer.text().await.map_err(failed)?;
    if status == 200 {
        Ok((version, body))
    } else {
        Err(Failure::Status(status, body))
    }
}

/// The statistics of a body that must be about this insight and agree with itself.
fn parse(body: &str, insight: &str) -> Result<Stats, Failure> {
    let understood = || -> Option<Stats> {
        let body: Value = serde_json::from_str(body).ok()?;
        let distribution: HashMap<String, u64> =
            serde_json::from_value(body.get("rating_distribution")?.clone()).ok()?;
        let mut stats = Stats::default();
        for (rating, count) in (1..=5).zip(&mut stats.0) {
            *count = *distribution.get(&rating.to_string())?;
        }
        let agrees = body["insight_id"] == insight
            && distribution.len() == 5
            && body["total_ratings"].as_u64()? == stats.total()
            && (body["average_rating"].as_f64()? - stats.average()).abs() < 0.01
            && body["total_comments"] == 0
            && body["total_flags"] == 0;
        agrees.then_some(stats)
    };
    understood().ok_or_else(|| Failure::Malformed(body.to_owned()))
}

#[test]
fn a_body_must_be_about_its_insight_and_agree_with_itself() {
    let body = |insight: &str, total: u64, average: f64, fives: u64| {
        json!({"insight_id": insight, "total_ratings": total, "average_rating": average,
            "rating_distribution": {"1": 0, "2": 0, "3": 0, "4": 1, "5": fives},
            "total_comments": 0, "total_flags": 0, "flag_types": {}})
        .to_string()
    };
    assert_eq!(
        parse(&body("a", 2, 4.5, 1), "a"),
        Ok(Stats([0, 0, 0, 1, 1]))
    );
    for wrong in [
        body("b", 2, 4.5, 1),
        body("a", 3, 4.5, 1),
        body("a", 2, 4.4, 1),
        body("a", 2, 4.5, 2),
        "{}".to_owned(),
        String::new(),
    ] {
        assert!(
            matches!(parse(&wrong, "a"), Err(Failure::Malformed(_))),
            "{wrong}"
        );
    }
}

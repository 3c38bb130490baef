//! Writers that send each request until it is answered for, and keep what they were told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rand::{RngExt as _, rngs::StdRng};
use reqwest::Client;
use serde_json::{Value, json};

/// Microseconds between two samples of a writer: their times are all different.
const APART: i64 = 1_009;

/// What a writer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Batches of the contract with times of today, large enough to be copied.
    Recent,
    /// Batches with times up to 80 days back: their days are made on demand.
    Late,
    /// Files of NDJSON, of both.
    File,
    /// Batches without times, under an Idempotency-Key.
    Untimed,
}

/// One writer.
pub struct Writer {
    pub kind: Kind,
    pub number: u64,
    pub url: String,
    pub token: String,
    pub now: DateTime<Utc>,
    pub random: StdRng,
}

/// A sample that was answered for.
#[derive(Debug)]
pub struct Sample {
    pub metric_type: String,
    /// In microseconds.
    pub at: i64,
    pub value: f64,
}

/// What a writer was told.
#[derive(Debug, Default)]
pub struct Told {
    pub samples: Vec<Sample>,
    /// Requests that were not answered, and sent again.
    pub sent_again: u64,
    /// Samples that were stored by a request whose answer was lost.
    pub duplicates: u64,
}

impl Writer {
    /// Writes until it is over; the last request is answered for, too.
    pub async fn write_until(mut self, is_over: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Told {
        utxoiq_store::cold::use_ring();
        let client = Client::builder()
            .timeout(Duration::from_secs(10))
            .no_proxy()
            .build()
            .unwrap();
        let mut told = Told::default();
        let mut next = 0;
        while !is_over.load(Relaxed) {
            let length = match self.kind {
                Kind::Untimed => self.random.random_range(1..30),
                _ => self.random.random_range(1..300),
            };
            let samples: Vec<Sample> = (0..length)
                .map(|_| {
                    next += 1;
                    self.sample(next)
                })
                .collect();
            let answer = self.send(&client, &samples, &mut told).await;
            self.keep(samples, &answer, &mut told);
            count.fetch_add(1, Relaxed);
            // Two cores are for the servers, and for those who kill them.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        told
    }

    /// The n-th sample; its value is unlike that of any other.
    fn sample(&mut self, n: i64) -> Sample {
        let is_late = match self.kind {
            Kind::Late => true,
            Kind::File => self.random.random_range(0..4) == 0,
            Kind::Recent | Kind::Untimed => false,
        };
        let days = if is_late {
            self.random.random_range(1..80)
        } else {
            0
        };
        let at = self.now - TimeDelta::days(days) - TimeDelta::microseconds(n * APART);
        // Some values need all the bits they have.
        let value = (n * 100 + self.number.cast_signed()) as f64 / 7.0;
        Sample {
            metric_type: format!("writer {}", self.number),
            at: at.timestamp_micros(),
            value,
        }
    }

    fn json(&self, sample: &Sample) -> Value {
        let mut json = json!({
            "service_name": "kills", "metric_type": sample.metric_type, "metric_value": sample.value, "unit": "ms",
        });
        if self.kind != Kind::Untimed {
            let at = DateTime::from_timestamp_micros(sample.at).unwrap();
            json["timestamp"] = at.to_rfc3339_opts(SecondsFormat::Micros, true).into();
        }
        json
    }

    /// Sends a request, always the same, until it is answered for.
    async fn send(&mut self, client: &Client, samples: &[Sample], told: &mut Told) -> Value {
        let lines: Vec<String> = samples
            .iter()
            .map(|sample| self.json(sample).to_string())
            .collect();
        let (call, content_type, body) = if self.kind == Kind::File {
            ("import", "application/x-ndjson", lines.join("\n"))
        } else {
            (
                "batch",
                "application/json",
                format!("[{}]", lines.join(",")),
            )
        };
        let key = format!("{:032x}", self.random.random::<u128>());
        loop {
            let mut request = client
                .post(format!("{}/{call}", self.url))
                .bearer_auth(&self.token)
                .header("content-type", content_type)
                .body(body.clone());
            if self.kind == Kind::Untimed {
                request = request.header("idempotency-key", &key);
            }
            match answer(request).await {
                Some(answer) => return answer,
                None => told.sent_again += 1,
            }
            tokio::time::sleep(Duration::from_millis(self.random.random_range(5..50))).await;
        }
    }

    /// Keeps what the answer says: of a batch each sample's own time, of a file only how many.
    fn keep(&self, samples: Vec<Sample>, answer: &Value, told: &mut Told) {
        if self.kind == Kind::File {
            let duplicates = answer["duplicates"].as_u64().unwrap();
            let all = answer["stored"].as_u64().unwrap() + duplicates;
            assert_eq!(usize::try_from(all).unwrap(), samples.len(), "{answer}");
            told.duplicates += duplicates;
            told.samples.extend(samples);
            return;
        }
        let answers = answer.as_array().unwrap();
        assert_eq!(answers.len(), samples.len());
        for (mut sample, answer) in samples.into_iter().zip(answers) {
            let at: DateTime<Utc> = answer["timestamp"].as_str().unwrap().parse().unwrap();
            if self.kind == Kind::Untimed {
                sample.at = at.timestamp_micros();
            }
            let same = at.timestamp_micros() == sample.at && answer["metric_value"] == sample.value;
            let outcome = answer["outcome"].as_str().unwrap();
            assert!(
                same && ["stored", "duplicate"].contains(&outcome),
                "{sample:?} was answered by {answer}"
            );
            told.duplicates += u64::from(outcome == "duplicate");
            told.samples.push(sample);
        }
    }
}

/// The answer; `None` where the request is to be sent again.
async fn answer(request: reqwest::RequestBuilder) -> Option<Value> {
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    match status {
        200 => response.json().await.ok(),
        429 | 503 => None,
        _ => panic!(
            "status {status}: {}",
            response.text().await.unwrap_or_default()
        ),
    }
}

//! The HTTP API, as the subcommands that work through it see it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use reqwest::{Method, Url};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use utxoiq_store::{
    backfill::{BlockRange, CheckpointOutcome, ClaimKey, Claimed, Heard, Job, worker::Coordinator},
    error::{Error, Kind, Result},
};
use utxoiq_store_server::api::backfill::wire;
use uuid::Uuid;

/// Where the service is, and who asks.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The service's address
    #[arg(
        long,
        env = "UTXOIQ_STORE_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    url: Url,

    /// A file (PEM) of the authorities that may have signed the service's certificate, where the system does not trust them
    #[arg(long, env = "UTXOIQ_STORE_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// The variable that holds the token: an argument would be seen by everyone on the machine.
const TOKEN_VARIABLE: &str = "UTXOIQ_STORE_TOKEN";

/// How long an answer may take, or a piece of one: longer than the service's own limit.
const PATIENCE: Duration = Duration::from_secs(35);

/// A whole file may take longer.
const LONGEST_DOWNLOAD: Duration = Duration::from_hours(24);

/// A client of the service. Clones share its connections.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: Url,
    token: String,
}

impl Connection {
    /// The service's address, as it may be shown.
    pub fn address(&self) -> &Url {
        &self.url
    }
}

impl Api {
    /// What the service says of whether it is ready: the status and the body. Needs no token.
    pub async fn ready(connection: &Connection) -> anyhow::Result<(u16, Value)> {
        utxoiq_store::cold::use_ring();
        let mut http = reqwest::Client::builder()
            .timeout(Duration::from_secs(4))
            .no_proxy();
        if let Some(file) = &connection.ca_file {
            http = http.tls_certs_only(authorities(file)?);
        }
        let url = connection.url.join("/readyz")?;
        let answer = http.build()?.get(url).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.unwrap_or_default()))
    }

    /// A client with the token of the environment.
    pub fn connect(connection: &Connection) -> anyhow::Result<Self> {
        let token = std::env::var(TOKEN_VARIABLE).map_err(|_| {
            anyhow::anyhow!(
                "{TOKEN_VARIABLE} is not set: `. .local/env` after ./dev up, or make one with utxoiq-store token create"
            )
        })?;
        utxoiq_store::cold::use_ring();
        let mut http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(3))
            .timeout(PATIENCE)
            .no_proxy();
        if let Some(file) = &connection.ca_file {
            http = http.tls_certs_only(authorities(file)?);
        }
        let http = http.build()?;
        Ok(Self {
            http,
            base: connection.url.clone(),
            token,
        })
    }

    /// A GET below `/api/v1`.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T> {
        self.send(Method::GET, self.target(path, query)?, None)
            .await
    }

    /// A GET below `/api/v1` whose answer is a file, to be read piece by piece.
    pub async fn download(&self, path: &str, query: &[(&str, String)]) -> Result<Download> {
        let request = self
            .http
            .get(self.target(path, query)?)
            .bearer_auth(&self.token)
            .timeout(LONGEST_DOWNLOAD);
        let response = tokio::time::timeout(PATIENCE, request.send());
        let response = match response.await {
            Ok(response) => response.map_err(|error| self.away(error))?,
            Err(_) => return Err(self.silent()),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(Download {
                api: self.clone(),
                response,
            });
        }
        let problem: Value = response.json().await.unwrap_or_default();
        Err(problem_error(status.as_u16(), &problem))
    }

    fn target(&self, path: &str, query: &[(&str, String)]) -> Result<Url> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// A POST below `/api/v1`.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T> {
        let body = serde_json::to_value(body).map_err(|error| {
            Error::internal("the request could not be written").with_source(error)
        })?;
        self.send(Method::POST, self.url(path)?, Some(body)).await
    }

    /// A POST of a file below `/api/v1`. What the service cannot take now, or not at once, is no failure.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Upload<T>> {
        let request = self
            .http
            .post(self.url(path)?)
            .bearer_auth(&self.token)
            .header("content-type", content_type)
            .body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Upload::away(self.away(error))),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(match response.json().await {
                Ok(answer) => Upload::Taken(answer),
                Err(error) if error.is_decode() && !error.is_timeout() && !error.is_body() => {
                    return Err(unreadable(error));
                }
                Err(error) => Upload::away(self.away(error)),
            });
        }
        let after = response.headers().get("retry-after");
        let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
        let problem: Value = response.json().await.unwrap_or_default();
        let why = problem_error(status.as_u16(), &problem);
        match status.as_u16() {
            429 | 500.. => Ok(Upload::NotNow {
                why,
                after: after.map(Duration::from_secs),
                is_away: false,
            }),
            413 => Ok(Upload::TooLarge(why)),
            _ => Err(why),
        }
    }

    fn url(&self, path: &str) -> Result<Url> {
        let base = self.base.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}/api/v1/{path}")).map_err(|error| {
            Error::invalid("invalid_url", "the service's address is not valid").with_source(error)
        })
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: Option<Value>,
    ) -> Result<T> {
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| self.away(error))?;
        let status = response.status();
        if status.is_success() {
            return response.json().await.map_err(|error| {
                // A body that ends early is the service's end, one of another shape another version of it.
                if error.is_decode() && !error.is_timeout() && !error.is_body() {
                    unreadable(error)
                } else {
                    self.away(error)
                }
            });
        }
        let problem: Value = response.json().await.unwrap_or_default();
        Err(problem_error(status.as_u16(), &problem))
    }

    fn silent(&self) -> Error {
        let message = format!("{} did not answer in time", self.base);
        Error::unavailable("service_away", message)
    }

    fn away(&self, error: reqwest::Error) -> Error {
        Error::unavailable(
            "service_away",
            format!("no answer from {}; is the service running?", self.base),
        )
        .with_source(error.without_url())
    }
}

/// The certificates of a file; then these are trusted, and nobody else.
fn authorities(file: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let shown = file.display();
    let pem = fs::read(file).with_context(|| format!("--ca-file {shown} could not be read"))?;
    let all = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    anyhow::ensure!(!all.is_empty(), "--ca-file {shown} has no certificate");
    Ok(all)
}

fn unreadable(error: reqwest::Error) -> Error {
    Error::unavailable(
        "unreadable_answer",
        "the service's answer could not be read",
    )
    .with_source(error.without_url())
}

/// What became of a file that was sent.
pub enum Upload<T> {
    /// The service's answer.
    Taken(T),
    /// It is to be sent again.
    NotNow {
        why: Error,
        /// When, as the service has it.
        after: Option<Duration>,
        /// Whether there was no answer at all.
        is_away: bool,
    },
    /// It is to be sent in parts.
    TooLarge(Error),
}

impl<T> Upload<T> {
    fn away(why: Error) -> Self {
        Self::NotNow {
            why,
            after: None,
            is_away: true,
        }
    }
}

/// A file that is being downloaded.
pub struct Download {
    api: Api,
    response: reqwest::Response,
}

impl Download {
    /// What a header of the answer says.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece; none at the end. A file that was cut off ends with an error.
    pub async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>> {
        match tokio::time::timeout(PATIENCE, self.response.chunk()).await {
            Ok(piece) => piece.map_err(|error| {
                Error::unavailable(
                    "cut_off",
                    "the answer was cut off before its end: send the request again",
                )
                .with_source(error.without_url())
            }),
            Err(_) => Err(self.api.silent()),
        }
    }
}

/// The service's refusal as the library's error. The codes that callers decide by are kept.
fn problem_error(status: u16, problem: &Value) -> Error {
    const CODES: [&str; 14] = [
        "stale_lease",
        "not_running",
        "job_final",
        "job_not_found",
        "overlap",
        "incomplete",
        "too_many_claims",
        "implicit_worker",
        "leased",
        "outside_claim",
        "no_checkpoint",
        "unauthorized",
        "no_such_day",
        "not_rolled_up",
    ];
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let code = text("code")
        .and_then(|code| CODES.into_iter().find(|known| *known == code))
        .unwrap_or("refused");
    let mut detail = text("detail").map_or_else(
        || format!("the service answered with status {status}"),
        str::to_owned,
    );
    for error in problem
        .get("errors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let (Some(field), Some(message)) = (error["field"].as_str(), error["message"].as_str())
            && !detail.contains(message)
        {
            detail.push_str(&format!("; {field} {message}"));
        }
    }
    let kind = match status {
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        // 429 and every 5xx pass by themselves; so does a 500, which may be a proxy's.
        429 | 500.. => Kind::Unavailable,
        _ => Kind::Invalid,
    };
    Error::new(kind, code, detail)
}

/// The path of a claim's call.
fn claim_path(key: ClaimKey, call: &str) -> String {
    format!(
        "monitoring/backfill/{}/claims/{}/{call}",
        key.job_id, key.claim_id
    )
}

impl Coordinator for Api {
    async fn claim(&self, id: Uuid, worker: &str, max_blocks: i64) -> Result<Claimed> {
        let body = wire::ClaimRequest {
            worker: worker.to_owned(),
            max_blocks,
        };
        self.post::<wire::ClaimAnswer>(&format!("monitoring/backfill/{id}/claim"), &body)
            .await?
            .try_into()
    }

    async fn record(&self, key: ClaimKey, blocks: BlockRange) -> Result<Heard> {
        let body = wire::Record {
            epoch: key.epoch,
            start_block: blocks.start,
            end_block: blocks.last(),
        };
        self.post::<wire::HeardAnswer>(&claim_path(key, "record"), &body)
            .await?
            .try_into()
    }

    async fn heartbeat(&self, key: ClaimKey) -> Result<Heard> {
        let body = wire::Epoch { epoch: key.epoch };
        self.post::<wire::HeardAnswer>(&claim_path(key, "heartbeat"), &body)
            .await?
            .try_into()
    }

    async fn release(&self, key: ClaimKey) -> Result<Job> {
        let body = wire::Epoch { epoch: key.epoch };
        self.post::<wire::JobState>(&claim_path(key, "release"), &body)
            .await?
            .try_into()
    }

    async fn record_error(
        &self,
        key: ClaimKey,
        blocks: BlockRange,
        attempted: i32,
        message: &str,
    ) -> Result<Heard> {
        let body = wire::RecordError {
            epoch: key.epoch,
            start_block: blocks.start,
            end_block: blocks.last(),
            attempted,
            // What a command prints may hold anything; PostgreSQL stores no NUL.
            message: message.replace('\0', "\u{fffd}"),
        };
        self.post::<wire::HeardAnswer>(&claim_path(key, "error"), &body)
            .await?
            .try_into()
    }

    async fn checkpoint(
        &self,
        key: ClaimKey,
        block: i64,
        block_hash: &str,
    ) -> Result<CheckpointOutcome> {
        let body = wire::CheckpointRequest {
            epoch: key.epoch,
            block,
            block_hash: block_hash.to_owned(),
        };
        Ok(self
            .post::<wire::CheckpointAnswer>(&claim_path(key, "checkpoint"), &body)
            .await?
            .into())
    }

    async fn fail(&self, id: Uuid, error_message: &str) -> Result<Job> {
        let body = wire::Fail {
            error_message: error_message.to_owned(),
        };
        self.post::<wire::JobState>(&format!("monitoring/backfill/{id}/fail"), &body)
            .await?
            .try_into()
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>> {
        match self
            .get::<wire::JobState>(&format!("monitoring/backfill/{id}/state"), &[])
            .await
        {
            Ok(state) => Ok(Some(state.try_into()?)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn claims_held(&self, id: Uuid) -> Result<usize> {
        let gaps: wire::Gaps = self
            .get(&format!("monitoring/backfill/{id}/gaps"), &[])
            .await?;
        Ok(gaps
            .missing
            .iter()
            .filter(|gap| gap.claimed_by.is_some())
            .count())
    }
}

//! What is sent, is sent by the process's own HTTP client, with its TLS.

use std::{
    fmt, fs,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::redirect::Policy;
use utxoiq_store::tls;

use super::Settings;

/// More than an answer of a collector ever has.
const MAX_ANSWER: usize = 64 * 1024;

/// The client; clones share it.
#[derive(Clone)]
pub(super) struct Sender {
    client: reqwest::Client,
    /// Why the last request failed, without the address, which may hold a password.
    failure: Arc<Mutex<Option<String>>>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        tls::use_ring();
        let mut client = reqwest::Client::builder()
            .timeout(settings.timeout)
            .redirect(Policy::none());
        if let Some(path) = &settings.certificate {
            let what = || format!("OTEL_EXPORTER_OTLP_CERTIFICATE: {path}");
            let pem = fs::read(path).with_context(what)?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).with_context(what)?;
            client = client.tls_certs_merge(authorities);
        }
        let client = client
            .build()
            .map_err(reqwest::Error::without_url)
            .context("no client for traces: check that the system's certificates are installed")?;
        Ok(Self {
            client,
            failure: Arc::default(),
        })
    }

    /// Why the last request failed.
    pub(super) fn failure(&self) -> Option<String> {
        let failure = self.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    async fn send(&self, request: Request<Bytes>) -> reqwest::Result<Response<Bytes>> {
        let mut answer = self.client.execute(request.try_into()?).await?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_ANSWER {
                break;
            }
        }
        let failed = !status.is_success();
        self.note(failed.then(|| format!("it answered {}", status.as_u16())));
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.send(request).await.map_err(|error| {
            let error = error.without_url();
            self.note(Some(if error.is_timeout() {
                "it did not answer in time".to_owned()
            } else {
                format!("{:#}", anyhow::Error::new(error))
            }));
            HttpError::from("the collector was not reached")
        })
    }
}

//! One address that is posted to.

use std::{fmt, time::Duration};

use reqwest::{Client, header::CONTENT_TYPE, redirect::Policy};
use url::Url;

use super::Failure;
use crate::{
    config::Secret,
    error::{Error, Result},
    tls,
};

const AGENT: &str = concat!("utxoiq-store/", env!("CARGO_PKG_VERSION"));

/// An address, and a client for it. No output shows the address.
#[derive(Clone)]
pub struct Post {
    client: Client,
    url: Url,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Post {
    /// To an address. Follows no redirections: what is sent is for this address, and a redirection is no confirmation.
    pub fn new(url: &Secret) -> Result<Self> {
        tls::use_ring();
        let client = Client::builder()
            .user_agent(AGENT)
            .redirect(Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| {
                Error::invalid(
                    "invalid_config",
                    "the client that alerts are sent with cannot be made: check that the system's certificates are installed",
                )
                .with_source(error.without_url())
            })?;
        let url = Url::parse(url.expose()).map_err(|_| {
            Error::invalid("invalid_config", "an address of the section alert is none")
        })?;
        Ok(Self { client, url })
    }

    /// To an address below this one, with a query.
    pub fn below(&self, path: &[&str], query: &[(&str, &str)]) -> Self {
        let mut below = self.clone();
        // Only what is no address of the web has no segments.
        if let (false, Ok(mut segments)) = (path.is_empty(), below.url.path_segments_mut()) {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            below.url.query_pairs_mut().extend_pairs(query);
        }
        below
    }

    /// Sends; done when the answer is 2xx.
    pub async fn send(
        &self,
        content_type: &'static str,
        body: Vec<u8>,
        header: Option<(&'static str, String)>,
    ) -> Result<(), Failure> {
        let mut request = self.client.post(self.url.clone()).body(body);
        request = request.header(CONTENT_TYPE, content_type);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| {
            let error = error.without_url();
            if error.is_timeout() {
                Failure::new("it did not answer in time")
            } else {
                Failure::caused(&error)
            }
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Failure::new(format!("it answered {}", status.as_u16())))
    }
}

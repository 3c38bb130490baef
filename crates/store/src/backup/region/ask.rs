//! Asking Cloud Storage where a bucket is.
//!
//! The object store's client speaks the XML API, which does not tell it; the JSON API's description of a bucket does, to whoever
//! has `storage.buckets.get`.

use std::time::Duration;

use object_store::gcp::GcpCredentialProvider;
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Deserialize;

use super::{Location, shown};
use crate::cold::use_ring;

const CLOUD_STORAGE: &str = "https://storage.googleapis.com";

/// How long an answer may be: a real one has 200 bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What a bucket says of its place.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bucket {
    location: String,
    #[serde(default)]
    location_type: String,
    #[serde(default)]
    custom_placement_config: Placement,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Placement {
    #[serde(default)]
    data_locations: Vec<String>,
}

/// Asks where a bucket of Cloud Storage is, at `base` or at Google's address, with the token of the client's own credentials. Ends
/// within `timeout`; whatever is not an answer is [`Location::Unknown`] with the reason.
pub async fn ask(
    bucket: &str,
    base: Option<&str>,
    credentials: &GcpCredentialProvider,
    timeout: Duration,
) -> Location {
    let told = tokio::time::timeout(timeout, told(bucket, base, credentials)).await;
    let reason = match told {
        Ok(Ok(location)) => return location,
        Ok(Err(reason)) => reason,
        Err(_) => format!(
            "Cloud Storage did not answer in {} s",
            timeout.as_secs_f32()
        ),
    };
    Location::Unknown {
        reason: format!(
            "where the bucket {bucket} is cannot be asked: {reason}; or configure its location"
        ),
    }
}

async fn told(
    bucket: &str,
    base: Option<&str>,
    credentials: &GcpCredentialProvider,
) -> Result<Location, String> {
    let url = address(bucket, base.unwrap_or(CLOUD_STORAGE))
        .ok_or("the endpoint is not an address: correct it")?;
    use_ring();
    // The token is for this service alone.
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|_| "there is no HTTP client: look at the system's certificates")?;
    let credential = credentials
        .get_credential()
        .await
        .map_err(|_| "no token could be had: look at the service account")?;
    let mut request = client.get(url);
    if !credential.bearer.is_empty() {
        request = request.bearer_auth(&credential.bearer);
    }
    let mut response = request
        .send()
        .await
        .map_err(|_| "Cloud Storage could not be reached: look at the network")?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|_| "its answer broke off: try again")?
    {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ANSWER {
            return Err(RUBBISH.to_owned());
        }
    }
    let bucket: Bucket = serde_json::from_slice(&body).map_err(|_| RUBBISH)?;
    place(&bucket)
}

const RUBBISH: &str = "its answer is not the description of a bucket: is the endpoint one of Cloud Storage's JSON API?";

/// The address of the bucket's description. The name becomes one segment of the path, whatever it is.
fn address(bucket: &str, base: &str) -> Option<Url> {
    let mut url = Url::parse(base).ok()?;
    url.path_segments_mut()
        .ok()?
        .pop_if_empty()
        .extend(["storage", "v1", "b", bucket]);
    url.set_query(Some("fields=location,locationType,customPlacementConfig"));
    Some(url)
}

fn refusal(status: StatusCode) -> String {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!(
            "Cloud Storage refuses to tell ({}): grant the service account storage.buckets.get on it (roles/storage.legacyBucketReader has it)",
            status.as_u16()
        ),
        StatusCode::NOT_FOUND => "there is no such bucket (404): make it".to_owned(),
        other => format!("Cloud Storage answered {}: try again", other.as_u16()),
    }
}

/// The place that a bucket tells. The two regions of a configurable pair count before its location, which is but the code of a
/// continent or a country.
fn place(bucket: &Bucket) -> Result<Location, String> {
    let regions = bucket.custom_placement_config.data_locations.join("+");
    let text = if regions.is_empty() {
        &bucket.location
    } else {
        &regions
    };
    let location = Location::parse(text).map_err(|_| {
        format!(
            "Cloud Storage names a location that is not known here, {}",
            shown(text)
        )
    })?;
    let is_pair = bucket.location_type.eq_ignore_ascii_case("dual-region");
    if is_pair && !matches!(location, Location::DualRegion { .. }) {
        return Err("it is a dual-region whose two regions are not told".to_owned());
    }
    Ok(location)
}

//! From the settings to a client of the object store.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder,
    gcp::GoogleCloudStorageBuilder, local::LocalFileSystem, path::Path,
};
use url::Url;

use crate::{
    config::{ColdSettings, Secret},
    error::{Error, Result},
};

/// How often a request is sent again, within its time limit.
const RETRIES: usize = 3;

/// The client, and the prefix below which everything lies.
pub(super) fn connect(settings: &ColdSettings, url: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let parsed = Url::parse(url).map_err(|_| unusable("cold.url is not an address"))?;
    let prefix = || {
        Path::from_url_path(parsed.path())
            .map_err(|_| unusable("cold.url has a path that is not one"))
    };
    let bucket = parsed.host_str().unwrap_or_default();
    match parsed.scheme() {
        "gs" => Ok((cloud_storage(settings, bucket)?, prefix()?)),
        "s3" => Ok((s3(settings, bucket)?, prefix()?)),
        _ => {
            let folder = parsed
                .to_file_path()
                .map_err(|()| unusable("cold.url names no folder"))?;
            // On the disk before it is answered: what is archived is deleted from the database.
            let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| {
                unusable("the folder of cold.url is not there: make it, or mount it")
                    .with_source(error)
            })?;
            Ok((Arc::new(store.with_fsync(true)), Path::default()))
        }
    }
}

fn cloud_storage(settings: &ColdSettings, bucket: &str) -> Result<Arc<dyn ObjectStore>> {
    use_ring();
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_client_options(client(settings))
        .with_retry(retries(settings));
    if let Some(path) = &settings.service_account_path {
        builder = builder.with_service_account_path(path);
    }
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    builder
        .build()
        .map(|store| Arc::new(store) as _)
        .map_err(refused)
}

fn s3(settings: &ColdSettings, bucket: &str) -> Result<Arc<dyn ObjectStore>> {
    use_ring();
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_client_options(client(settings))
        .with_allow_http(settings.allow_http)
        .with_retry(retries(settings));
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let keys = (&settings.access_key_id, &settings.secret_access_key);
    if let (Some(id), Some(secret)) = keys {
        builder = builder
            .with_access_key_id(Secret::expose(id))
            .with_secret_access_key(Secret::expose(secret));
    }
    builder
        .build()
        .map(|store| Arc::new(store) as _)
        .map_err(refused)
}

fn client(settings: &ColdSettings) -> ClientOptions {
    let timeout = Duration::from_secs(settings.timeout_seconds);
    ClientOptions::new()
        .with_allow_http(settings.allow_http)
        .with_timeout(timeout)
        .with_connect_timeout(timeout.min(Duration::from_secs(5)))
}

fn retries(settings: &ColdSettings) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: Duration::from_secs(settings.timeout_seconds),
    }
}

/// The HTTP client of this build brings no cryptography of its own, and cannot be made before the process has chosen one;
/// another part of it may have done that before.
pub fn use_ring() {
    // Refused where there is one: then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn unusable(message: &'static str) -> Error {
    Error::invalid("invalid_config", message)
}

fn refused(error: object_store::Error) -> Error {
    Error::invalid(
        "invalid_config",
        "the object store's client cannot be made from the settings in the section cold",
    )
    .with_source(error)
}

//! From the settings to a client of the object store.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
    aws::AmazonS3Builder,
    gcp::{GcpCredentialProvider, GoogleCloudStorage, GoogleCloudStorageBuilder},
    local::LocalFileSystem,
    path::Path,
};
use url::Url;

use crate::{
    config::{ObjectStoreSettings, Secret},
    error::{Error, Result},
    tls::use_ring,
};

/// How often a request is sent again, within its time limit.
const RETRIES: usize = 3;

/// A client.
pub(super) struct Connected {
    pub store: Arc<dyn ObjectStore>,
    /// Below which everything lies.
    pub prefix: Path,
    /// Of Cloud Storage: what it is spoken to with.
    pub credentials: Option<GcpCredentialProvider>,
}

/// The client of the settings.
pub(super) fn connect(settings: &ObjectStoreSettings, url: &str) -> Result<Connected> {
    let section = settings.section;
    let parsed = Url::parse(url).map_err(|_| unusable(section, "is not an address"))?;
    let prefix = || {
        Path::from_url_path(parsed.path())
            .map_err(|_| unusable(section, "has a path that is not one"))
    };
    let bucket = parsed.host_str().unwrap_or_default();
    match parsed.scheme() {
        "gs" => {
            let store = cloud_storage(settings, bucket)?;
            Ok(Connected {
                credentials: Some(Arc::clone(store.credentials())),
                store: Arc::new(store),
                prefix: prefix()?,
            })
        }
        "s3" => Ok(Connected {
            store: s3(settings, bucket)?,
            prefix: prefix()?,
            credentials: None,
        }),
        _ => {
            let folder = parsed
                .to_file_path()
                .map_err(|()| unusable(section, "names no folder"))?;
            // On the disk before it is answered: what is archived is deleted from the database.
            let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| {
                unusable(
                    section,
                    "names a folder that is not there: make it, or mount it",
                )
                .with_source(error)
            })?;
            Ok(Connected {
                store: Arc::new(store.with_fsync(true)),
                prefix: Path::default(),
                credentials: None,
            })
        }
    }
}

fn cloud_storage(settings: &ObjectStoreSettings, bucket: &str) -> Result<GoogleCloudStorage> {
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
        .map_err(|error| refused(settings.section, error))
}

fn s3(settings: &ObjectStoreSettings, bucket: &str) -> Result<Arc<dyn ObjectStore>> {
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
        .map_err(|error| refused(settings.section, error))
}

fn client(settings: &ObjectStoreSettings) -> ClientOptions {
    let timeout = Duration::from_secs(settings.timeout_seconds);
    ClientOptions::new()
        .with_allow_http(settings.allow_http)
        .with_timeout(timeout)
        .with_connect_timeout(timeout.min(Duration::from_secs(5)))
}

fn retries(settings: &ObjectStoreSettings) -> RetryConfig {
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

fn unusable(section: &str, why: &str) -> Error {
    Error::invalid("invalid_config", format!("{section}.url {why}"))
}

fn refused(section: &str, error: object_store::Error) -> Error {
    Error::invalid(
        "invalid_config",
        format!(
            "the object store's client cannot be made from the settings in the section {section}"
        ),
    )
    .with_source(error)
}

//! What every section about an object store has, in one shape.

use super::{BackupCopySettings, BackupStoreSettings, ColdSettings, Secret, check::refuse_if};
use crate::error::Result;

/// Where an object store is, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct ObjectStoreSettings {
    /// The section that says so, for messages.
    pub section: &'static str,
    /// gs://bucket/prefix, s3://bucket/prefix or file:///folder.
    pub url: Option<String>,
    /// Where it is said to be.
    pub location: Option<String>,
    /// The address of the store, where it is not its provider's own.
    pub endpoint: Option<String>,
    /// Whether it may be spoken to without TLS.
    pub allow_http: bool,
    /// The region of an S3 bucket.
    pub region: Option<String>,
    /// The id of the access key of an S3 bucket.
    pub access_key_id: Option<Secret>,
    /// The secret of that key.
    pub secret_access_key: Option<Secret>,
    /// The file with a service account's key for Cloud Storage.
    pub service_account_path: Option<String>,
    /// How long one request may take, with all its retries.
    pub timeout_seconds: u64,
}

macro_rules! from_section {
    ($settings:ty, $section:literal, $location:expr) => {
        impl From<&$settings> for ObjectStoreSettings {
            fn from(section: &$settings) -> Self {
                Self {
                    section: $section,
                    url: section.url.clone(),
                    location: $location(section),
                    endpoint: section.endpoint.clone(),
                    allow_http: section.allow_http,
                    region: section.region.clone(),
                    access_key_id: section.access_key_id.clone(),
                    secret_access_key: section.secret_access_key.clone(),
                    service_account_path: section.service_account_path.clone(),
                    timeout_seconds: section.timeout_seconds,
                }
            }
        }
    };
}

from_section!(ColdSettings, "cold", |_: &ColdSettings| None);
from_section!(
    BackupStoreSettings,
    "backup_store",
    |section: &BackupStoreSettings| section.location.clone()
);
from_section!(
    BackupCopySettings,
    "backup_copy",
    |section: &BackupCopySettings| section.location.clone()
);

impl ObjectStoreSettings {
    /// Refuses what cannot work, or contradicts itself.
    pub(super) fn check(&self) -> Result<()> {
        let section = self.section;
        refuse_if(
            !(1..=3_600).contains(&self.timeout_seconds),
            format!("{section}.timeout_seconds must be from 1 to 3600"),
        )?;
        refuse_if(
            self.access_key_id.is_some() != self.secret_access_key.is_some(),
            format!(
                "{section}.access_key_id and {section}.secret_access_key must both be set, or neither"
            ),
        )?;
        let Some(url) = &self.url else { return Ok(()) };
        let parsed = url::Url::parse(url).ok();
        let (scheme, host) = parsed
            .as_ref()
            .map_or(("", ""), |url| (url.scheme(), url.host_str().unwrap_or("")));
        let is_place = match scheme {
            "gs" | "s3" => !host.is_empty(),
            "file" => host.is_empty(),
            _ => false,
        };
        let has_more = parsed.as_ref().is_some_and(|url| {
            url.query().is_some() || url.fragment().is_some() || !url.username().is_empty()
        });
        refuse_if(
            !is_place || has_more,
            format!(
                "{section}.url must look like gs://bucket/prefix, s3://bucket/prefix or file:///folder; keys have settings of their own"
            ),
        )?;
        refuse_if(
            scheme != "s3" && (self.region.is_some() || self.access_key_id.is_some()),
            format!(
                "{section}.region, {section}.access_key_id and {section}.secret_access_key are about s3:// only"
            ),
        )?;
        refuse_if(
            scheme != "gs" && self.service_account_path.is_some(),
            format!("{section}.service_account_path is about gs:// only"),
        )?;
        let Some(endpoint) = &self.endpoint else {
            return Ok(());
        };
        refuse_if(
            scheme == "file",
            format!("{section}.endpoint is about gs:// and s3:// only"),
        )?;
        let is_allowed = endpoint.starts_with("https://")
            || (self.allow_http && endpoint.starts_with("http://"));
        refuse_if(
            !is_allowed,
            format!(
                "{section}.endpoint must begin with https://, or with http:// where {section}.allow_http is true"
            ),
        )
    }
}

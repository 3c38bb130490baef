//! What the identity provider of end users may not be.

use super::refuse_if;
use crate::{
    config::{Addresses, OidcSettings, is_loopback},
    error::Result,
};

impl OidcSettings {
    /// The most audiences, of which each token is compared with all.
    const MOST_AUDIENCES: usize = 20;

    pub(super) fn check(&self) -> Result<()> {
        let audiences = self.audience.as_ref().map_or(&[][..], Addresses::as_slice);
        let is_there = [
            self.issuer.is_some(),
            !audiences.is_empty(),
            self.jwks_url.is_some(),
        ];
        refuse_if(
            is_there.contains(&true) && is_there.contains(&false),
            "oidc.issuer, oidc.audience and oidc.jwks_url must all be set, or none: a token is taken only from that issuer, for that audience, signed with these keys",
        )?;
        refuse_if(
            audiences.len() > Self::MOST_AUDIENCES,
            "oidc.audience must name at most 20",
        )?;
        refuse_if(
            self.jwks_url
                .as_deref()
                .is_some_and(|url| !is_trustworthy(url)),
            "oidc.jwks_url must look like https://host/path, without user, password and fragment; http:// is for this machine's own addresses only: who can change the keys on their way can be anybody",
        )?;
        refuse_if(
            self.clock_skew_seconds > 300,
            "oidc.clock_skew_seconds must be at most 300: expired tokens work for so long",
        )?;
        refuse_if(
            self.token_cache_seconds > 600,
            "oidc.token_cache_seconds must be at most 600",
        )?;
        refuse_if(
            self.keys_outlive_hours > 720,
            "oidc.keys_outlive_hours must be at most 720: withdrawn keys work for so long while the provider is away",
        )?;
        refuse_if(
            self.roles.is_some() != self.roles_claim.is_some(),
            "oidc.roles and oidc.roles_claim must both be set, or neither",
        )
    }
}

/// Whether nobody between here and there can change what comes from an address.
fn is_trustworthy(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else {
        return false;
    };
    let is_here = url.host_str().is_some_and(is_loopback);
    let is_alone =
        url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    is_alone && (url.scheme() == "https" || (url.scheme() == "http" && is_here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in [
            "https://www.googleapis.com/service_accounts/v1/jwk/x@system.gserviceaccount.com",
            "http://127.0.0.1:8080/keys",
            "http://[::1]/keys",
            "http://localhost/keys",
        ] {
            assert!(is_trustworthy(good), "{good}");
        }
        for bad in [
            "",
            "keys",
            "http://example.com/keys",
            "http://localhost.example.com/keys",
            "http://10.0.0.1/keys",
            "https://user@example.com/keys",
            "https://:password@example.com/keys",
            "https://example.com/keys#a",
            "file:///keys",
            "ftp://127.0.0.1/keys",
        ] {
            assert!(!is_trustworthy(bad), "{bad}");
        }
    }
}

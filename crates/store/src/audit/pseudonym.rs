//! Names for people that only who holds the key can give.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::entry::hex;
use crate::{
    config::{RetentionSettings, Secret},
    error::{Error, Result},
};

/// The pseudonym of a user: `p:` and the HMAC-SHA-256 of the id in hexadecimal.
///
/// The same user has the same pseudonym as long as the key is the same. Without the key nobody can tell whether a
/// pseudonym is a given user's, not even by trying all users: that is what a plain hash would allow.
pub fn pseudonym(key: &Secret, user_id: &str) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes())
        .map_err(|error| Error::internal("the key for pseudonyms is none").with_source(error))?;
    mac.update(user_id.as_bytes());
    Ok(format!("p:{}", hex(&mac.finalize().into_bytes())))
}

/// The pseudonym of a user by the configured key.
///
/// Fails with `no_pseudonym_key` where there is none.
pub fn pseudonym_by(settings: &RetentionSettings, user_id: &str) -> Result<String> {
    let key = settings.pseudonym_key.as_ref().ok_or_else(|| {
        Error::conflict(
            "no_pseudonym_key",
            "the audit log names no users, only pseudonyms: set retention.pseudonym_key, and keep it as long as the log",
        )
    })?;
    pseudonym(key, user_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_is_the_hmac_that_others_compute() {
        // The second example of RFC 4231.
        let pseudonym = pseudonym(&Secret::new("Jefe"), "what do ya want for nothing?").unwrap();
        assert_eq!(
            pseudonym,
            "p:5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}

//! The keys of backups: age's, one pair to recover with, kept offline, and one that the proving process holds.
//!
//! Whoever makes a backup has only the public halves: a process that is taken over can read no backup that was made.

use std::str::FromStr as _;

use age::{
    secrecy::ExposeSecret as _,
    x25519::{Identity, Recipient},
};

use crate::{
    config::{BackupSettings, Secret},
    error::{Error, Result},
};

/// A new pair of keys.
#[derive(Debug)]
pub struct KeyPair {
    /// The public key: `age1…`.
    pub recipient: String,
    /// The secret one: `AGE-SECRET-KEY-1…`.
    pub identity: Secret,
}

impl KeyPair {
    /// Makes one, from the system's randomness.
    pub fn generate() -> Self {
        let identity = Identity::generate();
        Self {
            recipient: identity.to_public().to_string(),
            identity: Secret::new(identity.to_string().expose_secret()),
        }
    }
}

/// The public keys that a backup is encrypted to.
pub(super) fn recipients(settings: &BackupSettings) -> Result<Vec<Recipient>> {
    let named = [
        ("backup.recovery_recipient", &settings.recovery_recipient),
        ("backup.drill_recipient", &settings.drill_recipient),
    ];
    named
        .into_iter()
        .map(|(name, text)| {
            let text = text.as_ref().ok_or_else(|| {
                Error::invalid(
                    "invalid_config",
                    format!("{name} is not set: `utxoiq-store backup keygen` makes a key"),
                )
            })?;
            Recipient::from_str(text).map_err(|_| {
                Error::invalid(
                    "invalid_config",
                    format!("{name} is no public key of age: it begins with age1"),
                )
            })
        })
        .collect()
}

/// A secret key from its text; comments and empty lines around it, as in a file that `age-keygen` wrote, are skipped.
pub fn identity(text: &Secret) -> Result<Identity> {
    let line = text
        .expose()
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .unwrap_or_default();
    Identity::from_str(line).map_err(|_| {
        Error::invalid(
            "invalid_key",
            "the key is no secret key of age: it begins with AGE-SECRET-KEY-1",
        )
    })
}

/// Opens what was encrypted, for reading.
///
/// # Errors
///
/// `wrong_key` where it was encrypted to other keys; `backup_damaged` where it is not what was written.
pub(super) fn decrypt<R: std::io::Read>(
    input: R,
    identity: &Identity,
) -> Result<age::stream::StreamReader<R>> {
    use age::DecryptError as E;
    let opened = age::Decryptor::new(input)
        .and_then(|opened| opened.decrypt(std::iter::once(identity as &dyn age::Identity)));
    opened.map_err(|error| match error {
        E::NoMatchingKeys => Error::invalid(
            "wrong_key",
            "the backup was encrypted to other keys than this one: take the recovery key, or the drill key of that time",
        ),
        // What ends too early, or is no text where its header is, was read as it lies there.
        E::Io(error)
            if !matches!(
                error.kind(),
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData
            ) =>
        {
            Error::unavailable(
            "backup_unreadable",
            "the backup could not be read to its end",
        )
        .with_source(error)
        }
        error => Error::unavailable(
            "backup_damaged",
            "the backup does not begin as it was written: verify it, and take another one",
        )
        .with_source(error),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn sealed(recipients: &[Recipient]) -> Vec<u8> {
        let encryptor =
            age::Encryptor::with_recipients(recipients.iter().map(|one| one as _)).unwrap();
        let mut output = encryptor.wrap_output(Vec::new()).unwrap();
        output.write_all(b"what was backed up").unwrap();
        output.finish().unwrap()
    }

    #[test]
    fn each_of_the_two_keys_opens_it_and_a_third_does_not() {
        let pairs = [
            KeyPair::generate(),
            KeyPair::generate(),
            KeyPair::generate(),
        ];
        let recipients: Vec<Recipient> = pairs[..2]
            .iter()
            .map(|pair| pair.recipient.parse().unwrap())
            .collect();
        let sealed = sealed(&recipients);
        for pair in &pairs[..2] {
            let mut opened = decrypt(&sealed[..], &identity(&pair.identity).unwrap()).unwrap();
            let mut text = String::new();
            opened.read_to_string(&mut text).unwrap();
            assert_eq!(text, "what was backed up");
        }
        let third = identity(&pairs[2].identity).unwrap();
        assert_eq!(
            decrypt(&sealed[..], &third).err().unwrap().code(),
            "wrong_key"
        );
        assert_eq!(
            decrypt(&b"rubbish"[..], &third).err().unwrap().code(),
            "backup_damaged"
        );
    }

    #[test]
    fn a_key_file_is_read_and_rubbish_is_not_shown() {
        let pair = KeyPair::generate();
        let file = format!("# made today\n\n{}\n", pair.identity.expose());
        assert!(identity(&Secret::new(file)).is_ok());
        let error = identity(&Secret::new("AGE-SECRET-KEY-1RUBBISH"))
            .err()
            .unwrap();
        assert!(!format!("{error:?} {error}").contains("RUBBISH"));
        assert!(!format!("{pair:?}").contains(&pair.identity.expose()[20..]));
    }
}

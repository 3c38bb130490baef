//! The token's text: made once, read strictly, never kept.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRng as _, rngs::SysRng};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    config::Secret,
    error::{Error, Result},
};

/// What every token begins with, so that a scanner of repositories and logs can find a leaked one.
const PREFIX: &str = "uqs_";
const ID_LENGTH: usize = 32;
const SECRET_LENGTH: usize = 43;

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// The hash of a secret or of a whole token.
pub(super) fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// What a presented token says: the public id, and the hash of the secret that came with it.
pub(super) struct Presented {
    pub id: Uuid,
    pub secret_hash: Hash,
}

impl Presented {
    /// Reads `uqs_<id>_<secret>`: the id as 32 hexadecimal digits, the secret's 256 bits in base64url without
    /// padding. Anything else is `None`, decided by length before a byte is looked at.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = parts(text)?;
        Some(Self {
            id,
            secret_hash: sha256(&secret),
        })
    }
}

/// Whether a text has the form of a token.
pub(super) fn has_form(text: &str) -> bool {
    parts(text).is_some()
}

/// A token's id and secret.
fn parts(text: &str) -> Option<(Uuid, [u8; 32])> {
    if text.len() != PREFIX.len() + ID_LENGTH + 1 + SECRET_LENGTH || !text.is_ascii() {
        return None;
    }
    let (id, secret) = text.strip_prefix(PREFIX)?.split_at(ID_LENGTH);
    let id = parse_id(id)?;
    // Room for the 33 bytes that a decoder may want for 44 characters; a secret has 43.
    let mut bytes = [0; 33];
    let length = URL_SAFE_NO_PAD
        .decode_slice(secret.strip_prefix('_')?, &mut bytes)
        .ok()?;
    let secret = bytes[..length].try_into().ok()?;
    Some((id, secret))
}

/// Lower case only: a token has one spelling.
fn parse_id(text: &str) -> Option<Uuid> {
    let spelled = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if spelled {
        Uuid::try_parse(text).ok()
    } else {
        None
    }
}

/// A new token's id, secret hash and text, from the operating system's random numbers.
pub(super) fn generate() -> Result<(Uuid, Hash, Secret)> {
    let id = uuid::Builder::from_random_bytes(random()?).into_uuid();
    let (hash, text) = generate_for(id)?;
    Ok((id, hash, text))
}

/// A new secret's hash, and the text of a token of that id with it.
pub(super) fn generate_for(id: Uuid) -> Result<(Hash, Secret)> {
    let secret: [u8; 32] = random()?;
    let text = format!("{PREFIX}{}_{}", id.simple(), URL_SAFE_NO_PAD.encode(secret));
    Ok((sha256(&secret), Secret::new(text)))
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Error::internal("the system gave no random numbers").with_source(error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_made_token_is_read_back_and_needs_no_escaping() {
        let (id, hash, token) = generate().unwrap();
        let token = token.expose();
        assert!(
            token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        let read = Presented::parse(token).unwrap();
        assert_eq!((read.id, read.secret_hash), (id, hash));
    }

    #[test]
    fn two_tokens_are_never_the_same() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert!(one.0 != two.0 && one.1 != two.1);
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let (_, _, token) = generate().unwrap();
        let token = token.expose();
        let mut wrong = vec![
            String::new(),
            "uqs_".into(),
            "\0".into(),
            format!("{token} "),
            format!(" {token}"),
            format!("{token}="),
            token.replacen("uqs", "UQS", 1),
            token[..token.len() - 1].to_owned(),
            "u".repeat(1 << 20),
            "\u{1f511}".repeat(20),
            token.chars().rev().collect(),
        ];
        for at in 0..token.len() {
            let mut broken = token.to_owned();
            broken.replace_range(at..=at, "\0");
            wrong.push(broken);
        }
        for text in wrong {
            assert!(
                Presented::parse(&text).is_none(),
                "{:?}",
                text.chars().take(90).collect::<String>()
            );
        }
        let upper = format!(
            "{}{}{}",
            &token[..4],
            token[4..36].to_uppercase(),
            &token[36..]
        );
        assert_eq!(Presented::parse(&upper).is_some(), upper == token);
    }

    proptest! {
        #[test]
        fn no_input_panics(text in ".{0,120}") {
            let _ = Presented::parse(&text);
        }

        #[test]
        fn no_input_of_the_right_length_panics(text in "uqs_[0-9a-fA-F\u{e9}]{32}[_x][A-Za-z0-9_\u{0}-]{43}") {
            let _ = Presented::parse(&text);
        }
    }
}

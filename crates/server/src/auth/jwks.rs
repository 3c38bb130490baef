//! The keys that an identity provider publishes: a JSON Web Key Set (RFC 7517).
//!
//! A key that is none of ours (for encryption, of another kind, too short) is left out, and the others are used. A set in
//! which none is left is no set: a provider that publishes nothing usable is broken, and its earlier keys go on.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use super::jwt::{Algorithm, Jwt, MAX_KEY_ID, Refusal};

/// The most keys of a set.
pub const MAX_KEYS: usize = 100;

/// RSA keys have at least 2,048 bits, and at most 8,192: verifying takes time.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// The largest public exponent, in bytes.
const MAX_EXPONENT: usize = 8;

/// A public key, for one algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    /// Modulus and exponent, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point, not compressed.
    P256(Vec<u8>),
}

/// Keys by their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(HashMap<String, Vec<Key>>);

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Published {
    kid: String,
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a set. Fails, saying why, where it is none, has more than [`MAX_KEYS`] keys, or none that can be used.
    pub fn read(document: &[u8]) -> Result<Self, &'static str> {
        let set: Set =
            serde_json::from_slice(document).map_err(|_| "what it answers is no set of keys")?;
        if set.keys.len() > MAX_KEYS {
            return Err("it publishes more than 100 keys");
        }
        let mut keys: HashMap<String, Vec<Key>> = HashMap::new();
        for value in set.keys {
            let Ok(published) = serde_json::from_value::<Published>(value) else {
                continue;
            };
            if let Some(key) = published.key() {
                keys.entry(published.kid).or_default().push(key);
            }
        }
        if keys.is_empty() {
            return Err("it publishes no key for RS256 or ES256 that can be used");
        }
        Ok(Self(keys))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether there is a key of that id.
    pub fn know(&self, key_id: &str) -> bool {
        self.0.contains_key(key_id)
    }

    /// Whether a token is signed with the key that it names.
    pub fn verify(&self, token: &Jwt<'_>) -> Result<(), Refusal> {
        let named = self.0.get(&token.key_id).ok_or(Refusal::UnknownKey)?;
        let mut fitting = named
            .iter()
            .filter(|key| key.algorithm() == token.algorithm)
            .peekable();
        if fitting.peek().is_none() {
            return Err(Refusal::Algorithm);
        }
        if fitting.any(|key| key.has_signed(token.signed, &token.signature)) {
            Ok(())
        } else {
            Err(Refusal::Signature)
        }
    }
}

impl Key {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verdict = match self {
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
        };
        verdict.is_ok()
    }
}

impl Published {
    /// The key, where it is one that tokens may be signed with.
    fn key(&self) -> Option<Key> {
        let verifies = self
            .purpose
            .as_deref()
            .is_none_or(|purpose| purpose == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|all| all.iter().any(|one| one == "verify"));
        let is_named = (1..=MAX_KEY_ID).contains(&self.kid.len());
        if !verifies || !is_named {
            return None;
        }
        let (key, algorithm) = match self.kty.as_str() {
            "RSA" => (self.rsa()?, "RS256"),
            "EC" => (self.p256()?, "ES256"),
            _ => return None,
        };
        let agrees = self.alg.as_deref().is_none_or(|named| named == algorithm);
        agrees.then_some(key)
    }

    fn rsa(&self) -> Option<Key> {
        let (n, e) = (number(self.n.as_ref()?)?, number(self.e.as_ref()?)?);
        // 2,048 bits and not 2,047: the first of 256 bytes begins with a one.
        let is_long = RSA_BYTES.contains(&n.len())
            && (n.len() > *RSA_BYTES.start() || n.first().is_some_and(|first| *first >= 0x80));
        let is_exponent = (1..=MAX_EXPONENT).contains(&e.len())
            && e.last().is_some_and(|last| last % 2 == 1)
            && e != [1];
        (is_long && is_exponent).then_some(Key::Rsa { n, e })
    }

    fn p256(&self) -> Option<Key> {
        if self.crv.as_deref() != Some("P-256") {
            return None;
        }
        let mut point = vec![4];
        for coordinate in [self.x.as_ref()?, self.y.as_ref()?] {
            let bytes = URL_SAFE_NO_PAD.decode(coordinate).ok()?;
            if bytes.len() != 32 {
                return None;
            }
            point.extend(bytes);
        }
        Some(Key::P256(point))
    }
}

/// A number without leading zeros.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rsa(bytes: usize) -> Value {
        let n = URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        json!({"kty": "RSA", "kid": "k", "n": n, "e": "AQAB"})
    }

    fn p256() -> Value {
        let coordinate = URL_SAFE_NO_PAD.encode([7; 32]);
        json!({"kty": "EC", "kid": "k", "crv": "P-256", "x": coordinate, "y": coordinate})
    }

    fn is_used(key: &Value, name: &str, value: Value) -> bool {
        let mut key = key.clone();
        key[name] = value;
        Keys::read(json!({"keys": [key]}).to_string().as_bytes()).is_ok()
    }

    #[test]
    fn keys_that_cannot_or_must_not_verify_are_left_out() {
        let (rsa_key, ec_key) = (rsa(256), p256());
        for (name, value) in [
            ("use", json!("sig")),
            ("key_ops", json!(["verify"])),
            ("more", json!({"a": 1})),
        ] {
            assert!(is_used(&rsa_key, name, value.clone()), "{name}");
            assert!(is_used(&ec_key, name, value), "{name}");
        }
        assert!(
            is_used(&rsa_key, "alg", json!("RS256")) && is_used(&ec_key, "alg", json!("ES256"))
        );
        for (name, value) in [
            ("use", json!("enc")),
            ("use", json!(1)),
            ("key_ops", json!(["sign"])),
            ("key_ops", json!([])),
            ("kid", json!("")),
            ("kid", json!("x".repeat(201))),
            ("kid", json!(null)),
            ("kty", json!("oct")),
            ("kty", json!("OKP")),
            ("alg", json!("HS256")),
            ("alg", json!("PS256")),
            ("alg", json!("none")),
        ] {
            assert!(!is_used(&rsa_key, name, value.clone()), "{name} {value}");
            assert!(!is_used(&ec_key, name, value), "{name}");
        }
        assert!(!is_used(&rsa_key, "alg", json!("ES256")));
        for e in ["", "AQ", "Ag", "AAAA", "AQAAAAAAAAAAAQ", "!"] {
            assert!(!is_used(&rsa_key, "e", json!(e)), "{e}");
        }
        for (name, value) in [("crv", "P-384"), ("x", "AAAA"), ("y", "")] {
            assert!(!is_used(&ec_key, name, json!(value)), "{name}");
        }
    }

    #[test]
    fn rsa_keys_have_2048_to_8192_bits() {
        let of = |n: Vec<u8>| is_used(&rsa(256), "n", json!(URL_SAFE_NO_PAD.encode(n)));
        let mut short = vec![0xff; 256];
        short[0] = 0x7f;
        let mut padded = vec![0; 3];
        padded.extend(vec![0xff; 255]);
        assert!(of(vec![0xff; 256]) && of(vec![0xff; 1_024]));
        for n in [vec![0xff; 128], short, padded, vec![0xff; 1_025], vec![]] {
            assert!(!of(n.clone()), "{}", n.len());
        }
    }

    #[test]
    fn a_set_has_at_most_a_hundred_keys_and_one_that_is_good() {
        let set = |keys: Vec<Value>| Keys::read(json!({ "keys": keys }).to_string().as_bytes());
        let many = |count: usize| (0..count).map(|_| p256()).collect::<Vec<_>>();
        assert_eq!(set(many(100)).unwrap().count(), 100);
        assert!(set(many(101)).is_err());
        assert!(set(vec![]).is_err());
        let mixed = vec![json!(1), json!({}), rsa(128), p256()];
        assert_eq!(set(mixed).unwrap().count(), 1);
        for garbage in ["", "[]", "{}", "{\"keys\":{}}", "<html>", "\u{0}"] {
            assert!(Keys::read(garbage.as_bytes()).is_err(), "{garbage}");
        }
    }
}

//! A JSON Web Token (RFC 7515, 7519): what it says, and whether that holds. Pure: bytes and times in, verdicts out.
//!
//! # What it guarantees
//!
//! * **What is not read is not trusted.** [`Jwt::read`] takes the head apart, which says which key to ask for; the claims can
//!   be had only from a [`Verified`] token, which only a key makes.
//! * **The algorithm is ours.** RS256 or ES256, and the key must be one of that algorithm: there is no `none`, and no HS256
//!   with a public key as its secret. Keys and addresses that a head brings along (`jwk`, `jku`, `x5u`) are not looked at.
//! * **What is not understood is refused**: an extension that the head calls critical, a type of token that is none for
//!   access (a logout token, say, is signed with the same keys), a claim of a wrong type. A wrong type is never taken
//!   for an absent claim.
//! * **Nothing is large**: [`MAX_LENGTH`] is looked at before anything else.
//! * **Time is an argument**, with a skew that both ends get.
//!
//! Signatures are verified by ring, which this process has for TLS already. Crates for this form were weighed: they bring a
//! second set of cryptography into the build, and read the system's clock; what they would do for us is this file.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{Map, Value};

/// The longest token, in bytes.
pub const MAX_LENGTH: usize = 8 * 1_024;

/// The longest key id, in bytes.
pub const MAX_KEY_ID: usize = 200;

/// The longest user id, in characters; the tables say the same.
const MAX_SUBJECT: usize = 100;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

/// Why a token is refused: for the log and the figures, never for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It has not the form of a token, or is too long.
    Malformed,
    /// It is signed in another way, or its key is one for another way.
    Algorithm,
    /// Its head has something that must be understood, and is not.
    Critical,
    /// It is a token of another type.
    Type,
    /// It names no key.
    NoKeyId,
    /// It names a key that the provider does not publish.
    UnknownKey,
    /// The signature is wrong.
    Signature,
    /// Its claims cannot be read.
    Claims,
    /// Somebody else has issued it.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// Its time is over.
    Expired,
    /// Its time has not come, or it was issued in the future.
    NotYet,
    /// Its subject cannot be a user's id.
    Subject,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Malformed,
        Self::Algorithm,
        Self::Critical,
        Self::Type,
        Self::NoKeyId,
        Self::UnknownKey,
        Self::Signature,
        Self::Claims,
        Self::Issuer,
        Self::Audience,
        Self::Expired,
        Self::NotYet,
        Self::Subject,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::Type => "type",
            Self::NoKeyId => "no_key_id",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Subject => "subject",
        }
    }
}

/// The head, as far as it is looked at. A name that is there twice is refused.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    typ: Option<String>,
    /// Whether it is there, whatever it is.
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

/// What may be absent is of its type where it is there: `null` is of none.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// A token that nobody has verified yet.
#[derive(Debug)]
pub struct Jwt<'a> {
    /// How it says it is signed.
    pub algorithm: Algorithm,
    /// The key that it names.
    pub key_id: String,
    /// What is signed.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
    claims: &'a str,
}

/// A token whose signature is right.
#[derive(Debug)]
pub struct Verified<'a>(&'a str);

impl<'a> Jwt<'a> {
    /// Takes a token apart.
    pub fn read(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > MAX_LENGTH {
            return Err(Refusal::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (head, claims) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        if claims.contains('.') || head.is_empty() || claims.is_empty() {
            return Err(Refusal::Malformed);
        }
        let head: Head = serde_json::from_slice(&decode(head)?).map_err(|_| Refusal::Malformed)?;
        if head.crit {
            return Err(Refusal::Critical);
        }
        let algorithm = match head.alg.as_str() {
            "RS256" => Algorithm::Rs256,
            "ES256" => Algorithm::Es256,
            _ => return Err(Refusal::Algorithm),
        };
        let is_for_access = head.typ.is_none_or(|typ| {
            let typ = typ.to_ascii_lowercase();
            let typ = typ.strip_prefix("application/").unwrap_or(&typ);
            ["jwt", "at+jwt"].contains(&typ)
        });
        if !is_for_access {
            return Err(Refusal::Type);
        }
        let key_id = head.kid.filter(|id| (1..=MAX_KEY_ID).contains(&id.len()));
        Ok(Self {
            algorithm,
            key_id: key_id.ok_or(Refusal::NoKeyId)?,
            signed: signed.as_bytes(),
            signature: decode(signature)?,
            claims,
        })
    }

    /// The token, where `is_right` says of the signature that it is.
    pub fn verify(
        self,
        is_right: impl FnOnce(&Self) -> Result<(), Refusal>,
    ) -> Result<Verified<'a>, Refusal> {
        is_right(&self)?;
        Ok(Verified(self.claims))
    }
}

/// Whether a text could be a token: what is cheap to see.
pub fn has_form(text: &str) -> bool {
    text.len() <= MAX_LENGTH
        && text.bytes().filter(|byte| *byte == b'.').count() == 2
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}

impl Verified<'_> {
    /// What the token says.
    pub fn claims(&self) -> Result<Claims, Refusal> {
        read_claims(self.0)
    }
}

fn read_claims(part: &str) -> Result<Claims, Refusal> {
    serde_json::from_slice(&decode(part)?).map_err(|_| Refusal::Claims)
}

/// Reads everything that a token says and believes none of it: no bytes may break this.
pub fn read_untrusted(token: &[u8]) -> Result<Claims, Refusal> {
    let text = std::str::from_utf8(token).map_err(|_| Refusal::Malformed)?;
    read_claims(Jwt::read(text)?.claims)
}

/// A time as a token has it: seconds since 1970, perhaps with a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Moment(DateTime<Utc>);

impl TryFrom<f64> for Moment {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        /// The end of the year 9999, with room for a skew.
        const LAST: f64 = 253_402_200_000.0;
        if !(0.0..=LAST).contains(&seconds) {
            return Err("no time");
        }
        #[allow(clippy::cast_possible_truncation)]
        // it is in range, and a part of a microsecond is nothing
        let micros = (seconds * 1e6) as i64;
        DateTime::from_timestamp_micros(micros)
            .map(Self)
            .ok_or("no time")
    }
}

/// For whom a token is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What a token says. A claim that is there twice is refused where it is one of those with a name here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Claims {
    iss: String,
    aud: Audience,
    sub: String,
    exp: Moment,
    #[serde(default, deserialize_with = "not_null")]
    nbf: Option<Moment>,
    #[serde(default, deserialize_with = "not_null")]
    iat: Option<Moment>,
    #[serde(default, deserialize_with = "not_null")]
    auth_time: Option<Moment>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// What a token has to say.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Its issuer.
    pub issuer: String,
    /// One of these is its audience.
    pub audiences: Vec<String>,
    /// How far clocks may be apart.
    pub skew: TimeDelta,
}

impl Claims {
    /// Whether a token that says this is good at `now`; and when it no longer is.
    pub fn check(&self, expected: &Expected, now: DateTime<Utc>) -> Result<DateTime<Utc>, Refusal> {
        if self.iss != expected.issuer {
            return Err(Refusal::Issuer);
        }
        let audiences = match &self.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Many(many) => many,
        };
        if !audiences.iter().any(|one| expected.audiences.contains(one)) {
            return Err(Refusal::Audience);
        }
        let end = self.exp.0 + expected.skew;
        if end <= now {
            return Err(Refusal::Expired);
        }
        let begins = [self.nbf, self.iat, self.auth_time];
        if begins
            .into_iter()
            .flatten()
            .any(|at| at.0 > now + expected.skew)
        {
            return Err(Refusal::NotYet);
        }
        let length = self.sub.chars().count();
        let is_id = (1..=MAX_SUBJECT).contains(&length)
            && !self.sub.trim().is_empty()
            && !self.sub.chars().any(char::is_control);
        if is_id {
            Ok(end)
        } else {
            Err(Refusal::Subject)
        }
    }

    /// Whose token it is.
    pub fn subject(&self) -> &str {
        &self.sub
    }

    /// The texts of a claim: one, or those of a list. The claim of the whole name comes first, since names may be addresses
    /// with dots; then dots lead into nested claims.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let found = self.others.get(name).or_else(|| {
            let mut steps = name.split('.');
            let first = self.others.get(steps.next()?)?;
            steps.try_fold(first, |claim, step| claim.get(step))
        });
        match found {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;

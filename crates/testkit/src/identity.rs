//! An identity provider, in this process: it signs tokens with real keys and publishes them as a JSON Web Key Set, which it
//! may change, refuse, hold back, spoil or make huge.
//!
//! Keys are made when they are first wanted, and are nowhere but in this process. RSA keys are made by the program openssl,
//! since making them in an unoptimised build takes seconds.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// A pair of keys that signs tokens.
pub struct Signer {
    /// Its id.
    pub key_id: String,
    pair: Pair,
}

enum Pair {
    Rsa(Arc<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// An RSA key of 2,048 bits for RS256; the same one for all ids of a process.
    pub fn rsa(key_id: &str) -> Self {
        static PAIR: OnceLock<Arc<RsaKeyPair>> = OnceLock::new();
        let pair = PAIR.get_or_init(|| {
            let made = Command::new("openssl")
                .args(["genpkey", "-algorithm", "RSA", "-outform", "DER"])
                .args(["-pkeyopt", "rsa_keygen_bits:2048"])
                .output()
                .expect("the program openssl is installed");
            // Which of the two forms it writes depends on its version.
            let pair = RsaKeyPair::from_pkcs8(&made.stdout)
                .or_else(|_| RsaKeyPair::from_der(&made.stdout));
            Arc::new(pair.expect("openssl makes a key"))
        });
        Self {
            key_id: key_id.to_owned(),
            pair: Pair::Rsa(Arc::clone(pair)),
        }
    }

    /// A new key on P-256 for ES256.
    pub fn p256(key_id: &str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key is made");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random);
        Self {
            key_id: key_id.to_owned(),
            pair: Pair::P256(Box::new(pair.expect("it is read back"))),
        }
    }

    /// What it signs with, as tokens name it.
    pub fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
        }
    }

    /// The public key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let PublicKeyComponents { n, e }: PublicKeyComponents<Vec<u8>> =
                    pair.public().into();
                json!({"kty": "RSA", "n": encode(n), "e": encode(e)})
            }
            Pair::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
        };
        jwk["kid"] = json!(self.key_id);
        jwk["alg"] = json!(self.algorithm());
        jwk["use"] = json!("sig");
        jwk
    }

    /// The public key's bytes: what a confused verifier would take for a shared secret.
    pub fn public_bytes(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair.public().as_ref().to_vec(),
            Pair::P256(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// A token that says this.
    pub fn token(&self, claims: &Value) -> String {
        let head = json!({"alg": self.algorithm(), "kid": self.key_id, "typ": "JWT"});
        self.token_with(&head, claims)
    }

    /// The same under a head of the caller's.
    pub fn token_with(&self, head: &Value, claims: &Value) -> String {
        let signed = unsigned(head, claims);
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("it signs");
                signature
            }
            Pair::P256(pair) => pair
                .sign(&random, message)
                .expect("it signs")
                .as_ref()
                .to_vec(),
        }
    }
}

/// Head and claims of a token, without a signature.
pub fn unsigned(head: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        encode(head.to_string()),
        encode(claims.to_string())
    )
}

/// A token that is signed with a shared secret (HS256).
pub fn shared_secret_token(secret: &[u8], key_id: &str, claims: &Value) -> String {
    let head = json!({"alg": "HS256", "kid": key_id, "typ": "JWT"});
    let signed = unsigned(&head, claims);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let signature = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

/// How the provider answers.
#[derive(Debug, Clone)]
pub enum Answers {
    /// With its keys.
    Keys,
    /// With this status.
    Status(u16),
    /// With a redirection to this address.
    Elsewhere(String),
    /// Not at all.
    Never,
    /// With this, and not its keys.
    Text(String),
    /// With so many bytes.
    Bytes(usize),
}

struct Published {
    keys: Vec<Value>,
    cache_control: String,
    answers: Answers,
    asked: usize,
}

type Shared = Arc<Mutex<Published>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Published> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An identity provider on a free port of 127.0.0.1, until it is dropped.
pub struct IdentityProvider {
    address: SocketAddr,
    shared: Shared,
    serving: JoinHandle<()>,
}

impl IdentityProvider {
    /// One that publishes these keys, for an hour.
    pub async fn start(signers: &[&Signer]) -> Self {
        let shared = Arc::new(Mutex::new(Published {
            keys: Vec::new(),
            cache_control: "public, max-age=3600".to_owned(),
            answers: Answers::Keys,
            asked: 0,
        }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let router = Router::new()
            .route("/keys", get(answer))
            .with_state(Arc::clone(&shared));
        let provider = Self {
            address,
            shared,
            serving: tokio::spawn(async move {
                axum::serve(listener, router).await.expect("it serves");
            }),
        };
        provider.publish(signers);
        provider
    }

    /// Where its keys are.
    pub fn keys_url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// From now on it publishes these keys.
    pub fn publish(&self, signers: &[&Signer]) {
        self.publish_values(signers.iter().map(|signer| signer.jwk()).collect());
    }

    /// The same with keys of any form.
    pub fn publish_values(&self, keys: Vec<Value>) {
        lock(&self.shared).keys = keys;
    }

    /// From now on it answers so.
    pub fn answer(&self, answers: Answers) {
        lock(&self.shared).answers = answers;
    }

    /// From now on its keys are sent with this `Cache-Control`.
    pub fn cache_control(&self, value: &str) {
        value.clone_into(&mut lock(&self.shared).cache_control);
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        lock(&self.shared).asked
    }
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(shared): State<Shared>) -> Response {
    let (answers, keys, control) = {
        let mut published = lock(&shared);
        published.asked += 1;
        let keys = json!({ "keys": published.keys }).to_string();
        (
            published.answers.clone(),
            keys,
            published.cache_control.clone(),
        )
    };
    let headers = [(header::CACHE_CONTROL, control)];
    match answers {
        Answers::Keys => (headers, keys).into_response(),
        Answers::Text(text) => (headers, text).into_response(),
        Answers::Bytes(count) => (headers, Body::from(vec![b' '; count])).into_response(),
        Answers::Never => std::future::pending().await,
        Answers::Status(status) => StatusCode::from_u16(status)
            .expect("a status")
            .into_response(),
        Answers::Elsewhere(address) => {
            (StatusCode::FOUND, [(header::LOCATION, address)]).into_response()
        }
    }
}

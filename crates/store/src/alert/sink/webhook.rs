//! A webhook of one's own: JSON with a signature.

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use super::{AlertSink, Failure, Post, Sent};
use crate::{
    alert::{Alert, Notice},
    config::Secret,
};

const SIGNATURE: &str = "Utxoiq-Signature";

pub struct Webhook {
    post: Post,
    secret: Secret,
}

/// What is sent; docs/operations/alerts.md says it to those who receive it.
#[derive(Serialize)]
struct Payload<'a> {
    version: u32,
    notice_id: &'a str,
    kind: &'static str,
    sent_at: DateTime<Utc>,
    alert: &'a Alert,
}

impl Webhook {
    pub fn new(post: Post, secret: &Secret) -> Self {
        Self {
            post,
            secret: secret.clone(),
        }
    }

    async fn send(&self, notice: &Notice) -> Result<(), Failure> {
        let payload = Payload {
            version: 1,
            notice_id: &notice.id,
            kind: notice.kind.as_str(),
            sent_at: notice.at,
            alert: &notice.alert,
        };
        let body = serde_json::to_vec(&payload).map_err(|error| Failure::caused(&error))?;
        let signature = signature(&self.secret, notice.at, &body)?;
        let header = Some((SIGNATURE, signature));
        self.post.send("application/json", body, header).await
    }
}

impl AlertSink for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn deliver<'a>(&'a self, notice: &'a Notice) -> Sent<'a> {
        self.send(notice).boxed()
    }
}

/// `t=` and the time in seconds, `v1=` and the HMAC-SHA-256 of that time, a dot and the body, in hexadecimal: who has the key
/// knows that it is from here, and that it is not an old one sent again.
fn signature(secret: &Secret, at: DateTime<Utc>, body: &[u8]) -> Result<String, Failure> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .map_err(|_| Failure::new("the key for signatures is none"))?;
    let seconds = at.timestamp().to_string();
    mac.update(seconds.as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut signature = format!("t={seconds},v1=");
    for byte in mac.finalize().into_bytes() {
        signature.push_str(&format!("{byte:02x}"));
    }
    Ok(signature)
}

//! What is told to somebody outside, who raises the alarm when nothing comes: in the form of healthchecks.io.

use std::{fmt, time::Duration};

use uuid::Uuid;

use super::sink::{Failure, Post};
use crate::{config::Secret, error::Result};

/// How long before each further attempt; there are as many as pauses.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// The longest text that is sent, in characters.
const MOST: usize = 5_000;

/// Somebody outside, where one is configured; otherwise everything here does nothing.
///
/// It never fails its caller: what could not be told is logged, and its absence is what is noticed there. A call takes less
/// than half a minute.
#[derive(Clone)]
pub struct Heartbeat {
    post: Option<Post>,
    timeout: Duration,
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat")
            .field("is_configured", &self.is_configured())
            .finish_non_exhaustive()
    }
}

impl Heartbeat {
    /// To an address, with a time for each attempt.
    pub fn new(url: Option<&Secret>, timeout: Duration) -> Result<Self> {
        Ok(Self {
            post: url.map(Post::new).transpose()?,
            timeout,
        })
    }

    /// Whether there is somebody.
    pub fn is_configured(&self) -> bool {
        self.post.is_some()
    }

    /// Something begins. Gives whether it was taken.
    pub async fn start(&self, run_id: Uuid) -> bool {
        self.tell(&["start"], run_id, "").await
    }

    /// It succeeded, or all is well.
    pub async fn success(&self, run_id: Uuid, text: &str) -> bool {
        self.tell(&[], run_id, text).await
    }

    /// It failed.
    pub async fn failure(&self, run_id: Uuid, text: &str) -> bool {
        self.tell(&["fail"], run_id, text).await
    }

    async fn tell(&self, path: &[&str], run_id: Uuid, text: &str) -> bool {
        let Some(post) = &self.post else { return false };
        let post = post.below(path, &[("rid", &run_id.to_string())]);
        let text: String = text.chars().take(MOST).collect();
        let mut pauses = PAUSES.iter();
        loop {
            let sending = post.send("text/plain; charset=utf-8", text.clone().into_bytes(), None);
            let sent = tokio::time::timeout(self.timeout, sending).await;
            let sent = sent.unwrap_or_else(|_| Err(Failure::new("it did not answer in time")));
            let Err(failure) = sent else { return true };
            let Some(pause) = pauses.next() else {
                tracing::error!(
                    what = path.first().copied().unwrap_or("success"),
                    "a heartbeat could not be sent: {failure}"
                );
                return false;
            };
            tokio::time::sleep(*pause).await;
        }
    }
}

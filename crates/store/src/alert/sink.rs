//! Whom alerts are sent to.

mod alertmanager;
mod email;
mod log;
mod post;
mod slack;
mod webhook;

use std::{fmt, sync::Arc};

use chrono::TimeDelta;
use futures_util::future::BoxFuture;

pub(super) use post::Post;

use super::Notice;
use crate::{config::AlertSettings, error::Result};

/// A receiver of notices.
pub trait AlertSink: Send + Sync {
    /// Its name, at most 200 characters, which no other receiver has.
    fn name(&self) -> &str;

    /// How often it has to be told of an open alert although nothing is new, also when somebody has acknowledged it: for a
    /// receiver that takes silence for the end. None for all that speak to people.
    fn refresh(&self) -> Option<TimeDelta> {
        None
    }

    /// Sends a notice. Done when the receiver has said that it took it.
    fn deliver<'a>(&'a self, notice: &'a Notice) -> Sent<'a>;
}

/// A notice on its way.
pub type Sent<'a> = BoxFuture<'a, Result<(), Failure>>;

/// Why a notice was not taken: for people, and without addresses, which may be secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// With its reason, at most 300 characters of it.
    pub fn new(reason: impl AsRef<str>) -> Self {
        Self(super::fitted(reason.as_ref(), 300))
    }

    /// With the innermost cause of an error: what is around it tells where something was sent.
    fn caused(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self::new(innermost.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The receivers that the settings name, and the log.
pub(super) fn of(settings: &AlertSettings) -> Result<Vec<Arc<dyn AlertSink>>> {
    let mut sinks: Vec<Arc<dyn AlertSink>> = vec![Arc::new(log::Log)];
    if let (Some(url), Some(secret)) = (&settings.webhook_url, &settings.webhook_secret) {
        sinks.push(Arc::new(webhook::Webhook::new(Post::new(url)?, secret)));
    }
    if let Some(url) = &settings.slack_url {
        sinks.push(Arc::new(slack::Slack::new(Post::new(url)?)));
    }
    if let Some(url) = &settings.alertmanager_url {
        let repeat = TimeDelta::minutes(i64::from(settings.repeat_minutes));
        sinks.push(Arc::new(alertmanager::Alertmanager::new(url, repeat)?));
    }
    if let (Some(url), Some(from), Some(to)) =
        (&settings.smtp_url, &settings.email_from, &settings.email_to)
    {
        let transport = email::transport(url, settings.timeout_seconds)?;
        for to in to.as_slice() {
            sinks.push(Arc::new(email::Email::new(&transport, from, to)?));
        }
    }
    Ok(sinks)
}

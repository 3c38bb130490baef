//! What the ways to alert somebody may not be.

use super::{Secret, refuse_if};
use crate::{
    config::{AlertSettings, is_loopback},
    error::{Error, Result},
};

impl AlertSettings {
    /// The longest time between two repeats: a day.
    const MOST_REPEAT_MINUTES: u32 = 1_440;
    /// The most addresses that mails are sent to.
    const MOST_ADDRESSES: usize = 20;

    pub(super) fn check(&self) -> Result<()> {
        refuse_if(
            !(1..=Self::MOST_REPEAT_MINUTES).contains(&self.repeat_minutes),
            "alert.repeat_minutes must be from 1 to 1440",
        )?;
        refuse_if(
            !(1..=60).contains(&self.timeout_seconds),
            "alert.timeout_seconds must be from 1 to 60: alerts are to be out within minutes",
        )?;
        for (name, url) in [
            ("alert.webhook_url", &self.webhook_url),
            ("alert.slack_url", &self.slack_url),
            ("alert.alertmanager_url", &self.alertmanager_url),
            ("alert.backup_heartbeat_url", &self.backup_heartbeat_url),
            ("alert.watch_heartbeat_url", &self.watch_heartbeat_url),
        ] {
            let is_good = url.as_ref().is_none_or(|url| is_web_address(url.expose()));
            if !is_good {
                let message = format!("{name} must look like https://host/path");
                return Err(Error::invalid("invalid_config", message));
            }
        }
        let secret = self.webhook_secret.as_ref().map(Secret::expose);
        refuse_if(
            self.webhook_url.is_some() != secret.is_some(),
            "alert.webhook_url and alert.webhook_secret must both be set, or neither: a notice that is not signed could be anybody's",
        )?;
        refuse_if(
            secret.is_some_and(|secret| secret.chars().count() < 16),
            "alert.webhook_secret must have at least 16 characters",
        )?;
        self.check_email()
    }

    fn check_email(&self) -> Result<()> {
        let (Some(url), Some(from), Some(to)) = (&self.smtp_url, &self.email_from, &self.email_to)
        else {
            let is_some =
                self.smtp_url.is_some() || self.email_from.is_some() || self.email_to.is_some();
            return refuse_if(
                is_some,
                "alert.smtp_url, alert.email_from and alert.email_to must all be set, or none",
            );
        };
        refuse_if(
            !is_mail_server(url.expose()),
            "alert.smtp_url must look like smtps://user:password@host:465 or smtp://host:25?tls=required; without TLS it may have no password, unless the host is this one",
        )?;
        refuse_if(
            from.parse::<lettre::message::Mailbox>().is_err(),
            "alert.email_from must be an address such as alerts@example.com",
        )?;
        let count = to.as_slice().len();
        let are_good = to
            .as_slice()
            .iter()
            .all(|to| to.chars().count() <= 150 && to.parse::<lettre::Address>().is_ok());
        refuse_if(
            !are_good || !(1..=Self::MOST_ADDRESSES).contains(&count),
            "alert.email_to must be from 1 to 20 addresses such as ops@example.com, with commas between them, of at most 150 characters each",
        )
    }
}

fn is_web_address(text: &str) -> bool {
    url::Url::parse(text)
        .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.fragment().is_none())
}

/// Whether it is a mail server's address by which no password goes over a network in clear text.
fn is_mail_server(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else {
        return false;
    };
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return false;
    };
    let tls = match url.query() {
        None => None,
        Some("tls=required") => Some(()),
        Some(_) => return false,
    };
    if url.username().is_empty() != url.password().is_none() {
        return false;
    }
    match url.scheme() {
        "smtps" => tls.is_none(),
        "smtp" => tls.is_some() || url.password().is_none() || is_loopback(host),
        _ => false,
    }
}

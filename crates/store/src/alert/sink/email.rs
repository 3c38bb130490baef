//! Mail, to one address: each is told, tried again and confirmed by itself.

use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};

use super::{AlertSink, Failure, Sent};
use crate::{
    alert::{Kind, Notice},
    config::Secret,
    error::{Error, Result},
    tls,
};

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// The mail server. Each mail has a connection of its own.
pub fn transport(url: &Secret, timeout_seconds: u64) -> Result<Transport> {
    tls::use_ring();
    let builder = Transport::from_url(url.expose()).map_err(|_| {
        // The cause may quote the address, and with it the password.
        Error::invalid(
            "invalid_config",
            "alert.smtp_url cannot be used: it must look like smtps://user:password@host:465, and the system's certificates must be installed",
        )
    })?;
    let timeout = Duration::from_secs(timeout_seconds);
    Ok(builder.timeout(Some(timeout)).build())
}

pub struct Email {
    name: String,
    transport: Transport,
    from: Mailbox,
    to: Mailbox,
}

impl Email {
    pub fn new(transport: &Transport, from: &str, to: &str) -> Result<Self> {
        let mailbox = |address: &str| {
            address.parse::<Mailbox>().map_err(|_| {
                Error::invalid("invalid_config", format!("{address} is no address of mail"))
            })
        };
        Ok(Self {
            name: format!("email {to}"),
            transport: transport.clone(),
            from: mailbox(from)?,
            to: mailbox(to)?,
        })
    }

    fn message(&self, notice: &Notice) -> Result<Message, Failure> {
        let alert = &notice.alert;
        let domain = self.from.email.domain();
        let first = format!("<{}@{domain}>", alert.id);
        let at = SystemTime::UNIX_EPOCH
            + Duration::from_secs(u64::try_from(notice.at.timestamp()).unwrap_or_default());
        let builder = Message::builder()
            .from(self.from.clone())
            .to(self.to.clone())
            .date(at)
            .message_id(Some(format!("<{}@{domain}>", notice.id)))
            // What belongs together is shown together.
            .references(first.clone())
            .in_reply_to(first)
            .subject(format!("{}: {}", headline(notice), alert.title))
            .header(ContentType::TEXT_PLAIN);
        builder
            .body(body(notice))
            .map_err(|error| Failure::caused(&error))
    }

    async fn send(&self, notice: &Notice) -> Result<(), Failure> {
        let message = self.message(notice)?;
        // 250 after the whole mail, or an error.
        self.transport
            .send(message)
            .await
            .map(|_| ())
            .map_err(|error| match error.status() {
                // What the server says beside the number may be anything.
                Some(code) => Failure::new(format!("the mail server answered {code}")),
                None if error.is_timeout() => {
                    Failure::new("the mail server did not answer in time")
                }
                None if error.is_client() => {
                    Failure::new("the mail server offers no way to log in that is known here")
                }
                None => Failure::caused(&error),
            })
    }
}

impl AlertSink for Email {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver<'a>(&'a self, notice: &'a Notice) -> Sent<'a> {
        self.send(notice).boxed()
    }
}

fn headline(notice: &Notice) -> String {
    match notice.kind {
        Kind::Firing => format!("[utxoiq-store] {}", notice.alert.severity),
        Kind::Repeated => format!("[utxoiq-store] still {}", notice.alert.severity),
        Kind::Resolved => "[utxoiq-store] resolved".to_owned(),
        Kind::Test => "[utxoiq-store] test".to_owned(),
    }
}

fn body(notice: &Notice) -> String {
    let alert = &notice.alert;
    let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let mut lines = vec![alert.title.clone()];
    if !alert.detail.is_empty() {
        lines.push(String::new());
        lines.push(alert.detail.clone());
    }
    lines.push(String::new());
    lines.push(format!("since:    {}", time(alert.opened_at)));
    if let Some(resolved_at) = alert.resolved_at {
        lines.push(format!("over:     {}", time(resolved_at)));
    }
    lines.push(format!("key:      {}", alert.key));
    lines.push(format!("id:       {}", alert.id));
    for (name, value) in &alert.labels {
        lines.push(format!("{name}: {value}"));
    }
    if !alert.runbook.is_empty() {
        lines.push(format!("runbook:  {}", alert.runbook));
    }
    if matches!(notice.kind, Kind::Firing | Kind::Repeated) {
        lines.push(format!(
            "to take:  utxoiq-store alert ack {} --note \"...\"",
            alert.id
        ));
    }
    lines.push(String::new());
    lines.join("\r\n")
}

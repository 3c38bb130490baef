//! Slack's incoming webhooks.

use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::{AlertSink, Failure, Post, Sent};
use crate::alert::{Kind, Notice, Severity};

/// The most characters of an alert's detail, as a section takes them.
const MOST: usize = 3_000;

pub struct Slack {
    post: Post,
}

impl Slack {
    pub fn new(post: Post) -> Self {
        Self { post }
    }
}

impl AlertSink for Slack {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn deliver<'a>(&'a self, notice: &'a Notice) -> Sent<'a> {
        async move {
            let body = serde_json::to_vec(&payload(notice));
            let body = body.map_err(|error| Failure::caused(&error))?;
            self.post.send("application/json", body, None).await
        }
        .boxed()
    }
}

/// The text is what notifications show, the blocks what the channel does.
fn payload(notice: &Notice) -> Value {
    let alert = &notice.alert;
    let sign = match (notice.kind, alert.severity) {
        (Kind::Resolved, _) => ":white_check_mark:",
        (Kind::Test, _) => ":information_source:",
        (_, Severity::Warning) => ":warning:",
        (_, Severity::Critical) => ":rotating_light:",
    };
    let headline = format!(
        "{sign} {} {}: {}",
        notice.kind.as_str(),
        alert.severity,
        escaped(&alert.title)
    );
    let mut facts = format!(
        "`{}` since {}",
        escaped(&alert.key),
        alert.opened_at.format("%Y-%m-%d %H:%M:%S UTC")
    );
    if let Some(resolved_at) = alert.resolved_at {
        facts.push_str(&format!(
            ", over since {}",
            resolved_at.format("%Y-%m-%d %H:%M:%S UTC")
        ));
    }
    if !alert.labels.is_empty() {
        let labels: Vec<String> = alert
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        facts.push_str(&format!("\n{}", escaped_within(&labels.join(" · "), 1_000)));
    }
    if !alert.runbook.is_empty() {
        facts.push_str(&format!("\nrunbook: {}", escaped(&alert.runbook)));
    }
    let section =
        |text: String| json!({"type": "section", "text": {"type": "mrkdwn", "text": text}});
    let mut blocks = vec![section(format!("*{headline}*"))];
    if !alert.detail.is_empty() {
        blocks.push(section(escaped_within(&alert.detail, MOST)));
    }
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": facts}]}));
    json!({"text": headline, "blocks": blocks})
}

/// Without what would be read as markup of links and mentions.
fn escaped(text: &str) -> String {
    escaped_within(text, usize::MAX)
}

/// The same, cut to so many characters, and not within one that was escaped.
fn escaped_within(text: &str, most: usize) -> String {
    let mut escaped = String::new();
    let mut length = 0;
    for c in text.chars() {
        let piece = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        length += piece.len().max(1);
        if length > most {
            break;
        }
        if piece.is_empty() {
            escaped.push(c);
        } else {
            escaped.push_str(piece);
        }
    }
    escaped
}

//! Certificates that run out.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use utxoiq_store::tls;

use super::{Around, Finding};

const CHECK: &str = "certificates";

/// How long before its end a certificate should be renewed.
const RENEWED_BEFORE: TimeDelta = TimeDelta::days(21);

/// Each file that is configured.
#[allow(clippy::unused_async)] // as all checks are
pub async fn look(around: &Around) -> Vec<Finding> {
    let (server, database, redis) = (
        &around.config.server,
        &around.config.database,
        &around.config.redis,
    );
    let files = [
        ("server.tls_certificate_file", &server.tls_certificate_file),
        (
            "database.tls_certificate_file",
            &database.tls_certificate_file,
        ),
        ("database.tls_ca_file", &database.tls_ca_file),
        ("redis.tls_certificate_file", &redis.tls_certificate_file),
        ("redis.tls_ca_file", &redis.tls_ca_file),
    ];
    let now = around.clock.now();
    let named = files
        .into_iter()
        .filter_map(|(setting, file)| file.as_deref().map(|file| (setting, file)));
    let findings: Vec<Finding> = named
        .map(|(setting, file)| of_file(setting, Path::new(file), now))
        .collect();
    if findings.is_empty() {
        return vec![Finding::skipped(CHECK, "no file is configured")];
    }
    findings
}

fn of_file(setting: &str, file: &Path, now: DateTime<Utc>) -> Finding {
    const MEND: &str = "renew it and put the new one into the same file, which is read again: docs/operations/transport.md";
    match tls::valid_until(file) {
        Err(error) => Finding::failed(
            CHECK,
            format!("{setting}: {error}"),
            "name a PEM file that this user may read",
        ),
        Ok(end) => {
            let says = format!(
                "{setting} is valid until {}",
                end.format("%Y-%m-%d %H:%M UTC")
            );
            if end <= now {
                Finding::failed(CHECK, format!("{says}: it has run out"), MEND)
            } else if end - now < RENEWED_BEFORE {
                Finding::warning(CHECK, says, MEND)
            } else {
                Finding::ok(CHECK, says)
            }
        }
    }
}

//! The two forms of a connection string, and our parameters in them.

use std::path::PathBuf;

use super::{Tls, TlsMode};

/// What the driver does not know, as it was written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Ours {
    pub mode: Option<String>,
    pub ca_file: Option<String>,
    pub certificate_file: Option<String>,
    pub key_file: Option<String>,
    pub password_source: Option<String>,
}

impl Ours {
    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.ca_file,
            "sslcert" => &mut self.certificate_file,
            "sslkey" => &mut self.key_file,
            "password_source" => &mut self.password_source,
            _ => return None,
        })
    }

    /// Name and value of all that is there.
    fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("sslmode", &self.mode),
            ("sslrootcert", &self.ca_file),
            ("sslcert", &self.certificate_file),
            ("sslkey", &self.key_file),
            ("password_source", &self.password_source),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    /// What it says of TLS, as libpq would take it.
    pub fn tls(&self, is_local_socket: bool) -> Result<Tls, &'static str> {
        // libpq 16's word for the system's authorities, which are ours without it.
        let is_system = self.ca_file.as_deref() == Some("system");
        let ca_file = self.ca_file.as_ref().filter(|_| !is_system);
        let mode = match self.mode.as_deref() {
            Some(mode) => TlsMode::parse(mode).ok_or(
                "has an sslmode that is none: disable, prefer, require, verify-ca or verify-full",
            )?,
            None if self.ca_file.is_some() => TlsMode::VerifyFull,
            None => TlsMode::Prefer,
        };
        let mode = match mode {
            _ if is_local_socket => TlsMode::Disable,
            TlsMode::Require if ca_file.is_some() => TlsMode::VerifyCa,
            mode => mode,
        };
        if mode == TlsMode::VerifyCa && ca_file.is_none() {
            return Err(
                "says sslmode=verify-ca and names no CA: anybody has a certificate of an authority that the system trusts; name one with sslrootcert or database.tls_ca_file",
            );
        }
        let identity = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                Some((PathBuf::from(certificate), PathBuf::from(key)))
            }
            (None, None) => None,
            _ => return Err("names one of sslcert and sslkey: they belong together"),
        };
        Ok(Tls {
            mode,
            ca_file: ca_file.map(PathBuf::from),
            identity,
        })
    }
}

/// Parts a connection string from our parameters. `None` where it is torn. Of a repeated one the last counts, as in libpq.
pub(super) fn split(text: &str) -> Option<(String, Ours)> {
    let mut ours = Ours::default();
    if !is_url(text) {
        let mut rest = Vec::new();
        for (name, value) in words(text)? {
            match ours.slot(&name) {
                Some(slot) => *slot = Some(value),
                None => rest.push(word(&name, &value)),
            }
        }
        return Some((rest.join(" "), ours));
    }
    let Some(at) = query_of(text) else {
        return Some((text.to_owned(), ours));
    };
    let (base, query) = (&text[..at], &text[at + 1..]);
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        match ours.slot(&decoded(name)?) {
            Some(slot) => *slot = Some(decoded(value)?),
            None => rest.push(pair),
        }
    }
    if rest.is_empty() {
        Some((base.to_owned(), ours))
    } else {
        Some((format!("{base}?{}", rest.join("&")), ours))
    }
}

/// The same with these parameters, where it does not have them.
pub(super) fn complete(text: &str, defaults: &Ours) -> String {
    let Some((rest, there)) = split(text) else {
        return text.to_owned();
    };
    let Ok(config) = rest.parse::<tokio_postgres::Config>() else {
        return text.to_owned();
    };
    let has_identity = there.certificate_file.is_some() || there.key_file.is_some();
    let mut text = text.trim_end().to_owned();
    for (name, value) in defaults.pairs() {
        let is_said = match name {
            // A password of its own is an answer to where it is from.
            "password_source" => there.password_source.is_some() || config.get_password().is_some(),
            "sslcert" | "sslkey" => has_identity,
            _ => there.clone().slot(name).is_some_and(|said| said.is_some()),
        };
        if is_said {
            continue;
        }
        if is_url(&text) {
            text.push(if query_of(&text).is_none() { '?' } else { '&' });
            text.push_str(&format!("{name}={}", encoded(value)));
        } else {
            text.push(' ');
            text.push_str(&word(name, value));
        }
    }
    text
}

fn is_url(text: &str) -> bool {
    text.starts_with("postgresql://") || text.starts_with("postgres://")
}

/// Where the query's question mark is. One before the `@` belongs to the password, as the driver has it.
fn query_of(text: &str) -> Option<usize> {
    let from = text.find('@').unwrap_or_default();
    text[from..].find('?').map(|at| from + at)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            all.push(char::from(byte));
        } else {
            all.push_str(&format!("%{byte:02X}"));
        }
        all
    })
}

/// `key=value` words, with quotes and backslashes as in libpq.
fn words(text: &str) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Some(all);
        }
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            name.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        rest.next_if_eq(&'=')?;
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let is_quoted = rest.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match rest.next() {
                Some('\\') => value.push(rest.next()?),
                Some('\'') if is_quoted => break,
                Some(c) if !is_quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if is_quoted => return None,
                None => break,
            }
        }
        all.push((name, value));
    }
}

fn word(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('\'', "\\'");
    format!("{name}='{value}'")
}

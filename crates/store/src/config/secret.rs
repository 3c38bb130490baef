//! Strings that no output shows.

use std::fmt;

use serde::Deserialize;

/// A secret: `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, to hand to the library that needs it and to nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Connection strings: a list, or one text with commas between them, as a variable of the environment has it. A comma within
/// one (several hosts of one server) is its own, since each begins with `postgresql://` or `postgres://`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct SecretUrls(Vec<Secret>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    List(Vec<String>),
}

impl SecretUrls {
    /// Each of them.
    pub fn as_slice(&self) -> &[Secret] {
        &self.0
    }

    /// Each of them, made into another.
    #[must_use]
    pub(super) fn map(&self, to: impl Fn(&str) -> String) -> Self {
        let made = self.0.iter().map(|url| Secret::new(to(url.expose())));
        Self(made.collect())
    }
}

impl From<Written> for SecretUrls {
    fn from(written: Written) -> Self {
        let parts: Vec<String> = match written {
            Written::Text(text) => {
                let text = text.trim_matches(|c: char| c == ',' || c.is_whitespace());
                text.split(',').map(str::to_owned).collect()
            }
            Written::List(list) => return Self(list.into_iter().map(Secret::new).collect()),
        };
        let mut urls: Vec<String> = Vec::with_capacity(parts.len());
        for part in parts {
            let begins = ["postgresql://", "postgres://"]
                .iter()
                .any(|scheme| part.trim_start().starts_with(scheme));
            match urls.last_mut() {
                Some(last) if !begins => {
                    last.push(',');
                    last.push_str(&part);
                }
                _ => urls.push(part),
            }
        }
        let urls = urls.iter().map(|url| url.trim());
        Self(
            urls.filter(|url| !url.is_empty())
                .map(Secret::new)
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_separates_addresses_and_not_the_hosts_of_one() {
        let urls = |text: &str| {
            let urls = SecretUrls::from(Written::Text(text.to_owned()));
            let all = urls.as_slice().iter().map(|url| url.expose().to_owned());
            all.collect::<Vec<_>>()
        };
        assert_eq!(
            urls("postgresql://u:p@a/d, postgres://u:p@b:1,c:2/d ,"),
            ["postgresql://u:p@a/d", "postgres://u:p@b:1,c:2/d"]
        );
        assert_eq!(urls("postgresql://a/d"), ["postgresql://a/d"]);
        assert!(urls(" ").is_empty());
        let debug = format!(
            "{:?}",
            SecretUrls::from(Written::Text("postgresql://u:s3cret@a/d".into()))
        );
        assert!(!debug.contains("s3cret"), "{debug}");
    }
}

//! A list that is also written as one text.

use serde::Deserialize;

/// Addresses of mail, or other names: a list, or one text with commas between them, as a variable of the environment has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Addresses(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    List(Vec<String>),
}

impl Addresses {
    /// The addresses, or names.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl From<&str> for Addresses {
    fn from(text: &str) -> Self {
        Written::Text(text.to_owned()).into()
    }
}

impl From<Written> for Addresses {
    fn from(written: Written) -> Self {
        let parts = match written {
            Written::Text(text) => text.split(',').map(str::to_owned).collect(),
            Written::List(list) => list,
        };
        let mut addresses: Vec<String> = Vec::with_capacity(parts.len());
        for part in parts {
            let part = part.trim();
            // Twice the same is once: each address is told of once.
            if !part.is_empty() && !addresses.iter().any(|there| there == part) {
                addresses.push(part.to_owned());
            }
        }
        Self(addresses)
    }
}

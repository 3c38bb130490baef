//! What people's roles may do, written as a table or as one text.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Addresses;

/// The scopes of each role, by name: a table of lists, or one text as a variable of the environment has it:
/// `analyst=feedback:read,stats:read;operator=alerts:read`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Roles(BTreeMap<String, Addresses>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Table(BTreeMap<String, Addresses>),
}

/// What is said of anything else; the value is not shown.
const EXPECTED: &str = "expected role=scope,scope;role=scope, each role once and with a scope";

impl Roles {
    /// Each role with the names of its scopes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        let all = self.0.iter();
        all.map(|(role, scopes)| (role.as_str(), scopes.as_slice()))
    }
}

impl TryFrom<Written> for Roles {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let roles = match written {
            Written::Table(roles) => roles,
            Written::Text(text) => read(&text)?,
        };
        let is_whole = |(role, scopes): (&String, &Addresses)| {
            !role.trim().is_empty() && role.trim() == role && !scopes.as_slice().is_empty()
        };
        if roles.iter().all(is_whole) {
            Ok(Self(roles))
        } else {
            Err(EXPECTED)
        }
    }
}

fn read(text: &str) -> Result<BTreeMap<String, Addresses>, &'static str> {
    let mut roles = BTreeMap::new();
    let parts = text.split(';').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        let (role, scopes) = part.split_once('=').ok_or(EXPECTED)?;
        let scopes = Addresses::from(scopes);
        // The later of two would undo what the earlier takes away.
        if roles.insert(role.trim().to_owned(), scopes).is_some() {
            return Err(EXPECTED);
        }
    }
    Ok(roles)
}

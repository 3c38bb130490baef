//! What end users may do: the configuration's names of scopes, made sure of when the process starts.

use std::collections::{BTreeMap, BTreeSet};

use super::Scope;
use crate::{
    config::{OidcSettings, Roles},
    error::{Error, Result},
};

/// The scopes of everybody who is signed in, and of each role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    everybody: BTreeSet<Scope>,
    roles: BTreeMap<String, BTreeSet<Scope>>,
}

impl Granted {
    /// Reads the section `oidc`.
    ///
    /// Refuses what is no scope; `act_as` anywhere, which lets its holder speak with other people's voices and is for services
    /// only; and `admin` for everybody.
    pub fn new(settings: &OidcSettings) -> Result<Self> {
        let everybody = scopes("oidc.default_scopes", settings.default_scopes.as_slice())?;
        if everybody.contains(&Scope::Admin) {
            return Err(refusal(
                "oidc.default_scopes",
                "must not contain admin: everybody who can sign in would have it",
            ));
        }
        let mut roles = BTreeMap::new();
        for (role, names) in settings.roles.iter().flat_map(Roles::iter) {
            let granted = scopes(&format!("oidc.roles: {role}"), names)?;
            roles.insert(role.to_owned(), granted);
        }
        Ok(Self { everybody, roles })
    }

    /// What somebody with these roles may do. Roles that the configuration does not name give nothing.
    pub fn to<'a>(&self, roles: impl IntoIterator<Item = &'a str>) -> BTreeSet<Scope> {
        let mut granted = self.everybody.clone();
        for scopes in roles.into_iter().filter_map(|role| self.roles.get(role)) {
            granted.extend(scopes);
        }
        granted
    }

    /// The roles that may do everything, for the log.
    pub fn administrators(&self) -> impl Iterator<Item = &str> {
        let all = self.roles.iter();
        all.filter_map(|(role, scopes)| scopes.contains(&Scope::Admin).then_some(role.as_str()))
    }
}

fn scopes(place: &str, names: &[String]) -> Result<BTreeSet<Scope>> {
    let named: Result<BTreeSet<Scope>> = names.iter().map(|name| name.parse()).collect();
    // `all` would contain act_as, too: scopes are named one by one here.
    let named = named.map_err(|_| {
        let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        refusal(
            place,
            &format!("names what is no scope: use some of {}", known.join(", ")),
        )
    })?;
    if named.contains(&Scope::ActAs) {
        return Err(refusal(
            place,
            "must not contain act_as: an end user speaks for nobody else; it is for service tokens only",
        ));
    }
    Ok(named)
}

fn refusal(place: &str, why: &str) -> Error {
    Error::invalid("invalid_config", format!("{place} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    const PROVIDER: &str = "[oidc]\nissuer = 'i'\naudience = 'a'\njwks_url = 'https://h/k'\n";

    fn granted(settings: &str) -> Result<Granted> {
        let text = format!("{PROVIDER}{settings}");
        Granted::new(&Loader::default().text(&text)?.finish()?.oidc)
    }

    #[test]
    fn roles_add_to_what_everybody_may() {
        let table = "roles_claim = 'roles'\nroles = {analyst = 'metrics:read', boss = ['admin', 'pool:read']}";
        let text =
            "roles_claim = 'roles'\nroles = ' analyst = metrics:read; boss=admin , pool:read;'";
        let everybody = [Scope::FeedbackRead, Scope::FeedbackWrite, Scope::StatsRead];
        for written in [table, text] {
            let granted = granted(written).unwrap();
            assert_eq!(granted.to([]), BTreeSet::from(everybody));
            assert_eq!(
                granted.to(["nobody", "Boss", ""]),
                BTreeSet::from(everybody)
            );
            let mut analyst = BTreeSet::from(everybody);
            analyst.insert(Scope::MetricsRead);
            assert_eq!(granted.to(["analyst"]), analyst);
            assert!(granted.to(["analyst", "boss"]).contains(&Scope::Admin));
            assert_eq!(granted.administrators().collect::<Vec<_>>(), ["boss"]);
        }
        assert!(granted("default_scopes = ''").unwrap().to([]).is_empty());
    }

    #[test]
    fn what_would_give_too_much_or_nothing_known_stops_the_start() {
        for (settings, word) in [
            ("default_scopes = 'act_as'", "act_as"),
            ("default_scopes = 'admin'", "everybody"),
            ("default_scopes = 'all'", "no scope"),
            ("roles_claim = 'r'\nroles = 'a=stats:read,act_as'", "act_as"),
            ("roles_claim = 'r'\nroles = 'a=stats:reed'", "no scope"),
            ("roles_claim = 'r'\nroles = 'a=all'", "no scope"),
            ("roles_claim = 'r'\nroles = 'a'", "oidc.roles"),
            ("roles_claim = 'r'\nroles = 'a='", "oidc.roles"),
            (
                "roles_claim = 'r'\nroles = 'a=admin;a=stats:read'",
                "oidc.roles",
            ),
            ("roles = 'a=admin'", "oidc.roles_claim"),
        ] {
            let refusal = granted(settings).unwrap_err();
            assert!(refusal.message().contains(word), "{settings}: {refusal}");
        }
    }
}

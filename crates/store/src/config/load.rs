//! Where values come from, and in which order.

use std::{collections::BTreeMap, io::Read as _, path::Path};

use super::{
    Config, Setting,
    settings::{SETTINGS, parse},
};
use crate::error::{Error, Result};

/// What the environment variables of settings begin with; the section and the key follow, joined by two underscores.
pub const ENV_PREFIX: &str = "UTXOIQ_STORE_";

/// Collects values: a file, then the environment, the later one winning.
#[derive(Debug, Default)]
pub struct Loader {
    tables: toml::Table,
}

impl Loader {
    /// The values of a TOML file.
    pub fn file(self, path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = read(path).map_err(|error| {
            Error::invalid(
                "invalid_config",
                format!("the configuration file {shown} could not be read: {error}"),
            )
        })?;
        self.text(&text)
    }

    /// The values of a TOML text.
    pub fn text(mut self, text: &str) -> Result<Self> {
        let parsed: toml::Table = toml::from_str(text).map_err(|error| {
            // The error's own rendering quotes the line, which may hold a secret.
            let line = error.span().map_or(1, |span| {
                1 + text[..span.start.min(text.len())].matches('\n').count()
            });
            Error::invalid(
                "invalid_config",
                format!("line {line} of the configuration file: {}", error.message()),
            )
        })?;
        for (section, value) in parsed {
            let toml::Value::Table(keys) = value else {
                return Err(unknown(&section));
            };
            if !SETTINGS.iter().any(|setting| setting.section == section) {
                return Err(unknown(&format!("[{section}]")));
            }
            for (key, value) in keys {
                let name = format!("{section}.{key}");
                let setting = SETTINGS
                    .iter()
                    .find(|setting| setting.name() == name)
                    .ok_or_else(|| unknown(&name))?;
                self.set(setting, value);
            }
        }
        Ok(self)
    }

    /// The values of environment variables. Empty ones count as not set. Variables with our prefix and two
    /// underscores that name no setting are refused; other ones are none of ours.
    pub fn env(mut self, vars: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let known: BTreeMap<String, &Setting> = SETTINGS
            .iter()
            .map(|setting| (setting.env(), setting))
            .collect();
        for (name, value) in vars {
            match known.get(&name) {
                Some(_) if value.is_empty() => {}
                Some(setting) => self.set(setting, env_value(setting, value)),
                None if name.starts_with(ENV_PREFIX)
                    && (name.contains("__") || is_almost(&name, &known)) =>
                {
                    return Err(unknown(&name));
                }
                None => {}
            }
        }
        Ok(self)
    }

    /// The checked configuration.
    pub fn finish(mut self) -> Result<Config> {
        Config::from_tables(&mut self.tables)?.check()
    }

    fn set(&mut self, setting: &Setting, value: toml::Value) {
        let section = self
            .tables
            .entry(setting.section)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let toml::Value::Table(section) = section {
            section.insert(setting.key.to_owned(), value);
        }
    }
}

/// A file of a megabyte at most: settings take a hundredth of it.
fn read(path: &Path) -> std::io::Result<String> {
    const MOST: u64 = 1 << 20;
    let mut text = String::new();
    let read = std::fs::File::open(path)?
        .take(MOST + 1)
        .read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read <= MOST) {
        Ok(text)
    } else {
        Err(std::io::Error::other("it is larger than 1 MiB"))
    }
}

/// Whether a variable would be a setting's with two underscores in the right place.
fn is_almost(name: &str, known: &BTreeMap<String, &Setting>) -> bool {
    known.keys().any(|known| known.replace("__", "_") == name)
}

/// A variable's text as the type its setting has: text stays text, whatever it looks like.
fn env_value(setting: &Setting, value: String) -> toml::Value {
    let is_text = setting
        .default
        .is_none_or(|default| default.starts_with('"'));
    if is_text {
        return toml::Value::String(value);
    }
    parse(value.trim()).unwrap_or(toml::Value::String(value))
}

/// Names the settings that were perhaps meant: those whose key has the unknown one's last word, of the same section first.
fn unknown(name: &str) -> Error {
    let lower = name.to_lowercase();
    let last = lower.rsplit(['.', '_']).next().unwrap_or_default();
    let mut near: Vec<&Setting> = SETTINGS
        .iter()
        .filter(|setting| last.len() > 2 && setting.key.contains(last))
        .collect();
    near.sort_by_key(|setting| !lower.contains(setting.section));
    let near: Vec<String> = near.into_iter().map(Setting::name).take(3).collect();
    let hint = if near.is_empty() {
        "config.example.toml lists all settings".to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    Error::invalid("invalid_config", format!("{name} is not a setting: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;

    fn load(text: &str, vars: &[(&str, &str)]) -> Result<Config> {
        Loader::default()
            .text(text)?
            .env(
                vars.iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            )?
            .finish()
    }

    fn refusal(text: &str, vars: &[(&str, &str)]) -> String {
        load(text, vars).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let text = "[database]\npool_max = 12\npool_min = 4\n[log]\nformat = \"json\"";
        let config = load(
            text,
            &[
                ("UTXOIQ_STORE_DATABASE__POOL_MAX", "14"),
                ("REDIS_URL", "redis://h"),
            ],
        )
        .unwrap();
        assert_eq!(
            (config.database.pool_max, config.database.pool_min),
            (14, 4)
        );
        assert_eq!(config.database.idle_timeout_seconds, 300);
        assert_eq!(config.log.format, LogFormat::Json);
        assert!(config.redis.url.is_some());
        assert!(config.database.url.is_none());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_with_the_nearest_one() {
        assert!(refusal("[database]\nmax = 3", &[]).contains("database.max is not a setting"));
        assert!(refusal("[database]\nmax = 3", &[]).contains("database.pool_max"));
        assert!(refusal("[databse]\npool_max = 3", &[]).contains("[databse]"));
        assert!(refusal("pool_max = 3", &[]).contains("pool_max"));
        assert!(
            refusal("", &[("UTXOIQ_STORE_DATABASE__POOLS", "3")])
                .contains("UTXOIQ_STORE_DATABASE__POOLS")
        );
    }

    #[test]
    fn a_bad_value_is_refused_by_name_and_never_shown() {
        for (text, name) in [
            ("[database]\npool_max = \"s3cret\"", "database.pool_max"),
            ("[database]\npool_max = -1", "database.pool_max"),
            ("[database]\nurl = 5", "database.url"),
            ("[server]\nlisten = \"s3cret\"", "server.listen"),
            ("[log]\nformat = \"s3cret\"", "log.format"),
            ("[schedule]\nenabled = 1", "schedule.enabled"),
        ] {
            let message = refusal(text, &[]);
            assert!(
                message.contains(name) && !message.contains("s3cret"),
                "{message}"
            );
        }
        assert!(
            refusal("", &[("UTXOIQ_STORE_DATABASE__POOL_MAX", "many")])
                .contains("database.pool_max")
        );
        let torn = refusal("[database]\nurl = \"postgresql://u:s3cret@h", &[]);
        assert!(
            torn.contains("line 2") && !torn.contains("s3cret"),
            "{torn}"
        );
    }

    #[test]
    fn contradictions_name_both_keys() {
        let message = refusal("[database]\npool_min = 21", &[]);
        assert!(message.contains("pool_min") && message.contains("pool_max"));
        assert!(
            refusal("[backfill]\nsilence_seconds = 15", &[]).contains("backfill.lease_seconds")
        );
    }

    #[test]
    fn values_that_cannot_work_are_refused_at_the_start_by_name() {
        for (name, value) in [
            ("UTXOIQ_STORE_BACKFILL__MAX_CLAIM_BLOCKS", "-1"),
            ("UTXOIQ_STORE_BACKFILL__MAX_CLAIMS_PER_JOB", "0"),
            ("UTXOIQ_STORE_BACKFILL__MAX_ERRORS_PER_JOB", "0"),
            ("UTXOIQ_STORE_BACKFILL__MAX_CHECKPOINTS_PER_JOB", "-5"),
            ("UTXOIQ_STORE_BACKFILL__LEASE_SECONDS", "2"),
            (
                "UTXOIQ_STORE_DATABASE__ACQUIRE_TIMEOUT_MILLISECONDS",
                "5000",
            ),
            ("UTXOIQ_STORE_LOG__LEVEL", "verbose"),
            ("UTXOIQ_STORE_ALERT__REPEAT_MINUTES", "0"),
            ("UTXOIQ_STORE_ALERT__REPEAT_MINUTES", "1441"),
            ("UTXOIQ_STORE_ALERT__TIMEOUT_SECONDS", "0"),
            ("UTXOIQ_STORE_ALERT__TIMEOUT_SECONDS", "61"),
            ("UTXOIQ_STORE_ALERT__WEBHOOK_URL", "https://s3cret/"),
            ("UTXOIQ_STORE_ALERT__SLACK_URL", "s3cret"),
            ("UTXOIQ_STORE_ALERT__WATCH_HEARTBEAT_URL", "ftp://s3cret/"),
            ("UTXOIQ_STORE_ALERT__SMTP_URL", "smtps://u:s3cret@h"),
            ("UTXOIQ_STORE_ALERT__EMAIL_TO", "ops@example.com"),
            ("UTXOIQ_STORE_OIDC__ISSUER", "https://s3cret"),
            ("UTXOIQ_STORE_OIDC__AUDIENCE", "s3cret"),
            ("UTXOIQ_STORE_OIDC__JWKS_URL", "https://s3cret"),
            ("UTXOIQ_STORE_OIDC__CLOCK_SKEW_SECONDS", "301"),
            ("UTXOIQ_STORE_OIDC__TOKEN_CACHE_SECONDS", "601"),
            ("UTXOIQ_STORE_OIDC__KEYS_OUTLIVE_HOURS", "721"),
            ("UTXOIQ_STORE_OIDC__ROLES_CLAIM", "s3cret"),
            ("DATABASE_URL", "mysql://u:s3cret@h/d"),
            ("DATABASE_URL", "postgresql://u:s3cret@h/d?sslmode=allow"),
            ("REDIS_URL", "redis://:s3cret@bad:port"),
            ("REDIS_URL", "rediss://:s3cret@h/#insecure"),
            ("UTXOIQ_STORE_SERVER__TLS_KEY_FILE", "/s3cret"),
            ("UTXOIQ_STORE_REDIS__TLS_KEY_FILE", "/s3cret"),
            ("UTXOIQ_STORE_DATABASE__PASSWORD_SOURCE", "http://s3cret/t"),
            ("UTXOIQ_STORE_SERVER_LISTEN", "127.0.0.1:1"),
        ] {
            let message = refusal("", &[(name, value)]);
            let setting = SETTINGS
                .iter()
                .find(|setting| setting.env() == name)
                .map_or(name.to_owned(), Setting::name);
            assert!(
                message.contains(&setting) && !message.contains("s3cret"),
                "{name}: {message}"
            );
        }
        load(
            "",
            &[
                ("UTXOIQ_STORE_LOG__LEVEL", "warn,utxoiq_store=debug"),
                ("UTXOIQ_STORE_URL", "http://h"),
            ],
        )
        .unwrap();
    }

    #[test]
    fn mail_has_an_address_of_each_and_a_password_only_over_tls() {
        let mail = |url: &str, from: &str, to: &str| {
            let text =
                format!("[alert]\nsmtp_url = \"{url}\"\nemail_from = \"{from}\"\nemail_to = {to}");
            load(&text, &[]).map(|config| config.alert.email_to)
        };
        let (from, to) = (
            "Alerts <a@example.com>",
            "\"ops@example.com, b@example.com,,\"",
        );
        for url in [
            "smtps://u:p@h:465",
            "smtp://h:25",
            "smtp://u:p@h?tls=required",
            "smtp://u:p@127.0.0.1:25",
            "smtp://u:p@[::1]",
        ] {
            let list = "[\"ops@example.com\", \"b@example.com\", \"ops@example.com\"]";
            let addresses = mail(url, from, to).unwrap();
            assert_eq!(addresses, mail(url, from, list).unwrap(), "{url}");
            assert_eq!(addresses.unwrap().as_slice().len(), 2);
        }
        for url in [
            "smtp://u:p@h",
            "smtp://u:p@h?tls=opportunistic",
            "smtps://u@h",
            "smtps://",
            "http://h",
            "h:25",
        ] {
            assert!(mail(url, from, to).is_err(), "{url}");
        }
        let many = |count: usize| {
            let all: Vec<String> = (0..count)
                .map(|n| format!("\"a{n}@example.com\""))
                .collect();
            format!("[{}]", all.join(","))
        };
        for (to, good) in [
            (many(0), false),
            (many(1), true),
            (many(20), true),
            (many(21), false),
            ("\"nobody\"".to_owned(), false),
        ] {
            assert_eq!(mail("smtp://h", from, &to).is_ok(), good, "{to}");
        }
        assert!(mail("smtp://h", "nobody", "\"a@example.com\"").is_err());
    }

    #[test]
    fn secrets_are_in_no_debug_output() {
        let config = load("", &[("DATABASE_URL", "postgresql://u:s3cret@h/d")]).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(config.database.url().unwrap(), "postgresql://u:s3cret@h/d");
    }

    #[test]
    fn the_example_is_the_default_configuration() {
        assert_eq!(
            load(&Config::example(), &[]).unwrap(),
            load("", &[]).unwrap()
        );
    }
}

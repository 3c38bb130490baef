//! The tiers of rate limits: how many requests in how long, by name.

use serde::Deserialize;

/// The most tiers. Each is a label of a metric, and a fourth one is rare.
const MOST_TIERS: usize = 16;

/// The longest name, in characters.
const MAX_NAME: usize = 32;

/// The most requests of one window. What a process remembers of a caller does not grow with it; numbers beyond this are no limit.
const MAX_QUOTA: u64 = 1_000_000;

/// The longest window, in seconds: what is counted is lost with Redis, so a limit of a month would be a promise of nobody.
const MAX_WINDOW_SECONDS: u64 = 86_400;

/// How many requests a caller may make in any window of so many seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Its name: small letters, digits, `-` and `_`.
    pub name: String,
    /// The most requests in a window.
    pub quota: u64,
    /// How long the window is, in seconds.
    pub window_seconds: u64,
}

/// Tiers with different names: a table of `name = "100/h"`, or one text `free=100/h,pro=1000/h`, as a variable of the environment
/// has it. A window is `s`, `m` or `h`, or so many of them: `200/10s`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Tiers(Vec<Tier>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Table(std::collections::BTreeMap<String, String>),
}

impl Tiers {
    /// The tiers.
    pub fn as_slice(&self) -> &[Tier] {
        &self.0
    }

    /// The tier of a name.
    pub fn get(&self, name: &str) -> Option<&Tier> {
        self.0.iter().find(|tier| tier.name == name)
    }
}

impl TryFrom<Written> for Tiers {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        let wrong = "expected 1 to 16 tiers of different names, such as \"free=100/h,pro=1000/h\": a name of small letters, digits, - and _, a number up to 1000000, and a window of s, m or h, up to 24h";
        let pairs: Vec<(String, String)> = match written {
            Written::Table(table) => table.into_iter().collect(),
            Written::Text(text) => text
                .split(',')
                .map(|part| {
                    let (name, limit) = part.split_once('=').ok_or(wrong)?;
                    Ok((name.trim().to_owned(), limit.trim().to_owned()))
                })
                .collect::<Result<_, &'static str>>()?,
        };
        let mut tiers: Vec<Tier> = Vec::with_capacity(pairs.len());
        for (name, limit) in pairs {
            let tier = tier(name, &limit).ok_or(wrong)?;
            if tiers.iter().any(|there| there.name == tier.name) {
                return Err(wrong);
            }
            tiers.push(tier);
        }
        if (1..=MOST_TIERS).contains(&tiers.len()) {
            Ok(Self(tiers))
        } else {
            Err(wrong)
        }
    }
}

fn tier(name: String, limit: &str) -> Option<Tier> {
    let is_name = (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    let (quota, window) = limit.split_once('/')?;
    let window = window.trim();
    let (count, unit) = window.split_at_checked(window.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    let count = if count.is_empty() { 1 } else { number(count)? };
    let tier = Tier {
        name,
        quota: number(quota.trim())?,
        window_seconds: count.checked_mul(seconds)?,
    };
    let fits = is_name
        && (1..=MAX_QUOTA).contains(&tier.quota)
        && (1..=MAX_WINDOW_SECONDS).contains(&tier.window_seconds);
    fits.then_some(tier)
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Tiers> {
        let table: toml::Table = toml::from_str(&format!("value = {value}")).unwrap();
        Tiers::deserialize(table["value"].clone()).ok()
    }

    #[test]
    fn tiers_are_a_table_or_one_text() {
        let text = read("\"free=100/h, pro = 1000/h,test=200/10s\"").unwrap();
        let table = read("{ free = \"100/h\", pro = \"1000 / h\", test = \"200/10s\" }").unwrap();
        assert_eq!(text, table);
        let seen: Vec<_> = text
            .as_slice()
            .iter()
            .map(|tier| (tier.name.as_str(), tier.quota, tier.window_seconds))
            .collect();
        assert_eq!(
            seen,
            [
                ("free", 100, 3_600),
                ("pro", 1_000, 3_600),
                ("test", 200, 10)
            ]
        );
        assert!(text.get("pro").is_some() && text.get("Pro").is_none());
    }

    #[test]
    fn what_is_no_tier_is_refused() {
        for bad in [
            "\"\"",
            "\"free\"",
            "\"free=\"",
            "\"free=100\"",
            "\"free=100/\"",
            "\"free=0/h\"",
            "\"free=-1/h\"",
            "\"free=+1/h\"",
            "\"free=1000001/h\"",
            "\"free=1/25h\"",
            "\"free=1/0h\"",
            "\"free=1/d\"",
            "\"Free=1/h\"",
            "\"=1/h\"",
            "\"a=1/h,a=2/h\"",
            "\"a=1/h,\"",
            "{}",
            "\"free=1/hä\"",
            "\"free=1/18446744073709551615h\"",
            "5",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let many: Vec<_> = (0..17).map(|number| format!("t{number}=1/h")).collect();
        assert_eq!(read(&format!("\"{}\"", many.join(","))), None);
        assert!(read(&format!("\"{}\"", many[..16].join(","))).is_some());
    }
}

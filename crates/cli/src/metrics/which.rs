//! Which series, and which time.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::Query;

/// Which series: all conditions given must hold.
#[derive(Debug, Clone, clap::Args)]
pub struct Series {
    /// Only this service's
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    metric_type: Option<String>,
    /// Only in this unit
    #[arg(long)]
    unit: Option<String>,
    /// Only with this label; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

/// Which time.
#[derive(Debug, Clone, clap::Args)]
pub struct Range {
    /// From this time on: 2026-01-31, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<DateTime<Utc>>,
    /// Before this time; now, if not given
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<DateTime<Utc>>,
    /// So long before its end: 30m, 24h, 7d or 2w
    #[arg(long, value_name = "LENGTH", default_value = "24h", value_parser = length, conflicts_with = "from")]
    last: TimeDelta,
}

impl Series {
    pub fn parameters(&self) -> Query {
        let labels: Vec<String> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
            .collect();
        given([
            ("service_name", self.service.clone()),
            ("metric_type", self.metric_type.clone()),
            ("unit", self.unit.clone()),
            (
                "labels",
                Some(labels.join(",")).filter(|_| !labels.is_empty()),
            ),
        ])
    }
}

impl Range {
    /// From, and to.
    pub fn bounds(&self, now: DateTime<Utc>) -> anyhow::Result<(DateTime<Utc>, DateTime<Utc>)> {
        let to = self.to.unwrap_or(now);
        let from = self.from.or_else(|| to.checked_sub_signed(self.last));
        let from = from.ok_or_else(|| anyhow::anyhow!("--last goes back before all times"))?;
        anyhow::ensure!(
            from < to,
            "the range ends before it begins: {} is not before {}",
            written(from),
            written(to)
        );
        Ok((from, to))
    }
}

/// A time as the service takes it.
pub fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The parameters that are given.
pub fn given(parameters: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Query {
    let parameters = parameters.into_iter();
    parameters
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be a label with its value, such as host=a".to_owned()),
    }
}

/// A moment, or a day's beginning.
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let time = if text.len() == 10 {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    time.parse().map_err(|_| {
        "must be a time such as 2026-01-31T12:00:00Z, or a day such as 2026-01-31".into()
    })
}

/// A time as the service takes it; a day is its beginning.
pub fn time(text: &str) -> Result<String, String> {
    moment(text).map(written)
}

fn length(text: &str) -> Result<TimeDelta, String> {
    let minutes = |unit: char| match unit {
        'm' => Some(1),
        'h' => Some(60),
        'd' => Some(24 * 60),
        'w' => Some(7 * 24 * 60),
        _ => None,
    };
    let mut characters = text.chars();
    characters
        .next_back()
        .and_then(minutes)
        .zip(characters.as_str().parse::<u32>().ok())
        .filter(|(_, number)| *number > 0)
        .and_then(|(minutes, number)| TimeDelta::try_minutes(minutes * i64::from(number)))
        .ok_or_else(|| "must be a number with m, h, d or w, such as 24h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_numbers_of_minutes_hours_days_or_weeks() {
        for (text, minutes) in [("30m", 30), ("24h", 1_440), ("7d", 10_080), ("2w", 20_160)] {
            assert_eq!(length(text), Ok(TimeDelta::minutes(minutes)));
        }
        for text in [
            "",
            "h",
            "0h",
            "-1h",
            "24",
            "24 h",
            "1.5h",
            "9999999999h",
            "5ü",
        ] {
            assert!(length(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_are_written_so_that_they_are_read_as_they_are() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(label("a").is_err() && label("=a").is_err());
        let series = Series {
            service: None,
            metric_type: None,
            unit: Some(String::new()),
            labels: vec![("a".into(), "b=c".into()), ("d".into(), "\\,".into())],
        };
        assert_eq!(
            series.parameters(),
            [
                ("unit", String::new()),
                ("labels", "a=b\\=c,d=\\\\\\,".to_owned())
            ]
        );
    }
}

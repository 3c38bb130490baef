//! `metrics query`: samples as a chart, a table, or a file that `metrics import` reads.

use std::{collections::BTreeMap, io::Write as _};

use chrono::{DateTime, Utc};
use serde_json::Value;
use url::Url;
use utxoiq_store::clock::{Clock as _, SystemClock};
use utxoiq_store_server::api::metrics::wire_read::{MetricSamples, MetricSeries, StoredMetric};

use super::{
    Query,
    chart::{chart, points},
    figures::{figure, name, second},
    known,
    which::{Range, Series, written},
};
use crate::{
    client::{Api, Connection, Download},
    output::{note, out, outln},
    table::{Side, table},
};

/// The most charts that are shown.
const CHARTS: usize = 20;

const CALL: &str = "monitoring/metrics/samples";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  utxoiq-store metrics query --service api --type latency                 a chart of the last 24 hours
  utxoiq-store metrics query --service api --last 7d --label host=a --width 100
  utxoiq-store metrics query --service api --format table --limit 20      the newest samples
  utxoiq-store metrics query --from 2026-03-01 --to 2026-04-01 --format csv > march.csv")]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    series: Series,
    #[command(flatten)]
    range: Range,
    /// As what: a chart of each series, a table of the newest samples, all samples as csv or ndjson, or json as the service
    /// answered
    #[arg(long, visible_alias = "output", default_value = "chart", value_parser = ["chart", "table", "csv", "ndjson", "json"])]
    format: String,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// How wide a chart is, in characters
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(10..=1000))]
    width: u16,
    /// How many samples a table shows
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// Thin each series out to so many points in json; its extremes are among them
    #[arg(long, value_parser = clap::value_parser!(i64).range(4..=10_000))]
    points: Option<i64>,
}

/// Asks, and shows.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let range = args.range.bounds(SystemClock.now())?;
    let mut query = args.series.parameters();
    query.extend([
        ("start_time", written(range.0)),
        ("end_time", written(range.1)),
    ]);
    let api = Api::connect(&args.connection)?;
    match args.format.as_str() {
        _ if args.json => document(&api, query, args.points).await,
        "json" => document(&api, query, args.points).await,
        "table" => newest(&api, query, args.limit).await,
        "csv" => lines(&api, query, true).await,
        "ndjson" => lines(&api, query, false).await,
        _ => charts(&api, query, range, args.width.into()).await,
    }
}

async fn document(api: &Api, mut query: Query, points: Option<i64>) -> anyhow::Result<()> {
    query.push(("format", "json".to_owned()));
    query.extend(points.map(|points| ("points", points.to_string())));
    let mut download = api.download(CALL, &query).await?;
    let mut out = std::io::stdout().lock();
    while let Some(piece) = download.next().await? {
        out.write_all(piece.as_ref())?;
    }
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

async fn charts(
    api: &Api,
    mut query: Query,
    range: (DateTime<Utc>, DateTime<Utc>),
    width: usize,
) -> anyhow::Result<()> {
    query.push(("points", points(width).to_string()));
    let answer: MetricSamples = known(api.get(CALL, &query).await?)?;
    if answer.series.is_empty() {
        outln!(
            "no samples from {} to {}",
            written(range.0),
            written(range.1)
        );
    }
    for series in answer.series.iter().take(CHARTS) {
        let points = series.samples.iter();
        let points: Vec<_> = points
            .map(|sample| (sample.timestamp, sample.metric_value))
            .collect();
        out!(
            "{}\n{}\n",
            name(&series.series),
            chart(&points, range, width)
        );
    }
    let left = answer.series.len().saturating_sub(CHARTS);
    if left > 0 || answer.next.is_some() {
        let more = if answer.next.is_some() {
            "or more "
        } else {
            ""
        };
        note(format_args!(
            "{left} {more}series are not shown: narrow them down by --service, --type and --label"
        ));
    }
    Ok(())
}

async fn newest(api: &Api, mut query: Query, limit: i64) -> anyhow::Result<()> {
    // One more than is shown tells whether there are more.
    query.push(("limit", (limit + 1).min(10_000).to_string()));
    let samples: Vec<StoredMetric> = known(api.get("monitoring/metrics", &query).await?)?;
    let shown = usize::try_from(limit)?;
    let rows: Vec<_> = samples
        .iter()
        .take(shown)
        .map(|sample| {
            let series = MetricSeries {
                id: 0,
                service_name: sample.service_name.clone(),
                metric_type: sample.metric_type.clone(),
                unit: String::new(),
                labels: sample.labels.clone(),
            };
            [
                second(sample.timestamp),
                name(&series),
                figure(sample.metric_value),
                crate::output::plain(&sample.unit),
            ]
        })
        .collect();
    let columns = [
        ("TIME", Side::Left),
        ("SERIES", Side::Left),
        ("VALUE", Side::Right),
        ("UNIT", Side::Left),
    ];
    out!("{}", table(columns, &rows));
    if samples.len() > shown {
        note("there are more samples: raise --limit, or take --format csv for all");
    }
    Ok(())
}

/// All samples, line by line, read after read.
async fn lines(api: &Api, mut query: Query, is_csv: bool) -> anyhow::Result<()> {
    query.push(("format", "ndjson".to_owned()));
    let mut begin =
        is_csv.then_some("service_name,metric_type,metric_value,unit,timestamp,labels,metadata\n");
    let mut cursor = None;
    loop {
        let mut query = query.clone();
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let mut lines = Lines::new(api.download(CALL, &query).await?);
        while let Some(many) = lines.next().await? {
            let mut text = begin.take().unwrap_or_default().to_owned();
            for line in many.lines() {
                // The service's last line, where samples remain.
                if line.starts_with("{\"next\":") {
                    cursor = Some(cursor_of(line)?);
                } else if is_csv {
                    text.push_str(&row(&known(serde_json::from_str::<Value>(line)?)?));
                } else {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            out!("{text}");
        }
        if cursor.is_none() {
            out!("{}", begin.take().unwrap_or_default());
            return Ok(());
        }
    }
}

fn cursor_of(line: &str) -> anyhow::Result<String> {
    let next: BTreeMap<String, String> = serde_json::from_str(line)?;
    let next = next.get("next").map(String::as_str).unwrap_or_default();
    let next = Url::parse("http://service/")?.join(next)?;
    let mut parameters = next.query_pairs();
    let cursor = parameters.find(|(name, _)| name == "cursor");
    let cursor = cursor.map(|(_, cursor)| cursor.into_owned());
    cursor.ok_or_else(|| anyhow::anyhow!("the service does not say where the rest is"))
}

/// A sample as `metrics import` reads it.
fn row(sample: &StoredMetric) -> String {
    let object = |map: &dyn Fn() -> serde_json::Result<String>| map().unwrap_or_default();
    let labels = if sample.labels.is_empty() {
        String::new()
    } else {
        object(&|| serde_json::to_string(&sample.labels))
    };
    let metadata = sample.metric_metadata.as_ref();
    let metadata = metadata.map_or_else(String::new, |metadata| {
        object(&|| serde_json::to_string(metadata))
    });
    let cells = [
        &*sample.service_name,
        &*sample.metric_type,
        &*sample.metric_value.to_string(),
        &*sample.unit,
        &*written(sample.timestamp),
        &*labels,
        &*metadata,
    ];
    let cells = cells.map(cell);
    cells.join(",") + "\n"
}

fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Whole lines of an answer that comes in pieces.
struct Lines {
    download: Download,
    rest: Vec<u8>,
}

impl Lines {
    fn new(download: Download) -> Self {
        Self {
            download,
            rest: Vec::new(),
        }
    }

    /// The next lines; none at the end.
    async fn next(&mut self) -> anyhow::Result<Option<String>> {
        while let Some(piece) = self.download.next().await? {
            self.rest.extend_from_slice(piece.as_ref());
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                let rest = self.rest.split_off(end + 1);
                let whole = std::mem::replace(&mut self.rest, rest);
                return Ok(Some(String::from_utf8(whole)?));
            }
        }
        anyhow::ensure!(
            self.rest.is_empty(),
            "the answer was cut off: send the request again"
        );
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_cells_quoted_where_they_must_be() {
        let sample = serde_json::json!({
            "id": "00000000-0000-8000-8000-000000000001", "service_name": "a,b", "metric_type": "say \"x\"", "metric_value": 0.1,
            "unit": "", "timestamp": "2026-03-10T12:00:00.000001Z", "labels": {"h": "1"}, "metric_metadata": null,
        });
        assert_eq!(
            row(&serde_json::from_value(sample).unwrap()),
            "\"a,b\",\"say \"\"x\"\"\",0.1,,2026-03-10T12:00:00.000001Z,\"{\"\"h\"\":\"\"1\"\"}\",\n"
        );
    }

    #[test]
    fn the_place_of_the_rest_is_read_from_the_last_line() {
        let line = r#"{"next":"/api/v1/monitoring/metrics/samples?labels=a%3Db&cursor=abc_1"}"#;
        assert_eq!(cursor_of(line).unwrap(), "abc_1");
        assert!(cursor_of(r#"{"next":"/x"}"#).is_err());
    }
}

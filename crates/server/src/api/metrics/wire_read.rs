//! The shapes of calls that read samples and series, and how samples are written there.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utxoiq_store::metrics::{Rendered, Sample, Series, read::catalogue};
use uuid::Uuid;

use super::wire::{Clock, Shared, sample_id, write_sample};

/// A sample as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoredMetric {
    /// Its id: made from its series and its time.
    pub id: Uuid,
    /// Who reported it.
    pub service_name: String,
    /// What was measured.
    pub metric_type: String,
    /// The value.
    pub metric_value: f64,
    /// In which unit.
    pub unit: String,
    /// When.
    pub timestamp: DateTime<Utc>,
    /// What was sent with it.
    #[schema(value_type = Option<Object>)]
    pub metric_metadata: Option<BTreeMap<String, serde_json::Value>>,
    /// What tells its series from others.
    pub labels: BTreeMap<String, String>,
}

/// Which samples: all conditions given must hold.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct SamplesQuery {
    /// Only this service's.
    #[param(min_length = 1, max_length = 100)]
    service_name: Option<String>,
    /// Only of this type.
    #[param(min_length = 1, max_length = 200)]
    metric_type: Option<String>,
    /// Only in this unit.
    #[param(min_length = 0, max_length = 63)]
    unit: Option<String>,
    /// Only with all of these labels, whatever others they have: `host=a,region=b`. A `,`, `=` or `\` in a name or a value is
    /// written with a `\` before it.
    #[param(min_length = 1, max_length = 2_000)]
    labels: Option<String>,
    /// From this time on.
    start_time: DateTime<Utc>,
    /// Before this time.
    end_time: DateTime<Utc>,
}

/// Which page of samples.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct SamplesPageQuery {
    /// How many at most.
    #[param(minimum = 1, maximum = 10_000, default = 1000)]
    limit: Option<i64>,
    /// How many to skip; not beside `cursor`.
    #[param(minimum = 0, maximum = 100_000, default = 0)]
    offset: Option<i64>,
    /// Where the page before ended, as its `Link` has it.
    #[param(min_length = 1, max_length = 32)]
    cursor: Option<String>,
}

/// How samples are streamed.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum SamplesFormat {
    /// One document, series by series.
    Json,
    /// A sample a line.
    Ndjson,
}

/// How much is streamed, and how.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct StreamQuery {
    /// In which form; without it, what `Accept` asks for.
    #[param(inline)]
    format: Option<SamplesFormat>,
    /// Each series in at most so many points, for a chart: its extremes are among them. Points carry no metadata.
    #[param(minimum = 4, maximum = 10_000)]
    points: Option<i64>,
    /// Where the read before ended, as its `next` has it.
    #[param(min_length = 1, max_length = 32)]
    cursor: Option<String>,
}

/// Which series: all conditions given must hold.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct SeriesQuery {
    /// Only this service's.
    #[param(min_length = 1, max_length = 100)]
    service_name: Option<String>,
    /// Only of this type.
    #[param(min_length = 1, max_length = 200)]
    metric_type: Option<String>,
    /// Only in this unit.
    #[param(min_length = 0, max_length = 63)]
    unit: Option<String>,
    /// Only with all of these labels, as where samples are read.
    #[param(min_length = 1, max_length = 2_000)]
    labels: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    #[param(min_length = 1, max_length = 32)]
    cursor: Option<String>,
}

/// Which services.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct ServicesQuery {
    /// How many at most.
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<i64>,
    /// Only those after this name: the last one of the page before.
    #[param(min_length = 1, max_length = 100)]
    after: Option<String>,
}

/// A series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricSeries {
    /// Its number.
    pub id: i32,
    /// Who reports.
    pub service_name: String,
    /// What is measured.
    pub metric_type: String,
    /// In which unit.
    pub unit: String,
    /// What tells it from other series of the same service, type and unit.
    pub labels: BTreeMap<String, String>,
}

impl From<Series> for MetricSeries {
    fn from(series: Series) -> Self {
        Self {
            id: series.id,
            service_name: series.name.service_name,
            metric_type: series.name.metric_type,
            unit: series.name.unit,
            labels: series.name.labels,
        }
    }
}

/// A page of series, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricSeriesPage {
    /// The page.
    pub series: Vec<MetricSeries>,
    /// Send it as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Samples by series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricSamples {
    /// Each series that has samples in the range, in the order of their numbers.
    pub series: Vec<SamplesOfSeries>,
    /// Where the rest is: a relative address; null if this is all.
    pub next: Option<String>,
}

/// The samples of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SamplesOfSeries {
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub series: MetricSeries,
    /// In the order of their times.
    pub samples: Vec<SampleOfSeries>,
}

/// A sample of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SampleOfSeries {
    /// When.
    pub timestamp: DateTime<Utc>,
    /// The value.
    pub metric_value: f64,
    /// What was sent with it; left out where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metric_metadata: Option<BTreeMap<String, serde_json::Value>>,
}

/// A service that has reported metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricService {
    /// Its name.
    pub service_name: String,
    /// When it first reported.
    pub created_at: DateTime<Utc>,
    /// How many series it has.
    pub series: i64,
    /// How many types they are of.
    pub types: i64,
    /// The labels with the most values; told of services that have many series.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst_labels: Vec<WorstLabel>,
    /// The types with the most series; told of services that have many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst_types: Vec<WorstType>,
}

/// A label with many values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorstLabel {
    /// Its name.
    pub label: String,
    /// How many values it has.
    pub values: i64,
    /// The type that has most of them.
    pub metric_type: String,
}

/// A type with many series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorstType {
    /// The type.
    pub metric_type: String,
    /// How many series are of it.
    pub series: i64,
}

impl From<catalogue::Service> for MetricService {
    fn from(service: catalogue::Service) -> Self {
        let worst = service.worst.unwrap_or_default();
        let labels = worst.labels.into_iter().map(|label| WorstLabel {
            label: label.label,
            values: label.values,
            metric_type: label.metric_type,
        });
        let types = worst
            .types
            .into_iter()
            .map(|(metric_type, series)| WorstType {
                metric_type,
                series,
            });
        Self {
            service_name: service.service_name,
            created_at: service.created_at,
            series: service.series,
            types: service.types,
            worst_labels: labels.collect(),
            worst_types: types.collect(),
        }
    }
}

/// A page of services, in the order of their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricServices {
    /// The page.
    pub services: Vec<MetricService>,
    /// How many series a service may have.
    pub max_series: i64,
    /// Send it as `after` for the next page; null on the last one.
    pub next_after: Option<String>,
}

/// About how many bytes a sample is long in an answer.
const BYTES_OF_ONE: usize = 280;

/// Samples as the contract shows them, the newest first, each followed by a comma.
pub(super) fn render(series: &Series, samples: &[Sample]) -> Rendered {
    let mut out = Vec::with_capacity(samples.len() * BYTES_OF_ONE);
    let mut ends = Vec::with_capacity(samples.len());
    // Names are text, values finite and metadata JSON: nothing of it can fail to be written.
    let Ok(shared) = Shared::of(&series.name) else {
        return Rendered::default();
    };
    let mut clock = Clock::default();
    for sample in samples.iter().rev() {
        write_metric(&mut out, &mut clock, &shared, series.id, sample);
        out.push(b',');
        ends.push(u32::try_from(out.len()).unwrap_or(u32::MAX));
    }
    out.shrink_to_fit();
    Rendered {
        bytes: out.into(),
        ends: ends.into(),
    }
}

fn write_metric(
    out: &mut Vec<u8>,
    clock: &mut Clock,
    shared: &Shared,
    series_id: i32,
    Sample(at, value, metadata): &Sample,
) {
    let id = sample_id(series_id, *at);
    let _ = write_sample(out, clock, shared, id, *at, *value, metadata.as_deref());
    out.push(b'}');
}

/// Writes samples as they are streamed, series by series.
pub(super) struct Writer {
    is_lines: bool,
    series: Option<(i32, Shared)>,
    clock: Clock,
    is_first_sample: bool,
}

impl Writer {
    pub fn new(is_lines: bool) -> Self {
        Self {
            is_lines,
            series: None,
            clock: Clock::default(),
            is_first_sample: true,
        }
    }

    /// The next samples, of the same series as the last ones or of the next series.
    pub fn samples(
        &mut self,
        out: &mut Vec<u8>,
        series: &Series,
        samples: &[Sample],
    ) -> serde_json::Result<()> {
        if self.series.as_ref().is_none_or(|(id, _)| *id != series.id) {
            if !self.is_lines {
                self.begin_series(out, series)?;
            }
            self.series = Some((series.id, Shared::of(&series.name)?));
        }
        let Some((_, shared)) = &self.series else {
            return Ok(());
        };
        for sample in samples {
            if self.is_lines {
                write_metric(out, &mut self.clock, shared, series.id, sample);
                out.push(b'\n');
                continue;
            }
            if !std::mem::take(&mut self.is_first_sample) {
                out.push(b',');
            }
            let Sample(at, value, metadata) = sample;
            out.extend_from_slice(b"{\"timestamp\":\"");
            self.clock.write(out, *at);
            out.extend_from_slice(b"\",\"metric_value\":");
            serde_json::to_writer(&mut *out, value)?;
            if let Some(metadata) = metadata {
                out.extend_from_slice(b",\"metric_metadata\":");
                out.extend_from_slice(metadata.as_bytes());
            }
            out.push(b'}');
        }
        Ok(())
    }

    fn begin_series(&mut self, out: &mut Vec<u8>, series: &Series) -> serde_json::Result<()> {
        let begin: &[u8] = match self.series {
            None => b"{\"series\":[",
            Some(_) => b"]},",
        };
        out.extend_from_slice(begin);
        serde_json::to_writer(&mut *out, &MetricSeries::from(series.clone()))?;
        // Its samples are the last member of the object that was written.
        out.pop();
        out.extend_from_slice(b",\"samples\":[");
        self.is_first_sample = true;
        Ok(())
    }

    /// The end, with the address of what remains.
    pub fn end(&mut self, out: &mut Vec<u8>, next: Option<&str>) -> serde_json::Result<()> {
        if self.is_lines {
            if let Some(next) = next {
                serde_json::to_writer(&mut *out, &BTreeMap::from([("next", next)]))?;
                out.push(b'\n');
            }
            return Ok(());
        }
        let end: &[u8] = match self.series {
            None => b"{\"series\":[],\"next\":",
            Some(_) => b"]}],\"next\":",
        };
        out.extend_from_slice(end);
        serde_json::to_writer(&mut *out, &next)?;
        out.push(b'}');
        Ok(())
    }
}

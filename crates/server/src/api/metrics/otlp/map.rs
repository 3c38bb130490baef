//! OpenTelemetry's data points as samples. The tables are in docs/api.md.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utxoiq_store::metrics::{NewSample, Reason, SeriesName};

use super::proto::{
    AnyValue, Buckets, ExponentialHistogramDataPoint, ExportMetricsServiceRequest,
    HistogramDataPoint, KeyValue, Metric, NumberDataPoint, ResourceMetrics, SummaryDataPoint,
};
use crate::{
    api::metrics::gather::Gathered,
    error::{ApiError, ApiResult},
};

/// The service of a resource that does not name its own, as OpenTelemetry has it.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// What tells one instance of a service from another; the rest of a resource describes it.
const IDENTIFYING: [&str; 12] = [
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "host.id",
    "host.name",
    "container.id",
    "cloud.region",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
];

/// Streams of two scopes, or of both temporalities, are not one series.
const SCOPE: &str = "otel.scope.name";
const TEMPORALITY: &str = "otel.temporality";

/// AGGREGATION_TEMPORALITY_DELTA.
const DELTA: i32 = 1;

/// DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK: the point says that there is nothing to say.
const NO_RECORDED_VALUE: u32 = 1;

/// The samples of a request; each data point is a place.
pub fn gather(request: &ExportMetricsServiceRequest) -> ApiResult<Gathered> {
    let mut points = Points {
        gathered: Gathered::default(),
        place: 0,
    };
    for resource in &request.resource_metrics {
        points.resource(resource)?;
    }
    Ok(points.gathered)
}

struct Points {
    gathered: Gathered,
    /// The number of the data point.
    place: usize,
}

/// What the points of one metric share.
struct Shared<'a> {
    service_name: &'a str,
    metric: &'a Metric,
    labels: BTreeMap<String, String>,
}

/// What the samples of one point share.
struct Point {
    labels: BTreeMap<String, String>,
    at: i64,
}

impl Points {
    fn resource(&mut self, resource: &ResourceMetrics) -> ApiResult<()> {
        let attributes = resource
            .resource
            .as_ref()
            .map_or(&[][..], |resource| &resource.attributes);
        let mut service_name = UNKNOWN_SERVICE.to_owned();
        let mut labels = BTreeMap::new();
        for attribute in attributes {
            let value = attribute.value.as_deref().map(text).unwrap_or_default();
            if value.is_empty() {
                continue;
            }
            if attribute.key == "service.name" {
                service_name = value;
            } else if IDENTIFYING.contains(&attribute.key.as_str()) {
                labels.insert(attribute.key.clone(), value);
            }
        }
        for scope in &resource.scope_metrics {
            let mut labels = labels.clone();
            if let Some(name) = scope.scope.as_ref().map(|scope| &scope.name)
                && !name.is_empty()
            {
                labels.insert(SCOPE.to_owned(), name.clone());
            }
            for metric in &scope.metrics {
                self.metric(&Shared {
                    service_name: &service_name,
                    metric,
                    labels: labels.clone(),
                })?;
            }
        }
        Ok(())
    }

    fn metric(&mut self, shared: &Shared<'_>) -> ApiResult<()> {
        let metric = shared.metric;
        if let Some(gauge) = &metric.gauge {
            self.each(&gauge.data_points, |points, point| {
                points.number(shared, point, 0)
            })
        } else if let Some(sum) = &metric.sum {
            self.each(&sum.data_points, |points, point| {
                points.number(shared, point, sum.aggregation_temporality)
            })
        } else if let Some(histogram) = &metric.histogram {
            self.each(&histogram.data_points, |points, point| {
                points.histogram(shared, point, histogram.aggregation_temporality)
            })
        } else if let Some(histogram) = &metric.exponential_histogram {
            self.each(&histogram.data_points, |points, point| {
                points.exponential(shared, point, histogram.aggregation_temporality)
            })
        } else if let Some(summary) = &metric.summary {
            self.each(&summary.data_points, |points, point| {
                points.summary(shared, point)
            })
        } else {
            self.unsupported(shared, "it has no data of a kind that is known");
            self.place += 1;
            Ok(())
        }
    }

    /// Reads points one after the other, each at a place of its own.
    fn each<P>(
        &mut self,
        points: &[P],
        mut read: impl FnMut(&mut Self, &P) -> ApiResult<()>,
    ) -> ApiResult<()> {
        for point in points {
            read(self, point)?;
            self.place += 1;
        }
        Ok(())
    }

    fn unsupported(&mut self, shared: &Shared<'_>, why: &str) {
        self.refuse(Reason::Unsupported, shared, why);
    }

    fn refuse(&mut self, reason: Reason, shared: &Shared<'_>, why: &str) {
        let (service, name) = (shared.service_name, &shared.metric.name);
        let told = || format!("{service} {name}: {why}");
        self.gathered.refuse(reason.as_str(), self.place, told);
    }

    /// What all samples of a point share; `None` where it is none, which is then told.
    fn begin(
        &mut self,
        shared: &Shared<'_>,
        attributes: &[KeyValue],
        time_unix_nano: u64,
        flags: u32,
        temporality: i32,
    ) -> Option<Point> {
        if flags & NO_RECORDED_VALUE != 0 {
            return None;
        }
        if shared.metric.name.is_empty() {
            self.refuse(Reason::BadName, shared, "a metric has no name");
            return None;
        }
        if time_unix_nano == 0 {
            self.unsupported(shared, "a data point has no time");
            return None;
        }
        let mut labels = shared.labels.clone();
        if temporality == DELTA {
            labels.insert(TEMPORALITY.to_owned(), "delta".to_owned());
        }
        for attribute in attributes {
            let value = attribute.value.as_deref().map(text).unwrap_or_default();
            // As in Prometheus, an empty value is the same as none.
            if !value.is_empty() {
                labels.insert(attribute.key.clone(), value);
            }
        }
        let at = i64::try_from(time_unix_nano / 1_000).unwrap_or(i64::MAX);
        Some(Point { labels, at })
    }

    fn add(
        &mut self,
        shared: &Shared<'_>,
        point: &Point,
        (suffix, unit): (&str, &str),
        label: Option<(&str, String)>,
        value: f64,
        metadata: Option<Value>,
    ) -> ApiResult<()> {
        let mut labels = point.labels.clone();
        if let Some((key, value)) = label {
            labels.insert(key.to_owned(), value);
        }
        let name = SeriesName {
            service_name: shared.service_name.to_owned(),
            metric_type: format!("{}{suffix}", shared.metric.name),
            unit: unit.to_owned(),
            labels,
        };
        let Some(series) = self.gathered.series(self.place, name)? else {
            return Ok(());
        };
        let sample = NewSample {
            series,
            at: Some(point.at),
            value,
            metadata: metadata.map(|object| object.to_string().into()),
        };
        self.gathered.push(self.place, sample)
    }

    #[allow(clippy::cast_precision_loss)] // samples are doubles
    fn number(
        &mut self,
        shared: &Shared<'_>,
        point: &NumberDataPoint,
        temporality: i32,
    ) -> ApiResult<()> {
        let Some(begun) = self.begin(
            shared,
            &point.attributes,
            point.time_unix_nano,
            point.flags,
            temporality,
        ) else {
            return Ok(());
        };
        let value = point.as_double.or(point.as_int.map(|value| value as f64));
        let Some(value) = value else {
            self.unsupported(shared, "a data point has no value");
            return Ok(());
        };
        let unit = shared.metric.unit.as_str();
        self.add(shared, &begun, ("", unit), None, value, None)
    }

    /// Count, sum and extremes, as far as they are there.
    #[allow(clippy::cast_precision_loss)]
    fn figures(
        &mut self,
        shared: &Shared<'_>,
        point: &Point,
        count: u64,
        others: [(&str, Option<f64>); 3],
        metadata: Option<Value>,
    ) -> ApiResult<()> {
        self.add(shared, point, ("_count", ""), None, count as f64, metadata)?;
        for (suffix, value) in others {
            if let Some(value) = value {
                let unit = shared.metric.unit.as_str();
                self.add(shared, point, (suffix, unit), None, value, None)?;
            }
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss)]
    fn histogram(
        &mut self,
        shared: &Shared<'_>,
        point: &HistogramDataPoint,
        temporality: i32,
    ) -> ApiResult<()> {
        let Some(begun) = self.begin(
            shared,
            &point.attributes,
            point.time_unix_nano,
            point.flags,
            temporality,
        ) else {
            return Ok(());
        };
        let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
        let is_whole = counts.is_empty() && bounds.is_empty() || counts.len() == bounds.len() + 1;
        let is_rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !is_whole || !is_rising || !bounds.iter().all(|bound| bound.is_finite()) {
            self.unsupported(
                shared,
                "a histogram's bounds do not rise, or do not go with its buckets",
            );
            return Ok(());
        }
        let figures = [
            ("_sum", point.sum),
            ("_min", point.min),
            ("_max", point.max),
        ];
        self.figures(shared, &begun, point.count, figures, None)?;
        let mut below = 0_u64;
        for (index, count) in counts.iter().enumerate() {
            below = below.saturating_add(*count);
            let bound = bounds.get(index);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let (bucket, le) = (("_bucket", ""), Some(("le", bound)));
            self.add(shared, &begun, bucket, le, below as f64, None)?;
        }
        Ok(())
    }

    fn exponential(
        &mut self,
        shared: &Shared<'_>,
        point: &ExponentialHistogramDataPoint,
        temporality: i32,
    ) -> ApiResult<()> {
        let Some(begun) = self.begin(
            shared,
            &point.attributes,
            point.time_unix_nano,
            point.flags,
            temporality,
        ) else {
            return Ok(());
        };
        let figures = [
            ("_sum", point.sum),
            ("_min", point.min),
            ("_max", point.max),
        ];
        let metadata = json!({"exponential_histogram": {
            "scale": point.scale,
            "zero_count": point.zero_count,
            "zero_threshold": point.zero_threshold,
            "positive": point.positive.as_ref().map(buckets),
            "negative": point.negative.as_ref().map(buckets),
        }});
        self.figures(shared, &begun, point.count, figures, Some(metadata))
    }

    #[allow(clippy::cast_precision_loss)]
    fn summary(&mut self, shared: &Shared<'_>, point: &SummaryDataPoint) -> ApiResult<()> {
        let Some(begun) = self.begin(
            shared,
            &point.attributes,
            point.time_unix_nano,
            point.flags,
            0,
        ) else {
            return Ok(());
        };
        let figures = [("_sum", Some(point.sum)), ("", None), ("", None)];
        self.figures(shared, &begun, point.count, figures, None)?;
        for at in &point.quantile_values {
            // A summary without observations has no quantiles, and says so with NaN.
            if !at.value.is_nan() {
                let quantile = Some(("quantile", at.quantile.to_string()));
                let unit = shared.metric.unit.as_str();
                self.add(shared, &begun, ("", unit), quantile, at.value, None)?;
            }
        }
        Ok(())
    }
}

fn buckets(buckets: &Buckets) -> Value {
    json!({"offset": buckets.offset, "bucket_counts": buckets.bucket_counts})
}

/// An attribute's value as text: a string as it is, everything else as JSON has it; bytes in base64.
fn text(value: &AnyValue) -> String {
    match document(value) {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The decoders have bounded its depth.
fn document(value: &AnyValue) -> Value {
    use base64::Engine as _;
    if let Some(text) = &value.string_value {
        text.as_str().into()
    } else if let Some(value) = value.bool_value {
        value.into()
    } else if let Some(number) = value.int_value {
        number.into()
    } else if let Some(number) = value.double_value {
        // JSON has no NaN.
        serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::from)
    } else if let Some(list) = &value.array_value {
        list.values.iter().map(document).collect()
    } else if let Some(list) = &value.kvlist_value {
        let pairs = list.values.iter().map(|pair| {
            let value = pair.value.as_deref().map_or(Value::Null, document);
            (pair.key.clone(), value)
        });
        Value::Object(pairs.collect())
    } else if let Some(bytes) = &value.bytes_value {
        base64::engine::general_purpose::STANDARD
            .encode(bytes)
            .into()
    } else {
        Value::Null
    }
}

/// Too many messages to decode.
pub fn too_many() -> ApiError {
    crate::api::metrics::gather::too_many_samples()
}

#[cfg(test)]
mod tests;

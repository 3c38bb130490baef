"""Exports every kind of instrument with OpenTelemetry's own SDK, and prints what it exported, a sample a line.

usage: export.py ADDRESS TOKEN
"""

import json
import sys
import time
import urllib.request
from gzip import compress

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    Gauge,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

ADDRESS, TOKEN = sys.argv[1:]


def print_points(exported):
    """Prints the samples that are to be found, by what the SDK itself says of them."""
    for resource in exported.resource_metrics:
        about = dict(resource.resource.attributes)
        service = about["service.name"]
        base = {"host.name": about["host.name"], "service.instance.id": about["service.instance.id"]}
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = metric.data
                for point in data.data_points:
                    labels = base | {"otel.scope.name": scope.scope.name}
                    for key, value in (point.attributes or {}).items():
                        labels[key] = value if isinstance(value, str) else json.dumps(value)
                    if not isinstance(data, Gauge) and data.aggregation_temporality == AggregationTemporality.DELTA:
                        labels["otel.temporality"] = "delta"
                    for sample in samples(metric, data, point):
                        name, unit, more, value, metadata = sample
                        print(json.dumps({
                            "service": service, "type": name, "unit": unit, "labels": labels | more,
                            "at": point.time_unix_nano // 1000, "value": value, "metadata": metadata,
                        }))


def samples(metric, data, point):
    name, unit = metric.name, metric.unit or ""
    if isinstance(data, (HistogramData, ExponentialHistogram)):
        metadata = None
        if isinstance(data, ExponentialHistogram):
            buckets = lambda side: {"offset": side.offset, "bucket_counts": list(side.bucket_counts)}
            metadata = {"exponential_histogram": {
                "scale": point.scale, "zero_count": point.zero_count, "zero_threshold": 0.0,
                "positive": buckets(point.positive), "negative": buckets(point.negative),
            }}
        yield name + "_count", "", {}, point.count, metadata
        yield name + "_sum", unit, {}, point.sum, None
        yield name + "_min", unit, {}, point.min, None
        yield name + "_max", unit, {}, point.max, None
        if isinstance(data, HistogramData):
            below = 0
            bounds = [f"{bound:g}" for bound in point.explicit_bounds] + ["+Inf"]
            for bound, count in zip(bounds, point.bucket_counts):
                below += count
                yield name + "_bucket", "", {"le": bound}, below, None
    else:
        yield name, unit, {}, point.value, None


class Printing(OTLPMetricExporter):
    """Exports in protocol buffers, and prints what was taken."""

    def export(self, metrics_data, *args, **kwargs):
        result = super().export(metrics_data, *args, **kwargs)
        assert result is MetricExportResult.SUCCESS, result
        print_points(metrics_data)
        return result


class Json(Printing):
    """Exports in JSON, which the SDK has no exporter for."""

    def export(self, metrics_data, *args, **kwargs):
        message = encode_metrics(metrics_data)
        body = json.dumps(MessageToDict(message, use_integers_for_enums=True)).encode()
        headers = {
            "authorization": "Bearer " + TOKEN, "content-type": "application/json", "content-encoding": "gzip",
        }
        request = urllib.request.Request(ADDRESS + "/v1/metrics", compress(body), headers)
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200 and json.load(answer) == {}
        print_points(metrics_data)
        return MetricExportResult.SUCCESS


def exporter(kind, **options):
    return kind(endpoint=ADDRESS + "/v1/metrics", headers={"authorization": "Bearer " + TOKEN}, **options)


delta = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
for service, one in [
    ("otlp protobuf", exporter(Printing)),
    ("otlp gzip", exporter(Printing, compression=Compression.Gzip, preferred_temporality=delta)),
    ("otlp json", exporter(Json)),
]:
    provider = MeterProvider(
        metric_readers=[PeriodicExportingMetricReader(one, export_interval_millis=3_600_000)],
        resource=Resource({"service.name": service, "host.name": "h-1", "service.instance.id": "i-1", "process.pid": 7}),
        views=[View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())],
        shutdown_on_exit=False,
    )
    meter = provider.get_meter("test.scope", "1.0")
    meter.create_observable_gauge(
        "gauge", callbacks=[lambda _: [Observation(21.5, {"room": "küche"}), Observation(-1, {})]], unit="Cel"
    )
    counter = meter.create_counter("counter", unit="1")
    updown = meter.create_up_down_counter("updown", unit="{request}")
    histogram = meter.create_histogram("histogram", unit="ms")
    exponential = meter.create_histogram("exponential", unit="s")
    for turn in range(3):
        counter.add(turn + 1, {"ok": True, "n": 3, "ratio": 0.5, "list": ["a", "b"]})
        counter.add(0.5)
        updown.add(1 - 2 * turn, {"queue": "q"})
        for number in range(50):
            histogram.record(1.7**number % 12_000, {"path": "/"})
            exponential.record(1.3**number - 1)
            exponential.record(-0.001 * number)
        provider.force_flush()
        time.sleep(0.05)
    provider.shutdown()

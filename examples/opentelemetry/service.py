"""A worker that is measured with OpenTelemetry's SDK alone: nothing in it knows the store.

Metrics go to the store, which takes OTLP over HTTP at /v1/metrics; traces go to whatever collector the standard variables name. When
a span of ours is current, the store's own spans become parts of the same trace: it heeds the `traceparent` that goes along.

usage: service.py ROUNDS    with OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, OTEL_EXPORTER_OTLP_METRICS_HEADERS and, for traces,
                            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT; OTEL_SERVICE_NAME says whose they are. STORE_URL and STORE_TOKEN
                            are for the call that the worker makes.
"""

import json
import os
import random
import sys
import time
import urllib.request

from opentelemetry import metrics, propagate, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def start() -> tuple[MeterProvider, TracerProvider | None]:
    """Sets the SDK up. Endpoints, headers, the service's name and its attributes come from the environment."""
    measured = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=10_000)])
    metrics.set_meter_provider(measured)
    traced = None
    if "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in os.environ:
        traced = TracerProvider()
        traced.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(traced)
    return measured, traced


def statistics(insight: str) -> dict:
    """Asks the store, within the trace that is current here."""
    headers = {"authorization": f"Bearer {os.environ['STORE_TOKEN']}"}
    propagate.inject(headers)
    url = f"{os.environ['STORE_URL']}/api/v1/feedback/stats?insight_id={insight}"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return json.load(answer)


def main(rounds: int) -> None:
    measured, traced = start()
    meter, tracer = metrics.get_meter("example.worker"), trace.get_tracer("example.worker")
    blocks = meter.create_counter("blocks_processed", unit="1", description="Blocks that were processed")
    duration = meter.create_histogram("block_duration", unit="ms", description="How long a block took")
    height = meter.create_gauge("chain_height", unit="1", description="The last block")
    for number in range(rounds):
        with tracer.start_as_current_span("process block") as span:
            began = time.perf_counter()
            statistics("i-1")
            time.sleep(random.uniform(0.001, 0.003))
            span.set_attribute("block.number", 800_000 + number)
            blocks.add(1, {"kind": "block"})
            duration.record((time.perf_counter() - began) * 1000, {"kind": "block"})
            height.set(800_000 + number)
    # What was measured last is sent before the process ends.
    measured.shutdown()
    if traced is not None:
        traced.shutdown()
    print(json.dumps({"blocks": rounds, "height": 800_000 + rounds - 1}))


if __name__ == "__main__":
    main(int(sys.argv[1]))

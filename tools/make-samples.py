#!/usr/bin/env python3
"""Makes the sample telemetry in Tests/Fixtures with the official OpenTelemetry SDK for Python.

The samples are what agents of several tenants would send: one trace for each invocation of an agent, with its chats,
tool calls and embeddings, and logs and metrics of the same runtime. Everything is drawn from a fixed seed, times and
IDs included, so that every run writes the same bytes with one version of the SDK.

    pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-common
    tools/make-samples.py [DIRECTORY]

    agent-spans.delimited   1,000 spans of 40 tenants: a request an invocation, behind its length as little-endian u32
    agent-spans.json, .pb   some of them as one request, as OTLP/JSON and as protobuf
    agent-logs.json, .pb    a request of log records
    agent-metrics.json, .pb a request with each kind of metric
    lines.ndjson            plain JSON lines
"""

import base64
import json
import pathlib
import random
import struct
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics import export as metrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

SPANS = 1_000
TENANTS = 40
SMALL_INVOCATIONS = 4
LINES = 20
START = 1_750_000_000_000_000_000
SECOND = 1_000_000_000
SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"
SCOPE = ("telemetry-wal.samples.agent", "1.0.0")

MODELS = [("openai", "gpt-4.1"), ("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-4o-mini")]
TOOLS = ["order_lookup", "refund", "calendar", "stock_level", "translate", "weather"]
AGENTS = ["returns-desk", "trip-planner", "inventory-clerk", "night-watch"]

SUBJECTS = "the parcel,a customer,our warehouse,the night train,every invoice,this sensor,the second driver".split(",")
VERBS = "arrived at,was moved to,asked about,is waiting for,did not match,left behind,reported".split(",")
OBJECTS = "the harbour,three missing boxes,a newer label,the spare key,café Ødegård,platform 9,an empty shelf"
OBJECTS = OBJECTS.split(",")
ENDINGS = "before noon,without notice,as agreed,for the third time,in heavy rain,twice,after the audit".split(",")

draw = random.Random(2025)


class SeededIdentifiers(IdGenerator):
    """IDs from the common seed instead of the system's randomness."""

    def generate_span_id(self):
        return draw.getrandbits(64) | 1

    def generate_trace_id(self):
        return draw.getrandbits(128) | 1


def prose(sentences):
    """That many short sentences of no meaning, some with letters outside of ASCII."""
    parts = (" ".join(map(draw.choice, (SUBJECTS, VERBS, OBJECTS, ENDINGS))) for _ in range(sentences))
    return " ".join(part.capitalize() + "." for part in parts)


def tenant_name(number):
    return f"tenant-{number:02d}"


def resource(number):
    attributes = {
        "service.name": "agent-runtime",
        "service.version": f"3.1.{number % 4}",
        "tenant.id": tenant_name(number),
        "host.name": f"worker-{number % 6}",
    }
    return Resource(attributes, SCHEMA_URL)


class Agents:
    """Runs invocations and collects their spans."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.tracers = {}
        self.previous = None

    def tracer(self, number):
        if number not in self.tracers:
            provider = TracerProvider(
                resource=resource(number), id_generator=SeededIdentifiers(), shutdown_on_exit=False
            )
            provider.add_span_processor(SimpleSpanProcessor(self.exporter))
            self.tracers[number] = provider.get_tracer(*SCOPE, SCHEMA_URL)
        return self.tracers[number]

    def invoke(self, number, limit):
        """One invocation for a tenant, of `limit` spans at most; returns its spans."""
        tracer = self.tracer(number)
        now = START + draw.randrange(3600) * SECOND + draw.randrange(SECOND)
        agent = draw.choice(AGENTS)
        links = [Link(self.previous, {"link.reason": "handover"})] if self.previous and draw.random() < 0.2 else []
        root = tracer.start_span(
            f"invoke_agent {agent}",
            start_time=now,
            links=links,
            attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent},
        )
        context = set_span_in_context(root)
        for step in range(min(draw.randint(6, 12), limit - 1)):
            now = self.step(tracer, context, step, now)
        root.set_attribute("agent.finished", True)
        root.end(now)
        self.previous = root.get_span_context()
        spans = self.exporter.get_finished_spans()
        self.exporter.clear()
        return spans

    def step(self, tracer, context, step, now):
        name, kind, attributes = draw.choices([chat, tool, embedding], [5, 4, 1])[0]()
        span = tracer.start_span(
            name, context=context, kind=kind, start_time=now, attributes={"agent.step": step, **attributes}
        )
        now += draw.randint(SECOND // 50, 4 * SECOND)
        if draw.random() < 0.05:
            span.add_event("exception", {"exception.type": "TimeoutError"}, timestamp=now)
            span.set_status(Status(StatusCode.ERROR, "no answer in time"))
        span.end(now)
        return now


def chat():
    provider, model = draw.choice(MODELS)
    question = [{"role": "user", "parts": [{"type": "text", "content": prose(draw.randint(1, 3))}]}]
    answer = [{"role": "assistant", "parts": [{"type": "text", "content": prose(draw.randint(1, 2))}]}]
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.request.temperature": draw.choice([0.0, 0.25, 0.7]),
        "gen_ai.usage.input_tokens": draw.randint(50, 9_000),
        "gen_ai.usage.output_tokens": draw.randint(5, 900),
        "gen_ai.response.finish_reasons": [draw.choice(["stop", "tool_calls"])],
        "gen_ai.input.messages": json.dumps(question, ensure_ascii=False),
        "gen_ai.output.messages": json.dumps(answer, ensure_ascii=False),
    }
    return f"chat {model}", SpanKind.CLIENT, attributes


def tool():
    name = draw.choice(TOOLS)
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.call.id": f"call_{draw.getrandbits(64):016x}",
        "gen_ai.tool.call.result": json.dumps({"rows": draw.randint(0, 99), "note": prose(1)}, ensure_ascii=False),
    }
    return f"execute_tool {name}", SpanKind.INTERNAL, attributes


def embedding():
    attributes = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.usage.input_tokens": draw.randint(5, 500),
    }
    return "embeddings text-embedding-3-small", SpanKind.CLIENT, attributes


def make_logs():
    """A request whose log records differ in body, severity, times and trace."""
    fields = {"agent": "returns-desk", "attempt": 2, "ok": False}
    bodies = [prose(1), fields, [1, 2.5, "three"], b"\x00\xff\x10", 42, True]
    severities = [SeverityNumber.DEBUG, SeverityNumber.INFO, SeverityNumber.WARN, SeverityNumber.ERROR]
    records = []
    for index in range(24):
        time = START + index * SECOND
        severity = severities[index % len(severities)]
        inside = SpanContext(draw.getrandbits(128) | 1, draw.getrandbits(64) | 1, False, TraceFlags(1))
        record = LogRecord(
            timestamp=time if index % 3 else None,
            observed_timestamp=time + 7,
            context=set_span_in_context(NonRecordingSpan(inside)) if index % 2 else None,
            severity_text=severity.name,
            severity_number=severity,
            body=bodies[index % len(bodies)],
            attributes={"agent.step": index, "tenant.id": "from-the-record"},
            event_name="agent.step" if index % 4 == 0 else None,
        )
        # Every fourth record comes from a resource without a tenant, so that its own attribute has to do.
        owner = resource(index % 3) if index % 4 else Resource({"service.name": "agent-runtime"})
        records.append(ReadableLogRecord(record, owner, InstrumentationScope(*SCOPE, SCHEMA_URL)))
    return encode_logs(records)


def make_metrics():
    """A request with each kind of metric, with exemplars where there may be some."""
    cumulative, delta = metrics.AggregationTemporality.CUMULATIVE, metrics.AggregationTemporality.DELTA
    resources = []
    for number in range(3):
        begin, now = START, START + (60 + number) * SECOND
        labels = {"gen_ai.request.model": "gpt-4.1"}

        def exemplar(value):
            return Exemplar({"agent.step": 3}, value, now - 5, draw.getrandbits(64) | 1, draw.getrandbits(128) | 1)

        points = [
            ("agent.queue.depth", "{item}", metrics.Gauge([metrics.NumberDataPoint({}, begin, now, 7 + number)])),
            ("agent.load", "1", metrics.Gauge([metrics.NumberDataPoint(labels, begin, now, 0.75)])),
            (
                "gen_ai.client.token.usage",
                "{token}",
                metrics.Sum(
                    [metrics.NumberDataPoint(labels, begin, now, draw.randint(1, 10**12), [exemplar(812)])],
                    cumulative,
                    True,
                ),
            ),
            (
                "gen_ai.client.operation.duration",
                "s",
                metrics.Histogram(
                    [
                        metrics.HistogramDataPoint(
                            labels, begin, now, 6, 9.5, [1, 2, 3], [0.5, 2.0], 0.125, 4.0, [exemplar(1.5)]
                        )
                    ],
                    delta,
                ),
            ),
            (
                "agent.step.duration",
                "s",
                metrics.ExponentialHistogram(
                    [
                        metrics.ExponentialHistogramDataPoint(
                            labels,
                            begin,
                            now,
                            5,
                            3.25,
                            -1,
                            1,
                            metrics.Buckets(-2, [1, 2]),
                            metrics.Buckets(0, [1]),
                            0,
                            -1.0,
                            2.5,
                            [exemplar(0.5)],
                        )
                    ],
                    delta,
                ),
            ),
        ]
        scope = metrics.ScopeMetrics(
            InstrumentationScope(*SCOPE, SCHEMA_URL),
            [metrics.Metric(name, prose(1), unit, data) for name, unit, data in points],
            SCHEMA_URL,
        )
        resources.append(metrics.ResourceMetrics(resource(number), [scope], SCHEMA_URL))
    return encode_metrics(metrics.MetricsData(resources))


def make_lines():
    """Plain JSON lines, most of them with a tenant."""
    lines = []
    for index in range(LINES):
        line = {"message": prose(1), "level": draw.choice(["info", "warn"]), "step": index}
        if index % 5 != 4:
            line["tenant.id"] = tenant_name(index % 3)
        line["context"] = {"tenant.id": "not-this-one", "tags": ["a", "b"]}
        lines.append(json.dumps(line, ensure_ascii=False))
    return "".join(line + "\n" for line in lines)


def otlp_json(message):
    """The JSON of OTLP, which has IDs in hex, as one indented document."""

    def with_hex(value):
        if isinstance(value, list):
            return [with_hex(element) for element in value]
        if isinstance(value, dict):
            return {
                key: base64.b64decode(member).hex()
                if key in ("traceId", "spanId", "parentSpanId")
                else with_hex(member)
                for key, member in value.items()
            }
        return value

    tree = with_hex(MessageToDict(message, use_integers_for_enums=True))
    return json.dumps(tree, ensure_ascii=False, indent=1) + "\n"


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "Tests" / "Fixtures"
    directory = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    directory.mkdir(parents=True, exist_ok=True)

    agents = Agents()
    invocations = []
    count = 0
    while count < SPANS:
        number = len(invocations)
        # Every tenant once, then the first ones more often than the others.
        tenant = number if number < TENANTS else min(int(draw.paretovariate(0.9)) - 1, TENANTS - 1)
        invocations.append(agents.invoke(tenant, SPANS - count))
        count += len(invocations[-1])

    with open(directory / "agent-spans.delimited", "wb") as file:
        for spans in invocations:
            request = encode_spans(spans).SerializeToString(deterministic=True)
            file.write(struct.pack("<I", len(request)) + request)

    small = [span for spans in invocations[:SMALL_INVOCATIONS] for span in spans]
    for name, message in (
        ("agent-spans", encode_spans(small)),
        ("agent-logs", make_logs()),
        ("agent-metrics", make_metrics()),
    ):
        (directory / f"{name}.pb").write_bytes(message.SerializeToString(deterministic=True))
        (directory / f"{name}.json").write_text(otlp_json(message), encoding="utf-8")
    (directory / "lines.ndjson").write_text(make_lines(), encoding="utf-8")

    for path in sorted(directory.iterdir()):
        print(f"{path.stat().st_size:8d} {path.name}")
    print(f"{count} spans in {len(invocations)} invocations, {len(small)} in the small sample")


if __name__ == "__main__":
    main()

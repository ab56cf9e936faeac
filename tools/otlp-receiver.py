#!/usr/bin/env python3
"""A small OTLP/HTTP receiver for tests: it counts what arrives, and fails on request.

It takes traces, logs and metrics as protobuf or JSON, plain or in gzip, and tells duplicates from new spans by their
IDs. The options make it behave like a receiver in trouble, so that retries and refusals can be tried out.

    pip install opentelemetry-proto
    tools/otlp-receiver.py [--port 4318] [--record FILE] [--fail-first N] ...

The first line on standard output is `listening 127.0.0.1:PORT`. GET / answers with the counts, GET /tenants with the
number of items of each tenant. SIGTERM and SIGINT end it with status 0.
"""

import argparse
import base64
import collections
import hashlib
import http.server
import json
import signal
import sys
import threading
import time
import zlib

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

MAXIMUM_BODY = 256 * 1024 * 1024
PROTOBUF = "application/x-protobuf"
JSON = "application/json"

# What tells the signals apart: messages, names of the nested fields, and of the count in a partial success.
Signal = collections.namedtuple("Signal", "name request response resources scopes items rejected")
SIGNALS = {
    "/v1/traces": Signal(
        "spans",
        trace_service_pb2.ExportTraceServiceRequest,
        trace_service_pb2.ExportTraceServiceResponse,
        "resource_spans",
        "scope_spans",
        "spans",
        "rejected_spans",
    ),
    "/v1/logs": Signal(
        "logs",
        logs_service_pb2.ExportLogsServiceRequest,
        logs_service_pb2.ExportLogsServiceResponse,
        "resource_logs",
        "scope_logs",
        "log_records",
        "rejected_log_records",
    ),
    "/v1/metrics": Signal(
        "metrics",
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
        "resource_metrics",
        "scope_metrics",
        "metrics",
        "rejected_data_points",
    ),
}
IDENTIFIERS = {"traceId", "trace_id", "spanId", "span_id", "parentSpanId", "parent_span_id"}


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status, message, headers=()):
        super().__init__(message)
        self.status = status
        self.headers = dict(headers)


class Store:
    """What has been received. Requests are handled in threads, so all access is under one lock."""

    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.record = open(options.record, "a", encoding="utf-8") if options.record else None
        self.attempts = 0
        self.requests = 0
        self.refused = 0
        self.spans = collections.Counter()
        self.traces = set()
        self.tenants = collections.Counter()
        self.items = collections.Counter()

    def admit(self):
        """Refuses the first requests, if that was asked for."""
        with self.lock:
            self.attempts += 1
            if self.attempts <= self.options.fail_first:
                after = self.options.retry_after
                headers = {} if after is None else {"Retry-After": str(after)}
                raise Refusal(self.options.fail_status, f"refused request {self.attempts} as told", headers)

    def count_refused(self):
        with self.lock:
            self.refused += 1

    def add(self, kind, items):
        """Counts the items of one accepted request, given as pairs of tenant and item."""
        lines = []
        with self.lock:
            self.requests += 1
            self.items[kind.name] += len(items)
            for tenant, item in items:
                self.tenants[tenant or ""] += 1
                if kind.name != "spans":
                    continue
                self.spans[item.trace_id, item.span_id] += 1
                self.traces.add(item.trace_id)
                if self.record:
                    line = {
                        "trace_id": item.trace_id.hex(),
                        "span_id": item.span_id.hex(),
                        "tenant": tenant,
                        "sha256": hashlib.sha256(item.SerializeToString(deterministic=True)).hexdigest(),
                    }
                    lines.append(json.dumps(line) + "\n")
            if self.record:
                self.record.write("".join(lines))
                self.record.flush()

    def counts(self):
        with self.lock:
            total = sum(self.spans.values())
            return {
                "attempts": self.attempts,
                "requests": self.requests,
                "refused": self.refused,
                "unique": len(self.spans),
                "total": total,
                "duplicates": total - len(self.spans),
                "traces": len(self.traces),
                "tenants": len([tenant for tenant in self.tenants if tenant]),
                "logs": self.items["logs"],
                "metrics": self.items["metrics"],
            }

    def tenant_counts(self):
        with self.lock:
            return dict(sorted(self.tenants.items()))

    def close(self):
        with self.lock:
            if self.record:
                self.record.close()


def tenant_of(attributes, name):
    for attribute in attributes:
        if attribute.key == name:
            value = attribute.value
            kind = value.WhichOneof("value")
            if kind == "string_value":
                return value.string_value or None
            if kind == "int_value":
                return str(value.int_value)
            if kind == "bool_value":
                return str(value.bool_value).lower()
            return None
    return None


def items_of(request, kind, tenant_attribute):
    """Pairs of tenant and item. The resource names the tenant, or else the item does."""
    pairs = []
    for resource in getattr(request, kind.resources):
        owner = tenant_of(resource.resource.attributes, tenant_attribute)
        for scope in getattr(resource, kind.scopes):
            for item in getattr(scope, kind.items):
                tenant = owner or tenant_of(getattr(item, "attributes", ()), tenant_attribute)
                pairs.append((tenant, item))
    return pairs


def with_base64_identifiers(value):
    """OTLP has IDs in hex where protobuf's JSON reader wants base64."""
    if isinstance(value, list):
        return [with_base64_identifiers(element) for element in value]
    if isinstance(value, dict):
        return {
            key: base64.b64encode(bytes.fromhex(member)).decode()
            if key in IDENTIFIERS and isinstance(member, str)
            else with_base64_identifiers(member)
            for key, member in value.items()
        }
    return value


def decode(body, content_type, kind):
    request = kind.request()
    try:
        if content_type == PROTOBUF:
            request.ParseFromString(body)
        else:
            tree = with_base64_identifiers(json.loads(body))
            if not isinstance(tree, dict):
                raise ValueError("it is no JSON object")
            json_format.ParseDict(tree, request, ignore_unknown_fields=True)
    except (DecodeError, json_format.ParseError, ValueError, RecursionError, AttributeError) as error:
        raise Refusal(400, f"the body is no valid request: {error}") from error
    return request


def unpack(body):
    """Undoes gzip, within the limit."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, MAXIMUM_BODY)
    except zlib.error as error:
        raise Refusal(400, f"the body is no valid gzip: {error}") from error
    if unpacker.unconsumed_tail:
        raise Refusal(413, "the body is too long")
    if not unpacker.eof or unpacker.unused_data:
        raise Refusal(400, "the body is no valid gzip: it does not end where it should")
    return plain


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Answers are small and wait for nothing else.
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        store = self.server.store
        pages = {"/": store.counts, "/tenants": store.tenant_counts}
        if self.path in pages:
            self.answer(200, JSON, json.dumps(pages[self.path]()).encode())
        else:
            self.answer(404, JSON, b'{"message":"no such page"}')

    def do_POST(self):
        store, options = self.server.store, self.server.options
        content_type = self.headers.get("Content-Type", "").split(";")[0].strip().lower()
        try:
            body = self.body()
            kind = SIGNALS.get(self.path)
            if kind is None:
                raise Refusal(404, f"no receiver at {self.path}")
            store.admit()
            response = self.receive(kind, body, content_type)
        except Refusal as refusal:
            store.count_refused()
            time.sleep(options.delay_ms / 1000)
            self.refuse(refusal, content_type)
            return
        time.sleep(options.delay_ms / 1000)
        if content_type == JSON:
            self.answer(200, JSON, json_format.MessageToJson(response, indent=None).encode())
        else:
            self.answer(200, PROTOBUF, response.SerializeToString())

    def receive(self, kind, body, content_type):
        """Takes one request in and returns the response to it."""
        store, options = self.server.store, self.server.options
        if content_type not in (PROTOBUF, JSON):
            raise Refusal(415, f"content type {content_type!r} is not supported")
        encoding = self.headers.get("Content-Encoding", "identity").lower()
        if encoding == "gzip":
            body = unpack(body)
        elif encoding != "identity":
            raise Refusal(415, f"content encoding {encoding!r} is not supported")
        items = items_of(decode(body, content_type, kind), kind, options.tenant_attribute)
        if options.refuse_tenant is not None and any(tenant == options.refuse_tenant for tenant, _ in items):
            raise Refusal(400, f"tenant {options.refuse_tenant} is refused as told")
        response = kind.response()
        rejected = min(options.partial_reject, len(items))
        if rejected:
            setattr(response.partial_success, kind.rejected, rejected)
            response.partial_success.error_message = f"left out {rejected} as told"
        store.add(kind, items[rejected:])
        return response

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self.chunked_body()
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= MAXIMUM_BODY:
            self.close_connection = True
            raise Refusal(411 if length < 0 else 413, "the body has no usable length")
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            raise Refusal(400, "the body is cut off")
        return body

    def chunked_body(self):
        body = b""
        while True:
            try:
                length = int(self.rfile.readline(64).split(b";")[0], 16)
            except ValueError:
                length = -1
            if not 0 <= length <= MAXIMUM_BODY - len(body):
                self.close_connection = True
                raise Refusal(400, "a chunk has no usable length")
            chunk = self.rfile.read(length)
            self.rfile.readline(64)
            if length == 0:
                return body
            body += chunk

    def refuse(self, refusal, content_type):
        message = str(refusal)[:100]
        if content_type == JSON:
            self.answer(refusal.status, JSON, json.dumps({"message": message}).encode(), refusal.headers)
        else:
            # A google.rpc.Status by hand: its field 2 is the message.
            text = message.encode()[:127].decode(errors="ignore").encode()
            self.answer(refusal.status, PROTOBUF, b"\x12" + bytes([len(text)]) + text, refusal.headers)

    def answer(self, status, content_type, body, headers=None):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # Clients that are killed in the middle of a request are what the tests are about.
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--record", metavar="FILE", help="append a JSON line for each span received")
    parser.add_argument("--tenant-attribute", default="tenant.id", metavar="NAME")
    parser.add_argument("--fail-first", type=int, default=0, metavar="N", help="refuse the first N requests")
    parser.add_argument("--fail-status", type=int, default=503, metavar="CODE")
    parser.add_argument("--retry-after", type=int, metavar="SECONDS", help="header of those refusals")
    parser.add_argument("--refuse-tenant", metavar="TENANT", help="answer 400 to requests with this tenant")
    parser.add_argument(
        "--partial-reject", type=int, default=0, metavar="N", help="leave out the first N items of each request"
    )
    parser.add_argument("--delay-ms", type=int, default=0, metavar="N", help="wait before each answer to a POST")
    options = parser.parse_args()

    server = Server(("127.0.0.1", options.port), Handler)
    server.options = options
    server.store = Store(options)

    def stop(*_):
        # shutdown() waits for the loop that this handler interrupts, so it needs a thread of its own.
        threading.Thread(target=server.shutdown).start()

    # Whoever started us may have blocked signals, and we would inherit that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"listening 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    server.store.close()


if __name__ == "__main__":
    main()

"""The records that every driver appends: 64 MiB of spans in OTLP/JSON, each exactly 512 bytes.

Deterministic. About half of each record is identifiers in hex, which no compressor of LZ4's kind shortens; the rest is
names and attributes that come again and again. LZ4 (`lz4 -b1 -B...`) shortens it, by the size of the block:
512 B 1.03, 4 KiB 1.60, 32 KiB 1.87, 256 KiB 1.85.
"""
import hashlib
import pathlib
import random
import tempfile

RECORD_SIZE = 512
RECORD_COUNT = 64 * 1024 * 1024 // RECORD_SIZE
# Part of the file's name, so that a corpus made by an older version of this file is not used.
VERSION = 1

SERVICES = ("gateway", "ledger", "planner", "retriever", "embedder", "tool-runner", "billing", "mailer", "vector-store")
NAMES = (
    "POST /v1/messages", "GET /v1/models", "chat completion", "execute_tool", "SELECT accounts", "embed batch",
    "GET /livez", "publish invoice.ready", "redis GETEX", "invoke_agent planner",
)
STATUSES = ("STATUS_CODE_UNSET", "STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")
ZONES = ("eu-central-1a", "eu-central-1b", "us-west-2c")


def record(number, clock, choices):
    """One span as a line of JSON; `clock` is its start in nanoseconds."""
    identifiers = hashlib.shake_128(b"telemetry-wal corpus %d" % number).hexdigest(160)
    head = (
        '{"traceId":"%s","spanId":"%s","parentSpanId":"%s","kind":%d,"name":"%s","startTimeUnixNano":"%d",'
        '"status":{"code":"%s"},"scope":"opentelemetry.python","service.name":"%s","cloud.availability_zone":"%s",'
        '"retries":%d,"sessionId":"'
    ) % (
        identifiers[:32], identifiers[32:48], identifiers[48:64], choices.randrange(1, 6), choices.choice(NAMES), clock,
        choices.choice(STATUSES), choices.choice(SERVICES), choices.choice(ZONES), choices.randrange(3),
    )
    tail = '"}\n'
    session = identifiers[64 : 64 + RECORD_SIZE - len(head) - len(tail)]
    line = head + session + tail
    assert len(line) == RECORD_SIZE, f"record {number} has {len(line)} bytes"
    return line.encode()


def write(path):
    """Writes the corpus to `path`, which is either complete or not there."""
    choices = random.Random(512)
    clock = 1_790_000_000_000_000_000
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix="corpus-", delete=False) as file:
        try:
            for number in range(RECORD_COUNT):
                clock += choices.randrange(500, 3_000_000)
                file.write(record(number, clock, choices))
            pathlib.Path(file.name).replace(path)
        except BaseException:
            pathlib.Path(file.name).unlink()
            raise


def prepare(folder):
    """The path of the corpus below `folder`; made where it is missing."""
    path = folder / f"corpus-{VERSION}.ndjson"
    if not path.exists():
        write(path)
    return path

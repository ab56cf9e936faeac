#!/usr/bin/env python3
"""Kills a writer in mid-stream and shows that every acknowledged span reaches an OTLP receiver.

Called by tools/demo. Each step is a walctl command that is printed before it runs.
"""
import argparse
import fcntl
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
# fcntl.F_SETPIPE_SZ from Python 3.10 on.
F_SETPIPE_SZ = 1031
SAMPLE = HERE.parent / "Tests" / "Fixtures" / "agent-spans.delimited"


def show(command):
    print("  $", " ".join(str(part) for part in command))


def append_until_killed(walctl, root, after):
    """Appends the sample, kills the writer after so many receipts, returns all receipts that it had printed."""
    command = [walctl, "append", root, str(SAMPLE), "--receipts"]
    show(command)
    # The writer must not be through with all of it before its receipts are read.
    reading, writing = os.pipe()
    fcntl.fcntl(writing, F_SETPIPE_SZ, 4096)
    writer = subprocess.Popen(command, stdout=writing, stderr=subprocess.DEVNULL)
    os.close(writing)
    receipts = []
    for line in open(reading):
        # A line without its end is a receipt that the kill cut off: not acknowledged.
        if not line.endswith("\n"):
            break
        receipts.append(json.loads(line))
        if len(receipts) == after:
            writer.send_signal(signal.SIGKILL)
    status = writer.wait()
    if status != -signal.SIGKILL:
        sys.exit(f"the writer ended by itself with {status}; nothing was shown")
    print(f"    writer {writer.pid} killed with SIGKILL")
    return receipts


def run(*command, expect=0):
    show(command)
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != expect:
        sys.exit(f"ended with {result.returncode}: {result.stderr}{result.stdout}")
    return result.stdout


def spans_in(lines):
    for line in lines:
        for resource in json.loads(line).get("resourceSpans", []):
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    yield span["spanId"]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walctl", required=True)
    parser.add_argument("--keep", action="store_true", help="leave the log in its folder")
    arguments = parser.parse_args()
    walctl = arguments.walctl
    folder = pathlib.Path(tempfile.mkdtemp(prefix="demo-", dir=HERE.parent / ".build"))
    root, record = folder / "wal", folder / "received.ndjson"
    receiver = None
    try:
        print("1. append 1,000 spans of 40 tenants, kill the writer in the middle")
        receipts = append_until_killed(walctl, root, after=random.randint(300, 700))
        acknowledged = [span for receipt in receipts for span in receipt["ids"]]
        print("2. verify and read what is there")
        print("    " + run(walctl, "verify", root).strip().replace("\n", "\n    "))
        recovered = list(spans_in(run(walctl, "cat", root).splitlines()))
        print("3. start an OTLP receiver (built on the official opentelemetry-proto), replay")
        receiver = subprocess.Popen(
            [sys.executable, HERE / "otlp-receiver.py", "--port", "0", "--record", record],
            stdout=subprocess.PIPE, text=True)
        address = receiver.stdout.readline().split()[-1]
        run(walctl, "replay", root, "--to", f"otlp-http://{address}")
        counts = json.load(urllib.request.urlopen(f"http://{address}/"))
        delivered = {json.loads(line)["span_id"] for line in record.read_text().splitlines()}
        lost = [span for span in acknowledged if span not in delivered]
        latencies = [receipt["microseconds"] for receipt in receipts]
        rows = [
            ("acknowledged before the kill", len(acknowledged)),
            ("recovered", len(recovered)),
            ("delivered", len(delivered)),
            ("tenants", counts["tenants"]),
            ("lost", len(lost)),
            ("duplicates", counts["duplicates"]),
            ("durable append p50, µs", round(percentile(latencies, 0.50))),
            ("durable append p99, µs", round(percentile(latencies, 0.99))),
        ]
        print()
        for name, value in rows:
            print(f"  {name:<30}{value:>8}")
        print()
        if lost or counts["duplicates"] or set(recovered) != delivered:
            sys.exit("FAILED: the numbers above do not hold the promise")
        print("every acknowledged span was delivered, once")
    finally:
        if receiver:
            receiver.terminate()
            receiver.wait()
        if arguments.keep:
            print(f"the log is in {root}")
        else:
            shutil.rmtree(folder)


main()

#!/usr/bin/env python3
"""Durable appends beside fio in the same minute, recovery speed, page cache. Called by tools/measure."""
import argparse
import json
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import tempfile

ROUNDS = 5


def records(count):
    """NDJSON lines of 512 bytes with the newline: half random hex, half words, as span records are."""
    generator = random.Random(1)
    words = ["checkout", "cart", "payment", "GET /api/v1/items", "STATUS_CODE_OK", "eu-west-1"]
    for number in range(count):
        text = '{"n":%d,"id":"%0128x","op":"%s","pad":"' % (number, generator.getrandbits(512), generator.choice(words))
        pad = "".join(generator.choice(words) for _ in range(60))[: 512 - len(text) - 3]
        yield text + pad + '"}\n'


def fio(folder):
    command = [
        "fio", "--name=device", f"--filename={folder}/fio", "--size=64m", "--rw=write", "--bs=4k", "--direct=1",
        "--sync=dsync", "--overwrite=1", "--runtime=4", "--time_based", "--output-format=json",
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    percentiles = json.loads(output)["jobs"][0]["write"]["clat_ns"]["percentile"]
    return percentiles["50.000000"] / 1000, percentiles["99.000000"] / 1000


def append(walctl, root, source):
    shutil.rmtree(root, ignore_errors=True)
    command = [walctl, "append", root, source, "--format", "ndjson", "--tenant", "t"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    match = re.search(r"p50 (\d+) µs, p99 (\d+) µs", output)
    return float(match[1]), float(match[2])


def cached_mebibytes():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Cached:"):
            return int(line.split()[1]) // 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walctl", required=True)
    parser.add_argument("--directory", required=True)
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="telemetry-wal-measure-", dir=arguments.directory))
    root, source = folder / "wal", folder / "records"
    try:
        source.write_text("".join(records(20_000)))
        rounds = [(fio(folder), append(arguments.walctl, root, source)) for _ in range(ROUNDS)]
        print(f"one appender, one 512 B record an append, {ROUNDS} rounds interleaved with fio")
        for name, index in (("p50", 0), ("p99", 1)):
            device = statistics.median(first[index] for first, _ in rounds)
            ours = statistics.median(second[index] for _, second in rounds)
            ratios = sorted(second[index] / first[index] for first, second in rounds)
            print(
                f"  {name}  ratio to fio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f});"
                f"  ours {ours:.0f} µs, fio {device:.0f} µs")

        shutil.rmtree(root, ignore_errors=True)
        text = source.read_bytes()
        before = cached_mebibytes()
        writer = subprocess.Popen(
            [arguments.walctl, "append", root, "-", "--format", "ndjson", "--tenant", "t", "--batch", "6"],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=False)
        for _ in range((1 << 30) // len(text)):
            writer.stdin.write(text)
        writer.stdin.close()
        writer.stderr.read()
        assert writer.wait() == 0
        print(f"1 GiB appended: page cache changed by {cached_mebibytes() - before:+} MiB")
        output = subprocess.run(
            [arguments.walctl, "verify", root, "--format", "json"], check=True, capture_output=True, text=True).stdout
        report = json.loads(output)
        mebibytes = report["bytesRead"] / (1 << 20)
        print(
            f"recovery with every frame opened: {mebibytes:.0f} MiB of journal, {report['commits']} commits, "
            f"{mebibytes / report['seconds']:.0f} MiB/s")
    finally:
        shutil.rmtree(folder)


main()

#!/usr/bin/env python3
"""Counts what appends cost and holds the numbers against thresholds. Called by tools/counters."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# Name, arguments of `walbench count`, and the most that each counter may reach. The thresholds lie a quarter to a half
# above what was counted when they were set; flushes depend on the scheduler and have more room.
RUNS = [
    ("one blocking appender", ["--appends", "10000"],
     {"flushesPerAppend": 1.001, "bytesPerByte": 8.01, "allocationsPerAppend": 0.01}),
    ("64 blocking appenders", ["--appends", "100000", "--writers", "64"],
     {"flushesPerAppend": 1 / 20, "bytesPerByte": 1.35, "allocationsPerAppend": 0.05}),
    # Resuming a task from another thread costs one allocation in libdispatch, none in the engine.
    ("64 tasks", ["--appends", "100000", "--writers", "64", "--mode", "async"],
     {"flushesPerAppend": 1 / 25, "bytesPerByte": 1.3, "allocationsPerAppend": 1.3}),
    ("64 tasks, 340 tenants", ["--appends", "100000", "--writers", "64", "--mode", "async", "--tenants", "340"],
     {"flushesPerAppend": 1 / 25, "bytesPerByte": 1.45, "allocationsPerAppend": 1.4}),
    ("batches of 64", ["--appends", "3000", "--batch", "64"],
     {"flushesPerAppend": 1.001, "bytesPerByte": 1.13, "allocationsPerAppend": 0.2}),
    # Faster than the disk: memory stays near the staging limit of 64 MiB, whatever is appended.
    ("enqueue, 1 GiB", ["--appends", "2000000", "--mode", "enqueue"],
     {"flushesPerAppend": 1 / 1000, "bytesPerByte": 1.05, "allocationsPerAppend": 0.01, "peakMebibytes": 160}),
]
# Instructions of an append: the difference between two runs, so that opening and closing do not count.
INSTRUCTIONS = [
    ("one blocking appender", [], 1000, 5000, 24_000),
    ("enqueue", ["--mode", "enqueue"], 10_000, 50_000, 2_600),
]


def count(program, folder, arguments, preload):
    root = folder / "wal"
    shutil.rmtree(root, ignore_errors=True)
    environment = {**os.environ, "LD_PRELOAD": str(preload)}
    output = subprocess.run(
        [program, "count", "--directory", root, *arguments], check=True, capture_output=True, text=True, timeout=1200,
        env=environment).stdout
    answer = json.loads(output)
    appends = answer["appends"]
    return {
        "flushesPerAppend": answer["flushes"] / appends, "bytesPerByte": answer["journalBytes"] / answer["payloadBytes"],
        "allocationsPerAppend": answer["allocations"] / appends, "peakMebibytes": answer["peakResidentBytes"] / (1 << 20),
    }


def cached_pages(folder):
    """Pages of the journal's files that are in the page cache."""
    files = list((folder / "wal" / "journal").glob("*.journal"))
    output = subprocess.run(
        ["fincore", "--bytes", "--noheadings", "--raw", "--output", "PAGES", *files], check=True, capture_output=True,
        text=True).stdout
    return sum(int(line) for line in output.split())


def instructions(program, folder, arguments, appends):
    root = folder / "wal"
    shutil.rmtree(root, ignore_errors=True)
    errors = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, "count", "--directory", root,
         "--io", "plain", "--appends", str(appends), *arguments], check=True, capture_output=True, text=True,
        timeout=1800).stderr
    return int(re.search(r"Collected : (\d+)", errors)[1])


def main():
    build = pathlib.Path(sys.argv[1])
    program, preload = build / "walbench", build / "counting_malloc.so"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="telemetry-wal-counters-", dir="/var/tmp"))
    rows = []
    try:
        for name, arguments, limits in RUNS:
            found = count(program, folder, arguments, preload)
            rows += [(name, counter, found[counter], limit) for counter, limit in limits.items()]
            rows.append((name, "pagesInPageCache", cached_pages(folder), 0))
        for name, arguments, few, many, limit in INSTRUCTIONS:
            # A quarter more than asked for: appends that warm up.
            difference = instructions(program, folder, arguments, many) - instructions(program, folder, arguments, few)
            rows.append((name, "instructionsPerAppend", difference / ((many - few) * 1.25), limit))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    passed = 0
    for name, counter, value, limit in rows:
        is_within = value <= limit
        passed += not is_within
        print(f"{'ok  ' if is_within else 'HIGH'}  {name:24} {counter:24} {value:12.4f}  at most {limit:g}")
    print(f"{len(rows) - passed} passed, {passed} failed")
    sys.exit(1 if passed else 0)


main()

"""The ratios and limits that the figures are judged by, computed within one repetition and then summed up."""
import statistics
from dataclasses import dataclass
from typing import Callable

from . import workloads

UNITS = {"GB/s": 1e9, "MB/s": 1e6, "GiB/s": 1 << 30, "MiB/s": 1 << 20}


class Repetition:
    """The measurements of one repetition as one driver's ratios need them. Whatever is missing raises KeyError."""

    def __init__(self, measured, driver):
        self.measured, self.driver = measured, driver

    def append(self, key):
        return self.measured["appends"][key][self.driver]

    def rate(self, key):
        return self.append(key)["records"] / self.append(key)["seconds"]

    def bytes_rate(self, key):
        return self.append(key)["payloadBytes"] / self.append(key)["seconds"]

    def latency(self, key, percentile):
        return self.append(key)["latency"][percentile]

    def per_payload(self, key, counter):
        return self.append(key)[counter] / self.append(key)["payloadBytes"]

    def scan_rate(self, counter, driver=None):
        scan = self.measured["scans"][driver or self.driver]
        return scan[counter] / scan["seconds"]

    def device(self, job):
        return self.measured["device"][job]

    def ideal_rate(self):
        """64 records of 512 B are a commit of 32 KiB; one such commit after the other."""
        return 64 * self.device("32k")["operationsPerSecond"]

    def variant_scan_rate(self, variant, counter):
        if self.driver != workloads.OURS:
            raise KeyError(self.driver)
        return self.scan_rate(counter, variant)

    def lone_ideal_rate(self):
        """The same for a lone writer, whose processor is the same."""
        return 64 * self.device("32k-pinned")["operationsPerSecond"]

    def bulk_limit(self):
        """The device, or one core of LZ4 if that is slower and known."""
        limits = [self.device("1m")["bytesPerSecond"]]
        if "micro" in self.measured:
            limits.append(self.micro("lz4 compress 256 KiB"))
        return min(limits)

    def read_limit(self):
        return max(self.device("read-1m")["bytesPerSecond"], self.device("read-1m-4")["bytesPerSecond"])

    def micro(self, name):
        for result in self.measured["micro"]["results"]:
            if result["name"].lower() == name.lower():
                return result["value"] * UNITS.get(result["unit"], 1)
        raise KeyError(name)


@dataclass(frozen=True)
class Target:
    key: str
    workload: str
    title: str
    # "≤", "<", "≥", or "" for a ratio that is only shown.
    sense: str
    limit: float
    unit: str
    value: Callable

    def is_reached(self, value):
        if self.sense == "≥":
            return value >= self.limit
        return value < self.limit if self.sense == "<" else value <= self.limit


def against_ideal(key):
    return lambda repetition: repetition.rate(key) / repetition.ideal_rate()


def microseconds(key, percentile):
    return lambda repetition: repetition.latency(key, percentile) / 1000


TARGETS = (
    Target("w1-ratio", "W1", "p50 ÷ fio 4 KiB p50", "≤", 1.10, "×",
           lambda r: r.latency("W1", "p50") / r.device("4k")["latency"]["p50"]),
    Target("w1-p99", "W1", "p99", "<", 500, "µs", microseconds("W1", "p99")),
    Target("w1-amplification", "W1", "bytes written ÷ payload", "≤", 8.2, "×",
           lambda r: r.per_payload("W1", "writtenBytes")),
    Target("w1-device", "W1", "bytes on the device ÷ payload", "", 0, "×",
           lambda r: r.per_payload("W1", "deviceBytes")),
    Target("w1a-ratio", "W1a", "p50 ÷ fio 4 KiB p50", "≤", 1.30, "×",
           lambda r: r.latency("W1a", "p50") / r.device("4k")["latency"]["p50"]),
    Target("w2-ratio", "W2", "rec/s ÷ ideal", "≥", 0.5, "×", against_ideal("W2")),
    Target("w2-rate", "W2", "rate", "≥", 200_000, "rec/s", lambda r: r.rate("W2")),
    Target("w2-p99", "W2", "p99", "<", 1000, "µs", microseconds("W2", "p99")),
    Target("w2-blocking", "W2 blocking", "rec/s ÷ ideal", "", 0, "×", against_ideal("W2 blocking")),
    Target("w2b-256", "W2b 256", "rate", "≥", 500_000, "rec/s", lambda r: r.rate("W2b 256")),
    Target("w2b-1024", "W2b 1024", "rate", "≥", 500_000, "rec/s", lambda r: r.rate("W2b 1024")),
    Target("w3-ratio", "W3", "rec/s ÷ ideal", "≥", 0.90, "×",
           lambda r: r.rate("W3") / r.lone_ideal_rate()),
    Target("w4-ratio", "W4", "payload ÷ min(fio 1 MiB, LZ4)", "≥", 0.8, "×",
           lambda r: r.bytes_rate("W4") / r.bulk_limit()),
    Target("m1-ratio", "M1", "rec/s ÷ own W2", "≥", 0.9, "×", lambda r: r.rate("M1") / r.rate("W2")),
    Target("m1-p99", "M1", "p99", "<", 1200, "µs", microseconds("M1", "p99")),
    Target("e1-p50", "E1", "p50 of the call", "≤", 150, "ns", lambda r: r.latency("E1", "p50")),
    Target("e1-allocations", "E1", "allocations a call", "≤", 0.01, "",
           lambda r: r.append("E1")["allocationsPerAppend"]),
    Target("r1-payload", "R1", "payload, LZ4 log, cold", "≥", 1.5, "GiB/s",
           lambda r: r.variant_scan_rate(workloads.COMPRESSED, "payloadBytes") / (1 << 30)),
    Target("r1-plain", "R1", "payload, log as written by default, cold", "", 0, "GiB/s",
           lambda r: r.scan_rate("payloadBytes") / (1 << 30)),
    Target("r1-ratio", "R1", "disk bytes ÷ fio read, log as written by default", "≥", 0.9, "×",
           lambda r: r.scan_rate("diskBytes") / r.read_limit()),
    Target("x1-ratio", "X1", "p50 ÷ own W1 p50", "", 0, "×",
           lambda r: r.latency("X1", "p50") / r.latency("W1", "p50")),
    Target("x2-ratio", "X2", "rec/s ÷ own W2", "", 0, "×", lambda r: r.rate("X2") / r.rate("W2")),
    Target("x3-ratio", "X3", "rec/s ÷ own W3", "", 0, "×", lambda r: r.rate("X3") / r.rate("W3")),
    Target("x4-ratio", "X4", "payload ÷ own W4", "", 0, "×", lambda r: r.bytes_rate("X4") / r.bytes_rate("W4")),
    Target("r1-encrypted", "R1", "payload, encrypted ÷ log as written by default", "", 0, "×",
           lambda r: r.variant_scan_rate(workloads.ENCRYPTED, "payloadBytes") / r.scan_rate("payloadBytes")),
    Target("w2-flushes", "W2", "appends a flush", "≥", 40, "",
           lambda r: r.append("W2")["appends"] / r.append("W2")["flushes"]),
)


def spread(values):
    """Median and range; nothing if there is no value."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "minimum": min(values), "maximum": max(values), "values": values}


def over_repetitions(repetitions, value):
    """The spread of a value that some repetitions may lack."""
    found = []
    for repetition in repetitions:
        try:
            found.append(value(repetition))
        except (KeyError, ZeroDivisionError):
            found.append(None)
    return spread(found)


def judge(repetitions, drivers, expected):
    """For each target of the expected workloads the spread of every driver, and whether ours reaches it (None where
    it was not measured)."""
    judged = []
    for target in TARGETS:
        # A target that this run was not to measure is no row; one that it failed to measure is.
        if target.workload not in expected:
            continue
        values = {
            driver: over_repetitions(repetitions, lambda measured: target.value(Repetition(measured, driver)))
            for driver in drivers
        }
        values = {driver: value for driver, value in values.items() if value}
        ours = values.get(workloads.OURS)
        reached = target.is_reached(ours["median"]) if ours and target.sense else None
        judged.append({
            "target": target.key, "workload": target.workload, "what": target.title, "sense": target.sense,
            "limit": target.limit, "unit": target.unit, "values": values, "isReached": reached,
        })
    return judged

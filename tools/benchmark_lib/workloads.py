"""What is measured: the workloads, who runs them, what is swept, and in which order."""
from dataclasses import dataclass

OURS = "telemetry-wal"
PEERS = ("rocksdb", "sqlite", "bbolt", "etcd")
DRIVERS = (OURS, *PEERS)
# bbolt's queue and etcd's log know no tenants: M1 and the sweep over tenants would only repeat W2 for them.
WITH_TENANTS = (OURS, "rocksdb", "sqlite")

RECORD_SIZE = 512


@dataclass(frozen=True)
class Workload:
    key: str
    family: str
    title: str
    mode: str
    drivers: tuple
    writers: int = 1
    batch: int = 1
    tenants: int = 1
    # A lone writer runs on the processor nearest to the device, like fio beside it.
    is_pinned: bool = False
    is_quick: bool = True
    # Given to our driver beside what the rest says.
    flags: tuple = ()


WORKLOADS = (
    Workload("W1", "W1", "one appender, one record an append", "blocking", DRIVERS, is_pinned=True),
    Workload("W1a", "W1a", "the same with await append", "async", (OURS,), is_pinned=True),
    Workload("W2", "W2", "64 appenders, one record each", "async", DRIVERS, writers=64),
    Workload("W2 blocking", "W2", "the same with blocking threads", "blocking", (OURS,), writers=64,
             is_quick=False),
    Workload("W2b 256", "W2b", "256 appenders", "async", (OURS,), writers=256, is_quick=False),
    Workload("W2b 1024", "W2b", "1,024 appenders", "async", (OURS,), writers=1024),
    Workload("W3", "W3", "one appender, 64 records an append", "blocking", DRIVERS, batch=64, is_pinned=True),
    Workload("W4", "W4", "one appender, 1 MiB an append", "blocking", DRIVERS, batch=2048),
    Workload("M1", "M1", "340 tenants, 64 appenders", "async", WITH_TENANTS, writers=64, tenants=340),
    Workload("E1", "E1", "enqueue alone", "enqueue", (OURS,)),
    Workload("X1", "X1", "W1, encrypted", "blocking", (OURS,), is_pinned=True, flags=("--encrypt",)),
    Workload("X2", "X2", "W2, encrypted", "async", (OURS,), writers=64, flags=("--encrypt",)),
    Workload("X3", "X3", "W3, encrypted", "blocking", (OURS,), batch=64, is_pinned=True, flags=("--encrypt",)),
    Workload("X4", "X4", "W4, encrypted", "blocking", (OURS,), batch=2048, flags=("--encrypt",)),
)
# Written for R1: batches of 64 records, as W3.
SCAN_FILL = Workload("R1 fill", "R1", "the log that R1 reads", "blocking", DRIVERS, batch=64)
SCAN_BYTES = 1 << 30
# R1 reads three logs of ours: as it is written by default, a lone writer's commits stored as they are; compressed; and
# encrypted, by default otherwise.
COMPRESSED = "telemetry-wal lz4"
ENCRYPTED = "telemetry-wal aes"


@dataclass(frozen=True)
class Variant:
    """Another log of ours that R1 reads: what it is called, and what our driver is given to write and to read it."""
    title: str
    append_flags: tuple = ()
    scan_flags: tuple = ()


VARIANTS = {
    COMPRESSED: Variant("compressed", append_flags=("--compression", "always")),
    ENCRYPTED: Variant("encrypted", append_flags=("--encrypt",), scan_flags=("--encrypt",)),
}

FAMILIES = ("W1", "W1a", "W2", "W2b", "W3", "W4", "M1", "E1", "X1", "X2", "X3", "X4", "R1", "micro")
# A ratio needs both of its sides.
NEEDS = {"M1": ("W2",), "W4": ("micro",), "X1": ("W1",), "X2": ("W2",), "X3": ("W3",), "X4": ("W4", "micro")}

# What is compared is measured close together: stages follow one another, within a stage the order rotates.
STAGES = (("W1", "W1a", "X1"), ("W2", "W2b", "W3", "M1", "X2", "X3"), ("W4", "micro", "E1", "X4"), ("R1",))


@dataclass(frozen=True)
class Sweep:
    key: str
    title: str
    points: tuple
    quick_points: tuple
    drivers: tuple


SWEEPS = (
    Sweep("writers", "Throughput against writers", (1, 2, 4, 8, 16, 32, 64, 128, 256), (1, 64), DRIVERS),
    Sweep("tenants", "Throughput against tenants", (1, 10, 100, 340, 1000), (1, 340), WITH_TENANTS),
    Sweep(
        "record-size", "Throughput against record size",
        (64, 256, 512, 1024, 4096, 16384, 65536, 262144, 1048576), (512, 65536), DRIVERS),
)
# How many writers append at a time while something else is swept.
SWEEP_WRITERS = {"tenants": 64, "record-size": 16}


def sweep_options(sweep, point):
    """The driver's options at one point of a sweep."""
    options = {"writers": SWEEP_WRITERS.get(sweep.key, point), "batch": 1, "record-size": RECORD_SIZE, "tenants": 1}
    if sweep.key != "writers":
        options[sweep.key] = point
    return options


def sweep_modes(sweep, driver):
    """The lines that a driver has in a plot. Ours has two over writers: tasks and threads differ most there."""
    if driver != OURS:
        return ("threads",)
    return ("async", "blocking") if sweep.key == "writers" else ("async",)


def with_needs(families):
    return [family for family in FAMILIES if family in families or any(family in NEEDS.get(f, ()) for f in families)]


def rotated(items, repetition, repetitions):
    """Begins elsewhere in each repetition, so that nobody is always first after an idle moment."""
    items = list(items)
    start = len(items) * repetition // max(1, repetitions)
    return items[start:] + items[:start]

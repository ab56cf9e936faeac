"""The plots, each as SVG and PNG."""
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as pyplot  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator  # noqa: E402

from . import workloads  # noqa: E402

# Colours that people with colour blindness can tell apart (Okabe and Ito), and a mark of its own for each line.
STYLES = {
    "telemetry-wal": ("#0072B2", "o", "-"),
    "telemetry-wal, blocking": ("#0072B2", "s", "--"),
    "rocksdb": ("#D55E00", "^", "-"),
    "sqlite": ("#009E73", "v", "-"),
    "bbolt": ("#CC79A7", "D", "-"),
    "etcd": ("#E69F00", "P", "-"),
    "fio": ("#000000", "", ":"),
}


def short(value, _position=None):
    for limit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{suffix}"
    return f"{value:g}"


def size(value, _position=None):
    for limit, suffix in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= limit:
            return f"{value / limit:g} {suffix}"
    return f"{value:g} B"


def save(figure, folder, name):
    for kind in ("svg", "png"):
        figure.savefig(folder / f"{name}.{kind}", dpi=130, bbox_inches="tight")
    pyplot.close(figure)


def merged(histograms):
    counts = {}
    for histogram in histograms:
        for bound, count in histogram:
            counts[bound] = counts.get(bound, 0) + count
    return sorted(counts.items())


def latency(results, folder):
    """How the appends of W1 are distributed; False if there are none."""
    lines = {}
    fio = [measured["device"]["4k"]["histogram"] for measured in results["repetitions"] if "4k" in measured["device"]]
    if fio:
        lines["fio"] = merged(fio)
    for driver in results["settings"]["drivers"]:
        found = [measured["appends"]["W1"][driver]["histogram"] for measured in results["repetitions"]
                 if driver in measured["appends"].get("W1", {})]
        if found:
            lines[driver] = merged(found)
    if not lines:
        return False
    figure, (body, tail) = pyplot.subplots(1, 2, figsize=(12, 4.8))
    for name, histogram in lines.items():
        colour, _, dashes = STYLES[name]
        label = "fio, 4 KiB, O_DSYNC" if name == "fio" else name
        total, below, places, shares, above = sum(count for _, count in histogram), 0, [], [], []
        for bound, count in histogram:
            below += count
            places.append(bound / 1000)
            shares.append(100 * below / total)
            # The last step has nothing above it and a logarithm cannot show that.
            above.append((total - below) / total if below < total else float("nan"))
        width = 2.4 if name in ("fio", workloads.OURS) else 1.6
        body.plot(places, shares, color=colour, linestyle=dashes, linewidth=width, label=label)
        tail.plot(places, above, color=colour, linestyle=dashes, linewidth=width, label=label)
    for axes in (body, tail):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(short))
        axes.tick_params(axis="x", labelrotation=45)
        axes.set_xlabel("latency of one durable append (µs)")
        axes.grid(True, alpha=0.3)
    body.set_ylabel("appends at most as slow (%)")
    body.set_title("All appends")
    tail.set_yscale("log")
    tail.set_ylabel("share of appends that are slower")
    tail.set_title("The slow ones")
    # Where the slowest append of all stands is chance; the axis of the body ends where nothing is left to see.
    body.set_xlim(right=min(body.get_xlim()[1], 5000))
    handles, labels = body.get_legend_handles_labels()
    figure.suptitle("W1: one appender, one 512 B record an append")
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, bbox_to_anchor=(0.5, -0.06))
    figure.tight_layout()
    save(figure, folder, "latency-w1")
    return True


def sweep(sweep, lines, folder):
    figure, axes = pyplot.subplots(figsize=(8, 5))
    is_size = sweep.key == "record-size"
    for name, rows in lines.items():
        colour, mark, dashes = STYLES[name]
        rows = sorted(rows, key=lambda row: row["point"])
        counter = "payloadBytes" if is_size else "records"
        scale = 1 / (1 << 20) if is_size else 1
        label = f"{name}, async" if name == workloads.OURS and sweep.key == "writers" else name
        axes.plot(
            [row["point"] for row in rows], [row[counter] / row["seconds"] * scale for row in rows], color=colour,
            marker=mark, linestyle=dashes, linewidth=2, markersize=6, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    points = sorted({row["point"] for rows in lines.values() for row in rows})
    axes.xaxis.set_major_locator(FixedLocator(points))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(size if is_size else lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(short))
    axes.set_xlabel({
        "writers": "writers, each with one 512 B record an append", "tenants": "tenants, 64 writers, 512 B records",
        "record-size": "size of a record, 16 writers",
    }[sweep.key])
    axes.set_ylabel("durable payload (MiB/s)" if is_size else "durable records a second")
    axes.set_title(sweep.title)
    axes.grid(True, alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    if is_size:
        axes.tick_params(axis="x", labelrotation=30)
    figure.tight_layout()
    save(figure, folder, sweep.key)


def draw(results, folder):
    """Draws what was measured and says whether the latencies were among it."""
    for one in workloads.SWEEPS:
        if one.key in results["sweeps"]:
            sweep(one, results["sweeps"][one.key], folder)
    return latency(results, folder)

"""The command line of tools/benchmark."""
import argparse
import pathlib

from . import workloads

DESCRIPTION = """\
Measures telemetry-wal beside the device (fio) and beside RocksDB, SQLite, bbolt and etcd's log: interleaved
repetitions, medians and spread, ratios first. Writes results.json, results.md and plots (SVG and PNG).
"""
EXAMPLES = """\
examples:
  tools/benchmark                                  all of it, about 15 minutes
  tools/benchmark --quick                          a smoke run, about a minute
  tools/benchmark --only W1,W2 --no-sweeps         two workloads and what they are compared with
  tools/benchmark --drivers telemetry-wal,etcd     one peer only
  tools/benchmark --directory /mnt/nvme --check    on another device; ends with 1 if a target is missed

exit codes: 0 fine, 1 targets missed (only with --check), 2 usage, 3 I/O or a driver that failed
"""


def names(known):
    """A parser of lists of names, separated by commas."""

    def parse(text):
        found = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in found if name not in known]
        if unknown or not found:
            wrong = f"{','.join(unknown)} is unknown" if unknown else "nothing is named"
            raise argparse.ArgumentTypeError(f"{wrong}; known: {', '.join(known)}")
        return [name for name in known if name in found]

    return parse


def positive(kind):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < 10_000:
            raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
        return value

    return parse


def parse(words=None):
    parser = argparse.ArgumentParser(
        prog="tools/benchmark", description=DESCRIPTION, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="one repetition of 1 s each, few points")
    parser.add_argument("--seconds", type=positive(float), help="length of a measurement (default 3, quick 1)")
    parser.add_argument("--repetitions", type=positive(int), help="interleaved repetitions (default 3, quick 1)")
    parser.add_argument(
        "--only", type=names(workloads.FAMILIES), metavar="W1,W2", default=[],
        help=f"workloads, of {', '.join(workloads.FAMILIES)}")
    parser.add_argument(
        "--drivers", type=names(workloads.DRIVERS), metavar="NAME,NAME", default=list(workloads.DRIVERS),
        help=f"of {', '.join(workloads.DRIVERS)}")
    parser.add_argument("--no-sweeps", dest="sweeps", action="store_false", help="leave out the sweeps and their plots")
    parser.add_argument("--io", choices=("auto", "ring", "plain"), default="auto", help="how telemetry-wal writes")
    parser.add_argument(
        "--directory", type=pathlib.Path, default=pathlib.Path("/var/tmp"), metavar="DIR",
        help="where to write; a folder is made in it and removed at the end (default /var/tmp)")
    parser.add_argument(
        "--output", type=pathlib.Path, metavar="DIR",
        help="where results go (default .build/benchmark/results-DATE)")
    parser.add_argument("--check", action="store_true", help="end with 1 if a target is missed")
    # For tools/benchmark: what it built and where, and the drivers that it has to build.
    parser.add_argument("--build-folder", type=pathlib.Path, default=pathlib.Path(".build/benchmark"),
                        help=argparse.SUPPRESS)
    parser.add_argument("--walbench", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--started-in", type=pathlib.Path, default=pathlib.Path.cwd(), help=argparse.SUPPRESS)
    parser.add_argument("--print-drivers", action="store_true", help=argparse.SUPPRESS)
    settings = parser.parse_args(words)
    settings.directory = settings.started_in / settings.directory
    settings.output = settings.started_in / settings.output if settings.output else None
    settings.is_quick = settings.quick
    settings.seconds = settings.seconds or (1 if settings.quick else 3)
    settings.repetitions = settings.repetitions or (1 if settings.quick else 3)
    settings.sweep_seconds = 0.3 if settings.quick else 1
    settings.families = workloads.with_needs(settings.only or workloads.FAMILIES)
    # Someone who names workloads wants these and not ten minutes of sweeps.
    settings.sweeps = settings.sweeps and not settings.only
    return settings

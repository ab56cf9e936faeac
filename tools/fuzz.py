"""Runs the fuzzer's targets, one after the other or several at a time. Called by tools/fuzz, which builds it."""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRATCH = ROOT / "Fuzz" / ".build"
PROGRAM = SCRATCH / "release" / "Fuzz"
CORPORA = ROOT / "Fuzz" / "Corpora"
LEARNED = SCRATCH / "corpus"
# A smoke run begins with the seeds alone: reading all that was learned before would take longer than its minute.
SMOKE = SCRATCH / "smoke"
CRASHES = SCRATCH / "crashes"
LOGS = SCRATCH / "logs"

# All targets together, canary included, when --smoke is asked for. Journals and logs have most behind them
# and are slowest.
SMOKE_SECONDS = 55
SMOKE_SHARES = {
    "journal": 5, "log": 5, "file-scrub": 3, "segment-salvage": 2, "deep-report": 2, "otlp-json": 2, "otlp-protobuf": 2}
CANARY_SECONDS = 300
# Coverage can be lost to the order of flags without a word; the engine with its libraries has tens of thousands.
FEWEST_COUNTERS = 5000
LONGEST_INPUT = {
    "root-format": 8300, "placements": 8300, "journal-file-header": 8300, "any-structure": 8300, "segment": 12400, "journal": 600,
    "log": 600, "file-scrub": 600, "segment-salvage": 600, "deep-report": 600}
# A journal takes milliseconds; what takes seconds hangs, on a busy machine too.
TIMEOUT_SECONDS = 120


def targets():
    """As the enumeration has them: the names of the corpora are held against it by a test."""
    return sorted(folder.name for folder in CORPORA.iterdir() if folder.is_dir())


def environment(target):
    # The runtime's own crash handler would keep libFuzzer from writing the crashing input.
    return {**os.environ, "WAL_FUZZ_TARGET": target, "SWIFT_BACKTRACE": "enable=no"}


def shown(path):
    path = pathlib.Path(path)
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def run(target, seconds, log, *arguments):
    with open(log, "w") as output:
        return subprocess.run(
            [PROGRAM, f"-max_total_time={seconds}", f"-timeout={TIMEOUT_SECONDS}", *map(str, arguments)],
            stdout=output, stderr=subprocess.STDOUT, env=environment(target)).returncode


class Problem(Exception):
    pass


def check_canary():
    """A fuzzer that must crash: were it not found, the rest of the run would mean nothing."""
    folder, log = SCRATCH / "canary", LOGS / "canary.log"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.monotonic()
    status = run("canary", CANARY_SECONDS, log, f"-artifact_prefix={folder}/")
    text = log.read_text(errors="replace")
    if status == 0:
        raise Problem(f"the canary was not found within {CANARY_SECONDS} seconds; see {shown(log)}")
    if not list(folder.glob("crash-*")) or "the canary was found" not in text:
        raise Problem(f"the canary died of something else, or left no input; see {shown(log)}")
    counters = re.search(r"INFO: Loaded \d+ modules\s+\((\d+) inline 8-bit counters\)", text)
    count = int(counters.group(1)) if counters else 0
    if count < FEWEST_COUNTERS:
        raise Problem(f"{count} coverage counters only, {FEWEST_COUNTERS} are expected at least; see {shown(log)}")
    print(f"the canary was found, as it should be ({time.monotonic() - start:.1f} s, {count} coverage counters)",
          flush=True)


def replay_command(target, path):
    return f"tools/fuzz --only {target} --replay {shown(path)}"


def fuzz(target, seconds, learned, keep):
    """Runs one target. Returns whether it lived, and what to say."""
    log = LOGS / f"{target}.log"
    if not keep:
        shutil.rmtree(learned, ignore_errors=True)
    learned.mkdir(parents=True, exist_ok=True)
    CRASHES.mkdir(parents=True, exist_ok=True)
    prefix = CRASHES / f"{target}-{time.strftime('%Y%m%dT%H%M%S')}-"
    status = run(target, seconds, log, f"-max_len={LONGEST_INPUT.get(target, 4400)}", "-print_final_stats=1",
                 "-detect_leaks=0", "-rss_limit_mb=2048", f"-artifact_prefix={prefix}", learned, CORPORA / target)
    text = log.read_text(errors="replace")
    if status != 0:
        reasons = re.findall(r"^.*(?:Fatal error|violated:|ERROR: (?:AddressSanitizer|libFuzzer)).*$", text, re.M)
        lines = [f"{target}: FAILED with {status}: {reasons[0].strip() if reasons else 'see the log'}"]
        found = sorted(CRASHES.glob(prefix.name + "*"))
        lines += [f"    input: {shown(path)}\n    again: {replay_command(target, path)}" for path in found]
        lines.append(f"    log:   {shown(log)}")
        return False, "\n".join(lines)
    executions = re.search(r"stat::number_of_executed_units:\s+(\d+)", text)
    memory = re.search(r"stat::peak_rss_mb:\s+(\d+)", text)
    last = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/(\w+)", text)
    count = int(executions.group(1)) if executions else 0
    peak = memory.group(1) if memory else "?"
    coverage, features, corpus, size = last[-1] if last else ("?", "?", "?", "?")
    return True, (f"{target}: {count} executions ({count / max(seconds, 1):.0f}/s), coverage {coverage} edges, "
                  f"{features} features, corpus {corpus} inputs ({size}), peak {peak} MiB")


def replay(target, paths):
    failed = 0
    for path in paths:
        result = subprocess.run(
            [PROGRAM, f"-timeout={TIMEOUT_SECONDS}", "-detect_leaks=0", str(path)], env=environment(target),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        failed += result.returncode != 0
        if result.returncode != 0:
            print(result.stdout)
        print(f"{target}: {path}: {'passed' if result.returncode == 0 else f'FAILED with {result.returncode}'}")
    return 1 if failed else 0


def parse(arguments):
    names = targets()
    parser = argparse.ArgumentParser(
        prog="tools/fuzz", description="Fuzz what reads bytes from outside. Without arguments: --smoke.",
        epilog="Exit codes: 0 nothing found; 1 a crash, a hang or a violated property, or a run that means nothing; "
               "2 usage; 3 it could not be built. What the fuzzer finds comes with the command that shows it again; "
               "keep such an input in Fuzz/Corpora/TARGET/found-NAME.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--smoke", action="store_true", help="all targets, a minute in all, from the seeds on")
    length.add_argument("--minutes", type=float, metavar="N", help="minutes for each target")
    length.add_argument("--replay", nargs="+", metavar="FILE", help="run --only's target on these inputs")
    length.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--only", metavar="TARGETS", help="targets, with commas between: " + ", ".join(names))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="targets at a time (default: as many as there are processors)")
    parser.add_argument("--keep-corpus", action=argparse.BooleanOptionalAction, default=True,
                        help="begin with what earlier runs learned, in Fuzz/.build/corpus (default), or anew")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.targets = options.only.split(",") if options.only else names
    for name in options.targets:
        if name not in names:
            parser.error(f"there is no target {name}; see tools/fuzz --list")
    if options.minutes is not None and not options.minutes > 0:
        parser.error("--minutes takes a number above 0")
    if options.jobs < 1:
        parser.error("--jobs takes a number from 1 on")
    if options.replay:
        if len(options.targets) != 1:
            parser.error("--replay needs --only with one target")
        start = pathlib.Path(os.environ.get("WAL_FUZZ_STARTED_IN", "."))
        # As it is named from where the user is, or from the repository, as the fuzzer prints it.
        found = [next((p for p in (start / f, ROOT / f) if p.is_file()), None) for f in options.replay]
        for name, path in zip(options.replay, found):
            if path is None:
                parser.error(f"there is no file {name}")
        options.replay = found
    return options


def main():
    options = parse(sys.argv[1:])
    if options.list:
        print("\n".join(options.targets))
    if options.check or options.list:
        return 0
    LOGS.mkdir(parents=True, exist_ok=True)
    if options.replay:
        return replay(options.targets[0], options.replay)
    start = time.monotonic()
    try:
        check_canary()
    except Problem as problem:
        print(f"fuzz: {problem}", file=sys.stderr)
        return 1
    if options.minutes:
        seconds = {name: max(1, round(60 * options.minutes)) for name in options.targets}
    else:
        budget = options.jobs * (SMOKE_SECONDS - (time.monotonic() - start))
        shares = {name: SMOKE_SHARES.get(name, 1) for name in options.targets}
        seconds = {name: max(1, int(budget * share / sum(shares.values()))) for name, share in shares.items()}
    failed = 0
    # The longest first, so that none is left over at the end.
    order = sorted(options.targets, key=lambda name: -seconds[name])
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        learned = LEARNED if options.minutes else SMOKE
        keep = options.keep_corpus and learned == LEARNED
        runs = [pool.submit(fuzz, name, seconds[name], learned / name, keep) for name in order]
        for run_of_target in concurrent.futures.as_completed(runs):
            lived, text = run_of_target.result()
            failed += not lived
            print(text, flush=True)
    print(f"{len(order) - failed} targets lived, {failed} failed, {time.monotonic() - start:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

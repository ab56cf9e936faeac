"""Holds tools/spec_reader.py against the engine. Both must find the same records, in the same order, and the same
findings, in the same places of the same files.

  compare_readers.py --walctl PATH    golden logs (Tests/Fixtures/golden/*.tar.xz) and damaged copies of them, against
                                      `walctl cat` and `walctl verify`: what each record holds, exit codes too;
                                      --quick: each kind of damage in one place of one of the logs, in turn
  compare_readers.py FOLDER           logs that were crashed, or damaged, on a simulated disk: `walsim --export FOLDER`

Exit codes: 0 they agree, 1 they do not, 2 bad usage.
"""

import argparse
import base64
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import spec_reader as second

TOOLS = Path(__file__).resolve().parent
GOLDEN = TOOLS.parent / "Tests/Fixtures/golden"
os.environ["WALCTL_KEYS"] = (GOLDEN / "wal.keys").read_text(encoding="utf-8")
RANDOM_DAMAGES = 24
# Of a log with segments the journal has seen all kinds of damage in the others.
JOURNAL_DAMAGES_BESIDE_SEGMENTS = ("none", "FORMAT: gone", "file 0: gone", "file 2: both header copies zeroed",
                                   "file 1: first commit zeroed", "random damage")


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def read_with_second(root, reader=TOOLS / "spec_reader.py", *arguments):
    """The second reader's records and findings, and its exit code."""
    result = run(sys.executable, reader, *arguments, root)
    if result.returncode > 1:
        return [], [], result.returncode
    try:
        records, findings = ([json.loads(line) for line in text.splitlines()]
                             for text in (result.stdout, result.stderr))
    except ValueError:
        raise RuntimeError("spec_reader.py failed: " + result.stderr.strip()[-300:]) from None
    findings = [f for f in findings if f["case"] != "segmentDamaged"]
    return records, sorted((f["case"], f["fileSequence"], f["first"], f["end"]) for f in findings), result.returncode


def difference(what, mine, theirs):
    """What two lists do not share, in words; nothing if they are equal."""
    if mine == theirs:
        return None
    lacks, more = [item for item in theirs if item not in mine][:3], [item for item in mine if item not in theirs][:3]
    return f"{what}: spec_reader has {len(mine)}, the engine {len(theirs)}; it lacks {lacks}, has {more} besides"


# Logs of the simulator


def compare_exported(folder):
    """What the two disagree on, in words; nothing if they agree."""
    if not (folder / "end").exists():
        return None
    records, findings, _ = read_with_second(folder / "wal", TOOLS / "spec_reader_simulated.py", folder / "keys")
    mine = [(r["tenant"], r["sequence"], r["timestamp"], len(base64.b64decode(r["payload"]))) for r in records]
    theirs = [(tenant, int(sequence), int(time), int(length)) for tenant, sequence, time, length
              in fields(folder / "records")]
    their_findings = sorted((case, int(sequence), int(first), int(end)) for case, _, sequence, first, end
                            in fields(folder / "findings"))
    return difference("records", mine, theirs) or difference("findings", findings, their_findings)


def fields(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


# Golden logs


def compare_with_walctl(walctl, root):
    """The same, with what each record holds."""
    records, findings, status = read_with_second(root)
    verified, shown = run(walctl, "verify", root, "--format", "json"), run(walctl, "cat", root)
    if verified.returncode > 1 or status > 1:
        return difference("exit codes", [status], [verified.returncode])
    theirs = [(f["what"], f["fileSequence"], f["firstByte"], f["endByte"])
              for f in json.loads(verified.stdout)["findings"] if f["what"] != "segmentDamaged"]
    lines = shown.stdout.splitlines()
    if len(lines) != len(records):
        return f"records: spec_reader has {len(records)}, walctl cat {len(lines)}"
    wrong = [r for r, line in zip(records, lines) if not is_same(r["kind"], base64.b64decode(r["payload"]), line)]
    return (f"records: walctl cat shows something else than {wrong[0]}" if wrong else None) or difference(
        "findings", findings, sorted(theirs)) or difference("exit codes", [status], [verified.returncode])


def is_same(kind, payload, line):
    """Whether a line of `walctl cat` says what a payload holds."""
    shown = json.loads(line)
    if kind == "opaque":
        return shown in (parsed(payload), {"opaque": base64.b64encode(payload).decode()})
    from google.protobuf import json_format
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    message = {"span": trace_service_pb2.ExportTraceServiceRequest, "log": logs_service_pb2.ExportLogsServiceRequest,
               "metric": metrics_service_pb2.ExportMetricsServiceRequest}[kind]
    return json_format.ParseDict(with_base64_identifiers(shown), message()) == message.FromString(payload)


def parsed(payload):
    try:
        return json.loads(payload)
    except ValueError:
        return None


def with_base64_identifiers(value):
    """OTLP's JSON has identifiers in hexadecimal, protobuf's in base64."""
    if isinstance(value, list):
        return [with_base64_identifiers(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: base64.b64encode(bytes.fromhex(item)).decode() if key in ("traceId", "spanId", "parentSpanId")
            else with_base64_identifiers(item) for key, item in value.items()}


def write(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def damages():
    """Names, and what does it to the root of a log. Files: the log's journal files by name."""
    named = {
        "none": lambda root, files: None,
        "FORMAT: first copy zeroed": lambda root, files: write(root / "FORMAT", 0, bytes(4096)),
        "FORMAT: gone": lambda root, files: (root / "FORMAT").unlink(),
        "FORMAT: damaged, no journal file": lambda root, files: (
            write(root / "FORMAT", 0, bytes(8192)), [file.unlink() for file in files]),
        "FORMAT: another version": lambda root, files: write(root / "FORMAT", 0, other_version(root / "FORMAT")),
        "header: another version in a second copy": lambda root, files: write(
            files[0], 4096, other_version(files[0], 4096)),
        "another log's file": lambda root, files: add_other_file(root),
        "another log's file, FORMAT gone": lambda root, files: (add_other_file(root), (root / "FORMAT").unlink()),
        "no journal file": lambda root, files: [file.unlink() for file in files],
        "an empty journal file besides": lambda root, files: (root / "journal/0f.journal").write_bytes(b""),
        "names swapped": lambda root, files: (
            files[0].rename(root / "x"), files[-1].rename(files[0]), (root / "x").rename(files[-1])),
    }
    each = {
        "gone": lambda file: file.unlink(),
        "emptied": lambda file: os.truncate(file, 0),
        "cut in half": lambda file: os.truncate(file, file.stat().st_size // 2),
        "first header copy zeroed": lambda file: write(file, 0, bytes(4096)),
        "both header copies zeroed": lambda file: write(file, 0, bytes(8192)),
        "headers and first commits zeroed": lambda file: write(file, 0, bytes(65536)),
        "first commit zeroed": lambda file: write(file, 8192, bytes(4096)),
        "zeroed from the middle on": lambda file: write(
            file, file.stat().st_size // 2, bytes(file.stat().st_size - file.stat().st_size // 2)),
        "copied": lambda file: shutil.copy(file, file.with_name("000000aa.journal")),
        "copied, the copy behind its middle zeroed": lambda file: write(
            shutil.copy(file, file.with_name("00000000a.journal")), 524288, bytes(524288)),
    }
    yield from named.items()
    for name, act in each.items():
        for place in range(3):  # the first, the middle, and the last one by name, which says nothing of their place
            yield f"file {place}: {name}", lambda root, files, act=act, place=place: act(
                files[(len(files) - 1) * place // 2])
    forged = {
        "another epoch": (16, b"\x01"), "another offset": (32, b"\x01"), "durable-through 0": (48, bytes(8)),
        "another chain": (88, b"\x01\x02\x03\x04"), "an unknown flag": (93, b"\x80"),
        "a checkpoint's flag": (92, b"\x01"), "an unknown codec": (7, b"\x09", True), "a key": (48, b"\x01", True),
        "an unknown kinds bit": (6, b"\x28", True), "a body's checksum": (28, b"\x01\x02\x03", True),
        "a jump": (8, b"\xff\xff\xff", True),
    }
    for name, forgery in forged.items():
        for place in range(3):
            yield f"commit {place}: {name}", lambda root, files, forgery=forgery, place=place: forge(
                root, files, place, *forgery)
    for place in range(3):
        yield f"commit astray in file {place}", lambda root, files, place=place: misdirect(root, files, place, 0)
        yield f"commit astray in file {place} without headers", lambda root, files, place=place: misdirect(
            root, files, place, 8192)
        yield f"headers astray in file {place}", lambda root, files, place=place: put_header(root, files, place)
    for seed in range(RANDOM_DAMAGES):
        yield f"random damage {seed}", lambda root, files, seed=seed: damage_at_random(random.Random(seed), files)


def segment_damages():
    """The same for a log with segments; they are taken in the order of their paths."""
    each = {
        "gone": lambda file: file.unlink(),
        "cut in half": lambda file: os.truncate(file, file.stat().st_size // 2),
        "first summary zeroed": lambda file: write(file, 0, bytes(4096)),
        "last summary zeroed": lambda file: write(file, file.stat().st_size - 4096, bytes(4096)),
        "both summaries zeroed": lambda file: (
            write(file, 0, bytes(4096)), write(file, file.stat().st_size - 4096, bytes(4096))),
        "first frame's header zeroed": lambda file: write(file, 4096, bytes(64)),
        "first frame's body damaged": lambda file: write(file, 4096 + 200, b"\x01\x02\x03"),
        "under another range's name": lambda file: file.rename(file.with_name(
            "0000000000001000-0000000000001001.segment")),
    }
    for name, act in each.items():
        for place in range(3):
            yield f"segment {place}: {name}", lambda root, files, act=act, place=place: act(
                segments(root)[(len(segments(root)) - 1) * place // 2])


def segments(root):
    return sorted((root / "tenants").rglob("*.segment"))


def add_other_file(root):
    """A file of another golden log; of two of these the log is the same, which later went on in one of them."""
    shutil.copy(min((root.parent / "other/journal").iterdir()), root / "journal/00000099.journal")


def damage_at_random(dice, files):
    """Spoils some sectors, one in three times in the first blocks."""
    for _ in range(dice.randint(1, 4)):
        file = dice.choice(files)
        sectors = file.stat().st_size // 512 if dice.randrange(3) else 64
        write(file, 512 * dice.randrange(sectors), dice.choice([bytes(512), dice.randbytes(512), b"\x01"]))


def other_version(path, offset=0):
    """The 4,096 bytes at an offset with another format version and a checksum that holds."""
    copy = bytearray(path.read_bytes()[offset:offset + 4096])
    copy[12:16] = (second.VERSION + 1).to_bytes(4, "little")
    copy[8:12] = second.crc32c(copy[12:]).to_bytes(4, "little")
    return copy


def read_live(root, files):
    """The files with commits, oldest first."""
    log, _ = second.parse_format((root / "FORMAT").read_bytes(), 0)
    journals = [second.JournalFile(path, 4096, log) for path in files]
    return sorted((file for file in journals if file.commits()), key=lambda file: file.header.sequence)


def misdirect(root, files, place, zeroed):
    """Puts a commit of the newest file into an older one, where it stands in its own, as a device may. `zeroed`: and
    takes that one's headers."""
    *older, newest = read_live(root, files)
    target = older[(len(older) - 1) * place // 2] if older else newest
    commits = [commit for commit, _ in newest.commits()]
    commit = commits[len(commits) // 2]
    write(target.path, commit.offset, newest.data[commit.offset:commit.end])
    write(target.path, 0, bytes(zeroed))


def put_header(root, files, place):
    """The newest file's headers over an older one's, and its own first write gone: the device wrote them there."""
    *older, newest = read_live(root, files)
    write((older or [newest])[(len(older) - 1) * place // 2].path, 0, newest.data[:8192])
    write(newest.path, 0, bytes(16384))


def forge(root, files, place, at, value, in_frame=False):
    """Overwrites bytes of a commit's header, or of its first frame header, and mends the checksums. Of the newest file,
    `place` 0 is the first commit behind the checkpoint, 1 the middle one, 2 the last one."""
    *_, journal = read_live(root, files)
    commits = [commit for commit, _ in journal.commits()][1:]
    commit, data = commits[(len(commits) - 1) * place // 2], bytearray(journal.data)

    def mend(first, end, field, before=b""):
        data[field:field + 4] = second.crc32c(before + data[first:end]).to_bytes(4, "little")

    start, frames = commit.offset, commit.offset + 96
    if in_frame:
        length = int.from_bytes(data[frames + 4:frames + 6], "little")
        data[frames + at:frames + at + len(value)] = value
        mend(frames + 4, frames + length, frames)
        mend(frames, frames + commit.headers_length, start + 12)
    else:
        data[start + at:start + at + len(value)] = value
    mend(start + 12, start + 96, start + 8, journal.log)
    journal.path.write_bytes(data)


def one_place(acts):
    """Of each kind of damage one in three, not always the first."""
    kinds = {}
    for act in acts:
        kinds.setdefault(re.sub("[0-9]+", "", act[0]), []).append(act)
    return [act for number, places in enumerate(kinds.values()) for act in places[number % min(3, len(places))::3]]


def golden_cases(roots, is_quick):
    """Logs, and what is done to each."""
    kinds = [([root for root in roots if not segments(root)], list(damages())),
             ([root for root in roots if segments(root)], list(segment_damages()) + [
                 damage for damage in damages() if damage[0].startswith(JOURNAL_DAMAGES_BESIDE_SEGMENTS)])]
    for logs, acts in kinds:
        for number, act in enumerate(one_place(acts) if is_quick else acts):
            for root in [logs[number % len(logs)]] if is_quick and act[0] != "none" else logs:
                yield root, act


def compare_golden(walctl, is_quick):
    """Compares on all golden logs, with all damages. Returns names with differences, and how many logs there were."""
    with tempfile.TemporaryDirectory(prefix="compare-readers-") as folder:
        for path in sorted(GOLDEN.glob("*.tar.xz")):
            with tarfile.open(path) as archive:
                archive.extractall(folder)
        roots = sorted(Path(folder).iterdir())

        def attempt(case):
            number, original, (name, act) = case
            place = Path(folder) / f"{number}"
            shutil.copytree(original, place / "wal")
            shutil.copytree(roots[(roots.index(original) + 1) % len(roots)], place / "other")
            try:
                act(place / "wal", sorted((place / "wal/journal").iterdir()))
                return f"{original.name}, {name}", compare_with_walctl(walctl, place / "wal")
            except RuntimeError as error:
                return f"{original.name}, {name}", str(error)
            finally:
                shutil.rmtree(place)

        cases = list(golden_cases(roots, is_quick))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(attempt, [(number, *case) for number, case in enumerate(cases)]))


def compare_folder(folder):
    folders = sorted(folder.iterdir())

    def attempt(path):
        try:
            return path, compare_exported(path)
        except RuntimeError as error:
            return path, str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(attempt, folders))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="where walsim --export has put logs")
    parser.add_argument("--walctl", type=Path, help="compares with this walctl on the golden logs")
    parser.add_argument("--quick", action="store_true", help="each kind of damage in one place of one log only")
    options = parser.parse_args()
    if (options.folder is None) == (options.walctl is None):
        parser.error("give either a folder or --walctl")
    if options.folder and not options.folder.is_dir():
        parser.error(f"{options.folder} is no directory")
    results = compare_folder(options.folder) if options.folder else compare_golden(options.walctl, options.quick)
    differences = [(name, found) for name, found in results if found]
    for name, found in differences[:20]:
        print(f"{name}: {found}")
    print(f"{len(results)} {'logs' if options.folder else 'golden logs, damaged ones among them'}, "
          f"{len(differences)} on which the two readers differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())

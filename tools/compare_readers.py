"""Holds tools/spec_reader.py against the engine on exported logs: `walsim --export FOLDER`, then this with FOLDER.

Each log was crashed, or damaged, on a simulated disk. Both readers must find the same records, in the same order, and
agree whether acknowledged records are lost. Exit codes: 0 they agree, 1 they do not.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

READER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "spec_reader.py")
# Cases that are losses, as SPEC.md's table says.
LOSSES = {"headerDestroyed", "fileMissing", "fileTruncated", "commitsDamaged", "frameDamaged", "rangeUnreadable",
          "sequenceGap"}


def spec_reader(root, *options):
    result = subprocess.run([sys.executable, READER, root, *options], capture_output=True, text=True)
    if result.returncode not in (0, 1):
        raise RuntimeError(f"spec_reader.py ended with {result.returncode}: {result.stderr.strip()[:300]}")
    return [json.loads(line) for line in result.stdout.splitlines()], result.returncode


def lines(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file]


def compare(folder):
    """What the two disagree on, in words; nothing if they agree."""
    if not os.path.exists(os.path.join(folder, "end")):
        return None
    root = os.path.join(folder, "wal")
    try:
        records, _ = spec_reader(root)
        findings, _ = spec_reader(root, "--findings")
    except RuntimeError as error:
        return str(error)
    mine = [(r["tenant"], r["sequence"], r["timestamp"], r["length"]) for r in records]
    theirs = [(t, int(s), int(n), int(length)) for t, s, n, length in lines(folder, "records")]
    if mine != theirs:
        missing, more = set(theirs) - set(mine), set(mine) - set(theirs)
        return (f"records: spec_reader has {len(mine)}, the engine {len(theirs)}; "
                f"it lacks {sorted(missing)[:3]}, has {sorted(more)[:3]} besides")
    my_losses = {f["case"] for f in findings[:-1]} & LOSSES
    their_losses = {finding[0] for finding in lines(folder, "findings")} & LOSSES
    if bool(my_losses) != bool(their_losses):
        return f"losses: spec_reader tells {sorted(my_losses)}, the engine {sorted(their_losses)}"
    return None


def main():
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        print("usage: compare_readers.py FOLDER, where walsim --export has put logs", file=sys.stderr)
        return 2
    folders = sorted(os.path.join(sys.argv[1], name) for name in os.listdir(sys.argv[1]))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        differences = [(f, d) for f, d in zip(folders, pool.map(compare, folders)) if d]
    for folder, difference in differences[:20]:
        print(f"{folder}: {difference}")
    print(f"{len(folders)} logs, {len(differences)} on which the two readers differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())

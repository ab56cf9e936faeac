"""tools/faults: real file systems and devices are broken under a real writer.

Each scenario prints what was acknowledged, recovered, lost (must be 0) and told as loss that is none (must be 0).
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time

from faults_lib import scenarios


def main():
    parser = argparse.ArgumentParser(
        prog="tools/faults", description="Break real file systems and devices under a real writer.",
        epilog="Exit codes: 0 nothing lost and no false alarm; 1 otherwise; 2 usage. A scenario that the machine "
               "cannot run is skipped with a line that says why.")
    parser.add_argument("products", help=argparse.SUPPRESS)
    parser.add_argument("--only", help="scenarios, with commas between: " + ", ".join(scenarios.ALL))
    parser.add_argument("--long", action="store_true", help="ten times as many rounds, and more")
    parser.add_argument("--folder", default="/var/tmp", help="where the images and logs go; not a tmpfs")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(scenarios.ALL)
    for name in names:
        if name not in scenarios.ALL:
            parser.error(f"there is no scenario {name}")
    # Whoever ends it, what is mounted and what runs goes with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    failed = skipped = 0
    for name in names:
        function, short, long = scenarios.ALL[name]
        folder = tempfile.mkdtemp(prefix=f"telemetry-wal-faults-{name}-", dir=arguments.folder)
        start, is_kept = time.time(), False
        try:
            if os.geteuid() != 0 and name not in scenarios.WITHOUT_ROOT:
                raise scenarios.Skipped("it needs root")
            totals = function(scenarios.Workplace(arguments.products, folder, long if arguments.long else short))
            print(f"{name}: {totals} ({time.time() - start:.0f} s)", flush=True)
        except scenarios.Skipped as reason:
            skipped += 1
            print(f"{name}: skipped: {reason}", flush=True)
        except scenarios.Problem as problem:
            failed += 1
            is_kept = True
            print(f"{name}: FAILED: {problem}; see {folder}", flush=True)
        finally:
            if not is_kept:
                shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(names) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

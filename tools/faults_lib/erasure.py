"""What a tenant's erasure leaves on the device below the file system."""

import json
import os
import secrets

from . import disks
from .writer import Problem, Totals

LINES, TENANTS = 2000, ("calm", "gone", "other")
FILES = ["--journal-file-mib", "4", "--journal-limit-mib", "64"]


def raw_device(kind):
    def scenario(place):
        totals = Totals()
        for number in range(place.rounds):
            image, mount = place.path(f"image-{number}"), place.path("mount")
            disks.make_image(image, 512)
            with disks.loop_device(image) as device:
                disks.make_file_system(kind, device)
                erase(place, device, mount, image, totals)
            os.unlink(image)
        return totals

    scenario.__doc__ = f"A tenant is erased from a log on {kind}, and the device is read byte by byte."
    return scenario


def erase(place, device, mount, image, totals):
    # Bytes that are nowhere else, as they are in each record: compressed or not, some of them stand as they are.
    marks = {tenant: secrets.token_hex(16) for tenant in TENANTS}
    root = os.path.join(mount, "wal")
    with disks.mounted(device, mount, must=True):
        # Journal files have earlier lives behind them, some of what waits is in segments, some is not. No file is
        # removed on the way: its blocks would be the file system's again, out of an erasure's reach.
        append(place, root, marks, totals)
        command(place, "replay", root, "--to", "-", *FILES)
        append(place, root, marks, totals)
        command(place, "compact", root, *FILES)
        append(place, root, marks, totals)
    before = {tenant: count(image, mark) for tenant, mark in marks.items()}
    if not all(before.values()):
        raise Problem(f"a tenant's records cannot be found on the device: {before}")
    with disks.mounted(device, mount, must=True):
        result = command(place, "erase", root, "gone", "--yes", "--format", "json", *FILES)
        report = json.loads(result.stdout)
        if report["undelivered"] != 2 * LINES:
            raise Problem(f"{report['undelivered']} records were undelivered, of {2 * LINES}")
        totals.faults += len(report["files"])
        for tenant in ("calm", "other"):
            found = command(place, "cat", root, "--tenant", tenant).stdout.count(marks[tenant])
            totals.recovered += min(found, 2 * LINES)
            totals.lost += max(0, 2 * LINES - found)
        command(place, "verify", root)
    left = count(image, marks["gone"])
    if left:
        raise Problem(f"{left} of {before['gone']} places on the device still hold the erased tenant's bytes")
    totals.rounds += 1


def append(place, root, marks, totals):
    for tenant, mark in marks.items():
        lines = "\n".join(
            json.dumps({"tenant.id": tenant, "n": number, "mark": mark, "text": secrets.token_hex(200)})
            for number in range(LINES))
        command(place, "append", root, "--format", "ndjson", "--batch", "50", *FILES, input=lines)
        totals.acknowledged += LINES


def command(place, *arguments, **options):
    result = place.walctl(*arguments, **options)
    if result.returncode != 0:
        raise Problem(f"walctl {arguments[0]}: status {result.returncode}, {result.stderr.strip()[-300:]}")
    return result


def count(image, mark):
    """How often a device holds a mark."""
    with open(image, "rb") as device:
        return device.read().count(mark.encode())

"""No byte free, or no inode: from open to close, at every point."""

import concurrent.futures
import contextlib
import errno
import os
import subprocess

from . import disks
from .writer import Problem, Totals, kill, tells_full, wait

# A journal file of the course is 64 blocks.
BLOCK, FILE_KIB = 4096, 256
OPTIONS = ["--file-kib", str(FILE_KIB)]
DISKS = 4


def full_disk(place):
    """A writer fills the disk: opening, reading, acknowledging and reclaiming still work without a byte free."""
    totals = Totals()
    for mebibytes in (12, 20, 32):
        with filled_disk(place, mebibytes, totals) as (mount, root, log):
            for command in (["verify", root], ["cat", root, "--tenant", "tenant-0"]):
                expect_success(place.walctl(*command), f"walctl {command[0]} on a full disk")
            expect_success(
                place.walctl("replay", root, "--to", "-", "--journal-file-mib", "1", "--journal-limit-mib", "256"),
                "walctl replay on a full disk")
            # Reclaimed: there is room again.
            opened, status, error = log.run(300, kill, options=["--keep", "--file-kib", "1024"])
            if not opened:
                raise Problem(f"a log with reclaimed room does not open: {error}")
    return totals


def other_size(place):
    """The same where who acknowledges has another size of journal files, for which there is no room. When all is
    acknowledged, files of the new size take the place of those of the old one."""
    totals = Totals()
    # Without room ever, the default among them; with room when the old files are gone; smaller.
    for kibibytes, mebibytes, fits in ((262144, 12, False), (65536, 12, False), (65536, 32, False), (4096, 32, True),
                                       (2048, 20, True), (256, 12, True)):
        with filled_disk(place, mebibytes, totals) as (mount, root, log):
            what = f"files of {kibibytes} KiB on a full disk of {mebibytes} MiB"
            how = ["--file-kib", str(kibibytes), "--limit", "2048"]
            if kibibytes == 65536:
                result = place.walctl(
                    "replay", root, "--to", "-", "--subscriber", "crash", "--journal-limit-mib", "256")
                expect_success(result, f"walctl replay, {what}")
            else:
                # Often enough to fill files with acknowledgements.
                _, status, error = log.drain(*how, "--flush-every", "5")
                expect(status == 0, f"acknowledging, {what}: status {status}, {error}")
            log.check(totals)
            _, status, error = log.course(*how)
            if fits:
                expect(status == 0, f"appending, {what}, when all is acknowledged: status {status}, {error}")
            else:
                expect(status == 3 and tells_full(error), f"appending, {what}: status {status}, {error}")
            log.check(totals)
    return totals


def every_block(kind):
    def scenario(place):
        totals = Totals()
        # Three files, for one of which appends wait for nothing, and some blocks of directories.
        most = 3 * (FILE_KIB << 10) // BLOCK + 24
        with contextlib.ExitStack() as stack:
            # Several disks, since each waits for its flushes most of the time.
            small = [
                stack.enter_context(small_disk(place, kind, 8 if kind == "ext4" else 320, name=f"disk-{number}"))
                for number in range(DISKS)
            ]

            def share(number):
                part = Totals()
                worked = [free for free in range(number, most + 1, DISKS) if course_on(place, small[number], free, part)]
                return worked, part

            with concurrent.futures.ThreadPoolExecutor(DISKS) as pool:
                shares = list(pool.map(share, range(DISKS)))
        for worked, part in shares:
            totals.add(part)
            expect(worked, f"the course does not run with {most} blocks free")
        return totals

    scenario.__doc__ = (
        f"A log's whole course on {kind} with as many blocks free as it takes and every number below, down to none.")
    return scenario


def every_inode(place):
    """The same with inodes: with as many free as a log takes and every number below."""
    totals = Totals()
    worked = []
    with small_disk(place, "ext4", 16, "-N", "48") as disk:
        for free in range(16):
            if course_on(place, disk, free, totals, inodes=True):
                worked.append(free)
    expect(worked and worked[-1] == 15, f"the course runs with so many inodes free: {worked}")
    return totals


def course_on(place, disk, free, totals, inodes=False):
    """A fresh log's course on a disk with so much free; then with nothing free the log is opened, read, acknowledged
    and reclaimed. Returns whether the course ran to its end."""
    what = f"{free} {'inodes' if inodes else 'blocks'} free"
    root = os.path.join(disk.mount, "wal")
    log = place.log(root)
    disk.leave_inodes(free) if inodes else disk.leave(free)
    lines, status, error = log.course(*OPTIONS)
    totals.faults += 1
    if status != 0 and (status != 3 or not tells_full(error)):
        raise Problem(f"{what}: status {status}, {error}")
    disk.leave_inodes(0) if inodes else disk.leave(0)
    if any(line.startswith("a ") for line in lines):
        log.check(totals)
        again, ended, complaint = log.drain(*OPTIONS)
        expect(ended == 0, f"{what}, then none: reading and acknowledging: status {ended}, {complaint}")
        live = next(int(line.split()[1]) for line in again if line.startswith("f "))
        expect(live <= 2, f"{what}, then none: all is acknowledged, and {live} files stay")
        log.check(totals)
        # One file to write, one that waits, and one for acknowledgements: with these the log goes on for ever.
        if len([name for name in os.listdir(os.path.join(root, "journal")) if name.endswith(".journal")]) >= 3:
            _, ended, complaint = log.course(*OPTIONS)
            expect(ended == 0, f"{what}, then none: what was reclaimed takes no appends: status {ended}, {complaint}")
            log.check(totals)
    elif os.path.exists(os.path.join(root, "FORMAT")):
        # A log without a journal file: it opens, or says why not.
        _, ended, complaint = log.drain(*OPTIONS)
        expect(ended == 0 or (ended == 3 and tells_full(complaint)),
               f"{what}, then none: an empty log: status {ended}, {complaint}")
    disk.clear()
    return status == 0


class SmallDisk:
    """A small file system, and what fills it."""

    def __init__(self, mount):
        self.mount = mount
        self.filler = os.path.join(mount, "filler")
        self.inodes = os.path.join(mount, "inodes")
        # Files of one block each, for a block that the filler could not have: one in more pieces may take another to
        # note them.
        self.single = []

    def free(self):
        return os.statvfs(self.mount).f_bavail

    def leave(self, blocks):
        """Leaves exactly so many blocks free; or, where the file system gives out no more of its last ones, as xfs does
        with four, these."""
        descriptor = os.open(self.filler, os.O_RDWR | os.O_CREAT)
        try:
            for _ in range(100):
                # What was removed is free when the file system's journal has it.
                os.fsync(descriptor)
                excess = self.free() - blocks
                if excess == 0:
                    return
                if excess > 0 and self.is_full():
                    return
                size = os.fstat(descriptor).st_size
                if excess < 0 and self.single:
                    os.unlink(self.single.pop())
                    continue
                if excess < 0:
                    os.ftruncate(descriptor, size + excess * BLOCK)
                    continue
                # Where it is in pieces, half of it may fit and all of it not.
                while excess > 0:
                    with contextlib.suppress(OSError):
                        os.posix_fallocate(descriptor, size, excess * BLOCK)
                        break
                    excess //= 2
                else:
                    self.add_single()
        finally:
            os.close(descriptor)
        raise Problem(f"the disk cannot be filled up to {blocks} blocks: {self.free()} are free")

    def add_single(self):
        path = f"{self.filler}-{len(self.single)}"
        with open(path, "wb") as one, contextlib.suppress(OSError):
            self.single.append(path)
            os.posix_fallocate(one.fileno(), 0, BLOCK)

    def is_full(self):
        """Whether not one more block is to be had."""
        path = os.path.join(self.mount, "one-block")
        try:
            with open(path, "wb") as one:
                os.posix_fallocate(one.fileno(), 0, BLOCK)
            return False
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def leave_inodes(self, count):
        """Leaves exactly so many inodes free. A name and an inode that go together need no new block here."""
        os.makedirs(self.inodes, exist_ok=True)
        fillers = os.listdir(self.inodes)
        excess = os.statvfs(self.mount).f_ffree - count
        for number in range(max(excess, 0)):
            open(os.path.join(self.inodes, f"{len(fillers) + number}"), "w").close()
        for name in fillers[: max(-excess, 0)]:
            os.unlink(os.path.join(self.inodes, name))
        left = os.statvfs(self.mount).f_ffree
        expect(left == count, f"{left} inodes are free and not {count}")

    def clear(self):
        """Removes all that is there but the filler, which the next `leave` makes fit."""
        subprocess.run(["rm", "-rf", os.path.join(self.mount, "wal"), self.inodes], check=True)


@contextlib.contextmanager
def small_disk(place, kind, mebibytes, *options, name="disk"):
    image, mount = place.path(f"{name}.image"), place.path(name)
    disks.make_image(image, mebibytes)
    with disks.loop_device(image) as device:
        disks.make_file_system(kind, device, *options)
        with disks.mounted(device, mount):
            # ext4 keeps some blocks back for its own use, with which a full disk would be not quite full.
            with contextlib.suppress(OSError), open(
                    f"/sys/fs/ext4/{os.path.basename(device)}/reserved_clusters", "w", encoding="ascii") as reserve:
                reserve.write("0")
            yield SmallDisk(mount)


@contextlib.contextmanager
def filled_disk(place, mebibytes, totals):
    """A small ext4 that a writer has filled with files of 1 MiB, without a byte free: its mount, the log's root, the
    log."""
    with small_disk(place, "ext4", mebibytes) as disk:
        root = os.path.join(disk.mount, "wal")
        log = place.log(root)
        # Until the journal is full, which the writer says and ends.
        opened, status, error = log.run(0, wait, options=["--keep", "--file-kib", "1024"])
        expect(opened and status == 3 and "journal is full" in error, f"a full disk: status {status}, {error}")
        totals.faults += 1
        disk.leave(0)
        log.check(totals)
        yield disk.mount, root, log


def expect(condition, problem):
    if not condition:
        raise Problem(problem)


def expect_success(result, what):
    expect(result.returncode == 0, f"{what}: {result.stderr.strip()[:300]}")

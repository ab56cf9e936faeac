"""What is done to a log, one function a fault. Each takes a `Workplace` and returns `Totals`."""

from . import broken_disks, erasure, full_compaction, full_disk, injections, killed_commands, sudden_ends
from .disks import Skipped
from .workplace import Workplace
from .writer import Problem

# By name: what is run, and rounds in the short form and in the long one.
ALL = {
    "kills": (sudden_ends.kills, 200, 2000),
    "power-cut-ext4": (sudden_ends.power_cut("ext4"), 8, 100),
    "power-cut-xfs": (sudden_ends.power_cut("xfs"), 8, 100),
    "volatile-cache-ext4": (broken_disks.volatile_cache("ext4"), 5, 50),
    "volatile-cache-xfs": (broken_disks.volatile_cache("xfs"), 5, 50),
    "failing-disk-ext4": (broken_disks.failing_disk("ext4"), 5, 50),
    "failing-disk-xfs": (broken_disks.failing_disk("xfs"), 5, 50),
    "read-only": (broken_disks.read_only, 1, 1),
    "full-disk": (full_disk.full_disk, 1, 1),
    "full-disk-other-size": (full_disk.other_size, 1, 1),
    "full-disk-every-block-ext4": (full_disk.every_block("ext4"), 1, 1),
    "full-disk-every-block-xfs": (full_disk.every_block("xfs"), 1, 1),
    "full-disk-every-inode": (full_disk.every_inode, 1, 1),
    "full-disk-every-call": (injections.no_space_at_every_call, 1, 1),
    "full-disk-compaction": (full_compaction.no_space_at_every_call, 1, 2),
    "erased-ext4": (erasure.raw_device("ext4"), 3, 20),
    "erased-xfs": (erasure.raw_device("xfs"), 3, 20),
    "killed-erase": (killed_commands.erased_and_compacted, 4, 40),
    "killed-encrypted": (killed_commands.encrypted, 4, 40),
    "killed-moves": (killed_commands.moved, 3, 30),
    "few-descriptors": (injections.few_descriptors, 1, 1),
    "system-call-errors": (injections.system_call_errors, 4, 10),
    "library-errors": (injections.library_errors, 4, 40),
}

# Those that mount nothing and trace nobody.
WITHOUT_ROOT = ("kills", "few-descriptors", "killed-erase", "killed-encrypted", "killed-moves")

__all__ = ["ALL", "WITHOUT_ROOT", "Skipped", "Problem", "Workplace"]

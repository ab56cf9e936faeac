"""The writer that is broken, and the count of what it left."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from .disks import Problem

ENVIRONMENT = dict(os.environ, SWIFT_BACKTRACE="enable=no")


class Totals:
    """What a scenario adds up."""

    def __init__(self):
        self.acknowledged = self.recovered = self.lost = self.false_alarms = 0
        self.rounds = self.faults = 0

    def add(self, other):
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self):
        return (f"rounds {self.rounds}, faults {self.faults}, acknowledged {self.acknowledged}, "
                f"recovered {self.recovered}, lost {self.lost}, false alarms {self.false_alarms}")


class CrashLog:
    """A log, its writers one after the other, and the ledger of what they said."""

    def __init__(self, products, folder, root, path="automatic"):
        self.writer = os.path.join(products, "CrashWriter")
        self.root, self.path = root, path
        descriptor, self.ledger = tempfile.mkstemp(prefix="ledger-", dir=folder)
        os.close(descriptor)
        self.writers = 0

    def command(self, *options):
        first = self.writers * 1_000_000
        self.writers += 1
        return [self.writer, "write", self.root, str(first), *self.how(), *options]

    def run(self, milliseconds, stop, prefix=(), options=(), opens_within=600):
        """Runs a writer, has `stop(process)` end it so long after it opened the log, and notes what it said. Returns
        whether it opened the log, its exit status and its error line."""
        process = subprocess.Popen(
            [*prefix, *self.command(*options)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
            start_new_session=True)
        text, opened = [], threading.Event()

        def read():
            for line in process.stdout:
                text.append(line)
                opened.set()
            opened.set()

        reader = threading.Thread(target=read, daemon=True)
        try:
            reader.start()
            if not opened.wait(opens_within):
                raise Problem(f"a writer neither opened the log nor failed within {opens_within} s")
            if process.poll() is None:
                time.sleep(milliseconds / 1000)
                stop(process)
            process.wait(600)
        except subprocess.TimeoutExpired:
            raise Problem("a writer did not end within 600 s")
        finally:
            kill(process)
        reader.join(10)
        with open(self.ledger, "ab") as ledger:
            ledger.write(b"".join(line for line in text if line.endswith(b"\n")))
        errors = [line.decode(errors="replace").strip() for line in text if line.startswith(b"e ")]
        return b"o\n" in text, process.returncode, errors[0] if errors else ""

    def course(self, *options, prefix=(), timeout=600):
        """Runs a writer through a log's whole course. Returns what it said, its exit status and its error line."""
        first = self.writers * 1_000_000
        self.writers += 1
        return self.finish([*prefix, self.writer, "course", self.root, str(first), *self.how(), *options], timeout)

    def drain(self, *options, timeout=600):
        """Has everything delivered and acknowledged. Returns like `course`."""
        return self.finish([self.writer, "drain", self.root, *self.how(), *options], timeout)

    def how(self):
        return ["--path", self.path]

    def finish(self, command, timeout):
        """Runs a writer that ends by itself, and notes what it said."""
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, start_new_session=True)
        try:
            output, complaint = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Problem(f"a writer did not end within {timeout} s: {' '.join(command)}")
        finally:
            kill(process)
        with open(self.ledger, "ab") as ledger:
            ledger.write(output[: output.rfind(b"\n") + 1])
        lines = output.decode(errors="replace").splitlines()
        errors = [line[2:] for line in lines if line.startswith("e ")]
        # A program that crashed says so there.
        return lines, process.returncode, errors[0] if errors else complaint.decode(errors="replace").strip()[:300]

    def copy(self, other):
        """Takes over a log as another has left it."""
        shutil.copytree(other.root, self.root)
        shutil.copy(other.ledger, self.ledger)
        self.writers = other.writers

    def check(self, totals, root=None):
        """Holds the log against the ledger. Adds up; raises `Problem`."""
        result = subprocess.run(
            [self.writer, "check", root or self.root, self.ledger], capture_output=True, text=True, env=ENVIRONMENT)
        lines = result.stdout.splitlines()
        if not lines or len(lines[0].split()) != 5:
            raise Problem(f"the log cannot be read: {(result.stderr or result.stdout).strip()[:400]}")
        _, owed, recovered, lost, alarms = map(int, lines[0].split())
        totals.rounds += 1
        totals.acknowledged += owed
        totals.recovered += recovered
        totals.lost += lost
        totals.false_alarms += alarms
        if result.returncode != 0:
            raise Problem("; ".join(line for line in lines[1:4]))


def tells_full(error):
    """Whether a writer's error says that there is no room."""
    return "No space left" in error or "the journal is full" in error


def kill(process):
    """SIGKILL, to the process and all that it started: a tracer's death alone would let the writer go on. Nothing if it
    has ended and been waited for."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait(process):
    """Lets the writer end by itself, within some minutes: disks may be slow."""
    try:
        process.wait(600)
    except subprocess.TimeoutExpired:
        kill(process)


def moment(low=1, high=150):
    """Some milliseconds."""
    return random.uniform(low, high)

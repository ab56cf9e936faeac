"""Child processes that never outlive the benchmark, the folder that it works in, and the progress line."""
import contextlib
import ctypes
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


class ProgramFailed(Exception):
    """A program ended with an error, took too long, or could not be started. The text is one line."""


class Finished(NamedTuple):
    output: str
    # How many cores other programs kept busy meanwhile. What waits for a core waits milliseconds: no figure is right
    # then.
    other_cores: float


class Usage:
    """Watches how busy the machine is and how much of that is the benchmark's own."""

    def __init__(self):
        self.start, self.busy, self.own = time.monotonic(), self.busy_seconds(), self.own_seconds()

    @staticmethod
    def busy_seconds():
        user, nice, system, _idle, _waiting, interrupts, soft, stolen, *_ = map(
            int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
        return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def own_seconds():
        children, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
        return children.ru_utime + children.ru_stime + own.ru_utime + own.ru_stime

    def other_cores(self):
        busy, own = self.busy_seconds() - self.busy, self.own_seconds() - self.own
        return max(0.0, busy - own) / max(0.001, time.monotonic() - self.start)


def stop_on_signals():
    """Every signal that asks to end becomes KeyboardInterrupt, so that all `finally` blocks run."""

    def stop(_number, _frame):
        raise KeyboardInterrupt

    for number in STOP_SIGNALS:
        signal.signal(number, stop)


@contextlib.contextmanager
def undisturbed():
    """A second Ctrl-C must not cut the clean-up short."""
    before = [signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(STOP_SIGNALS, before):
            signal.signal(number, handler)


def die_with_parent():
    # Should the benchmark itself be killed, the kernel ends its children.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(command, timeout):
    """Runs a program to its end. It is in a group of its own, which is ended whole."""
    command, usage = [str(part) for part in command], Usage()
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, preexec_fn=die_with_parent)
    except OSError as error:
        raise ProgramFailed(f"{command[0]}: {error.strerror}") from None
    name = pathlib.Path(command[0]).name
    try:
        output, errors = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise ProgramFailed(f"{name} had not ended after {timeout:.0f} s") from None
    finally:
        if child.poll() is None:
            with undisturbed():
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
    if child.returncode != 0:
        text = " ".join(errors.split())[-300:] or "said nothing"
        raise ProgramFailed(f"{name} ended with {child.returncode}: {text}")
    return Finished(output, round(usage.other_cores(), 2))


def discard(folder):
    """Removes a folder and waits until the file system is done with it: freeing blocks would slow what is next."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()
    # Where the file system is mounted with `discard`, the device is told of freed blocks afterwards, and is slow
    # meanwhile.
    quiet = 0
    for _ in range(100):
        quiet = quiet + 1 if requests_in_flight(folder.parent) == 0 else 0
        if quiet >= 5:
            return
        time.sleep(0.05)


def requests_in_flight(folder):
    """Requests that the device below a folder is busy with; 0 where that is not known."""
    device = os.stat(folder).st_dev
    try:
        text = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text()
    except OSError:
        return 0
    return int(text.split()[8])


@contextlib.contextmanager
def workspace(parent):
    """A fresh folder, gone afterwards however the benchmark ends."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="telemetry-wal-benchmark-", dir=parent))
    try:
        yield folder
    finally:
        with undisturbed():
            shutil.rmtree(folder, ignore_errors=True)


class Progress:
    """One line on standard error that says what is being measured; nothing where that is no terminal."""

    def __init__(self, total):
        self.total, self.done, self.start = total, 0, time.monotonic()
        self.is_shown = sys.stderr.isatty()

    def step(self, what):
        if self.is_shown:
            left = ""
            if self.done >= 3:
                seconds = (time.monotonic() - self.start) / self.done * (self.total - self.done)
                left = f", {seconds / 60:.0f} min left" if seconds >= 90 else f", {seconds:.0f} s left"
            sys.stderr.write(f"\r[{self.done + 1}/{self.total}] {what}{left}\x1b[K")
            sys.stderr.flush()
        self.done += 1

    def say(self, line):
        """A line that stays, on top of the progress line."""
        sys.stderr.write(("\r\x1b[K" if self.is_shown else "") + line + "\n")
        sys.stderr.flush()

    def finish(self):
        if self.is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def pinned(command, processor):
    """The command on one processor alone. A lone writer is a third slower where the device's interrupts are taken by
    another processor, and where the scheduler puts it is chance: what is compared must have the same place."""
    return ["taskset", "-c", str(processor), *command] if processor is not None else command

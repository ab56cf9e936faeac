"""Runs the drivers: our own walbench and the peers, which are programs of the same kind."""
import json
import os
import pathlib

from . import processes, workloads


class Drivers:
    """Knows where each driver is, and gives each of them a fresh folder."""

    def __init__(self, build_folder, walbench, folder, corpus, io):
        self.build_folder, self.walbench = pathlib.Path(build_folder), walbench
        self.folder, self.corpus, self.io = folder, corpus, io
        # Where pinned workloads run.
        self.processor = None
        # Only root may drop the page cache.
        self.drops_caches = os.geteuid() == 0

    def program(self, driver):
        return self.walbench if driver == workloads.OURS else self.build_folder / driver

    def append(self, driver, mode, options, seconds, keep_as=None, is_pinned=False, flags=()):
        """Runs one append measurement. The log stays as the folder `keep_as`, or is removed."""
        log = self.folder / (keep_as or "log")
        processes.discard(log)
        log.mkdir()
        command = [self.program(driver), "append", "--directory", log, "--corpus", self.corpus, "--seconds", seconds]
        for name, value in options.items():
            command += [f"--{name}", value]
        if driver == workloads.OURS:
            command += ["--mode", mode, "--io", self.io]
            command += ["--keep"] if keep_as else []
            command += flags
            if mode == "enqueue":
                command = ["env", f"LD_PRELOAD={(self.build_folder / 'counting_malloc.so').resolve()}", *command]
        if is_pinned:
            command = processes.pinned(command, self.processor)
        try:
            result = self.answer(driver, command, timeout=seconds + 90)
            if not result["records"]:
                raise processes.ProgramFailed(f"{driver} appended nothing within {seconds} s")
            return result
        finally:
            if keep_as is None:
                with processes.undisturbed():
                    processes.discard(log)

    def scan(self, driver, kept, flags=()):
        """Reads a kept log, from the device and not from memory."""
        os.sync()
        if self.drops_caches:
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        command = [self.program(driver), "scan", "--directory", self.folder / kept, "--records-only", *flags]
        return {**self.answer(driver, command, timeout=300), "isCold": self.drops_caches}

    def micro(self):
        return self.answer(workloads.OURS, [self.walbench, "micro", "--corpus", self.corpus], timeout=300)

    def answer(self, driver, command, timeout):
        output, other_cores = processes.run(command, timeout)
        try:
            result = json.loads(output)
        except ValueError:
            raise processes.ProgramFailed(f"{driver} did not answer with one line of JSON: {output[:200]!r}") from None
        if result.get("driver") != driver:
            raise processes.ProgramFailed(f"{driver} answered as {result.get('driver')!r}")
        return {**result, "otherCores": other_cores, "command": " ".join(str(part) for part in command)}


def options_of(workload):
    return {
        "writers": workload.writers, "batch": workload.batch, "record-size": workloads.RECORD_SIZE,
        "tenants": workload.tenants,
    }

"""A log that `walctl` writes, whose commands are killed at random moments, and the account of what it owes."""

import collections
import copy
import json
import os
import random
import secrets
import shutil
import subprocess
import time

from .writer import ENVIRONMENT, Problem, kill

FILES = ["--journal-file-mib", "1", "--journal-limit-mib", "64", "--compaction-threshold-mib", "2"]
# What an append brings of each tenant, unless told; at most in a row; in a batch.
RECORDS, ROW, BATCH = 40, 12, 8


class CommandLog:
    """A log without subscribers: what was acknowledged stays, until its tenant is erased."""

    def __init__(self, place, root, tenants, keys=()):
        self.place, self.root, self.tenants, self.keys = place, root, tenants, list(keys)
        # By tenant: each record ever handed over, by its number less one; which of them a sequence number was
        # acknowledged for; and through which sequence number it was erased.
        self.lines = {tenant: [] for tenant in tenants}
        self.acknowledged = {tenant: {} for tenant in tenants}
        self.erased = dict.fromkeys(tenants, 0)
        # How long a command last took that ran to its end, in seconds.
        self.took = collections.defaultdict(lambda: 0.2)

    # Commands

    def append(self, tenants=None, killed=False, records=RECORDS):
        """Appends so many records of each tenant, in rows, from a file; what has a receipt is acknowledged. Returns
        whether it was killed."""
        input, sent = self.place.path("input"), {tenant: len(lines) for tenant, lines in self.lines.items()}
        left = dict.fromkeys(tenants or self.tenants, records)
        with open(input, "w", encoding="ascii") as file:
            while left:
                tenant = random.choice(list(left))
                count = min(left[tenant], random.randint(1, ROW))
                file.writelines(self.new_record(tenant) + "\n" for _ in range(count))
                left[tenant] -= count
                if not left[tenant]:
                    del left[tenant]
        command = ["append", input, "--format", "ndjson", "--batch", str(BATCH), "--receipts"]
        was_killed, output = self.killed(*command) if killed else (False, self.run(*command))
        # A last line without its end was cut off by the kill: it says nothing.
        for receipt in map(json.loads, output[: output.rfind("\n") + 1].splitlines()):
            tenant = receipt["tenant"]
            for sequence in range(receipt["first"], receipt["last"] + 1):
                if sequence in self.acknowledged[tenant] or sequence <= self.erased[tenant]:
                    raise Problem(f"sequence number given twice: {tenant}/{sequence}")
                self.acknowledged[tenant][sequence] = sent[tenant]
                sent[tenant] += 1
        if not was_killed and any(sent[tenant] != len(self.lines[tenant]) for tenant in self.tenants):
            raise Problem("walctl append ended with 0 and without a receipt for each record")
        return was_killed

    def new_record(self, tenant):
        # Nothing that LZ4 could shorten: where bytes are left, they stand as they are.
        line = json.dumps({
            "tenant.id": tenant, "n": len(self.lines[tenant]) + 1,
            "text": secrets.token_urlsafe(random.choice((60, 300, 3000))),
        })
        self.lines[tenant].append(line)
        return line

    def many_segments(self, tenants):
        """Leaves tenants one segment short of those that are merged (`SegmentTiers.fanIn`)."""
        for _ in range(15):
            self.append(tenants, records=2)
            self.run("compact")

    def copy(self, root):
        """The log as it is now, in another place."""
        other = copy.deepcopy(self)
        other.root = root
        shutil.copytree(self.root, root)
        return other

    def run(self, *command):
        """Runs a command that writes to its end, and returns what it printed."""
        start = time.monotonic()
        result = self.place.walctl(*self.arguments(command))
        self.took[command[0]] = time.monotonic() - start
        if result.returncode != 0:
            raise Problem(f"walctl {' '.join(command)}: status {result.returncode}, {result.stderr.strip()[-300:]}")
        return result.stdout

    def killed(self, *command):
        """Kills a command at a random moment of the time that it took the last time. Returns whether it had not ended
        before, and what it had printed."""
        process = subprocess.Popen(
            [os.path.join(self.place.products, "walctl"), *self.arguments(command)], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True)
        try:
            # The first part is the program's start.
            output, complaint = process.communicate(timeout=random.uniform(0.2, 1) * self.took[command[0]])
        except subprocess.TimeoutExpired:
            kill(process)
            output, complaint = process.communicate()
        if process.returncode not in (0, -9):
            raise Problem(f"walctl {' '.join(command)}: status {process.returncode}, {complaint.strip()[-300:]}")
        return process.returncode != 0, output

    def arguments(self, command):
        words = ["placement", "set"] if command[0] == "placement" else [command[0]]
        return [*words, self.root, *command[1:], *FILES, *self.keys]

    def erase(self, tenant):
        """Erases a tenant to the end: nothing of it is owed any more."""
        self.erased[tenant] = json.loads(self.run("erase", tenant, "--yes", "--format", "json"))["erasedThrough"]
        self.lines[tenant], self.acknowledged[tenant] = [], {}

    # The account

    def check(self, totals, erasing=None):
        """Holds the log against its account; of a tenant that is being erased all may be gone, and not a part. Adds up;
        raises `Problem`."""
        totals.rounds += 1
        problems = self.findings(totals)
        shown = self.shown(self.keys)
        for tenant in self.tenants:
            if tenant != erasing or shown[tenant]:
                problems += self.compare(tenant, shown[tenant], totals)
        if problems:
            raise Problem("; ".join(problems[:4]))

    def findings(self, totals, keys=()):
        """What `walctl verify` has to say, of a log that nothing was done to."""
        result = self.place.walctl("verify", self.root, "--format", "json", *keys)
        try:
            findings = json.loads(result.stdout)["findings"]
        except ValueError:
            raise Problem(f"walctl verify: status {result.returncode}, {result.stderr.strip()[-300:]}")
        totals.false_alarms += len(findings)
        problems = [f"false alarm: {finding['what']}, {finding['file']}" for finding in findings]
        if result.returncode != 0 and not problems:
            problems.append(f"walctl verify: status {result.returncode}, {result.stderr.strip()[-300:]}")
        return problems

    def shown(self, keys=(), status=0):
        """What `walctl cat` shows, by tenant."""
        result = self.place.walctl("cat", self.root, *keys)
        if result.returncode != status:
            raise Problem(f"walctl cat: status {result.returncode}, {result.stderr.strip()[-300:]}")
        shown = collections.defaultdict(list)
        for line in result.stdout.splitlines():
            shown[json.loads(line)["tenant.id"]].append(line)
        return shown

    def compare(self, tenant, shown, totals):
        """What is wrong with what is shown of a tenant. Of what is not acknowledged some is there and some is not, but
        nothing that is there moves: the first one has the first number, and there is no hole."""
        lines, owed = self.lines[tenant], self.acknowledged[tenant]
        problems, seen, last = [], set(), 0
        for line in shown:
            number = json.loads(line)["n"]
            if not 0 < number <= len(lines) or lines[number - 1] != line:
                problems.append(f"{tenant}: a record that was never appended, or altered: {line[:60]}")
            elif number <= last:
                problems.append(f"{tenant}: record {number} {'twice' if number in seen else 'out of order'}")
            seen.add(number)
            last = max(last, number)
        held = dict(enumerate(shown, self.erased[tenant] + 1))
        missing = [sequence for sequence, index in owed.items() if index + 1 not in seen]
        moved = [sequence for sequence, index in owed.items() if held.get(sequence) != lines[index]]
        if missing:
            problems.append(f"{tenant}: {len(missing)} records are lost, {missing[0]} the first")
        elif moved:
            problems.append(f"{tenant}: {len(moved)} records have other numbers, {moved[0]} the first")
        totals.acknowledged += len(owed)
        totals.recovered += len(owed) - len(missing)
        totals.lost += len(missing)
        return problems

    # Bytes

    def texts(self, tenant):
        return [json.loads(line)["text"].encode() for line in self.lines[tenant]]


def traces(root, texts):
    """In which files below a folder are 16 bytes in a row of any of some texts, and where about the first of them. Who
    has 16 has eight at a multiple of eight."""
    windows = set()
    for text in texts:
        for start in range(8):
            windows.update(words(text[start:]))
    joined, found = b"\0".join(texts), {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                data = file.read()
            if windows.isdisjoint(words(data)):
                continue
            for place in (8 * index for index, word in enumerate(words(data)) if word in windows):
                if any(data[start:start + 16] in joined for start in range(max(0, place - 8), place + 1)):
                    found[os.path.relpath(path, root)] = place
                    break
    return found


def words(data):
    """The words of eight bytes that begin at multiples of eight."""
    return memoryview(data)[: len(data) // 8 * 8].cast("Q")

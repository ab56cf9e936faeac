"""Commands of `walctl` that change a log are killed at random moments, and run again to their end."""

import json
import random

from .command_log import CommandLog, traces
from .writer import Problem, Totals

# Rounds on one log, and kills in a row before a command is let run to its end.
ROUNDS_A_LOG, KILLS = 5, 3


def erased_and_compacted(place):
    """`walctl erase` and `walctl compact` are killed: of the erased tenant no 16 bytes are left when the command has
    run to its end, and nobody else lacks anything, neither then nor after any kill."""
    totals = Totals()
    for _, log, last in logs(place, ("calm", "gone", "other")):
        # Texts of the tenant's earlier lives, too.
        texts = []
        log.many_segments(("calm", "other"))
        for _ in range(last):
            log.append()
            # Some of what waits is in segments, some of these are merged, some is in the journal only.
            again_and_again(log, totals, "compact")
            # Or the next writer goes on with it.
            if random.random() < 0.5:
                log.run("compact")
                log.check(totals)
            log.append()
            texts += log.texts("gone")
            if not traces(log.root, log.texts("gone")):
                raise Problem("the tenant's bytes cannot be found before it is erased")
            # The others' next writer goes on with an erasure that was broken off.
            again_and_again(log, totals, "erase", "gone", "--yes", erasing="gone", others=("calm", "other"))
            log.erase("gone")
            log.check(totals)
            left = traces(log.root, texts)
            if left:
                raise Problem(f"bytes of the erased tenant are left, in {left}")
    return totals


def encrypted(place):
    """Writer and compaction of a log with encryption are killed, and keys are changed: what is acknowledged comes back
    with the keys, and no 16 bytes of it are on the disk in the open; who has no key is there as ever."""
    totals = Totals()
    for number, log, last in logs(place, ("plain", "secret", "secret-too")):
        keys = place.path(f"keys-{number}")
        for tenant in ("secret", "secret-too"):
            add_key(place, keys, tenant)
        log.keys = ["--key-file", keys]
        log.append()
        for _ in range(last):
            for _ in range(KILLS):
                totals.faults += log.append(killed=True)
                log.check(totals)
            again_and_again(log, totals, "compact")
            log.run("compact")
            if random.random() < 0.5:
                add_key(place, keys, random.choice(("secret", "secret-too")))
            log.append()
            log.check(totals)
            check_secrecy(log, totals)
    return totals


def check_secrecy(log, totals):
    """What is to be seen of an encrypted log without its keys."""
    problems = log.findings(totals)
    problems += log.compare("plain", log.shown(status=1)["plain"], Totals())
    for tenant in ("secret", "secret-too"):
        left = traces(log.root, log.texts(tenant))
        if left:
            problems.append(f"{tenant}: plain bytes are in {left}")
    if not traces(log.root, log.texts("plain")):
        problems.append("the plain tenant's bytes cannot be found either")
    if problems:
        raise Problem("; ".join(problems[:4]))


def add_key(place, keys, tenant):
    result = place.walctl("keys", "add", keys, "--tenant", tenant)
    if result.returncode != 0:
        raise Problem(f"walctl keys add: {result.stderr.strip()[-300:]}")


def moved(place):
    """A tenant moves to a journal of its own and back; the moves, and appends before and behind them, are killed."""
    totals = Totals()
    for number, log, last in logs(place, ("moving", "staying")):
        log.append()
        for move in range(2 * last):
            elsewhere = ["--directory", place.path(f"own-{number}")] if move % 4 == 2 else []
            goal = ["--dedicated", *elsewhere] if move % 2 == 0 else ["--shared"]
            totals.faults += log.append(killed=True)
            log.check(totals)
            # Wherever the kill leaves the tenant, appends find it there.
            again_and_again(log, totals, "placement", "moving", *goal, others=log.tenants)
            log.run("placement", "moving", *goal)
            where = json.loads(place.walctl("placement", "show", log.root, "--format", "json").stdout or "[]")
            now = [line["placement"] for line in where if line["tenant"] == "moving"][-1:] or ["shared"]
            if f"--{now[0]}" != goal[0]:
                raise Problem(f"the tenant is in its {now[0]} journal after walctl placement set {goal[0]}")
            totals.faults += log.append(killed=True)
            log.check(totals)
            if random.random() < 0.3:
                log.run("compact")
                log.check(totals)
    return totals


def again_and_again(log, totals, *command, erasing=None, others=()):
    """Kills a command some times, and holds the log against its account each time. Now and then somebody appends in
    between."""
    for _ in range(KILLS):
        was_killed, _ = log.killed(*command)
        totals.faults += was_killed
        log.check(totals, erasing)
        if others and random.random() < 0.3:
            log.append(others)


def logs(place, tenants):
    """Logs one after the other, with their numbers and how many rounds each is for."""
    for number, first in enumerate(range(0, place.rounds, ROUNDS_A_LOG)):
        yield number, CommandLog(place, place.path(f"wal-{number}"), tenants), min(ROUNDS_A_LOG, place.rounds - first)

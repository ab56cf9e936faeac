#!/usr/bin/env python3
"""Makes the seed corpora in Fuzz/Corpora from Tests/Fixtures: tools/make-fuzz-seeds.py

Small inputs of each target that reach far on their own, so that the fuzzer begins behind the first checks. The same
seeds come every time. Inputs that the fuzzer found and that are kept for good stand beside them, with names that begin
with `found-`; those are left alone. The shapes are described where they are read, in Fuzz/Checks.
"""

import base64
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "Tests" / "Fixtures"
CORPORA = ROOT / "Fuzz" / "Corpora"

SEALED, AS_IS = 1, 2  # bits of FuzzInput's first byte
LONGEST = 4096
LONGER = {"segment": 12300}


# --- The format on disk ---------------------------------------------------------------------------------------------


def golden(name):
    return (FIXTURES / "golden" / name).read_bytes()


class Commit:
    """A golden commit's parts, by the lengths in its header."""

    def __init__(self, name):
        self.bytes = golden(name)
        headers, bodies = struct.unpack_from("<II", self.bytes, 76)
        self.used = self.bytes[:96 + headers + bodies]
        self.headers = self.bytes[96:96 + headers]
        self.bodies = self.bytes[96 + headers:96 + headers + bodies]


def flagged(name, data):
    """The same bytes once as they are and once to be sealed after mutation."""
    return {name: bytes([0]) + data, f"{name}-sealed": bytes([SEALED]) + data}


def record(kind, payload, time=7):
    return struct.pack("<IB3xQ", len(payload), kind, time) + payload


def cursor(subscriber, tenant, through):
    return record(0x81, struct.pack("<QHHI", through, len(subscriber), len(tenant), 0) + subscriber + tenant)


def checkpoint(floor):
    return record(0x82, struct.pack("<QQQQ", 1, 1, 1, floor))


def tenant_state(tenant, number):
    return record(0x83, struct.pack("<QH6x", number, len(tenant)) + tenant)


def dropped(tenant, cause, records, through):
    total = struct.pack("<QQQQ", records, 100 * records, 1, 2)
    return record(0x86, struct.pack("<Q", through) + total + struct.pack("<BxH4x", cause, len(tenant)) + tenant)


def erasure(tenant, through, is_complete):
    return record(0x87, struct.pack("<QQBxH4x", through, 9, is_complete, len(tenant)) + tenant)


def watermark(through):
    return record(0x84, struct.pack("<Q", through))


def subscriber(name, registered=1):
    return record(0x85, struct.pack("<BxHI", registered, len(name), 0) + name)


def format_seeds():
    raw, lz4, control = Commit("commit-raw.bin"), Commit("commit-lz4.bin"), Commit("commit-control.bin")
    header, spare, root = golden("journal-header.bin"), golden("journal-header-spare.bin"), golden("FORMAT")
    first_frame = struct.unpack_from("<HxxQIII", raw.headers, 4)
    raw_length = struct.unpack_from("<I", lz4.headers, 24)[0]
    yield "root-format", {
        **flagged("first-fields", root[:48]), "both-copies": bytes([AS_IS]) + root[:4096 + 48],
        "cut": bytes([AS_IS]) + root[:40], "second-copy": bytes([SEALED]) + bytes(4096) + root[:48],
        "block-size-64k": bytes([SEALED]) + root[:32] + struct.pack("<I", 65536) + root[36:48],
        "own-journal": bytes([SEALED]) + root[:48] + struct.pack("<H", 4) + b"acme"}
    table = b"TWALPLC1" + bytes(4) + root[12:32] + struct.pack("<QIIII", 3, 4096, 3, 2, 0)
    for first, kind, name, path in ((1, 1, b"acme", b""), (9, 2, b"acme", b""), (1, 2, b"Zo\xc3\xab", b"/mnt/own")):
        table += struct.pack("<QBxHI", first, kind, len(name), len(path)) + name + path
    for cause in (2, 0):
        table += struct.pack("<BxHxxxxQQQQQ", cause, 4, 8, 2, 300, 5, 7) + b"acme"
    yield "placements", {
        **flagged("table", table), "cut": bytes([SEALED]) + table[:90],
        "out-of-order": bytes([SEALED]) + table.replace(struct.pack("<QB", 9, 2), struct.pack("<QB", 1, 2)),
        "relative": bytes([SEALED]) + table.replace(b"/mnt", b"mnt/"),
        "two-blocks": bytes([SEALED]) + (table[:40] + struct.pack("<I", 8192) + table[44:]).ljust(8192, b"\0")}
    yield "journal-file-header", {
        **flagged("live", header[:144]), **flagged("spare", spare[:144]), "cut": bytes([AS_IS]) + header[:512],
        "other-version": bytes([SEALED]) + header[:12] + b"\x03\0\0\0" + header[16:144]}
    yield "commit", {
        **flagged("raw", raw.used), **flagged("lz4", lz4.used), **flagged("control", control.used),
        "whole-block": bytes([AS_IS]) + raw.bytes[:4000], "cut": bytes([AS_IS]) + raw.used[:-1],
        "header-only": bytes([SEALED]) + raw.used[:96]}
    yield "frame-header", {
        **flagged("user", raw.headers[:first_frame[0]]), **flagged("lz4", lz4.headers), "control": b"\0"
        + control.headers,
        "long-name": bytes([SEALED]) + struct.pack("<IHBBQIIIIQQQH6x", 0, 320, 8, 1, 1, 1, 16, 16, 0, 0, 0, 0, 255)
        + b"x" * 255 + b"\0"}
    body = raw.bodies[:first_frame[3]]
    yield "record", {
        "golden": b"\0" + body, "empty-payload": b"\0" + record(4, b""), "each-kind":
        b"\0" + b"".join(record(kind, b"payload") for kind in (1, 2, 3, 4)), "unknown-kind": b"\0" + record(9, b"x"),
        "cut": b"\0" + record(4, b"payload")[:-1], "control-kind": b"\0" + record(0x84, bytes(8))}
    # The two bytes in front are the length to decompress to.
    stored = struct.pack("<H", raw_length) + lz4.bodies
    blocks = struct.pack("<H", 40) + bytes.fromhex("04224d18604082") + struct.pack("<I", 0x80000000 | 40) + bytes(44)
    yield "lz4-body", {
        "golden": b"\0" + stored, "cut": b"\0" + stored[:-3], "stored-block": b"\0" + blocks,
        "longer-than-said": b"\0" + struct.pack("<H", raw_length - 1) + lz4.bodies,
        "two-frames": b"\0" + stored + lz4.bodies, "skippable": b"\0\x04\0\x50\x2a\x4d\x18\x04\0\0\0abcd"}
    records = {
        "golden": control.bodies, "registered": subscriber(b"s"), "removed": subscriber(b"s") + subscriber(b"s", 0),
        "cursor": subscriber(b"s") + tenant_state(b"acme", 9) + cursor(b"s", b"acme", 5) + cursor(b"s", b"acme", 3),
        "cursor-of-nobody": cursor(b"nobody", b"acme", 5),
        "checkpoint": checkpoint(1) + subscriber(b"s") + tenant_state(b"acme", 9) + cursor(b"s", b"acme", 8),
        "floor-raised": tenant_state(b"old", 2) + checkpoint(1000) + tenant_state(b"new", 7), "watermark": watermark(3),
        "number-at-limit": tenant_state(b"acme", 1 << 62) + checkpoint(1 << 62) + watermark((1 << 62) + 1),
        "many-tenants": subscriber(b"s") + b"".join(
            tenant_state(b"t%d" % n, n + 1) + cursor(b"s", b"t%d" % n, n) for n in range(20)),
        "longer-than-its-layout": record(0x84, bytes(24)), "unknown-type": record(0x88, bytes(8)),
        "dropped": dropped(b"acme", 5, 2, 3) + dropped(b"acme", 4, 1, 3) + tenant_state(b"acme", 4),
        "erasure": tenant_state(b"acme", 9) + erasure(b"acme", 8, 0) + erasure(b"acme", 8, 1) + erasure(b"b", 3, 0)}
    seeds = {name: b"\0" + data for name, data in records.items()}
    yield "control-records", seeds
    yield "cursor-state", seeds
    yield "any-structure", {
        "commit": bytes([SEALED]) + raw.used, "journal-header": bytes([SEALED]) + header[:144],
        "root": bytes([SEALED]) + root[:48], "control": b"\0" + control.bodies, "lz4-commit": b"\0" + lz4.used}
    segment = golden("segment.bin")
    index = struct.unpack_from("<Q", segment, 72)[0]
    yield "segment", {
        **flagged("golden", segment), "cut": bytes([AS_IS]) + segment[:9000], "first-copy-lost": bytes([AS_IS])
        + bytes(4096) + segment[4096:], "no-summary": bytes([AS_IS]) + bytes(4096) + segment[4096:8192] + bytes(4096),
        "index-damaged": bytes([AS_IS]) + segment[:index] + b"\xff" + segment[index + 1:],
        "frames-swapped": bytes([SEALED]) + segment[:index] + segment[index + 56:index + 112]
        + segment[index:index + 56] + segment[index + 112:],
        "number-at-limit": bytes([SEALED]) + segment[:56] + struct.pack("<Q", (1 << 62) - 1) + segment[64:]}
    names = ["acme", "a.b", "..", ".hidden", "a/b", "100%", "Zoë", "x" * 201, "x" * 200 + ".y", "é" * 100, "%" * 85,
    "~"]
    yield "names", {f"{index:02}": name.encode() for index, name in enumerate(names)} | {
        "too-long": b"x" * 256, "nul": b"a\0b", "no-utf8": b"a\xffb", "empty": b""}


# --- Journals -------------------------------------------------------------------------------------------------------

(BEGIN, APPEND, CONTROL, CLOSE, SPARE, OVERWRITE, ZERO, MISDIRECT, RESIZE, RENAME, REMOVE, FAIL, PATCH_COMMIT,
 PATCH_HEADER, PATCH_FRAME, PATCH_BODY, OVERWRITE_FORMAT) = range(17)
WRITES, WHOLE, NO_FORMAT, LIVING = 1, 2, 16, 32
LZ4, UNVOUCHED, TWO_TENANTS, FAILED, SKIPPING, SPANS, WITH_CONTROL = 1, 2, 4, 8, 16, 32, 64
NO_FIRST, NO_SECOND, NO_CHECKPOINT, ABANDONED, DROPS_OLDER, SKIPS, REUSES, LARGE = 1, 2, 4, 8, 16, 32, 64, 128
REGISTER, CURSOR, TENANT_STATE, UNREGISTER, WATERMARK, CHECKPOINT = range(6)


def append(tenant=0, count=2, length=10, choices=0):
    return bytes([APPEND, tenant, count, length, choices])


def control(*records):
    return bytes([CONTROL, len(records) - 1]) + b"".join(bytes(r) for r in records)


def journal_seeds():
    three = append() + bytes([BEGIN, 0]) + append(1) + append() + bytes([BEGIN, 0]) + append(0, 3) + append(2)
    subscribed = control((REGISTER, 0, 0, 0)) + append()
    acknowledged = subscribed + control((CURSOR, 0, 0, 3)) + bytes([BEGIN, 0]) + append() + control((CURSOR, 0, 0, 6))
    close = bytes([CLOSE])
    recipes = {
        "empty": b"", "one-commit": append(), "closed": append() + append(1) + close, "three-files": three + close,
        "compressed": append(0, 15, 255, LZ4) + append(1, 15, 255, LZ4 | TWO_TENANTS | WITH_CONTROL) + close,
        "subscribed": subscribed + close, "acknowledged": acknowledged + close,
        "torn-tail": append() + append() + bytes([ZERO, 0, 3, 0]),
        "torn-in-the-middle": append() + append(0, 2, 10, UNVOUCHED) + bytes([ZERO, 0, 3, 0]),
        "damaged": append() + append() + append() + bytes([ZERO, 0, 4, 0]) + close,
        "damaged-frame": append(0, 2, 10, TWO_TENANTS) + append() + bytes([OVERWRITE, 0, 3, 255, 0, 2, 1, 2]),
        "damaged-delivered": acknowledged + bytes([ZERO, 0, 4, 0]) + bytes([BEGIN, 0]) + append() + close,
        "chain-broken": append() + bytes([PATCH_COMMIT, 0, 1, 11, 7]) + append() + close,
        "failed-write": append() + append(0, 2, 10, FAILED) + bytes([BEGIN, 0]) + append() + close,
        "abandoned": append() + bytes([BEGIN, ABANDONED]) + append() + bytes([BEGIN, 0]) + append(),
        "header-copy-lost": append() + bytes([BEGIN, NO_FIRST]) + append() + bytes([BEGIN, NO_SECOND]) + append(),
        "headers-lost": append() + bytes([BEGIN, NO_FIRST | NO_SECOND]) + append() + append() + bytes([BEGIN, 0])
        + append(),
        "headers-destroyed": append() + bytes([ZERO, 0, 0, 7]), "no-checkpoint": append()
        + bytes([BEGIN, NO_CHECKPOINT]) + append(),
        "file-missing": three + bytes([REMOVE, 1]), "newest-missing": three + bytes([REMOVE, 2]),
        "file-truncated": three + bytes([RESIZE, 1, 4, 0]), "cut-within-block": three + bytes([RESIZE, 2, 4, 1]),
        "spares": bytes([SPARE, SPARE]) + append(), "new-life": three + bytes([BEGIN, REUSES | DROPS_OLDER])
        + append() + close,
        "torn-new-life": three + bytes([BEGIN, REUSES | DROPS_OLDER | NO_FIRST | NO_CHECKPOINT]),
        "sequence-gap": append() + append(0, 2, 10, SKIPPING) + bytes([BEGIN, 0]) + append(),
        "file-sequence-gap": append() + bytes([BEGIN, SKIPS | LARGE]) + append() + close,
        "twin": three + bytes([PATCH_HEADER, 1, 0, 3, 1]), "foreign": three + bytes([PATCH_HEADER, 0, 0, 1, 9]),
        "other-version": append() + bytes([PATCH_HEADER, 0, 0, 0, 3]),
        "other-codec": append() + append() + bytes([PATCH_FRAME, 0, 1, 0, 2, 9]),
        "misdirected": three + bytes([MISDIRECT, 0, 2, 1, 4, 1]), "device-fails": three + bytes([FAIL, 2, 3, 0])
        + close,
        "device-fails-at-headers": three + bytes([FAIL, 1, 0, 1]), "last-name": append() + bytes([RENAME, 0, 204]),
        "control-body-wrong": subscribed + bytes([PATCH_BODY, 0, 1, 16, 0, 255]) + append() + close,
        "format-damaged": append() + bytes([OVERWRITE_FORMAT, 9]) + bytes(9),
        "removed-subscriber": subscribed + control((UNREGISTER, 0, 0, 0)) + append() + close,
        "number-at-limit": append() + control((TENANT_STATE, 0, 1, 193)) + close,
    }
    seeds = {name: bytes([LIVING]) + recipe for name, recipe in recipes.items()}
    for name in ("closed", "three-files", "acknowledged", "torn-tail", "damaged", "file-missing", "new-life", "spares",
                 "failed-write", "device-fails", "empty"):
        seeds[name + "-written"] = bytes([WRITES]) + recipes[name]
    # Numbers at their limits (192 is maximumNumber, see RecipeReader.number), and a writer that has to go on.
    for name, field in (("file-sequence", 1), ("commit-number", 3), ("records-before", 5)):
        for value in (192, 193, 195, 214):
            seeds[f"limit-of-{name}-{value}"] = bytes([WRITES]) + append() + bytes([PATCH_COMMIT, 0, 0, field, value])
    for name, field in (("file-sequence", 3), ("first-commit", 8), ("records-before", 14), ("previous-commit", 12)):
        seeds[f"limit-of-header-{name}"] = bytes([WRITES]) + append() + bytes([PATCH_HEADER, 0, 0, field, 193])
    seeds["limit-of-sequence"] = bytes([WRITES]) + append() + append() + bytes([PATCH_FRAME, 0, 2, 0, 3, 195])
    seeds["limit-of-tenant-state"] = bytes([WRITES]) + append() + control((TENANT_STATE, 0, 0, 192))
    seeds["limit-of-floor"] = bytes([WRITES]) + append() + control((CHECKPOINT, 0, 0, 192))
    seeds["three-files-written-whole"] = bytes([WRITES | WHOLE]) + recipes["three-files"]
    seeds["large-blocks"] = bytes([WRITES | 8]) + recipes["closed"]
    seeds["no-format"] = bytes([NO_FORMAT | WRITES]) + recipes["closed"]
    yield "journal", seeds


# --- Journal and segments -------------------------------------------------------------------------------------------

(MOVE, MERGE, S_OVERWRITE, S_ZERO, S_CUT, S_REMOVE, S_RENAME, S_MISPLACE, S_FAIL, PATCH_SUMMARY, PATCH_INDEX,
 S_PATCH_FRAME, S_PATCH_BODY, STRAY) = range(128, 142)
LEAVES_OUT, LOSES, DROPPED, GIVEN_UP = 2, 4, 8, 16


def move(tenant=0, frames=8, choices=0):
    return bytes([MOVE, tenant, frames - 1, choices])


def log_recipes():
    """Tenant 0 is encrypted where a frame has an even number of records; counts here are one less than that."""
    open_frames = append(0, 2, 40) + append(1, 3, 40) + append(0, 4, 200)
    sealed = append(0, 1, 40) + append(1, 3, 40)
    two = open_frames + move() + append(0, 2, 60) + append(1, 1, 9) + move() + move(1)
    left = two + append(0, 4, 30, SPANS) + append(2, 2, 8) + bytes([BEGIN, 0]) + append(0, 2, 20) + move(2)
    left += bytes([BEGIN, 0]) + append(1, 2, 7) + move() + move(1) + bytes([BEGIN, DROPS_OLDER]) + append(3, 2, 5)
    many = b"".join(append(0, 0, 50) for _ in range(6)) + move(0, 6) + append()
    damaged = {
        "overwritten": bytes([S_OVERWRITE, 0, 0, 17, 3]) + b"abc", "first-summary-lost": bytes([S_ZERO, 0, 0, 0]),
        "frames-lost": bytes([S_ZERO, 0, 1, 0]), "cut": bytes([S_CUT, 0, 2, 0]), "cut-within-block": bytes([
            S_CUT, 0, 2, 1]), "removed": bytes([S_REMOVE, 0]), "all-zero": bytes([S_ZERO, 0, 0, 3]),
        "body-damaged": bytes([S_OVERWRITE, 0, 120, 16, 2, 1, 2])}
    forged = {
        "renamed": bytes([S_RENAME, 0, 1, 100]), "misplaced": bytes([S_MISPLACE, 0, 2]),
        "covers-more": bytes([PATCH_SUMMARY, 0, 0, 6, 60, S_RENAME, 0, 1, 60]), "other-log": bytes([
            PATCH_SUMMARY, 0, 0, 1, 7]),
        "other-version": bytes([PATCH_SUMMARY, 0, 0, 0, 9]), "index-forged": bytes([PATCH_INDEX, 0, 24, 0, 0, 90]),
        "times-forged": bytes([S_PATCH_FRAME, 0, 0, 7, 120]), "body-forged": bytes([S_PATCH_BODY, 0, 0, 20, 7]),
        "name-at-limit": bytes([S_RENAME, 0, 1, 195])}
    whole = {
        "journal-only": open_frames, "moved": open_frames + move() + append(), "compressed": append(0, 14, 255, LZ4)
        + move(0, 8, LZ4) + append(0, 2, 90), "sealed": sealed + move() + move(1) + append(),
        "sealed-compressed": append(0, 15, 255, LZ4) + move(0, 8, LZ4), "two-segments": two, "merged": two
        + bytes([MERGE, 0, 0]), "merge-interrupted": two + bytes([MERGE, 0, 1]), "left-the-journal": left,
        "many-frames": many, "closed": two + bytes([CLOSE]), "spares": two + bytes([SPARE, SPARE])}
    partial = {
        "left-out": open_frames + move(0, 8, LEAVES_OUT), "lost": open_frames + move(0, 8, LOSES), "dropped":
        open_frames + move(0, 8, LOSES | DROPPED), "given-up": open_frames + move(0, 8, LOSES | GIVEN_UP),
        "all-lost": append() + move(0, 1, LOSES), "stray": two + bytes([STRAY, 0, 0, STRAY, 1, 1, STRAY, 0, 3]),
        "device-fails": many + bytes([S_FAIL, 0, 1, 0]), "journal-damaged": two + bytes([ZERO, 0, 4, 0]) + append(),
        "subscribed": control((REGISTER, 0, 0, 0)) + two + control((CURSOR, 0, 0, 3)), "erased": two
        + control((7, 0, 0, 3)) + append(), "key-unknown": append(0, 11, 9) + append(0, 1, 9) + move() + append()}
    steps = {**damaged, **forged}
    return {**whole, **partial}, {name: many + append(1) + move(1) + step + append() for name, step in steps.items()}


def log_seeds():
    good, bad = log_recipes()
    recipes = {**good, **bad}
    seeds = {name: bytes([LIVING, 3, 0x20]) + recipe for name, recipe in recipes.items()}
    for name in ("moved", "two-segments", "merge-interrupted", "left-the-journal", "sealed", "lost", "stray", "removed",
                 "body-damaged", "all-zero", "misplaced", "erased", "device-fails"):
        seeds[name + "-written"] = bytes([WRITES, 130, 0xC8]) + recipes[name]
    seeds["left-the-journal-written-whole"] = bytes([WRITES | WHOLE, 1, 0]) + recipes["left-the-journal"]
    seeds["large-blocks"] = bytes([WRITES | 8, 5, 0xFF]) + recipes["two-segments"]
    seeds["no-format"] = bytes([NO_FORMAT, 5, 0xFF]) + recipes["two-segments"]
    yield "log", seeds
    yield "deep-report", {
        **{name: b"\0" + recipe for name, recipe in recipes.items()},
        "payloads-invalid": b"\x80" + recipes["left-the-journal"], "no-format": bytes([NO_FORMAT]) + recipes["moved"]}
    salvaged = {name: recipe for name, recipe in recipes.items() if MOVE in recipe}
    yield "segment-salvage", {
        **{name: b"\0\0" + recipe for name, recipe in salvaged.items()},
        **{name + "-acknowledged": b"\0\3" + salvaged[name] for name in (
            "many-frames", "lost", "frames-lost", "body-damaged", "index-forged", "all-zero")},
        "large-blocks": b"\x08\0" + salvaged["body-damaged"]}


def scrub_seeds():
    three = append(0, 2, 40) + append(1, 3, 40) + append(0, 4, 90, TWO_TENANTS) + bytes([BEGIN, 0]) + append(0, 2, 20)
    three += append(1, 2, 60, TWO_TENANTS) + bytes([BEGIN, 0]) + append(0, 0, 9, WITH_CONTROL) + append(2)
    recipes = {
        "three-files": three, "compressed": append(0, 14, 255, LZ4 | TWO_TENANTS) + append(1, 9, 99, LZ4),
        "sealed": append(0, 1, 40, TWO_TENANTS) + append(0, 3, 90, LZ4), "one-tenant": append(0, 2, 40),
        "others-damaged": three + bytes([OVERWRITE, 0, 4, 200, 0, 4, 1, 2, 3, 4]),
        "misdirected": three + bytes([MISDIRECT, 0, 3, 1, 3, 0]), "into-others": append(1, 9, 200)
        + append(0, 4, 200) + append() + bytes([MISDIRECT, 0, 5, 0, 4, 0]),
        "failed-write": append(0, 4, 40) + append(0, 9, 90, FAILED) + bytes([BEGIN, 0]) + append(0, 2, 40),
        "new-life": three + bytes([BEGIN, REUSES | DROPS_OLDER]) + append(1),
        "left-behind": three + bytes([BEGIN, DROPS_OLDER]) + append(1) + bytes([BEGIN, DROPS_OLDER]),
        "torn": append(0, 2, 40) + append(0, 9, 255) + bytes([ZERO, 0, 4, 0]), "spares": three + bytes([SPARE]),
        "headers-lost": three + bytes([ZERO, 1, 0, 1]), "headers-destroyed": append(0, 2, 40) + bytes([ZERO, 0, 0, 1]),
        "file-truncated": three + bytes([RESIZE, 1, 4, 0]), "cut-within-block": three + bytes([RESIZE, 2, 4, 1]),
        "device-fails": three + bytes([FAIL, 0, 4, 0]), "twin": three + bytes([PATCH_HEADER, 1, 0, 3, 1]),
        "foreign": three + bytes([PATCH_HEADER, 1, 0, 1, 9]), "commit-forged": three + bytes([PATCH_COMMIT, 0, 1, 7, 200]),
        "frame-forged": three + bytes([PATCH_FRAME, 0, 1, 0, 10, 1]), "large-file": append(0, 2, 40)
        + bytes([BEGIN, LARGE]) + b"".join(append(0, 15, 255, TWO_TENANTS) for _ in range(10))}
    yield "file-scrub", {
        **{name: b"\0\xff" + recipe for name, recipe in recipes.items()},
        **{name + "-in-part": b"\0\0" + recipe for name, recipe in recipes.items() if name in (
            "three-files", "sealed", "new-life", "failed-write")},
        **{name + "-quarantined": b"\1\0" + recipe for name, recipe in recipes.items() if name in (
            "three-files", "others-damaged", "into-others", "torn", "headers-destroyed", "device-fails", "new-life")},
        "again": b"\2\0" + three, "another-tenant": b"\x10\1" + three, "large-blocks": b"\x08\1" + three}


# --- Telemetry ------------------------------------------------------------------------------------------------------


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(data):
    """(number, whole field, value) of each length-delimited field; others have no value."""
    position = 0

    def read():
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(data):
        start = position
        tag = read()
        if tag & 7 == 2:
            length = read()
            position += length
            yield tag >> 3, data[start:position], data[position - length:position]
        else:
            position = position + 8 if tag & 7 == 1 else position + 4 if tag & 7 == 5 else position
            if tag & 7 == 0:
                read()
            yield tag >> 3, data[start:position], None


def trimmed(message, keep=1, depth=0):
    """A request with the first resources, scopes and items only."""
    child, kept, out = (1 if depth == 0 else 2), 0, b""
    for number, whole, value in fields(message):
        if number != child or value is None:
            out += whole
        elif kept < keep:
            kept += 1
            out += field(number, trimmed(value, keep, depth + 1) if depth < 2 else value)
    return out


def trimmed_json(document, keep=1):
    for key in list(document):
        for resource in document[key]:
            for scopes in [k for k in resource if k.startswith("scope") and isinstance(resource[k], list)]:
                for scope in resource[scopes]:
                    for items in ("spans", "logRecords", "metrics"):
                        if items in scope:
                            scope[items] = scope[items][:keep]
                resource[scopes] = resource[scopes][:keep]
        document[key] = document[key][:keep]
    return document


def telemetry_seeds():
    names = ("spans", "logs", "metrics")
    whole = {name: (FIXTURES / f"agent-{name}.pb").read_bytes() for name in names}
    small = {name: trimmed(data) for name, data in whole.items()}
    unknown = field(1, field(2, field(2, b"\x7a\x01x")) + field(9, b"unknown"))
    deep = {}
    for levels in (47, 48, 49, 50):  # around the depth that decoders follow
        value = b""
        for _ in range(levels):
            value = field(5, field(1, value))  # an array of an array of …
        deep[f"nested-{levels}"] = bytes([4]) + field(1, field(2, field(2, field(5, value))))
    yield "otlp-protobuf", {
        **{name: bytes([0]) + data for name, data in small.items()},
        **{f"{name}-by-resource": bytes([1 | 8]) + trimmed(data, 2)[:LONGEST - 1] for name, data in whole.items()},
        "named-signal": bytes([2 | 16]) + small["spans"], "unknown-fields": b"\0" + unknown, "empty": b"\0",
        "group": b"\0" + field(1, field(2, b"\x7b\x08\x01\x7c") + b"\x7b\x08\x01\x7c"),
        **deep, "cut": b"\0" + small["logs"][:-2]}
    documents = {name: json.loads((FIXTURES / f"agent-{name}.json").read_text()) for name in names}
    texts = {name: json.dumps(trimmed_json(d), separators=(",", ":")).encode() for name, d in documents.items()}
    span = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"%s","spanId":"%s","startTimeUnixNano":"7"}]}]}]}'
    one = span % (b"0123456789abcdef" * 2, b"0123456789abcdef")
    json_seeds = {
        **{name: bytes([0]) + text for name, text in texts.items()}, "one-span": bytes([8]) + one,
        "two-documents": bytes([1]) + one + b"\n" + one, "two-signals": b"\0" + one[:-1] + b',"resourceLogs":[{}]}',
        "base64-ids": b"\0" + span % (b"/////////////////////w==", b"//////////8="), "wrong-id": b"\0"
        + span % (b"zz", b"1"),
        "unknown-key": b"\0" + b'{"resourceSpans":[],"more":{"x":[1,"]}"]}}', "no-request": b"\0" + b'{"x":1}',
        "byte-order-mark": b"\0\xef\xbb\xbf" + one, "pretty": b"\0{\n \"resourceLogs\" : [ ]\n}\n", "cut": b"\0"
        + one[:-3],
        "numbers": b'\0{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":'
        b'[{"asDouble":"NaN"},{"asDouble":1e308},{"asInt":"-9223372036854775808"}]}}]}]}]}'}
    yield "otlp-json", json_seeds
    messages = [small["spans"], small["logs"], small["metrics"]]
    prefixes = {
        "little-endian": lambda m: struct.pack("<I", len(m)), "big-endian": lambda m: struct.pack(">I", len(m)),
        "varint": lambda m: varint(len(m))}
    delimited = {}
    for name, prefix in prefixes.items():
        delimited[name] = bytes([1]) + b"".join(prefix(m) + m for m in messages)
        delimited[f"{name}-twice"] = bytes([8]) + b"".join(prefix(m) + m for m in messages[1:2] * 2)
    delimited["empty-first"] = b"\0" + bytes(8) + struct.pack("<I", len(messages[1])) + messages[1]
    delimited["cut"] = delimited["little-endian"][:-5]
    delimited["too-long"] = bytes([32]) + struct.pack("<I", 300) + messages[0]
    yield "otlp-delimited", {name: data[:LONGEST] for name, data in delimited.items()}
    lines = (FIXTURES / "lines.ndjson").read_bytes().split(b"\n")
    yield "ndjson", {
        "lines": b"\0" + b"\n".join(lines[:3]) + b"\n", "last-line-open": bytes([8]) + b"\n".join(lines[3:5]),
        "blank-lines": b"\0\n\r\n \t\n" + lines[5] + b"\r\n\n", "no-json": b"\0plain text\n\x00\xff\n[1]\n",
        "byte-order-mark": b"\0\xef\xbb\xbf" + lines[6], "long-line": bytes([32]) + b'{"a":"' + b"x" * 300 + b'"}\n',
        "escaped-tenant": b'\0{"ten\\u0061nt.id":"\\ud83d\\ude00"}\n{"tenant.id":7}\n{"tenant.id":""}\n'}
    yield "input-format", {
        "json": b"\0" + one, "json-lines": bytes([8]) + one + b"\n" + one, "ndjson": b"\0" + lines[0] + b"\n"
        + lines[1],
        "protobuf": b"\0" + small["logs"], "spaces": b"\0 \n\t ", "gzip": b"\0\x1f\x8b\x08\0", "brace": b"\0{",
        "brace-is-a-length": b"\0{" + field(1, field(2, b"x" * 115)), "byte-order-mark": b"\0\xef\xbb\xbf{}",
        **{name: delimited[name] for name in prefixes}}
    kinds = {"spans": 0, "logs": 1, "metrics": 2}
    yield "otlp-export", {
        **{name: bytes([kinds[name]]) + data for name, data in small.items()}, "opaque-json": b'\x03{"a":1}',
        "opaque-text": b"\x03caf\xc3\xa9\n", "opaque-bytes": b"\x03\xff\0", "empty": b"\0",
        "odd-id": b"\0" + field(1, field(2, field(2, field(1, b"abc") + field(2, b"12345678")))),
        "nan": b"\2" + field(1, field(2, field(2, field(1, b"m") + field(5, field(1, b"\x21\0\0\0\0\0\0\xf8\x7f")))))}
    partial = field(1, b"\x08\x05" + field(2, b"too old"))
    answers = {"partial": partial, "negative": field(1, b"\x08" + varint((1 << 64) - 1)), "full": b"",
    "cut": partial[:-1]}
    yield "otlp-response", {
        **{f"{name}-{signal}": bytes([signal]) + data for name, data in answers.items() for signal in range(2)},
        "json": b'\4{"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}}', "json-empty": b"\5{}",
        "json-unknown": b'\6{"partialSuccess":{"more":1}}', "type": b"\x08application/json; charset=utf-8",
        "type-upper": b"\x08APPLICATION/X-PROTOBUF"}
    secret = base64.b64encode(bytes(range(32))).decode()
    one = {"identifier": 1, "state": "current", "secret": secret}
    gone = {"identifier": 4, "state": "forgotten", "tenant": "acme"}
    lists = {
        "none": [], "one": [one], "tenants": [one, dict(one, identifier=(1 << 64) - 1, tenant="Zoë"), gone],
        "rotated": [dict(one, state="retired"), dict(one, identifier=2)], "same-identifier": [one, one],
        "both-current": [one, dict(one, identifier=3)], "misspelt": [dict(one, tennant="acme")],
        "no-secret": [{"identifier": 1, "state": "current"}], "short-secret": [dict(one, secret="c2hvcnQ=")],
        "secret-of-a-forgotten-one": [dict(gone, secret=secret)], "zero": [dict(one, identifier=0)],
        "fraction": [dict(one, identifier=1.5)], "truth": [dict(one, identifier=True)],
    }
    yield "key-file", {name: json.dumps({"keys": keys}).encode() for name, keys in lists.items()} | {
        "no-object": b"[]", "empty": b"", "cut": b'{"keys":[{"identifier":1'}

    mount = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
    yield "mount-table", {
        "one": mount, "two": mount + b"37 36 0:44 / /proc rw - proc proc rw,lowerdir=/a:/b\n",
        "no-optional-fields": b"1 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "no-dash": mount.replace(b" - ", b" "),
        "escapes": b"1 1 8:1 / /a\\134\\777\\04 rw - xfs /dev/x rw,a\\,b\n",
        "numbers": mount.replace(b"98:0", b"99999999999:-1")}


def main():
    total = count = 0
    for seeds in (format_seeds(), journal_seeds(), log_seeds(), scrub_seeds(), telemetry_seeds()):
        for target, inputs in seeds:
            folder = CORPORA / target
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.iterdir():
                if not old.name.startswith("found-") and old.name not in inputs:
                    old.unlink()
            for name, data in inputs.items():
                (folder / name).write_bytes(data[:LONGER.get(target, LONGEST + 200)])
                total, count = total + len(data), count + 1
    print(f"{count} seeds, {total} bytes in {CORPORA.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

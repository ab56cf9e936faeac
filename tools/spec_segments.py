"""Tenant segments as SPEC.md describes them, for spec_reader.py, which reads the journal."""
import re, struct
from collections import namedtuple

from spec_encryption import CARRIED, OVERHEAD, Sealed, check_lengths, unseal
from spec_reader import (
    BLOCK_SIZES, FRAME, MAX_FILE, MAX_NUMBER, MAX_RAW, MAX_RECORDS, attempt, crc32c, parse_copy, parse_name,
    parse_records, require)

MAX_ENTRIES = 65536
SUMMARY = struct.Struct("<8s4x4x16sIH2x8xQQQQIII4xQQQQ")
Summary = namedtuple("Summary", "magic log block named first last length index checksum frames lost records raw low "
                     "high")
# Entries of the index: of a frame offset, first number, record count, length, times, checksum of its header, raw length
# and kinds; of a lost range first and last number, and cause.
ENTRY, LOST = struct.Struct("<QQIIQQIIB7x"), struct.Struct("<QQB7x")
NAME = re.compile("([0-9a-f]{16})-([0-9a-f]{16}).segment")
PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


def path_of(tenant):
    """A tenant's name as a path."""
    text = "".join(chr(byte) if chr(byte) in PLAIN or place and byte == 46 else f"%{byte:02X}"
                   for place, byte in enumerate(tenant.encode()))
    pieces = []
    while len(text) > 200:
        pieces, text = pieces + [text[:200] + "~"], text[200:]
    return pieces + ["%2E" + text[1:] if text.startswith(".") else text]


def tenant_of(pieces):
    """The tenant whose path this is; nothing for other paths."""
    text = "".join(piece.removesuffix("~") for piece in pieces)
    raw = re.sub("%(..)", lambda escape: chr(int(escape[1], 16)), text).encode("latin-1")
    tenant = parse_name(raw, 0, len(raw))
    require(path_of(tenant) == list(pieces))
    return tenant


def find(root):
    """Of each tenant the segments that count, as first and last number and path, by number."""
    found = {}
    for path in root.glob("tenants/**/*.segment"):
        tenant = attempt(tenant_of, path.relative_to(root).parts[1:-1])
        match = NAME.fullmatch(path.name)
        first, last = (int(number, 16) for number in match.groups()) if match else (0, 0)
        if tenant and 1 <= first <= last < MAX_NUMBER:
            found.setdefault(tenant, []).append((first, -last, path))
    for tenant, segments in found.items():
        end, kept = 0, []
        for first, last, path in sorted(segments):
            if -last > end:
                kept.append((first, -last, path))
                end = -last
        found[tenant] = kept
    return found


def parse_summary(data, at, log, block, tenant, path):
    fields = Summary(*SUMMARY.unpack_from(parse_copy(data, at, block, b"TWALSEG1", path)))
    require(fields.block == block and block in BLOCK_SIZES and 1 <= fields.first <= fields.last < MAX_NUMBER)
    require(fields.length % block == 0 and 2 * block <= fields.length <= MAX_FILE)
    require(fields.frames <= min(MAX_ENTRIES, fields.records) and fields.lost <= MAX_ENTRIES)
    require((fields.frames == 0) == (fields.records == 0))
    require(fields.records <= min(fields.last - fields.first + 1, MAX_RECORDS * fields.frames))
    require(16 * fields.records <= fields.raw <= MAX_NUMBER and fields.low <= fields.high)
    received = struct.unpack_from("<QQ", data, at + 384)
    require(received[0] <= received[1])
    end = fields.index + ENTRY.size * fields.frames + LOST.size * fields.lost
    require(fields.index % 8 == 0 and block <= fields.index and end <= fields.length - block)
    return fields, fields.log == log and parse_name(data, at + 128, fields.named) == tenant


def parse_index(data, summary):
    """Frames, as offset, first number, record count, length and checksum of the header; and lost ranges."""
    split = summary.index + ENTRY.size * summary.frames
    raw = data[summary.index:split + LOST.size * summary.lost]
    require(len(data) >= summary.length and crc32c(raw) == summary.checksum)
    entries = list(ENTRY.iter_unpack(data[summary.index:split]))
    lost = list(LOST.iter_unpack(data[split:summary.index + len(raw)]))
    end, following = 0, summary.first
    for offset, first, count, length, low, high, _, size, kinds in entries:
        header = (64 + summary.named + 7) // 8 * 8
        require(1 <= count <= MAX_RECORDS and 16 * count <= size <= MAX_RAW)
        require(header < length <= header + size + OVERHEAD + CARRIED)
        require(offset % 8 == 0 and max(end, summary.block) <= offset and offset + length <= summary.index)
        require(following <= first and first + count - 1 <= summary.last and 0 < kinds < 16)
        require(summary.low <= low and high <= summary.high)
        end, following = offset + length, first + count
    require(sum(entry[2] for entry in entries) == summary.records and sum(entry[7] for entry in entries) == summary.raw)
    following = summary.first
    for first, last, cause in lost:
        require(cause in (1, 2, 3) and following <= first <= last <= summary.last)
        require(not any(entry[1] <= last and entry[1] + entry[2] > first for entry in entries))
        following = last + 1
    return [(entry[0], entry[1], entry[2], entry[3], entry[6]) for entry in entries], lost


def parse_frame(data, at, tenant):
    """The header of a frame that stands there: its fields, and where its body begins."""
    (check, length, kinds, codec, sequence, count, stored, size, checksum, key, named,
     carried) = FRAME.unpack_from(data, at)
    require(length == (64 + named + 7) // 8 * 8 <= len(data) - at and crc32c(data[at + 4:at + length]) == check)
    require(codec in (1, 2) and 0 < kinds < 16 and sequence and parse_name(data, at + 64, named) == tenant)
    require(1 <= count <= MAX_RECORDS and sequence + count <= MAX_NUMBER)
    require(16 * count <= size <= MAX_RAW and check_lengths(stored, size, codec, key, carried))
    return check, sequence, count, codec, stored, size, checksum, key, carried, at + length


def scan(data, block, end, first, last, tenant):
    """What the index would say, from the frames as they stand; what is in none of them counts as lost."""
    frames, lost, at, following = [], [], block, first
    while at < end and len(frames) < MAX_ENTRIES:
        frame = attempt(parse_frame, data[:end], at, tenant)
        if not frame or frame[1] < following or frame[1] + frame[2] - 1 > last:
            break
        check, sequence, count, stored, body = *frame[:3], frame[4], frame[-1]
        lost += [(following, sequence - 1, 1)] * (sequence > following)
        frames.append((at, sequence, count, body - at + stored, check))
        following, at = sequence + count, (body + stored + 7) // 8 * 8
    return frames, lost + [(following, last, 1)] * (following <= last)


def read(log, block, tenant, first, last, path):
    """A segment's records, its losses, of each first and last number, whether it has an index that can be read, and
    from which number on it cannot be opened for want of a key."""
    data = path.read_bytes()
    copies = [attempt(parse_summary, data, at, log, block, tenant, path)
              for at in (0, len(data) // block * block - block) if at >= 0]
    summary, is_own = next(filter(None, copies), (None, True))
    if not is_own or summary and (summary.first, summary.last) != (first, last):
        return [], [(first, last)], True, None
    index = attempt(parse_index, data, summary) if summary else None
    frames, lost = index or scan(data, block, summary.index if summary else len(data), first, last, tenant)
    records, losses, locked = [], [(low, high) for low, high, cause in lost if cause == 1], None
    for offset, sequence, count, length, check in frames:
        rows = attempt(read_frame, data[:offset + length], offset, log, tenant, (check, sequence, count))
        if isinstance(rows, Sealed) and rows.is_locked and locked is None:
            locked = sequence
        if rows:
            records += enumerate(rows, sequence)
        else:
            losses.append((sequence, sequence + count - 1))
    return records, losses, index is not None, locked


def read_frame(data, at, log, tenant, expected):
    *found, codec, stored, size, checksum, key, carried, body = parse_frame(data, at, tenant)
    require(tuple(found) == expected and body + stored == len(data) and crc32c(data[body:]) == checksum)
    # A carried frame is bound to the commit that it was in, whose epoch it brings along.
    end = len(data) - CARRIED * carried
    epoch = int.from_bytes(data[end:], "little")
    raw = unseal(data[body:end], data[at:body], log, epoch, tenant, key)
    return parse_records(raw, tenant, found[2], codec, size)


def segmented_through(segments):
    """By tenant, the last number that its segments cover; tenants in the order of their names."""
    return {tenant: segments[tenant][-1][1] for tenant in sorted(segments, key=str.encode)}


def join(recovery, segments):
    """Puts the records of segments, tenant by tenant, before those of the journal with higher numbers."""
    rows, erased = {}, recovery.erased
    for tenant, (first, last, path) in ((name, found) for name in recovery.tenants for found in segments.get(name, ())):
        if last <= erased.get(tenant, 0):  # what is left of it is on its way out
            continue
        records, losses, has_index, locked = read(recovery.log, recovery.block, tenant, first, last, path)
        if locked is not None:
            recovery.locked[tenant] = min(locked, recovery.locked.get(tenant, locked))
        rows.update({(tenant, number): record for number, record in records})
        recovery.findings += [dict(case="segmentDamaged", loss=True, file=path.name, fileSequence=0, first=low,
                                   end=high + 1) for low, high in losses]
        if not has_index:
            recovery.findings.append(dict(case="segmentDamaged", loss=False, file=path.name, fileSequence=0, first=0,
                                          end=0))
    recovery.rows = rows | {
        name: row for name, row in recovery.rows.items() if name[1] > recovery.segmented.get(name[0], 0)}
    recovery.rows = {name: row for name, row in recovery.rows.items() if name[1] > erased.get(name[0], 0)
                     and name[1] < recovery.locked.get(name[0], MAX_NUMBER)}
    overwritten = {place for place, (tenant, last) in recovery.broken.items() if last <= erased.get(tenant, 0)}
    recovery.findings = [found for found in recovery.findings if found["case"] != "frameDamaged"
                         or (found["fileSequence"], found["first"]) not in overwritten]
    return recovery

#!/usr/bin/env python3
"""Reads a write-ahead log as SPEC.md describes it. Shares no code with the engine: where they differ, one errs.

Prints the records on standard output, what is damaged or lost on standard error, a JSON object a line. Walks the whole
journal in memory, changes nothing, assumes that nobody writes meanwhile, and ends where the device fails to read.
Exit code: 0 fine, 1 findings, 2 bad usage or no log, 3 an error on reading, another format version, no PyPI lz4.
"""
import argparse, base64, json, pathlib, re, struct, sys
from collections import namedtuple
from spec_encryption import check_lengths, unseal
VERSION, BLOCK_SIZES, MAX_NUMBER, MAX_NAME = 2, [4096, 8192, 16384, 32768, 65536], 1 << 62, 255
MAX_PAYLOAD, MAX_RAW, MAX_FRAMES, MAX_RECORDS = 1 << 24, (1 << 24) + 16, 4096, 1 << 20
MAX_COMMIT, MIN_FILE, MAX_FILE, PROOF_LENGTH = 48 << 20, 256 << 10, 16 << 30, 4 << 20
KINDS, CONTROL, CHECKPOINT_FLAG = {1: "span", 2: "log", 3: "metric", 4: "opaque"}, 0x80, 1
CURSOR, CHECKPOINT, TENANT, WATERMARK, SUBSCRIBER, DROPPED, ERASURE = range(0x81, 0x88)
# Of each control record, as far as it is of use: its number, of drops two counts, lengths of the names behind it.
LAYOUT = dict(zip(range(0x81, 0x88), ("<QHH4x", "<24xQ", "<QH6x", "<Q", "<BxHI", "<QQQ18xH4x", "<Q10xH4x")))
HEADER, COMMIT = struct.Struct("<16x16sQQQI12xQQQQQI4xQQQ"), struct.Struct("<8sIIQQQQQQ8xIIIIII")
FRAME, RECORD, COMMIT_MAGIC = struct.Struct("<IHBBQIIII16xQHB5x"), struct.Struct("<IB3sQ"), b"TWALCMT1"
Header = namedtuple("Header", "log epoch sequence capacity block first oldest prev_epoch prev_end prev_last "
                    "prev_checksum before prev_sequence floor", defaults=(0,) * 8)
Commit = namedtuple("Commit", "magic checksum frames_checksum epoch sequence offset number durable before length "
                    "headers_length bodies_length frame_count previous flags end")
# `records`: None if the body fails; [] if its checksum holds, and what a tenant's frame has are no records.
Frame = namedtuple("Frame", "tenant sequence count first end records")
LOSSES = {"headerDestroyed", "fileMissing", "fileTruncated", "commitsDamaged", "frameDamaged", "sequenceGap"}
DAMAGE = (ValueError, struct.error, RuntimeError, EOFError)  # of `require` and UTF-8, of structures cut short, of lz4
CRC_TABLE = list(range(256))  # CRC-32C of one byte
for _ in range(8):
    CRC_TABLE = [value >> 1 ^ 0x82F63B78 * (value & 1) for value in CRC_TABLE]

def refuse(reason, status=3):
    print(f"spec_reader: {reason}", file=sys.stderr)
    sys.exit(status)

def require(condition):
    if not condition:
        raise ValueError("damaged")

def attempt(decode, *arguments):
    try:
        return decode(*arguments)
    except DAMAGE:
        return None

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF

def parse_copy(data, at, size, magic, where):
    """A copy of FORMAT or of a header. Only where magic and checksum hold its version is believed."""
    copy = data[at:at + size]
    checksum, version = struct.unpack_from("<8xII", copy)
    require(len(copy) == size and copy.startswith(magic) and crc32c(copy[12:]) == checksum)
    version == VERSION or refuse(f"{where} has format version {version}, this reader knows {VERSION}")
    return copy

def parse_format(data, at):
    log, block = struct.unpack_from("<16x16sI", parse_copy(data, at, 4096, b"TWALFMT1", "FORMAT"))
    require(block in BLOCK_SIZES)
    return log, block

def parse_header(data, at, block, where):
    head = Header(*HEADER.unpack_from(parse_copy(data, at, block, b"TWALJRN1", where)))
    require(head.epoch and head.block == block and head.capacity % block == 0 and MIN_FILE <= head.capacity <= MAX_FILE)
    require(head.sequence == 0 or (
        max(head.first, head.sequence, head.before, head.floor) <= MAX_NUMBER and head.first == head.prev_last + 1
        and head.prev_end <= MAX_FILE and head.prev_sequence < head.sequence >= head.oldest > 0 < head.floor))
    return head

def parse_commit(data, at, block, log):
    fields = COMMIT.unpack_from(data, at)
    commit = Commit(*fields, end=at + fields[9])
    require(commit.magic == COMMIT_MAGIC and crc32c(log + data[at + 12:at + 96]) == commit.checksum)
    require(commit.offset == at and commit.epoch and 1 <= commit.sequence <= MAX_NUMBER and commit.before <= MAX_NUMBER)
    require(commit.durable < commit.number <= MAX_NUMBER and 1 <= commit.frame_count <= MAX_FRAMES)
    require(commit.headers_length >= 64 * commit.frame_count and commit.length <= MAX_COMMIT)
    require(commit.length % block == 0 and 96 + commit.headers_length + commit.bodies_length <= commit.length)
    return commit

def parse_frames(data, commit, log):
    """The frames of a commit that is valid in place, with their records."""
    at, end = commit.offset + 96, commit.offset + 96 + commit.headers_length
    frames, body = [], end
    require(crc32c(data[at:end]) == commit.frames_checksum)
    for _ in range(commit.frame_count):
        (check, length, kinds, codec, sequence, count, stored, size, checksum, key, named,
         carried) = FRAME.unpack_from(data, at)
        require(length == (64 + named + 7) // 8 * 8 <= end - at and crc32c(data[at + 4:at + length]) == check)
        if codec not in (1, 2):
            refuse(f"commit {commit.number} has codec {codec}: a newer writer's")
        require((kinds == CONTROL or 0 < kinds < 16) and (kinds == CONTROL) == (sequence == 0) == (named == 0))
        require(1 <= count <= MAX_RECORDS and sequence + count <= MAX_NUMBER)
        require(16 * count <= size <= MAX_RAW and check_lengths(stored, size, codec, key, carried)
                and not carried and (named or not key))
        tenant, raw = parse_name(data, at + 64, named) if named else None, data[body:body + stored]
        is_whole = crc32c(raw) == checksum
        raw = unseal(raw, data[at:at + length], log, commit.epoch, tenant, key) if is_whole else None
        records = attempt(parse_records, raw, tenant, count, codec, size) or ([] if tenant and is_whole else None)
        frames.append(Frame(tenant, sequence, count, body, body + stored, records))
        at, body = at + length, body + stored
    require(at == end and body == end + commit.bodies_length)
    return frames

def parse_records(raw, tenant, count, codec, size):
    if not isinstance(raw, bytes):
        return raw
    if codec == 2:  # exactly one LZ4 frame, no dictionary; never more than one byte too many is unpacked
        import lz4.frame
        require(len(raw) > 4 and raw.startswith(b"\x04\x22\x4d\x18") and not raw[4] & 1)
        unpacker = lz4.frame.LZ4FrameDecompressor()
        raw = unpacker.decompress(raw, max_length=size + 1)
        require(unpacker.eof and not unpacker.unused_data and len(raw) == size)
    records, at = [], 0
    for _ in range(count):
        length, kind, zero, time = RECORD.unpack_from(raw, at)
        at += RECORD.size + length
        require((kind in KINDS if tenant else kind) and zero == b"\0\0\0" and length <= MAX_PAYLOAD and at <= len(raw))
        records.append((kind, time, raw[at - length:at]))
    require(at == len(raw))
    return records if tenant else [parse_control(kind, payload) for kind, _, payload in records]

def parse_control(kind, payload):
    if kind not in LAYOUT or kind == DROPPED and len(payload) >= 48 and payload[40] not in (1, 2, 3, 4, 5):
        refuse(f"a control record has the unknown kind {kind}, or cause: a newer writer's")
    number, *lengths = values = struct.unpack_from(LAYOUT[kind], payload)
    at, lengths = struct.calcsize(LAYOUT[kind]), lengths[2:] if kind == DROPPED else lengths
    number += lengths.pop() << 8 if kind == SUBSCRIBER else 0  # the registration's
    require(max(values) <= MAX_NUMBER)
    return kind, number, [parse_name(payload, at + sum(lengths[:n]), length) for n, length in enumerate(lengths)]

def parse_name(data, at, length):
    raw = data[at:at + length]
    require(1 <= len(raw) == length <= MAX_NAME and 0 not in raw)
    return raw.decode("utf-8")

class JournalFile:
    """A journal file and its header, and how recovery came through it."""
    def __init__(self, path, block, log):
        self.path, self.name, self.block, self.log, self.start = path, path.name, block, log, 2 * block
        self.data = path.read_bytes()
        self.copies = [attempt(parse_header, self.data, at, block, path.name) for at in (0, block)]
        self.header = max(filter(None, self.copies), key=lambda header: header.sequence, default=None)
        self.stand_in = self.missing = None  # the commit for a header that is lost; number of a missing file before it
        self.end = self.start  # behind the last commit that was accepted or passed over as damaged
        self.holds_loss, self.is_accepted, self.first_numbers, self.latest = False, False, {}, (0, 0)  # its later life

    def life(self, number=None, taken=(), length=MAX_FILE):
        """The commits that prove themselves, inside others too, of one life: this number's, or the highest free."""
        places = range(self.start, min(length, len(self.data)), self.block)
        found = list(filter(None, (attempt(parse_commit, self.data, at, self.block, self.log) for at in places)))
        number = number or max({commit.sequence for commit in found}.difference(taken), default=0)
        return [commit for commit in found if commit.sequence == number]

    def commits(self):
        """The commits valid in place, with their frames."""
        found, at, limit = [], self.start, min(len(self.data), self.header.capacity)
        while at + self.block <= limit:
            commit = attempt(parse_commit, self.data, at, self.block, self.log)
            is_later = commit and commit.sequence > max(self.latest[0], self.header.sequence)
            self.latest = commit[4:2:-1] if is_later else self.latest
            is_own = commit and commit[3:5] == self.header[1:3] and commit.end <= limit
            found += [(commit, attempt(parse_frames, self.data, commit, self.log))] if is_own else []
            at = commit.end if is_own else at + self.block
        return found

class Recovery:
    """One attempt at the whole journal. `disproved`: numbers of files whose headers the log proves wrong."""
    def __init__(self, log, block, paths, disproved, segmented):
        self.log, self.block, self.findings, self.rows, self.given = log, block, [], {}, {}  # given: the last numbers
        self.tenants, self.floor, self.is_damaged = {}, 1, False  # next numbers; whether damage explains that they jump
        self.dropped, self.erased, self.locked = {}, {}, {}  # last numbers of each; first ones without a key
        self.cursors, self.segmented = {}, segmented  # by subscriber, by tenant; the last number that segments cover
        self.records = self.named = 0  # user records so far, lost ones included, and those of which the tenant is known
        self.all, self.placed, self.broken = [JournalFile(path, block, log) for path in paths], {}, {}  # bad bodies
        self.place(disproved)
        self.files = self.link()
        self.expected, self.chain = self.files[0].header.first if self.files else 1, None
        self.is_known = self.expected == 1  # whether sequence numbers are known, so that a jump means loss
        for file, behind in zip(self.files, self.files[1:] + [None]):
            self.walk(file, behind)
        self.tenants |= {name: max(self.tenants.get(name, self.floor), segmented[name] + 1) for name in segmented}
        self.accepted = [file.header.sequence for file in self.files if file.is_accepted]
        lives = {file.header.sequence: file.header.epoch for file in self.files if file.is_accepted}
        excused = [file.missing for place, file in enumerate(self.files) if self.is_delivered(place)]  # no loss
        excused += [file.header.sequence for place, file in enumerate(self.files) if file.holds_loss and (
            self.is_delivered(place + 1) or file.latest[0] > max(self.accepted, default=MAX_NUMBER)
            or lives.get(file.latest[0], file.latest[1]) != file.latest[1])]
        self.findings = [found for found in self.findings if not found["loss"] or found["fileSequence"] not in excused]

    def report(self, case, file, first, end, number=None):
        loss, number = case in LOSSES, number or (file.header.sequence if file.header else 0)
        file.holds_loss |= loss and case not in ("fileMissing", "sequenceGap")
        self.is_damaged |= case in ("fileMissing", "sequenceGap", "commitsDamaged")
        self.findings.append(dict(case=case, loss=loss, file=file.name, fileSequence=number, first=first, end=end))

    def place(self, disproved):
        """Finds the files by number: those with whole headers, then those whose commits prove themselves."""
        lost = []
        for file in self.all:
            if any(copy and copy.log != self.log for copy in file.copies):
                file.header = None
                self.report("fileForeign", file, 0, len(file.data))
            elif not file.header or disproved.get(file.path, file.header.sequence) != file.header.sequence:
                lost.append(file)
            elif file.header.sequence:
                self.placed.setdefault(file.header.sequence, []).append(file)
                if None in file.copies:
                    self.report("headerCopyDamaged", file, 0, file.start)
        for number, twins in self.placed.items():
            if len(twins) > 1:  # of equals the first by name stays first
                twins.sort(key=lambda file: -max([0] + [commit.number for commit, frames in file.commits() if frames]))
            self.placed[number], *others = twins
            for other in others:
                self.report("fileDuplicated", other, 0, len(other.data))
        whole, taken = [file.header for file in self.placed.values()], {*self.placed, *disproved.values()}
        while lost:  # one by one: what number one of them has, none of the others can have
            lives = [(file.life(disproved.get(file.path), taken), file) for file in lost]
            life, file = min(lives, key=lambda pair: ([c[4:6] for c in pair[0][:1]] or [(2 << 62,)], pair[1].name))
            lost.remove(file)
            taken.update(commit.sequence for commit in life)
            self.prove(file, life, file.path in disproved, whole)

    def prove(self, file, commits, disproved, whole):
        """Places a file whose header is lost, if its commits are of its present life."""
        newest = max(whole, key=lambda header: header.sequence, default=None)
        first = file.stand_in = commits[0] if commits else None
        is_live = first and (not newest or first.sequence > newest.sequence or any(
            (header.prev_epoch, header.prev_sequence) == (first.epoch, first.sequence) for header in whole))
        is_proved = disproved or first and (
            first.offset == file.start or any(commit.durable >= first.number for commit in commits))
        if first and first.sequence not in self.placed and (is_live or is_proved and first.sequence >= newest.oldest):
            self.placed[first.sequence] = file
            file.header = Header(self.log, first.epoch, first.sequence, len(file.data), file.block, first.number,
                                 prev_last=first.number - 1, before=first.before)
        else:
            file.header = None
            self.report("headerDestroyed", file, 0, len(file.data))

    def link(self):
        """The chain of files, from the oldest to the newest."""
        files, oldest, file = [], 1, self.placed.get(max(self.placed, default=0))
        while file:
            files.insert(0, file)
            oldest = file.header.oldest or 1 if oldest == 1 else oldest
            lower = [number for number in self.placed if oldest <= number < file.header.sequence]
            target = max(lower, default=0) if file.stand_in else file.header.prev_sequence
            if target >= oldest and target not in self.placed:
                file.missing = target
                target = max((number for number in lower if number < target), default=0)
            file = self.placed[target] if target >= oldest else None
        return files

    def walk(self, file, behind):
        """Walks a file of the chain. `behind`: the file after it."""
        head, first, seal, bound = file.header, file.stand_in, None, 0
        file.missing and self.report("fileMissing", file, 0, head.capacity, file.missing)
        self.chain, self.expected = (None, self.expected) if first else (head.prev_checksum, head.first)
        first and self.report("headerLost", file, 0, file.start)  # what is missing at its head follows the file before
        first and file is self.files[0] and first.offset > file.start and self.skip(file, first.offset, first.number)
        self.records, self.floor = max(self.records, head.before), max(self.floor, head.floor)
        if behind and behind.header.prev_sequence == head.sequence:
            seal, bound = behind.header, behind.header.prev_last
        elif behind and behind.stand_in and behind.stand_in.offset == behind.start:
            bound = behind.header.first - 1
        found = file.commits()
        vouched = max([bound] + [commit.durable for commit, _ in found])
        for commit, parts in found:
            if seal and commit.offset >= seal.prev_end or bound and commit.number > bound:
                vouched = bound  # supersededTail
                break
            if commit.number < self.expected or (
                    parts and commit.number == self.expected and self.chain not in (None, commit.previous)):
                continue  # passed over; the latter is chainBroken
            torn = commit.number > vouched and (not parts or any(frame.records is None for frame in parts))
            is_between = self.expected <= vouched and self.expected < commit.number and (parts or torn)
            is_between and self.skip(file, commit.offset, commit.number)
            if torn or vouched < self.expected < commit.number:
                break  # tornTail
            self.accept(file, commit, parts) if parts else self.skip(file, commit.end, commit.number+1, commit.checksum)
        if self.expected <= vouched:
            self.skip(file, max(seal.prev_end if seal else head.capacity, file.end + file.block), vouched + 1)
        len(file.data) < head.capacity and self.report("fileTruncated", file, len(file.data), head.capacity)

    def accept(self, file, commit, frames):
        """Takes a commit's records and state."""
        self.records, head = max(self.records, commit.before), file.header
        control = [frame.records for frame in frames if not frame.tenant]
        is_checkpoint = commit.flags & CHECKPOINT_FLAG and None not in control
        None in control and self.report("frameDamaged", file, commit.offset, commit.end)
        self.is_damaged |= None in control
        self.cursors = {} if is_checkpoint else self.cursors
        for kind, number, names in (record for records in control for record in records or ()):
            self.apply(file, kind, number, *names, is_checkpoint=is_checkpoint)
        if is_checkpoint:
            self.is_known, self.is_damaged, self.named = True, False, self.records
        for frame in (frame for frame in frames if frame.tenant):
            self.records += frame.count
            self.advance(file, commit.offset, frame.tenant, frame.sequence, frame.sequence + frame.count)
            for number, record in enumerate(frame.records or (), frame.sequence):
                if number > self.given.get(frame.tenant, 0):
                    self.rows[frame.tenant, number], self.given[frame.tenant] = record, number
            if frame.records:
                getattr(frame.records, "is_locked", False) and self.locked.setdefault(frame.tenant, frame.sequence)
                file.first_numbers.setdefault(frame.tenant, frame.sequence)
            else:
                self.broken[head.sequence, frame.first] = frame.tenant, frame.sequence + frame.count - 1
                self.report("frameDamaged", file, frame.first, frame.end)
        self.chain, self.expected, file.end, file.is_accepted = commit.checksum, commit.number + 1, commit.end, True

    def apply(self, file, kind, number, name=None, tenant=None, is_checkpoint=False):
        if kind == CHECKPOINT:
            self.floor = max(self.floor, number)
        elif kind == TENANT:  # outside a checkpoint the tenant comes from another journal of the log: no jump
            self.advance(file, file.start, name, number if is_checkpoint else 0, number)
        elif kind == CURSOR and name in self.cursors:
            self.tenants.setdefault(tenant, self.floor)
            self.cursors[name][tenant] = max(number, self.cursors[name].get(tenant, 0))
        elif kind in (DROPPED, ERASURE):
            self.tenants.setdefault(name, self.floor)
            for numbers in [self.dropped, self.erased][:kind - DROPPED + 1]:
                numbers[name] = max(number, numbers.get(name, 0))
        elif kind == SUBSCRIBER:
            row = self.cursors.pop(name, {})  # with the number of the registration under None
            row = {} if 0 < row.get(None, 0) != number >> 8 > 0 else row
            self.cursors |= {name: row | {None: number >> 8}} if number & 255 == 1 else {}

    def advance(self, file, offset, tenant, first, following):
        """Moves a tenant's next number. Numbers that jump belong to the damage before them, or else are a finding."""
        known = self.tenants.get(tenant, self.floor)
        first > known and self.is_known and not self.is_damaged and self.report("sequenceGap", file, offset, offset)
        self.named += max(0, following - known)
        self.tenants[tenant] = max(known, following)

    def skip(self, file, end, expected, chain=None):
        """Passes over commits that were acknowledged and cannot be used, from the end of the last one on."""
        self.report("commitsDamaged", file, file.end, end)
        file.end, self.expected, self.chain = end, expected, chain

    def is_delivered(self, place):
        """Whether nobody is promised anything that stood before a file of the chain, but what segments have."""
        for tenant, number in self.tenants.items():
            through, dropped = [row.get(tenant, 0) for row in self.cursors.values()] or [0], self.dropped.get(tenant, 0)
            following = max(number + max(0, self.records - self.named), max(through) + 1, dropped + 1)
            behind = [file.first_numbers[tenant] for file in self.files[place:] if tenant in file.first_numbers]
            if max(min(through), dropped, self.segmented.get(tenant, 0)) + 1 < (behind + [following])[0]:
                return False
        return bool(self.cursors or self.segmented or any(self.dropped.values())) and place < len(self.files)

    def disproved(self):
        """Files whose headers the log proves wrong, with the sequence numbers that they have instead."""
        told = [found["fileSequence"] for found in self.findings if found["case"] == "fileMissing"]
        missing = [(file.missing, file.header.prev_epoch) for file in self.files if file.missing in told]
        oldest, proved = ([MAX_NUMBER] + [file.header.oldest for file in self.files if file.header.oldest])[-1], {}
        for file in (file for file in self.all if file.header and not file.stand_in and not file.is_accepted):
            claims = [c for number, epoch in missing for c in file.life(number) if c.epoch == epoch]
            life = file.life(length=PROOF_LENGTH)
            if not claims and life and file.header.sequence < life[0].sequence not in self.accepted and (
                    life[-1].durable >= self.expected or life[-1].durable >= life[0].number
                    and self.accepted and min(self.accepted[0] + 1, oldest) <= life[0].sequence < self.accepted[-1]):
                claims = life if dict(missing).get(life[-1].sequence, life[-1].epoch) == life[-1].epoch else []
            for claim in sorted(claims, key=lambda commit: commit.offset)[:1]:
                proved[claim.sequence] = min(proved.get(claim.sequence, (MAX_FILE,)), (claim.offset, file.path))
        return {path: number for number, (_, path) in proved.items()}

def recover(root):
    """Recovery, begun again while the rest of the log proves headers wrong."""
    paths = [path for path in sorted(root.glob("journal/*.journal")) if re.fullmatch("0*[0-9a-fA-F]{1,12}", path.stem)]
    data = (root / "FORMAT").read_bytes() if (root / "FORMAT").exists() else b""
    found = [next(filter(None, (attempt(parse_format, data, at) for at in (0, 4096))), None)]
    if not found[0]:  # FORMAT is lost: the same stands in the files' headers
        heads = (attempt(parse_header, data, at, size, path.name)
                 for path in paths for data in [path.read_bytes()] for size in BLOCK_SIZES for at in (0, size))
        found = [(head.log, head.block) for head in heads if head]
    if len({log for log, _ in found}) != 1:
        refuse(f"{root}: no whole FORMAT, and journal files of {'different logs' if found else 'no log'}", status=2)
    import spec_segments
    disproved, more, segments = {}, True, spec_segments.find(root)
    while more:
        recovery = Recovery(*found[0], paths, disproved, spec_segments.segmented_through(segments))
        more = {path: number for path, number in recovery.disproved().items() if path not in disproved}
        disproved.update(more)
    return spec_segments.join(recovery, segments)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=pathlib.Path, help="the log's directory")
    try:
        import spec_placements
        recovery = spec_placements.join(root := parser.parse_args().root, recover(root))
    except (OSError, ImportError) as problem:
        refuse(problem)
    for (tenant, sequence), (kind, time, payload) in recovery.rows.items():
        print(json.dumps(dict(tenant=tenant, sequence=sequence, kind=KINDS[kind], timestamp=time,
                              payload=base64.b64encode(payload).decode())))
    sys.stderr.writelines(json.dumps(finding) + "\n" for finding in recovery.findings)
    return int(bool(recovery.findings or recovery.locked))

if __name__ == "__main__":
    sys.exit(main())

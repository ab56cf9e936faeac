#!/usr/bin/env python3
"""A second reader of the write-ahead log, written from SPEC.md alone.

It shares no code with the Swift reader: where the two disagree, SPEC.md or one of them is wrong. It walks the whole
journal as "Recovery" there says, changes nothing, and assumes that nobody writes the log meanwhile.
Exit code: 0 no loss, 1 loss, 2 no such log or one of another version, 3 an error on reading, or no lz4.
"""
import argparse, hashlib, json, re, struct, sys
from collections import namedtuple
from pathlib import Path
try:
    import lz4.frame
except ImportError:
    sys.exit(print("spec_reader: the Python package lz4 is needed: pip install lz4", file=sys.stderr) or 3)

VERSION, BLOCK_SIZES, MAX_NUMBER, MAX_NAME = 1, [4096, 8192, 16384, 32768, 65536], 1 << 62, 255
MAX_PAYLOAD, MAX_RAW, MAX_FRAMES, MAX_RECORDS = 1 << 24, (1 << 24) + 16, 4096, 1 << 20
MAX_COMMIT, MIN_FILE, MAX_FILE = 48 << 20, 256 << 10, 16 << 30
PROOF_LENGTH = 4 << 20  # how far "headers that are proved wrong" looks into a file
KINDS, CONTROL = {1: "span", 2: "log", 3: "metric", 4: "opaque"}, 0x80  # names of kinds; kinds bit of control frames
CURSOR, CHECKPOINT, TENANT, WATERMARK, SUBSCRIBER = range(0x81, 0x86)
# Of each control record: form and offset of its number, length without its names, where the names' lengths stand.
LAYOUT = {CURSOR: ("<Q", 0, 16, (8, 10)), CHECKPOINT: ("<Q", 24, 32, ()), TENANT: ("<Q", 0, 16, (8,)),
          WATERMARK: ("<Q", 0, 8, ()), SUBSCRIBER: ("<B", 0, 8, (2,))}
HEADER, COMMIT = struct.Struct("<8sII16sQQQII8xQQQQQI4xQQ"), struct.Struct("<8sIIQQQQQQ8xIIIIII")
FRAME, RECORD = struct.Struct("<IHBBQIIII16xQH6x"), struct.Struct("<IB3sQ")
COMMIT_MAGIC = b"TWALCMT1"
Header = namedtuple("Header", "log epoch sequence capacity block zero first oldest prev_epoch prev_end prev_last "
                    "prev_checksum before prev_sequence prev_life")
Commit = namedtuple("Commit", "checksum frames_checksum epoch sequence offset number durable before length "
                    "headers_length bodies_length frame_count previous flags end")
Frame = namedtuple("Frame", "tenant kinds codec sequence count body stored raw checksum")
# What bytes that fail their checks raise: `require`, names that are not UTF-8, structures cut short, the LZ4 library.
DAMAGE = (ValueError, struct.error, RuntimeError, EOFError)

# CRC-32C: what two bytes make of it, and two bytes with two more zero bytes behind them.
CRC_HIGH = list(range(65536))
for _ in range(16):
    CRC_HIGH = [value >> 1 ^ 0x82F63B78 * (value & 1) for value in CRC_HIGH]
CRC_LOW = [value >> 16 ^ CRC_HIGH[value & 0xFFFF] for value in CRC_HIGH]

class Refused(Exception):
    """This is no log, or one that a reader of version 1 must not read."""

def require(condition):
    if not condition:
        raise ValueError("damaged")

def crc32c(data):
    crc, words = 0xFFFFFFFF, len(data) // 4 * 4
    for word, in struct.iter_unpack("<I", data[:words]):
        word ^= crc
        crc = CRC_LOW[word & 0xFFFF] ^ CRC_HIGH[word >> 16]
    for byte in data[words:]:
        crc = crc >> 8 ^ CRC_HIGH[(crc ^ byte) << 8 & 0xFFFF]
    return crc ^ 0xFFFFFFFF

def is_whole(copy, magic, size, where):
    """Whether magic and checksum of a copy of FORMAT or of a header hold. Only then its version is believed."""
    checksum, version = struct.unpack_from("<8xII", copy) if len(copy) >= size else (0, 0)
    if not copy.startswith(magic) or len(copy) < size or crc32c(copy[12:size]) != checksum:
        return False
    if version != VERSION:
        raise Refused(f"{where} has format version {version}, this reader knows {VERSION}")
    return True

def parse_header(copy, block, where):
    """A whole copy of a journal file's header, or None."""
    if not is_whole(copy, b"TWALJRN1", block, where):
        return None
    fields = HEADER.unpack_from(copy)[3:]
    head = Header(*fields, prev_life=(fields[-1], fields[8]))
    good = (head.epoch and head.sequence <= MAX_NUMBER and head.block == block and head.capacity % block == 0
            and MIN_FILE <= head.capacity <= MAX_FILE)
    placed = (head.first == head.prev_last + 1 <= MAX_NUMBER and 1 <= head.oldest <= head.sequence
              and head.prev_end <= MAX_FILE and head.before <= MAX_NUMBER and head.prev_sequence < head.sequence)
    return head if good and (placed or head.sequence == 0) else None

def parse_commit(data, offset, block):
    """The commit header at `offset` if its magic, checksum, bounds and offset hold, or None."""
    if not data.startswith(COMMIT_MAGIC, offset) or len(data) - offset < COMMIT.size:
        return None
    fields = COMMIT.unpack_from(data, offset)[1:]
    commit = Commit(*fields, end=offset + fields[8])
    good = (crc32c(data[offset + 12:offset + 96]) == commit.checksum and commit.offset == offset
            and commit.epoch and 1 <= commit.sequence <= MAX_NUMBER and commit.before <= MAX_NUMBER
            and commit.durable < commit.number <= MAX_NUMBER and 1 <= commit.frame_count <= MAX_FRAMES
            and commit.length % block == 0 and commit.length <= MAX_COMMIT
            and commit.headers_length >= 64 * commit.frame_count
            and 96 + commit.headers_length + commit.bodies_length <= commit.length)
    return commit if good else None

def parse_name(data, at, length):
    raw = data[at:at + length]
    require(1 <= len(raw) == length <= MAX_NAME and 0 not in raw)
    return raw.decode("utf-8")

def parse_frames(data, commit):
    """All frame headers of a commit that is valid in place."""
    start = commit.offset + COMMIT.size
    raw = data[start:start + commit.headers_length]
    require(crc32c(raw) == commit.frames_checksum)
    frames, at, body = [], 0, start + len(raw)
    for _ in range(commit.frame_count):
        head_sum, length, kinds, codec, sequence, count, stored, size, checksum, key, named = FRAME.unpack_from(raw, at)
        require(length == (64 + named + 7) // 8 * 8 <= len(raw) - at and crc32c(raw[at + 4:at + length]) == head_sum)
        if codec > 2 or key:
            raise Refused(f"commit {commit.number} has codec {codec} and key identifier {key}: a newer writer's")
        require(codec and (kinds == CONTROL or 0 < kinds < 16) and sequence + count <= MAX_NUMBER)
        require((kinds == CONTROL) == (sequence == 0) == (named == 0) and 1 <= count <= MAX_RECORDS)
        require(16 * count <= size <= MAX_RAW and 1 <= stored <= size and (codec == 2 or stored == size))
        tenant = None if kinds == CONTROL else parse_name(raw, at + 64, named)
        frames.append(Frame(tenant, kinds, codec, sequence, count, body, stored, size, checksum))
        at, body = at + length, body + stored
    require(at == len(raw) and body == start + len(raw) + commit.bodies_length)
    require(sum(frame.count for frame in frames) <= MAX_RECORDS)
    return frames

def open_body(data, frame):
    """A frame's records: control records decoded, of user records (kind, time, length, digest). None if it fails."""
    raw, records, at = data[frame.body:frame.body + frame.stored], [], 0
    try:
        require(crc32c(raw) == frame.checksum)
        if frame.codec == 2:  # exactly one LZ4 frame, no dictionary; never more than one byte too many is unpacked
            require(len(raw) > 4 and raw.startswith(b"\x04\x22\x4d\x18") and not raw[4] & 1)
            unpacker = lz4.frame.LZ4FrameDecompressor()
            raw = unpacker.decompress(raw, max_length=frame.raw + 1)
            require(unpacker.eof and not unpacker.unused_data and len(raw) == frame.raw)
        for _ in range(frame.count):
            length, kind, zero, time = RECORD.unpack_from(raw, at)
            at += RECORD.size + length
            require(kind and zero == b"\0\0\0" and length <= MAX_PAYLOAD and at <= len(raw))
            payload = raw[at - length:at]
            if frame.kinds == CONTROL:
                records.append(parse_control(kind, payload))
            else:
                require(kind in KINDS and frame.kinds & 1 << kind - 1)
                records.append((KINDS[kind], time, length, hashlib.sha256(payload).hexdigest()))
        require(at == len(raw))
    except DAMAGE:
        return None
    return records

def parse_control(kind, payload):
    """A control record: its kind, the number in it, and its names."""
    require(kind >= 0x80)  # a user record's kind is no newer writer's control record: it is wrong here
    if kind not in LAYOUT:
        raise Refused(f"a control record has the unknown kind {kind}: a newer writer's")
    form, place, at, lengths = LAYOUT[kind]
    number, names = struct.unpack_from(form, payload, place)[0], []
    require(len(payload) >= at and number <= MAX_NUMBER)
    for place in lengths:
        length = struct.unpack_from("<H", payload, place)[0]
        names.append(parse_name(payload, at, length))
        at += length
    return kind, number, *names

class JournalFile:
    """A journal file, and its place in the log: what its header states, or the first of its commits instead."""

    def __init__(self, path, block, log, proof):
        data = path.read_bytes()
        self.path, self.name, self.block, self.size, self.header = path, path.name, block, len(data), None
        self.copies = [parse_header(data[at:at + block], block, self.name) for at in (0, block)]
        head = max(filter(None, self.copies), key=lambda header: header.sequence, default=None)
        self.foreign = head is not None and head.log != log
        self.sequence, self.life, self.capacity, self.tail = 0, None, self.size // block * block, 0
        self.missing = self.seal = None  # number of a missing file before this one; a file no part of the log behind it
        self.checkpoint = None  # every tenant's next number, as this file's checkpoint states it
        if proof:
            self.begin_with(proof)
        elif head:
            self.header, self.first, self.expected, self.capacity = head, head.first, head.first, head.capacity
            self.sequence, self.life = head.sequence, (head.sequence, head.epoch)

    def begin_with(self, commit):
        """Takes the place that the first commit found states: if that is not at the head, one before it is missing."""
        self.sequence, self.life, self.first = commit.sequence, (commit.sequence, commit.epoch), commit.number
        self.expected = self.first - (commit.offset > 2 * self.block)

    def latest(self, length=MAX_FILE):
        """The commits of the highest file sequence number that prove themselves, for want of headers to rely on."""
        found = [commit for commit in self.commits(self.path.read_bytes(), True)[0] if commit.offset < length]
        highest = max((commit.sequence for commit in found), default=0)
        return [commit for commit in found if commit.sequence == highest]

    def commits(self, data, any_life=False):
        """Commits valid in place, and ends of blocks that only begin so. Or all that prove themselves, of any life."""
        commits, stubs, at, limit = [], [], 2 * self.block, min(len(data), self.capacity)
        while at + self.block <= limit:
            magic, epoch, sequence = struct.unpack_from("<8s8xQQ", data, at)
            commit = parse_commit(data, at, self.block)
            ours, at = magic == COMMIT_MAGIC and (sequence, epoch) == self.life, at + self.block
            if commit and (any_life or ours and commit.end <= limit):
                commits.append(commit)
                at = at if any_life else commit.end
            elif ours:
                stubs.append(at)
        return commits, stubs

    def rank(self):
        """Of files with one sequence number: whole headers before lost ones, then the one that reaches further."""
        commits = self.commits(self.path.read_bytes())[0]
        return self.header is not None, max((commit.number for commit in commits), default=0)

    def walk(self, following):
        """Yields (None, first, end) for damage and (commit, frames, bodies), with None for a body that fails."""
        data, seal = self.path.read_bytes(), following and following.header
        commits, stubs = self.commits(data)
        vouched = max([commit.durable for commit in commits] + [following.first - 1 if following else 0])
        seal = seal if seal and seal.prev_life == self.life else None
        expected, chain = self.expected, self.header.prev_checksum if self.header else None
        position, torn = 2 * self.block, False
        for commit in commits:
            if seal and (commit.offset >= seal.prev_end or commit.number > seal.prev_last):
                break  # supersededTail
            if commit.number < expected or commit.number == expected and chain not in (None, commit.previous):
                continue  # passed over; the latter is chainBroken
            torn = commit.number > expected > vouched
            if torn:
                break
            if commit.number > expected:
                yield None, position, commit.offset
                position = commit.offset
            try:
                frames = parse_frames(data, commit)
                bodies = [open_body(data, frame) for frame in frames]
            except DAMAGE:
                frames, bodies = None, [None]
            torn = None in bodies and commit.number > vouched
            expected = commit.number + (not torn)
            if torn:
                break
            yield (commit, frames, bodies) if frames else (None, commit.offset, commit.end)
            position, chain = commit.end, commit.checksum
        if expected <= vouched:
            yield None, position, max(position, seal.prev_end if seal else self.capacity)
        elif not seal and (torn or max(stubs, default=0) > position):
            self.tail = max(stubs + [commit.end for commit in commits]) - position

class Recovery:
    """One attempt at the whole journal. `proofs`: files whose headers are proved wrong, and their first commits."""

    def __init__(self, log, block, paths, proofs):
        self.files = [JournalFile(path, block, log, proofs.get(path)) for path in paths]
        self.tenants, self.subscribers, self.cursors, self.floor, self.rows = {}, set(), {}, 1, {}
        self.unsure = True  # whether numbers and control records may be lost that no checkpoint has repeated yet
        self.findings, self.last, self.dropped = [], None, []  # dropped: no part of the log, but their seals hold
        self.place_files([file for file in self.files if not file.foreign])
        self.chain = self.link(dict(self.placed))
        for file in self.files:
            if file.foreign:
                self.report("fileForeign", file, 0, file.size)
            elif not file.sequence and not file.header:
                self.report("headerDestroyed", file, 0, file.size, True)
            elif self.chain and self.chain[0].sequence <= file.sequence and self.placed[file.sequence] is not file:
                self.report("fileDuplicated", file, 0, file.size)
        for file, following in zip(self.chain, self.chain[1:] + [None]):
            self.read(file, following)
        self.tail = sum(file.tail for file in self.chain[-1:] + self.dropped)
        self.findings = [found for found, inside in self.findings if not inside or not self.delivered(found, inside)]

    def report(self, case, file, first, end, loss=False, inside=None):
        """`inside`: a file of the log, for a loss that does not count when all that this file held was delivered."""
        name, number = (None, file.missing) if case == "fileMissing" else (file.name, file.sequence)
        self.findings.append((dict(case=case, file=name, fileSequence=number, first=first, end=end, loss=loss), inside))

    def place_files(self, files):
        """Finds the files by number: those with whole headers, and those whose commits prove themselves."""
        whole = [file.header for file in files if file.header and file.sequence]
        highest = max(whole, key=lambda header: header.sequence, default=None)
        for file in (file for file in files if not file.header and not file.sequence):
            commits = file.latest()
            first = commits[0] if commits else None
            if first and (
                    not highest or first.sequence > highest.sequence
                    or any(head.prev_life == (first.sequence, first.epoch) for head in whole)
                    or first.sequence >= highest.oldest and (first.offset == 2 * file.block or any(
                        commit.durable >= first.number for commit in commits))):
                file.begin_with(first)
        self.placed = {}
        for file in (file for file in files if file.sequence):
            other = self.placed.setdefault(file.sequence, file)
            if other is not file and file.rank() > other.rank():  # of equals the first by name stays
                self.placed[file.sequence] = file

    def link(self, members):
        """The chain of files from the oldest to the newest."""
        while members:
            newest = members[max(members)]
            head, chain = newest.header, [newest]
            seals = [file for file in self.dropped if file.header and file.header.prev_life == newest.life]
            newest.seal = seals[0] if seals else None
            # Dropped is a newest file without commits and damage, but not one that names a missing file.
            if (newest.size < newest.capacity or next(newest.walk(newest.seal), None) or head and (
                    None in newest.copies or head.oldest <= head.prev_sequence and head.prev_sequence not in members)):
                break
            self.dropped.append(members.pop(newest.sequence))
        else:
            return []
        oldest = next((members[n].header.oldest for n in sorted(members, reverse=True) if members[n].header), 1)
        while True:
            lower = [n for n in members if oldest <= n < chain[0].sequence]
            target = chain[0].header.prev_sequence if chain[0].header else max(lower, default=0)
            if target >= oldest and target not in members:
                chain[0].missing = target
                target = max((n for n in lower if n < target), default=0)
            if target < oldest:
                return chain
            chain.insert(0, members[target])

    def read(self, file, following):
        """Walks one file of the chain."""
        if file.missing:
            self.unsure = True
            # At the old end the cursors can tell that everybody has what it held.
            self.report("fileMissing", file, 0, 0, True, file if file is self.chain[0] else None)
        if not file.header:
            self.report("headerLost", file, 0, 2 * file.block)
        elif None in file.copies:
            lost = file.copies.index(None) * file.block
            self.report("headerCopyDamaged", file, lost, lost + file.block)
        if following and following.missing:
            following = None  # the seal is lost with the missing file, and what that held is no loss of this one
        for commit, *values in file.walk(following or file.seal):
            if not commit:
                self.unsure = True
                self.report("commitsDamaged", file, *values, True, file)
                continue
            self.last = commit
            for frame in (frame for frame, body in zip(*values) if body is None):
                self.report("frameDamaged", file, frame.body, frame.body + frame.stored, True, file)
            if self.accept(file, commit, *values):
                self.report("sequenceGap", file, commit.offset, commit.end, True, file)
        if file.size < file.capacity:
            self.report("fileTruncated", file, file.size, file.capacity, True, file)

    def accept(self, file, commit, frames, bodies):
        """Takes a commit's records and state. Returns whether numbers are missing that no damage explains."""
        control_lost = any(frame.kinds == CONTROL and body is None for frame, body in zip(frames, bodies))
        checkpoint, gap = commit.flags & 1 and not control_lost, False
        self.unsure = self.unsure or control_lost
        if checkpoint:
            self.subscribers, self.cursors = set(), {}
        for frame, body in zip(frames, bodies):
            if frame.kinds == CONTROL:
                gap |= any([self.control(*record) for record in body or []])
                continue
            gap |= self.advance(frame.tenant, frame.sequence, frame.sequence + frame.count)
            for number, record in enumerate(body or [], frame.sequence):
                self.rows.setdefault((frame.tenant, number), record)
        if checkpoint:
            self.unsure, file.checkpoint = False, dict(self.tenants)
        return gap

    def control(self, kind, number, *names):
        """Takes a control record. Returns whether it shows that numbers are missing."""
        if kind == CHECKPOINT:
            self.floor = max(self.floor, number)  # 0 means 1
        elif kind == CURSOR and names[0] in self.subscribers:
            self.cursors[tuple(names)] = max(number, self.cursors.get(tuple(names), 0))
        elif kind == SUBSCRIBER and number == 1:
            self.subscribers.add(names[0])
        elif kind == SUBSCRIBER:
            self.subscribers.discard(names[0])
            self.cursors = {key: value for key, value in self.cursors.items() if key[0] != names[0]}
        return kind == TENANT and self.advance(names[0], number, number)

    def advance(self, tenant, number, following):
        """Moves a tenant's next number. Returns whether it jumps and nothing explains that."""
        jumps = number > self.tenants.get(tenant, self.floor)
        self.tenants[tenant] = max(self.tenants.get(tenant, 0), following)
        return jumps and not self.unsure

    def delivered(self, finding, file):
        """Rows damagedDelivered and fileMissingDelivered: every subscriber has all that the file held."""
        missing, place = finding["case"] == "fileMissing", self.chain.index(file)
        before = {} if missing else file.checkpoint or {}
        behind = [later.checkpoint for later in self.chain[place + (not missing):] if later.checkpoint is not None]
        subscribers = not self.unsure and behind and self.subscribers
        return bool(subscribers) and all(
            self.cursors.get((subscriber, tenant), 0) >= number - 1 for subscriber in subscribers
            for tenant, number in behind[0].items() if number > before.get(tenant, 1))

    def proved_wrong(self):
        """A file whose headers are proved wrong, as (path, first commit), or None."""
        numbers, last = [file.sequence for file in self.chain], self.last.number if self.last else 0
        missing = [found["fileSequence"] for found in self.findings if found["case"] == "fileMissing"]
        for file in (file for file in self.files if file.header and not file.foreign and file not in self.chain):
            for commit in file.commits(file.path.read_bytes(), True)[0] if missing else []:
                if commit.sequence in missing:
                    return file.path, commit
            same = file.latest(PROOF_LENGTH)
            if same and same[0].sequence > file.sequence and (same[-1].durable > last or numbers and (
                    min(numbers) < same[0].sequence < max(numbers) and same[-1].durable >= same[0].number)):
                return file.path, same[0]
        return None

def recover(root):
    """Recovery, begun again for each file whose headers the rest of the log proves wrong."""
    if not root.is_dir():
        raise Refused(f"{root} is no directory")
    paths = [path for path in sorted(root.glob("journal/*.journal"), key=lambda path: path.name)
             if re.fullmatch("[0-9a-fA-F]+", path.stem) and int(path.stem, 16) < 1 << 48 and path.is_file()]
    data, proofs = (root / "FORMAT").read_bytes() if (root / "FORMAT").exists() else b"", {}
    copies = [copy for copy in (data[:4096], data[4096:8192]) if is_whole(copy, b"TWALFMT1", 4096, "FORMAT")]
    found = [struct.unpack_from("<16sI", copy, 16) for copy in copies]
    found = [(log, block) for log, block in found if block in BLOCK_SIZES][:1]
    for path in [] if found else paths:  # FORMAT is lost
        data = path.read_bytes()
        heads = (parse_header(data[at:at + size], size, path.name) for size in BLOCK_SIZES for at in (0, size))
        found += [(head.log, head.block) for head in heads if head]
    if len({log for log, _ in found}) != 1:
        raise Refused(f"{root}: no whole FORMAT, and journal files of " + ("different logs" if found else "no log"))
    while True:
        recovery = Recovery(*found[0], paths, proofs)
        proof = recovery.proved_wrong()
        if not proof:
            return recovery
        proofs[proof[0]] = proof[1]

def main():
    parser = argparse.ArgumentParser(description="Reads a write-ahead log as SPEC.md describes it.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--tenant", help="only this tenant's records")
    parser.add_argument("--findings", action="store_true", help="what is damaged or lost instead of the records")
    options = parser.parse_args()
    try:
        recovery = recover(options.root)
    except (Refused, OSError) as problem:
        print(f"spec_reader: {problem}", file=sys.stderr)
        return 2 if isinstance(problem, Refused) else 3
    lines = [dict(zip(("tenant", "sequence", "kind", "timestamp", "length", "sha256"), key + record))
             for key, record in recovery.rows.items() if options.tenant in (None, key[0])]
    if options.findings:
        number, flags = (recovery.last.number, recovery.last.flags) if recovery.last else (0, 0)
        lines = recovery.findings + [dict(lastCommit=number, tornTail=recovery.tail, closed=flags & 4 != 0)]
    for line in lines:
        print(json.dumps(line))
    return int(any(finding["loss"] for finding in recovery.findings))

if __name__ == "__main__":
    sys.exit(main())

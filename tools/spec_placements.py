"""Reads PLACEMENTS and joins the journals that it names, as SPEC.md ("Placements") describes it."""
import pathlib, struct
from spec_reader import MAX_NUMBER, attempt, crc32c, parse_name, recover, refuse, require

MAGIC, BLOCK, MAX_LENGTH, MAX_DIRECTORY = b"TWALPLC1", 4096, 1 << 20, 4096


def parse_copy(data, log):
    """A copy of the table: by tenant its residences (first number, directory or None for the shared journal, place in the
    table)."""
    checksum, version, owner, length, count, accounts, _ = struct.unpack_from("<8xII16s8xIIII", data)
    require(data.startswith(MAGIC) and BLOCK <= length <= min(len(data), MAX_LENGTH) and length % BLOCK == 0)
    require(crc32c(data[12:length]) == checksum)
    if version != 2:
        refuse(f"PLACEMENTS has format version {version}")
    require(owner == log and count <= 4096 and accounts <= 8192)
    at, tenants = 56, {}
    for entry in range(count):
        first, kind, zero, named, directed = struct.unpack_from("<QBBHI", data[:length], at)
        end = at + 16 + named + directed
        require(1 <= first <= MAX_NUMBER and zero == 0 and kind in (1, 2) and directed <= MAX_DIRECTORY * (kind - 1))
        tenant, directory = parse_name(data[:length], at + 16, named), data[at + 16 + named:end].decode("utf-8")
        require(end <= length and "\0" not in directory and (not directory or directory.startswith("/")))
        residences = tenants.setdefault(tenant, [])
        place = None if kind == 1 else directory
        require(not residences or (residences[-1][0] < first and residences[-1][1] != place))
        residences.append((first, place, entry))
        at = end
    return tenants


def default_path(tenant):
    """The directory below `dedicated/` that is named after a tenant."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    escaped = "".join(
        chr(byte) if byte in plain or byte == 46 and place else f"%{byte:02X}"
        for place, byte in enumerate(tenant.encode()))
    pieces = []
    while len(escaped) > 200:
        pieces, escaped = pieces + [escaped[:200] + "~"], escaped[200:]
    return pathlib.Path(*pieces, "%2E" + escaped[1:] if escaped.startswith(".") else escaped)


def owner_of(root):
    """Whose own journal a root is, by its FORMAT; None where that cannot be told."""
    data = (root / "FORMAT").read_bytes() if (root / "FORMAT").exists() else b""
    for at in (0, 4096):
        copy = data[at:at + 4096]
        if len(copy) == 4096 and crc32c(copy[12:]) == struct.unpack_from("<8xI", copy)[0]:
            return parse_name(copy, 50, struct.unpack_from("<48xH", copy)[0])
    return None


def join(root, shared):
    """The log at a root, of which the shared journal was read, with its tenants' own journals."""
    if not (root / "PLACEMENTS").exists():
        if (root / "dedicated").exists():
            refuse(f"{root}: there are journals of tenants' own, and PLACEMENTS is gone", status=2)
        return shared
    data = (root / "PLACEMENTS").read_bytes()
    tables = (attempt(parse_copy, data[at:], shared.log) for at in (0, len(data) // 2))
    tenants = next((table for table in tables if table is not None), None)
    if tenants is None:
        refuse(f"{root}: no copy of PLACEMENTS is whole", status=2)

    def round_of(tenant, number, place):
        """Which of a tenant's residences a record belongs to, if it is in that one's journal."""
        residences = tenants.get(tenant, [(1, None, 0)])
        behind = [count for count, (first, *_) in enumerate(residences) if first <= number]
        return behind[-1] if behind and residences[behind[-1]][1] == place else None

    def rounds(rows, place, wanted=None):
        for key, row in rows.items():
            if wanted in (None, key[0]) and round_of(*key, place) is not None:
                yield round_of(*key, place), key, row

    found = [(round, -1, key, row) for round, key, row in rounds(shared.rows, None)]
    order = [(tenant, place) for tenant, residences in tenants.items() for _, place, _ in residences
             if place is not None]
    for tenant, place in dict.fromkeys(order):
        own_root = pathlib.Path(place) if place else root / "dedicated" / default_path(tenant)
        if not own_root.is_dir() or owner_of(own_root) not in (tenant, None):
            shared.findings.append(dict(case="journalUnavailable", loss=True, file=str(own_root), fileSequence=0, first=0,
                                        end=0))
            continue
        own = recover(own_root)
        found += [(round, tenants[tenant][round][2], key, row) for round, key, row in rounds(own.rows, place, tenant)]
        shared.findings += own.findings
        shared.locked |= own.locked
    # Round by round: all that is in anybody's first residence, then what is in second ones, and so on; of a round the
    # shared journal first, then the others as the table has them.
    shared.rows = {key: row for _, _, key, row in sorted(found, key=lambda one: one[:2])}
    return shared

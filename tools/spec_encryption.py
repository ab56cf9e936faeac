"""Encrypted bodies as SPEC.md describes them, for spec_reader.py. With Python's standard library alone: AES-256-GCM
(FIPS 197, NIST SP 800-38D) in its plainest form, and slow; HKDF-SHA256 (RFC 5869).

Keys are the engine's: a key file that WALCTL_KEY_FILE names, or its text in WALCTL_KEYS.
"""
import base64, hashlib, hmac, json, os, struct

OVERHEAD, CONTEXT = 40, b"telemetry-wal frame"
# Bytes behind the body of a frame that a segment has as the journal had it: the epoch.
CARRIED = 8


class Sealed(list):
    """What there is of a frame that cannot be opened: no records. For want of its key, unless that was destroyed."""
    def __init__(self, is_locked):
        super().__init__()
        self.is_locked = is_locked

    def __bool__(self):
        """It is there, and no damage."""
        return True


def read_keys():
    """By identifier, a secret, or None for a key that is forgotten, and whose it is, None for everybody's."""
    path, text = os.environ.get("WALCTL_KEY_FILE"), os.environ.get("WALCTL_KEYS", '{"keys":[]}')
    if path:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    return {key["identifier"]: (base64.b64decode(key["secret"]) if "secret" in key else None, key.get("tenant"))
            for key in json.loads(text)["keys"]}


KEYS = read_keys()


def check_lengths(stored, size, codec, key, carried):
    """Whether a body can be stored in so many bytes."""
    plain = stored - OVERHEAD * bool(key) - CARRIED * carried
    return carried <= bool(key) and 1 <= plain <= size and (codec == 2 or plain == size)


def unseal(stored, header, log, epoch, tenant, identifier):
    """A body as it was before encryption, if it was encrypted; `Sealed` where nobody can say."""
    if not identifier:
        return stored
    secret, owner = KEYS.get(identifier, (b"", None))
    if secret is None:
        return Sealed(is_locked=False)
    if not secret or owner not in (None, tenant):
        return Sealed(is_locked=True)
    return open_body(secret, stored, log + struct.pack("<Q", epoch) + without_lengths(header, tenant))


def without_lengths(header, tenant):
    """A frame header as encryption binds a body to it."""
    zeroed = bytearray(header)
    behind = 64 + len(tenant.encode())
    # Checksums, length, whether it is carried, what is reserved.
    for at, end in (0, 4), (20, 24), (28, 32), (58, 64), (behind, len(zeroed)):
        zeroed[at:end] = bytes(end - at)
    return zeroed


def open_body(secret, stored, bound):
    return open_gcm(hkdf(secret, stored[:12]), stored[12:24], stored[24:-16], stored[-16:], bound)


def hkdf(secret, salt):
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    return hmac.digest(extracted, CONTEXT + b"\1", hashlib.sha256)


def open_gcm(key, nonce, sealed, tag, bound):
    schedule = expand(key)
    product = multiplier(int.from_bytes(encrypt(schedule, bytes(16)), "big"))
    sums = 0
    for data in (bound, sealed):
        for at in range(0, len(data), 16):
            sums = product(sums ^ int.from_bytes(data[at:at + 16].ljust(16, b"\0"), "big"))
    sums = product(sums ^ (len(bound) * 8 << 64 | len(sealed) * 8))
    mask = int.from_bytes(encrypt(schedule, nonce + struct.pack(">I", 1)), "big")
    if (sums ^ mask).to_bytes(16, "big") != tag:
        return Sealed(is_locked=True)
    blocks = (len(sealed) + 15) // 16
    stream = b"".join(encrypt(schedule, nonce + struct.pack(">I", 2 + block)) for block in range(blocks))
    return bytes(one ^ other for one, other in zip(sealed, stream))


def multiplier(factor):
    """Multiplication with a factor in GCM's field, where the highest bit stands for the lowest power."""
    powers = []
    for _ in range(128):
        powers.append(factor)
        factor = factor >> 1 ^ (0xE1 << 120) * (factor & 1)

    def product(value):
        result = 0
        while value:
            low = value & -value
            result ^= powers[128 - low.bit_length()]
            value ^= low
        return result
    return product


def double(value):
    return value << 1 ^ 0x11B * (value >> 7)


def substitutions():
    """AES's S-box: inverses in its field, then an affine map."""
    box, one, inverse = [0x63] * 256, 1, 1
    for _ in range(255):
        one ^= double(one)  # times 3, a generator
        for shift in (1, 2, 4):
            inverse ^= inverse << shift & 0xFF
        inverse ^= 0x09 * (inverse >> 7)  # divided by 3
        turned = inverse * 0x101
        box[one] = (turned ^ turned >> 4 ^ turned >> 5 ^ turned >> 6 ^ turned >> 7) & 0xFF ^ 0x63
    return box


BOX = substitutions()
# A column of the state for each byte of it: substituted and mixed; and where it goes in the other three rows.
TABLES = [[int.from_bytes((lambda row: row[-turn:] + row[:-turn])([double(s), s, s, double(s) ^ s]), "big")
           for s in BOX] for turn in range(4)]


def expand(key):
    """The round keys of AES-256, as columns."""
    columns, constant = list(struct.unpack(">8I", key)), 1
    while len(columns) < 60:
        column = columns[-1]
        if len(columns) % 8 == 0:
            column = (column << 8 | column >> 24) & 0xFFFFFFFF
        if len(columns) % 4 == 0:
            column = int.from_bytes(bytes(BOX[byte] for byte in column.to_bytes(4, "big")), "big")
        if len(columns) % 8 == 0:
            column, constant = column ^ constant << 24, double(constant)
        columns.append(columns[-8] ^ column)
    return columns


def encrypt(schedule, block):
    state = [column ^ key for column, key in zip(struct.unpack(">4I", block), schedule)]
    for at in range(4, 56, 4):
        state = [TABLES[0][state[place] >> 24] ^ TABLES[1][state[place - 3] >> 16 & 0xFF]
                 ^ TABLES[2][state[place - 2] >> 8 & 0xFF] ^ TABLES[3][state[place - 1] & 0xFF] ^ schedule[at + place]
                 for place in range(4)]
    return struct.pack(">4I", *(
        int.from_bytes((BOX[state[place] >> 24], BOX[state[place - 3] >> 16 & 0xFF], BOX[state[place - 2] >> 8 & 0xFF],
                        BOX[state[place - 1] & 0xFF]), "big") ^ schedule[56 + place] for place in range(4)))

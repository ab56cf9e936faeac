"""spec_reader.py for logs of the simulator, whose cipher is not SPEC.md's but `SimulatedKey`'s in Sources/SimulatedKeys.

Usage: spec_reader_simulated.py KEYS ROOT. KEYS: a key a line: identifier, tenant, secret, with tabs between; no secret for
a key that was destroyed.
"""
import struct, sys

import spec_encryption
from spec_encryption import Sealed

MASK = (1 << 64) - 1


def mix(value):
    """SplitMix64."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def words(data):
    whole = len(data) // 8
    return struct.unpack_from(f"<{whole}Q", data) + tuple(data[8 * whole:])


def open_body(secret, stored, bound):
    nonce, *zeros = struct.unpack_from("<QQQ", stored)
    body, tag = stored[24:-16], struct.unpack_from("<QQ", stored, len(stored) - 16)
    check = mix(secret + nonce & MASK)
    for length in (len(bound), len(body)):
        check = mix(check ^ length)
    for data in (bound, body):
        for word in words(data):
            check = mix(check ^ word)
    if any(zeros) or tag != (check, mix(check ^ secret)):
        return Sealed(is_locked=True)
    state, plain, whole = mix(secret ^ mix(nonce)), bytearray(), len(body) // 8
    for place, word in enumerate(words(body)):
        state = mix(state)
        plain += struct.pack("<Q", word ^ state) if place < whole else bytes([word ^ state & 0xFF])
    return bytes(plain)


def main():
    with open(sys.argv.pop(1), encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    spec_encryption.KEYS = {int(identifier): (int(secret) if secret else None, tenant)
                            for identifier, tenant, secret in rows}
    spec_encryption.open_body = open_body
    import spec_reader
    return spec_reader.main()


if __name__ == "__main__":
    sys.exit(main())

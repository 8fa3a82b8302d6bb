"""HDF5 files without the time of their making: equal contents are equal bytes.

An object header of version 2 is `OHDR`, 2, flags, [four times of 4 bytes if flags & 0x20], ..., and ends with Jenkins' lookup3 of
all before (HDF5 File Format Specification 3.0, IV.A.1.b).
"""

from __future__ import annotations

import struct

_MAGIC = b"OHDR\x02"
_TIMES, _PHASE = 0x20, 0x10
_MASK = 0xFFFFFFFF


def untimed(content: bytes) -> bytes:
    """The file with all times 0. What only looks like a header has another checksum and is left alone."""
    out, at = bytearray(content), content.find(_MAGIC)
    while at >= 0:
        end = _end_of_header(content, at)
        if end is not None and lookup3(content[at:end]) == int.from_bytes(content[end : end + 4], "little"):
            out[at + 6 : at + 22] = bytes(16)
            out[end : end + 4] = lookup3(bytes(out[at:end])).to_bytes(4, "little")
        at = content.find(_MAGIC, at + 1)
    return bytes(out)


def _end_of_header(content: bytes, at: int) -> int | None:
    """Where the checksum of a header with times stands; None where there are none."""
    flags = content[at + 5] if at + 6 <= len(content) else 0
    if not flags & _TIMES:
        return None
    place = at + 22 + (4 if flags & _PHASE else 0)
    width = 1 << (flags & 3)
    end = place + width + int.from_bytes(content[place : place + width], "little")
    return end if end + 4 <= len(content) else None


def lookup3(data: bytes) -> int:
    """Jenkins' hash of at least one byte, with 0 to begin with, as HDF5 has it."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    words = struct.unpack(f"<{-(-len(data) // 12) * 3}I", data.ljust(-(-len(data) // 12) * 12, b"\0"))
    for i in range(0, len(words) - 3, 3):
        a, b, c = (a + words[i]) & _MASK, (b + words[i + 1]) & _MASK, (c + words[i + 2]) & _MASK
        for turn in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & _MASK) ^ _turned(c, turn)
            a, b, c = b, (c + b) & _MASK, a
    a, b, c = (a + words[-3]) & _MASK, (b + words[-2]) & _MASK, (c + words[-1]) & _MASK
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, turn)) & _MASK
        a, b, c = b, c, a
    # seven turns are one more than two rounds: the last that was changed stands in b
    return b


def _turned(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK

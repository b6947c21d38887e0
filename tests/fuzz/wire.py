"""Bytes in place of messages: damaged, foreign, lying about their length."""

from __future__ import annotations

import random


def spoil(rng: random.Random, payload: bytes) -> bytes:
    """Damage a message, or put something else in its place."""
    return rng.choice(_WAYS)(rng, payload)


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, wire_type: int, body: bytes) -> bytes:
    """A field as protobuf writes it."""
    return varint(number << 3 | wire_type) + body


def text_field(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return field(number, 2, varint(len(content)) + content)


def _random(rng: random.Random, payload: bytes) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 2, 10, 100, 10_000]))


def _flipped(rng: random.Random, payload: bytes) -> bytes:
    damaged = bytearray(payload or b"\0")
    for _ in range(rng.randrange(1, 6)):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _truncated(rng: random.Random, payload: bytes) -> bytes:
    return payload[: rng.randrange(len(payload) + 1)]


def _repeated(rng: random.Random, payload: bytes) -> bytes:
    return payload * rng.choice([2, 3, 50])


def _unknown(rng: random.Random, payload: bytes) -> bytes:
    number = rng.choice([20, 1000, 18_999, 19_000, 2**29 - 1])
    return payload + rng.choice(
        [field(number, 0, varint(7)), text_field(number, b"x" * 50), field(number, 5, b"1234")]
    )


def _wrong_type(rng: random.Random, payload: bytes) -> bytes:
    number, full = rng.randrange(1, 6), b"\xff"
    return payload + rng.choice(
        [
            field(number, 0, varint(2**64 - 1)),
            field(number, 1, full * 8),
            field(number, 5, full * 4),
        ]
    )


def _not_utf8(rng: random.Random, payload: bytes) -> bytes:
    broken = rng.choice([b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"ab\x80", b"\xf4\x90\x80\x80"])
    spec = text_field(2, text_field(rng.choice([1, 2, 8, 15]), broken))
    return payload + rng.choice([text_field(1, broken), spec])


def _lying(rng: random.Random, payload: bytes) -> bytes:
    length = rng.choice([100, 2**31, 2**32, 2**63])
    return payload + field(rng.randrange(1, 4), 2, varint(length) + b"x")


def _endless_number(rng: random.Random, payload: bytes) -> bytes:
    return payload + b"\x08" + b"\x80" * rng.choice([5, 10, 11, 1000]) + b"\x01"


def _groups(rng: random.Random, payload: bytes) -> bytes:
    return payload + field(1000, 3, b"") * rng.choice([1, 90, 101, 20_000])


def _nested(rng: random.Random, payload: bytes) -> bytes:
    inner = b""
    for _ in range(rng.choice([10, 99, 150, 600])):
        inner = text_field(2, inner)
    return inner


_WAYS = [
    *(_random, _flipped, _flipped, _truncated, _repeated, _unknown, _wrong_type, _not_utf8),
    *(_lying, _endless_number, _groups, _nested),
]

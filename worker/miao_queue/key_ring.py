"""Secrets that several processes share, in a file that an operator keeps outside of Redis.

One key a line, its id and 32 or more bytes in base64; what follows # is for the reader.
The first key makes what is new; what any of them has made is still known.

    # made 2026-11-28
    k2 q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=
    k1 EjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8=

A key is never used as it is: each purpose has one of its own, derived from it, so that
one file may serve several.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ID = re.compile(r"[A-Za-z0-9-]{1,32}")
_LEAST_BYTES = 32


class KeyRingError(ValueError):
    """The file holds no key ring; the message never quotes a key."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by their ids, the one that makes what is new first."""

    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def read(cls, path: str) -> KeyRing:
        """Read the file; KeyRingError says which line is wrong."""
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KeyRingError(f"the key ring {path} cannot be read: {_reason(error)}") from None
        keys: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            key_id, key = _parsed(words, f"line {number} of the key ring {path}")
            if key_id in keys:
                raise KeyRingError(f"line {number} of the key ring {path} repeats the id {key_id}")
            keys[key_id] = key
        if not keys:
            raise KeyRingError(f"the key ring {path} is empty")
        return cls(keys)

    @property
    def current_id(self) -> str:
        """The id of the key that makes what is new."""
        return next(iter(self.keys))

    def derive(self, key_id: str, *purpose: str) -> bytes:
        """32 bytes of a key for one purpose, as HKDF expands it; KeyError for an unknown id."""
        info = "\0".join(("miao", *purpose)).encode() + b"\x01"
        return hmac.digest(self.keys[key_id], info, hashlib.sha256)


def new_line(key_id: str) -> str:
    """A line with a fresh key. KeyRingError for an id that is none."""
    if not _ID.fullmatch(key_id):
        raise KeyRingError("a key's id is of letters, digits and '-', at most 32")
    return f"{key_id} {base64.b64encode(secrets.token_bytes(_LEAST_BYTES)).decode()}"


def _parsed(words: list[str], place: str) -> tuple[str, bytes]:
    if len(words) != 2 or not _ID.fullmatch(words[0]):
        raise KeyRingError(f"{place} must be an id and a key")
    try:
        key = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        raise KeyRingError(f"{place} holds a key that is not base64") from None
    if len(key) < _LEAST_BYTES:
        raise KeyRingError(f"{place} holds a key of less than {_LEAST_BYTES} bytes")
    return words[0], key


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else "it is not text"

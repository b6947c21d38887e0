"""How prompts and outputs lie in Redis: as they are, or sealed (sealing.py).

Each piece has a place that it belongs to: the job, the end, or an entry of the journal.
A sealed piece begins with a byte with which no message of protobuf begins.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

SEALED = b"\0"

JOB = "job"
FINISHED = "finished"


def journal_place(entry_id: str) -> str:
    """Of an entry of the journal."""
    return f"journal:{entry_id}"


class Encryption(StrEnum):
    """What a process does that has keys."""

    REQUIRE = "require"  # seals, and reads nothing that is not sealed
    ON = "on"  # seals, and reads what was written before
    ACCEPT = "accept"  # reads what others have sealed


class UnreadableError(Exception):
    """A piece is not what was written there, or this process lacks the key; it quotes nothing."""


class Vault(Protocol):
    """Puts pieces into the form in which they lie in Redis, and takes them out of it."""

    @property
    def opens(self) -> bool:
        """Whether there is anything to open: else pieces may be taken as they are."""

    def seal(self, generation_id: str, place: str, payload: bytes) -> bytes:
        """The form in which a piece is written."""

    def open(self, generation_id: str, place: str, payload: bytes) -> bytes:
        """A piece from what was read; UnreadableError for what is none."""

    def fingerprint(self, fingerprint: str) -> str:
        """A spec's, in the form in which it is written: who reads it cannot try prompts."""

    def fingerprint_as(self, fingerprint: str, known: str) -> str | None:
        """The same as the process wrote it that wrote `known`; None where that cannot be said."""


class PlainVault:
    """Everything as it is."""

    opens = False

    def seal(self, generation_id: str, place: str, payload: bytes) -> bytes:
        return payload

    def open(self, generation_id: str, place: str, payload: bytes) -> bytes:
        if payload.startswith(SEALED):
            raise UnreadableError("it is encrypted, and this process has no keys")
        return payload

    def fingerprint(self, fingerprint: str) -> str:
        return fingerprint

    def fingerprint_as(self, fingerprint: str, known: str) -> str | None:
        return None


PLAIN = PlainVault()

"""What lies sealed in Redis: it opens where it was put, and nowhere else."""

from __future__ import annotations

import itertools

import pytest

from miao_queue.key_ring import KeyRing
from miao_queue.sealing import SealingVault
from miao_queue.vault import PLAIN, Encryption, UnreadableError

OLD = KeyRing({"old": b"o" * 32})
BOTH = KeyRing({"new": b"n" * 32, "old": b"o" * 32})
NEW = KeyRing({"new": b"n" * 32})
PAYLOAD = "a prompt 春天".encode()


def test_a_piece_opens_in_its_place_of_its_generation_alone() -> None:
    vault = SealingVault(OLD)
    places = list(itertools.product(("a", "b"), ("job", "finished", "journal:1-0", "journal:1-1")))
    for here in places:
        sealed = vault.seal(*here, PAYLOAD)
        assert PAYLOAD not in sealed
        for there in places:
            if there == here:
                assert vault.open(*there, sealed) == PAYLOAD
                continue
            with pytest.raises(UnreadableError, match="is not what was written there"):
                vault.open(*there, sealed)


def test_the_same_piece_is_never_sealed_to_the_same_bytes() -> None:
    vault = SealingVault(OLD)
    assert len({vault.seal("a", "job", PAYLOAD) for _ in range(100)}) == 100


def test_every_changed_bit_is_seen() -> None:
    vault = SealingVault(OLD)
    sealed = vault.seal("a", "job", b"x")
    for index, bit in itertools.product(range(len(sealed)), range(8)):
        changed = bytearray(sealed)
        changed[index] ^= 1 << bit
        with pytest.raises(UnreadableError):
            vault.open("a", "job", bytes(changed))
    for length in range(len(sealed)):
        with pytest.raises(UnreadableError):
            vault.open("a", "job", sealed[:length])


def test_keys_are_rotated_without_losing_what_was_written() -> None:
    before = SealingVault(OLD).seal("a", "job", PAYLOAD)
    both = SealingVault(BOTH)
    after = both.seal("a", "job", PAYLOAD)
    assert both.open("a", "job", before) == both.open("a", "job", after) == PAYLOAD
    assert SealingVault(NEW).open("a", "job", after) == PAYLOAD
    with pytest.raises(UnreadableError, match="a key that this process does not have"):
        SealingVault(NEW).open("a", "job", before)
    with pytest.raises(UnreadableError, match="a key that this process does not have"):
        SealingVault(OLD).open("a", "job", after)


def test_what_is_not_sealed_is_read_only_where_that_is_allowed() -> None:
    assert SealingVault(OLD, Encryption.ON).open("a", "job", PAYLOAD) == PAYLOAD
    assert SealingVault(OLD, Encryption.ACCEPT).open("a", "job", PAYLOAD) == PAYLOAD
    with pytest.raises(UnreadableError, match="is not encrypted"):
        SealingVault(OLD).open("a", "job", PAYLOAD)


def test_who_only_accepts_reads_what_others_seal_and_writes_as_before() -> None:
    accepting, sealing = SealingVault(OLD, Encryption.ACCEPT), SealingVault(OLD, Encryption.ON)
    assert accepting.seal("a", "job", PAYLOAD) == PAYLOAD
    assert accepting.open("a", "job", sealing.seal("a", "job", PAYLOAD)) == PAYLOAD
    assert accepting.fingerprint("f") == "f"


def test_without_keys_all_is_as_it_is_and_what_is_sealed_is_said_to_be_so() -> None:
    assert not PLAIN.opens
    assert PLAIN.seal("a", "job", PAYLOAD) is PAYLOAD
    assert PLAIN.open("a", "job", PAYLOAD) is PAYLOAD
    with pytest.raises(UnreadableError, match="is encrypted, and this process has no keys"):
        PLAIN.open("a", "job", SealingVault(OLD).seal("a", "job", PAYLOAD))


def test_a_fingerprint_tells_nothing_and_is_found_again_under_other_keys() -> None:
    old, both = SealingVault(OLD), SealingVault(BOTH, Encryption.ON)
    before, after = old.fingerprint("f"), both.fingerprint("f")
    assert before != after
    assert "f" not in (before.partition(":")[2], after.partition(":")[2])
    assert both.fingerprint_as("f", before) == before
    assert both.fingerprint_as("f", after) == after
    assert both.fingerprint_as("f", "written before") == "f"
    assert old.fingerprint_as("f", after) is None
    assert old.fingerprint_as("f", "written before") is None

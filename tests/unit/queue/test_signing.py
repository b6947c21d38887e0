"""Signatures of jobs: what is signed cannot be changed, moved or left out."""

from __future__ import annotations

import pytest

from miao_queue.key_ring import KeyRing
from miao_queue.signing import SIGNED, SignatureError, Signer

OLD = KeyRing({"old": b"o" * 32})
BOTH = KeyRing({"new": b"n" * 32, "old": b"o" * 32})
STATE = {name: name.encode() for name in SIGNED if name != "task"}


def signed(signer: Signer, state: dict[str, bytes] = STATE) -> dict[bytes, bytes]:
    """The state as Redis holds it, with more that Redis adds."""
    stored = {name.encode(): value for name, value in state.items()}
    return stored | {b"signature": signer.sign("a", state).encode(), b"status": b"queued"}


def test_what_a_front_signed_is_known() -> None:
    signer = Signer(OLD)
    state = signed(signer)
    signer.check("a", state)
    signer.check("a", state | {b"status": b"running", b"tokens": b"7", b"owner": b"w"})


@pytest.mark.parametrize("name", SIGNED)
def test_a_field_that_was_changed_added_or_taken_away_is_seen(name: str) -> None:
    signer = Signer(OLD)
    for state in (STATE, STATE | {"task": b"1"}):
        stored = signed(signer, state)
        changed = [stored | {name.encode(): b"else"}]
        if name in state:
            changed.append({key: value for key, value in stored.items() if key != name.encode()})
        for forged in changed:
            with pytest.raises(SignatureError, match="is not what was signed"):
                signer.check("a", forged)


def test_bytes_moved_from_one_field_to_the_next_are_seen() -> None:
    signer = Signer(OLD)
    stored = signed(signer)
    moved = {b"request_id": b"request_idm", b"model": b"odel"}
    with pytest.raises(SignatureError):
        signer.check("a", stored | moved)


def test_a_signature_is_of_one_generation() -> None:
    signer = Signer(OLD)
    with pytest.raises(SignatureError):
        signer.check("b", signed(signer))


def test_what_is_not_signed_or_by_a_stranger_is_refused() -> None:
    signer, stored = Signer(OLD), signed(Signer(OLD))
    for signature in (b"", b"old", b"old:", b":", b"\xff\xfe:00", b"old:00"):
        with pytest.raises(SignatureError):
            signer.check("a", stored | {b"signature": signature})
    del stored[b"signature"]
    with pytest.raises(SignatureError, match="is not signed"):
        signer.check("a", stored)
    with pytest.raises(SignatureError):
        signer.check("a", signed(Signer(KeyRing({"old": b"x" * 32}))))


def test_keys_are_rotated() -> None:
    before, after = signed(Signer(OLD)), signed(Signer(BOTH))
    Signer(BOTH).check("a", before)
    Signer(BOTH).check("a", after)
    with pytest.raises(SignatureError, match="a key that this worker does not have"):
        Signer(OLD).check("a", after)

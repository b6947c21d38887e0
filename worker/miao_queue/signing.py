"""Jobs that fronts sign and workers check: what only a front can have queued.

The signature is an HMAC-SHA-256 under a ring of keys that Redis does not hold. It covers
what a generation is: its id, whose and for which model it is, its job, and what else
`SIGNED` names. What Redis itself writes is not covered: times, the claim, the count of
tokens, nor the order in the queues.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping

from miao_queue.key_ring import KeyRing

FIELD = "signature"

# Fields of a generation's hash that its front writes and nobody changes.
SIGNED = (
    *("request_id", "model", "tenant", "fingerprint", "job", "accepted"),
    *("retention_seconds", "vocabulary", "task"),
)


class SignatureError(Exception):
    """A job was not signed by a front, or changed since; says which of these."""


class Signer:
    """Signs with the ring's first key, and knows the signatures of all."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._keys = {key_id: ring.derive(key_id, "sign") for key_id in ring.keys}

    def sign(self, generation_id: str, state: Mapping[str, bytes]) -> str:
        """The signature for a state; fields that it lacks are signed as missing."""
        key_id = self._ring.current_id
        return f"{key_id}:{self._mac(key_id, generation_id, state)}"

    def check(self, generation_id: str, state: Mapping[bytes, bytes]) -> None:
        """SignatureError unless a front has signed this state."""
        key_id, _, mac = state.get(FIELD.encode(), b"").decode("ascii", "replace").partition(":")
        if not mac:
            raise SignatureError("is not signed")
        if key_id not in self._keys:
            raise SignatureError("is signed with a key that this worker does not have")
        named = {name: state[name.encode()] for name in SIGNED if name.encode() in state}
        if not hmac.compare_digest(mac, self._mac(key_id, generation_id, named)):
            raise SignatureError("is not what was signed")

    def _mac(self, key_id: str, generation_id: str, state: Mapping[str, bytes]) -> str:
        parts = [generation_id.encode()]
        for name in SIGNED:
            if (value := state.get(name)) is not None:
                parts += (name.encode(), value)
        framed = b"".join(struct.pack(">I", len(part)) + part for part in parts)
        return hmac.new(self._keys[key_id], framed, hashlib.sha256).hexdigest()

"""Prompts and outputs encrypted where they lie in Redis: AES-256-GCM, by a ring of keys.

A sealed piece:

    0x00 | length of the key's id | the key's id | nonce, 12 bytes | ciphertext and tag

Each generation has a key of its own, derived from the ring's, so that random nonces never
come near the 2^32 messages that one key allows (NIST SP 800-38D), however many tokens a
fleet makes. What is authenticated beside the ciphertext says whose generation and which
place it is: pieces that somebody swaps, moves or repeats elsewhere do not open.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from miao_queue.key_ring import KeyRing
from miao_queue.vault import SEALED, Encryption, UnreadableError

_NONCE_BYTES = 12
_LEAST_BYTES = 2 + _NONCE_BYTES + 16  # without the key's id
_GENERATIONS = 4096  # whose keys are remembered


class SealingVault:
    """Seals with the ring's first key, and opens what any of them has sealed."""

    opens = True

    def __init__(self, ring: KeyRing, encryption: Encryption = Encryption.REQUIRE) -> None:
        self._ring = ring
        self._seals = encryption is not Encryption.ACCEPT
        self._takes_plain = encryption is not Encryption.REQUIRE
        self._cipher = lru_cache(_GENERATIONS)(self._make_cipher)

    def seal(self, generation_id: str, place: str, payload: bytes) -> bytes:
        if not self._seals:
            return payload
        key_id = self._ring.current_id
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._cipher(key_id, generation_id)
        sealed = cipher.encrypt(nonce, payload, _bound_to(generation_id, place))
        return b"".join((SEALED, bytes([len(key_id)]), key_id.encode(), nonce, sealed))

    def open(self, generation_id: str, place: str, payload: bytes) -> bytes:
        if not payload.startswith(SEALED):
            if self._takes_plain:
                return payload
            raise UnreadableError("it is not encrypted, and everything has to be")
        if len(payload) < _LEAST_BYTES or len(payload) < _LEAST_BYTES + payload[1]:
            raise UnreadableError("it is too short")
        begin = 2 + payload[1]
        key_id = payload[2:begin].decode("ascii", "replace")
        if key_id not in self._ring.keys:
            raise UnreadableError("it is encrypted with a key that this process does not have")
        nonce, sealed = payload[begin : begin + _NONCE_BYTES], payload[begin + _NONCE_BYTES :]
        cipher = self._cipher(key_id, generation_id)
        try:
            return cipher.decrypt(nonce, sealed, _bound_to(generation_id, place))
        except InvalidTag:
            raise UnreadableError("it is not what was written there") from None

    def fingerprint(self, fingerprint: str) -> str:
        return self._keyed(self._ring.current_id, fingerprint) if self._seals else fingerprint

    def fingerprint_as(self, fingerprint: str, known: str) -> str | None:
        key_id, separator, _ = known.partition(":")
        if not separator:
            return fingerprint if self._takes_plain else None
        return self._keyed(key_id, fingerprint) if key_id in self._ring.keys else None

    def _keyed(self, key_id: str, fingerprint: str) -> str:
        key = self._ring.derive(key_id, "fingerprint")
        return f"{key_id}:{hmac.new(key, fingerprint.encode(), hashlib.sha256).hexdigest()[:32]}"

    def _make_cipher(self, key_id: str, generation_id: str) -> AESGCM:
        return AESGCM(self._ring.derive(key_id, "seal", generation_id))


def _bound_to(generation_id: str, place: str) -> bytes:
    return f"{generation_id}\0{place}".encode()

"""What guards that which lies in Redis, as the settings of a front or worker say."""

from __future__ import annotations

from dataclasses import dataclass

from miao_queue.key_ring import KeyRing
from miao_queue.signing import Signer
from miao_queue.vault import PLAIN, Encryption, Vault


@dataclass(frozen=True, slots=True)
class Protection:
    """Encryption of prompts and outputs, and signatures of jobs; neither by default."""

    vault: Vault = PLAIN
    signer: Signer | None = None

    @classmethod
    def read(cls, encryption_keys: str, encryption: str, signing_keys: str) -> Protection:
        """From files of keys; empty names mean without. KeyRingError for files that are none."""
        vault: Vault = PLAIN
        if encryption_keys:
            from miao_queue.sealing import SealingVault  # its library is needed for this alone

            vault = SealingVault(KeyRing.read(encryption_keys), Encryption(encryption))
        return cls(vault, Signer(KeyRing.read(signing_keys)) if signing_keys else None)


UNPROTECTED = Protection()

"""Buyers' secret values: locked under the network's own key while their job is open, sealed to one node for a lease.

At rest and in the market's mind they are XSalsa20-Poly1305 boxes (libsodium's secretbox); to a node they go in a
libsodium sealed box under its Ed25519 key, converted to X25519, which only that node opens.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

import msgspec
from nacl.public import SealedBox
from nacl.secret import SecretBox
from nacl.signing import VerifyKey

from fallow.domain.calls.leases import LeaseSecrets
from fallow.domain.leases import Lease


class _Locked(msgspec.Struct, frozen=True):
    """What is encrypted: the values, and whose they are, so that one job's box never opens for another."""

    job: str
    values: dict[str, str]

    def __repr__(self) -> str:
        return f"_Locked(job={self.job!r}, {len(self.values)} values)"


class Vault:
    """Locks and hands out. Its key is derived from the seed that custodial accounts come from, and stays inside."""

    def __init__(self, custody_seed: bytes) -> None:
        self._box = SecretBox(hmac.digest(custody_seed, b"fallow/vault/1", "sha256"))

    def lock(self, job: str, values: Mapping[str, str]) -> bytes:
        """Encrypt a job's values."""
        return bytes(self._box.encrypt(msgspec.msgpack.encode(_Locked(job, dict(values)))))

    def seal(self, locked: bytes, lease: Lease) -> bytes:
        """Open a job's values and seal them for the node of one of its leases.

        Raises:
            LookupError: they are another job's.
            nacl.exceptions.CryptoError: they were locked with another key, or altered.
        """
        opened = msgspec.msgpack.decode(self._box.decrypt(locked), type=_Locked)
        if opened.job != lease.job:
            raise LookupError(f"the locked values are those of job {opened.job}, not of {lease.job}")
        box = SealedBox(VerifyKey(lease.node).to_curve25519_public_key())
        return bytes(box.encrypt(msgspec.msgpack.encode(LeaseSecrets(lease=lease.id.hex(), values=opened.values))))

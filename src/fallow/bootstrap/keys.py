"""The network's private keys: files of mode 0600 in `<data>/secrets`, made on first use, used through `sign`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import NamedTuple

from nacl.signing import SigningKey

from fallow.adapters.engines.folders import write_private
from fallow.adapters.nats.nkeys import KeySigner
from fallow.domain.encoding import tagged_hash
from fallow.domain.errors import InvalidInput

SEED_BYTES = 32


class NetworkKeys(NamedTuple):
    """Every key of a network's side.

    `network` signs promises and tickets. `core`, `gateway`, `callout` and `system` are connections to the bus; `issuer`
    signs who may connect. `custody_seed` is where custodial accounts' keys come from, `vertical_seed` what verticals
    keep secret: what buyers store through the network's own gateways is lost with it. Who shows `metrics_secret` (hex,
    as it is in its file) may read `/metrics` and nothing else.
    """

    network: SigningKey
    core: SigningKey
    gateway: SigningKey
    callout: SigningKey
    system: SigningKey
    issuer: SigningKey
    custody_seed: bytes
    vertical_seed: bytes
    metrics_secret: str

    def secret(self, part: str, vertical: str) -> bytes:
        """32 bytes for one part (`control`, `gateway`, `gateway-key`) of one vertical."""
        return tagged_hash(f"fallow/vertical-secret/1/{part}/{vertical}", self.vertical_seed)

    def hosted(self, vertical: str) -> SigningKey:
        """By which the network's own gateways of a vertical sign what they order in buyers' place."""
        return SigningKey(self.secret("gateway-key", vertical))

    def sign(self, message: bytes) -> bytes:
        """Sign as the network."""
        return self.network.sign(message).signature


def load_keys(data: Path, *, create: bool = False) -> NetworkKeys:
    """Read all keys; with `create` make those that are not there.

    Raises:
        InvalidInput: one is missing or malformed.
    """
    folder = data / "secrets"

    def key(name: str) -> SigningKey:
        return SigningKey(_seed(folder / f"{name}.key", create=create))

    return NetworkKeys(
        network=key("network"),
        core=key("core"),
        gateway=key("gateway"),
        callout=key("callout"),
        system=key("system"),
        issuer=key("issuer"),
        custody_seed=_seed(folder / "custody.key", create=create),
        vertical_seed=_seed(folder / "verticals.key", create=create),
        metrics_secret=_seed(folder / "metrics.key", create=create).hex(),
    )


def key_files(data: Path) -> set[Path]:
    """The files of all keys that are there."""
    return set((data / "secrets").glob("*.key"))


def signer(key: SigningKey) -> KeySigner:
    """Use a key on the bus."""
    return KeySigner(bytes(key.verify_key), lambda message: key.sign(message).signature)


def _seed(path: Path, *, create: bool) -> bytes:
    if not path.exists() and create:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, secrets.token_hex(SEED_BYTES) + "\n")
    try:
        seed = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise InvalidInput("keys.unreadable", f"The key {path} cannot be read: {error}.", "Restore it.") from error
    if len(seed) != SEED_BYTES:
        raise InvalidInput("keys.unreadable", f"The key {path} has {len(seed)} bytes instead of {SEED_BYTES}.")
    return seed

"""A node's key: made on its machine, used through `sign`, never sent anywhere."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.public import SealedBox
from nacl.signing import SigningKey

from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.identity import NodeId
from fallow.ports.files import write_durably

SEED_BYTES = 32


class NodeKey:
    """An Ed25519 key. `node` is its public half: the node's id."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.node = NodeId(bytes(self._key.verify_key))

    @property
    def text(self) -> str:
        """The node's id in lower-case hex."""
        return self.node.hex()

    def sign(self, message: bytes) -> bytes:
        """Return the signature (64 bytes) over `message`."""
        return self._key.sign(message).signature

    def unseal(self, box: bytes) -> bytes:
        """Open a libsodium sealed box that was made for this node.

        Raises:
            NotAllowed: it was made for another one, or altered (`agent.sealed`).
        """
        try:
            return SealedBox(self._key.to_curve25519_private_key()).decrypt(box)
        except CryptoError as error:
            raise NotAllowed("agent.sealed", "What was sealed cannot be opened with this node's key.") from error

    @classmethod
    def load(cls, path: Path) -> NodeKey:
        """Read the key from `path`.

        Raises:
            FileNotFoundError: there is none.
            NotAllowed: others than its owner can read it (`agent.key_exposed`).
            InvalidInput: the file is no key (`agent.key_malformed`).
        """
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if status.st_mode & 0o077 or status.st_uid != os.geteuid():
                raise NotAllowed(
                    "agent.key_exposed",
                    f"The node's key {path} can be read by others than this user.",
                    f"If nobody took it, run: chmod 600 {path}",
                )
            seed = file.read(SEED_BYTES + 1)
        if len(seed) != SEED_BYTES:
            raise InvalidInput("agent.key_malformed", f"{path} does not hold a node's key ({SEED_BYTES} bytes).")
        return cls(seed)

    @classmethod
    def load_or_create(cls, path: Path) -> NodeKey:
        """Read the key from `path`; make one there first if there is none. Raises as `load` does."""
        if not path.exists():
            with suppress(FileExistsError):
                write_durably(path, bytes(SigningKey.generate()), exclusive=True)
        return cls.load(path)

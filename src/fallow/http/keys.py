"""Who a request speaks for, by its API key."""

from __future__ import annotations

import hashlib

from fallow.domain import calls
from fallow.domain.errors import InvalidInput, NotAllowed, NotFound
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.remembered import Remembered
from fallow.ports.rpc import call

CACHED_KEYS_MAX = 4096
KEY_CHARACTERS_MAX = 200


class Keys:
    """Checks API keys with the registry. Remembers valid ones for a moment, by their hash and never themselves."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._known = Remembered[bytes, calls.keys.KeyInfo](clock, CACHED_KEYS_MAX)

    async def check(self, authorization: str | None) -> calls.keys.KeyInfo:
        """Return whose key an `Authorization` header carries.

        Raises:
            NotAllowed: `auth.missing` without one, `auth.key` when it is not valid, `account.banned`.
            Unavailable: the registry does not answer.
        """
        key = _bearer(authorization)
        digest = hashlib.sha256(key.encode()).digest()
        return await self._known.ask(digest, lambda: self._ask(key))

    def forget(self, key_id: str) -> None:
        """Drop a key that was revoked through this process."""
        self._known.forget(lambda info: info.key_id == key_id)

    async def _ask(self, key: str) -> calls.keys.KeyInfo:
        try:
            return await call(self._bus, calls.keys.CHECK_KEY, calls.keys.CheckKey(key=key), calls.keys.KeyInfo)
        except (NotAllowed, NotFound, InvalidInput) as error:
            if error.code == "account.banned":
                raise
            raise _unknown() from None


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise NotAllowed("auth.missing", "This needs an API key.", "Send it as `Authorization: Bearer <key>`.")
    scheme, _, key = authorization.partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key or len(key) > KEY_CHARACTERS_MAX or not key.isascii():
        raise _unknown()
    return key


def _unknown() -> NotAllowed:
    return NotAllowed("auth.key", "The API key is not valid.", "It may be mistyped or revoked; ask for a new one.")

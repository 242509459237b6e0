"""The S3 gateway on its buyer's own machine, for him alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from blake3 import blake3

from fallow.ports.clock import Clock
from fallow.ports.vertical.gateway import Asgi
from fallow.verticals.storage.client.store import Store
from fallow.verticals.storage.gateway.app import s3_app
from fallow.verticals.storage.gateway.auth.links import REGION
from fallow.verticals.storage.gateway.users import Owner, User, owner_by_address

_KEYS: Final = "fallow storage 1: keys of a gateway on its buyer's machine"
_ACCESS_BYTES: Final = 10
_SECRET_BYTES: Final = 20


class OwnGateway(NamedTuple):
    """The application, and whom it knows."""

    app: Asgi
    user: User


def own_gateway(
    store: Store, account: str, secret: bytes, clock: Clock, *, random_bytes: Callable[[int], bytes]
) -> OwnGateway:
    """Make it. What its one user signs with follows from the root secret, so that it stays the same."""
    keys = blake3(secret, derive_key_context=_KEYS).digest(length=_ACCESS_BYTES + _SECRET_BYTES)
    user = User(f"FALLOW{keys[:_ACCESS_BYTES].hex().upper()}", keys[_ACCESS_BYTES:].hex(), account, account)
    return OwnGateway(s3_app(store, _OneUser(user), clock, random_bytes=random_bytes, region=REGION), user)


class _OneUser:
    """The port `Users`."""

    def __init__(self, user: User) -> None:
        self._user = user

    async def user(self, access_key: str) -> User | None:
        """See the port."""
        return self._user if access_key == self._user.access_key else None

    async def owner(self, account: str) -> Owner | None:
        """See the port."""
        return owner_by_address(account)

"""The S3 gateway, put together from its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fallow.domain.encoding import tagged_hash
from fallow.domain.identity import address
from fallow.ports.mishaps import steadily
from fallow.ports.signing_secrets import SigningSecrets
from fallow.ports.tasks import background
from fallow.ports.vertical.gateway import Asgi, GatewayGround
from fallow.verticals.storage.client.asking import BusAsker
from fallow.verticals.storage.client.keys import keys_under
from fallow.verticals.storage.client.opening import gateway_store
from fallow.verticals.storage.gateway.app import s3_app
from fallow.verticals.storage.gateway.auth.links import REGION
from fallow.verticals.storage.gateway.sweeping import Sweeper, taking
from fallow.verticals.storage.gateway.users import READ, WRITE, Owner, User, owner_by_address

BUY: Final = "buy"


@asynccontextmanager
async def running(ground: GatewayGround) -> AsyncIterator[Asgi]:
    """Make the application, which works while the context is open.

    What it stores is sealed under secrets that follow from the gateway's: one for each account.
    """

    def secret_of(account: str) -> bytes:
        return tagged_hash("fallow/storage-root/1", ground.secret + address(account))

    async with gateway_store(ground, keys_under(secret_of, ground.random_bytes)) as store:
        users = KnownUsers(SigningSecrets(ground.bus, ground.clock))
        sweeper = Sweeper(store, taking(BusAsker(ground.bus, ground.clock)), ground.clock)
        async with background(steadily("storage.lifecycle", sweeper.run, ground.clock)):
            yield s3_app(
                store,
                users,
                ground.clock,
                random_bytes=ground.random_bytes,
                region=REGION,
                console_port=ground.console_port,
            )


class KnownUsers:
    """The port `Users`: API keys as the registry knows them. One that may not buy may do nothing here."""

    def __init__(self, secrets: SigningSecrets) -> None:
        self._secrets = secrets

    async def user(self, access_key: str) -> User | None:
        """See the port."""
        found = await self._secrets.find(access_key)
        if found is None:
            return None
        may = frozenset({READ, WRITE} if BUY in found.info.scopes else ())
        return User(access_key, found.secret, found.info.account, found.info.account, may)

    async def owner(self, account: str) -> Owner | None:
        """See the port."""
        return owner_by_address(account)

"""Storage as its buyer's own machine reaches it: it asks the control API, and moves pieces to and from nodes itself."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

from fallow.adapters.clock import SystemClock
from fallow.adapters.streams.dialling import dial
from fallow.adapters.streams.direct import dial_direct
from fallow.bootstrap.http_server import serving
from fallow.bootstrap.listening import url_of
from fallow.bootstrap.memory import keep_freed_memory
from fallow.bootstrap.own_shares import GrantShares, OwnShares
from fallow.domain.pins import pem_of
from fallow.sdk.client import AsyncClient
from fallow.sdk.patience import Told, nobody
from fallow.sdk.profile import Profile
from fallow.sdk.storage import OwnStorage
from fallow.sdk.trust import trusting
from fallow.verticals.storage.client.asking import HttpAsker
from fallow.verticals.storage.client.granting import Grant
from fallow.verticals.storage.client.ground import name_text
from fallow.verticals.storage.client.keys import KeysOf, keys_under
from fallow.verticals.storage.client.objects import ObjectStore
from fallow.verticals.storage.client.opening import lined_store
from fallow.verticals.storage.gateway.own import own_gateway
from fallow.verticals.storage.gateway.users import User

VERTICAL: Final = "storage"
HOST: Final = "127.0.0.1"


class Served(NamedTuple):
    """Where S3 clients on this machine find a gateway, and what they sign with."""

    url: str
    user: User


@asynccontextmanager
async def own_storage(profile: Profile, secret: bytes, on_wait: Told = nobody) -> AsyncIterator[OwnStorage]:
    """Open the store of an account, under its own root secret. `on_wait` as for `AsyncClient`.

    Raises:
        FallowError: the network cannot be reached, or does not know the key.
    """
    tls = trusting(profile.ca) if profile.ca else None
    async with AsyncClient(profile.url, profile.api_key, ca=tls, on_wait=on_wait) as client:
        account = (await client.balance()).account
        async with _opened(client, profile.url, tls, keys_under(lambda _: secret, secrets.token_bytes)) as store:
            yield OwnStorage(store, account, OwnShares(client, profile, secret))


@asynccontextmanager
async def granted_storage(grant: Grant, on_wait: Told = nobody) -> AsyncIterator[OwnStorage]:
    """Open what a grant opens, which is shown to the network in place of an API key.

    Raises:
        FallowError: the network cannot be reached; NotAllowed: the grant does not hold there, or not any more.
    """
    tls = trusting(pem_of(grant.ca)) if grant.ca else None
    async with (
        AsyncClient(grant.url, grant.credential, ca=tls, on_wait=on_wait) as client,
        _opened(client, grant.url, tls, grant.keys_of(secrets.token_bytes)) as store,
    ):
        within = grant.share.bucket, name_text(grant.share.name)
        yield OwnStorage(store, (await store.bucket(grant.share.bucket)).account, GrantShares(grant), within)


@asynccontextmanager
async def _opened(
    client: AsyncClient, url: str, tls: ssl.SSLContext | None, keys_of: KeysOf
) -> AsyncIterator[ObjectStore]:
    keep_freed_memory()
    network = await client.network()
    async with lined_store(
        network.net,
        bytes.fromhex(network.public_key),
        HttpAsker(partial(client.ask_vertical, VERTICAL)),
        relay=lambda: dial(url, tls=tls),
        direct=dial_direct,
        clock=SystemClock(),
        keys_of=keys_of,
        random_bytes=secrets.token_bytes,
        own=True,
    ) as store:
        yield store


@asynccontextmanager
async def own_gateway_served(own: OwnStorage, secret: bytes, port: int) -> AsyncIterator[Served]:
    """Serve S3 to this machine alone, while the context is open. What clients sign with follows from `secret`.

    Raises:
        Unavailable: the port cannot be had.
    """
    made = own_gateway(own.store, own.account, secret, SystemClock(), random_bytes=secrets.token_bytes)
    async with serving(made.app, HOST, port) as bound:
        yield Served(url_of("http", HOST, bound), made.user)

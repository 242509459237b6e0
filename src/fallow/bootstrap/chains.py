"""Which chain a network settles on: none, its own, or one of others that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fallow.adapters.evm.rpc import EvmRpc, connect_chain
from fallow.bootstrap.listening import loopback_of, url_of
from fallow.bootstrap.place import ChainPlace, Place
from fallow.bootstrap.settings import PUBLIC, Settings
from fallow.bootstrap.tls import own_context
from fallow.domain.chains import chain_id_of
from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.networks import is_loopback


def chain_place(net: str, settings: Settings, url: str) -> ChainPlace | None:
    """Say where a network's chain is; `url` is where others would reach an embedded one.

    Raises:
        InvalidInput: what the settings name cannot be one (`chain.settings`).
    """
    if settings.preset != PUBLIC:
        return None
    if not settings.chain_rpc:
        own = url_of(urlsplit(url).scheme, loopback_of(settings.host), settings.chain_port)
        return ChainPlace(url=url, own_url=own, id=chain_id_of(net))
    for rpc in filter(None, (settings.chain_rpc, settings.chain_public_rpc)):
        parts = urlsplit(rpc)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise InvalidInput("chain.settings", "A chain is asked by https, or on this very machine.")
    if not settings.chain_id:
        raise InvalidInput("chain.settings", "Say which chain it is: chain_id is its number (EIP-155).")
    return ChainPlace(
        url=settings.chain_public_rpc,
        own_url=settings.chain_rpc,
        id=settings.chain_id,
        depth=settings.chain_depth,
        embedded=False,
    )


def chain_of(place: Place) -> ChainPlace:
    """Where the network's chain is.

    Raises:
        NotFound: it has none (`chain.none`).
    """
    if place.chain is None:
        raise NotFound("chain.none", f"{place.net} has no chain.", "Those of the preset public have one.")
    return place.chain


@asynccontextmanager
async def own_chain(place: Place) -> AsyncIterator[EvmRpc]:
    """Ask the network's chain, as its own processes do.

    Raises:
        NotFound: it has none (`chain.none`).
    """
    where = chain_of(place)
    async with connect_chain(where.own_url, own_context(place.tls) if where.embedded else None) as chain:
        yield chain


def no_contracts() -> NotFound:
    """Say that a network's contracts are not on its chain."""
    return NotFound("chain.no_contracts", "The network has no contracts on its chain yet.", "fallow chain deploy")

"""Slashes that are announced: what everybody sees of them, and what the guardian does."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import NamedTuple

from fallow.adapters.clock import SystemClock
from fallow.bootstrap.chains import chain_of, own_chain
from fallow.bootstrap.contracts import operator_sender, the_contracts
from fallow.bootstrap.place import read_place
from fallow.bootstrap.wallet import Outside, open_chain
from fallow.domain.errors import Conflict
from fallow.domain.identity import address
from fallow.domain.sending import Done
from fallow.domain.staking import refusal
from fallow.domain.transactions import call_data
from fallow.domain.views.network import NetworkView
from fallow.ports.chain import ContractRefused
from fallow.services.sender.vault import Slash, Vault


class Announced(NamedTuple):
    """A slash that is neither taken nor stopped, and its number at the vault."""

    number: int
    slash: Slash


async def read_slashes(network: NetworkView, tls: ssl.SSLContext | None, outside: Outside) -> list[Announced]:
    """Read them from the chain. Raises what `open_chain` raises, or Unavailable."""
    async with open_chain(network, tls, outside) as (view, chain):
        return await announced(Vault(chain, address(view.vault)))


async def announced(vault: Vault) -> list[Announced]:
    """Those that wait, the oldest first."""
    found: list[Announced] = []
    number = 0
    while (slash := await vault.slash(number)) is not None:
        if not slash.settled:
            found.append(Announced(number, slash))
        number += 1
    return found


async def stop_slash(data: Path, number: int) -> Done:
    """Stop one for good, as the vault's guardian.

    Raises:
        NotFound: the network has no chain, or no contracts on it.
        Conflict: there is no such slash, it was taken, or the guardian is somebody else.
    """
    place = await asyncio.to_thread(read_place, data)
    contracts = await asyncio.to_thread(the_contracts, data)
    vault, where = address(contracts.vault), chain_of(place)
    async with own_chain(place) as chain, operator_sender(data, where, chain, SystemClock()) as sender:
        try:
            return await sender.send_anew(f"slash/stop/{number}", vault, call_data("stopSlash(uint256)", number))
        except ContractRefused as error:
            raise Conflict("slash.refused", f"The vault refuses: {refusal(error.data)}.") from error

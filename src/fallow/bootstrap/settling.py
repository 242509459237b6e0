"""What ties epochs to a network's chain: whose votes count, in what income is owed, and who brings roots there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from fallow.adapters.archive import StoreArchive, folder_archive, url_archive
from fallow.bootstrap.chains import chain_of, own_chain
from fallow.bootstrap.contracts import operator_sender, operator_signer, read_contracts, the_contracts
from fallow.bootstrap.keys import load_keys
from fallow.bootstrap.place import Place, read_place
from fallow.bootstrap.plugins import load_limits_made
from fallow.bootstrap.rewards import read_rewards
from fallow.bootstrap.settings import Settings
from fallow.domain.chart import Credit
from fallow.domain.epochs.quorum import Domain, read_validators
from fallow.domain.epochs.rules import NONE, Rules
from fallow.domain.identity import address
from fallow.domain.views.network import ContractsView
from fallow.ports.chain import Chain
from fallow.ports.clock import Clock
from fallow.ports.epochs import Attested, Attesting, without_chain
from fallow.services.sender.distributor import Distributor
from fallow.services.sender.publishing import Publisher
from fallow.services.sender.slashing import Slasher
from fallow.services.sender.vault import Vault


def open_archive(data: Path, settings: Settings) -> StoreArchive:
    """Open the archive that the settings name.

    Raises:
        InvalidInput: `archive.url`.
    """
    return url_archive(settings.archive_url) if settings.archive_url else folder_archive(data / "archive")


def rules_of(data: Path, place: Place, settings: Settings) -> Rules:
    """Read the rules of rewards; on a chain, income in paid credits is owed in the asset that backs them.

    Raises:
        InvalidInput: there are no such rules.
        NotFound: the network has no contracts on its chain yet.
    """
    rules = read_rewards(settings)
    if place.chain is None:
        return rules
    contracts = the_contracts(data)
    token = address(contracts.token) if rules.model != NONE else rules.token
    settlement = address(contracts.settlement)
    return msgspec.structs.replace(rules, credit=Credit.PAID.value, settlement=settlement, token=token)


def domain_of(data: Path, place: Place) -> Domain | None:
    """For which contract claims are signed; None where the network has none (yet)."""
    contracts = read_contracts(data) if place.chain else None
    return Domain(place.chain.id, address(contracts.distributor)) if place.chain and contracts else None


@asynccontextmanager
async def attesting(data: Path, place: Place, settings: Settings) -> AsyncIterator[Attesting]:
    """Tell whose votes about an epoch count: those of the contract's validators, else of those in the settings.

    Raises:
        InvalidInput: a validator's address is none, or there are too many.
        NotFound: the network has no contracts on its chain yet.
    """
    if place.chain is None:
        yield without_chain(place.net, read_validators(settings.validators))
        return
    contracts = await asyncio.to_thread(the_contracts, data)
    async with own_chain(place) as chain:
        distributor = _distributor(chain, place.chain.id, contracts)

        async def asked() -> Attested:
            return Attested(distributor.domain, await distributor.validators(), await distributor.revision())

        yield asked


async def publisher(data: Path, settings: Settings, contracts: ContractsView, chain: Chain, clock: Clock) -> Publisher:
    """Put together what brings roots to a chain."""
    place = await asyncio.to_thread(read_place, data)
    keys = await asyncio.to_thread(load_keys, data)
    return Publisher(
        network_key=bytes(keys.network.verify_key),
        archive=await asyncio.to_thread(open_archive, data, settings),
        distributor=_distributor(chain, chain_of(place).id, contracts),
        sender=partial(operator_sender, data, chain_of(place), chain, clock),
        signer=await asyncio.to_thread(operator_signer, data),
        clock=clock,
    )


async def slasher(data: Path, settings: Settings, contracts: ContractsView, chain: Chain, clock: Clock) -> Slasher:
    """Put together what slashes by the evidence in the archive."""
    place = await asyncio.to_thread(read_place, data)
    keys = await asyncio.to_thread(load_keys, data)
    return Slasher(
        network_key=bytes(keys.network.verify_key),
        archive=await asyncio.to_thread(open_archive, data, settings),
        vault=Vault(chain, address(contracts.vault)),
        sender=partial(operator_sender, data, chain_of(place), chain, clock),
        clock=clock,
        limits_made=load_limits_made(),
    )


def _distributor(chain: Chain, chain_id: int, contracts: ContractsView) -> Distributor:
    return Distributor(chain, Domain(chain_id, address(contracts.distributor)))

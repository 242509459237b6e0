"""The role `settle`: the ledger, and all that moves its money between windows, epochs and the chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fallow.adapters.postgres.budgets import PostgresBudgetStore
from fallow.adapters.postgres.burn_store import PostgresBurnStore
from fallow.adapters.postgres.chain_store import PostgresChainStore
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.epochs import PostgresEpochStore
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.measuring import PostgresMeasures
from fallow.adapters.postgres.payouts import PostgresPayoutStore
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.adapters.postgres.subscriptions import PostgresSubscriptionStore
from fallow.bootstrap.audits import auditing
from fallow.bootstrap.backing_up import backups_of, copy_age
from fallow.bootstrap.chains import chain_of, own_chain
from fallow.bootstrap.contracts import addresses_of, read_contracts
from fallow.bootstrap.governance import Governed
from fallow.bootstrap.ground import Ground
from fallow.bootstrap.rewards import read_rewards
from fallow.bootstrap.settling import open_archive
from fallow.domain import calls
from fallow.domain.billing import HOUR_MS
from fallow.ports.rpc import Empty, serve
from fallow.services.settle.budgets import Budgets
from fallow.services.settle.burns import Burns
from fallow.services.settle.chain_events import ChainEvents
from fallow.services.settle.payouts import Payouts
from fallow.services.settle.service import QUEUE, Settle
from fallow.services.settle.subscriptions import Subscriptions
from fallow.services.settle.takes import Takes
from fallow.services.settle.withdrawals import Withdrawals


@asynccontextmanager
async def settling_role(ground: Ground, data: Path) -> AsyncIterator[None]:
    """Run the role `settle` while the context is open."""
    async with AsyncExitStack() as stack:
        settle = Settle(
            bus=ground.bus,
            clock=ground.clock,
            database=ground.database,
            ledger=PostgresLedger(),
            log=PostgresRegistryStore(),
        )
        await stack.enter_async_context(settle.running())
        measures = PostgresMeasures(ground.database, ground.clock)
        ground.watch(measures.settle)
        ground.watch(measures.engine)
        ground.watch(copy_age(backups_of(ground.settings)))
        await stack.enter_async_context(_subscriptions(ground).running())
        await stack.enter_async_context(_budgets(ground).running())
        await stack.enter_async_context(_withdrawals(ground).running())
        await stack.enter_async_context((await _payouts(ground, data)).running())
        await stack.enter_async_context(_burns(ground).running())
        await stack.enter_async_context(_takes(ground).running())
        if ground.place.chain is not None:
            await stack.enter_async_context(_chain_events(ground, data))
        await stack.enter_async_context(auditing(ground, data))
        yield


def _subscriptions(ground: Ground) -> Subscriptions:
    return Subscriptions(
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        ledger=PostgresLedger(),
        store=PostgresSubscriptionStore(),
        budgets=PostgresBudgetStore(),
        decisions=PostgresDecisionStore(),
        fees=ground.fees,
        epoch_ms=ground.settings.epoch_hours * HOUR_MS,
    )


def _budgets(ground: Ground) -> Budgets:
    return Budgets(
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        ledger=PostgresLedger(),
        store=PostgresBudgetStore(),
    )


def _withdrawals(ground: Ground) -> Withdrawals:
    return Withdrawals(
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        ledger=PostgresLedger(),
        decisions=PostgresDecisionStore(),
    )


def _takes(ground: Ground) -> Takes:
    return Takes(
        net=ground.place.net,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        decisions=PostgresDecisionStore(),
    )


def _burns(ground: Ground) -> Burns:
    rules = read_rewards(ground.settings)
    return Burns(
        net=ground.place.net,
        feeds=rules.feeds,
        guard=rules.guard,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        ledger=PostgresLedger(),
        store=PostgresBurnStore(),
        decisions=PostgresDecisionStore(),
        log=PostgresRegistryStore(),
    )


async def _payouts(ground: Ground, data: Path) -> Payouts:
    return Payouts(
        network_key=bytes(ground.keys.network.verify_key),
        clock=ground.clock,
        database=ground.database,
        ledger=PostgresLedger(),
        epochs=PostgresEpochStore(),
        store=PostgresPayoutStore(),
        archive=await asyncio.to_thread(open_archive, data, ground.settings),
    )


@asynccontextmanager
async def _chain_events(ground: Ground, data: Path) -> AsyncIterator[None]:
    """Nothing where the contracts are not there yet: the chain makes them before other roles start."""
    contracts = await asyncio.to_thread(read_contracts, data)
    if contracts is None:
        yield
        return
    async with own_chain(ground.place) as chain:
        events = ChainEvents(
            chain=chain,
            chain_id=chain_of(ground.place).id,
            contracts=addresses_of(contracts),
            first_block=contracts.block,
            depth=chain_of(ground.place).depth,
            bus=ground.bus,
            clock=ground.clock,
            database=ground.database,
            ledger=PostgresLedger(),
            store=PostgresChainStore(),
            burns=PostgresBurnStore(),
            decisions=PostgresDecisionStore(),
        )
        ground.watch(events.measure)
        governed = Governed(chain, contracts, chain_of(ground.place).depth, ground.clock)
        async with (
            events.running(),
            serve(ground.bus, calls.tokens.GOVERNANCE, Empty, governed.now, queue=QUEUE),
            serve(ground.bus, calls.tokens.GOVERNED, Empty, governed.view, queue=QUEUE),
        ):
            yield

"""The role `market`: what matches orders with nodes, and has their leases checked."""

from __future__ import annotations

import secrets
from pathlib import Path

from fallow.adapters.blobs import FolderBlobs
from fallow.adapters.postgres.budgets import PostgresBudgetStore
from fallow.adapters.postgres.checks import PostgresCheckStore
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.market import PostgresMarketStore
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.bootstrap.ground import Ground
from fallow.bootstrap.plugins import load_verticals
from fallow.domain.billing import HOUR_MS
from fallow.domain.checks import Starting
from fallow.domain.encoding import tagged_hash
from fallow.domain.epochs.quorum import read_validators
from fallow.services.market.money import Cashier
from fallow.services.market.outbound import Outbound
from fallow.services.market.rollcalls import RollCalls
from fallow.services.market.rounds import Rounds
from fallow.services.market.seeds import Seeds
from fallow.services.market.service import Market
from fallow.services.market.vault import Vault


def market_of(ground: Ground, data: Path) -> tuple[Rounds, Market]:
    """Put the market together: its rounds, and what answers for them."""
    cashier, vault = Cashier(PostgresLedger(), PostgresBudgetStore()), Vault(ground.keys.custody_seed)
    seeds, verticals = _seeds(ground), load_verticals()
    rounds = _rounds(ground, seeds, cashier, vault)
    blobs = FolderBlobs(data / "blobs")
    comparers = {name: vertical.comparer(blobs, data / "comparing" / name) for name, vertical in verticals.items()}
    roll_calls = RollCalls(
        net=ground.place.net,
        calls_a_day=ground.settings.roll_calls_a_day,
        rounds=rounds,
        verticals=verticals,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=PostgresCheckStore(),
        decisions=PostgresDecisionStore(),
    )
    market = Market(
        rounds=rounds,
        seeds=seeds,
        cashier=cashier,
        vault=vault,
        verticals=verticals,
        comparers={name: comparer for name, comparer in comparers.items() if comparer is not None},
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=PostgresMarketStore(),
        registry=PostgresRegistryStore(),
        roll_calls=roll_calls,
    )
    return rounds, market


def _seeds(ground: Ground) -> Seeds:
    return Seeds(
        net=ground.place.net,
        secret=tagged_hash("fallow/check-secret/1", bytes(ground.keys.network)),
        sign=ground.keys.sign,
        epoch_ms=ground.settings.epoch_hours * HOUR_MS,
        store=PostgresCheckStore(),
        decisions=PostgresDecisionStore(),
        validators=read_validators(ground.settings.validators),
    )


def _rounds(ground: Ground, seeds: Seeds, cashier: Cashier, vault: Vault) -> Rounds:
    return Rounds(
        holder=secrets.token_hex(8),
        fees=ground.fees,
        starting=Starting(ground.settings.checks_usd * 1_000_000),
        seeds=seeds,
        window_ms=ground.settings.window_s * 1000,
        clock=ground.clock,
        database=ground.database,
        store=PostgresMarketStore(),
        log_store=PostgresIngestStore(),
        decisions=PostgresDecisionStore(),
        registry=PostgresRegistryStore(),
        cashier=cashier,
        outbound=Outbound(
            net=ground.place.net,
            epoch_ms=ground.settings.epoch_hours * HOUR_MS,
            sign=ground.keys.sign,
            vault=vault,
            bus=ground.bus,
        ),
    )

"""A network on real contracts whose validators have stake, their own and somebody else's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import httpx2
from coincurve import PrivateKey

from fallow.adapters.memory.blobs import MemoryBlobs
from fallow.adapters.memory.burn_store import MemoryBurnStore
from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.chain_store import MemoryChainStore
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain.chain_events import CONTRACTS
from fallow.domain.chain_facts import ChainFact
from fallow.domain.chart import network_accounts
from fallow.domain.epochs.ballots import evidence_name
from fallow.domain.epochs.distributor import Claim, claim_call
from fallow.domain.epochs.manifest import path_of
from fallow.domain.epochs.quorum import Vote
from fallow.domain.rewards.tree import Leaf
from fallow.domain.transactions import call_data
from fallow.domain.views.network import NetworkView
from fallow.domain.wallets import address_of
from fallow.http.app import create_app
from fallow.http.gateway import Gateway
from fallow.ports.archive import whole
from fallow.services.sender.slashing import Slasher
from fallow.services.sender.vault import Vault
from fallow.services.settle.chain_events import ChainEvents
from fallow.verticals.storage.plugin import VERTICAL as STORAGE
from tests.closed_epochs import VALIDATORS, ClosedEpoch
from tests.epoch_files import NET, NETWORK_KEY
from tests.instant_chain import CHAIN_ID, KeptLog
from tests.settled_world import DELAY_S, OPERATOR, SettledWorld
from tests.unit.fake_network import HandClock

FIRST, TOKENS = 20_000, 10**21
LIAR, DELEGATOR = VALIDATORS[3], PrivateKey(b"\x0d" * 32)
OWN, DELEGATED = 600 * 10**18, 300 * 10**18


class World:
    """Validators of whom one has stake, his own and somebody else's."""

    def __init__(self, settled: SettledWorld) -> None:
        self.settled, self.chain, self.archive = settled, settled.chain, settled.archive
        self.vault = Vault(self.chain, settled.made.vault)
        self.database, self.decisions, self.store = MemoryDatabase(), MemoryDecisionStore(), MemoryChainStore()
        self.ledger = MemoryLedger()
        self.slasher = self.started()

    def started(self) -> Slasher:
        """The operator's process, as it starts."""
        return Slasher(
            network_key=NETWORK_KEY,
            archive=self.archive,
            vault=self.vault,
            sender=partial(self.chain.sender, OPERATOR, self.settled.log),
            clock=self.chain.clock,
            limits_made={STORAGE.name: STORAGE.limit_made},
        )

    async def tokens(self, *keys: PrivateKey) -> None:
        """Have an epoch owe tokens to accounts, and claim them: there is no other way to have any."""
        leaves = [Leaf(address_of(key), self.settled.made.token, TOKENS) for key in sorted(keys, key=address_of)]
        closed = self.closed(FIRST, leaves)
        closed.vote(VALIDATORS[:3])
        self.settled.put(closed)
        await self.settled.publisher().look()
        self.pass_s(DELAY_S)
        claims = [Claim(FIRST, leaf, proof(leaves, at)) for at, leaf in enumerate(leaves)]
        await self.send(OPERATOR, self.settled.made.distributor, claim_call(claims))

    def closed(self, epoch: int, leaves: list[Leaf], said: Sequence[bytes] | None = None) -> ClosedEpoch:
        """An epoch that owes tokens; `said` are its batches, others than usual."""
        made = self.settled.made
        total = sum(leaf.cumulative for leaf in leaves).to_bytes(32)
        return ClosedEpoch(
            epoch=epoch,
            leaves=leaves,
            domain=self.settled.distributor.domain,
            validators=self.settled.validators,
            settlement=made.settlement,
            token=made.token,
            token_total=total,
            said=said,
        )

    async def stake(self, key: PrivateKey, units: int, operator: PrivateKey = LIAR) -> None:
        """Stake with an operator: the validator who will lie, or another one."""
        made = self.settled.made
        await self.send(key, made.token, call_data("approve(address,uint256)", made.vault, units))
        await self.send(key, made.vault, call_data("stake(address,uint256)", address_of(operator), units))

    async def send(self, key: PrivateKey, to: bytes, data: bytes) -> None:
        """Send with a key."""
        log = self.settled.log if key == OPERATOR else KeptLog()
        async with self.chain.sender(key, log) as sender:
            assert (await sender.send(f"{len(log.kept)}", to, data)).succeeded

    def pass_s(self, seconds: int) -> None:
        """Let time go by."""
        self.chain.clock.ms += seconds * 1000

    async def vote(self, epoch: int, vote: Vote) -> int:
        """Hand in a vote over HTTP; returns the answer's status."""
        view = NetworkView(net=NET, public_key=NETWORK_KEY.hex(), bus_url="ws://x", preset="public", version="1")
        gateway = Gateway(
            bus=MemoryHub().connect(), blobs=MemoryBlobs(), network=view, clock=HandClock(), verticals={},
            archive=self.archive,
        )  # fmt: skip
        transport = httpx2.ASGITransport(app=create_app(gateway), raise_app_exceptions=False)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            headers = {"Content-Type": "application/cbor"}
            answer = await client.post(f"/v1/epochs/{epoch}/votes", content=vote.encode(), headers=headers)
        return answer.status_code

    async def recorded(self) -> list[ChainFact]:
        """What settle has read from the chain for the archive."""
        async with self.database.transaction() as tx:
            await self.ledger.open_accounts(tx, network_accounts())
        events = ChainEvents(
            chain=self.chain,
            chain_id=CHAIN_ID,
            contracts={name: getattr(self.settled.made, name) for name in CONTRACTS},
            first_block=self.settled.made.block,
            depth=1,
            bus=MemoryBus(MemoryHub()),
            clock=self.chain.clock,
            database=self.database,
            ledger=self.ledger,
            store=self.store,
            burns=MemoryBurnStore(),
            decisions=self.decisions,
        )
        while await events.look():
            pass
        bodies = [decision.body for _, decision in sorted(self.decisions.waiting.items())]
        return [body for body in bodies if isinstance(body, ChainFact)]


def proof(leaves: list[Leaf], at: int) -> list[bytes]:
    """Of two leaves, each is the other's proof."""
    return [leaf.hash for place, leaf in enumerate(leaves) if place != at]


def equivocate(world: World, signed: int = 3) -> list[Vote]:
    """Close an epoch that some sign; two votes of the liar about it, the wrong one first."""
    closed = world.closed(FIRST + 1, [Leaf(address_of(LIAR), world.settled.made.token, TOKENS)])
    closed.vote(VALIDATORS[:signed])
    world.settled.put(closed)
    other = closed.root._replace(token_total=10**24)
    return [Vote.cast(LIAR, closed.domain, root) for root in (other, closed.root)]


async def equivocates(world: World) -> bytes:
    """Let the liar sign two roots; returns the hash of the evidence that is kept of it."""
    votes = equivocate(world)
    assert [await world.vote(FIRST + 1, vote) for vote in votes] == [201, 409]
    name = path_of(FIRST + 1, evidence_name(address_of(LIAR)))
    return hashlib.sha256(whole(world.archive, name, 1 << 20)).digest()

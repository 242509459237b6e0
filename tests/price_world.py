"""Feeds of a token's price, burns that wait, and the service that credits them."""

from __future__ import annotations

from coincurve import PrivateKey

from fallow.adapters.memory.burn_store import MemoryBurnStore
from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.domain import calls
from fallow.domain.chart import Credit, Purpose, account_id, network_accounts
from fallow.domain.price_facts import price_text
from fallow.domain.rewards.oracle import TOKEN_UNITS, guard_of
from fallow.domain.wallets import address_of, sign_text
from fallow.ports.burn_store import Burn
from fallow.services.settle.burns import GAP_MS, Burns
from tests.unit.agent_fakes import FakeClock

NET, BUYER = "price-test", b"\xb1" * 20
KEYS = [PrivateKey(bytes([number]) * 32) for number in range(1, 5)]
FAIR = 250_000
AGE_MS, JUMP_PPM = 600_000, 200_000


class World:
    """A network with four feeds, of whom one may lie."""

    def __init__(self) -> None:
        self.clock, self.database = FakeClock(), MemoryDatabase()
        self.ledger: MemoryLedger = MemoryLedger()
        self.store, self.decisions, self.sent = MemoryBurnStore(), MemoryDecisionStore(), 0
        self.log = MemoryRegistryStore()
        self.burns = self.started()

    def started(self, feeds: int = 4) -> Burns:
        """The service as it starts, with some feeds."""
        return Burns(
            net=NET,
            feeds=[address_of(key) for key in KEYS[:feeds]],
            guard=guard_of(feeds, age_max_ms=AGE_MS, jump_max_ppm=JUMP_PPM),
            bus=MemoryBus(MemoryHub()),
            clock=self.clock,
            database=self.database,
            ledger=self.ledger,
            store=self.store,
            decisions=self.decisions,
            log=self.log,
        )

    async def tell(self, feed: int, price: int, *, ago_ms: int = 0, doubt: int = 0, net: str = NET) -> int | None:
        """Let a feed say a price; returns the one that holds then."""
        at = self.clock.now_ms() - ago_ms
        signature = "0x" + sign_text(KEYS[feed], price_text(net, price, doubt, at)).hex()
        told = calls.tokens.ReportPrice(price_microusd=price, doubt_microusd=doubt, at_ms=at, signature=signature)
        return (await self.burns.report(told)).price_microusd

    async def fair(self, *feeds: int, price: int = FAIR) -> None:
        """Let feeds tell the truth, and time go on."""
        for feed in feeds:
            await self.tell(feed, price)
        await self.clock.advance(GAP_MS / 1000)

    async def burn(self, tokens: int) -> None:
        """Let the buyer burn tokens for credits."""
        self.sent += 1
        async with self.database.transaction() as tx:
            await self.ledger.open_accounts(tx, network_accounts())
            burn = Burn(7, self.sent.to_bytes(32), 0, BUYER, tokens * TOKEN_UNITS)
            await self.store.wait(tx, [burn])

    async def credits(self) -> int:
        """What the buyer got of all classes: burned credits are the only ones."""
        ids = {credit: account_id(Purpose.WALLET, credit, BUYER) for credit in Credit}
        async with self.database.transaction() as tx:
            found = await self.ledger.balances(tx, list(ids.values()))
        got = {credit: found[id_].credits_posted for credit, id_ in ids.items() if id_ in found}
        assert not got.get(Credit.GRANTED)
        assert not got.get(Credit.PAID)
        return got.get(Credit.BURNED, 0)

"""No double claim: whatever is claimed, by whom, on which root, in which order, through whatever crash."""

from __future__ import annotations

from contextlib import suppress

from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.errors import Conflict
from fallow.domain.wallets import address_of
from tests.instant_chain import KeptLog, KeySigner, Killed
from tests.settled_world import DELAY_S, SettledWorld, settled_world

KEYS = [PrivateKey(bytes([number]) * 32) for number in (33, 34, 35)]
ACCOUNTS = [address_of(key) for key in KEYS]
FIRST = 20_000


class Claimants:
    """Three accounts who earn and claim; each has a log that survives its process."""

    def __init__(self, world: SettledWorld) -> None:
        self.world = world
        self.owed = dict.fromkeys(ACCOUNTS, 0)
        self.logs = [KeptLog() for _ in KEYS]

    async def step(self, what: str, who: int, number: int) -> None:
        """One thing that somebody does, wise or not."""
        if what == "earn":
            self.owed[ACCOUNTS[who]] += number
            await self.world.fund(number)
            self.world.close(FIRST + len(self.world.closed), self.owed)
        elif what == "publish":
            await self.world.publisher().look()
        elif what == "pass":
            self.world.clock.ms += DELAY_S * 1000 * number // 10
        elif self.world.closed:
            with suppress(Conflict, Killed, BaseExceptionGroup):
                await self._claim(what, who, number)

    async def _claim(self, what: str, who: int, number: int) -> None:
        """Claim on any root, active or not, for anybody; `dies` at one of the steps, before or after it."""
        epoch = sorted(self.world.closed)[number % len(self.world.closed)]
        if what == "dies":
            self.logs[who].dies_at = (1 + number % 2, number % 3 == 0)
        claiming = self.world.claiming()
        async with self.world.chain.sender(KEYS[who], self.logs[who]) as sender:
            if what == "relay":
                whose = KeySigner(KEYS[number % len(KEYS)])
                claims = await self.world.prove(epoch, whose.address)
                signed = await claiming.redirect(whose, claims, whose.address, self.world.chain.now_s + 60)
                await claiming.relay(sender, *signed)
            else:
                owner = ACCOUNTS[(who + number) % len(ACCOUNTS)]
                claims = await self.world.prove(epoch, owner)
                await claiming.claim(sender, claims * (1 + number % 2))

    async def check(self) -> None:
        """Nobody has more than is owed, nor more than the contract says it paid."""
        for account, owed in self.owed.items():
            held = await self.world.held(account)
            assert held <= owed
            assert held == await self.world.distributor.claimed(account, self.world.made.settlement)

    async def settle(self) -> None:
        """In the end everybody claims, and has all of it."""
        for log in self.logs:
            log.dies_at = None
        await self.step("earn", 0, 1)
        await self.world.publisher().look()
        self.world.clock.ms += (DELAY_S + 1) * 1000
        for key, account, log in zip(KEYS, ACCOUNTS, self.logs, strict=True):
            claims = (await self.world.dues(account)).claims
            async with self.world.chain.sender(key, log) as sender:
                if claims:
                    await self.world.claiming().claim(sender, claims)
        assert [await self.world.held(account) for account in ACCOUNTS] == list(self.owed.values())


STEPS = st.tuples(
    st.sampled_from(["earn", "publish", "publish", "pass", "pass", "claim", "claim", "dies", "relay"]),
    st.integers(0, 2),
    st.integers(1, 20),
)


@settings(max_examples=8, deadline=None)
@given(st.lists(STEPS, max_size=25))
async def test_nobody_is_paid_twice_and_everybody_in_the_end(steps: list[tuple[str, int, int]]) -> None:
    claimants = Claimants(await settled_world())
    for step in steps:
        await claimants.step(*step)
        await claimants.check()
    await claimants.settle()
    await claimants.check()

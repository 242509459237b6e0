"""The life of an offer under any order of events, late and hostile ones included."""

# ruff: noqa: D101, D102 - the names of the machine's steps say what they do

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fallow.domain.facts import OfferMade
from fallow.domain.offers import (
    COOL_DOUBLINGS_MAX,
    COOL_MS,
    LOST_AFTER_MS,
    REBOOT_GRACE_MS,
    Beat,
    Forgiven,
    Ignored,
    Listed,
    Offer,
    Offered,
    OfferEvent,
    TurnedDown,
    Worked,
    put_up,
    step,
)
from fallow.domain.resources import Resources, Terms

START = 1_000_000
SPANS = st.sampled_from([0, 1, 1_999, 2_000, 3_000, 9_999, 10_000, 70_000])
BOOTS = st.integers(1, 4)


def offer(number: int, boot: int, *, is_open: bool) -> Offer:
    total = Resources(cpu_milli=1000, memory_mib=64, disk_mib=0)
    made = OfferMade(offer=number, open=is_open, total=total, terms=Terms(price_microusd_per_core_hour=number))
    return Offer(node=bytes(32), account=bytes(20), boot=boot, made=made)


class OfferMachine(RuleBasedStateMachine):
    @initialize(boot=BOOTS, is_open=st.booleans())
    def begin(self, boot: int, is_open: bool) -> None:
        self.now = self.heard = self.booted = START
        self.boot, self.number = boot, 1
        first = offer(1, boot, is_open=is_open)
        self.life, effects = put_up(first, START)
        assert effects == (Listed(first),)
        self.listed = first
        self.turned_down = 0

    def send(self, event: OfferEvent) -> bool:
        """Whether it was taken; what is not changes nothing."""
        before = self.life
        self.life, effects = step(before, event)
        for effect in effects:
            if isinstance(effect, Ignored):
                assert (self.life, len(effects)) == (before, 1)
                return False
            self.listed = effect.offer
        return True

    def sees(self, boot: int) -> None:
        self.heard = self.now
        if boot > self.boot:
            self.boot, self.booted = boot, self.now

    @rule(ms=SPANS)
    def wait(self, ms: int) -> None:
        self.now += ms

    @rule(boot=BOOTS, is_open=st.booleans())
    def offers(self, boot: int, is_open: bool) -> None:
        """A record is in the log: it counts whatever it says, also under an older boot."""
        self.number += 1
        made = offer(self.number, boot, is_open=is_open)
        assert self.send(Offered(made, self.now))
        assert self.listed == made
        self.sees(boot)

    @rule(boot=BOOTS)
    def beats(self, boot: int) -> None:
        """Who shows an older boot is a copy of the agent that was: it keeps nothing alive."""
        assert self.send(Beat(boot, self.now)) == (boot >= self.boot)
        if boot >= self.boot:
            self.sees(boot)

    @rule(times=st.integers(1, 3))
    def turns_down(self, times: int) -> None:
        rested = self.life.rests(self.now)
        taken = [self.send(TurnedDown(self.now)) for _ in range(times)]
        assert taken == [not rested, *[False] * (times - 1)]
        if not rested:
            assert self.life.cool_until - self.now == COOL_MS << min(self.turned_down, COOL_DOUBLINGS_MAX)
            self.turned_down += 1

    @rule()
    def works(self) -> None:
        assert self.send(Worked())
        self.turned_down = 0

    @rule()
    def is_forgiven(self) -> None:
        assert self.send(Forgiven(self.now))
        assert not self.life.rests(self.now)
        self.heard, self.turned_down = self.now, 0

    @invariant()
    def it_is_what_its_node_last_said(self) -> None:
        if not hasattr(self, "life"):
            return
        life = self.life
        assert life.offer == self.listed
        assert (life.boot, life.cooled) == (self.boot, self.turned_down)
        assert life.online(self.now) == (self.now - self.heard < LOST_AFTER_MS)
        assert life.here(self.now) == (life.online(self.now) and self.listed.made.open)
        assert life.cool_until <= self.now + (COOL_MS << COOL_DOUBLINGS_MAX)

    @invariant()
    def leases_are_lost_with_their_node_or_with_its_boot_and_not_at_once(self) -> None:
        if not hasattr(self, "life"):
            return
        for boot in range(1, 5):
            lost = self.life.lost(boot, self.now)
            if self.now - self.heard >= LOST_AFTER_MS:
                assert lost == "node.vanished"
            else:
                late = self.now - self.booted >= REBOOT_GRACE_MS
                assert lost == ("node.restarted" if boot < self.boot and late else "")


OfferMachine.TestCase.settings = settings(max_examples=settings().max_examples, stateful_step_count=40)
TestOffers = OfferMachine.TestCase

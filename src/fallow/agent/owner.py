"""The owner comes first: looks at the machine every second, and says when it is not to be used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import NamedTuple

import msgspec

from fallow.agent.asking import in_force, least_usd, load_asked, save_asked
from fallow.agent.policy import (
    GIB,
    Asked,
    Now,
    PolicyState,
    Reading,
    Unknown,
    Verdict,
    asked,
    decide,
    offered,
    price_floor_microusd_per_core_hour,
    unseen,
)
from fallow.agent.policy_file import IdlePolicy, load_policy, policy_stamp
from fallow.agent.policy_text import explain
from fallow.agent.probes import Probes
from fallow.agent.traffic import Traffic
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed
from fallow.domain.fees import Fees
from fallow.domain.idle_rules import IdleRules, RulesAsked, RulesStanding
from fallow.domain.resources import Resources, Terms
from fallow.ports.clock import Clock

LOOK_S = 1.0
REFRESH_S = 10.0
SAVE_S = 60.0
_BITS_PER_BYTE = 8

_log = logging.getLogger(__name__)


class Shape(NamedTuple):
    """What the owner's rules leave of an offer, and the prices that they set.

    `floor` is the least price, micro-US-dollars per core and hour.
    """

    open: bool
    total: Resources
    floor: int
    asked: Asked = Asked()


class OwnerView(msgspec.Struct, frozen=True, kw_only=True):
    """What `fallow agent status` shows of the owner's rules.

    `reasons` are codes with sentences; `unseen` are rules that nothing can be seen for; `trouble` is what is wrong with
    the policy's file, if it was changed to something that is none. `policy` is what is in force: the owner's file, and
    what was `asked` in the console but for the settings `held_back`, in which it went beyond the file.
    """

    open: bool
    reasons: list[tuple[str, str]]
    policy: list[str]
    readings: Reading
    sources: dict[str, str]
    unseen: list[str]
    trouble: str
    asked: RulesAsked | None = None
    held_back: list[str] = []


class Owner:
    """Watches over the policy in the folder `home`; `agreed` is what the owner offered when joining, at `terms`.

    `fees` are what the network keeps of a price, as far as it has said so.

    `machine` is all that there is. `zone` is the local time zone when left out. `executor` runs one look at a time.

    Raises:
        InvalidInput: the policy's file, or what was asked beside it, is damaged: nothing is offered on a guess of what
            its owner wants.
    """

    def __init__(
        self,
        home: Path,
        probes: Probes,
        clock: Clock,
        traffic: Traffic,
        *,
        machine: Resources,
        agreed: Resources,
        terms: Terms,
        fees: Fees,
        zone: tzinfo | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._home = home
        self._probes = probes
        self._clock = clock
        self._traffic = traffic
        self._machine = machine
        self._agreed = agreed
        self._terms = terms
        self._fees = fees
        self._zone = zone
        # A thread of its own: other work of the agent must not hold up the owner.
        self._thread = executor or ThreadPoolExecutor(1, thread_name_prefix="owner")
        self._stamp = policy_stamp(home)
        self._trouble = ""
        self._reading = _blind("Nothing was looked at yet.")
        self._own = load_policy(home)
        self._asked = load_asked(home)
        self._settle()
        self.verdict = Verdict(True, False, (), PolicyState())

    @property
    def shape(self) -> Shape:
        """What may be offered now."""
        total = offered(self.policy, self._machine, self._agreed)
        fee_ppm = self._fees.at(self._clock.now_ms()).fee_ppm
        floor = price_floor_microusd_per_core_hour(self.policy, total.cpu_milli, fee_ppm=fee_ppm)
        return Shape(self.verdict.open, total, floor, asked(self.policy))

    @property
    def closed_for(self) -> str:
        """The code of the reason why nothing new may come; empty when there is none."""
        return "" if self.verdict.open else self.verdict.reasons[0][0]

    def ask(self, asked: RulesAsked | None) -> RulesStanding:
        """Take what the owner asks for in the console, as far as it is stricter than his file; say how things stand.

        The same again changes nothing. What is taken is obeyed from the next look on.

        Raises:
            NotAllowed: the policy's file does not let the console ask (`agent.console_off`); nothing of it is told.
            Conflict: something later was asked already.
            Unavailable: the disk is full; what was asked before still holds.
        """
        if not self._own.console:
            raise NotAllowed(
                "agent.console_off",
                "This machine takes no rules or prices from the console.",
                "To let its account ask for stricter ones, type there: fallow agent policy set console=true",
            )
        if asked is not None and asked != self._asked:
            if self._asked is not None and asked.at <= self._asked.at:
                raise Conflict("agent.asked_later", "Something later was asked of this machine already.", "Look again.")
            save_asked(self._home, asked)
            self._asked = asked
            self._settle()
            _log.info("the console asked: %s", " ".join(explain(self.policy)))
        own = IdleRules(**{name: getattr(self._own, name) for name in IdleRules.__struct_fields__})
        least = least_usd(self._own, self._terms)
        return RulesStanding(own=own, least_usd=least, asked=self._asked, held_back=self._held_back)

    def has_room(self, size: int) -> bool:
        """See the port `Line`."""
        budget = self.policy.data_gib_month
        return budget is None or self._reading.data_bytes + size <= budget * GIB

    def count(self, size: int) -> None:
        """See the port `Line`."""
        self._traffic.count(size)

    async def run(self, obey: Callable[[], Awaitable[None]]) -> None:
        """Look every second until cancelled; `obey` is called after each look."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._refresh())
                group.create_task(self._save())
                while True:
                    await self._clock.sleep(LOOK_S)
                    await self.look()
                    await obey()
        finally:
            self._traffic.save()
            self._probes.close()

    async def look(self) -> None:
        """Read the policy, if it has changed, and the probes; then decide."""
        self._reload()
        try:
            looking = asyncio.get_running_loop().run_in_executor(self._thread, self._probes.read, self.policy.programs)
            reading = await looking
        except Exception as error:  # noqa: BLE001 - logged with its trace
            # An owner whose wishes cannot be seen to is not overrun: what he asked for counts as broken.
            _log.exception("the machine cannot be looked at")
            reading = _blind(f"The probes failed: {error}.")
        local = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).astimezone(self._zone)
        self._reading = msgspec.structs.replace(reading, data_bytes=self._traffic.moved(f"{local:%Y-%m}"))
        now = Now(self._clock.monotonic_ms(), local.weekday(), local.hour * 60 + local.minute)
        before, self.verdict = self.verdict, decide(self.policy, self._reading, now, self.verdict.state)
        if before.open != self.verdict.open:
            why = " ".join(sentence for _, sentence in self.verdict.reasons)
            _log.info("the owner's rules %s", f"close this machine: {why}" if why else "open this machine")

    def view(self) -> OwnerView:
        """How things stand."""
        return OwnerView(
            open=self.verdict.open,
            reasons=list(self.verdict.reasons),
            policy=explain(self.policy),
            readings=self._reading,
            sources=dict(self._probes.sources),
            unseen=list(unseen(self.policy, self._reading)),
            trouble=self._trouble,
            asked=self._asked if self._own.console else None,
            held_back=self._held_back,
        )

    def _reload(self) -> None:
        stamp = policy_stamp(self._home)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._own = load_policy(self._home)
            except InvalidInput as error:
                self._trouble = f"The policy was changed to one that cannot be read; the last one holds. {error}"
                _log.warning("%s", self._trouble)
            else:
                self._trouble = ""
                self._settle()
                _log.info("the owner changed the policy: %s", " ".join(explain(self.policy)))
        self._traffic.upload_bytes_s = _bytes_s(self.policy)

    def _settle(self) -> None:
        """Put into force what the file says, and what was asked as far as the file lets it."""
        self.policy, self._held_back = in_force(self._own, self._asked, self._terms)

    async def _refresh(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._probes.refresh)
            except Exception:  # noqa: BLE001 - logged with its trace; the next one may work
                _log.exception("the machine cannot be asked")
            await self._clock.sleep(REFRESH_S)

    async def _save(self) -> None:
        while True:
            await self._clock.sleep(SAVE_S)
            await asyncio.to_thread(self._traffic.save)


def _bytes_s(policy: IdlePolicy) -> float | None:
    return None if policy.upload_mbit_s is None else policy.upload_mbit_s * 1_000_000 / _BITS_PER_BYTE


def _blind(why: str) -> Reading:
    unknown = Unknown(why)
    return Reading(
        others_cpu_percent=unknown,
        idle_s=unknown,
        on_battery=unknown,
        metered=unknown,
        temperature_c=unknown,
        power_w=unknown,
        programs=unknown,
        gpu_mib=unknown,
    )

"""Whether this machine may work for others now: a pure function of the owner's policy and of what the probes read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import msgspec

from fallow.agent.policy_file import IdlePolicy
from fallow.domain.hours import parse_range
from fallow.domain.idle_rules import MICROUSD_PER_USD
from fallow.domain.resources import Resources, Terms

GIB = 1 << 30
COOLER_C = 5
"""A machine that was closed for its heat opens again when it is so much cooler than the limit."""

CALMER_PERCENT = 75
"""A machine that was closed for the load of others opens again when it is below so many percent of the limit."""

THRIFTIER_PERCENT = 90
"""A machine that was closed for the power that it draws opens again when it is below so many percent of the limit."""

_LISTED_MAX = 3


class Unknown(msgspec.Struct, frozen=True):
    """A probe that cannot see, and why: never a guess."""

    unknown: str


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the probes see at one moment.

    `others_cpu_percent` is of all cores, without this agent and its work; `idle_s` counts from the last use of a key,
    a mouse or a terminal; `power_w` is what processors and NVIDIA's graphics cards draw, for our work, too; `programs`
    are the listed ones that run; `gpu_mib` is what each program that is not ours holds of graphics cards' memory;
    `data_bytes` is what the agent has moved in this calendar month, up and down.
    """

    others_cpu_percent: float | Unknown
    idle_s: float | Unknown
    on_battery: bool | Unknown
    metered: bool | Unknown
    temperature_c: float | Unknown
    power_w: float | Unknown
    programs: tuple[str, ...] | Unknown
    gpu_mib: dict[str, int] | Unknown
    data_bytes: int = 0


class Now(NamedTuple):
    """A moment: a clock that never goes back, and the local day of the week (0 is Monday) and minute of the day."""

    monotonic_ms: int
    weekday: int
    minute: int


class PolicyState(NamedTuple):
    """What the next decision has to know of the last ones. `clear_since_ms` and `loaded_since_ms`: None when not so."""

    open: bool = True
    was_open: bool = False
    clear_since_ms: int | None = None
    loaded_since_ms: int | None = None


class Verdict(NamedTuple):
    """`open`: new work may come. `stop_running`: what runs must end now.

    `reasons` are (code, sentence), the strongest first; none when it is open. `state` goes into the next decision.
    """

    open: bool
    stop_running: bool
    reasons: tuple[tuple[str, str], ...]
    state: PolicyState


def decide(policy: IdlePolicy, reading: Reading, now: Now, state: PolicyState) -> Verdict:
    """Decide whether the machine may work for others.

    It closes at once. It opens again when nothing has been in the way for `reopen_after_s`, where load, heat and
    power must have gone well below their limits: so it changes at most twice in that time, however noisy they are.
    """
    reasons = [found for rule in _RULES if (found := rule(policy, reading, now, state)) is not None]
    loaded = any(code == "owner.load" for code, _ in reasons)
    since = now.monotonic_ms if state.loaded_since_ms is None else state.loaded_since_ms
    lasts = now.monotonic_ms - since >= policy.others_for_s * 1000
    state = state._replace(loaded_since_ms=since if loaded else None)
    if reasons:
        stop = lasts if {code for code, _ in reasons} == {"owner.load"} else True
        return Verdict(False, stop, tuple(reasons), state._replace(open=False, clear_since_ms=None))
    clear_since = now.monotonic_ms if state.clear_since_ms is None else state.clear_since_ms
    waits_ms = clear_since + policy.reopen_after_s * 1000 - now.monotonic_ms
    if not state.open and state.was_open and waits_ms > 0:
        sentence = f"Nothing is in the way any more; it opens in {-(-waits_ms // 1000)} s unless something comes up."
        return Verdict(False, False, (("owner.settling", sentence),), state._replace(clear_since_ms=clear_since))
    return Verdict(True, False, (), PolicyState(open=True, was_open=True, clear_since_ms=clear_since))


def offered(policy: IdlePolicy, machine: Resources, agreed: Resources) -> Resources:
    """What may be offered: what the owner agreed to at the join, and at most the policy's share of the machine."""
    return Resources(
        cpu_milli=min(agreed.cpu_milli, machine.cpu_milli * policy.cpu_percent // 100),
        memory_mib=min(agreed.memory_mib, machine.memory_mib * policy.memory_percent // 100),
        disk_mib=min(agreed.disk_mib, machine.disk_mib * policy.disk_percent // 100),
        gpus=min(agreed.gpus, machine.gpus),
    )


class Asked(NamedTuple):
    """Prices that the policy sets, in micro-US-dollars an hour; None where what was said when joining holds."""

    core: int | None = None
    gpu: int | None = None
    spot_core: int | None = None

    def on_demand(self, agreed: Terms) -> Terms:
        """What is asked where `agreed` was said when joining."""
        core = agreed.price_microusd_per_core_hour if self.core is None else self.core
        gpu = agreed.price_microusd_per_gpu_hour if self.gpu is None else self.gpu
        return msgspec.structs.replace(agreed, price_microusd_per_core_hour=core, price_microusd_per_gpu_hour=gpu)

    def on_spot(self, agreed: Terms, spot: Terms | None) -> Terms | None:
        """What is asked for spot leases: never more than on demand, and for all parts the same share of it."""
        if self == Asked():
            return spot
        full = self.on_demand(agreed)
        wanted = spot.price_microusd_per_core_hour if self.spot_core is None and spot is not None else self.spot_core
        if wanted is None:
            return None
        core = min(wanted, full.price_microusd_per_core_hour)
        gpu = full.price_microusd_per_gpu_hour * core // max(1, full.price_microusd_per_core_hour)
        return msgspec.structs.replace(spot or full, price_microusd_per_core_hour=core, price_microusd_per_gpu_hour=gpu)


def asked(policy: IdlePolicy) -> Asked:
    """The prices that a policy sets."""
    prices = (policy.price_usd_per_core_hour, policy.price_usd_per_gpu_hour, policy.spot_usd_per_core_hour)
    return Asked(*(None if price is None else round(_exact(price) * MICROUSD_PER_USD) for price in prices))


def price_floor_microusd_per_core_hour(policy: IdlePolicy, cpu_milli: int, *, fee_ppm: int = 0) -> int:
    """What a core must earn in an hour so that electricity and wear are covered, in micro-US-dollars, rounded up.

    `cpu_milli` is what is offered: all of it at work draws `watts_busy`. Only what work draws on top of the idle
    machine counts, since it would be on anyway. `fee_ppm` is what the network keeps of a price. 0 when the owner gave
    no figures.
    """
    watts = 0 if policy.watts_busy is None else _exact(policy.watts_busy) - _exact(policy.watts_idle)
    usd_per_hour = watts * _exact(policy.tariff_usd_per_kwh or 0) / 1000 + _exact(policy.wear_usd_per_hour)
    kept = Fraction(1_000_000 - fee_ppm, 1_000_000)
    microusd = usd_per_hour * 1_000_000 * 1000 / (max(1, cpu_milli) * kept)
    return -(-microusd.numerator // microusd.denominator)


def _exact(number: float) -> Fraction:
    """The number as the owner wrote it, not as the processor keeps it."""
    return Fraction(Decimal(repr(number)))


Reason = tuple[str, str] | None
Rule = Callable[[IdlePolicy, Reading, Now, PolicyState], Reason]


def _present(policy: IdlePolicy, reading: Reading, _now: Now, _state: PolicyState) -> Reason:
    if policy.away_minutes is None:
        return None
    idle = reading.idle_s
    if isinstance(idle, Unknown):
        return "owner.present", f"Whether you are here cannot be seen: {idle.unknown}"
    if idle >= policy.away_minutes * 60:
        return None
    return "owner.present", f"You were here {idle:.0f} s ago; it works after {policy.away_minutes} minutes without you."


def _program(policy: IdlePolicy, reading: Reading, _now: Now, _state: PolicyState) -> Reason:
    if not policy.programs:
        return None
    running = reading.programs
    if isinstance(running, Unknown):
        return "owner.program", f"Which programs run cannot be seen: {running.unknown}"
    return ("owner.program", f"{_listed(running)} runs.") if running else None


def _gpu(policy: IdlePolicy, reading: Reading, _now: Now, _state: PolicyState) -> Reason:
    if isinstance(reading.gpu_mib, Unknown) or not policy.gpu_memory_mib:
        return None
    using = tuple(name for name, mib in sorted(reading.gpu_mib.items()) if mib >= policy.gpu_memory_mib)
    return ("owner.program", f"{_listed(using)} uses the graphics card.") if using else None


def _limited(
    code: str,
    limit_of: Callable[[IdlePolicy], float | None],
    read: Callable[[Reading], float | Unknown],
    opens_at: Callable[[float], float],
    *,
    unseen: str,
    told: str,
) -> Rule:
    """Make a rule that closes at a limit, and opens again well below it, at `opens_at(limit)`.

    The sentences are for people: of `unseen` is said that it cannot be seen, and `told` takes the `value` that was read
    and the `limit` that holds.
    """

    def rule(policy: IdlePolicy, reading: Reading, _now: Now, state: PolicyState) -> Reason:
        limit, value = limit_of(policy), read(reading)
        if limit is None:
            return None
        if isinstance(value, Unknown):
            return code, f"{unseen} cannot be seen: {value.unknown}"
        bound = limit if state.open else opens_at(limit)
        return (code, told.format(value=value, limit=bound)) if value >= bound else None

    return rule


_load = _limited(
    "owner.load",
    lambda policy: policy.others_cpu_percent,
    lambda reading: reading.others_cpu_percent,
    lambda limit: limit * CALMER_PERCENT / 100,
    unseen="What other programs take of the processor",
    told="Other programs take {value:.0f} % of the processor; the limit is {limit:g} %.",
)
_temperature = _limited(
    "owner.temperature",
    lambda policy: policy.temperature_c,
    lambda reading: reading.temperature_c,
    lambda limit: limit - COOLER_C,
    unseen="How hot the machine is",
    told="The machine is {value:.0f} °C hot; the limit is {limit:g} °C.",
)
_power = _limited(
    "owner.power",
    lambda policy: policy.power_w,
    lambda reading: reading.power_w,
    lambda limit: limit * THRIFTIER_PERCENT / 100,
    unseen="How much power the machine draws",
    told="The machine draws {value:.0f} W; the limit is {limit:g} W.",
)


def _battery(policy: IdlePolicy, reading: Reading, _now: Now, _state: PolicyState) -> Reason:
    if policy.on_battery or reading.on_battery is not True:
        return None
    return "owner.battery", "The machine runs on its battery."


def _metered(policy: IdlePolicy, reading: Reading, _now: Now, _state: PolicyState) -> Reason:
    if policy.on_metered or reading.metered is not True:
        return None
    return "owner.metered", "The network link is metered."


def _hours(policy: IdlePolicy, _reading: Reading, now: Now, _state: PolicyState) -> Reason:
    if not policy.hours or any(parse_range(text).holds(now.weekday, now.minute) for text in policy.hours):
        return None
    return "owner.hours", f"It is outside of the hours: {', '.join(policy.hours)}."


def _data(policy: IdlePolicy, reading: Reading, _now: Now, _state: PolicyState) -> Reason:
    budget = policy.data_gib_month
    if budget is None or reading.data_bytes < budget * GIB:
        return None
    return "owner.data_budget", f"This month's {budget:g} GiB are used up ({reading.data_bytes / GIB:.1f} GiB)."


_RULES: tuple[Rule, ...] = (
    _present, _program, _gpu, _load, _temperature, _power, _battery, _metered, _hours, _data,
)  # fmt: skip


def unseen(policy: IdlePolicy, reading: Reading) -> Iterator[str]:
    """Sentences on rules that are on, but whose probe cannot see, so that they do not close the machine."""
    if not policy.on_battery and isinstance(reading.on_battery, Unknown):
        yield f"Whether it runs on battery cannot be seen: {reading.on_battery.unknown}"
    if not policy.on_metered and isinstance(reading.metered, Unknown):
        yield f"Whether the link is metered cannot be seen: {reading.metered.unknown}"
    if policy.gpu_memory_mib and isinstance(reading.gpu_mib, Unknown):
        yield f"Who uses graphics cards cannot be seen: {reading.gpu_mib.unknown}"


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _LISTED_MAX} more" if len(names) > _LISTED_MAX else ""
    return ", ".join(names[:_LISTED_MAX]) + more

"""The owner's rules under any reading: what says no is obeyed, and nothing flaps."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fallow.agent.asking import in_force
from fallow.agent.policy import (
    Now,
    PolicyState,
    Reading,
    Unknown,
    decide,
    price_floor_microusd_per_core_hour,
)
from fallow.agent.policy_file import IdlePolicy, changed
from fallow.domain.hours import DAY_MINUTES, DAYS, parse_range
from fallow.domain.idle_rules import IdleRules, RulesAsked
from tests.unit.owner_fakes import TERMS, reading

unknown = st.builds(Unknown, st.just("not seen"))
clock_time = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda time: f"{time[0]:02}:{time[1]:02}")


@st.composite
def hour_ranges(draw: st.DrawFn) -> str:
    """A range of hours as an owner writes it."""
    days = draw(st.sampled_from(["daily", *DAYS, "mon-fri", "sat-mon", "fri-tue"]))
    begin = draw(clock_time)
    return f"{days} {begin}-{draw(clock_time.filter(lambda time: time != begin))}"


readings = st.builds(
    Reading,
    others_cpu_percent=st.floats(0, 100) | unknown,
    idle_s=st.floats(0, 10_000) | unknown,
    on_battery=st.booleans() | unknown,
    metered=st.booleans() | unknown,
    temperature_c=st.floats(20, 110) | unknown,
    power_w=st.floats(0, 1000) | unknown,
    programs=st.sampled_from([(), ("game",), ("game", "render")]) | unknown,
    gpu_mib=st.dictionaries(st.sampled_from(["game", "desktop"]), st.integers(0, 4096)) | unknown,
    data_bytes=st.integers(0, 1 << 34),
)
policies = st.builds(
    IdlePolicy,
    hours=st.lists(hour_ranges(), max_size=2).map(tuple),
    others_cpu_percent=st.none() | st.integers(1, 100),
    others_for_s=st.integers(0, 30),
    away_minutes=st.none() | st.integers(1, 60),
    programs=st.sampled_from([(), ("game", "render")]),
    gpu_memory_mib=st.integers(0, 2048),
    temperature_c=st.none() | st.integers(30, 100),
    power_w=st.none() | st.integers(1, 800),
    on_battery=st.booleans(),
    on_metered=st.booleans(),
    data_gib_month=st.none() | st.floats(0, 16),
    reopen_after_s=st.integers(0, 120),
)
moments = st.builds(Now, st.integers(0, 10**9), st.integers(0, 6), st.integers(0, DAY_MINUTES - 1))
states = st.builds(
    PolicyState, st.booleans(), st.booleans(), st.none() | st.integers(0, 10**9), st.none() | st.integers(0, 10**9)
)


def says_no(policy: IdlePolicy, seen: Reading, now: Now) -> bool:
    """The rules again, written in another way: whether any of them forbids."""
    sees = (seen.others_cpu_percent, seen.idle_s, seen.temperature_c, seen.power_w, seen.programs)
    asked = (
        policy.others_cpu_percent,
        policy.away_minutes,
        policy.temperature_c,
        policy.power_w,
        policy.programs or None,
    )
    blind = any(isinstance(one, Unknown) and rule is not None for one, rule in zip(sees, asked, strict=True))
    load, idle, heat, power = (None if isinstance(one, Unknown) else one for one in sees[:4])
    running = () if isinstance(seen.programs, Unknown) else seen.programs
    gpu = {} if isinstance(seen.gpu_mib, Unknown) else seen.gpu_mib
    return blind or any(
        [
            policy.others_cpu_percent is not None and load is not None and load >= policy.others_cpu_percent,
            policy.away_minutes is not None and idle is not None and idle < policy.away_minutes * 60,
            policy.temperature_c is not None and heat is not None and heat >= policy.temperature_c,
            policy.power_w is not None and power is not None and power >= policy.power_w,
            bool(policy.programs) and bool(running),
            policy.gpu_memory_mib > 0 and any(mib >= policy.gpu_memory_mib for mib in gpu.values()),
            not policy.on_battery and seen.on_battery is True,
            not policy.on_metered and seen.metered is True,
            policy.data_gib_month is not None and seen.data_bytes >= policy.data_gib_month * 2**30,
            bool(policy.hours) and not any(open_at(text, now) for text in policy.hours),
        ]
    )


def open_at(text: str, now: Now) -> bool:
    """Whether a range holds, minute by minute: walk from its beginning to its end."""
    span = parse_range(text)
    for day in span.days:
        minute = span.start
        while True:
            if ((day + minute // DAY_MINUTES) % 7, minute % DAY_MINUTES) == (now.weekday, now.minute):
                return True
            minute += 1
            if minute % DAY_MINUTES == span.end % DAY_MINUTES:
                break
    return False


@given(policies, readings, moments, states)
def test_never_open_when_a_rule_says_no(policy: IdlePolicy, seen: Reading, now: Now, state: PolicyState) -> None:
    verdict = decide(policy, seen, now, state)
    assert not (verdict.open and says_no(policy, seen, now))
    assert verdict.open == (not verdict.reasons)
    assert not (verdict.open and verdict.stop_running)
    assert verdict.state.open == verdict.open


@given(policies, readings, moments)
def test_open_when_none_does(policy: IdlePolicy, seen: Reading, now: Now) -> None:
    """A first look at a machine where nothing is in the way opens it: no rule is stricter than it says."""
    assert decide(policy, seen, now, PolicyState()).open == (not says_no(policy, seen, now))


@given(
    st.integers(1, 60),
    st.lists(
        st.fixed_dictionaries(
            {
                "others_cpu_percent": st.floats(0, 100),
                "temperature_c": st.floats(60, 90),
                "power_w": st.floats(80, 120),
                "on_battery": st.booleans(),
            }
        ),
        min_size=1,
        max_size=200,
    ),
)
def test_however_noisy_the_readings_it_changes_seldom(reopen_after_s: int, noise: list[dict[str, Any]]) -> None:
    policy = IdlePolicy(others_cpu_percent=50, temperature_c=75, power_w=100, reopen_after_s=reopen_after_s)
    state, told = PolicyState(), []
    for second, changes in enumerate(noise):
        verdict = decide(policy, reading(**changes), Now(second * 1000, 0, 0), state)
        state = verdict.state
        told.append(verdict.open)
    changes_count = sum(before != after for before, after in itertools.pairwise(told))
    assert changes_count <= 2 * (len(noise) // reopen_after_s + 1)


@given(st.lists(st.floats(37.6, 49.9), min_size=1, max_size=100))
def test_a_load_between_the_thresholds_changes_nothing(loads: list[float]) -> None:
    policy = IdlePolicy(others_cpu_percent=50, reopen_after_s=0)
    for start in (True, False):
        state = PolicyState(open=start, was_open=True)
        for second, load in enumerate(loads):
            verdict = decide(policy, reading(others_cpu_percent=load), Now(second * 1000, 0, 0), state)
            assert verdict.open == start
            state = verdict.state


@given(hour_ranges(), st.integers(0, 6), st.integers(0, DAY_MINUTES - 1))
def test_hours_over_midnight(text: str, weekday: int, minute: int) -> None:
    assert parse_range(text).holds(weekday, minute) == open_at(text, Now(0, weekday, minute))


@given(
    st.integers(0, 500),
    st.integers(0, 1000),
    st.integers(0, 100).map(lambda cents: cents / 100),
    st.integers(0, 100).map(lambda cents: cents / 100),
    st.integers(1, 64_000),
    st.integers(0, 500_000),
)
def test_the_floor_covers_the_cost_to_the_micro_dollar(
    idle: int, more: int, tariff: float, wear: float, cpu_milli: int, fee_ppm: int
) -> None:
    policy = IdlePolicy(watts_idle=idle, watts_busy=idle + more, tariff_usd_per_kwh=tariff, wear_usd_per_hour=wear)
    floor = price_floor_microusd_per_core_hour(policy, cpu_milli, fee_ppm=fee_ppm)
    cost = (more * round(tariff * 100) * 10 + round(wear * 100) * 10_000) * 10**9  # in 10^-15 dollars an hour
    earns = floor * cpu_milli * (1_000_000 - fee_ppm)  # in 10^-15 dollars an hour
    assert earns >= cost
    assert (floor - 1) * cpu_milli * (1_000_000 - fee_ppm) < max(1, cost)


@given(policies)
def test_settings_as_text_mean_what_they_say(policy: IdlePolicy) -> None:
    settings = []
    for name in policy.__struct_fields__:
        value = getattr(policy, name)
        text = ";".join(value) if isinstance(value, tuple) else "" if value is None else str(value).lower()
        settings.append(f"{name}={text}")
    assert changed(IdlePolicy(), settings) == policy


wishes = policies.map(lambda policy: IdleRules(**{name: getattr(policy, name) for name in IdleRules.__struct_fields__}))


@given(policies, wishes, st.integers(1, 100), st.integers(1, 100), readings, moments, states)
def test_whatever_the_console_asks_the_machine_does_no_more_for_others_than_its_file_lets_it(
    policy: IdlePolicy, asked: IdleRules, own: int, wanted: int, seen: Reading, now: Now, state: PolicyState
) -> None:
    file = msgspec.structs.replace(policy, console=True, cpu_percent=own, price_usd_per_core_hour=own / 100)
    asked = msgspec.structs.replace(asked, cpu_percent=wanted, price_usd_per_core_hour=wanted / 100)
    holds = in_force(file, RulesAsked(id="", at=1, account="", key_id="", rules=asked), TERMS).policy
    assert not decide(holds, seen, now, state).open or (
        decide(file, seen, now, state).open and not says_no(msgspec.structs.replace(file, hours=asked.hours), seen, now)
    )
    assert holds.cpu_percent == min(own, wanted)
    assert holds.price_usd_per_core_hour == max(own, wanted) / 100

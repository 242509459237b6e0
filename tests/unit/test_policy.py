"""The owner's policy: its file, its hours, what it decides, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fallow.agent.policy import (
    PolicyState,
    Verdict,
    asked,
    decide,
    offered,
    price_floor_microusd_per_core_hour,
    unseen,
)
from fallow.agent.policy_file import IdlePolicy, changed, load_policy, meanings, policy_stamp, policy_toml, save_policy
from fallow.agent.policy_text import explain
from fallow.domain.errors import InvalidInput
from fallow.domain.hours import parse_range
from fallow.domain.resources import Resources, Terms
from tests.unit.owner_fakes import BLIND, QUIET, at, reading

STRICT = IdlePolicy(
    hours=("mon-fri 08:00-18:00",),
    others_cpu_percent=40,
    away_minutes=10,
    programs=("game", "render"),
    temperature_c=80,
    power_w=200,
    data_gib_month=1.0,
)


def codes(verdict: Verdict) -> list[str]:
    return [code for code, _ in verdict.reasons]


def test_a_quiet_machine_is_open() -> None:
    for policy in (IdlePolicy(), STRICT):
        verdict = decide(policy, QUIET, at(), PolicyState())
        assert (verdict.open, verdict.stop_running, verdict.reasons) == (True, False, ())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"others_cpu_percent": 40.0}, "owner.load"),
        ({"idle_s": 599.0}, "owner.present"),
        ({"programs": ("game",)}, "owner.program"),
        ({"gpu_mib": {"game": 1024}}, "owner.program"),
        ({"temperature_c": 80.0}, "owner.temperature"),
        ({"power_w": 200.0}, "owner.power"),
        ({"on_battery": True}, "owner.battery"),
        ({"metered": True}, "owner.metered"),
        ({"data_bytes": 1 << 30}, "owner.data_budget"),
    ],
)
def test_each_rule_closes_and_stops_at_once(changes: dict[str, Any], code: str) -> None:
    verdict = decide(STRICT, reading(**changes), at(), PolicyState())
    assert (verdict.open, verdict.stop_running, codes(verdict)) == (False, True, [code])
    assert verdict.reasons[0][1].endswith(".")


def test_hours_close() -> None:
    verdict = decide(STRICT, QUIET, at(minute=18 * 60), PolicyState())
    assert (verdict.open, verdict.stop_running, codes(verdict)) == (False, True, ["owner.hours"])


def test_rules_that_are_off_do_not_close() -> None:
    rough = reading(
        others_cpu_percent=100.0,
        idle_s=0.0,
        temperature_c=99.0,
        power_w=9e9,
        programs=("x",),
        gpu_mib={"x": 9},
        data_bytes=1 << 50,
    )
    assert decide(IdlePolicy(), rough, at(), PolicyState()).open
    also = reading(on_battery=True, metered=True, gpu_mib={"x": 99_999})
    assert decide(IdlePolicy(on_battery=True, on_metered=True, gpu_memory_mib=0), also, at(), PolicyState()).open


def test_what_the_owner_asked_for_and_nobody_can_see_closes() -> None:
    blind = reading(others_cpu_percent=BLIND, idle_s=BLIND, temperature_c=BLIND, power_w=BLIND, programs=BLIND)
    verdict = decide(STRICT, blind, at(), PolicyState())
    assert codes(verdict) == ["owner.present", "owner.program", "owner.load", "owner.temperature", "owner.power"]
    assert all("nothing to see with" in sentence for _, sentence in verdict.reasons)


def test_defaults_that_nobody_can_see_do_not_close_but_are_told() -> None:
    blind = reading(on_battery=BLIND, metered=BLIND, gpu_mib=BLIND)
    assert decide(IdlePolicy(), blind, at(), PolicyState()).open
    assert len(list(unseen(IdlePolicy(), blind))) == 3
    assert list(unseen(IdlePolicy(on_battery=True, on_metered=True, gpu_memory_mib=0), blind)) == []


def test_it_opens_again_after_a_while_in_which_nothing_was_in_the_way() -> None:
    verdict = decide(STRICT, QUIET, at(0), PolicyState())
    verdict = decide(STRICT, reading(on_battery=True), at(1), verdict.state)
    verdict = decide(STRICT, QUIET, at(2), verdict.state)
    assert (verdict.open, verdict.stop_running, codes(verdict)) == (False, False, ["owner.settling"])
    verdict = decide(STRICT, reading(on_battery=True), at(50), verdict.state)  # it counts anew
    verdict = decide(STRICT, QUIET, at(60), verdict.state)
    assert not decide(STRICT, QUIET, at(119), verdict.state).open
    assert decide(STRICT, QUIET, at(120), verdict.state).open


def test_a_machine_that_was_never_open_opens_as_soon_as_it_may() -> None:
    verdict = decide(STRICT, reading(idle_s=3.0), at(0), PolicyState())
    assert decide(STRICT, QUIET, at(1), verdict.state).open


@pytest.mark.parametrize(
    ("field", "closes", "stays_closed", "opens"),
    [("temperature_c", 80.0, 75.0, 74.9), ("power_w", 200.0, 180.0, 179.9), ("others_cpu_percent", 40.0, 30.0, 29.9)],
)
def test_load_heat_and_power_must_go_well_below_their_limit(
    field: str, closes: float, stays_closed: float, opens: float
) -> None:
    assert decide(STRICT, reading(**{field: stays_closed}), at(), PolicyState()).open
    closed = decide(STRICT, reading(**{field: closes}), at(), PolicyState())
    assert not decide(STRICT, reading(**{field: stays_closed}), at(100), closed.state).open
    assert decide(STRICT, reading(**{field: opens}), at(100), closed.state).open


def test_a_load_may_have_to_last_before_work_ends() -> None:
    policy = IdlePolicy(others_cpu_percent=40, others_for_s=5)
    verdict = decide(policy, reading(others_cpu_percent=90.0), at(0), PolicyState())
    assert (verdict.open, verdict.stop_running) == (False, False)
    verdict = decide(policy, reading(others_cpu_percent=90.0), at(4), verdict.state)
    assert not verdict.stop_running
    assert decide(policy, reading(others_cpu_percent=90.0), at(5), verdict.state).stop_running
    assert decide(policy, reading(others_cpu_percent=90.0, on_battery=True), at(4), verdict.state).stop_running


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("mon-fri 20:00-07:00", [(0, 1200), (1, 0), (5, 419), (4, 1439)], [(0, 1199), (0, 0), (5, 420), (6, 60)]),
        ("sat 00:00-24:00", [(5, 0), (5, 1439)], [(4, 1439), (6, 0)]),
        ("daily 1:00-06:00", [(2, 60), (6, 359)], [(2, 59), (2, 360)]),
        ("sun 23:00-01:00", [(6, 1380), (0, 59)], [(0, 60), (6, 0)]),
        ("fri-mon 09:00-10:00", [(4, 540), (0, 599)], [(1, 540), (3, 540)]),
    ],
)
def test_hours_of_the_week(text: str, inside: list[tuple[int, int]], outside: list[tuple[int, int]]) -> None:
    span = parse_range(text)
    assert all(span.holds(*moment) for moment in inside)
    assert not any(span.holds(*moment) for moment in outside)


@pytest.mark.parametrize(
    "text", ["", "mon", "20:00-07:00", "monday 20:00-07:00", "mon 25:00-07:00", "mon 7:60-8:00", "mon 7:00-7:00"]
)
def test_hours_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="no range of hours"):
        parse_range(text)


def test_never_more_than_agreed_nor_than_the_share() -> None:
    machine = Resources(cpu_milli=4000, memory_mib=8000, disk_mib=100)
    agreed = Resources(cpu_milli=3000, memory_mib=1000, disk_mib=500)
    half = IdlePolicy(cpu_percent=50, memory_percent=50, disk_percent=50)
    assert offered(half, machine, agreed) == Resources(cpu_milli=2000, memory_mib=1000, disk_mib=50)


def test_the_price_floor_covers_electricity_and_wear() -> None:
    assert price_floor_microusd_per_core_hour(IdlePolicy(), 4000) == 0
    # 100 W more at 0.30 a kWh are 3 cents an hour, and 1 cent of wear, over 4 cores.
    policy = IdlePolicy(watts_idle=50, watts_busy=150, tariff_usd_per_kwh=0.3, wear_usd_per_hour=0.01)
    assert price_floor_microusd_per_core_hour(policy, 4000) == 10_000
    assert price_floor_microusd_per_core_hour(policy, 4000, fee_ppm=100_000) == 11_112  # rounded up


def test_prices_of_the_policy_come_before_what_was_said_when_joining() -> None:
    agreed = Terms(price_microusd_per_core_hour=10_000, price_microusd_per_gpu_hour=200_000)
    spot = Terms(price_microusd_per_core_hour=4_000, price_microusd_per_gpu_hour=80_000)
    none = asked(IdlePolicy())
    assert (none.on_demand(agreed), none.on_spot(agreed, spot), none.on_spot(agreed, None)) == (agreed, spot, None)
    dearer = asked(IdlePolicy(price_usd_per_core_hour=0.02))
    assert dearer.on_demand(agreed) == msgspec.structs.replace(agreed, price_microusd_per_core_hour=20_000)
    assert dearer.on_spot(agreed, spot) == Terms(price_microusd_per_core_hour=4_000, price_microusd_per_gpu_hour=40_000)
    cheap = asked(IdlePolicy(price_usd_per_core_hour=0.001, price_usd_per_gpu_hour=0.1, spot_usd_per_core_hour=0.003))
    full = Terms(price_microusd_per_core_hour=1_000, price_microusd_per_gpu_hour=100_000)
    assert cheap.on_demand(agreed) == cheap.on_spot(agreed, None) == full, "spot never costs more"
    assert asked(IdlePolicy(spot_usd_per_core_hour=0.0)).on_spot(agreed, None) == Terms(price_microusd_per_core_hour=0)


def test_the_file_keeps_what_was_set(tmp_path: Path) -> None:
    assert load_policy(tmp_path) == IdlePolicy()
    assert policy_stamp(tmp_path) == (0, 0)
    settings = ["away_minutes=10", "hours=mon-fri 20:00-07:00; sat 00:00-24:00", "gpu_memory_mib=0", "on_battery=true"]
    policy = changed(IdlePolicy(), [*settings, "programs=a;b", "data_gib_month=1.5"])
    assert (policy.away_minutes, policy.programs, policy.on_battery) == (10, ("a", "b"), True)
    save_policy(tmp_path, policy)
    stamp = policy_stamp(tmp_path)
    assert load_policy(tmp_path) == policy
    again = changed(policy, ["away_minutes=", "hours=", "gpu_memory_mib="])
    assert (again.away_minutes, again.hours, again.gpu_memory_mib) == (None, (), 1024)
    save_policy(tmp_path, again)
    assert policy_stamp(tmp_path) != stamp
    assert load_policy(tmp_path) == again


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("away=10", "no setting 'away'"),
        ("cpu_percent=0", "cpu_percent"),
        ("cpu_percent=many", "cpu_percent"),
        ("hours=always", "no range of hours"),
        ("watts_busy=100", "needed together"),
        ("away_minutes", "no setting"),
        ("power_w=0", "power_w"),
        ("price_usd_per_core_hour=-1", "price_usd_per_core_hour"),
        ("spot_usd_per_core_hour=1e12", "spot_usd_per_core_hour"),
    ],
)
def test_what_makes_no_sense_is_refused(setting: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as refused:
        changed(IdlePolicy(), [setting])
    assert refused.value.hint


@pytest.mark.parametrize("text", ["cpu_percent = ", "cpu_percent = '50'", "extra = 1", "hours = 'daily 1:00-2:00'"])
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(InvalidInput):
        load_policy(tmp_path)


def test_every_setting_says_what_it_means() -> None:
    assert set(meanings()) == set(IdlePolicy.__struct_fields__)
    assert all(text.endswith(".") for text in meanings().values())
    assert all(f"{name} =" in policy_toml(IdlePolicy()) for name in meanings())


def test_it_explains_itself() -> None:
    assert explain(IdlePolicy())[1:3] == [
        "Never on battery.",
        "Once closed, it opens after 60 s in which nothing was in the way.",
    ]
    every = IdlePolicy(
        **{name: getattr(STRICT, name) for name in STRICT.__struct_fields__}
        | {"cpu_percent": 50, "upload_mbit_s": 2.0, "watts_busy": 9.0, "tariff_usd_per_kwh": 0.1, "others_for_s": 3}
    )
    text = " ".join(explain(every))
    for part in (
        "50 % of the cores",
        "mon-fri 08:00-18:00",
        "10 minutes",
        "40 %",
        "game, render",
        "80 °C",
        "less than 200 W; once it drew more, again below 180 W",
        "1 GiB",
        "9 W",
    ):
        assert part in text

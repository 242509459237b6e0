"""A policy in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from fallow.agent.policy import COOLER_C, THRIFTIER_PERCENT
from fallow.agent.policy_file import IdlePolicy
from fallow.domain.idle_rules import RulesAsked


def explain(policy: IdlePolicy) -> list[str]:
    """What the policy means, one sentence for each rule that is on."""
    return [*_how_much(policy), *_when(policy), *_line(policy), *_cost(policy), *_console(policy)]


def _how_much(policy: IdlePolicy) -> Iterator[str]:
    shares = {"cores": policy.cpu_percent, "memory": policy.memory_percent, "free disk": policy.disk_percent}
    bounded = [f"{percent} % of the {name}" for name, percent in shares.items() if percent < 100]  # noqa: PLR2004 - all
    if bounded:
        yield f"At most {', '.join(bounded)}."


def _when(policy: IdlePolicy) -> Iterator[str]:
    if policy.hours:
        yield f"Only in these local hours: {', '.join(policy.hours)}."
    if policy.away_minutes is not None:
        yield f"Only after {policy.away_minutes} minutes in which nobody used a key, a mouse or a terminal."
    if policy.others_cpu_percent is not None:
        lasting = f" for {policy.others_for_s} s" if policy.others_for_s else ""
        yield (
            f"Only while other programs take less than {policy.others_cpu_percent} % of the processor; "
            f"what runs ends when they take more{lasting}."
        )
    if policy.programs:
        yield f"Not while one of these programs runs: {', '.join(policy.programs)}."
    if policy.gpu_memory_mib:
        yield f"Not while another program holds {policy.gpu_memory_mib} MiB of a graphics card's memory."
    if policy.temperature_c is not None:
        again = policy.temperature_c - COOLER_C
        yield f"Only below {policy.temperature_c} °C; once it was hotter, again below {again} °C."
    if policy.power_w is not None:
        less = policy.power_w * THRIFTIER_PERCENT / 100
        yield f"Only while it draws less than {policy.power_w} W; once it drew more, again below {less:g} W."
    yield "On battery, too." if policy.on_battery else "Never on battery."
    yield f"Once closed, it opens after {policy.reopen_after_s} s in which nothing was in the way."


def _line(policy: IdlePolicy) -> Iterator[str]:
    yield "On metered links, too." if policy.on_metered else "Never on a metered link."
    if policy.data_gib_month is not None:
        yield f"At most {policy.data_gib_month:g} GiB over the line in a calendar month."
    if policy.upload_mbit_s is not None:
        yield f"Uploads at {policy.upload_mbit_s:g} megabits a second at most."


def _cost(policy: IdlePolicy) -> Iterator[str]:
    prices = {
        "a core": policy.price_usd_per_core_hour,
        "a graphics processor": policy.price_usd_per_gpu_hour,
        "a core where work may be ended for others": policy.spot_usd_per_core_hour,
    }
    set_here = [f"{price:g} US dollars an hour for {what}" for what, price in prices.items() if price is not None]
    if set_here:
        yield f"Asks {', '.join(set_here)}; leases that run keep their price."
    if policy.watts_busy is not None:
        yield (
            f"Never below the cost of {policy.watts_busy - policy.watts_idle:g} W more at work, "
            f"{policy.tariff_usd_per_kwh:g} US dollars a kWh, and {policy.wear_usd_per_hour:g} an hour for wear."
        )
    elif policy.wear_usd_per_hour:
        yield f"Never below {policy.wear_usd_per_hour:g} US dollars an hour for wear."


def _console(policy: IdlePolicy) -> Iterator[str]:
    if policy.console:
        yield (
            "Whoever signs in for this account in the network's console may ask for stricter rules than those "
            f"of the file, and for {policy.console_price_percent} % of its prices or more."
        )


def said(asked: RulesAsked, held_back: Sequence[str]) -> str:
    """Tell when and by whom rules were asked for in the console, and what of it the file did not let pass."""
    when = datetime.fromtimestamp(asked.at / 1000, UTC)
    who = f"the key {asked.key_id}" if asked.key_id else "a wallet"
    kept = f" The file is stricter in {', '.join(held_back)}, and holds there." if held_back else ""
    return f"Asked in the console {when:%Y-%m-%d %H:%M} UTC by {who}.{kept}"

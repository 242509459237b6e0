"""What the owner asked for in the network's console: taken only as far as it is stricter than his own file.

So whoever asks, the owner, a thief of his session or the network itself, can have the machine do less and ask more,
and never the other way round.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from fallow.agent.policy_file import IdlePolicy
from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.hours import minutes_of, ranges_of
from fallow.domain.idle_rules import MICROUSD_PER_USD, IdleRules, RulesAsked
from fallow.domain.resources import Terms
from fallow.ports.files import write_durably

FILE: Final = "asked.json"

_LESS_IS_STRICTER: Final = frozenset(
    {
        "cpu_percent", "memory_percent", "disk_percent", "others_cpu_percent", "temperature_c", "power_w",
        "data_gib_month", "upload_mbit_s", "on_battery", "on_metered",
    }
)  # fmt: skip
_NONE: Final = IdleRules()


class InForce(NamedTuple):
    """The policy that holds, and the settings in which what was asked went beyond the owner's own."""

    policy: IdlePolicy
    held_back: list[str]


def in_force(own: IdlePolicy, said: RulesAsked | None, terms: Terms) -> InForce:
    """Take of what was asked whatever is as strict as the owner's own policy, setting by setting, and else his own.

    Nothing of it where his policy does not let the console ask. `terms` are the prices of the join, which hold where
    his policy names none.
    """
    if said is None or not own.console:
        return InForce(own, [])
    asked = said.rules
    least = least_usd(own, terms)
    holds = {}
    for name in _NONE.__struct_fields__:
        mine, wanted = getattr(own, name), getattr(asked, name)
        if wanted is None or wanted == ():
            holds[name] = mine
        elif name in least:
            holds[name] = max(wanted, least[name])
        elif mine is None or mine == ():
            holds[name] = wanted
        elif name == "hours":
            holds[name] = _common(mine, wanted)
        else:
            holds[name] = min(mine, wanted) if name in _LESS_IS_STRICTER else max(mine, wanted)
    held_back = [name for name, value in holds.items() if getattr(asked, name) not in (getattr(_NONE, name), value)]
    return InForce(msgspec.structs.replace(own, **holds), held_back)


def least_usd(own: IdlePolicy, terms: Terms) -> dict[str, float]:
    """The lowest prices that may be asked, in US dollars an hour, by the name of the setting."""
    joined = {
        "price_usd_per_core_hour": terms.price_microusd_per_core_hour,
        "price_usd_per_gpu_hour": terms.price_microusd_per_gpu_hour,
    }
    return {name: _part(getattr(own, name), price, own.console_price_percent) for name, price in joined.items()}


def load_asked(home: Path) -> RulesAsked | None:
    """Read what was asked and taken last.

    Raises:
        InvalidInput: the file is damaged: nothing is offered on a guess of what the owner asked for.
    """
    try:
        return msgspec.json.decode((home / FILE).read_bytes(), type=RulesAsked)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise InvalidInput(
            "agent.asked_file", f"{home / FILE} is damaged: {error}.", "Delete it to go by policy.toml alone."
        ) from error


def save_asked(home: Path, asked: RulesAsked) -> None:
    """Keep it durably, restarts included.

    Raises:
        Unavailable: the disk is full or fails; what was asked before still holds.
    """
    try:
        write_durably(home / FILE, msgspec.json.format(msgspec.json.encode(asked)) + b"\n")
    except OSError as error:
        raise Unavailable("agent.disk_full", f"{home / FILE} cannot be written: {error}.") from error


def _part(own_usd: float | None, joined_microusd: int, percent: int) -> float:
    microusd = joined_microusd if own_usd is None else round(own_usd * MICROUSD_PER_USD)
    return -(-microusd * percent // 100) / MICROUSD_PER_USD


def _common(own: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    """The hours that lie in both; those that were asked as they were written, where they are all within the own."""
    wanted = minutes_of(asked)
    both = minutes_of(own) & wanted
    return asked if both == wanted else tuple(ranges_of(both))

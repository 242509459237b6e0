"""Rules of an owner for his machine that he may also ask for from afar, and what the machine makes of that."""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fallow.domain.errors import InvalidInput
from fallow.domain.hours import parse_range
from fallow.domain.resources import PRICE_MICROUSD_MAX

MICROUSD_PER_USD: Final = 1_000_000
HOURS_MAX: Final = 28
"""Four ranges for each day of the week."""

LOG_SHOWN: Final = 20
QUESTIONS_AT_ONCE: Final = 20
QUESTIONS_PER_S: Final = 1.0
"""How many reach a node about its rules: what it takes is written to its disk, and who asks waits for it."""

Percent = Annotated[int, Meta(ge=1, le=100)]
Amount = Annotated[float, Meta(ge=0, le=1e9)]
Price = Annotated[float, Meta(ge=0, le=PRICE_MICROUSD_MAX / MICROUSD_PER_USD)]


def doc(text: str) -> Meta:
    """What a setting means, for people."""
    return Meta(description=text)


class IdleRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a machine may work for others, with how much of it, and for how much. What is None or empty is no rule.

    Each of them has an order: of two values one lets the network do less, or asks more.
    """

    cpu_percent: Annotated[Percent, doc("Of the machine's cores, at most so many percent are offered.")] = 100
    memory_percent: Annotated[Percent, doc("Of the machine's memory, at most so many percent are offered.")] = 100
    disk_percent: Annotated[Percent, doc("Of the disk's free room, at most so many percent are offered.")] = 100
    hours: Annotated[
        tuple[Annotated[str, Meta(max_length=60)], ...],
        Meta(max_length=HOURS_MAX),
        doc("Local hours, each like `mon-fri 20:00-07:00` or `daily 01:00-06:00`; empty is always."),
    ] = ()
    others_cpu_percent: Annotated[
        Percent | None, doc("Only while everything else takes less of all cores than so many percent.")
    ] = None
    away_minutes: Annotated[
        Annotated[int, Meta(ge=1, le=24 * 60)] | None,
        doc("Only after so many minutes without a key, a mouse or a terminal being used."),
    ] = None
    temperature_c: Annotated[
        Annotated[int, Meta(ge=30, le=120)] | None,
        doc("Only while the hottest sensor is below so many degrees Celsius; again when it is 5 degrees cooler."),
    ] = None
    power_w: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        doc("Only while processors and NVIDIA's cards draw less than so many watts; again when it is 10 % less."),
    ] = None
    on_battery: Annotated[bool, doc("Work on battery, too.")] = False
    on_metered: Annotated[bool, doc("Work on a link that is paid by volume, too.")] = False
    data_gib_month: Annotated[
        Amount | None, doc("GiB that the agent may move, up and down together, in a calendar month.")
    ] = None
    upload_mbit_s: Annotated[
        Annotated[float, Meta(gt=0, le=1e6)] | None, doc("Megabits a second at which the agent uploads at most.")
    ] = None
    price_usd_per_core_hour: Annotated[
        Price | None, doc("US dollars asked for a core and hour; left out, what was said when joining.")
    ] = None
    price_usd_per_gpu_hour: Annotated[
        Price | None, doc("US dollars asked for a graphics processor and hour; left out, as when joining.")
    ] = None

    def __post_init__(self) -> None:
        """Check what types cannot: ValueError, which msgspec turns into its own error."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is no number")
        try:
            for text in self.hours:
                parse_range(text)
        except InvalidInput as error:
            raise ValueError(error.message.rstrip(".")) from None


class RulesAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an account asked of its machine `at` a time (milliseconds since 1970), by one of its keys ("": a wallet)."""

    id: str
    at: int
    account: str
    key_id: str
    rules: IdleRules


class RulesStanding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine says of its rules: its `own`, and the last `asked` that it took.

    Of what was asked it kept to its own in the settings `held_back`. `least_usd` are the lowest prices that may be
    asked from afar, by the name of the setting.
    """

    own: IdleRules
    least_usd: dict[str, float]
    asked: RulesAsked | None = None
    held_back: list[str] = []

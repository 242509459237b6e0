"""What everybody is shown of a network's verticals. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.epochs.by_vertical import VerticalSums
from fallow.domain.views.base import View
from fallow.domain.views.prices import MeterPriceView, TariffView


class ShownNumberView(View, frozen=True, kw_only=True):
    """A number that a vertical lets everybody see, as told a few seconds ago; `says` is what it counts or measures."""

    name: str
    says: str
    labels: dict[str, str]
    value: float


class VerticalEpochView(View, frozen=True, kw_only=True):
    """What a vertical did in an epoch; `sums` is None where nobody has added that epoch up yet.

    `price_microusd` is what 10^18 units of the token were worth then; 0 where no price held.
    """

    epoch: int
    from_ms: int
    until_ms: int
    sums: VerticalSums | None
    price_microusd: int = 0


class RivalView(View, frozen=True, kw_only=True):
    """What the same costs elsewhere by a price with its source and day: `there_microusd`, beside `here_microusd`."""

    name: str
    kind: str
    here_microusd: int
    there_microusd: int
    as_of: str
    source: str
    note: str


class VerticalView(View, frozen=True, kw_only=True):
    """One vertical. `leases` says that it takes orders, `tariff` what its shared service costs who subscribes now.

    `next_tariff` is what it costs after that; None where nothing else was said.
    `epochs` are the latest ones, the latest first. `rivals` sell the same as `basket` says: what was `delivered` in
    those epochs, or a terabyte (10^12 bytes) of objects `stored` for a month and read once; "" where nothing compares.
    """

    name: str
    leases: bool
    tariff: list[MeterPriceView]
    numbers: list[ShownNumberView]
    epochs: list[VerticalEpochView]
    basket: str
    rivals: list[RivalView]
    next_tariff: TariffView | None = None

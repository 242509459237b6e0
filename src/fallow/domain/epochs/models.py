"""Token models that a network can begin with: rules whose numbers are those of a network of the field. Pure.

An operator chooses one by name, and changes of it what he wants (docs/operators.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fallow.domain.epochs.rules import BURN_AND_MINT, NONE, WORK_ONLY, Rules
from fallow.domain.rewards.pools import ByDate, ByIssuance

_TOKEN: Final = 10**18

MODELS: Final[Mapping[str, Rules]] = {
    NONE: Rules(),
    WORK_ONLY: Rules(
        model=WORK_ONLY,
        schedule=ByIssuance(cap=(21_000_000 * _TOKEN).to_bytes(32), base=_TOKEN.to_bytes(32), blocks=7200),
    ),
    BURN_AND_MINT: Rules(
        model=BURN_AND_MINT,
        schedule=ByDate(base=(4_109_589 * _TOKEN // 100).to_bytes(32), period=730),
        net_cap=(1_644 * _TOKEN).to_bytes(32),
    ),
}
"""By the model's name, for epochs of a day.

7,200 tokens a day until half of 21 million are there (Bittensor); 41,095.89 a day, half as many every two years, and up
to 1,644 of those that were burned (Helium).
"""

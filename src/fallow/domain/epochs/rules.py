"""How a network turns what was used into what is owed: the policy `rewards`, version 1, and its parameters. Pure.

Usage is paid through: what providers earned in the credits that an asset backs is owed to them in that asset, one for
one. Incentive comes out of a pool of tokens that halves by date, cut over verticals by weights and over nodes by the
fees that their use paid, times their score. It never exceeds these fees at the network's rate (rule 9), so that dealing
with oneself does not pay, and no token is minted but for work that somebody paid for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from fallow.domain.chart import Credit
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.statement import Policy
from fallow.domain.errors import InvalidInput
from fallow.domain.records import convert, to_builtins
from fallow.domain.rewards.schedules import HalvingByDate

NAME: Final = "rewards"
VERSION: Final = 1
DIGEST: Final = bytes.fromhex("67ff1156f799fafaa4633487486260eb10307e2515b7398380d27e81eef9cbba")
"""Of the golden epoch's files: no other behaviour has it."""

Address = Annotated[bytes, Meta(min_length=20, max_length=20)]
Ppm = Annotated[int, Meta(ge=0, le=1_000_000)]
Amount = Annotated[bytes, Meta(min_length=32, max_length=32)]
Positive = Annotated[int, Meta(ge=1, le=1 << 62)]

TEST_ASSET: Final = bytes(19) + b"\x01"
"""Stands for credits that nothing backs, on networks without a chain: no contract can have this address."""


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters. Income in credits of class `credit` is owed in `settlement`.

    Without a `token` there are no incentives ("none"). With one ("work-only"), `base` units an epoch (32 bytes) are in
    the pool, half as many after every `period` epochs; a micro-US-dollar of incentive is `units_per_microusd` of them.
    It is bounded to `cap_ppm` millionths of the fees that were paid. `weights` are those of the verticals.
    """

    credit: Literal[1, 2, 3] = 1
    settlement: Address = TEST_ASSET
    token: Address = bytes(20)
    base: Amount = bytes(32)
    period: Positive = 730
    units_per_microusd: Positive = 1
    cap_ppm: Ppm = 1_000_000
    weights: Annotated[dict[str, Annotated[int, Meta(ge=0, le=1 << 32)]], Meta(max_length=100)] = {}

    @property
    def pays(self) -> frozenset[int]:
        """Classes of credits whose fees earn an incentive: nobody paid anything for granted ones."""
        return frozenset({Credit.PAID, Credit.BURNED}) if any(self.token) else frozenset()

    def pool(self, epoch: int) -> int:
        """Units of the token that may be minted for an epoch, counted from 0."""
        return HalvingByDate(int.from_bytes(self.base), self.period).epoch(epoch)


def policies_of(rules: Rules, verticals: Mapping[str, Metering]) -> list[Policy]:
    """What a statement pins."""
    rewards = Policy(name=NAME, version=VERSION, digest=DIGEST, parameters=to_builtins(rules))
    ordered = (verticals[name] for name in sorted(verticals))
    return [rewards, *(Policy(name=one.name, version=one.version, digest=one.digest) for one in ordered)]


def rules_of(policies: Sequence[Policy], verticals: Mapping[str, Metering]) -> tuple[Rules, dict[str, Metering]]:
    """Read back what `policies_of` wrote, with the code that is here.

    Raises:
        InvalidInput: `epoch.policy`: a policy, or this version of it, is not here.
    """
    if not policies or (policies[0].name, policies[0].version, policies[0].digest) != (NAME, VERSION, DIGEST):
        raise _missing(policies[0] if policies else None)
    used: dict[str, Metering] = {}
    for policy in policies[1:]:
        here = verticals.get(policy.name)
        if here is None or (here.version, here.digest) != (policy.version, policy.digest):
            raise _missing(policy)
        used[policy.name] = here
    return read_rules(policies[0].parameters), used


def read_rules(parameters: Mapping[str, Any]) -> Rules:
    """Read the parameters.

    Raises:
        InvalidInput: `epoch.rules`: malformed.
    """
    return convert(dict(parameters), Rules, "epoch.rules")


def _missing(policy: Policy | None) -> InvalidInput:
    what = f"the policy {policy.name} {policy.version} ({policy.digest.hex()[:12]})" if policy else "any policy"
    return InvalidInput(
        "epoch.policy", f"This code does not have {what}.", "Install the version that closed the epoch."
    )

"""How a network turns what was used into what is owed: the policy `rewards`, version 1, and its parameters. Pure.

Usage is paid through: what providers earned in the credits that an asset backs is owed to them in that asset, one for
one. Incentive comes out of a pool of tokens that a schedule gives, cut over verticals by weights and over nodes by the
fees that their use paid, times their score. It never exceeds a part of these fees at the network's price (rule 9), so
that dealing with oneself does not pay, and no token is minted but for work that somebody paid for.
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
from fallow.domain.rewards.oracle import Guard
from fallow.domain.rewards.pools import AMOUNTS, Amount, Positive, Schedule
from fallow.domain.rewards.schedules import Held, Ppm

NAME: Final = "rewards"
VERSION: Final = 1
DIGEST: Final = bytes.fromhex("6b382582d458954ca38a9e7c0cacc480bf8c37f3eeefa19cf0c8b5565e056bad")
"""Of the golden epoch's files: no other behaviour has it."""

NONE: Final = "none"
WORK_ONLY: Final = "work_only"
BURN_AND_MINT: Final = "burn_and_mint"

Address = Annotated[bytes, Meta(min_length=20, max_length=20)]

ROUNDING: Final = 10**12
"""Units of the token, a millionth of one: what rounding up by a unit a line and epoch never comes to."""

TEST_ASSET: Final = bytes(19) + b"\x01"
"""Stands for credits that nothing backs, on networks without a chain: no contract can have this address."""


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters. Income in credits of class `credit` is owed in `settlement`.

    `model` says what `token` is: "none" (no incentives), "work_only" (minted by `schedule` for verified work alone, at
    the fixed `price` in micro-US-dollars for 10^18 units), or "burn_and_mint" (also what is burned may be minted again,
    smoothed and at most `net_cap` units an epoch; the price is what `feeds` say, under `guard`).

    An incentive is at most `cap_ppm` millionths of the fees that were paid and did not come back; of fees for what only
    a gateway attests, at most `attested_ppm`. `weights` are those of the verticals, 1 where none is named; a pool is
    cut over those whose use paid fees.

    `held` says what of a new node's pay is held, and how long; an incentive vests evenly over `vesting` epochs after
    the one that it was earned in (0: it is owed at once).

    `unsold` names verticals whose records earn although nobody bought anything, and how many millionths of what the
    schedule gives for an epoch are for them: see `fallow.domain.epochs.unsold` for what that costs.
    """

    model: Literal["none", "work_only", "burn_and_mint"] = NONE
    credit: Literal[1, 2, 3] = 1
    settlement: Address = TEST_ASSET
    token: Address = bytes(20)
    schedule: Schedule | None = None
    price: Positive = 1_000_000
    net_cap: Amount = bytes(32)
    guard: Guard = Guard()
    feeds: Annotated[list[Address], Meta(max_length=31)] = []
    cap_ppm: Ppm = 500_000
    attested_ppm: Ppm = 100_000
    held: Held = Held()
    vesting: Annotated[int, Meta(ge=0, le=1000)] = 0
    weights: Annotated[dict[str, Annotated[int, Meta(ge=0, le=1 << 32)]], Meta(max_length=100)] = {}
    unsold: Annotated[dict[str, Ppm], Meta(max_length=100)] = {}

    @property
    def pays(self) -> frozenset[int]:
        """Classes of credits whose fees earn an incentive: nobody paid anything for granted ones."""
        return frozenset({Credit.PAID, Credit.BURNED}) if self.model != NONE else frozenset()

    @property
    def mint_max(self) -> int:
        """Units of the token that an epoch can come to owe at most: its pool, and what vests and is released of others.

        Each epoch's grants vest in equal parts, so that these never add up to more than the largest pool. What is
        released in an epoch comes from lines that began at most `held.release` epochs apart, each withheld from in so
        many epochs: that is the pools of both together, over `held.release`.
        """
        pool = self.schedule.pool(0, 0) if self.schedule else 0
        pool += int.from_bytes(self.net_cap) + ROUNDING
        withheld_epochs = len(self.held.withheld_ppm) * self.held.step
        released = 1 + -(-withheld_epochs // self.held.release) if withheld_epochs else 0
        return pool * (1 + bool(self.vesting) + released)

    def weight(self, vertical: str) -> int:
        """A vertical's weight."""
        return self.weights.get(vertical, 1)


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
    rules = pinned_rules(policies)
    used: dict[str, Metering] = {}
    for policy in policies[1:]:
        here = verticals.get(policy.name)
        if here is None or (here.version, here.digest) != (policy.version, policy.digest):
            raise _missing(policy)
        used[policy.name] = here
    return rules, used


def pinned_rules(policies: Sequence[Policy]) -> Rules:
    """Read back the rules alone. Raises as `rules_of`."""
    if not policies or (policies[0].name, policies[0].version, policies[0].digest) != (NAME, VERSION, DIGEST):
        raise _missing(policies[0] if policies else None)
    return read_rules(policies[0].parameters)


def read_rules(parameters: Mapping[str, Any]) -> Rules:
    """Read the parameters.

    Raises:
        InvalidInput: `epoch.rules`: malformed.
    """
    return convert(dict(parameters), Rules, "epoch.rules")


def plain_rules(values: Mapping[str, Any], base: Rules) -> Rules:
    """Change `base` by what a person has written: amounts as numbers, addresses as 0x..., one level of tables.

    Raises:
        InvalidInput: `epoch.rules`: there is no such rule, or it cannot have this value.
    """
    parameters: dict[str, Any] = to_builtins(base)
    for name, value in values.items():
        if isinstance(value, Mapping):
            before = parameters.get(name)
            kind = value.get("type")
            known = before if isinstance(before, Mapping) and kind in (None, before.get("type")) else {}
            parameters[name] = {**known, **{key: _value(key, each) for key, each in value.items()}}
        else:
            parameters[name] = _value(name, value)
    return read_rules(parameters)


def _value(name: str, value: object) -> object:
    """Read what a person wrote as a parameter's value."""
    try:
        if isinstance(value, str) and value.startswith("0x"):
            return bytes.fromhex(value[2:])
        if name in AMOUNTS and isinstance(value, int):
            return value.to_bytes(32)
    except (ValueError, OverflowError):
        raise InvalidInput("epoch.rules", f"{value!r} is no value of {name!r}.", "Write a number, or 0x...") from None
    return value


def _missing(policy: Policy | None) -> InvalidInput:
    what = f"the policy {policy.name} {policy.version} ({policy.digest.hex()[:12]})" if policy else "any policy"
    return InvalidInput(
        "epoch.policy", f"This code does not have {what}.", "Install the version that closed the epoch."
    )

"""What is earned and not owed yet: held of a new node's pay, and vesting of incentives. Pure.

Nothing is lost: what is held is owed later, or forfeited with a code when a check has found its node wrong; what vests
is owed in the end. In each epoch and part, what was earned is what is added to owed, plus `Move.later`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.epochs.lines import INCENTIVE, Kept, LineKey
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import Row, amount
from fallow.domain.rewards.schedules import Held, vested

HELD: Final = "core.held"
"""Section of the state: [vertical, node, account, epoch in which it first earned, [part, withheld, released]...]."""

Shares = Mapping[LineKey, int]

VESTING: Final = "core.vesting"
"""Section of the state: [vertical, node, account, epoch of the grant, epoch in which all of it has vested, amount]."""


class Move(NamedTuple):
    """What an epoch does to one part of a line's pay."""

    held: int = 0
    released: int = 0
    vesting: int = 0
    vested: int = 0
    forfeited: int = 0
    code: str = ""

    @property
    def later(self) -> int:
        """By how much less than what was earned is added to owed; below nothing where it is more."""
        return self.held + self.vesting - self.released - self.vested

    def kept(self, name: str) -> Kept:
        """The row of its line."""
        return Kept(
            part=name,
            held=amount(self.held),
            released=amount(self.released),
            vesting=amount(self.vesting),
            vested=amount(self.vested),
            forfeited=amount(self.forfeited),
            code=self.code,
        )


class Turns(NamedTuple):
    """What happened to lines in an epoch, beside what they earned.

    `wrong` are nodes that a check has found wrong, and `forfeited` those that a vertical has shut out, each with the
    reason: they forfeit all that is held, the latter of that vertical's pay, and are new again. Of lines that were
    `returned` all that is held is released; they are as old as before. Those that are `known_since` an epoch are as old
    when they first earn.
    """

    wrong: Mapping[bytes, str]
    forfeited: Mapping[tuple[str, bytes], str] = {}
    returned: Collection[LineKey] = ()
    known_since: Mapping[LineKey, int] = {}

    def code(self, key: LineKey) -> str:
        """Why a line forfeits; "" where it does not."""
        vertical, node, _ = key
        return self.wrong.get(node, "") or self.forfeited.get((vertical, node), "")


class Pot(NamedTuple):
    """What was withheld of one part of a line's pay, and released again. What was forfeited is in neither."""

    withheld: int = 0
    released: int = 0

    @property
    def left(self) -> int:
        """What is held."""
        return self.withheld - self.released


class Holding(NamedTuple):
    """The epoch in which a line first earned, and its pots by part."""

    since: int
    pots: Mapping[str, Pot] = {}

    @property
    def left(self) -> dict[str, int]:
        """What is held, by part."""
        return {name: pot.left for name, pot in self.pots.items()}


class Grant(NamedTuple):
    """An amount that vests evenly between two epochs."""

    since: int
    until: int
    amount: int

    def vested(self, epoch: int) -> int:
        """What has vested of it at the end of an epoch."""
        return vested(self.amount, since=self.since, until=self.until, now=epoch)


Holdings = Mapping[LineKey, Holding]
Grants = Mapping[LineKey, Sequence[Grant]]
Moves = dict[LineKey, dict[str, Move]]


def hold(
    before: Holdings, held: Held, epoch: int, earned: Mapping[str, Shares], turns: Turns
) -> tuple[Moves, dict[LineKey, Holding]]:
    """Withhold, release, forfeit: what an epoch (from 0) moves of each line, and what is held at its end."""
    after = dict(before)
    if held.withheld_ppm:
        after |= {
            key: Holding(turns.known_since.get(key, epoch))
            for shares in earned.values()
            for key, share in shares.items()
            if share and key not in before
        }
    moves: Moves = {}
    for key, holding in after.items():
        code, pots = turns.code(key), dict[str, Pot]()
        for name, shares in earned.items():
            more = held.withhold(epoch - holding.since, name, shares.get(key, 0))
            before_it = holding.pots.get(name, Pot())
            withheld = before_it.withheld + more
            released = withheld if key in turns.returned else held.released(epoch - holding.since, withheld)
            move, pot = _turned(before_it, more, released, code)
            if any(move):
                moves.setdefault(key, {})[name] = move
            if pot.left:
                pots[name] = pot
        after[key] = Holding(epoch + 1 if code else holding.since, pots)
    return moves, after


def _turned(pot: Pot, more: int, released: int, code: str) -> tuple[Move, Pot]:
    """What an epoch moves of a pot into which `more` is withheld, and the pot after it: `released` is due of it all."""
    pot = pot._replace(withheld=pot.withheld + more)
    if code:
        return Move(held=more, forfeited=pot.left, code=code if pot.left else ""), Pot()
    due = max(0, released - pot.released)
    return Move(held=more, released=due), pot._replace(released=pot.released + due)


def vest(
    before: Grants, epochs: int, epoch: int, granted: Shares
) -> tuple[dict[LineKey, Move], dict[LineKey, list[Grant]]]:
    """What vests in an epoch of earlier grants, and what is granted in it, to vest over the next `epochs` ones."""
    moves: dict[LineKey, Move] = {}
    after: dict[LineKey, list[Grant]] = {}
    for key in before.keys() | (granted.keys() if epochs else set()):
        grants = list(before.get(key, ()))
        due = sum(grant.vested(epoch) - grant.vested(epoch - 1) for grant in grants)
        grants = [grant for grant in grants if grant.until > epoch]
        if epochs and (fresh := granted.get(key, 0)):
            grants.append(Grant(epoch, epoch + epochs, fresh))
            moves[key] = Move(vesting=fresh, vested=due)
        elif due:
            moves[key] = Move(vested=due)
        if grants:
            after[key] = grants
    return moves, after


class Keeping(NamedTuple):
    """What an epoch moves by line and part, the rows that are carried, and what is in them after it, by part."""

    moves: Moves
    carried: dict[str, Sequence[Row]]
    held: Counter[str]
    vesting: int

    def later(self, name: str) -> Shares:
        """Of one part: what is owed later, less what is owed now, by line."""
        return {key: moves[name].later for key, moves in self.moves.items() if name in moves}

    def forfeited(self, name: str) -> int:
        """Of one part: what is lost to those who earned it."""
        return sum(moves[name].forfeited for moves in self.moves.values() if name in moves)

    def rows(self, key: LineKey) -> list[Kept]:
        """The rows of a line."""
        return [move.kept(name) for name, move in sorted(self.moves.get(key, {}).items())]


def keep(
    carried: Mapping[str, Sequence[Row]], rules: Rules, epoch: int, earned: Mapping[str, Shares], turns: Turns
) -> Keeping:
    """Decide what of an epoch's pay is owed later, and what of earlier pay is owed now."""
    moves, holdings = hold(read_holdings(carried), rules.held, epoch, earned, turns)
    held = {key: of_line[INCENTIVE].held for key, of_line in moves.items() if INCENTIVE in of_line}
    granted = {key: share - held.get(key, 0) for key, share in earned[INCENTIVE].items() if share > held.get(key, 0)}
    vesting, grants = vest(read_grants(carried), rules.vesting, epoch, granted)
    for key, move in vesting.items():
        of_line = moves.setdefault(key, {})
        was = of_line.get(INCENTIVE, Move())
        of_line[INCENTIVE] = was._replace(vesting=move.vesting, vested=move.vested)
    left = Counter[str]()
    for holding in holdings.values():
        left.update(holding.left)
    return Keeping(
        moves,
        {HELD: holding_rows(holdings), VESTING: grant_rows(grants)},
        left,
        sum(grant.amount - grant.vested(epoch) for of_key in grants.values() for grant in of_key),
    )


def read_holdings(carried: Mapping[str, Sequence[Row]]) -> dict[LineKey, Holding]:
    """Read the rows of the state."""
    found: dict[LineKey, Holding] = {}
    for vertical, node, account, since, pots in carried.get(HELD, ()):
        read = {name: Pot(int.from_bytes(withheld), int.from_bytes(released)) for name, withheld, released in pots}
        found[vertical, node, account] = Holding(since, read)
    return found


def holding_rows(holdings: Holdings) -> list[Row]:
    """What is carried."""
    return [
        [*key, one.since, [[name, *(amount(value) for value in pot)] for name, pot in sorted(one.pots.items())]]
        for key, one in sorted(holdings.items())
    ]


def read_grants(carried: Mapping[str, Sequence[Row]]) -> dict[LineKey, list[Grant]]:
    """Read the rows of the state."""
    found: dict[LineKey, list[Grant]] = {}
    for vertical, node, account, since, until, value in carried.get(VESTING, ()):
        found.setdefault((vertical, node, account), []).append(Grant(since, until, int.from_bytes(value)))
    return found


def grant_rows(grants: Grants) -> list[Row]:
    """What is carried."""
    return [[*key, *one[:2], amount(one.amount)] for key, of_key in sorted(grants.items()) for one in of_key]

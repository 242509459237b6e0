"""What would raise what a node earns, said from its line of an epoch and the rules that the epoch was closed under."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fallow.cli.units import tokens, usd
from fallow.domain.chart import Credit
from fallow.domain.rewards.oracle import tokens_for
from fallow.domain.rewards.split import PPM, part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fallow.domain.epochs.lines import Line
    from fallow.domain.epochs.rules import Rules


def advice_of(line: Line, rules: Rules, price: int) -> Iterator[str]:
    """Say it; `price` is that of 10^18 units of the token in the epoch, 0 where none held."""
    if not line.vertical:
        return
    yield from _work(line)
    yield from _later(line)
    yield from _incentive(line, rules, price)


def _work(line: Line) -> Iterator[str]:
    if line.score == 0:
        yield "It was suspended when the epoch ended, after a wrong result: as long as it is, it earns no incentive."
    elif line.score < PPM:
        yield f"Its score is {100 * line.score // PPM} %: results that others confirm, ten in a row, make it whole."
    if own := sum(count for _, cause, count in line.ended if cause == "provider"):
        yield f"{own} leases ended by its own doing, and nobody paid for what they did since their last checkpoint."


def _later(line: Line) -> Iterator[str]:
    if any(int.from_bytes(kept.held) for kept in line.kept):
        yield "A part is held because the node is new; without a wrong result all of it is released, epoch by epoch."
    if any(int.from_bytes(kept.vesting) for kept in line.kept):
        yield "The incentive vests: nothing has to be done for it, each later epoch owes a part of it."
    if forfeited := [kept for kept in line.kept if int.from_bytes(kept.forfeited)]:
        yield f"What was held is forfeited ({forfeited[0].code}): the node is new again."


def _incentive(line: Line, rules: Rules, price: int) -> Iterator[str]:
    """Why the incentive is what it is: which of its bounds it has reached."""
    if not rules.pays:
        yield "This network gives no incentives: usage is all that is earned."
        return
    if not price:
        yield "No price of the token held in this epoch, so that nothing was minted; usage is paid all the same."
        return
    if rules.weight(line.vertical) == 0:
        yield f"The network's rules give no incentive to {line.vertical}."
        return
    if line.units and not line.money:
        yield _unsold(line, rules)
        return
    if line.money and all(money.credit == Credit.GRANTED for money in line.money):
        yield "All it was paid in is TEST credits, which nothing backs: they earn no incentive."
        return
    paid = [money for money in line.money if money.bought and money.credit in rules.pays]
    fee, back = sum(money.fee for money in paid), sum(money.refunded + money.made_good for money in paid)
    if back:
        yield f"{usd(min(back, fee))} of the fees came back by refunds or made good work, and earns no incentive."
    cap = tokens_for(part(part(max(0, fee - back), line.score), rules.cap_ppm), price)
    given = int.from_bytes(line.incentive)
    if cap and given == cap:
        yield (
            f"The incentive is at its bound, {100 * rules.cap_ppm / PPM:g} % of the fees that its work paid: "
            "more paid work raises it."
        )
    elif given < cap:
        yield (
            f"Of the fees' bound of {tokens(cap)} tokens the epoch's pool gave {100 * given // cap} %, or what only a "
            "gateway attests was less: with a larger part of all paid work it gets a larger part of the pool."
        )


def _unsold(line: Line, rules: Rules) -> str:
    """What is to say where nobody paid for what was metered."""
    if part_ppm := rules.unsold.get(line.vertical):
        return (
            f"Nobody bought what it metered; the rules give {100 * part_ppm / PPM:g} % of the token's schedule to such "
            f"records of {line.vertical}, by units times score: more of them that hold are a larger part of it."
        )
    return (
        f"Nobody paid for what it metered, and the network's rules give nothing for that to {line.vertical} (unsold)."
    )

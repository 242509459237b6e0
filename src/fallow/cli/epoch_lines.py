"""What an epoch says of itself and of one node, for people and for machines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fallow.cli.show import lease_name, say, table
from fallow.cli.units import tokens, usd
from fallow.domain.epochs.network_line import network_line
from fallow.domain.facts import LeaseSettled, NodeShown
from fallow.domain.identity import address_text
from fallow.domain.network_facts import LendingForfeited, LendingReturned, LendingUsed
from fallow.domain.rewards.split import PPM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fallow.domain.epochs.lines import Kept, Line
    from fallow.domain.epochs.paid_use import PaidUse
    from fallow.domain.epochs.reading import Filed
    from fallow.domain.epochs.statement import Statement
    from fallow.domain.records import Record
    from fallow.domain.views.epochs import NetworkLineView

CREDITS = {1: "granted (TEST)", 2: "paid", 3: "burned"}
KEPT = {
    "held": "held, not owed yet",
    "released": "released, owed now",
    "vesting": "vests in later epochs",
    "vested": "vested, owed now",
    "forfeited": "forfeited",
}
SHOWN = ("income", "fee", "reserve", "made_good")


def totals_view(said: Statement) -> dict[str, object]:
    """What was computed again, for machines."""
    return {
        "epoch": said.epoch,
        "root": said.root.hex(),
        "leaves": said.leaf_count,
        "opening": said.opening.hex(),
        "closing": said.closing.hex(),
        "policies": [f"{policy.name} {policy.version}" for policy in said.policies],
        "totals": {name: str(int.from_bytes(value)) for name, value in said.totals.items()},
    }


def say_totals(said: Statement) -> None:
    """Print an epoch's sums: usage and incentive apart."""
    totals = {name: int.from_bytes(value) for name, value in said.totals.items()}
    rows = [
        (name, *(usd(totals.get(f"bought.{credit}.{part}", 0)) for part in SHOWN))
        for credit, name in CREDITS.items()
        if any(one.startswith(f"bought.{credit}.") for one in totals)
    ]
    table(["CREDITS", ">PROVIDERS", ">FEE", ">RESERVE", ">MADE GOOD"], rows, empty="Nothing was bought.")
    say_network(network_line(said.totals))


def say_paid(paid: PaidUse) -> None:
    """Say who was paid for more than his nodes are told to have been used for; nothing where nobody was looked at."""
    if paid.accounts and not paid.above:
        say(f"No account was paid for more than its nodes are told to have given; {paid.accounts:,} were looked at.")
    for one in paid.above:
        say(
            f"{address_text(one.account)} was paid for {one.paid:,} {one.meter} of {one.vertical}; "
            f"its nodes are told to have given {one.used:,}."
        )
    if paid.above:
        say("Bills that waited, or use that was told of late, explain that; or a lie. More epochs in the folder tell.")


def say_network(line: NetworkLineView) -> None:
    """Print the network's own line."""
    minted, burned, net = (tokens(int(amount)) for amount in (line.minted, line.burned, line.net))
    say(f"usage      {usd(line.usage_microusd)} earned by providers; {held_text(line)}")
    say(f"incentive  {minted} tokens minted, {burned} burned, net {net}; supply {tokens(int(line.supply))}")
    say(f"revenue    {usd(line.revenue_microusd)} in fees that somebody paid; over issuance: {coverage_text(line)}")
    if line.burned_credits_microusd:
        say(f"{'':9}  {usd(line.burned_credits_microusd)} of credits were given for burned tokens")
    if int(line.delegated):
        say(f"{'':9}  {tokens(int(line.delegated))} of what was earned in tokens went to who has stake with operators")
    if line.unsound_microusd:
        say(f"ALARM      {usd(line.unsound_microusd)} of burned credits follow from no burn at a price that held")
    if later := [name for name in ("held", "vesting", "forfeited") if int(getattr(line, name))]:
        say(f"{'':9}  of all incentives {', '.join(f'{tokens(int(getattr(line, name)))} {name}' for name in later)}")


def held_text(line: NetworkLineView) -> str:
    """What of all usage is not owed to those who earned it."""
    held, forfeited = usd(line.held_usage_microusd), usd(line.forfeited_usage_microusd)
    return f"{held} of all usage is held, {forfeited} was forfeited"


def coverage_text(line: NetworkLineView) -> str:
    """Revenue over issuance, as a number."""
    return "nothing was minted" if line.coverage_ppm is None else f"{line.coverage_ppm / PPM:.2f}"


def line_view(line: Line) -> dict[str, object]:
    """A line, for machines. Amounts that 64 bits may not hold are texts."""
    return {
        "vertical": line.vertical or "core",
        "account": address_text(line.account) if line.account else "",
        "units": line.units,
        "score_ppm": line.score,
        "usage": str(int.from_bytes(line.usage)),
        "incentive": str(int.from_bytes(line.incentive)),
        "kept": [kept_view(kept) for kept in line.kept],
        "money": [money._asdict() for money in line.money],
        "verdicts": line.verdicts,
        "ended": line.ended,
    }


def kept_view(kept: Kept) -> dict[str, str]:
    """What of a line's pay is owed at another time, for machines."""
    amounts = {name: str(int.from_bytes(getattr(kept, name))) for name in KEPT}
    return {"part": kept.part, **amounts, "code": kept.code}


def say_line(line: Line, advice: Iterable[str]) -> None:
    """Print a line, and what would raise it."""
    usage, incentive = int.from_bytes(line.usage), int.from_bytes(line.incentive)
    account = address_text(line.account) if line.account else "nobody"
    say(f"{line.vertical or 'core'}: usage {usd(usage)}, incentive {token_text(incentive)}, to {account}")
    if line.units:
        say(f"  {line.units:,} units metered, score {100 * line.score // PPM} %")
    for kept in line.kept:
        write = usd if kept.part == "usage" else token_text
        for name, what in KEPT.items():
            if value := int.from_bytes(getattr(kept, name)):
                say(f"  {kept.part} {what}: {write(value)}{f' ({kept.code})' if name == 'forfeited' else ''}")
    for money in line.money:
        earned = f"earned {usd(money.income)}, made good {usd(money.made_good)}, fee {usd(money.fee)}"
        why = "" if money.bought else " (the network's own checks, which earn no incentive)"
        say(f"  {CREDITS[money.credit]}: {earned}{why}")
    for reason, cause, count in line.ended:
        say(f"  {count} leases ended: {reason or 'done'}, caused by {cause or 'nobody'}")
    for verdict, code, count in line.verdicts:
        say(f"  {count} records {verdict}{f': {code}' if code else ''}")
    for one in advice:
        say(f"  -> {one}")


def token_text(units: int) -> str:
    """Show an amount of the token."""
    return f"{tokens(units)} tokens"


def record_view(one: Filed) -> dict[str, str]:
    """One of the records about a node, or its own: its batch and place in the epoch, and what it says."""
    body = one.record.body
    lease = body.get("lease")
    return {
        "record": f"{one.batch}/{one.place}",
        "kind": one.record.kind,
        "lease": lease_name(lease.hex()) if isinstance(lease, bytes) else "",
        "what": _what(one.record),
    }


def _what(record: Record) -> str:
    """What a node signed itself is shown as it stands: only its vertical knows what it means."""
    body = record.body
    if record.kind == NodeShown.kind:
        return str(body["what"])
    if record.kind == LeaseSettled.kind:
        income = usd(sum(moved.get("income", 0) for moved in body["moved"]))
        return f"{body['charged_ms']} ms charged, {income} earned {body['reason']}".rstrip()
    if record.kind == LendingUsed.kind:
        used = ", ".join(f"{quantity:,} {meter}" for meter, quantity in sorted(body["used"].items()))
        return f"{body['vertical']}: {used} by {body['orders']:,} orders"
    if record.kind == LendingForfeited.kind:
        return f"{body['vertical']}: shut out, {body['code']} ({len(body['evidence'])} findings)"
    if record.kind == LendingReturned.kind:
        return f"{body['vertical']}: handed back in good order"
    said = {name: value for name, value in body.items() if name != "lease"}
    return json.dumps(said, default=bytes.hex)

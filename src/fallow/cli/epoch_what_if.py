"""`fallow epoch what-if`: an old epoch under other rules, as a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from fallow.cli.epoch_audit import FOLDER, Into, Key, there
from fallow.cli.epoch_lines import kept_view
from fallow.cli.plots import Bar, Row, svg, text_bar
from fallow.cli.profiles import Authority, From
from fallow.cli.show import Json, say, show_json, table
from fallow.cli.units import tokens, usd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fallow.domain.epochs.folding import Folded
    from fallow.domain.epochs.lines import Line
    from fallow.domain.epochs.rules import Rules

BAR, BARS_MAX = 48, 20
PLOTTED_MAX = 50
"""Nodes in a plot: those that gain or lose most."""

Set = Annotated[
    list[str] | None, Parameter(name="--set", negative="", help="NAME=VALUE of a rule, as often as you like.")
]
Model = Annotated[str, Parameter(help="A token model, or a TOML file with one, as the setting `rewards` takes it.")]
Plot = Annotated[Path | None, Parameter(help="File (SVG) to draw it into.")]


class Difference(NamedTuple):
    """One line of an epoch, as it was and as it would be under other rules; None where there is no such line."""

    vertical: str
    node: str
    was: Line | None
    then: Line | None

    def usage(self) -> tuple[int, int]:
        """Micro-US-dollars, both ways."""
        return _of(self.was, "usage"), _of(self.then, "usage")

    def incentive(self) -> tuple[int, int]:
        """Units of the token, both ways."""
        return _of(self.was, "incentive"), _of(self.then, "incentive")

    def later(self) -> int:
        """Of the incentive then, what would be held or vest."""
        kept = self.then.kept if self.then else []
        return sum(int.from_bytes(one.held) + int.from_bytes(one.vesting) for one in kept if one.part == "incentive")

    @property
    def change(self) -> tuple[int, int]:
        """How much is different: incentive, usage."""
        incentive, usage = (abs(then - was) for was, then in (self.incentive(), self.usage()))
        return incentive, usage


def what_if(
    number: int,
    /,
    *,
    set_: Set = None,
    rewards: Model = "",
    plot: Plot = None,
    url: From = "",
    ca: Authority = None,
    into: Into = FOLDER,
    key: Key = "",
    json: Json = False,
) -> None:
    """Run an old epoch under other rules, and show for each node the difference, those with the largest first.

    Rules: model (none, work_only, burn_and_mint), credit (1 granted, 2 paid, 3 burned), settlement and token (0x...),
    schedule.NAME, price, net_cap, guard.NAME, cap_ppm, attested_ppm, held.NAME, vesting, weights.VERTICAL. For example:
    --rewards work_only --set credit=2 --set schedule.blocks=300 --plot then.svg
    """
    from fallow.bootstrap.auditing import what_if as run_what_if  # noqa: PLC0415 - heavy, and not for the help

    place = there(number, url, ca, into, key)
    changes = set_ or []
    found = run_what_if(place.folder, number, place.key, lambda rules: changed_rules(rules, changes, rewards))
    rows = differences(found.before, found.after)
    if plot:
        plot.write_text(_drawn(number, " ".join([rewards, *changes]), rows), encoding="utf-8")
    if json:
        show_json([_view(row) for row in rows])
        return
    _say(rows, found.before, found.after)
    if plot:
        say(f"The plot is in {plot}.")


def changed_rules(rules: Rules, changes: list[str], rewards: str) -> Rules:
    """Take another model's rules, with this epoch's assets, and apply NAME=VALUE to them.

    Raises:
        InvalidInput: `epoch.rules`, `settings.rewards`: there is no such rule or model, or it cannot have this value.
    """
    from fallow.bootstrap.rewards import read_model  # noqa: PLC0415 - as above
    from fallow.domain.epochs.written_rules import changed, of_model  # noqa: PLC0415 - as above

    return changed(of_model(rules, read_model(rewards)) if rewards else rules, changes)


def differences(before: Folded, after: Folded) -> list[Difference]:
    """Lines that earn something in one of both, those whose pay changes most first."""
    was, then = ({line[:3]: line for line in folded.lines} for folded in (before, after))
    found = [Difference(key[0], key[1].hex(), was.get(key), then.get(key)) for key in sorted(was.keys() | then.keys())]
    earning = [row for row in found if any((*row.usage(), *row.incentive()))]
    return sorted(earning, key=lambda row: row.change, reverse=True)


def _of(line: Line | None, part: str) -> int:
    return int.from_bytes(getattr(line, part)) if line else 0


def _say(rows: list[Difference], before: Folded, after: Folded) -> None:
    """Print the table, the sums, and bars."""
    shown = [
        (
            row.vertical,
            row.node[:12],
            *map(usd, row.usage()),
            *map(tokens, row.incentive()),
            tokens(row.later()),
        )
        for row in rows
    ]
    heads = ["VERTICAL", "NODE", ">USAGE", ">THEN", ">INCENTIVE", ">THEN", ">LATER"]
    table(heads, shown, empty="Nobody earned anything in this epoch.")
    for name, write in (("usage", usd), ("incentive", tokens), ("minted", tokens)):
        was, then = before.totals[name], after.totals[name]
        say(f"{name:9}  {write(was)} as it was, {write(then)} then ({'+' if then >= was else ''}{write(then - was)})")

    for line in _bars(rows):
        say(line)


def _bars(rows: list[Difference]) -> Iterator[str]:
    """Draw what changes: incentives, or usage where there is no incentive in both."""
    name = "incentive" if any(any(row.incentive()) for row in rows) else "usage"
    of = Difference.incentive if name == "incentive" else Difference.usage
    changed = [row for row in rows if of(row)[0] != of(row)[1]][:BARS_MAX]
    if changed:
        yield f"{name}: = stays, + more, - less"
    most = max((max(of(row)) for row in changed), default=0)
    for row in changed:
        yield f"{row.node[:12]:12} {text_bar(*of(row), most, BAR)}"


def _drawn(number: int, changes: str, rows: list[Difference]) -> str:
    drawn = [
        Row(
            f"{row.vertical} {row.node[:12]}",
            [
                Bar(*row.usage(), *map(usd, row.usage())),
                Bar(*row.incentive(), *map(tokens, row.incentive())),
            ],
        )
        for row in rows[:PLOTTED_MAX]
    ]
    left = f"; {len(rows) - PLOTTED_MAX} lines that change less are left out" if len(rows) > PLOTTED_MAX else ""
    caption = f"grey: as it was; blue: with {changes.strip() or 'the same rules'}{left}"
    return svg(f"Epoch {number} under other rules", caption, ["usage (USD)", "incentive (tokens)"], drawn)


def _view(row: Difference) -> dict[str, object]:
    usage, incentive = row.usage(), row.incentive()
    return {
        "vertical": row.vertical,
        "node": row.node,
        "usage": usage[0],
        "usage_then": usage[1],
        "incentive": incentive[0],
        "incentive_then": incentive[1],
        "kept": [kept_view(one) for one in row.was.kept] if row.was else [],
        "kept_then": [kept_view(one) for one in row.then.kept] if row.then else [],
    }

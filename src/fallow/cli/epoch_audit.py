"""`fallow epoch audit | explain | what-if`: what an epoch's files give, computed here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.epoch_lines import line_view, record_view, say_line, say_totals, totals_view
from fallow.cli.show import Json, say, show_json, table
from fallow.domain.epochs.manifest import STATEMENT, path_of
from fallow.domain.epochs.statement import NONE
from fallow.domain.identity import node_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fallow.domain.epochs.folding import Folded
    from fallow.domain.epochs.rules import Rules

Into = Annotated[Path, Parameter(help="Folder with epochs, as fetch fills it; what is missing there is fetched.")]
From = Annotated[str, Parameter(name="--from", help="The network; left out, the one in your profile.")]
Authority = Annotated[Path | None, Parameter(help="Certificate file (PEM) of the network's own authority.")]
Key = Annotated[str, Parameter(help="The network's key (hex) as you know it; left out, the network is asked for it.")]

FOLDER = Path("archive")
BAR = 24


class Place(NamedTuple):
    """Where an epoch lies, and whose it is."""

    folder: Path
    key: bytes


def audit(
    number: int, /, *, url: From = "", ca: Authority = None, into: Into = FOLDER, key: Key = "", json: Json = False
) -> None:
    """Compute an epoch again from its files alone, and compare every bit with what its statement says.

    Nothing of the network is needed but the files of this epoch and of the one before, and its public key.
    """
    from fallow.bootstrap.auditing import audit as run_audit  # noqa: PLC0415 - heavy, and not for the help

    place = _there(number, url, ca, into, key)
    said = run_audit(place.folder, number, place.key)
    if json:
        show_json(totals_view(said))
        return
    say(f"Epoch {number} is what its records give: every file, sum and hash of its statement was computed again.")
    say(f"Root 0x{said.root.hex()} over {said.leaf_count} leaves; the closing state is {said.closing.hex()[:16]}.")
    say_totals(said)
    if not key:
        say("The network's key is its own word: compare it with one that you got elsewhere, and pass it with --key.")


def explain(
    number: int,
    node: str,
    /,
    *,
    url: From = "",
    ca: Authority = None,
    into: Into = FOLDER,
    key: Key = "",
    json: Json = False,
) -> None:
    """Say why a node earned in an epoch what it did, down to the records, and what would raise it."""
    from fallow.bootstrap.auditing import explain as run_explain  # noqa: PLC0415 - heavy, and not for the help

    place = _there(number, url, ca, into, key)
    story = run_explain(place.folder, number, place.key, node_id(node))
    if json:
        show_json(
            {"lines": [line_view(line) for line in story.lines], "records": [record_view(one) for one in story.records]}
        )
        return
    if not story.lines:
        say(f"Epoch {number} has no records of node {node}, or about it: it was not there, or had nothing to do.")
    for line in story.lines:
        say_line(line)
    rows = [tuple(record_view(one).values()) for one in story.records]
    table(["RECORD", "KIND", "LEASE", "WHAT"], rows, empty="The network has signed nothing about it in this epoch.")


def what_if(
    number: int,
    /,
    *,
    set_: Annotated[
        list[str] | None, Parameter(name="--set", help="NAME=VALUE of a rule, as often as you like.")
    ] = None,
    url: From = "",
    ca: Authority = None,
    into: Into = FOLDER,
    key: Key = "",
    json: Json = False,
) -> None:
    """Run an old epoch under other rules, and show for each node the difference.

    Rules: model (none, work_only, burn_and_mint), credit (1 granted, 2 paid, 3 burned), settlement and token (0x...),
    schedule.NAME, price, net_cap, guard.NAME, cap_ppm, attested_ppm, weights.VERTICAL. For example: --set credit=2
    --set schedule.type=halving_by_date --set schedule.base=1000 --set schedule.period=730
    """
    from fallow.bootstrap.auditing import what_if as run_what_if  # noqa: PLC0415 - heavy, and not for the help

    place = _there(number, url, ca, into, key)
    own = run_what_if(place.folder, number, place.key, None)
    other = run_what_if(place.folder, number, place.key, changed_rules(own.rules, set_ or []))
    rows = list(_differences(other.before, other.after))
    if json:
        show_json(
            [
                dict(zip(("vertical", "node", "usage", "usage_then", "incentive", "incentive_then"), row, strict=True))
                for row in rows
            ]
        )
        return
    most = max((max(row[2:]) for row in rows), default=0)
    shown = [(*row[:1], row[1][:12], *row[2:], _bar(row[5] or row[3], most)) for row in rows]
    heads = ["VERTICAL", "NODE", ">USAGE", ">THEN", ">INCENTIVE", ">THEN", "THEN"]
    table(heads, shown, empty="Nobody earned anything in this epoch.")
    for name in ("incentive", "minted"):
        say(f"{name}: {other.before.totals[name]:,} as it was, {other.after.totals[name]:,} then")


def changed_rules(rules: Rules, changes: list[str]) -> Rules:
    """Apply NAME=VALUE to rules.

    Raises:
        InvalidInput: `epoch.rules`: there is no such rule, or it cannot have this value.
    """
    from fallow.domain.epochs.rules import plain_rules  # noqa: PLC0415 - as above

    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = change.partition("=")
        head, _, part = name.partition(".")
        value = int(text) if text.removeprefix("-").isdecimal() else text
        if part:
            values.setdefault(head, {})[part] = value
        else:
            values[head] = value
    return plain_rules(values, rules)


def _there(number: int, url: str, ca: Path | None, into: Path, key: str) -> Place:
    """Have an epoch, and the one before it, in the folder. What is there already is not asked for."""
    from fallow.sdk.epochs import read_epoch  # noqa: PLC0415 - heavy, and not for the help

    profile = profiles.Profile(url, "", profiles.read_ca(ca) if ca else "") if url else None

    def fetch(one: int) -> None:
        if not (into / path_of(one, STATEMENT)).exists():
            with profiles.client_of(profile or profiles.load()) as client:
                client.fetch_epoch(one, into, key=key)

    if not key:
        with profiles.client_of(profile or profiles.load()) as client:
            key = client.network().public_key
    fetch(number)
    network_key = node_id(key)
    _, said, _ = read_epoch(into, number, network_key)
    if said.previous != NONE:
        fetch(number - 1)
    return Place(into, network_key)


def _differences(before: Folded, after: Folded) -> Iterable[tuple[str, str, int, int, int, int]]:
    for was, then in zip(before.lines, after.lines, strict=True):
        amounts = [int.from_bytes(value) for value in (was.usage, then.usage, was.incentive, then.incentive)]
        if any(amounts):
            yield was.vertical, was.node.hex(), amounts[0], amounts[1], amounts[2], amounts[3]


def _bar(value: int, most: int) -> str:
    return "#" * (BAR * value // most) if most else ""

"""`fallow epoch audit | explain | shares`: what an epoch's files give, computed here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.epoch_advice import advice_of
from fallow.cli.epoch_lines import line_view, record_view, say_line, say_paid, say_totals, totals_view
from fallow.cli.profiles import Authority, From
from fallow.cli.show import Json, say, show_json, table
from fallow.cli.units import percent, tokens
from fallow.domain.epochs.statement import NONE
from fallow.domain.identity import address, address_text

Into = Annotated[Path, Parameter(help="Folder with epochs, as fetch fills it; what is missing there is fetched.")]
Key = Annotated[str, Parameter(help="The network's key (hex) as you know it; left out, the network is asked for it.")]

FOLDER = Path("archive")


class Place(NamedTuple):
    """Where an epoch lies, and whose it is."""

    folder: Path
    key: bytes


def audit(
    number: int, /, *, url: From = "", ca: Authority = None, into: Into = FOLDER, key: Key = "", json: Json = False
) -> None:
    """Compute an epoch again from its files alone, and compare every bit with what its statement says.

    Nothing of the network is needed but the files of this epoch and of the one before, and its public key. What nodes
    served is added up again from the orders that they handed in, and what accounts were paid for is held against it, as
    far as epochs lie in the folder.
    """
    from fallow.bootstrap.auditing import audit as run_audit  # noqa: PLC0415 - heavy, and not for the help
    from fallow.domain.epochs.offences import SHARES_PPM  # noqa: PLC0415 - not installed with every part

    place = there(number, url, ca, into, key, sums=True)
    said, recounts, paid, gateways = run_audit(place.folder, number, place.key)
    if json:
        offences = [
            {"operator": address_text(one.operator), "reason": one.reason, "evidence": one.evidence.hex()}
            for one in gateways
        ]
        ahead = [{**one._asdict(), "account": address_text(one.account)} for one in paid.above]
        show_json(
            {
                **totals_view(said),
                "sums": recounts._asdict(),
                "paid_use": {"accounts": paid.accounts, "above": ahead},
                "gateways": offences,
            }
        )
        return
    say(f"Epoch {number} is what its records give: every file, sum and hash of its statement was computed again.")
    say(f"Root 0x{said.root.hex()} over {said.leaf_count} leaves; the closing state is {said.closing.hex()[:16]}.")
    say_totals(said)
    if recounts.right:
        say(f"{recounts.right:,} sums of what nodes served are what the orders make that they handed in.")
    if recounts.unsure:
        say(f"{recounts.unsure:,} sums have orders in earlier epochs: have those in {into}, too, to add them up again.")
    say_paid(paid)
    for one in gateways:
        share = percent(SHARES_PPM[one.reason])
        say(f"{address_text(one.operator)} stood for a gateway that ordered beyond its limit: {share} of his pool.")
        say(f"The evidence is the order with the SHA-256 {one.evidence.hex()}.")
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
    """Say why a node earned in an epoch what it did, down to the records, and what would raise it.

    Of the node's id the first digits will do, as lists show them.
    """
    from fallow.bootstrap.auditing import explain as run_explain  # noqa: PLC0415 - heavy, and not for the help

    place = there(number, url, ca, into, key)
    story = run_explain(place.folder, number, place.key, node)
    if json:
        show_json(
            {
                "lines": [
                    {
                        **line_view(line),
                        "delegated": str(story.delegated.get(line.account, 0)),
                        "paid_to": address_text(story.paid_to.get(line.account, line.account)) if line.account else "",
                        "advice": list(advice_of(line, story.rules, story.price)),
                    }
                    for line in story.lines
                ],
                "records": [record_view(one) for one in story.records],
            }
        )
        return
    if not story.lines:
        say(f"Epoch {number} has no records of node {node}, or about it: it was not there, or had nothing to do.")
    for line in story.lines:
        say_line(line, advice_of(line, story.rules, story.price))
    for account, units in sorted(story.delegated.items()):
        if units:
            say(f"{tokens(units)} tokens of {address_text(account)} went to who has stake with it, in this epoch:")
            say(f"  fallow epoch shares {number} {address_text(account)}")
        if account in story.paid_to:
            say(f"{address_text(account)} is paid to {address_text(story.paid_to[account])}, as it has signed.")
    rows = [tuple(record_view(one).values()) for one in story.records]
    table(["RECORD", "KIND", "LEASE", "WHAT"], rows, empty="The network has signed nothing about it in this epoch.")


def shares(
    number: int,
    account: str,
    /,
    *,
    url: From = "",
    ca: Authority = None,
    into: Into = FOLDER,
    key: Key = "",
    json: Json = False,
) -> None:
    """Show what an account's stake earned in an epoch with each operator, and what it shared as one, in tokens."""
    from fallow.bootstrap.auditing import shares as read_shares  # noqa: PLC0415 - heavy, and not for the help

    place = there(number, url, ca, into, key)
    found = read_shares(place.folder, number, place.key, address(account.lower()))
    if json:
        names = ("operator", "holder", "units")
        rows = [(address_text(one.operator), address_text(one.holder), str(one.units)) for one in found]
        show_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    shown = [(address_text(one.operator), address_text(one.holder), tokens(one.units)) for one in found]
    table(["EARNED BY", "GOES TO", ">TOKENS"], shown, empty="Nothing was shared with it, or by it.")


def there(number: int, url: str, ca: Path | None, into: Path, key: str, *, sums: bool = False) -> Place:
    """Have an epoch, and the one before it, in the folder. What is there already is not asked for.

    With `sums` the one before has its records, too, where this one has any that add up others.
    """
    from fallow.domain.epochs.sums import has_sums  # noqa: PLC0415 - heavy, and not for the help
    from fallow.sdk.epochs import is_whole, key_of, read_epoch  # noqa: PLC0415 - heavy, and not for the help

    def fetch(one: int, *, records: bool) -> None:
        if not is_whole(into, one, key_of(key), records=records):
            with profiles.client_at(url, ca) as client:
                client.fetch_epoch(one, into, key=key)

    if not key:
        with profiles.client_at(url, ca) as client:
            key = client.network().public_key
    fetch(number, records=True)
    network_key = key_of(key)
    _, said, manifest = read_epoch(into, number, network_key)
    if said.previous != NONE:
        fetch(number - 1, records=sums and has_sums(manifest))
    return Place(into, network_key)

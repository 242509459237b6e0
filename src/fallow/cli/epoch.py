"""`fallow epoch`: closed epochs, and the records that they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.types import ExistingFile

from fallow.cli import profiles
from fallow.cli.epoch_audit import audit, explain, shares
from fallow.cli.epoch_lines import say_network
from fallow.cli.epoch_what_if import what_if
from fallow.cli.profiles import Authority, From
from fallow.cli.show import Json, clean, say, show_json, table
from fallow.cli.units import tokens, usd, when
from fallow.domain.chains import chain_id_of
from fallow.domain.epochs.promises import BrokenPromise
from fallow.domain.errors import InvalidInput
from fallow.domain.views.epochs import EpochView
from fallow.domain.views.network import NetworkView
from fallow.domain.views.votes import RootView
from fallow.sdk.epochs import key_of

app = App(name="epoch", help="Look at closed epochs, fetch, verify and recompute them.")
app.command(audit)
app.command(explain)
app.command(shares)
app.command(what_if)

DEFAULT_FOLDER = Path("archive")


Into = Annotated[Path, Parameter(help="Folder to keep it in, as <folder>/epochs/<n>.")]


@app.command(name="ls")
def ls(
    *,
    before: Annotated[int | None, Parameter(help="Only epochs below this number.")] = None,
    limit: Annotated[int, Parameter(help="How many at most.")] = 30,
    json: Json = False,
) -> int:
    """List closed epochs, the latest first. The exit code is 1 when the archive of one is damaged."""
    with profiles.connect() as client:
        found = client.epochs(before=before, limit=limit)
    damaged = [view for view in found if view.damaged]
    if json:
        show_json(found)
        return 1 if damaged else 0
    size = [">BATCHES", ">RECORDS", ">BYTES", ">USAGE", ">INCENTIVE"]
    heads = ["EPOCH", "FROM (UTC)", "UNTIL (UTC)", *size, "STATEMENT"]
    table(heads, map(_row, found), empty="No epoch is closed yet. The operator can end one: fallow epoch close")
    for view in damaged:
        say(f"Epoch {view.epoch}: {clean(view.damaged)}")
    return 1 if damaged else 0


@app.command
def show(number: int, /, *, json: Json = False) -> None:
    """Show a closed epoch and its files."""
    with profiles.connect() as client:
        view = client.epoch(number)
    show_json(view) if json else _say(view)


@app.command
def votes(number: int, /, *, json: Json = False) -> int:
    """Show how validators voted about a closed epoch. The exit code is 1 while no quorum has signed what is stated."""
    with profiles.connect() as client:
        view, network = client.votes(number), client.network()
    if json:
        show_json(view)
        return 0 if view.decided else 1
    if not view.validators:
        say("Nobody validates this epoch: it is the operator's own word (self-attested).")
        return 1
    rows = [(each, "signed it") for each in view.signed]
    rows += [(each.validator, f"signed another root: {'; '.join(each.differences)}") for each in view.wrong]
    rows += [(each, "signed two roots") for each in view.equivocated]
    table(["VALIDATOR", "VOTE"], rows, empty="Nobody has signed it yet.")
    say(f"{len(view.signed)} of {len(view.validators)} signed what is stated; {view.quorum} must.")
    if network.contracts and view.validators == [network.contracts.operator]:
        say("The one validator is the operator himself: it is his own word (self-attested).")
    if view.published is not None:
        _say_published(view.published)
        say(whose_chain(network))
    return 0 if view.decided else 1


@app.command
def close(*, json: Json = False) -> None:
    """Operator: end the open epoch before its time, and wait until it is closed."""
    with profiles.connect() as client:
        closed = client.epochs(limit=1)
        view = client.closed_epoch(client.end_epoch(after=closed[0].epoch if closed else None).epoch)
    show_json(view) if json else _say(view)


@app.command
def fetch(
    number: int,
    /,
    *,
    url: From = "",
    ca: Authority = None,
    into: Into = DEFAULT_FOLDER,
    key: Annotated[
        str, Parameter(help="The network's key (hex) as you know it; left out, the network is asked for it.")
    ] = "",
    json: Json = False,
) -> None:
    """Download an epoch with its votes, and verify every hash, signature and promise in it.

    What is there is not sent again, but for votes: they come in after an epoch is closed.
    """
    with profiles.client_at(url, ca) as client:
        found = client.fetch_epoch(number, into, key=key)
    if json:
        show_json(found)
        return
    say(
        f"Epoch {number} is in {found.folder}: {found.batches} batches, {found.records} records of {found.nodes} nodes."
    )
    say(f"Every hash, signature and promise in it holds under the network's key {found.key}.")
    if not key:
        say("That key is the network's own word: compare it with one that you got elsewhere, and pass it with --key.")
    if found.votes:
        say(f"Votes of {len(found.votes)} validators lie with it; tools/verify_epoch.py counts them.")
    for validator in found.evidence:
        say(f"Validator {clean(validator)} signed two roots: the evidence lies with it.")
    if found.follows:
        say(f"It names the statement of epoch {number - 1} that lies beside it.")


@app.command
def broken(
    evidence: ExistingFile,
    /,
    *,
    key: Annotated[str, Parameter(help="The network's key (hex) as you know it.")],
    url: From = "",
    ca: Authority = None,
    into: Into = DEFAULT_FOLDER,
    json: Json = False,
) -> int:
    """Check a node's proof that an archive broke a promise (fallow agent promises). Exits with 1 when it did."""
    network_key = key_of(key)
    try:
        proof = BrokenPromise.decode(evidence.read_bytes())
    except InvalidInput as error:
        hint = "Such a file is written by: fallow agent promises"
        raise InvalidInput("promise.evidence", f"{evidence} is no proof of a broken promise.", hint) from error
    promise, _ = proof.opened(network_key)
    with profiles.client_at(url, ca) as client:
        guilty = client.is_broken(proof, into, network_key)
    if json:
        show_json({"broken": guilty, "epoch": promise.epoch, "node": promise.node.hex()})
    else:
        batch = f"batch {promise.seq} of boot {promise.boot} of node {promise.node.hex()} for epoch {promise.epoch}"
        say(f"The network promised {batch}.")
        say("It stated an archive that does not hold it: the promise is BROKEN." if guilty else "Its archive holds it.")
    return 1 if guilty else 0


def _say_published(view: RootView) -> None:
    if not view.root:
        say(f"Its root is not on the chain. {view.why}")
        return
    by = f"in transaction {view.transaction}" if view.transaction else "sent by somebody else"
    say(f"Its root is on the chain, {by}; claims count from {when(view.active_at)} UTC on.")


def whose_chain(network: NetworkView) -> str:
    """Say in words what the network's chain proves to whom."""
    if network.chain_id == chain_id_of(network.net):
        return "The chain is the network's own: to outsiders it proves nothing (self-attested)."
    return f"The chain {network.chain_id} is not the network's: ask it by a node of your own."


def _row(view: EpochView) -> tuple[object, ...]:
    if view.damaged:
        return view.epoch, "DAMAGED", *[""] * 7
    size = sum(file.size for file in view.files)
    times = (when(view.from_ms), when(view.until_ms))
    line = view.network
    earned = (usd(line.usage_microusd), tokens(int(line.minted))) if line else ("", "")
    return view.epoch, *times, view.batches, view.records, size, *earned, view.statement[:16]


def _say(view: EpochView) -> None:
    say(f"Epoch {view.epoch}: from {when(view.from_ms)} until {when(view.until_ms)} UTC.")
    say(f"{view.batches} batches, {view.records} records.")
    for name in ("statement", "manifest", "previous", "root"):
        say(f"{name:9}  {getattr(view, name) or 'none'}")
    if view.network:
        say_network(view.network)
    rows = [(file.name, file.count, file.size, file.sha256[:16]) for file in view.files]
    table(["FILE", ">ENTRIES", ">BYTES", "SHA-256"], rows, empty="It has no files.")

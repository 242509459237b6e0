"""`fallow validator`: judge a network's epochs, from outside of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from fallow.cli.account_key import KeyFile, default_file
from fallow.cli.show import Json, clean, say, show_json, table, tell
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address_text

if TYPE_CHECKING:
    from fallow.services.validator.service import Seen

app = App(name="validator", help="Compute a network's epochs again, and sign those that are right.")

NetworkKey = Annotated[str, Parameter(help="The network's public key (64 hex digits), from a source that you trust.")]
HomeFolder = Annotated[Path, Parameter(help="A folder of its own, for what it must not forget.")]
HOME = Path("~/.local/share/fallow/validator")


@app.command
def run(
    url: str,
    /,
    *,
    network_key: NetworkKey,
    key: KeyFile = None,
    home: HomeFolder = HOME,
    ca: Annotated[Path | None, Parameter(help="Certificates of a network with an authority of its own (PEM).")] = None,
    once: Annotated[bool, Parameter(negative="", help="Judge what is closed now, and end.")] = False,
    json: Json = False,
) -> int:
    """Fetch each closed epoch, verify and compute all of it again, and sign it or say what differs.

    It needs nothing of the network but its address: everything is held against signatures and hashes. With --once the
    exit code is 1 when an epoch is refused.
    """
    from fallow.bootstrap.account_key import account_signer  # noqa: PLC0415 - not installed with every part of Fallow
    from fallow.bootstrap.validator import Assignment, run_validator  # noqa: PLC0415 - heavy, and not for the help
    from fallow.sdk.trust import verifying  # noqa: PLC0415 - as above

    signer = account_signer(key or default_file())
    found: list[Seen] = []

    def report(seen: Seen) -> None:
        found.append(seen)
        if not json:
            _say(seen)

    if not json:
        tell(f"Validator {address_text(signer.address)} judges {url}.")
    assignment = Assignment(url, _key(network_key), signer, home.expanduser().resolve(), verifying(ca))
    run_validator(assignment, report, once=once)
    if json:
        show_json([_view(seen) for seen in found])
    return 1 if any(seen.refusal for seen in found) else 0


@app.command
def show(*, network_key: NetworkKey, home: HomeFolder = HOME, json: Json = False) -> int:
    """Show what was signed, and what is refused and why. The exit code is 1 when something is."""
    from fallow.bootstrap.validator import book_of  # noqa: PLC0415 - heavy, and not for the help

    book = book_of(home.expanduser().resolve(), _key(network_key))
    votes, refusals = list(book.votes()), book.refusals()
    if json:
        show_json({"signed": [_signed(vote.epoch, vote.root) for vote in votes], "refused": refusals})
        return 1 if refusals else 0
    rows = [(vote.epoch, vote.revision, f"0x{vote.root.hex()}", f"0x{vote.archive.hex()[:16]}") for vote in votes]
    table([">EPOCH", ">REVISION", "ROOT", "STATEMENT"], rows, empty="Nothing was signed yet.")
    for refusal in refusals:
        say(f"Epoch {refusal.epoch} is REFUSED: {clean(refusal.message)}  [{refusal.code}]")
    return 1 if refusals else 0


def _say(seen: Seen) -> None:
    if seen.vote is not None:
        say(f"epoch {seen.epoch}: signed root 0x{seen.vote.root.hex()}{'' if seen.listed else ', which nobody counts'}")
    elif seen.refusal is not None:
        say(f"epoch {seen.epoch}: REFUSED. {clean(seen.refusal.message)}  [{seen.refusal.code}]")


def _view(seen: Seen) -> dict[str, object]:
    if seen.vote is not None:
        return _signed(seen.epoch, seen.vote.root) | {"listed": seen.listed}
    return {"epoch": seen.epoch, "refused": seen.refusal}


def _signed(epoch: int, root: bytes) -> dict[str, object]:
    return {"epoch": epoch, "root": f"0x{root.hex()}"}


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:  # noqa: PLR2004 - an Ed25519 key
        raise InvalidInput(
            "validator.network_key",
            "A network's key is 64 hex digits.",
            "It is public_key of /v1/network; compare it with one from elsewhere.",
        )
    return key

"""What a network's operator does: `fallow credit`, `token`, `key`, `ledger`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli import profiles
from fallow.cli.account import show_balance
from fallow.cli.evidence import say_evidence
from fallow.cli.install_line import install_line
from fallow.cli.show import Json, Limit, clean, say, show_json, table, tell, tell_cut
from fallow.cli.units import microusd, seconds, usd, when
from fallow.cli.wanted import Many
from fallow.domain.calls.keys import Secret
from fallow.domain.views.audits import AuditView

MIB = 1 << 20

credit = App(name="credit", help="Give credits.")
token = App(name="token", help="Let machines join.")
key = App(name="key", help="Make and revoke API keys.")
ledger = App(name="ledger", help="Check the ledger.")

key.command("fallow.cli.signing:app", name="signing", help="Keys that sign orders and receipts for you.")


@credit.command
def grant(account: str, amount: str, /, *, json: Json = False) -> None:
    """Give an account TEST credits, in USD. Nothing backs them and they can never be withdrawn."""
    with profiles.connect() as client:
        view = client.grant(account, microusd(amount))
    show_balance(view, as_json=json)


@token.command(name="new")
def new_token(
    *,
    uses: Annotated[int, Parameter(help="How many machines may join with it.")] = 1,
    valid: Annotated[str, Parameter(help="How long it works: 90s, 15m, 24h, 7d.")] = "24h",
    json: Json = False,
) -> None:
    """Make a token that lets machines join. It is shown once."""
    with profiles.connect() as client:
        secret = client.create_token(uses=uses, valid_s=seconds(valid))
        network = client.network()
    _show_secret(secret, "Keep it: it is not shown again.", as_json=json)
    if network.install_sha256 and not json:
        tell("On the other machine, this one line installs the agent and joins:")
        tell(f"  {install_line(network.url, secret.secret, network.install_sha256)}")


@token.command(name="ls")
def list_tokens(*, json: Json = False) -> None:
    """List the tokens that still let machines in."""
    with profiles.connect() as client:
        found = client.tokens()
    if json:
        show_json(found)
        return
    rows = [(each.token_id, each.uses_left, when(each.expires_at)) for each in found]
    table(["TOKEN", ">USES LEFT", "ENDS (UTC)"], rows, empty="No token lets anybody in. Make one: fallow token new")


@token.command(name="revoke")
def revoke_token(token_id: str, /, *, json: Json = False) -> None:
    """End a token, as `fallow token ls` names it. Machines that joined with it stay."""
    with profiles.connect() as client:
        client.revoke_token(token_id)
    show_json({"revoked": token_id}) if json else say(f"Token {token_id} lets nobody in any more.")


@key.command(name="ls")
def list_keys(
    *,
    after: Annotated[str, Parameter(help="From the first one above this public part on.")] = "",
    limit: Annotated[int, Parameter(help="How many at most.")] = 200,
    json: Json = False,
) -> None:
    """List API keys by their public part. Their secrets are kept nowhere."""
    with profiles.connect() as client:
        found = client.keys(after=after, limit=limit)
    if json:
        show_json(found)
        return
    rows = [(each.key_id, each.account, " ".join(each.scopes), each.label, when(each.revoked_at)) for each in found]
    table(["KEY", "ACCOUNT", "MAY", "LABEL", "REVOKED (UTC)"], rows, empty="No keys from there on.")


@key.command(name="new")
def new_key(
    *,
    account: Annotated[str, Parameter(help="Whose key it is; left out, a new account's.")] = "",
    scope: Annotated[Many, Parameter(help="buy, provide, withdraw, operate or view; may be repeated.")] = ("buy",),
    label: Annotated[str, Parameter(help="A name for your lists.")] = "",
    json: Json = False,
) -> None:
    """Make an API key. It is shown once."""
    with profiles.connect() as client:
        secret = client.create_key(account=account, scopes=scope, label=label)
    _show_secret(secret, f"For account {secret.account}. Keep it: it is not shown again.", as_json=json)


@key.command
def revoke(key_id: str, /, *, json: Json = False) -> None:
    """End an API key, by its public part."""
    with profiles.connect() as client:
        client.revoke_key(key_id)
    show_json({"revoked": key_id}) if json else say(f"Key {key_id} is revoked.")


@ledger.command
def check(*, json: Json = False) -> int:
    """Add the whole ledger up: debits equal credits, and no account is below what it may be."""
    with profiles.connect() as client:
        view = client.ledger_check()
    if json:
        show_json(view)
    elif view.ok:
        say(f"The ledger is in balance: {view.transfers} transfers, added up at {when(view.at)} UTC.")
    else:
        say("The ledger is NOT in balance.")
        for problem in view.problems:
            say(f"- {clean(problem)}")
        for name, amount in sorted(view.sums.items()):
            say(f"- {name}: debits minus credits are {usd(amount)}")
    return 0 if view.ok else 1


@ledger.command
def audit(*, json: Json = False) -> int:
    """Hold the ledger against the archive and the chain, item by item. The exit code is 1 when anything differs."""
    with profiles.connect() as client:
        view = client.audit()
    if json:
        show_json(view)
    else:
        _say_audit(view)
    return 0 if view.ok else 1


def _say_audit(view: AuditView) -> None:
    if view.trouble:
        say(f"The ledger could not be audited: {clean(view.trouble)}")
        return
    rows = [
        ("deposited", view.deposited),
        ("in circulation", view.circulation),
        ("owed on the chain until now", view.owed),
        ("of it claimed", view.claimed),
        ("held by the distributor", view.held),
    ]
    table(
        ["PAID CREDITS", ">AMOUNT"], [(name, "no chain" if one is None else usd(one)) for name, one in rows], empty=""
    )
    if view.ok:
        say(f"Nothing differs: {view.transfers} transfers, {view.epochs} closed epochs.")
        return
    found = [(one.code, clean(one.subject), one.here, one.there, clean(one.detail)) for one in view.differences]
    table(["DIFFERENCE", "ITEM", "LEDGER OR STATEMENT", "ARCHIVE OR CHAIN", "WHAT IT MEANS"], found, empty="")
    say(f"{view.found} items DIFFER.")


def refused(*, limit: Limit = 200, json: Json = False) -> None:
    """Show results that were refused: what the node said, and how many others said something else."""
    with profiles.connect() as client:
        found = client.evidence(limit=limit)
    if json:
        show_json(found)
        return
    say_evidence(found)
    if not found:
        say("No result was refused.")
    tell_cut(len(found), limit)


def blobs(*, json: Json = False) -> None:
    """Show how many inputs and results the gateway stores, and what it last removed because nobody needs it."""
    with profiles.connect() as client:
        view = client.blobs()
    if json:
        show_json(view)
        return
    say(f"Inputs and results are kept for {view.keep_days} days after their job has ended.")
    if view.looked_at is not None:
        say(
            f"At the last look ({when(view.looked_at)} UTC) {view.kept} blobs stayed ({view.kept_bytes / MIB:.1f} MiB),"
        )
        say(f"and {view.removed} went ({view.removed_bytes / MIB:.1f} MiB).")
    say(view.trouble or ("" if view.looked_at is not None else "The first look is not over yet."))


def health(*, json: Json = False) -> int:
    """Show what failed unexpectedly in the network's processes since they started. The exit code is 0 when nothing did.

    Each is a bug that the network has survived; the log of its process has the place.
    """
    with profiles.connect() as client:
        found = client.health()
    if json:
        show_json(found)
    else:
        rows = [(each.role, each.place, each.count) for each in found]
        table(["PROCESS", "PLACE", ">TIMES"], rows, empty="Nothing has failed unexpectedly.")
    return 1 if found else 0


def _show_secret(secret: Secret, note: str, *, as_json: bool) -> None:
    if as_json:
        show_json(secret)
        return
    # The secret alone on stdout, so that a script can take it.
    say(secret.secret)
    tell(note)

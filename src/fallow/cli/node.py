"""What a network's operator does to nodes and accounts: `fallow node`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli import profiles
from fallow.cli.names import full_names
from fallow.cli.show import Json, clean, say, show_json, table
from fallow.cli.units import when
from fallow.domain.calls.actions import What

app = App(name="node", help="List enrolled machines, ban them, vouch for their owners, or forget them.")

Reason = Annotated[str, Parameter(help="Why; it is kept in the log, and shown to whom it concerns.")]


@app.command
def ls(*, json: Json = False) -> None:
    """List all enrolled nodes, with whose owner is vouched for, who is banned, and why."""
    with profiles.connect() as client:
        found = list(client.all_enrolled())
    if json:
        show_json(found)
        return
    rows = [
        (row.node, row.label, row.account, when(row.enrolled_at), row.vouched_reason, row.banned_reason)
        for row in found
    ]
    table(("NODE", "LABEL", "ACCOUNT", "SINCE", "VOUCHED", "BANNED"), rows, empty="No node is enrolled.")


@app.command
def ban(subject: str, /, *, reason: Reason, json: Json = False) -> None:
    """Shut a node out, or an account with all of its nodes, keys and jobs. What they finished before is paid."""
    _act("ban", subject, reason, as_json=json)


@app.command
def unban(subject: str, /, *, reason: Reason, json: Json = False) -> None:
    """Let a node or an account in again."""
    _act("unban", subject, reason, as_json=json)


@app.command
def bans(*, json: Json = False) -> None:
    """List which nodes and accounts are banned, and why; an account's machines are banned with it."""
    with profiles.connect() as client:
        found = list(client.all_bans())
    if json:
        show_json(found)
        return
    table(("NODE OR ACCOUNT", "REASON"), [(row.subject, row.reason) for row in found], empty="Nobody is banned.")


@app.command
def vouch(account: str, /, *, reason: Reason, json: Json = False) -> None:
    """Say that you have identified an account's owner, and how: buyers see his machines as vouched."""
    _act("vouch", account, reason, as_json=json)


@app.command
def unvouch(account: str, /, *, reason: Reason, json: Json = False) -> None:
    """Take that back: his machines are what their results have shown."""
    _act("unvouch", account, reason, as_json=json)


@app.command
def erase(account: str, /, *, reason: Reason, json: Json = False) -> None:
    """Forget a person: names, networks and whose purchases were whose, wherever the network keeps them. For ever.

    The account's keys are revoked. Its address stays, with what it earned and is owed, and so do the records that were
    signed, in which private values are commitments alone: every old epoch still recomputes. Reasons, this one too, are
    kept: write no names into them.
    """
    _act("erase", account, reason, as_json=json)


@app.command
def log(*, json: Json = False) -> None:
    """Show what operators did, the latest first: when, to whom or what, why, and by which key."""
    with profiles.connect() as client:
        found = list(client.all_actions())
    if json:
        show_json(found)
        return
    rows = [
        (when(row.at), row.what, row.subject, row.about, row.reason, f"{row.account} (key {row.key_id})")
        for row in found
    ]
    table(("AT", "WHAT", "WHOM", "ABOUT", "WHY", "BY"), rows, empty="No operator has done anything yet.")


DONE: dict[What, str] = {
    "ban": "Banned",
    "unban": "Let in again",
    "vouch": "Vouched for",
    "unvouch": "Not vouched for any more",
    "erase": "Erased what was known of",
}


def _act(what: What, subject: str, reason: str, *, as_json: bool) -> None:
    with profiles.connect() as client:
        (whom,) = full_names([subject], lambda: (row.node for row in client.all_enrolled()), lists="fallow node ls")
        done = client.act(what, whom, reason)
    if as_json:
        show_json(done)
    else:
        say(f"{DONE[what]}: {done.subject} ({clean(done.reason)})")

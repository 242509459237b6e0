"""Roles of a network that die at named steps of a window: see `tests/dying.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from fallow.adapters.engines import supervisor
from fallow.adapters.engines.process import Program
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.bootstrap import serve, up
from fallow.cli.main import main as fallow
from fallow.domain.sending import Send
from fallow.services.epochs.service import Closing
from fallow.services.epochs.writing import Spool
from fallow.services.ingest.service import Ingest
from fallow.services.market import rounds
from fallow.services.market.changes import Changes, Collect, Hold, MakeGood, Money
from fallow.services.market.money import Cashier
from fallow.services.market.outbound import Outbound
from fallow.services.sender.publishing import Publisher
from fallow.services.sender.service import Sender
from tests.dying import Killer, command


def main() -> None:
    """Run `fallow up` with what comes after the folder; the roles that it starts come back here."""
    folder = Path(sys.argv.pop(1))
    if sys.argv[1] == "--role":
        sys.argv.pop(1)
        wrap(Killer(folder))
        serve.main()
    else:
        up._program = _dying(up._program, folder)
        supervisor._LONGEST_DELAY = supervisor._SHORTEST_DELAY  # they are to die often, one death after the other
        fallow()


def _dying(original: Callable[..., Program], folder: Path) -> Callable[..., Program]:
    def program(data: Path, role: str, ready: Path) -> Program:
        found = original(data, role, ready)
        argv = (*command("dying_roles", folder), "--role", *found.argv[3:])
        return replace(found, argv=argv)

    return program


TERM_MS = 1_500
"""Of a market: its successor, which waits for the end of it after each death, comes to the next step sooner."""


def wrap(killer: Killer) -> None:
    """Have ingest, the market and the closing come to their steps."""
    rounds.TERM_MS = TERM_MS
    killer.wrap(PostgresIngestStore, "append", after=lambda *_: ["batch uncommitted"])
    killer.wrap(Ingest, "_wake_readers", before=lambda *_: ["batch committed"])
    killer.wrap(Cashier, "move", after=lambda _, __, ___, money, ____: _moves("uncommitted", money))
    killer.wrap(PostgresIngestStore, "end_epoch", after=lambda *_: ["epoch unended"])
    killer.wrap(Closing, "_lead", before=lambda *_: ["epoch ended"])
    killer.wrap(Spool, "put", before=lambda *_: ["files written"])
    killer.wrap(Closing, "_file", after=lambda *_: ["files archived"])
    killer.wrap(Closing, "_folded", after=lambda *_: ["fold archived"])
    killer.wrap(Closing, "_say", after=lambda *_: ["statement said"])
    killer.wrap(Closing, "_note", after=lambda *_: ["closing noted"])
    killer.wrap(Publisher, "_vote", after=lambda *_: ["root voted"])
    killer.wrap(Sender, "_record", after=lambda _, send: _sent(send))
    killer.wrap(Publisher, "_say", after=lambda _, __, said: ["root said"] if said.root else [])
    killer.wrap(Outbound, "send", before=lambda _, changes, __: _written(changes))


def _sent(send: Send) -> list[str]:
    if not send.id.startswith("root/"):
        return []
    return ["root signed"] if send.done is None else ["root mined"]


def _written(changes: Changes) -> list[str]:
    return [*_moves("committed", changes.money), *(["judged"] if changes.standings else [])]


def _moves(step: str, money: Collection[Money]) -> list[str]:
    return [f"{_move(entry)} {step}" for entry in money]


def _move(money: Money) -> str:
    match money:
        case Hold():
            return "reserve"
        case Collect(following=Hold()):
            return "post and reserve"
        case Collect(charge=charge, keep_microusd=keep):
            return "post" if charge.total or keep else "void"
        case MakeGood():
            return "make good"

"""What a node answers to the network's side of storage. Blocking, all of it: for threads."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from fallow.domain.errors import InvalidInput
from fallow.verticals.storage.core.proofs import chunks_of, prove
from fallow.verticals.storage.core.questions import (
    PIECES_AT_ONCE,
    AnyQuestion,
    Held,
    Page,
    Proof,
    Prove,
    Purge,
    ShowClaim,
    TakeBack,
    Trash,
)
from fallow.verticals.storage.worker.store import PieceStore

REST_S: Final = 0.0001
"""What a proof leaves others after each step, of about a millisecond.

Without it the event loop waits for Python's lock as long as threads switch (5 ms), and that for each of its own steps.
"""


def answer(store: PieceStore, question: AnyQuestion) -> bytes:
    """Do what is asked, and return the answer in msgpack.

    Raises:
        NotFound: `storage.no_piece`.
        InvalidInput: a piece has no such chunk (`storage.question`).
        Unavailable: the disk fails.
    """
    return msgspec.msgpack.encode(_answer(store, question))


def _answer(store: PieceStore, question: AnyQuestion) -> list[bytes] | Proof | bytes | None:
    match question:
        case Trash():
            store.trash(question.pieces)
        case Purge():
            store.purge(question.pieces)
        case TakeBack():
            store.take_back(question.pieces)
            return store.held(question.pieces)
        case Held():
            return store.held(question.pieces)
        case Page():
            return _page(store, question)
        case Prove():
            return _proof(store, question)
        case ShowClaim():
            return store.find(question.piece).claim
    return None


def _page(store: PieceStore, page: Page) -> list[bytes]:
    found: list[bytes] = []
    after = page.after
    while len(found) < PIECES_AT_ONCE and (rows := store.page(after)):
        after = rows[-1].id
        found += [row.id for row in rows if row.trashed_ms is None and row.stored_ms < page.before_ms]
    return found[:PIECES_AT_ONCE]


def _proof(store: PieceStore, asked: Prove) -> Proof:
    row = store.find(asked.piece)
    if asked.chunk >= chunks_of(row.length):
        raise InvalidInput("storage.question", f"The piece has {chunks_of(row.length)} chunks.")
    data, beside = prove(store.read(asked.piece, 0, row.length), asked.chunk, _rest)
    return Proof(data=data, beside=beside, claim=row.claim)


def _rest() -> None:
    time.sleep(REST_S)

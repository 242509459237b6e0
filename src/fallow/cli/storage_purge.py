"""`fallow storage rm --purge`: what has to go at once, past the trash, and what of that nobody can prove."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from fallow.cli.show import clean, say, show_json, tell
from fallow.cli.storage_files import run
from fallow.cli.storage_place import Remote
from fallow.cli.units import when
from fallow.sdk.storage import OwnStorage
from fallow.verticals.storage.client.granting import Grant
from fallow.verticals.storage.client.purging import Purged, purge
from fallow.verticals.storage.core.calls.objects import INLINE_BYTES_MAX, Unpurged
from fallow.verticals.storage.core.questions import TRASH_MS
from fallow.verticals.storage.core.reputation import DAY_MS, ONLINE_GRACE_MS

LOOK_S: Final = 1.0
WAIT_S: Final = 30.0
"""Nodes that are there answer within seconds; who is away answers when he is back."""
BACKUP_DAYS: Final = 14
"""What a network sets where its operator says nothing."""


class Unproved(NamedTuple):
    """Something that nobody can prove, in words; `until_ms`: when it has an end by itself, 0 where nobody can say."""

    code: str
    text: str
    until_ms: int = 0


def remove_at_once(at: Remote, grant: Grant | None, *, below: bool, as_json: bool) -> int:
    """Purge, wait a moment for the nodes, and say what is done and what cannot be shown. 1: something stays."""
    done, waiting = run(lambda own: _purged(own, at, below=below), grant)
    unproved = [*unproved_of(waiting, int(datetime.now(UTC).timestamp() * 1000))]
    if as_json:
        show_json(_document(at, done, waiting, unproved))
    else:
        _show(at, done, unproved)
    return int(bool(done.kept))


async def _purged(own: OwnStorage, at: Remote, *, below: bool) -> tuple[Purged, Unpurged]:
    await own.store.bucket(at.bucket)
    done = await purge(own.store, own.account, at.bucket, at.key, below=below)
    end = time.monotonic() + WAIT_S
    while True:
        waiting = await own.store.unpurged(own.account, at.bucket)
        if waiting.pieces == waiting.later or time.monotonic() >= end:
            return done, waiting
        await asyncio.sleep(LOOK_S)


def unproved_of(waiting: Unpurged, now_ms: int) -> Iterator[Unproved]:
    """What is not known, or cannot be known, of pieces that were purged now."""
    if waiting.pieces > waiting.later:
        yield Unproved(
            "nodes_waiting",
            f"Of what was purged in this bucket, now or before, {waiting.pieces - waiting.later:,} pieces wait for"
            f" their nodes ({waiting.nodes:,} in all): these have not said yet that they overwrote them. They are asked"
            " until they do, however long they are away, unless they leave the network for good.",
        )
    if waiting.later:
        yield Unproved(
            "still_coming",
            f"{waiting.later:,} pieces could still be on their way to nodes that were named for them and not needed:"
            f" these are asked by {when(waiting.due_ms)} UTC, when nothing can come any more.",
            waiting.due_ms,
        )
    yield Unproved(
        "nodes_word",
        "That a node overwrote a piece is its own word. A copy that it made, and what its file system and disk keep"
        " elsewhere (snapshots, backups, spare blocks), nobody can see, and nobody can say until when; nor what a node"
        " still has that left before it was asked, or that failed the network's audits and stayed away for"
        f" {ONLINE_GRACE_MS // DAY_MS} days. Fewer pieces than it takes give nothing back, and all are sealed under"
        " your secret.",
    )
    yield Unproved(
        "trash",
        "What was deleted or replaced before without --purge, and pieces that repair or a node's exit moved to other"
        f" nodes, may lie in nodes' trash for seven days from then: until {when(now_ms + TRASH_MS)} UTC at the latest.",
        now_ms + TRASH_MS,
    )
    yield Unproved(
        "backups",
        "Backups of the network's database are kept for as long as its operator set"
        f" ({BACKUP_DAYS} days where he set nothing). They have sealed names and keys, and whole, sealed, objects of up"
        f" to {INLINE_BYTES_MAX // 1024} kB, which the database's own files may have for a while, too; no pieces. If"
        " the network goes back to one of them, what was purged is listed again, and of its bytes only such small"
        " objects come back.",
    )


def _document(at: Remote, done: Purged, waiting: Unpurged, unproved: list[Unproved]) -> dict[str, Any]:
    return {
        "bucket": at.bucket,
        "purged": [{"name": one.key, "version": one.version} for one in done.gone],
        "uploads": [*done.uploads],
        "kept": [
            {"name": one.key, "version": one.version, "code": one.error, "message": one.message} for one in done.kept
        ],
        "waiting": {
            "pieces": waiting.pieces,
            "nodes": waiting.nodes,
            "later": waiting.later,
            "due_ms": waiting.due_ms,
        },
        "not_proved": [{"code": one.code, "until_ms": one.until_ms or None, "text": one.text} for one in unproved],
    }


def _show(at: Remote, done: Purged, unproved: list[Unproved]) -> None:
    names = list(dict.fromkeys([*(one.key for one in done.gone), *done.uploads]))
    for name in names:
        versions = sum(one.key == name for one in done.gone)
        begun = ", and what was begun of it" if name in done.uploads else ""
        say(f"{clean(name)} is purged: {versions} version{'s' * (versions != 1)}{begun}.")
    for one in done.kept:
        tell(f"{clean(one.key)} {clean(one.version)} stays: {clean(one.message)} [{one.error}]")
    if not names:
        say(f"There is nothing to purge at {clean(str(at))}.")
        return
    say("What nobody can prove to you:")
    for fact in unproved:
        say(f"- {fact.text}")

"""A node that leaves with its disk takes nothing new, goes on with it after a restart, and keeps the receipt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, NotFound, Unavailable
from fallow.verticals.storage.core.exiting import (
    AGE_MIN_MS,
    ExitReceipt,
    ExitWish,
    Tally,
    held_up,
    reason_against,
)
from fallow.verticals.storage.core.orders import PieceClaim
from fallow.verticals.storage.core.questions import ExitSays, ShowClaim, Stock
from fallow.verticals.storage.core.reputation import DAY_MS, WINDOW_MS, Reputation
from fallow.verticals.storage.plugin import VERTICAL
from fallow.verticals.storage.worker.leaving import RECEIPT, WISH
from tests.storage_node import CLIENT, PIECE, node, sealed
from tests.streams_world import NET, NETWORK, NODE, OTHER, node_of

DATA = b"three" * 100_000
NOW_MS = 400 * DAY_MS
ALWAYS = Reputation(windows=[(NOW_MS // WINDOW_MS, 1, 1)], first_window=NOW_MS // WINDOW_MS - 400)


def receipt_of(**changes: Any) -> ExitReceipt:
    fields: dict[str, Any] = {
        "net": NET, "node": node_of(NODE), "account": bytes(20), "began_ms": 1, "ended_ms": 86_400_000,
        "held": 4, "moved": 2, "moved_bytes": 3_000_000, "failed": 1, "failed_bytes": 5, "gone": 1, "unplaced": 0,
        "audits": 9, "score_ppm": 990_000, "online_ppm": 1_000_000, "why": "storage.exit_failed",
    }  # fmt: skip
    return ExitReceipt(**(fields | changes))


def says(receipt: bytes = b"", **changes: Any) -> bytes:
    fields: dict[str, Any] = {"moved": 2, "moved_bytes": 3_000_000, "failed": 1, "gone": 1, "waiting": 7,
                              "counted": False, "reason": "", "receipt": receipt}  # fmt: skip
    return msgspec.msgpack.encode(ExitSays(**(fields | changes)))


async def stock_of(worker: Any) -> Stock:
    return msgspec.msgpack.decode(await worker.tell(), type=Stock)


async def test_who_leaves_takes_nothing_new_gives_what_it_has_and_says_so_after_a_restart(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        assert (await stock_of(made.worker)).wish == b""
        first = await made.worker.hand_back()
        assert (first.done, first.total, first.over) == (0, 0, False)
        wish = ExitWish.open((await stock_of(made.worker)).wish, node_of(NODE))
        assert (wish.net, wish.node, wish.at_ms) == (NET, node_of(NODE), made.clock.now_ms())
        with pytest.raises(Unavailable) as caught:
            await client.put(made.terms.limit(2, piece=b"q" * 32), DATA)
        assert caught.value.code == "storage.leaving"
        assert await client.get(made.terms.limit(3, "repair_get"), 0, len(DATA)) == DATA
        answer = await made.worker.answer(msgspec.msgpack.encode(ShowClaim(PIECE)))
        claim = PieceClaim.open(msgspec.msgpack.decode(answer, type=bytes), node_of(CLIENT))
        assert (claim.piece, claim.length) == (PIECE, len(DATA))
        await made.worker.hand_back()
    async with node(tmp_path) as (again, _):
        stock = await stock_of(again.worker)
        assert (ExitWish.open(stock.wish, node_of(NODE)), stock.trouble) == (wish, "storage.leaving")


async def test_its_owner_sees_how_far_it_is_and_in_the_end_the_receipt(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, _):
        await made.worker.hand_back()
        await made.worker.answer(says())
        now = await made.worker.hand_back()
        assert (now.done, now.total, now.over) == (4, 11, False)
        assert "2 pieces (3 MB) are on other machines, 1 could not be had here; 7 wait, and more" in now.says
        await made.worker.answer(says(counted=True, reason="storage.full: no room"))
        lent = await made.worker.lent()
        assert lent is not None
        assert "7 wait. The last that was in the way: storage.full: no room" in lent.says
        await made.worker.answer(says(sealed(NETWORK, receipt_of())))
        over = await made.worker.hand_back()
        assert over.over
        assert "no success: more than 4 % of its pieces could not be had of it (storage.exit_failed)" in over.says
        assert (over.details["moved"], over.details["node"]) == (2, node_of(NODE).hex())
    async with node(tmp_path) as (again, _):
        assert "left with its disk, for good" in again.missing["storage"]
        assert (await again.worker.hand_back()).says == over.says
        stock = await stock_of(again.worker)
        assert ExitReceipt.open(stock.receipt, node_of(NETWORK)) == receipt_of(), "for a network that has forgotten it"
        assert (stock.limit_bytes, stock.room_bytes, bool(stock.wish)) == (0, 0, True)
        path = tmp_path / "kept" / RECEIPT
        assert ExitReceipt.open(path.read_bytes(), node_of(NETWORK)) == receipt_of()


@pytest.mark.parametrize(
    ("signer", "changes", "error"),
    [
        (OTHER, {}, NotAllowed),
        (NETWORK, {"node": node_of(OTHER)}, InvalidInput),
        (NETWORK, {"net": "lab-2"}, InvalidInput),
    ],
)
async def test_a_receipt_of_another_is_none(
    tmp_path: Path, signer: SigningKey, changes: dict[str, Any], error: type[FallowError]
) -> None:
    async with node(tmp_path) as (made, _):
        await made.worker.hand_back()
        with pytest.raises(error):
            await made.worker.answer(says(sealed(signer, receipt_of(**changes))))
        assert not (await made.worker.hand_back()).over
        (tmp_path / "kept" / RECEIPT).write_bytes(sealed(OTHER, receipt_of()))
    async with node(tmp_path) as (again, _):
        assert not (await again.worker.hand_back()).over


async def test_what_it_answers_for_survives_a_power_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync, kept = list[Path](), os.fsync, tmp_path / "kept"

    def noting(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    async with node(tmp_path) as (made, _):
        monkeypatch.setattr(os, "fsync", noting)
        await made.worker.hand_back()
        assert synced[-2:] == [kept / f"{WISH}.new", kept]
        await made.worker.answer(says(sealed(NETWORK, receipt_of())))
        assert synced[-2:] == [kept / f"{RECEIPT}.new", kept]


async def test_where_nothing_is_lent_or_can_be_kept_nothing_begins(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        (tmp_path / "kept" / f"{WISH}.new").mkdir()
        with pytest.raises(Unavailable):
            await made.worker.hand_back()
        await client.put(made.terms.limit(1), DATA)
    made.ground = made.ground._replace(lends="")
    async with made.running():
        with pytest.raises(NotFound):
            await made.worker.hand_back()


@pytest.mark.parametrize(
    ("reputation", "tally", "began_ms", "why"),
    [
        (ALWAYS, Tally(moved=96, failed=4), NOW_MS, ""),
        (ALWAYS, Tally(moved=95, failed=5), NOW_MS, "storage.exit_failed"),
        (ALWAYS, Tally(unplaced=10, gone=90), NOW_MS, ""),
        (ALWAYS, Tally(), NOW_MS, ""),
        (Reputation(), Tally(), NOW_MS, "storage.exit_young"),
        (ALWAYS, Tally(moved=1), ALWAYS.first_window * WINDOW_MS + AGE_MIN_MS - 1, "storage.exit_young"),
        (ALWAYS, Tally(moved=1), ALWAYS.first_window * WINDOW_MS + AGE_MIN_MS, ""),
        (msgspec.structs.replace(ALWAYS, windows=[(800, 10, 7)], first_window=0), Tally(), NOW_MS, "storage.exit_away"),
        (msgspec.structs.replace(ALWAYS, disqualified_ms=1), Tally(), NOW_MS, "storage.disqualified"),
    ],
)
def test_when_it_counts_as_a_success(reputation: Reputation, tally: Tally, began_ms: int, why: str) -> None:
    assert reason_against(reputation, tally, began_ms) == why


@pytest.mark.parametrize(
    ("read_days", "gb", "moved", "asked_in_vain", "blamed"),
    [
        pytest.param(15, 100, 50, 0, True, id="slow"),
        pytest.param(90, 100, 50, 50, True, id="slow, read several at once"),
        pytest.param(0, 0, 0, 0, False, id="never asked"),
        pytest.param(14, 100, 50, 0, False, id="others had their turn meanwhile"),
        pytest.param(15, 200, 100, 0, False, id="as fast as the slowest disk and line"),
        pytest.param(15, 100, 50, 51, False, id="most of what it gave nobody took"),
    ],
)
def test_who_is_to_blame_for_what_was_never_asked_of_it(
    read_days: int, gb: int, moved: int, asked_in_vain: int, *, blamed: bool
) -> None:
    assert held_up(Tally(moved=moved, moved_bytes=gb * 10**9), read_days * DAY_MS, asked_in_vain) is blamed


def test_an_owner_is_told_what_it_means() -> None:
    text = VERTICAL.hand_back_text("/srv/fallow:500GB")
    assert "/srv/fallow" in text
    assert "lent for 180 days, is there in 80 % of the time,\n  and at most 4 % of its pieces" in text

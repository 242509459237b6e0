"""All that an owner may know of his disk: what lies there, what the network says and signs, warnings with evidence."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.ports.vertical.worker import Overview
from fallow.verticals.storage.control.statements import month_of, statement_of
from fallow.verticals.storage.core.questions import Evidence, Note, Tell
from fallow.verticals.storage.core.statements import Statement, Use, earned, expected_more
from fallow.verticals.storage.core.tariff import DAY_MS, FINE, HOUR_MS, TARIFF, TERABYTE, rates_of
from tests.storage_node import node, sealed
from tests.streams_world import NET, NETWORK, NODE, OTHER, node_of

DATA = b"three" * 100_000
EVIDENCE = Evidence(piece=b"p" * 32, chunk=7, asked_ms=1000, took_ms=12, found="failed: bytes", answer=b"\0\xff")
NOTE = Note(kind="warning", code="storage.audits_failed", text="Two failed.", at_ms=2000, evidence=[EVIDENCE])


def statement(**changes: Any) -> Statement:
    fields: dict[str, Any] = {
        "net": NET, "node": node_of(NODE), "at_ms": 5000, "standing": "", "exit": "", "audits": 812,
        "score_ppm": 999_000, "unknown_ppm": 1_000_000, "online_ppm": 981_200, "stored_bytes": 2_000_000,
        "month_ms": 0, "stored_byte_hours": 5, "egress_bytes": 7_000_000, "repair_bytes": 8_000_000,
        "earned_microusd": 1_230_000, "expected_microusd": 4_560_000,
    }  # fmt: skip
    return Statement(**(fields | changes))


def tell(said: Statement, signer: Any = NETWORK) -> bytes:
    return msgspec.msgpack.encode(Tell(sealed(signer, said)))


async def overview_of(made: Any) -> Overview:
    found = await made.worker.overview()
    assert isinstance(found, Overview)
    json.loads(msgspec.json.encode(found))
    return found


async def test_an_owner_sees_his_disk_what_the_network_says_and_each_warning_with_its_evidence(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, client):
        await client.put(made.terms.limit(1), DATA)
        before = await overview_of(made)
        assert dict(before.facts)["the network says"].startswith("nothing yet")
        assert (before.details["disk"]["pieces"], before.details["statement"]) == (1, None)
        await made.worker.answer(tell(statement()))
        now_ms = made.clock.now_ms()
        await made.worker.answer(msgspec.msgpack.encode(msgspec.structs.replace(NOTE, at_ms=now_ms)))
        now = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        found = await overview_of(made)
        facts = dict(found.facts)
        assert facts["the network says"] == "fine, at 1970-01-01 00:00 UTC"
        assert facts["it counts here"] == "2 MB"
        assert facts["audits"].startswith("812; score 0.9990 (below 0.96 all here counts as lost)")
        assert facts["there"].startswith("98.1% of the last thirty days")
        assert facts["read this month"] == "7 MB; 8 MB more for repairs"
        assert facts["pay this month"].startswith("1.2300 US dollars so far, 4.5600 US dollars expected")
        assert found.facts[-2:] == [
            (f"warning, {now}", "Two failed. [storage.audits_failed]"),
            ("  1970-01-01 00:00 UTC", "chunk 7 of piece 707070707070: failed: bytes, after 12 ms"),
        ]
        (alert,) = found.details["alerts"]
        assert (alert["holds"], alert["evidence"][0]["answer"]) == (True, "00ff")
        assert found.details["statement"]["node"] == node_of(NODE).hex()
        await made.worker.hand_back()
        assert "it leaves" in dict((await overview_of(made)).facts)


async def test_only_the_networks_latest_word_on_this_node_counts(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, _):
        await made.worker.answer(tell(statement(audits=1)))
        for said, signer, error in (
            (statement(audits=2), OTHER, NotAllowed),
            (statement(audits=2, node=node_of(OTHER)), NETWORK, InvalidInput),
            (statement(audits=2, net="lab-2"), NETWORK, InvalidInput),
        ):
            with pytest.raises(error):
                await made.worker.answer(tell(said, signer))
        await made.worker.answer(tell(statement(audits=3, at_ms=4999)))
        assert (await overview_of(made)).details["statement"]["audits"] == 1
    made.ground = made.ground._replace(lends="")
    async with made.running():
        assert await made.worker.overview() is None


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1000  # type: ignore[arg-type,misc]


def test_months_are_those_of_the_calendar() -> None:
    assert month_of(ms(2026, 2, 28, 23, 59)) == (ms(2026, 2, 1), ms(2026, 3, 1))
    assert month_of(ms(2026, 12, 31, 23, 59) + 999) == (ms(2026, 12, 1), ms(2027, 1, 1))
    assert month_of(ms(2028, 1, 1)) == (ms(2028, 1, 1), ms(2028, 2, 1))


def test_what_is_earned_and_expected_is_what_the_page_says() -> None:
    rates = rates_of(TARIFF)
    assert earned(Use(TERABYTE * 720, 0), rates, 100_000) // FINE == 1_500_000
    assert earned(Use(0, TERABYTE), rates, 100_000) // FINE == 2_000_000
    month = month_of(ms(2026, 4, 1))
    assert expected_more(month, month.since_ms, TERABYTE, Use(0, 0)) == (720 * TERABYTE, 0), "April has 720 hours"
    half = month.since_ms + 15 * DAY_MS
    assert expected_more(month, half, TERABYTE, Use(360 * TERABYTE, TERABYTE)) == (360 * TERABYTE, TERABYTE)
    assert expected_more(month, half, 0, Use(360 * TERABYTE, 0)) == (0, 0)
    soon = month.since_ms + HOUR_MS
    assert expected_more(month, soon, 0, Use(0, TERABYTE)) == (0, 0), "too soon to tell"


@pytest.mark.parametrize(("fee_ppm", "left"), [(0, 1_666_666), (50_000, 1_583_333), (250_000, 1_250_000), (10**6, 0)])
def test_what_is_expected_is_what_was_earned_and_what_the_fee_of_now_will_leave(fee_ppm: int, left: int) -> None:
    row = {"state": None, "standing": "", "exit": "", "audits": 0, "byte_ms": 0, "repaired": 0, "egress": 0}
    row |= {"earned": 1_234_567 * FINE, "bytes": TERABYTE, "rate_stored": None, "rate_egress": None}
    said = statement_of(row, NET, node_of(NODE), ms(2026, 4, 1), fee_ppm)
    assert (said.earned_microusd, said.expected_microusd) == (1_234_567, 1_234_567 + left)
    dear = dict(zip(("rate_stored", "rate_egress"), (2 * rate for rate in rates_of(TARIFF)), strict=True))
    said = statement_of(row | dear, NET, node_of(NODE), ms(2026, 4, 1), fee_ppm)
    assert said.expected_microusd - said.earned_microusd in {2 * left, 2 * left + 1}, "his buyers pay twice as much"

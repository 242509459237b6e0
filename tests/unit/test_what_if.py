"""Closed epochs under other rules: the same fold from the archive alone, apart, and nothing is changed."""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.types import Message

from fallow.adapters.archive import StoreArchive, folder_archive
from fallow.adapters.processes import found_apart
from fallow.bootstrap.rewards import read_model
from fallow.bootstrap.what_if import compute
from fallow.domain.calls.epochs import WhatIf
from fallow.domain.epochs.manifest import path_of
from fallow.domain.epochs.models import MODELS
from fallow.domain.epochs.rules import Rules, plain_rules
from fallow.domain.epochs.written_rules import ASSETS, changed, written
from fallow.domain.errors import FallowError, TooMuch, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.views.what_if import WhatIfEpochView, WhatIfView
from fallow.http.limits import Turns
from tests.epoch_files import NETWORK_KEY
from tests.epoch_world import ACCOUNTS, BURNING, BY_ISSUANCE, HOLDING, VESTING, WORK_ONLY, YEARLY
from tests.golden_epoch import FIRST
from tests.golden_folder import golden_folder
from tests.unit.fake_network import BUYER_KEY, OPERATOR, OPERATOR_KEY, FakeNetwork, fake_network
from tests.unit.http_world import events_of

ROUTE = "/v1/operator/what-if"
HALF = ["cap_ppm=500000"]
HELD = ["held.withheld_ppm=500000,", "held.step=1", "held.release=1"]


def asked(folder: Path, *changes: str, **more: Any) -> tuple[list[WhatIfEpochView], WhatIfView]:
    *epochs, end = compute(folder_archive(folder), NETWORK_KEY, WhatIf(changes=list(changes), **more))
    assert isinstance(end, WhatIfView)
    return [one for one in epochs if isinstance(one, WhatIfEpochView)], end


@pytest.mark.parametrize("rules", [WORK_ONLY, BY_ISSUANCE, YEARLY, BURNING, HOLDING, VESTING])
def test_epochs_under_their_own_rules_are_what_they_were(tmp_path: Path, rules: Rules) -> None:
    """Each opens with the state that the one before ends in here, and not with the archive's."""
    epochs, end = asked(golden_folder(tmp_path, rules))
    assert [one.epoch for one in epochs] == [FIRST, FIRST + 1]
    assert all(one.was == one.then and int(one.was.supply) >= 0 for one in epochs)
    assert all(group.was == group.then for one in epochs for group in one.verticals)
    assert any(int(one.was.minted) or int(one.was.burned) for one in epochs)
    assert (end.accounts, end.accounts_changed) == ([], 0)


def test_what_rules_hold_in_one_epoch_they_release_in_a_later_one(tmp_path: Path) -> None:
    epochs, end = asked(golden_folder(tmp_path), *HELD)
    first, second = ({group.name: group for group in one.verticals}["compute"] for one in epochs)
    assert first.then.usage_microusd == first.was.usage_microusd == first.was.usage_owed_microusd > 0
    held = [one.then.held_usage_microusd for one in epochs]
    assert held[0] == first.then.usage_microusd - first.then.usage_owed_microusd == first.then.usage_microusd // 2
    earned, owed = (
        first.then.usage_microusd + second.then.usage_microusd,
        first.then.usage_owed_microusd + second.then.usage_owed_microusd,
    )
    assert earned - owed - held[1] == epochs[1].then.forfeited_usage_microusd >= 0
    assert owed > earned - held[0] - second.then.usage_microusd, "what was held first came"
    assert end.accounts_changed == len(end.accounts) > 0
    assert end.accounts[0].name in {address_text(account) for account in ACCOUNTS}


def test_a_part_of_a_schedule_and_a_cap_mint_less(tmp_path: Path) -> None:
    epochs, end = asked(golden_folder(tmp_path, BY_ISSUANCE), *HALF, "schedule.blocks=1")
    assert 0 < int(epochs[0].then.minted) < int(epochs[0].was.minted)
    assert (epochs[0].then.coverage_ppm or 0) > (epochs[0].was.coverage_ppm or 0)
    assert tomllib.loads(end.file)["schedule"]["blocks"] == 1


@pytest.mark.parametrize(
    ("changes", "more", "code"),
    [
        (["cap=5"], {}, "epoch.rules"),
        (["cap_ppm=1000001"], {}, "epoch.rules"),
        (["held=1", "held.step=1"], {}, "epoch.rules"),
        (["schedule.type=0,"], {}, "epoch.rules"),
        ([], {"until": FIRST - 1}, "epoch.not_closed"),
    ],
)
def test_what_is_no_rule_and_no_epoch_is_refused_before_anything_is_computed(
    tmp_path: Path, changes: list[str], more: dict[str, Any], code: str
) -> None:
    with pytest.raises(FallowError) as raised:
        next(compute(folder_archive(golden_folder(tmp_path)), NETWORK_KEY, WhatIf(changes=changes, **more)))
    assert raised.value.code == code


def test_the_latest_epochs_are_taken_and_no_more_than_can_be_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden_folder(tmp_path)
    (tmp_path / path_of(FIRST + 2, "batches")).parent.mkdir()
    (tmp_path / path_of(FIRST + 2, "batches")).write_bytes(b"its closing is not over")
    last, _ = asked(tmp_path, epochs=1)
    assert [one.epoch for one in last] == [FIRST + 1]
    assert last[0].was == last[0].then, "it opens with what the archive carried on"
    first, _ = asked(tmp_path, until=FIRST)
    assert [one.epoch for one in first] == [FIRST]
    monkeypatch.setattr("fallow.bootstrap.what_if.RECORDS_MAX", 1)
    with pytest.raises(TooMuch, match=r"what_if\.records"):
        asked(tmp_path)


def test_a_file_that_was_changed_is_noticed(tmp_path: Path) -> None:
    path = golden_folder(tmp_path) / path_of(FIRST, "lines")
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(FallowError, match=r"archive\.damaged"):
        asked(tmp_path)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("more", [[], HELD, ["vesting=3", "weights.compute=3", "held.parts=usage", "price=7"]])
def test_the_file_that_is_shown_gives_these_rules(tmp_path: Path, model: str, more: list[str]) -> None:
    rules = changed(MODELS[model], more)
    file = tmp_path / "rewards.toml"
    file.write_text(written(rules))
    assert read_model(str(file)) == rules


@given(st.sampled_from([BY_ISSUANCE, YEARLY, BURNING, HOLDING, VESTING]), st.text(min_size=1, max_size=9))
def test_a_file_with_any_names_and_schedules_gives_the_same_rules(rules: Rules, name: str) -> None:
    rules = msgspec.structs.replace(rules, weights={name: 1}, feeds=[])
    said = tomllib.loads(written(rules))
    own = {each: getattr(rules, each) for each in ASSETS}
    assert msgspec.structs.replace(plain_rules(said, MODELS[rules.model]), **own) == rules


def forever(folder: Path) -> Iterator[int]:
    """Says who it is, and never ends."""
    yield os.getpid()
    (folder / "began").touch()
    while True:
        folder.stat()


def test_who_leaves_ends_the_process_in_the_middle_of_its_work(tmp_path: Path) -> None:
    with found_apart(forever, tmp_path) as found:
        pid = next(found)
        assert pid != os.getpid()
        assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, os.getpid())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(Unavailable, match=r"process\.died"):
        next(found)


def test_each_has_one_turn_and_all_together_so_many() -> None:
    turns = Turns(2)
    with turns.taken("one"):
        with pytest.raises(TooMuch, match=r"rate\.turn]"), turns.taken("one"):
            pass
        with turns.taken("two"), pytest.raises(TooMuch, match=r"rate\.turns]"), turns.taken("three"):
            pass
    with turns.taken("one"), turns.taken("three"):
        pass


async def post(network: FakeNetwork, body: Any, secret: str = OPERATOR_KEY) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=network.app)  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.post(ROUTE, json=body, headers={"Authorization": f"Bearer {secret}"})


@pytest.fixture
def archive(tmp_path: Path) -> StoreArchive:
    return folder_archive(golden_folder(tmp_path))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_an_operator_is_told_epoch_by_epoch_and_nobody_else(archive: StoreArchive, tmp_path: Path) -> None:
    before = contents(tmp_path)
    async with fake_network(archive=archive) as network:
        assert (await post(network, {}, BUYER_KEY)).status_code == 403
        assert (await post(network, {"epochs": 32})).status_code == 400
        assert (await post(network, {"model": "/etc/passwd"})).status_code == 400
        assert (await post(network, {"until": FIRST - 1})).json()["code"] == "epoch.not_closed"
        answers = await asyncio.gather(*(post(network, {"changes": HALF}) for _ in range(2)))
        wrong = await post(network, {"changes": ["cap=5"]})
    assert sorted(answer.status_code for answer in answers) == [200, 429], "one at a time"
    (said,) = (events_of(answer) for answer in answers if answer.status_code == 200)
    assert [name for name, _ in said] == ["epoch", "epoch", "result"]
    assert [name for name, _ in events_of(wrong)] == ["error"]
    assert contents(tmp_path) == before


async def test_whoever_goes_ends_the_computing_and_gives_the_turn_back(archive: StoreArchive, tmp_path: Path) -> None:
    pids: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and message["body"].startswith(b"event: result"):
            pids.append(int(message["body"].split(b"data: ")[1]))
            came.put_nowait({"type": "http.disconnect"})

    async with fake_network(archive=archive) as network:
        gateway = network.app.state.gateway
        gateway.what_if = lambda _: found_apart(forever, tmp_path)
        came: asyncio.Queue[Any] = asyncio.Queue()
        came.put_nowait({"type": "http.request", "body": b"{}", "more_body": False})
        headers = [(b"authorization", f"Bearer {OPERATOR_KEY}".encode()), (b"content-type", b"application/json")]
        scope: Any = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": ROUTE, "raw_path": ROUTE.encode(), "root_path": "", "query_string": b"",
            "headers": [*headers, (b"content-length", b"2"), (b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        await network.app(scope, came.get, send)
        with gateway.turns.taken(OPERATOR):
            pass
    (pid,) = pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

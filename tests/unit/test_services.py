"""What workers do beside leases: streams under tickets for them, what they tell and are asked, what owners lend."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest
from rich.console import Console

from fallow.agent import control
from fallow.agent.consent import consent_text
from fallow.agent.lending import check_lendings, read_lendings
from fallow.agent.services import TELL_S
from fallow.bootstrap import agent as bootstrap
from fallow.cli import agent_exit, agent_lent
from fallow.cli.agent_status import status_text
from fallow.domain import calls
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, NotFound, TooMuch, Unavailable
from fallow.domain.streams import Line, Opening, Service, service_purpose
from fallow.domain.wire import greeting
from fallow.domain.wire.multiplex import SERVICE_STREAMS_MAX
from fallow.ports.bus import Message
from fallow.ports.lines import StreamLink
from fallow.ports.rpc import call
from fallow.ports.streams import Stream
from fallow.ports.tasks import background
from fallow.ports.vertical.plugin import Vertical
from fallow.ports.vertical.worker import HandBack, Lent, Overview, Probe, Worker, WorkerGround
from fallow.sdk.epochs import HeldPay
from fallow.verticals.compute.plugin import VERTICAL as COMPUTE
from tests.streams_world import ACCOUNT, OTHER, node_of, opening, read_all
from tests.unit.agent_fakes import NET, World, settle
from tests.unit.test_live import machine


class Keeper(Worker):
    """Sends back what it was asked, and whose it is; answers in reverse."""

    def __init__(self) -> None:
        self.trouble = ""
        self.done = 0

    async def probe(self) -> Probe:
        """See the port."""
        return Probe({}, {})

    async def serve(self, stream: Stream, request: bytes, client: bytes) -> None:
        """See the port."""
        await stream.write(request + b" of " + client)
        while await stream.read():
            pass
        stream.end()

    async def tell(self) -> bytes:
        """See the port."""
        return b"so much"

    async def answer(self, question: bytes) -> bytes:
        """See the port."""
        if not question:
            raise NotFound("keeper.nothing", "Nothing was asked.")
        return question[::-1]

    async def lent(self) -> Lent:
        """See the port."""
        return Lent("half of it is used", self.trouble)

    async def overview(self) -> Overview:
        """See the port."""
        return Overview([("used", "half of it")], {"used_ppm": 500_000})

    async def hand_back(self) -> HandBack:
        """See the port."""
        self.done += 1
        return HandBack("one more", self.done, 2, over=self.done > 1, details={"receipt": "r"})


class Keeping(Vertical):
    """Takes what is called good."""

    name = "keeper"
    metering = None

    def check_lending(self, lends: str) -> str:
        """See the port."""
        if lends != "good":
            raise InvalidInput("agent.lends", "That is no good.")
        return "something good"

    def hand_back_text(self, lends: str) -> str:
        """See the port."""
        return f"{lends} goes back"

    def worker(self, ground: WorkerGround) -> Worker:
        """See the port."""
        del ground
        return Keeper()


def asked(vertical: str = "keeper", purpose: str = "service:keeper", **changes: Any) -> Opening:
    """An opening for a service, with a good ticket but for the changes."""
    ticket = opening(purpose=purpose, lease=b"", **changes).ticket
    return Opening(ticket, Service(vertical, b"a piece"))


async def test_who_has_a_ticket_for_a_service_is_served_without_a_lease(tmp_path: Path) -> None:
    async with machine(tmp_path, {"keeper": Keeper()}) as node:
        stream = node.open(asked())
        stream.end()
        assert await read_all(stream) == b"a piece of " + ACCOUNT


@pytest.mark.parametrize(
    ("twin", "error"),
    [
        (asked(purpose="logs"), NotAllowed),
        (asked(purpose=service_purpose("other")), NotAllowed),
        (asked("other"), NotAllowed),
        (asked(node=node_of(OTHER)), NotAllowed),
        (asked(net="lab-2"), NotAllowed),
        (asked(expires_at=1), NotAllowed),
        (asked("other", service_purpose("other")), NotFound),
        (Opening(asked().ticket, opening().want), NotAllowed),
    ],
)
async def test_a_ticket_is_for_one_service_of_one_node_until_then(
    tmp_path: Path, twin: Opening, error: type[FallowError]
) -> None:
    async with machine(tmp_path, {"keeper": Keeper()}) as node:
        with pytest.raises(error):
            await read_all(node.open(twin))


async def test_services_have_their_own_bound_and_leave_room_for_people(tmp_path: Path) -> None:
    async with machine(tmp_path, {"keeper": Keeper()}) as node:
        (node.workspace / "stdout").write_bytes(b"a log")
        streams = [node.open(asked()) for _ in range(SERVICE_STREAMS_MAX)]
        for stream in streams:
            assert await stream.read()
        with pytest.raises(TooMuch):
            await node.open(asked()).read()
        assert await read_all(node.open(opening())) == b"a log"
        streams[0].end()
        assert await read_all(streams[0]) == b""
        assert await node.open(asked()).read()


async def test_a_ticket_for_a_service_carries_a_line_to_the_node_itself(tmp_path: Path) -> None:
    async with machine(tmp_path, {"keeper": Keeper()}) as node:
        line = StreamLink(node.open(Opening(asked().ticket, Line())))
        assert isinstance(greeting.read(await line.receive()), greeting.Hello)


async def test_workers_tell_every_ten_seconds_and_answer_what_they_are_asked(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.others = {"keeper": Keeper()}
    node = world.key.text
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(told: AsyncIterator[Message]) -> None:
        async for message in told:
            heard.put_nowait(message.data)

    async with (
        world.hub.connect().subscribe(calls.verticals.vertical_told("*", "keeper")) as told,
        background(hear(told)),
        world.network(),
        world.start(),
    ):
        await world.clock.advance(TELL_S - 1)
        assert (heard.qsize(), heard.get_nowait()) == (1, b"so much")
        await world.clock.advance(2)
        assert heard.qsize() == 1
        subject = calls.verticals.vertical_question(node, "keeper")
        assert await call(world.hub.connect(), subject, b"abc", bytes) == b"cba"
        with pytest.raises(NotFound) as caught:
            await call(world.hub.connect(), subject, b"", bytes)
        assert caught.value.code == "keeper.nothing"
        with pytest.raises(NotFound) as caught:
            await call(world.hub.connect(), calls.verticals.vertical_question(node, "compute"), b"x", bytes)
        assert caught.value.code == "agent.no_answer"


async def test_the_status_shows_what_is_lent_and_its_trouble(tmp_path: Path) -> None:
    world = World(tmp_path)
    keeper = Keeper()
    world.others = {"keeper": keeper}
    async with world.network(), world.start():
        await settle()
        status = await world.agent.status()
        assert (status.lent, status.lent_trouble) == ({"keeper": "half of it is used"}, {})
        keeper.trouble = "The disk fails.\nIt is old."
        status = await world.agent.status()
        text = status_text(msgspec.to_builtins(status))
        assert "keeper: half of it is used" in text
        assert "The disk fails. It is old." in text


def test_what_is_said_of_what_is_lent_in_several_lines_is_shown_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"keeper": {"facts": [["it leaves", "It has left.\nDelete the folder."]], "details": {}}}
    monkeypatch.setattr(control, "ask", AsyncMock(return_value=answer))
    monkeypatch.setattr(agent_lent, "_held", lambda _: None)
    agent_lent.lent(home=tmp_path)
    assert capsys.readouterr().out == "keeper:\n  it leaves  It has left. Delete the folder.\n"


def test_what_is_held_of_the_pay_is_shown_by_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = HeldPay(epoch=9, usage_microusd=1_500_000, incentive="7", nodes={"b" * 64: 250_000, "a" * 64: 1_250_000})
    monkeypatch.setattr(control, "ask", AsyncMock(return_value={}))
    monkeypatch.setattr(agent_lent, "_held", lambda _: held)
    agent_lent.lent(home=tmp_path)
    nothing, account, *machines = capsys.readouterr().out.splitlines()
    assert "Nothing is lent" in nothing
    assert account == "held of the account's pay: 1.50 USD of usage, after epoch 9"
    assert machines == ["  aaaaaaaaaaaaaaaa  1.25 USD", "  bbbbbbbbbbbbbbbb  0.25 USD"]
    agent_lent.lent(home=tmp_path, json=True)
    assert json.loads(capsys.readouterr().out)["held"]["nodes"] == held.nodes


async def test_an_owner_asks_his_agent_for_all_about_what_he_lends_and_hands_it_back(tmp_path: Path) -> None:
    world, socket = World(tmp_path), tmp_path / "agent.sock"
    world.others = {"keeper": Keeper()}
    async with world.network(), world.start() as agent, control.serving(agent, socket):
        found = msgspec.convert(await control.ask(socket, "lent"), dict[str, Overview])
        assert found == {"keeper": Overview([("used", "half of it")], {"used_ppm": 500_000})}
        first, over = [msgspec.convert(await control.ask(socket, "hand-back", "keeper"), HandBack) for _ in range(2)]
        assert (first.done, first.over, over.done, over.over, over.details) == (1, False, 2, True, {"receipt": "r"})
        for words, error in ((("compute",), NotFound), (("nothing",), NotFound), ((), InvalidInput)):
            with pytest.raises(error):
                await control.ask(socket, "hand-back", *words)


async def test_why_the_owner_wants_nothing_new_is_told_to_workers(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.network(), world.start() as agent:
        assert agent.closed_by_owner() == []
        await agent.pause()
        assert agent.closed_by_owner() == ["owner.paused"]
        agent.stop.set()
        assert agent.closed_by_owner()[0] == "owner.leaving"


def test_lendings_are_read_and_checked_by_their_verticals() -> None:
    verticals: dict[str, Vertical] = {"keeper": Keeping(), "compute": COMPUTE}
    assert read_lendings(["keeper=good", "x=/a=b:1"]) == {"keeper": "good", "x": "/a=b:1"}
    assert check_lendings({"keeper": "good"}, verticals) == ["something good"]
    assert check_lendings({"keeper": ""}, verticals) == []
    for wrong in ({"keeper": "bad"}, {"compute": "good"}, {"nothing": "good"}):
        with pytest.raises(InvalidInput) as caught:
            check_lendings(wrong, verticals)
        assert caught.value.code == "agent.lends"
    for text in (["keeper"], ["=good"], ["keeper=good", "keeper=better"]):
        with pytest.raises(InvalidInput):
            read_lendings(text)


def test_the_owner_agrees_to_what_is_lent(tmp_path: Path) -> None:
    settings = World(tmp_path).home.state().settings
    text = consent_text(url="", net="n", home="", verticals={}, settings=settings, lent=["something good"])
    assert "What is lent beside: something good" in text
    assert "lent" not in consent_text(url="", net="n", home="", verticals={}, settings=settings)


def test_the_owner_is_told_whose_programs_run_and_what_else_does(tmp_path: Path) -> None:
    settings = World(tmp_path).home.state().settings
    both: dict[str, Vertical] = {"compute": COMPUTE, "keeper": Keeping()}
    nothing_lent = consent_text(url="", net="n", home="", verticals=both, settings=settings)
    assert "programs of the network's buyers (compute)," in nothing_lent
    assert "beside" not in nothing_lent
    lends = msgspec.structs.replace(settings, lends={"keeper": "good"})
    text = consent_text(url="", net="n", home="", verticals=both, settings=lends)
    assert "What runs beside, and is no buyer's: keeper." in text
    assert "beside" not in consent_text(url="", net="n", home="", verticals={"compute": COMPUTE}, settings=settings)


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_what_is_lent_is_changed_whether_the_agent_runs_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "load_verticals", lambda: {"keeper": Keeping()})
    world = World(tmp_path)
    home = world.home
    assert await bootstrap.lend(home.path, "keeper=good", agree=lambda text: text == "something bad") is None
    assert home.state().settings.lends == {}
    assert await bootstrap.lend(home.path, "keeper=good", agree=lambda text: text == "something good") is False
    assert home.state().settings.lends == {"keeper": "good"}
    assert home.consent_lent("keeper").exists()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="No space left"):
            await bootstrap.lend(home.path, "keeper=good", agree=lambda _: True)
    with pytest.raises(InvalidInput):
        await bootstrap.lend(home.path, "keeper=bad", agree=lambda _: True)
    async with world.network(), world.start() as agent, control.serving(agent, home.socket):
        await agent.pause()
        with pytest.raises(InvalidInput, match="a vertical and what"):
            await control.ask(home.socket, "lend", "keeper")
        assert await bootstrap.lend(home.path, "keeper=", agree=lambda text: "any more" in text) is True
        await agent.resume()
    assert home.state().settings.lends == {}
    assert home.state().network.net == NET


async def test_what_was_handed_back_is_lent_no_more_whoever_looks_on_as_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "load_verticals", lambda: {"keeper": Keeping()})
    world = World(tmp_path)
    world.others = {"keeper": Keeper()}
    home = world.home
    await bootstrap.lend(home.path, "keeper=good", agree=lambda _: True)
    async with world.network(), world.start() as agent, control.serving(agent, home.socket):
        for over, lends in ((False, {"keeper": "good"}), (True, {})):
            found = await bootstrap.begin_hand_back(home.path, "keeper", agree=lambda _: True)
            assert found is not None
            assert (found.over, home.state().settings.lends) == (over, lends)


@pytest.mark.parametrize("net", ["a/b", "/../../x", "n" * 1000, "\0"])
def test_consent_is_kept_whatever_a_network_calls_itself(tmp_path: Path, net: str) -> None:
    home = World(tmp_path).home
    path = home.consent_handed_back(net, "keeper")
    assert path.parent == home.path
    home.keep(path, b"consent")
    assert path != home.consent_handed_back(f"{net}2", "keeper")


def test_what_is_in_the_way_is_shown_as_it_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    text = StringIO()
    monkeypatch.setattr(agent_exit, "err", lambda: Console(file=text, force_terminal=True, width=200))
    with agent_exit.shown(HandBack("7 wait: no room. [storage.full]", 0, 0)) as show:
        show(HandBack("7 wait: [/x] was said.", 1, 8))
    assert "no room. [storage.full]" in text.getvalue()
    assert "[/x] was said." in text.getvalue()


async def test_what_a_vertical_keeps_for_a_network_is_not_shown_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grounds: list[WorkerGround] = []

    class Seen(Keeping):
        def worker(self, ground: WorkerGround) -> Worker:
            grounds.append(ground)
            return super().worker(ground)

    monkeypatch.setattr(bootstrap, "load_verticals", lambda: {"keeper": Seen()})
    home = World(tmp_path).home
    state = home.state()
    for net in (NET, "other", NET):
        home.save(msgspec.structs.replace(state, network=msgspec.structs.replace(state.network, net=net)))
        await bootstrap.leave(home.path, erase=False)
    first, other, again = (ground.kept for ground in grounds)
    assert first == again
    assert len({first, other}) == 2


async def test_who_leaves_hears_where_something_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "load_verticals", lambda: {"keeper": Keeping()})
    home = World(tmp_path).home
    await bootstrap.lend(home.path, "keeper=good", agree=lambda _: True)
    assert (await bootstrap.leave(home.path, erase=False)).lent == {"keeper": "good"}

"""Rules that an owner asks for in the console: through registry and agent, and never looser than his machine's file."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fallow.agent.asking import load_asked, save_asked
from fallow.agent.owner import Owner
from fallow.agent.policy_file import IdlePolicy, load_policy, save_policy
from fallow.agent.rules import Rules as AgentRules
from fallow.cli.main import run
from fallow.domain import calls
from fallow.domain.errors import FallowError
from fallow.domain.identity import address
from fallow.domain.idle_rules import QUESTIONS_AT_ONCE, IdleRules, RulesAsked
from fallow.domain.views.rules import OwnRulesView
from fallow.ports.bus import Message
from fallow.ports.registry_store import NodeRow
from fallow.ports.rpc import call
from fallow.services.registry.rules import WISHES, Rules
from tests.unit.owner_fakes import FakeProbes, new_owner, reading
from tests.unit.test_places import home_at
from tests.unit.test_registry import World

NODE = "ab" * 32
OWNER, OTHER = "0x" + "11" * 20, "0x" + "22" * 20
FILE = IdlePolicy(cpu_percent=50, price_usd_per_core_hour=0.02, console_price_percent=50, console=True)


class Case:
    """A registry and an agent's owner, with what the bus has between them."""

    def __init__(self, home: Path, policy: IdlePolicy = FILE) -> None:
        self.home = home
        self.world = World()
        self.probes = FakeProbes()
        save_policy(home, policy)
        self.owner = new_owner(home, self.probes, self.world.clock)

    @asynccontextmanager
    async def serving(self, *, agent: bool = True) -> AsyncIterator[Case]:
        """Registry and, if wanted, agent."""
        world = self.world
        async with world.database.transaction() as tx:
            await world.store.add_account(tx, address(OWNER), None, 0)
            await world.store.add_node(tx, NodeRow(bytes.fromhex(NODE), address(OWNER), "attic", 0, ""))
        rules = Rules(bus=world.hub.connect(), clock=world.clock, database=world.database, store=world.store)
        answers = AgentRules(self.owner, world.clock, node=NODE, account=OWNER)
        async with rules.running(), asyncio.TaskGroup() as group:
            task = group.create_task(answers.run(world.hub.connect())) if agent else None
            await asyncio.sleep(0)
            yield self
            if task is not None:
                task.cancel()

    async def look(self) -> OwnRulesView:
        """What the console shows."""
        return await call(
            self.world.hub.connect(), calls.rules.RULES, calls.rules.RulesRef(account=OWNER, node=NODE), OwnRulesView
        )

    async def ask(self, rules: IdleRules, number: int = 1, account: str = OWNER) -> OwnRulesView:
        """Ask as the console does, a moment later each time."""
        self.world.clock.ms += 1
        asked = calls.rules.AskRules(id=f"{number:032x}", account=account, key_id="laptop", node=NODE, rules=rules)
        return await call(self.world.hub.connect(), calls.rules.ASK_RULES, asked, OwnRulesView)

    async def refused(self, rules: IdleRules, number: int = 1, account: str = OWNER) -> str:
        """The code with which it is refused."""
        with pytest.raises(FallowError) as caught:
            await self.ask(rules, number, account)
        return caught.value.code


def lines(view: OwnRulesView) -> list[tuple[str, str]]:
    return [(one.what, one.code) for one in view.log]


async def test_what_is_stricter_holds_at_once_and_after_a_restart(tmp_path: Path) -> None:
    asked = IdleRules(cpu_percent=25, away_minutes=10, price_usd_per_core_hour=0.015)
    async with Case(tmp_path).serving() as case:
        view = await case.ask(asked)
        assert view.standing is not None
        assert view.standing.asked is not None
        assert (view.standing.asked.rules, view.standing.held_back) == (asked, [])
        assert (case.owner.shape.total.cpu_milli, case.owner.shape.asked.core) == (1000, 15_000)
        case.probes.reading = reading(idle_s=0.0)
        await case.owner.look()
        assert case.owner.closed_for == "owner.present"
        assert lines(view) == [("taken", ""), ("asked", "")]
        assert case.owner.view().asked == view.standing.asked
        again = new_owner(tmp_path, case.probes, case.world.clock)
        assert again.policy == case.owner.policy


async def test_what_is_looser_is_held_back_setting_by_setting(tmp_path: Path) -> None:
    own = IdlePolicy(
        cpu_percent=50, hours=("daily 20:00-06:00",), away_minutes=10, temperature_c=70, console=True,
        price_usd_per_core_hour=0.02, console_price_percent=50,
    )  # fmt: skip
    asked = IdleRules(
        cpu_percent=80, hours=("mon 22:00-24:00", "tue 05:00-08:00"), away_minutes=5, temperature_c=60, on_battery=True,
        price_usd_per_core_hour=0.001,
    )  # fmt: skip
    async with Case(tmp_path, own).serving() as case:
        view = await case.ask(asked)
        assert view.standing is not None
        assert set(view.standing.held_back) == {
            "cpu_percent", "hours", "away_minutes", "on_battery", "price_usd_per_core_hour",
        }  # fmt: skip
        holds = case.owner.policy
        assert (holds.cpu_percent, holds.away_minutes, holds.temperature_c, holds.on_battery) == (50, 10, 60, False)
        assert holds.hours == ("mon 22:00-24:00", "tue 05:00-06:00")
        assert holds.price_usd_per_core_hour == 0.01
        assert view.standing.least_usd["price_usd_per_core_hour"] == 0.01
        # What was asked goes on being as strict as it was when the file changes.
        save_policy(tmp_path, IdlePolicy(cpu_percent=90, hours=("sun 01:00-02:00",), console=True))
        await case.owner.look()
        assert (case.owner.policy.cpu_percent, case.owner.policy.hours) == (80, ("never",))
        assert case.owner.closed_for == "owner.hours"


async def test_a_machine_that_does_not_let_the_console_ask_tells_and_takes_nothing(tmp_path: Path) -> None:
    async with Case(tmp_path, IdlePolicy(cpu_percent=50)).serving() as case:
        assert await case.refused(IdleRules(cpu_percent=10)) == "agent.console_off"
        view = await case.look()
        assert view.standing is None
        assert view.trouble is not None
        assert view.trouble.hint.endswith("fallow agent policy set console=true")
        assert lines(view) == [("refused", "agent.console_off"), ("asked", "")]
        assert load_asked(tmp_path) is None
        # Nothing waits for the day on which it does.
        save_policy(tmp_path, IdlePolicy(cpu_percent=50, console=True))
        await case.owner.look()
        assert case.owner.policy.cpu_percent == 50


async def test_nobody_elses_wish_reaches_the_machine(tmp_path: Path) -> None:
    async with Case(tmp_path).serving() as case:
        assert await case.refused(IdleRules(cpu_percent=10), account=OTHER) == "node.unknown"
        assert lines(await case.look()) == []
        with pytest.raises(FallowError, match="bound to alone"):
            await answer(case.owner, OTHER)
        assert case.owner.policy == FILE


async def answer(owner: Owner, account: str) -> None:
    """What a network would have to say to name another account."""
    case = AgentRules(owner, World().clock, node=NODE, account=OWNER)
    asked = RulesAsked(id="ab" * 16, at=1, account=account, key_id="", rules=IdleRules(cpu_percent=10))
    await case.answer(calls.rules.TellRules(asked=asked))


async def test_the_same_again_counts_once_and_an_older_one_never_after_a_later(tmp_path: Path) -> None:
    first, later = IdleRules(cpu_percent=10), IdleRules(cpu_percent=20)
    async with Case(tmp_path).serving() as case:
        once = await case.ask(first)
        assert (await case.ask(first)).log == once.log
        assert await case.refused(later) == "rules.id_taken"
        await case.ask(later, 2)
        assert await case.refused(first) == "agent.asked_later"
        assert case.owner.policy.cpu_percent == 20


async def test_a_machine_that_is_away_has_not_taken_it_and_the_log_says_so(tmp_path: Path) -> None:
    async with Case(tmp_path).serving(agent=False) as case:
        assert await case.refused(IdleRules(cpu_percent=10)) == "node.away"
        view = await case.look()
        assert (view.standing, lines(view)) == (None, [("asked", "")])


async def test_a_full_disk_is_told_as_that_and_what_was_asked_before_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    async with Case(tmp_path).serving() as case:
        await case.ask(IdleRules(cpu_percent=25))
        monkeypatch.setattr("fallow.agent.asking.write_durably", full)
        assert await case.refused(IdleRules(cpu_percent=10), 2) == "agent.disk_full"
        assert case.owner.policy.cpu_percent == 25


@pytest.mark.parametrize(
    "answer",
    [
        b"\xc1",
        b"\x81\xa5error\x94\xa8Conflict\xa1\xff\xa0\xa0",
        b"\x81\xa3odd" + b"\x91" * 5000,
        msgspec.msgpack.encode({"error": ("NotAllowed", "x" * 100_000, "", "")}),
        msgspec.msgpack.encode({"error": ("Conflict", "a\0", "", "")}),
    ],
    ids=["no msgpack", "no UTF-8", "nesting", "a long code", "a code with NUL"],
)
async def test_a_machine_that_answers_nonsense_is_told_apart_and_has_nothing_of_it_kept(
    tmp_path: Path, answer: bytes
) -> None:
    async def nonsense(_: Message) -> bytes:
        return answer

    async with Case(tmp_path).serving(agent=False) as case:
        bus = case.world.hub.connect()
        async with bus.serve(calls.rules.rules_of(NODE), nonsense, queue="agent"):
            assert await case.refused(IdleRules(cpu_percent=10)) == "node.answer"
            view = await case.look()
        assert view.trouble is not None
        assert (view.trouble.code, lines(view)) == ("node.answer", [("asked", "")])


async def test_few_wishes_are_written_down_and_none_for_machines_of_others(tmp_path: Path) -> None:
    async with Case(tmp_path).serving() as case:
        for number in range(20):
            assert await case.refused(IdleRules(), number, OTHER) == "node.unknown"
        for number in range(WISHES.burst):
            await case.ask(IdleRules(cpu_percent=number + 1), number)
        assert await case.refused(IdleRules(cpu_percent=50), 20) == "rate.requests"
        async with case.world.database.transaction() as tx:
            assert await case.world.store.rules_asked(tx, f"{20:032x}") is None
        case.world.clock.ms += 600_000
        await case.ask(IdleRules(cpu_percent=50), 20)


async def test_a_machine_that_lets_everybody_wait_is_asked_so_often_and_no_more(tmp_path: Path) -> None:
    asked, long_after = asyncio.Queue[Message](), asyncio.Event()

    async def late(message: Message) -> bytes:
        asked.put_nowait(message)
        await long_after.wait()
        return b""

    async with Case(tmp_path).serving(agent=False) as case:
        bus = case.world.hub.connect()
        serving = bus.serve(calls.rules.rules_of(NODE), late, queue="agent", concurrency=100)
        async with serving, asyncio.TaskGroup() as group:
            looks = [group.create_task(case.look()) for _ in range(QUESTIONS_AT_ONCE + 5)]
            for _ in range(QUESTIONS_AT_ONCE):
                await asked.get()
            long_after.set()
    told = Counter(trouble.code for look in looks if (trouble := look.result().trouble))
    assert told == {"node.answer": QUESTIONS_AT_ONCE, "rate.requests": 5}


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpu_percent": 0}, {"cpu_percent": 101}, {"hours": ["monday"]}, {"price_usd_per_core_hour": float("nan")},
        {"upload_mbit_s": float("inf")}, {"programs": ["rm"]}, {"console": True}, {"hours": ["never"] * 29},
    ],
)  # fmt: skip
async def test_bad_values_are_refused_at_the_door(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with Case(tmp_path).serving() as case:
        asked = {"id": "01" * 16, "account": OWNER, "key_id": "", "node": NODE, "rules": wrong}
        with pytest.raises(FallowError):
            await call(case.world.hub.connect(), calls.rules.ASK_RULES, asked, OwnRulesView)
        assert lines(await case.look()) == []


async def test_who_is_erased_leaves_nothing_in_the_log(tmp_path: Path) -> None:
    async with Case(tmp_path).serving() as case:
        await case.ask(IdleRules(cpu_percent=10))
        async with case.world.database.transaction() as tx:
            await case.world.store.erase(tx, address(OWNER), 1)
        assert lines(await case.look()) == []


def test_the_policy_says_what_was_asked_and_what_was_held_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, _ = home_at(tmp_path / "home", "")
    asked = RulesAsked(id="1", at=0, account=OWNER, key_id="laptop", rules=IdleRules(cpu_percent=20, away_minutes=5))
    save_asked(home.path, asked)

    def told(*words: str) -> str:
        assert run(["agent", "policy", *words, "--home", str(home.path)]) == 0
        return capsys.readouterr().out

    assert "20 %" not in told("set", "cpu_percent=30")
    by_console = "Asked in the console 1970-01-01 00:00 UTC by the key laptop."
    for words in (("set", "console=true", "away_minutes=10"), ("explain",)):
        said = told(*words)
        assert "At most 20 % of the cores." in said
        assert "may ask for stricter rules" in said
        assert said.endswith(f"{by_console} The file is stricter in away_minutes, and holds there.\n")
    assert load_policy(home.path).cpu_percent == 30

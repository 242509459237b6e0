"""A market that calls the roll, and nodes that answer what they like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec
import pytest

from fallow.domain import calls
from fallow.domain.errors import NotAllowed
from fallow.domain.leases import Lease
from fallow.domain.rollcall import FORGED, Answer, Call, Said
from fallow.domain.verification import NEW, PROVEN, SUSPENDED, TRUSTED_AFTER, Standing, suspended_until, trust
from fallow.ports.vertical.capacity import Capacity, Effort, Exercise
from fallow.verticals.compute.core.capacity import StepCapacity, Steps
from fallow.verticals.compute.core.steps import step
from tests.roll_world import NET, Machine, Node, RollWorld, played

HONEST = 3
REAL = StepCapacity()


class Impostor(Steps):
    """Three steps done, and three that are made up."""

    def __init__(self, exercise: Exercise) -> None:
        done = [step(exercise.challenge, exercise.node, number) for number in range(3)]
        super().__init__([*done, *[b"made up".ljust(32)] * 3])


async def steps_of(exercise: Exercise) -> Effort:
    await asyncio.sleep(exercise.work_ms / 1000)
    return Steps([step(exercise.challenge, exercise.node, number) for number in range(3)])


async def made_up(exercise: Exercise) -> Effort:
    await asyncio.sleep(exercise.work_ms / 1000)
    return Impostor(exercise)


def story(
    change: Callable[[RollWorld, Node], None], *, seconds: float = 40.0, capacity: Capacity | None = REAL
) -> tuple[list[Call], Standing, Node, int]:
    """Three honest nodes and one that is changed; returns the calls, what it has shown, and at what time."""

    async def run() -> tuple[list[Call], Standing, Node, int]:
        world = RollWorld(1, capacity=capacity)
        for number in range(HONEST):
            world.add(f"own{number}", Machine(1), 1)
        odd = world.add("odd", Machine(1), 1)
        if capacity is REAL:
            for node in world.nodes:
                node.exert = steps_of  # type: ignore[method-assign]
        change(world, odd)
        await world.live(seconds)
        honest = [node for node in world.nodes if node is not odd]
        assert world.found(honest) == 0
        assert all(world.standing(node).missed == 0 for node in honest)
        return await world.calls(), world.standing(odd), odd, world.clock.now_ms()

    return played(1, run)


def of(found: list[Call], node: Node) -> list[Said]:
    return [said for call in found for said in call.said if said.node == node.id]


def answers(node: Node, change: Callable[[calls.checks.RollAnswer], calls.checks.RollAnswer]) -> None:
    """Have a node change what it answers."""
    honest = node.rolls.answer

    async def answer(request: calls.checks.RollCall) -> calls.checks.RollAnswer:
        return change(await honest(request))

    node.rolls.answer = answer  # type: ignore[method-assign]


def test_honest_answers_are_believed() -> None:
    found, standing, odd, _ = story(lambda _world, _node: None)
    assert {call.kind for call in found} == {"alone", "group"}
    assert standing == Standing()
    assert [said.reason for said in of(found, odd)] == [""] * len(of(found, odd))
    (first, *_) = of(found, odd)
    answer = Answer.open(first.answer, odd.id)  # the evidence is what the node signed
    assert (answer.net, answer.units) == (NET, 3)


def test_who_signs_for_steps_that_he_never_did_is_suspended() -> None:
    def change(_: RollWorld, node: Node) -> None:
        node.exert = made_up  # type: ignore[method-assign]

    found, standing, odd, now = story(change)
    convicting = [call for call in found if call.found]
    assert [call.found for call in convicting] == [((odd.id, FORGED),)]
    assert (standing.wrong, standing.why) == (1, FORGED)
    assert trust(standing, now) == SUSPENDED
    assert suspended_until(standing) > now


def test_an_answer_to_an_earlier_call_is_none() -> None:
    first: list[calls.checks.RollAnswer] = []

    def replayed(answer: calls.checks.RollAnswer) -> calls.checks.RollAnswer:
        first.append(answer)
        return first[0]

    found, standing, odd, _ = story(lambda _, node: answers(node, replayed))
    reasons = [said.reason for said in of(found, odd)]
    assert reasons[-1] == ""  # the first call
    assert set(reasons[:-1]) == {"roll.other"}
    assert (standing.wrong, standing.missed) == (0, len(reasons) - 1)


def test_another_nodes_answer_is_none() -> None:
    other = Node.__new__(Node)

    def change(world: RollWorld, node: Node) -> None:
        nonlocal other
        other = world.nodes[0]
        answers(
            node,
            lambda answer: calls.checks.RollAnswer(sealed=Answer.open(answer.sealed, node.id).seal(other.key.sign)),
        )

    found, standing, odd, _ = story(change)
    assert {said.reason for said in of(found, odd)} == {"signing.signature"}
    assert standing.wrong == 0
    assert standing.missed > 0


def test_who_answers_too_late_has_not_answered() -> None:
    async def late(exercise: Exercise) -> Effort:
        await asyncio.sleep(20)
        return await steps_of(exercise)

    def change(_: RollWorld, node: Node) -> None:
        node.exert = late  # type: ignore[method-assign]

    found, standing, odd, _ = story(change)
    assert {said.reason for said in of(found, odd)} <= {"bus.timeout", "agent.no_room"}
    assert standing.wrong == 0
    assert standing.missed > 0


def test_who_works_longer_gains_nothing() -> None:
    """Twice the steps in twice the time are no more: time is the market's own."""

    async def longer(exercise: Exercise) -> Effort:
        await asyncio.sleep(2 * exercise.work_ms / 1000)
        return Steps([step(exercise.challenge, exercise.node, number) for number in range(6)])

    def change(_: RollWorld, node: Node) -> None:
        node.exert = longer  # type: ignore[method-assign]

    found, _, odd, _ = story(change)
    rates = {said.rate for said in of(found, odd)}
    honest = {said.rate for call in found for said in call.said if said.node != odd.id}
    assert max(rates) <= max(honest) * 1.05


@pytest.mark.parametrize("sealed", [b"", b"nonsense", msgspec.msgpack.encode([1, 2])])
def test_nonsense_is_no_answer(sealed: bytes) -> None:
    found, standing, odd, _ = story(lambda _, node: answers(node, lambda _: calls.checks.RollAnswer(sealed=sealed)))
    assert all(said.reason for said in of(found, odd))
    assert standing.wrong == 0


def test_who_never_answers_is_not_proven_and_not_suspended() -> None:
    def change(_: RollWorld, node: Node) -> None:
        async def declined(_: calls.checks.RollCall) -> calls.checks.RollAnswer:
            raise NotAllowed("owner.busy", "Not now.")

        node.rolls.answer = declined  # type: ignore[method-assign,assignment]

    found, standing, odd, now = story(change, seconds=900, capacity=None)
    assert {said.reason for said in of(found, odd)} == {"owner.busy"}
    assert standing.wrong == 0
    proven = msgspec.structs.replace(standing, confirmed=TRUSTED_AFTER)
    assert trust(proven, now) == NEW
    assert trust(msgspec.structs.replace(proven, missed=0), now) == PROVEN


def test_who_was_sold_meanwhile_is_excused() -> None:
    def change(world: RollWorld, node: Node) -> None:
        slot = world.brain.floor.slots[node.id]

        async def sold(_: calls.checks.RollCall) -> calls.checks.RollAnswer:
            slot.leases[len(slot.leases).to_bytes(16, "big")] = cast("Lease", None)
            raise NotAllowed("agent.sold", "It works.")

        node.rolls.answer = sold  # type: ignore[method-assign,assignment]

    found, standing, odd, _ = story(change, seconds=120, capacity=None)
    assert {said.reason for said in of(found, odd)} == {"agent.sold"}
    assert standing == Standing()

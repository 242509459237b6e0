"""One machine behind several agents: how often roll calls find it, and whom else they hit.

The market's and the agent's own parts in virtual time: 30 nodes on their own lines, of which some share a machine that
each of them sells whole; a roll call a minute, where a network has one an hour. Each test prints its rates with 95 %
intervals; the table in the compute vertical's README is taken from here.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from fallow.domain.verification import MISSED_PROVEN_MAX
from tests.attacks.cheating import Rate
from tests.roll_world import Closed, Machine, Node, RollWorld, played, willing

NODES, HEADS, CORES = 30, 5, 4
A_MINUTE = 1440
SEEDS = range(6)
FIRST_S = NODES * 2.0
"""Each is measured alone first."""

DAY_S = 24 * 60.0
"""As many roll calls as a network with the default setting has in a day."""


class Outcome(NamedTuple):
    """What a case showed: cheats suspended, cheats not proven, honest nodes hit, work a node and call."""

    found: Rate
    unproven: Rate
    hit: Rate
    honest_unproven: Rate
    calls_a_node: float


def play(name: str, *, heads: int = HEADS, noise: float = 0.02, closed: Closed = willing) -> Outcome:
    """Play a case with all seeds and add the outcomes up."""
    runs = [played(seed, partial(_run, seed, heads, noise, closed)) for seed in SEEDS]

    def added(rates: list[Rate]) -> Rate:
        return Rate(sum(rate.hits for rate in rates), sum(rate.cases for rate in rates))

    outcome = Outcome(
        added([one.found for one in runs]),
        added([one.unproven for one in runs]),
        added([one.hit for one in runs]),
        added([one.honest_unproven for one in runs]),
        sum(one.calls_a_node for one in runs) / len(runs),
    )
    print(
        f"\n{name}: found {outcome.found}; not proven {outcome.unproven}; honest nodes suspended {outcome.hit},"
        f" not proven {outcome.honest_unproven}; {outcome.calls_a_node:.1f} calls a node"
    )
    return outcome


async def _run(seed: int, heads: int, noise: float, closed: Closed) -> Outcome:
    world = RollWorld(seed, calls_a_day=A_MINUTE)
    shared = Machine(CORES)
    cheats = [world.add(f"head{n}", shared, CORES, closed=closed, noise=noise) for n in range(heads)]
    honest = [world.add(f"own{n}", Machine(CORES), CORES, noise=noise) for n in range(NODES - heads)]
    await world.live(FIRST_S + DAY_S)

    def unproven(nodes: list[Node]) -> int:
        return sum(world.standing(node).missed > MISSED_PROVEN_MAX for node in nodes)

    return Outcome(
        Rate(world.found(cheats), len(cheats)),
        Rate(unproven(cheats), len(cheats)),
        Rate(world.found(honest), len(honest)),
        Rate(unproven(honest), len(honest)),
        sum(node.asked for node in world.nodes) / len(world.nodes),
    )


def test_one_machine_behind_five_agents_is_found() -> None:
    outcome = play("5 agents on one machine")
    assert outcome.found.interval[0] > 0.7
    assert outcome.hit.hits == 0


def test_two_agents_on_one_machine_are_found() -> None:
    outcome = play("2 agents on one machine", heads=2)
    assert outcome.found.interval[0] > 0.5
    assert outcome.hit.hits == 0


def test_honest_nodes_in_a_noisy_neighbourhood_are_not_suspended() -> None:
    for noise in (0.1, 0.3):
        outcome = play(f"honest only, slowed in {noise:.0%} of calls", heads=0, noise=noise)
        assert outcome.hit.interval[1] < 0.03
        assert outcome.honest_unproven.hits == 0


def test_who_declines_whenever_his_others_are_called_is_not_proven() -> None:
    def one_at_a_time(node: Node) -> str:
        return "owner.busy" if node.machine.working else ""

    outcome = play("5 agents of which one answers at a time", closed=one_at_a_time)
    assert outcome.unproven.interval[0] > 0.5
    assert outcome.hit.hits == 0


def test_shares_of_one_machine_that_do_not_overlap_are_fine() -> None:
    async def run() -> int:
        world = RollWorld(1)
        machine = Machine(CORES)
        nodes = [world.add(f"share{n}", machine, 1, noise=0.02) for n in range(CORES)]
        await world.live(20 * 60)
        assert len(await world.calls("group")) > 100
        return world.found(nodes)

    assert played(1, run) == 0

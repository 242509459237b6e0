"""Who is convicted by roll calls: only who was slow each time with the same others, and fine alone each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import assume, given
from hypothesis import strategies as st

from fallow.domain.draws import Seed, hits
from fallow.domain.rollcall import (
    DAY_MS,
    GROUP_MAX,
    ROUNDS,
    SHORT,
    SLOT_MS,
    SUSPECTS_MAX,
    Member,
    Said,
    Trial,
    challenge,
    group,
    is_short,
    moment,
    one_in,
    suspects,
    tried,
)

NODES = [bytes([number]) * 32 for number in range(6)]
SEED = Seed(1, b"s" * 32)
rates = st.dictionaries(st.sampled_from(NODES), st.integers(0, 2000), max_size=6)
rounds = st.lists(st.tuples(rates, rates), min_size=ROUNDS, max_size=ROUNDS)
trials = st.sets(st.sampled_from(NODES), min_size=2).map(lambda nodes: Trial(suspects=tuple(sorted(nodes))))


def concluded(trial: Trial, shown: Sequence[tuple[Mapping[bytes, int], Mapping[bytes, int]]]) -> Trial:
    for alone, together in shown:
        if trial.open:
            trial = tried(trial, alone, together)
    return trial


@given(trials, rounds)
def test_who_is_found_was_short_in_every_round_and_never_by_himself(
    trial: Trial, shown: list[tuple[dict[bytes, int], dict[bytes, int]]]
) -> None:
    end = concluded(trial, shown)
    assert len(end.found) != 1
    assert set(end.found) <= set(trial.suspects)
    for node in end.found:
        assert all(is_short(together[node], alone[node]) for alone, together in shown)


@given(trials, rounds, st.sampled_from(NODES), st.integers(0, ROUNDS - 1), st.integers(1, 2000))
def test_who_is_fine_once_is_cleared_whatever_all_others_do(
    trial: Trial, shown: list[tuple[dict[bytes, int], dict[bytes, int]]], node: bytes, number: int, rate: int
) -> None:
    alone, together = shown[number]
    alone[node] = together[node] = rate
    assert node not in concluded(trial, shown).found


@given(trials, rounds, st.sampled_from(NODES), st.integers(0, ROUNDS - 1), st.booleans())
def test_who_does_not_answer_is_not_found(
    trial: Trial,
    shown: list[tuple[dict[bytes, int], dict[bytes, int]]],
    node: bytes,
    number: int,
    alone: bool,
) -> None:
    shown[number][0 if alone else 1].pop(node, None)
    assert node not in concluded(trial, shown).found


@given(trials, st.integers(1, 1000))
def test_who_shares_a_machine_is_found(trial: Trial, rate: int) -> None:
    part = {node: rate // len(trial.suspects) for node in trial.suspects}
    alone = dict.fromkeys(trial.suspects, rate)
    assert concluded(trial, [(alone, part)] * ROUNDS).found == trial.suspects


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6), st.booleans()), max_size=40))
def test_one_who_is_short_is_no_suspect_and_the_slowest_come_first(entries: list[tuple[int, int, bool]]) -> None:
    said = [
        Said(
            node=bytes([n]) * 32,
            cpu_milli=1000,
            reason=SHORT if short else "",
            units=units,
            elapsed_ms=1000,
            alone=alone,
        )
        for n, (units, alone, short) in enumerate(entries)
    ]
    short = [one for one in said if one.reason == SHORT]
    found = suspects(said).suspects
    assert len(found) == (min(len(short), SUSPECTS_MAX) if len(short) > 1 else 0)
    left = [one.rate * 1000 // (one.alone or 1) for one in short if one.node not in found]
    taken = [one.rate * 1000 // (one.alone or 1) for one in short if one.node in found]
    assert not taken or not left or max(taken) <= min(left)


@given(st.integers(1, 17_280), st.integers(1, 100_000))
def test_a_node_is_called_as_often_as_was_set(calls_a_day: int, nodes: int) -> None:
    slots = DAY_MS // SLOT_MS
    expected = slots / one_in(calls_a_day, nodes) * min(1.0, GROUP_MAX / nodes)
    most = slots * min(1.0, GROUP_MAX / nodes)
    assert expected >= min(calls_a_day, most) * 0.99
    assume(one_in(calls_a_day, nodes) > 20)
    assert expected <= calls_a_day * 1.06


def test_moments_are_draws_that_anybody_can_recompute() -> None:
    drawn = [moment(SEED, slot, 4320, 10, slot * SLOT_MS) for slot in range(400)]
    assert all(one.hit == hits(SEED.value, one.purpose, one.lease, one.one_in) for one in drawn)
    assert 60 < sum(one.hit for one in drawn) < 140


def test_those_who_share_something_are_called_together() -> None:
    """A pair among thousands: far more often together than two whom nothing joins."""
    strangers = [Member(n.to_bytes(32, "big"), n.to_bytes(20, "big"), f"{n}", 1000) for n in range(2000)]
    pair = [Member(bytes([255, n]) * 16, b"one owner", f"line{n}", 1000) for n in range(2)]
    line = [Member(bytes([254, n]) * 16, bytes([n]) * 20, "one line", 1000) for n in range(2)]
    together = {"pair": 0, "line": 0, "strangers": 0}
    for slot in range(150):
        chosen = set(group(SEED, slot, [*strangers, *pair, *line]))
        assert len(chosen) == GROUP_MAX
        for name, two in ("pair", pair), ("line", line), ("strangers", strangers[:2]):
            together[name] += chosen >= set(two)
    assert min(together["pair"], together["line"]) > 2 * together["strangers"]


def test_nobody_is_left_out_for_good() -> None:
    members = [Member(n.to_bytes(32, "big"), n.to_bytes(20, "big"), "", 1000) for n in range(1000)]
    called = {member for slot in range(40) for member in group(SEED, slot, members)}
    assert len(called) == len(members)


@given(st.integers(0, 1 << 40), st.sampled_from(["alone", "group", "again"]), st.binary(max_size=32))
def test_challenges_differ(at: int, kind: str, node: bytes) -> None:
    first = challenge(SEED, at, kind, node)  # type: ignore[arg-type]
    assert len(first) == 32
    assert first != challenge(SEED, at + 1, kind, node)  # type: ignore[arg-type]
    assert first != challenge(Seed(2, b"t" * 32), at, kind, node)  # type: ignore[arg-type]

"""What re-runs hint at: whatever liars and hostile programs do, the honest ones lose nothing by it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.reruns import AGREED_MIN, HINTS_MIN, VAIN_MAX, Rerun, in_vain, suspects, watched

NODES = 6
pairs = st.sampled_from(list(combinations(range(NODES), 2)))
histories = st.lists(st.tuples(pairs, st.booleans()), max_size=40)


def told(history: Sequence[tuple[tuple[int, int], bool]], owners: dict[int, int] | None = None) -> list[Rerun]:
    def owner(node: int) -> bytes:
        return bytes([(owners or {}).get(node, node)]) * 20

    return [
        Rerun(
            lease=bytes([number]) * 16,
            account=b"b" * 20,
            program="p",
            nodes=(bytes([one]), bytes([other])),
            owners=(owner(one), owner(other)),
            same=same,
            at=number,
        )
        for number, ((one, other), same) in enumerate(history)
    ]


def agreeing(*nodes: int) -> list[tuple[tuple[int, int], bool]]:
    """Nodes that all agreed with each other."""
    return [(pair, True) for pair in combinations(nodes, 2)]


@given(histories, st.randoms())
def test_the_order_in_which_it_was_found_does_not_matter(
    history: list[tuple[tuple[int, int], bool]], chance: object
) -> None:
    found = told(history)
    shuffled = list(found)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert suspects(shuffled) == suspects(found)


@given(histories)
def test_nobody_is_suspect_who_never_differed_or_with_one_owner_only(
    history: list[tuple[tuple[int, int], bool]],
) -> None:
    found = told(history)
    for suspect in suspects(found):
        differing = [one for one in found if suspect in one.nodes and not one.same]
        owners = {one.owners[one.other(suspect)] for one in differing}
        assert len(owners) >= HINTS_MIN
    of_one = told(history, dict.fromkeys(range(1, NODES), 1))
    assert bytes([0]) not in suspects(of_one)  # all others are one owner's: whatever they say of node 0


@given(histories)
def test_what_never_repeats_itself_makes_nobody_suspect(history: list[tuple[tuple[int, int], bool]]) -> None:
    found = told([(pair, False) for pair, _ in history])
    assert not suspects(found)
    assert in_vain(found) == (len(found) >= VAIN_MAX)
    assert not any(watched(bytes([node]), found) for node in range(NODES))


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([3, 4, 5])), max_size=20))
def test_liars_who_agree_with_nobody_make_no_honest_node_suspect(met: list[tuple[int, int]]) -> None:
    """Nodes 3 to 5 lie each for itself, and meet honest ones as often as they like."""
    found = told([*agreeing(0, 1, 2), *(((honest, liar), False) for honest, liar in met)])
    assert not suspects(found) & {bytes([node]) for node in range(3)}


@given(st.permutations(range(NODES)))
def test_who_differs_from_two_owners_that_agree_with_others_is_suspect(nodes: list[int]) -> None:
    liar, *others = nodes
    told_of = [(tuple(sorted((liar, other))), False) for other in others[:HINTS_MIN]]
    assert suspects(told([*agreeing(*others), *told_of])) == {bytes([liar])}  # type: ignore[list-item]
    assert len(agreeing(*others[:3])) == AGREED_MIN
    assert suspects(told([*agreeing(*others[:2]), *told_of])) == frozenset()  # type: ignore[list-item]


@given(histories)
def test_who_agreed_lately_is_not_watched(history: list[tuple[tuple[int, int], bool]]) -> None:
    agreed = [((0, other), True) for other in (1, 2)]
    assert not watched(bytes([0]), told([*history, *agreed]))

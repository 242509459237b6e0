"""Which results are believed, under any relation that buyers may think of."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.verification import INCONCLUSIVE, VOTES_MAX, Compared, Judgement, Vote, judge, to_compare

NAMES = "abcde"
said = st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=VOTES_MAX)
relations = st.sets(st.sampled_from(list(combinations(NAMES, 2)))).map(
    lambda pairs: Compared(frozenset(pairs) | frozenset(pair[::-1] for pair in pairs))
)


def votes_of(what: list[tuple[str, bool]]) -> list[Vote]:
    return [
        Vote(lease=bytes([n]), node=bytes([n]), account=bytes([n]), ok=ok, reason="" if ok else "exit", result=result)
        for n, (result, ok) in enumerate(what)
    ]


@given(said, st.integers(1, VOTES_MAX))
def test_where_only_what_is_equal_agrees_the_majority_wins(what: list[tuple[str, bool]], wanted: int) -> None:
    votes = votes_of(what)
    found = judge(votes, wanted)
    ((says, count),) = Counter(vote.says for vote in votes).most_common(1)
    if len(votes) < wanted:
        assert found is None
    elif count > wanted // 2 and 2 * count > len(votes):
        right = tuple(vote for vote in votes if vote.says == says)
        assert found == Judgement(right, tuple(vote for vote in votes if vote.says != says))
    else:
        assert found == (Judgement((), (), INCONCLUSIVE) if len(votes) == VOTES_MAX else None)


@given(said, st.integers(1, VOTES_MAX), relations)
def test_what_is_near_one_result_is_right_and_nothing_else(
    what: list[tuple[str, bool]], wanted: int, compared: Compared
) -> None:
    votes = votes_of(what)
    found = judge(votes, wanted, compared.agree)
    circles = {vote.node: [other for other in votes if compared.agree(vote, other)] for vote in votes}
    largest = max(map(len, circles.values()))
    enough = largest > wanted // 2 and 2 * largest > len(votes) >= wanted
    if found is None or not found.right:
        assert not enough
        return
    believed = found.right[0]
    assert enough
    assert len(found.right) == largest
    assert set(found.right) == set(circles[believed.node])
    assert sorted([*found.right, *found.wrong], key=votes.index) == votes
    assert not any(compared.agree(believed, vote) for vote in found.wrong)
    # Of several with as many around them the first that came is believed.
    assert believed.node == min(node for node, circle in circles.items() if len(circle) == largest)


@given(said, relations)
def test_agreement_is_of_what_went_well_and_symmetric(what: list[tuple[str, bool]], compared: Compared) -> None:
    votes = votes_of(what)
    assert to_compare(votes) == tuple(sorted({result for result, ok in what if ok}))
    for one in votes:
        assert compared.agree(one, one)
        for other in votes:
            assert compared.agree(one, other) == compared.agree(other, one)
            if one.ok != other.ok:
                assert not compared.agree(one, other)

"""What is held and vests: whatever rules change and whoever is found wrong, nothing is lost, or owed twice."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.epochs.keeping import Turns, keep, read_holdings
from fallow.domain.epochs.lines import INCENTIVE, USAGE, LineKey
from fallow.domain.epochs.rules import WORK_ONLY, Rules
from fallow.domain.epochs.state import NOTHING, read_state, write_state
from fallow.domain.rewards.schedules import Held

KEYS = [("compute", bytes([node]) * 32, bytes([account]) * 20) for node, account in ((1, 1), (1, 2), (2, 2))]
NODES = [key[1] for key in KEYS]
SHARES = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 10**27))
RULES = st.builds(
    Rules,
    model=st.just(WORK_ONLY),
    vesting=st.integers(0, 4),
    held=st.builds(
        Held,
        withheld_ppm=st.lists(st.integers(0, 1_000_000), max_size=3),
        step=st.integers(1, 3),
        release=st.integers(1, 4),
        parts=st.sampled_from(["usage", "incentive", "both"]),
    ),
)
EPOCHS = st.lists(
    st.tuples(
        SHARES, SHARES, RULES, st.sets(st.sampled_from(NODES), max_size=1), st.sets(st.sampled_from(KEYS), max_size=1)
    ),
    max_size=8,
)


@given(EPOCHS)
def test_what_was_earned_is_owed_or_held_or_vests_or_is_forfeited_with_a_code(
    epochs: list[tuple[dict[LineKey, int], dict[LineKey, int], Rules, set[bytes], set[LineKey]]],
) -> None:
    state, earned, owed, forfeited = NOTHING, Counter[str](), Counter[str](), Counter[str]()
    for number, (usage, incentive, rules, found, returned) in enumerate(epochs):
        shares = {USAGE: usage, INCENTIVE: incentive}
        wrong = dict.fromkeys(found, "result.wrong") if number % 2 else {}
        shut_out = {(vertical, node): "storage.away" for vertical, node, _ in KEYS if node in found - wrong.keys()}
        kept = keep(state.carried, rules, number, shares, Turns(wrong, shut_out, returned))
        assert not any(read_holdings(kept.carried)[key].left for key in returned & read_holdings(kept.carried).keys())
        for part, of in shares.items():
            later = kept.later(part)
            added = {key: of.get(key, 0) - later.get(key, 0) for key in KEYS}
            assert min(added.values()) >= 0, "what is owed only grows"
            earned[part] += sum(of.values())
            owed[part] += sum(added.values())
            forfeited[part] += kept.forfeited(part)
            vesting = kept.vesting if part == INCENTIVE else 0
            assert earned[part] == owed[part] + kept.held[part] + vesting + forfeited[part]
        for (_, node, _), moves in kept.moves.items():
            assert all(not move.forfeited or (node in found and move.code) for move in moves.values())
            assert all(min(move[:5]) >= 0 for move in moves.values())
        state = read_state(write_state(state._replace(epochs=number + 1, carried=kept.carried)))


@given(SHARES, SHARES, RULES)
def test_after_its_time_all_of_it_is_owed(
    usage: dict[LineKey, int], incentive: dict[LineKey, int], rules: Rules
) -> None:
    kept = keep({}, rules, 0, {USAGE: usage, INCENTIVE: incentive}, Turns({}))
    for number in range(1, 3 * 3 + 4 + 1):
        kept = keep(kept.carried, rules, number, {USAGE: {}, INCENTIVE: {}}, Turns({}))
    assert (+kept.held, kept.vesting) == ({}, 0)

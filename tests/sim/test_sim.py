"""The production services and agents through storms that come from a seed, and the bugs that this must find."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sim.planted import PLANTED, Patch
from tests.sim.world import Failure, run

SEEDS, HUNTED = 100, 200
CHUNK = 20
TROUBLES = {
    "crash", "stop", "leave", "pause", "ban", "disk", "clock", "cut", "bus", "data", "store", "novelty",
    "database begin", "database commit", "database answer",
    "lost", "repeated", "slow", "unheard", "roll call",
}  # fmt: skip


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_all_ends_well_whatever_goes_wrong(first: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        counts.update(run(seed).counts)
    # Each kind of trouble must have come up, or nothing was shown about it.
    assert {name for name in TROUBLES if counts[name]} == TROUBLES


def test_a_seed_is_a_run() -> None:
    first, again, other = run(3), run(3), run(4)
    assert first == again
    assert first.digest != other.digest


def test_a_seed_is_the_same_run_in_another_process() -> None:
    code = "from tests.sim.world import run; print(run(3).digest)"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == run(3).digest


@pytest.mark.mishaps
@pytest.mark.parametrize(("plant", "finders"), PLANTED.items(), ids=[plant.__name__ for plant in PLANTED])
def test_a_planted_bug_is_found(
    plant: Callable[[Patch], None], finders: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    def hunt() -> None:
        for seed in range(HUNTED):
            run(seed)

    with pytest.raises(Failure, match="again: python -m tests") as caught:
        hunt()
    print(f"{plant.__name__}: found by {caught.value.checker!r} under seed {caught.value.seed}")
    assert caught.value.checker in finders

"""Run one seed, or all from one to another: `python -m tests.sim 54`, `python -m tests.sim 200 1000`."""

from __future__ import annotations

import sys

from tests.sim.world import Failure, run


def main(first: int, last: int) -> int:
    """Run the seeds; returns how many found something."""
    failures = 0
    for seed in range(first, last + 1):
        try:
            outcome = run(seed)
        except Failure as failure:
            failures += 1
            print(failure, flush=True)
        else:
            print(f"seed {seed}: well, {outcome.virtual_s:.0f} s in {outcome.steps} steps, {outcome.digest[:16]}")
    return failures


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    sys.exit(main(numbers[0], numbers[-1]) > 0)

"""From 8,500,000 earning accounts to a root: shares of a pool, the tree, and a proof.

Each account has a score; a pool is cut by them to the last unit, each share becomes a leaf (account, asset, cumulative
amount), and the tree is written to a file, from which proofs are read. Hashing is spread over the processors.

Baseline, in the same run: npm's @openzeppelin/merkle-tree on fewer leaves (its time grows faster than their number, so
that the ratio is a lower bound), whose root must be ours.

Beside it: what an order takes that a node of storage handed in, where it is added up again (`fallow epoch audit`).

    python bench/epoch.py [--accounts 8500000] [--compared 50000]
"""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench._recount import recount_us
from fallow.domain.rewards.split import split
from fallow.domain.rewards.tree import Leaf, build_tree, proof_of, proves, root_of

ASSET = bytes([0xAA]) * 20
POOL = 7200 * 10**18
PROOFS = 1000
GOAL_S, GOAL_GB, GOAL_TREE_GB, GOAL_PROOF_MS, GOAL_RATIO, GOAL_RECOUNT_US = 60.0, 6.0, 0.6, 5.0, 50.0, 150.0
NPM = Path(__file__).with_name("npm")


def address(number: int) -> bytes:
    """A made-up account."""
    return number.to_bytes(20)


def entries(shares: list[int]) -> Iterator[Leaf]:
    """One leaf an account."""
    return (Leaf(address(number), ASSET, share) for number, share in enumerate(shares, start=1))


def close_epoch(accounts: int, folder: Path) -> dict[str, float]:
    """Shares, tree and root, and proofs from the file."""
    scores = random.Random(1).choices(range(1, 1 << 40), k=accounts)  # noqa: S311 - made-up scores
    began = time.monotonic()
    shares = split(POOL, scores)
    split_s = time.monotonic() - began
    with multiprocessing.get_context("fork").Pool() as pool:
        tree = build_tree(entries(shares), pool.imap)
    root = root_of(tree)
    took_s = time.monotonic() - began
    assert sum(shares) == POOL
    path = folder / "tree"
    path.write_bytes(tree)
    del tree
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"{accounts:,} accounts: shares {split_s:.1f} s, in all {took_s:.1f} s, at most {peak * 1024 / 1e9:.1f} GB")
    return {
        "s": took_s,
        "gb": peak * 1024 / 1e9,
        "tree_gb": path.stat().st_size / 1e9,
        "proof_ms": slowest_proof_ms(path, root, shares),
    }


def slowest_proof_ms(path: Path, root: bytes, shares: list[int]) -> float:
    """Of some proofs, read from the file."""
    slowest = 0.0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tree:
        for number in random.Random(2).sample(range(len(shares)), min(PROOFS, len(shares))):  # noqa: S311 - any will do
            leaf = Leaf(address(number + 1), ASSET, shares[number])
            began = time.perf_counter()
            proof = proof_of(memoryview(tree), leaf)
            slowest = max(slowest, time.perf_counter() - began)
            assert proves(root, leaf, proof)
    return 1000 * slowest


def npm_rate(leaves: int) -> tuple[str, float]:
    """The root that npm's library finds, and its leaves a second."""
    if not (NPM / "node_modules").exists():
        subprocess.run(["npm", "ci", "--silent", "--ignore-scripts"], cwd=NPM, check=True)
    done = subprocess.run(["node", "tree.cjs", str(leaves)], cwd=NPM, check=True, capture_output=True, text=True)
    said = json.loads(done.stdout)
    return said["root"], leaves / said["seconds"]


def result(name: str, value: float, unit: str, goal: float, baseline: float | None = None) -> dict[str, object]:
    """One line of the results; with a baseline, the goal is a ratio to reach."""
    common = {"name": name, "value": round(value, 2), "unit": unit, "goal": goal}
    if baseline is None:
        return {**common, "baseline": None, "baseline_name": None, "ratio": None, "ok": value <= goal}
    name = "npm's @openzeppelin/merkle-tree, leaves/s"
    ratio = value / baseline
    return {**common, "baseline": round(baseline), "baseline_name": name, "ratio": round(ratio, 1), "ok": ratio >= goal}


def main() -> int:
    """Measure, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=8_500_000)
    parser.add_argument("--compared", type=int, default=50_000)
    asked = parser.parse_args()
    root, theirs = npm_rate(asked.compared)
    same = build_tree(Leaf(address(number), ASSET, number * 1000) for number in range(1, asked.compared + 1))
    assert root_of(same).hex() == root, "the roots differ"
    with tempfile.TemporaryDirectory() as folder:
        ours = close_epoch(asked.accounts, Path(folder))
    results = [
        result("epoch-close", ours["s"], f"s: shares, tree and root, {asked.accounts} accounts", GOAL_S),
        result("epoch-memory", ours["gb"], "GB at most, all processes", GOAL_GB),
        result("epoch-tree", ours["tree_gb"], "GB, stored tree", GOAL_TREE_GB),
        result("epoch-proof", ours["proof_ms"], f"ms, slowest of {PROOFS} proofs from the file", GOAL_PROOF_MS),
        result("epoch-recount", recount_us(), "µs of a processor, an order of storage added up again", GOAL_RECOUNT_US),
        result("epoch-leaves", asked.accounts / ours["s"], "leaves/s, shares included", GOAL_RATIO, theirs),
    ]
    print(json.dumps(results))
    return 0 if all(each["ok"] for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())

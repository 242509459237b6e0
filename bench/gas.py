"""What a root and claims cost on a chain, in gas, as the contracts' tests measure it.

Each call is a transaction of its own on forge's EVM, with its intrinsic cost and cold storage: a root that 3 of 4
validators signed, and the first and a later claim of an account, of the settlement asset and of tokens, with proofs of
the length that they have in trees of 1,000 and of 8,500,000 leaves.

Baseline, in the same run: a plain transfer of the token to an account that has none.

    python bench/gas.py
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.write_contracts import CONTRACTS, forge_test

BASELINE = "transfer"
GOALS = {
    "root_later": 150_000,
    "claim_first_settlement_1000": 95_000,
    "claim_first_token_1000": 95_000,
    "claim_later_settlement_1000": 60_000,
    "claim_later_token_1000": 60_000,
    "claim_first_settlement_8500000": 115_000,
    "claim_first_token_8500000": 115_000,
    "claim_later_settlement_8500000": 75_000,
    "claim_later_token_8500000": 75_000,
}


def measure() -> list[dict[str, object]]:
    """One result for each kind of transaction."""
    forge_test("--isolate", "--match-contract", "GasTest")
    gas = {name: int(value) for name, value in json.loads((CONTRACTS / "snapshots/GasTest.json").read_text()).items()}
    return [
        {
            "name": f"gas-{name}",
            "value": gas[name],
            "unit": "gas",
            "baseline": gas[BASELINE],
            "baseline_name": "a plain transfer of the token to an account that has none",
            "ratio": round(gas[name] / gas[BASELINE], 2),
            "goal": goal,
            "ok": gas[name] <= goal,
        }
        for name, goal in GOALS.items()
    ]


def main() -> int:
    """Measure, print the results."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    results = measure()
    for result in results:
        print(f"{result['name']}: {result['value']} (goal {result['goal']})")
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

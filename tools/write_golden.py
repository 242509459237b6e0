"""Write tests/golden anew, on purpose.

What is new is added. What has changed is refused without --changed: bytes that nodes have signed must stay readable,
so a changed record is a new version with a class of its own, beside the old one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.golden_cases import golden_bytes, schemas, store, stored
from tests.golden_epoch import golden_epoch
from tests.golden_storage import golden_storage


def main() -> int:
    """Write all files; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changed", action="store_true", help="also replace and remove what is there")
    allowed = parser.parse_args().changed
    code = 0
    for name, now in (
        ("bytes", golden_bytes()),
        ("schemas", schemas()),
        ("epoch", golden_epoch()),
        ("storage", golden_storage()),
    ):
        before = stored(name)
        differing = sorted(key for key in before if now.get(key) != before[key])
        if differing and not allowed:
            print(f"{name}: {', '.join(differing)} changed or gone. If that is meant, say --changed.", file=sys.stderr)
            code = 1
            continue
        store(name, now)
        print(f"{name}: {len(now)} entries, {len(now.keys() - before.keys())} of them new, {len(differing)} changed")
    return code


if __name__ == "__main__":
    sys.exit(main())

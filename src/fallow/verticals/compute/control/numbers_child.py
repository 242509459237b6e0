"""What compares results by their numbers, in a process of its own: they are strangers' bytes, and many.

Reads one line of JSON on stdin (`folders`, `rtol`, `atol`, `cpu_s`) and answers with the pairs of folders, by their
places, whose files are near each other. Standard library only.
"""

from __future__ import annotations

import json
import resource
import sys
from itertools import combinations
from pathlib import Path
from typing import Final

from fallow.verticals.compute.core.near import Margins, margins, near

_ADDRESS_SPACE: Final = 2 << 30


def main() -> None:
    """Answer one question."""
    asked = json.loads(sys.stdin.readline())
    for kind, bound in ((resource.RLIMIT_AS, _ADDRESS_SPACE), (resource.RLIMIT_CPU, asked["cpu_s"])):
        resource.setrlimit(kind, (bound, bound))
    margin = margins(asked["rtol"], asked["atol"])
    folders = [Path(folder) for folder in asked["folders"]]
    pairs = combinations(range(len(folders)), 2)
    found = [pair for pair in pairs if near_folders(folders[pair[0]], folders[pair[1]], margin)]
    sys.stdout.write(json.dumps(found))


def near_folders(one: Path, other: Path, margin: Margins) -> bool:
    """Whether two results have files of the same names, all of them near each other."""
    names = _names(one)
    return names == _names(other) and all(
        near(name, (one / name).read_bytes(), (other / name).read_bytes(), margin) for name in names
    )


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()

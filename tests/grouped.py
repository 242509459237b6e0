"""Which tests run on one worker: those of files that name the same `xdist_group`; all others wherever there is room.

What a group shares takes long to start, and is started once. The plugin's own `loadgroup` writes a group's name into
the ids of its tests, where pytest 9.2 no longer takes it from: each worker then started everything anew.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Final

from xdist.scheduler import LoadScopeScheduling

ROOT: Final = Path(__file__).parents[1]
NAMED: Final = re.compile(r'^pytestmark = .*xdist_group\("([^"]+)"\)', re.MULTILINE)


class GroupedScheduling(LoadScopeScheduling):
    """Sends the tests of a group to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0]) or nodeid


@functools.cache
def group_of(file: str) -> str:
    """The group that a file of tests names, or nothing."""
    found = NAMED.search((ROOT / file).read_text("utf-8"))
    return found[1] if found else ""

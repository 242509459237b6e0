"""Tests that share what takes long to start run on one worker."""

from __future__ import annotations

import re

from tests.grouped import ROOT, group_of


def test_each_group_that_a_file_names_is_found() -> None:
    """However it is written: one that is overlooked has each worker start all of it."""
    named = re.compile(r"mark\.xdist_group\(")
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if named.search(path.read_text("utf-8"))]
    assert files
    assert [path.name for path in files if not group_of(str(path.relative_to(ROOT)))] == []

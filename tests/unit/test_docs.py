"""What is generated is up to date, and what is said about the project can be found in it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", "docs/**/*.md", "src/**/*.md", "examples/**/*.md")


def test_the_configuration_page_is_what_the_settings_say() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "write_docs.py"))
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert page == tool["configuration"](), "run: make docs"


def test_links_between_pages_lead_somewhere() -> None:
    links = [
        (page, target)
        for pattern in PAGES
        for page in ROOT.glob(pattern)
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    ]
    assert [link for link in links if "://" not in link[1] and not (link[0].parent / link[1]).exists()] == []


def test_lock_files_hold_no_address() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock", "src/fallow/agent/requirements.lock"):
        assert "://" not in (ROOT / lock).read_text("utf-8")

"""What is generated is up to date, and what is said about the project can be found in it."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", "contracts/*.md", "docs/**/*.md", "src/**/*.md", "examples/**/*.md")


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


def test_lock_files_hold_no_address_and_a_hash_of_each_package() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock", "src/fallow/agent/requirements.lock"):
        text = (ROOT / lock).read_text("utf-8")
        assert "://" not in text
        pins = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
        assert pins
        assert [pin for pin in pins if "--hash=sha256:" not in pin] == []


def test_locks_of_npm_name_no_registry_and_a_hash_of_each_package() -> None:
    for lock in ("contracts/package-lock.json", "web/package-lock.json", "bench/npm/package-lock.json"):
        _, *packages = json.loads((ROOT / lock).read_text("utf-8"))["packages"].values()
        assert packages
        assert all("resolved" not in one and one["integrity"].startswith("sha512-") for one in packages)

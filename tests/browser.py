"""Chromium for tests, driven by Playwright. Pictures of what it shows are kept in build/console."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    BrowserType,
    ConsoleMessage,
    Page,
    Route,
    async_playwright,
    expect,
)

from tests.capability import CHROMIUM, require

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "build" / "console"
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
VIOLATIONS = "async rules => (await axe.run({ runOnly: rules, resultTypes: ['violations'] })).violations"
"""What passed is not told: to describe it takes twice as long as to find what does not."""
BOUND_MS = 120_000
"""For anything that takes a moment: the machine may be busy."""

PHONE = {"width": 390, "height": 844}
EACH_LOOK = pytest.mark.parametrize(
    ("look", "options"),
    [
        ("light", {"color_scheme": "light"}),
        ("dark-ja", {"color_scheme": "dark", "locale": "ja-JP"}),
        ("phone", {"viewport": PHONE, "has_touch": True}),
    ],
)
"""Of a test that a page can be used by everybody: what its pictures are called, and how its window is opened."""


class Chromium:
    """The browser of this machine: started when a window is first wanted, and anew if it has died since."""

    def __init__(self, kind: BrowserType) -> None:
        self._kind = kind
        self._started: Browser | None = None

    async def new_context(self, **options: Any) -> BrowserContext:
        """A window that shares nothing with any other: no cookie, nothing that was kept, no connection."""
        if self._started is None or not self._started.is_connected():
            flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # as root it starts in no other way
            self._started = await self._kind.launch(executable_path=shutil.which(CHROMIUM), args=flags)
        return await self._started.new_context(**options)

    async def close(self) -> None:
        """End it."""
        if self._started is not None:
            await self._started.close()


@asynccontextmanager
async def browser() -> AsyncIterator[Chromium]:
    """A browser for the event loop of whoever asks; skips the test where the machine has none."""
    require("chromium")
    async with async_playwright() as playwright:
        chromium = Chromium(playwright.chromium)
        try:
            yield chromium
        finally:
            await chromium.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running() -> AsyncIterator[Chromium]:
    """One browser for all tests that are marked `asyncio(loop_scope="session")`: to start it takes longer than most do.

    Fixtures that such a test awaits have that loop too.
    """
    async with browser() as chromium:
        yield chromium


@asynccontextmanager
async def tab(running: Chromium, url: str, *, others: tuple[str, ...] = (), **options: Any) -> AsyncIterator[Page]:
    """A window of its own. At its end nothing may have been complained about, and no host asked but `url`, `others`."""
    async with await running.new_context(base_url=url, **{"locale": "en-GB", **options}) as context:
        context.set_default_timeout(BOUND_MS)
        expect.set_options(timeout=BOUND_MS)
        page = await context.new_page()
        complaints: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if _is_complaint(said) else None)
        page.on("request", lambda request: asked.append(request.url))
        yield page
        assert complaints == []
        assert [each for each in asked if not each.startswith((url, *others))] == []


def _is_complaint(said: ConsoleMessage) -> bool:
    # A status that the page expects and shows is no fault of the page; nor is how slow a machine without a GPU draws.
    told = said.text.startswith("Failed to load resource") or "GL Driver Message (OpenGL, Performance" in said.text
    return said.type in {"error", "warning"} and not told


@asynccontextmanager
async def unanswered(page: Page, pattern: str) -> AsyncIterator[None]:
    """Let what a page asks for have no answer before the end of the context: then the network's.

    A page that asks anew by itself could else have its answer, and take its button away, just before that is pressed.
    """
    over = asyncio.Event()

    async def later(route: Route) -> None:
        await over.wait()
        await route.continue_()

    await page.route(pattern, later)
    try:
        yield
    finally:
        over.set()


async def picture(page: Page, name: str) -> None:
    """Keep what the page shows."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


async def barriers(page: Page) -> list[str]:
    """What axe-core finds that keeps people from using the page."""
    await page.evaluate(await asyncio.to_thread(axe))
    violations = await page.evaluate(VIOLATIONS, RULES)
    return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in violations for node in one["nodes"]]


@cache
def axe() -> str:
    """axe-core's script; it is installed where it is not yet."""
    require("npm")
    subprocess.run(["make", "--silent", "web/node_modules/.stamp"], cwd=ROOT, check=True)
    return AXE.read_text("utf-8")

"""Chromium for tests, driven by Playwright. Pictures of what it shows are kept in build/console."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.capability import CHROMIUM, require

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "build" / "console"
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
BOUND_MS = 120_000
"""For anything that takes a moment: the machine may be busy."""

PHONE = {"width": 390, "height": 844}


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser of this machine; skips the test where there is none."""
    require("chromium")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # as root it starts in no other way
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=shutil.which(CHROMIUM), args=flags)
        try:
            yield running
        finally:
            await running.close()


@asynccontextmanager
async def tab(running: Browser, url: str, *, others: tuple[str, ...] = (), **options: Any) -> AsyncIterator[Page]:
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


async def picture(page: Page, name: str) -> None:
    """Keep what the page shows."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


async def barriers(page: Page) -> list[str]:
    """What axe-core finds that keeps people from using the page."""
    await page.evaluate(AXE.read_text("utf-8"))
    found = await page.evaluate("rules => axe.run({ runOnly: rules })", RULES)
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]

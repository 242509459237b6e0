"""The browser that tests share: what goes wrong in a window of one test is felt in no other."""

from __future__ import annotations

import pytest
from playwright.async_api import Error

from tests.browser import Chromium, barriers, tab

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.asyncio(loop_scope="session")]

PAGE = "data:text/html,<h1>barn</h1>"


async def test_a_page_that_crashes_takes_no_other_with_it(running: Chromium) -> None:
    async with tab(running, "data:") as other:
        await other.goto(PAGE)
        async with tab(running, "data:") as page:
            with pytest.raises(Error):
                await page.goto("chrome://crash")
            with pytest.raises(Error, match="crashed"):
                await page.inner_text("h1")
        assert await other.inner_text("h1") == "barn"


async def test_what_keeps_people_from_a_page_is_found_in_each_place(running: Chromium) -> None:
    async with tab(running, "data:") as page:
        await page.goto("data:text/html,<html lang=en><title>barn</title><main><h1>barn</h1><img><img></main>")
        assert [told.partition(" ")[0] for told in await barriers(page)] == ["image-alt:", "image-alt:"]


async def test_a_browser_that_has_died_is_started_anew(running: Chromium) -> None:
    await running.close()
    async with tab(running, "data:") as page:
        await page.goto(PAGE)
        assert await page.inner_text("h1") == "barn"

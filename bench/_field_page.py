"""The map in a browser that draws in software: dragged at each zoom, its frames a second and the script in each."""

from __future__ import annotations

from typing import Final

from playwright.async_api import CDPSession, Page

from tests.browser import browser, tab

DRAG_S: Final = 4
ZOOMS: Final = 5
STEPS: Final = 8
GOAL_FRAMES: Final = 20.0
GOAL_SCRIPT_MS: Final = 8.0
COUNT = "window.frames_ = 0; const count = () => { window.frames_ += 1; requestAnimationFrame(count); }; count();"
DRAWN = "[data-drawn=yes] canvas"


async def measure(url: str) -> list[dict[str, object]]:
    """Drag it; prints what each zoom gave, and returns the worst."""
    async with browser() as running, tab(running, url) as page:
        await page.goto("/map")
        await page.locator(DRAWN).wait_for()
        await page.locator("[data-cells]:not([data-cells='0'])").wait_for()
        await page.evaluate(COUNT)
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable")
        found = []
        for _ in range(ZOOMS):
            found.append(await _dragged(page, session))
            await page.get_by_role("button", name="Nearer").click()
            await page.wait_for_load_state("networkidle")
    frames, script = min(one[0] for one in found), max(one[1] for one in found)
    return [
        _result(
            "explorer-frames", frames, "frames a second, software GL, map dragged", GOAL_FRAMES, frames >= GOAL_FRAMES
        ),
        _result("explorer-frame-script", script, "ms of script a frame", GOAL_SCRIPT_MS, script <= GOAL_SCRIPT_MS),
    ]


async def _dragged(page: Page, session: CDPSession) -> tuple[float, float]:
    cells = await page.locator("[data-cells]").get_attribute("data-cells")
    box = await page.locator(DRAWN).bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before, frames = await _told(session), await page.evaluate("window.frames_")
    await page.mouse.move(*middle)
    await page.mouse.down()
    moved = 0
    while (after := await _told(session))["Timestamp"] - before["Timestamp"] < DRAG_S:
        moved += 1
        await page.mouse.move(middle[0] + 8 * (moved % STEPS), middle[1] + 4 * (moved % STEPS))
    await page.mouse.up()
    count = await page.evaluate("window.frames_") - frames
    seconds = after["Timestamp"] - before["Timestamp"]
    script_ms = 1000 * (after["ScriptDuration"] - before["ScriptDuration"]) / count
    print(f"{cells} cells: {count / seconds:.0f} frames/s, {script_ms:.1f} ms of script a frame, {moved} moves")
    return count / seconds, script_ms


async def _told(session: CDPSession) -> dict[str, float]:
    told = await session.send("Performance.getMetrics")
    return {one["name"]: one["value"] for one in told["metrics"]}


def _result(name: str, value: float, unit: str, goal: float, ok: bool) -> dict[str, object]:
    shared = {"baseline": None, "baseline_name": None, "ratio": None}
    return {"name": name, "value": round(value, 1), "unit": unit, **shared, "goal": goal, "ok": ok}

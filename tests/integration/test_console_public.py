"""What everybody sees of a network: what happens, its kinds of infrastructure, who governs it, how to find things."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import expect

from fallow.bootstrap.http_server import serving
from fallow.domain.happenings import Happening, Happenings
from fallow.http.limits import Limits
from fallow.ports.happenings import show
from fallow.ports.rates import Rate
from tests.browser import barriers, browser, tab
from tests.integration.test_console import Explored
from tests.integration.test_console import _tools as _tools  # noqa: PLC0414 - the fixture that installs axe-core
from tests.unit.fake_network import FakeNetwork, fake_network

pytestmark = pytest.mark.xdist_group("console")

NODE = "5e" * 32


@pytest.fixture
async def explored() -> AsyncIterator[Explored]:
    """A network whose services answer what a test wants, over HTTP."""
    async with (
        fake_network(Limits(address=Rate(10_000.0, 100_000))) as network,
        serving(network.app, "127.0.0.1", 0) as port,
    ):
        yield Explored(network, f"http://127.0.0.1:{port}")


async def test_what_happens_is_on_the_overview_while_it_happens(explored: Explored) -> None:
    network, url = explored
    await tell(network, Happening(at=1_000, kind="node.joined", node=NODE))
    async with browser() as running, tab(running, url) as page:
        await page.goto("/")
        live = page.get_by_role("region", name="Live")
        await expect(live.get_by_text("as it happens")).to_be_visible()
        await expect(live.get_by_role("listitem")).to_contain_text([line("joined")])
        network.clock.advance(1_000)
        failed = Happening(at=2_000, kind="lease.ended", node=NODE, vertical="<b>x</b>", ok=False)
        await tell(network, failed, Happening(at=3_000, kind="epoch.closed", epoch=7), more=3)
        await expect(live.get_by_role("listitem")).to_contain_text(
            ["Epoch 7", line("ended a lease without a result <b>x</b>"), line("joined")]
        )
        await expect(live.get_by_text("3 more happened meanwhile.")).to_be_visible()
        await live.get_by_role("button", name="Pause").click()
        await expect(live.get_by_text("paused")).to_be_visible()
        assert await barriers(page) == []
        await live.get_by_role("button", name="Go on").click()
        await expect(live.get_by_text("as it happens")).to_be_visible()


async def tell(network: FakeNetwork, *happened: Happening, more: int = 0) -> None:
    """Say it as the network's services do."""
    await show(network.bus, Happenings(shown=list(happened), more=more))


def line(says: str) -> str:
    """How a line of the node reads."""
    return f"{NODE[:6]}…{NODE[-4:]} {says}"

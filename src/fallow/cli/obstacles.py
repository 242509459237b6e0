"""What keeps machines from an order, requirement by requirement."""

from __future__ import annotations

from collections.abc import Iterator

from fallow.cli.show import table
from fallow.cli.units import usd
from fallow.domain.matching import BUSY
from fallow.domain.orders import Order
from fallow.domain.resources import PRICE_MICROUSD_MAX
from fallow.domain.verification import NEW
from fallow.domain.views.jobs import QuoteView


def say_why_not(quote: QuoteView, order: Order) -> None:
    """Print how many machines each requirement turns away, and what it asks for; nothing where none does."""
    asked = dict(_asked(order))
    rows = [(name, asked.get(name, ""), count) for name, count in quote.why_not.items()]
    if rows:
        table(["REQUIREMENT", "ASKED FOR", ">MACHINES THAT IT TURNS AWAY"], rows, empty="")


def _asked(order: Order) -> Iterator[tuple[str, str]]:
    """What the order asks for, by the market's names of requirements."""
    needs = order.requirements
    yield "cpu", f"{needs.cpu_milli / 1000:g} cores"
    yield "memory", f"{needs.memory_mib} MiB"
    yield "disk", f"{needs.disk_mib} MiB"
    yield "gpu", f"{needs.gpus} graphics processors"
    yield "gpu_model", needs.gpu_model
    yield "vram", f"{needs.vram_mib} MiB each"
    yield "country", " or ".join(needs.countries)
    yield "near", f"at most {needs.within_km} km from {needs.near}"
    yield "not_allowed", f"one of {len(needs.nodes_allowed)} nodes"
    yield "denied", f"none of {len(needs.nodes_denied)} nodes"
    if order.max_price_microusd_per_hour < PRICE_MICROUSD_MAX:
        yield "price", f"at most {usd(order.max_price_microusd_per_hour)} an hour"
    if order.budget_microusd is not None:
        yield "budget", f"{usd(order.budget_microusd)} cover what is reserved at the start"
    for name, value in needs.attributes.items():
        yield f"attribute:{name}", value
    yield "offline", "online, and open to work"
    yield "suspended", "no wrong result lately"
    yield "banned", "not shut out by the operator"
    # New nodes are turned away only by what the order itself does not show: its secrets.
    yield "trust", "proven, since secrets came with it" if needs.trust_min == NEW else needs.trust_min
    yield "spot", "a spot price"
    yield BUSY, "free now"

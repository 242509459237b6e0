"""What nodes put up and what orders ask for in the benchmarks, drawn from a seed."""

from __future__ import annotations

import random

from fallow.domain.facts import OfferMade
from fallow.domain.orders import Order, Requirements
from fallow.domain.resources import Resources, Terms

COUNTRIES = ("DE", "FR", "JP", "NL", "US")
PYTHONS = ("3.11", "3.12", "3.13")


def offers(count: int, draw: random.Random) -> list[OfferMade]:
    """What the nodes put up: 2 to 16 cores, at 20 to 60 dollars a core and hour so that milliseconds cost something."""
    made = []
    for number in range(count):
        cores = draw.choice((2, 4, 4, 8, 8, 16))
        made.append(
            OfferMade(
                offer=number + 1,
                open=True,
                total=Resources(cpu_milli=1000 * cores, memory_mib=2048 * cores, disk_mib=10_240),
                terms=Terms(price_microusd_per_core_hour=draw.randrange(20_000_000, 60_000_000, 100_000)),
                attributes={"compute.python": draw.choice(PYTHONS), "compute.wasm": "wasi-p1"},
                country=draw.choice(COUNTRIES),
            )
        )
    return made


def orders(count: int, draw: random.Random) -> list[Order]:
    """Single jobs of a Python program, each with needs of its own."""
    return [one_order(draw) for _ in range(count)]


def one_order(draw: random.Random) -> Order:
    """One of them."""
    return Order(
        id=draw.randbytes(16).hex(),
        vertical="compute",
        work={
            "kind": "python",
            "bundle": draw.randbytes(32).hex(),
            "entry": "main.py",
            "python": draw.choice(PYTHONS),
        },
        requirements=Requirements(
            cpu_milli=draw.choice((500, 1000, 1000, 2000)),
            memory_mib=draw.choice((256, 512, 1024)),
            countries=draw.choice(([], ["DE", "FR", "NL"], ["JP", "US"])),
        ),
        max_price_microusd_per_hour=draw.choice((60_000_000, 120_000_000)),
        time_limit_s=draw.choice((60, 600)),
    )

"""What `/metrics` of a network that runs says, read as Prometheus does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import httpx2
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from fallow.domain.errors import Unavailable
from tests.network import BOUND, Net

Scraped = Mapping[str, list["Line"]]


class Line(NamedTuple):
    """One sample."""

    labels: Mapping[str, str]
    value: float


def secret(net: Net) -> str:
    return (net.data / "secrets" / "metrics.key").read_text().strip()


def names_of(family: Metric) -> Sequence[str]:
    """What the samples of a family may be called."""
    match family.type:
        case "counter":
            return [f"{family.name}_total"]
        case "histogram":
            return [f"{family.name}_bucket", f"{family.name}_count"]
        case _:
            return [family.name]


async def scrape(net: Net, *, samples: bool = True) -> Scraped:
    """Read it as Prometheus does: with the secret from its file. Without `samples` only names are read, all of them."""
    found: dict[str, list[Line]] = {}
    verify = str(net.running.ca) if net.running.ca else True
    try:
        async with httpx2.AsyncClient(verify=verify, timeout=BOUND) as client:
            answer = await client.get(f"{net.running.url}/metrics", headers={"Authorization": f"Bearer {secret(net)}"})
    except httpx2.TransportError as error:
        raise Unavailable("test.gateway", "The gateway is away.") from error
    assert answer.status_code == 200, answer.text
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        if not samples:
            found |= {name: [] for name in names_of(family)}
            continue
        for sample in family.samples:
            found.setdefault(sample.name, []).append(Line(sample.labels, sample.value))
    return found


def value(scraped: Scraped, name: str, **labels: str) -> float | None:
    """The one sample of this name with these labels, among others."""
    found = [line.value for line in scraped.get(name, ()) if labels.items() <= line.labels.items()]
    return found[0] if len(found) == 1 else None


def running(scraped: Scraped) -> dict[str, float]:
    """How many processes run each role."""
    return {line.labels["role"]: line.value for line in scraped["fallow_role_processes"]}

"""Numbers that a process tells of itself, by the names that Prometheus' users know them by.

A family's name ends with its unit; a counter's samples end with `_total` (prometheus.io/docs/practices/naming). Labels
take a few values that the code knows: nothing that a stranger names, no id and no address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

TOLD: Final = "metrics.told"
"""Subject on which each process of the network tells its `Told`, every `TELL_S` seconds."""

TELL_S: Final = 5.0
SAMPLES_MAX: Final = 7_000
"""Of one process, some 100 bytes each in a message of 1 MiB. A gateway has the most: a histogram for each route, method
and class of answers that came."""

Name = Annotated[str, Meta(pattern="^fallow_[a-z0-9_]{1,100}$(?!\n)")]
LabelName = Annotated[str, Meta(pattern="^[a-z_]{1,30}$(?!\n)")]
LabelValue = Annotated[str, Meta(max_length=100)]
Role = Annotated[str, Meta(pattern="^[a-z0-9-]{1,60}$(?!\n)")]
Kind = Literal["gauge", "counter", "histogram"]
Labels = dict[LabelName, LabelValue]


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One number."""

    name: Name
    labels: Annotated[Labels, Meta(max_length=6)]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """All samples of one name, with what they count or measure, as a sentence."""

    name: Name
    kind: Kind
    says: Annotated[str, Meta(max_length=300)]
    samples: Annotated[list[Sample], Meta(max_length=SAMPLES_MAX)]


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one process tells: its name, the roles that it runs, which process it is (random hex), and its numbers."""

    process: Role
    roles: Annotated[list[Role], Meta(max_length=20)]
    id: Annotated[str, Meta(pattern="^[0-9a-f]{16}$(?!\n)")]
    families: Annotated[list[Family], Meta(max_length=200)]


def gauge(name: str, says: str, value: float) -> Family:
    """Make a number that goes up and down."""
    return Family(name, "gauge", says, [Sample(name, {}, float(value))])


def gauge_if_known(name: str, says: str, value: float | None) -> Family:
    """Make one that has no sample where there is nothing to measure."""
    return gauge(name, says, value) if value is not None else Family(name, "gauge", says, [])


def gauges(name: str, says: str, label: str, values: Mapping[str, float]) -> Family:
    """Make one such number for each value of a label."""
    return Family(
        name, "gauge", says, [Sample(name, {label: each}, float(value)) for each, value in sorted(values.items())]
    )


def counter(name: str, says: str, value: float) -> Family:
    """Make a number that only grows while its process lives."""
    return Family(name, "counter", says, [Sample(f"{name}_total", {}, float(value))])


def counters(name: str, says: str, label: str, values: Mapping[str, float]) -> Family:
    """Make one such number for each value of a label."""
    samples = [Sample(f"{name}_total", {label: each}, float(value)) for each, value in sorted(values.items())]
    return Family(name, "counter", says, samples)


def histogram(name: str, says: str, bounds: Sequence[float], counts: Sequence[int]) -> Family:
    """Make a histogram of what was counted in classes up to each bound, and in a last one above them all."""
    below = list(accumulate(counts))
    edges = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    samples = [Sample(f"{name}_bucket", {"le": edge}, many) for edge, many in zip(edges, below, strict=True)]
    return Family(name, "histogram", says, [*samples, Sample(f"{name}_count", {}, below[-1])])


def bounded(families: Sequence[Family]) -> Iterator[Family]:
    """Return as many families as one message may hold, whole ones only."""
    room = SAMPLES_MAX
    for family in families:
        if len(family.samples) <= room:
            room -= len(family.samples)
            yield family

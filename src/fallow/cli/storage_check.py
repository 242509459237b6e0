"""`fallow storage check`: objects against segments, and what the network knows of pieces against what nodes have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.show import Json, clean, node_name, say, show_json, table, tell
from fallow.cli.units import when
from fallow.sdk.sync import Client
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.tariff import VERTICAL
from fallow.verticals.storage.core.upkeep import (
    INSPECTED_MAX,
    GetInspection,
    Inspect,
    InspectedNode,
    InspectedObjects,
    Inspection,
)

LOOK_S = 2.0


def check(
    *,
    repair: Annotated[
        bool,
        Parameter(
            negative="",
            help="Put pieces that no segment knows into their node's trash, which keeps them for 7 days, and take what"
            " segments name out of it.",
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Check all objects against segments, and all pieces: those that nodes should have, and have. For operators.

    It takes its time. The exit code is 1 where something is missing, or was not asked, or is known to nobody and stays.
    """
    with profiles.connect() as client:
        began = _ask(client, Inspect(account="", repair=repair))
        tell("All objects and segments are gone through, and all that nodes have; stopping here does not stop that.")
        nodes, last = _watch(client, began)
    if json:
        show_json({**_shown(last), "nodes": [_shown(node) for node in nodes]})
    else:
        columns = ["NODE", ">NAMED", ">MISSING", ">HERE", ">SPARE", ">STRAYS", ">TRASHED", "TROUBLE"]
        table(columns, map(_row, nodes), empty="No segment names a node, and no node is there.")
        for line in _lines(nodes, last):
            say(line)
    objects = last.objects or InspectedObjects()
    at_nodes = any(node.missing or node.trouble or node.strays > node.trashed for node in nodes)
    return int(at_nodes or bool(objects.other or objects.forgotten))


def _watch(client: Client, state: Inspection) -> tuple[list[InspectedNode], Inspection]:
    while state.state != "done":
        time.sleep(LOOK_S)
        state = _ask(client, GetInspection(account=""))
    nodes: list[InspectedNode] = []
    while True:
        page = _ask(client, GetInspection(account="", after=nodes[-1].alias if nodes else 0)).nodes
        nodes += page
        if len(page) < INSPECTED_MAX:
            return nodes, msgspec.structs.replace(state, nodes=[])


def _ask(client: Client, call: Call[Inspection]) -> Inspection:
    """Ask; the same check asked for twice is one check."""
    answer = client.ask_vertical(VERTICAL, call.name, msgspec.msgpack.encode(call), again=True, operator=True)
    return msgspec.msgpack.decode(answer, type=Inspection)


def _lines(nodes: list[InspectedNode], last: Inspection) -> Iterator[str]:
    yield f"{last.segments:,} segments were gone through, until {when(last.updated_ms)} UTC."
    yield "HERE counts pieces that have lain there for a day: spare ones and strays are looked for among these."
    if any(node.missing for node in nodes):
        yield "What is missing is repaired by itself once audits have found it, too. --json names the first segments."
    if any(node.strays > node.trashed for node in nodes):
        yield "Strays are known to no segment. To have them deleted a week from now: fallow storage check --repair"
    if last.objects is not None:
        yield from _of_objects(last.objects)


def _of_objects(found: InspectedObjects) -> Iterator[str]:
    yield f"{found.on_nodes:,} versions of objects have their bytes in segments, {found.other:,} have others there."
    for one in found.versions:
        where = f"bucket {clean(one.bucket)}" if one.bucket else "a bucket that is not there"
        yield f"  {where}: version {one.version.hex()} has {one.stored:,} of {one.size:,} bytes"
    if found.forgotten:
        yield f"{found.forgotten:,} segments are kept for objects that are not there: nobody reads or deletes them."
        yield f"  {', '.join(segment.hex() for segment in found.segments)}"
    if found.other or found.forgotten:
        yield (
            "Nothing of that is changed: the network makes no such rows by itself. What lacks bytes is whole in a"
            " backup from before (fallow backup ls)."
        )


def _row(node: InspectedNode) -> tuple[object, ...]:
    counts = node.named, node.missing, node.here, node.spare, node.strays, node.trashed
    return (node_name(node.node.hex()), *(f"{count:,}" for count in counts), clean(node.trouble))


def _shown(found: msgspec.Struct) -> dict[str, Any]:
    """As JSON has it: ids in hex."""
    return {name: _hex(value) for name, value in msgspec.structs.asdict(found).items()}


def _hex(value: object) -> object:
    if isinstance(value, list):
        return [_hex(each) for each in value]
    if isinstance(value, msgspec.Struct):
        return _shown(value)
    return value.hex() if isinstance(value, bytes) else value

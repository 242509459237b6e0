"""What gateways and operators ask of the network's side of storage, and buyers never can. Pure."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from fallow.domain.calls.base import Person
from fallow.domain.facts import NodeId
from fallow.domain.records import Count
from fallow.verticals.storage.core.calls.base import Call, ReplyT
from fallow.verticals.storage.core.calls.buckets import Bucket

BUCKETS_AT_ONCE: Final = 3
"""Each with all its settings, 256 KiB: four would not go over the bus in one answer."""
INSPECTED_MAX: Final = 200
SHOWN_MAX: Final = 20


class TakeDue(Call[list[Bucket]], frozen=True, kw_only=True):
    """Take buckets that have this setting, and that nobody took within `every_ms`: whose ever they are.

    Who takes them does what the setting asks for, alone; where he does not come to it, another takes them later.
    """

    name: ClassVar[str] = "bucket.due"
    reply: ClassVar[Any] = list[Bucket]
    setting: str
    every_ms: Annotated[int, Meta(ge=1)]
    limit: Annotated[int, Meta(ge=1, le=BUCKETS_AT_ONCE)] = BUCKETS_AT_ONCE


class OperatorCall(Call[ReplyT], frozen=True, kw_only=True):
    """What operators ask. `by` is who does, whatever the body says."""

    by: Person | None = None


class InspectedNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node has of what it should, and what it has besides.

    `named`: pieces that segments name there; `missing`: those of them that it does not have. `here`: pieces that it has
    had for a day; `spare`: those of a segment that does not name it (a repair may be about to); `strays`: those that no
    segment knows, `trashed` of them were put into its trash. `trouble`: why it could not be asked to the end. The first
    `segments` that miss a piece there, and `pieces` that are strays, are shown.
    """

    alias: int
    node: NodeId
    named: int = 0
    missing: int = 0
    here: int = 0
    spare: int = 0
    strays: int = 0
    trashed: int = 0
    trouble: str = ""
    segments: list[bytes] = []
    pieces: list[bytes] = []


class OtherBytes(msgspec.Struct, frozen=True, kw_only=True):
    """A version whose segments have other bytes (`stored`) than it has (`size`). No `bucket`: that is not there."""

    bucket: str
    version: bytes
    stream: bytes
    size: int
    stored: int


class InspectedObjects(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What versions have of the segments that they should, and what segments there are besides.

    `on_nodes`: versions whose bytes are in segments; `other`: those of them whose segments have other bytes.
    `forgotten`: segments that are kept for a version or an upload that is not there: nobody reads them, and nobody
    deletes them. The first of both are shown.
    """

    on_nodes: int = 0
    other: int = 0
    forgotten: int = 0
    versions: list[OtherBytes] = []
    segments: list[bytes] = []


class Inspection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A check of all pieces and objects. `segments`: how many were looked at so far; `nodes` is a page, by alias."""

    state: Literal["none", "asked", "running", "done"]
    repair: bool = False
    asked_ms: int = 0
    updated_ms: int = 0
    segments: int = 0
    objects: InspectedObjects | None = None
    nodes: list[InspectedNode] = []


class Inspect(OperatorCall[Inspection], frozen=True, kw_only=True):
    """Have all nodes that are there checked, unless that is being done.

    With `repair` strays go to the trash, and what is named comes out of it. Conflict: `storage.inspecting`: one of the
    other kind is under way; `storage.restored`: the database was restored less than seven days ago, and strays may be
    of what was stored behind that time.
    """

    name: ClassVar[str] = "inspect"
    reply: ClassVar[Any] = Inspection
    repair: bool = False


class GetInspection(OperatorCall[Inspection], frozen=True, kw_only=True):
    """How the last check goes, or went; nodes behind an alias, `INSPECTED_MAX` at a time."""

    name: ClassVar[str] = "inspect.get"
    reply: ClassVar[Any] = Inspection
    after: Count = 0


GATEWAY_CALLS: Final[tuple[type[Call[Any]], ...]] = (TakeDue,)
"""Served on the bus alone."""
OPERATOR_CALLS: Final[tuple[type[Call[Any]], ...]] = (Inspect, GetInspection)

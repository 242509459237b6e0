"""What an owner asks of his nodes that lend disks: how each stands, and what is wrong before it costs him. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from fallow.domain.facts import NodeId
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.exiting import ppm
from fallow.verticals.storage.core.questions import CLOCK, Note
from fallow.verticals.storage.core.reputation import DISQUALIFIED_BELOW, ONLINE_SUSPENDED_BELOW, UNKNOWN_SUSPENDED_BELOW
from fallow.verticals.storage.core.statements import Statement

LENDERS_MAX: Final = 100
WARNED_MS: Final = 7 * 86_400_000
"""A warning that nothing followed holds for so long."""
GRAVITY: Final = ("warning", "suspended", "disqualified")
_KIND_JA: Final = {"warning": "警告", "suspended": "一時停止", "disqualified": "失格"}
_LOST_JA: Final = "この機器の断片は失われたものとして扱われ、新しいデータは来ません。"
_JA: Final[dict[str, str]] = {
    "storage.audits_failed": "貸し出し中のディスクで断片の欠落または誤りが見つかりました。"
    f"監査スコアが {DISQUALIFIED_BELOW} を下回ると、保存中のものはすべて永久に失われたものとして扱われます。",
    "storage.audits_unknown": "貸し出し中のディスクの監査がエラーで終わっています。"
    f"スコアが {UNKNOWN_SUSPENDED_BELOW} を下回ると新しいデータは来ず、7 日続くと失われたものとして扱われます。",
    "storage.away": "貸し出し中のディスクの稼働率が下がっています。"
    f"直近 30 日で {ONLINE_SUSPENDED_BELOW:.0%} を下回ると新しいデータは来ません。",
    CLOCK: "ディスクを貸し出している機器の時計がネットワークの時計と 30 分以上ずれているため、新しいデータは来ません。"
    "1 時間以上ずれると読み出しもできなくなります。機器で時刻を合わせてください: timedatectl set-ntp true",
}


class LenderView(msgspec.Struct, frozen=True, kw_only=True):
    """A node that lends a disk of `limit_bytes`. `alerts` are what was found of it and holds now, with the evidence.

    Below `lost_below_ppm` of its audit score all that it keeps counts as lost; below `errors_below_ppm` of that of
    errors, or `there_below_ppm` of the time, nothing new comes.
    """

    node: NodeId
    limit_bytes: int
    seen_ms: int
    statement: Statement
    alerts: list[Note]
    lost_below_ppm: int = ppm(DISQUALIFIED_BELOW)
    errors_below_ppm: int = ppm(UNKNOWN_SUSPENDED_BELOW)
    there_below_ppm: int = ppm(ONLINE_SUSPENDED_BELOW)


class GetLenders(Call[list[LenderView]], frozen=True, kw_only=True):
    """Show an account's nodes that lend, by their keys, from behind `after` on."""

    name: ClassVar[str] = "lenders"
    reply: ClassVar[Any] = list[LenderView]
    after: Annotated[bytes, Meta(max_length=32)] = b""
    limit: Annotated[int, Meta(ge=1, le=LENDERS_MAX)] = LENDERS_MAX


PROVIDERS_CALLS: Final[tuple[type[Call[Any]], ...]] = (GetLenders,)


def holding(notes: Iterable[Note], now_ms: int) -> list[Note]:
    """The latest of each code, of notes in the order of time, that holds at `now_ms`."""
    latest = {note.code: note for note in notes}
    return [note for note in latest.values() if holds(note.kind, note.at_ms, now_ms)]


def said(note: Note) -> dict[str, str]:
    """What a note that holds says, in each language of alerts."""
    japanese = _LOST_JA if note.kind == "disqualified" else _JA[note.code]
    return {"en": f"{note.text} ({note.code})", "ja": f"{_KIND_JA[note.kind]}: {japanese} ({note.code})"}


def holds(kind: str, at_ms: int, now_ms: int) -> bool:
    """Whether what was found last by its code counts at `now_ms`."""
    if kind not in GRAVITY:
        return False
    return kind != "warning" or now_ms - at_ms < WARNED_MS

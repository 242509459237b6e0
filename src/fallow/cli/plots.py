"""Bar charts for people: as text for a terminal, as SVG for everything else.

Made by hand: a library would weigh more than all of the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, LABEL, GAP, ROW, HEAD = 960, 220, 20, 34, 76
BAR_HEIGHT = 12
WAS, THEN, INK, PALE = "#b8c2cc", "#7db5f5", "#1f2933", "#eef0f2"


class Bar(NamedTuple):
    """One quantity of one row: as it was, as it would be, and both as people read them."""

    was: int
    then: int
    was_text: str
    then_text: str


class Row(NamedTuple):
    """A label, and one bar a panel."""

    label: str
    bars: Sequence[Bar]


def text_bar(was: int, then: int, most: int, width: int) -> str:
    """What stays as `=`, what is gained as `+`, what is lost as `-`; as long as `width` for `most`."""
    same, longer = (width * value // most if most else 0 for value in sorted((was, then)))
    return "=" * same + ("+" if then > was else "-") * (longer - same)


def svg(title: str, caption: str, panels: Sequence[str], rows: Sequence[Row]) -> str:
    """Draw one pair of bars a row and panel, each panel by its own scale."""
    height = HEAD + ROW * len(rows) + GAP
    wide = (WIDTH - LABEL - GAP * len(panels)) // max(1, len(panels))
    most = [max((max(row.bars[at][:2]) for row in rows), default=0) for at in range(len(panels))]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f'<g font-family="system-ui, sans-serif" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(GAP, 22, title, size=16),
        _text(GAP, 42, caption),
    ]
    lefts = [LABEL + at * (wide + GAP) for at in range(len(panels))]
    parts += [_text(left, HEAD - 12, name, size=13) for left, name in zip(lefts, panels, strict=True)]
    for number, row in enumerate(rows):
        top = HEAD + ROW * number
        parts.append(_text(GAP, top + 16, row.label))
        for left, bar, scale in zip(lefts, row.bars, most, strict=True):
            parts += _pair(left, top, wide, bar, scale)
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _pair(left: int, top: int, wide: int, bar: Bar, most: int) -> list[str]:
    """As it was above, as it would be below; each with its number, which lies on a pale ground of the full width."""
    shown = []
    for at, (value, text, colour) in enumerate(((bar.was, bar.was_text, WAS), (bar.then, bar.then_text, THEN))):
        y = top + at * (BAR_HEIGHT + 2)
        length = wide * value // most if most else 0
        shown.append(f'<rect x="{left}" y="{y}" width="{wide}" height="{BAR_HEIGHT}" fill="{PALE}"/>')
        shown.append(f'<rect x="{left}" y="{y}" width="{length}" height="{BAR_HEIGHT}" fill="{colour}"/>')
        shown.append(_text(left + 4, y + BAR_HEIGHT - 2, text, size=10))
    return shown


def _text(x: int, y: int, text: str, *, size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}">{escape(text)}</text>'

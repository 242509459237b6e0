"""Small XML documents: written strictly, and read with bounds and without entities."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from xml.etree import ElementTree as ET
from xml.parsers import expat

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
INSTANCE: Final = "http://www.w3.org/2001/XMLSchema-instance"
_DEPTH_MAX: Final = 12
_ELEMENTS_MAX: Final = 50_000
"""The 10,000 parts of an upload are four each: around it, its number, its ETag, a checksum."""
_SPECIAL: Final = re.compile(r'[&<>"\x00-\x1f\x7f]')
_NAMES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class Node:
    """An element: text, or elements in their order. None as text leaves it out."""

    def __init__(self, name: str, text: str | int | bool | None = None, *inside: Node, **attributes: str) -> None:
        self.name = name
        self.text = _said(text)
        self.inside = inside
        self.attributes = attributes


def parent(name: str, inside: Iterable[Node], **attributes: str) -> Node:
    """An element of elements."""
    return Node(name, None, *inside, **attributes)


def document(name: str, *inside: Node, text: str | None = None, namespace: str = NAMESPACE) -> bytes:
    """Write a document with one element at its root."""
    written = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    _write(Node(name, text, *inside, **({"xmlns": namespace} if namespace else {})), written)
    return "".join(written).encode("utf-8", "replace")


def parse(data: bytes) -> ET.Element:
    """Read a document; names come without their namespaces.

    Raises:
        ValueError: not well-formed, with a document type or entities, too deep or too large.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator=" ")
    depth = count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > _DEPTH_MAX or count > _ELEMENTS_MAX:
            raise ValueError("too deep, or too many elements")
        builder.start(_local(name), {_local(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(name))

    def refuse(*_: object) -> None:
        raise ValueError("document types and entities are not read")

    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError) as error:  # LookupError: an encoding that there is not
        raise ValueError(str(error)) from error
    return builder.close()


def text_of(element: ET.Element, name: str, default: str = "") -> str:
    """The text of the first child of that name."""
    found = element.find(name)
    return default if found is None else found.text or ""


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _said(text: str | int | bool | None) -> str | None:
    if isinstance(text, bool):
        return "true" if text else "false"
    return text if text is None else str(text)


def _write(node: Node, written: list[str]) -> None:
    attributes = "".join(f' {name.replace("__", ":")}="{_escaped(value)}"' for name, value in node.attributes.items())
    written.append(f"<{node.name}{attributes}>")
    if node.text is not None:
        written.append(_escaped(node.text))
    for inside in node.inside:
        _write(inside, written)
    written.append(f"</{node.name}>")


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda found: _NAMES.get(found[0], f"&#{ord(found[0])};"), text)

"""Tags of buckets and objects: in headers, and in documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.xml import Node, parent, text_of

TAGS_MAX: Final = 10
BUCKET_TAGS_MAX: Final = 50
_KEY_MAX: Final = 128
_VALUE_MAX: Final = 256
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def tags_of_header(text: str) -> dict[str, str]:
    """Read a=b&c=d.

    Raises:
        S3Error: InvalidTag.
    """
    pairs = [_pair(part) for part in text.split("&", TAGS_MAX + 1) if part]
    return checked(pairs, TAGS_MAX)


def tags_of_document(root: ET.Element, most: int = TAGS_MAX) -> dict[str, str]:
    """Read a Tagging.

    Raises:
        S3Error: MalformedXML, InvalidTag.
    """
    tags = root.find("TagSet")
    if root.tag != "Tagging" or tags is None:
        raise S3Error("MalformedXML")
    if any(tag.find("Key") is None or tag.find("Value") is None for tag in tags):
        raise S3Error("MalformedXML")
    return checked(((text_of(tag, "Key"), text_of(tag, "Value")) for tag in tags), most)


def checked(pairs: Iterable[tuple[str, str]], most: int) -> dict[str, str]:
    """Check tags.

    Raises:
        S3Error: InvalidTag.
    """
    listed = list(pairs)
    tags = dict(listed)
    if len(listed) > most:
        raise S3Error("InvalidTag", f"There are at most {most} tags.")
    if len(tags) != len(listed):
        raise S3Error("InvalidTag", "Two tags have one key.")
    for key, value in listed:
        if not 0 < len(key) <= _KEY_MAX or len(value) > _VALUE_MAX or _CONTROL.search(key + value):
            raise S3Error("InvalidTag")
    return tags


def tags_node(tags: Mapping[str, str]) -> Node:
    """The TagSet of a document."""
    return parent(
        "TagSet", [Node("Tag", None, Node("Key", key), Node("Value", value)) for key, value in sorted(tags.items())]
    )


def _pair(part: str) -> tuple[str, str]:
    found = parse_qsl(part if "=" in part else f"{part}=", keep_blank_values=True)
    if len(found) != 1:
        raise S3Error("InvalidTag")
    return found[0]

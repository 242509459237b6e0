"""Lifecycle rules: what is to go by itself, and when. Kept here; `sweeping` carries them out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final
from xml.etree import ElementTree as ET

import msgspec
from msgspec import Meta

from fallow.verticals.storage.core.calls.accounts import LAST_DAY
from fallow.verticals.storage.core.kept import read_kept
from fallow.verticals.storage.core.tariff import DAY_MS
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.numbers import whole
from fallow.verticals.storage.gateway.tags import checked
from fallow.verticals.storage.gateway.times import iso, read_iso
from fallow.verticals.storage.gateway.xml import Node, text_of

LIFECYCLE: Final = "lifecycle"
"""The name of the rules' document in a bucket's settings."""
RULES_MAX: Final = 1000
LAST_MS: Final = LAST_DAY * DAY_MS
_ID_MAX: Final = 255
_FIRST_MS: Final = -62_135_596_800_000
"""The year 1: a date may be over for long."""
Days = Annotated[int, Meta(ge=0, lt=2**31)]
_ONLY: Final = ("Transition", "NoncurrentVersionTransition")


class LifecycleRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule, for objects whose name begins with `prefix`, with all these `tags`, and between these sizes.

    `days` after it was made, or at `at_ms`, the latest version goes (0: never so); `old_days` after it ceased to be the
    latest an older one goes, but for the newest `old_kept` of them; `parts_days` after its begin an upload is given up.
    `markers`: marks of deletion with nothing behind them go. `old_style`: as it was written.
    """

    id: str
    enabled: bool
    prefix: str = ""
    tags: dict[str, str] = {}
    larger: int | None = None
    smaller: int | None = None
    days: Days = 0
    at_ms: Annotated[int, Meta(ge=_FIRST_MS, le=LAST_MS)] = 0
    markers: bool = False
    old_days: Days = 0
    old_kept: Days = 0
    parts_days: Days = 0
    old_style: bool = False


_RULES: Final = msgspec.msgpack.Decoder(list[LifecycleRule])


def encode_lifecycle(rules: Sequence[LifecycleRule]) -> bytes:
    """As a bucket keeps them."""
    return msgspec.msgpack.encode(rules)


def decode_lifecycle(data: bytes) -> list[LifecycleRule]:
    """Read what a bucket keeps; none where `data` is empty. Raises what `read_kept` raises."""
    return read_kept(data, _RULES) if data else []


def lifecycle_of_document(root: ET.Element) -> list[LifecycleRule]:
    """Read a LifecycleConfiguration.

    Raises:
        S3Error: MalformedXML, InvalidArgument, NotImplemented (moves between storage classes: there is one).
    """
    elements = root.findall("Rule")
    if root.tag not in {"LifecycleConfiguration", "BucketLifecycleConfiguration"} or not 0 < len(elements) <= RULES_MAX:
        raise S3Error("MalformedXML")
    rules = [_rule(element, f"rule-{at}") for at, element in enumerate(elements, 1)]
    if len({rule.id for rule in rules}) != len(rules):
        raise S3Error("InvalidArgument", "Two rules have one ID.")
    return rules


def lifecycle_node(rule: LifecycleRule) -> Node:
    """The element of a rule."""
    nodes = [Node("ID", rule.id)]
    nodes.append(Node("Prefix", rule.prefix) if rule.old_style else _filter_node(rule))
    nodes.append(Node("Status", "Enabled" if rule.enabled else "Disabled"))
    if rule.days or rule.at_ms or rule.markers:
        when = [Node("Days", rule.days)] if rule.days else []
        when += [Node("Date", iso(rule.at_ms))] if rule.at_ms else []
        when += [Node("ExpiredObjectDeleteMarker", True)] if rule.markers else []
        nodes.append(Node("Expiration", None, *when))
    if rule.old_days:
        kept = [Node("NewerNoncurrentVersions", rule.old_kept)] if rule.old_kept else []
        nodes.append(Node("NoncurrentVersionExpiration", None, Node("NoncurrentDays", rule.old_days), *kept))
    if rule.parts_days:
        days = Node("DaysAfterInitiation", rule.parts_days)
        nodes.append(Node("AbortIncompleteMultipartUpload", None, days))
    return Node("Rule", None, *nodes)


def _filter_node(rule: LifecycleRule) -> Node:
    nodes = [Node("Prefix", rule.prefix)] if rule.prefix else []
    nodes += [Node("Tag", None, Node("Key", key), Node("Value", value)) for key, value in rule.tags.items()]
    nodes += [] if rule.larger is None else [Node("ObjectSizeGreaterThan", rule.larger)]
    nodes += [] if rule.smaller is None else [Node("ObjectSizeLessThan", rule.smaller)]
    if len(nodes) > 1:
        return Node("Filter", None, Node("And", None, *nodes))
    return Node("Filter", None, *(nodes or [Node("Prefix", "")]))


def _rule(element: ET.Element, default_id: str) -> LifecycleRule:
    if any(element.find(name) is not None for name in _ONLY):
        raise S3Error("NotImplemented", "There is one storage class; objects do not move to others.")
    status, rule_id = text_of(element, "Status"), text_of(element, "ID") or default_id
    if status not in {"Enabled", "Disabled"}:
        raise S3Error("MalformedXML")
    if len(rule_id) > _ID_MAX:
        raise S3Error("InvalidArgument", f"A rule's ID has at most {_ID_MAX} characters.")
    chosen = element.find("Filter")
    if (chosen is None) == (element.find("Prefix") is None):
        raise S3Error("MalformedXML")
    inside = element if chosen is None else chosen.find("And")
    inside = chosen if inside is None else inside
    if inside is None:
        raise S3Error("MalformedXML")
    tags = [] if chosen is None else [(text_of(tag, "Key"), text_of(tag, "Value")) for tag in inside.findall("Tag")]
    rule = LifecycleRule(
        id=rule_id,
        enabled=status == "Enabled",
        prefix=text_of(inside, "Prefix"),
        tags=checked(tags, len(tags)),
        larger=_size(inside, "ObjectSizeGreaterThan"),
        smaller=_size(inside, "ObjectSizeLessThan"),
        days=_days(element, "Expiration/Days"),
        at_ms=_date(element),
        markers=text_of(element, "Expiration/ExpiredObjectDeleteMarker") == "true",
        old_days=_days(element, "NoncurrentVersionExpiration/NoncurrentDays"),
        old_kept=_days(element, "NoncurrentVersionExpiration/NewerNoncurrentVersions"),
        parts_days=_days(element, "AbortIncompleteMultipartUpload/DaysAfterInitiation"),
        old_style=chosen is None,
    )
    if sum(map(bool, (rule.days, rule.at_ms, rule.markers))) > 1:
        raise S3Error("MalformedXML")
    if element.find("NoncurrentVersionExpiration") is not None and not rule.old_days:
        raise S3Error("MalformedXML")
    if rule.tags and (rule.markers or rule.parts_days):
        raise S3Error("InvalidRequest", "A rule for marks of deletion, or for uploads in parts, asks for no tags.")
    if not (rule.days or rule.at_ms or rule.markers or rule.old_days or rule.parts_days):
        raise S3Error("InvalidArgument", "A rule must say what goes.")
    return rule


def _days(element: ET.Element, path: str) -> int:
    if element.find(path) is None:
        return 0
    days = whole(text_of(element, path))
    if days is None or not 0 < days < 2**31:
        raise S3Error("InvalidArgument", "A number of days is a positive one.")
    return days


def _size(element: ET.Element, name: str) -> int | None:
    if element.find(name) is None:
        return None
    size = whole(text_of(element, name))
    if size is None:
        raise S3Error("MalformedXML")
    return size


def _date(element: ET.Element) -> int:
    text = text_of(element, "Expiration/Date")
    if not text:
        return 0
    try:
        at_ms = read_iso(text)
    except ValueError as error:
        raise S3Error("MalformedXML") from error
    if at_ms % DAY_MS:
        raise S3Error("InvalidArgument", "A date is at midnight UTC.")
    return at_ms

"""Cross-origin rules: as buckets keep them, and what they let browsers do. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final
from xml.etree import ElementTree as ET

import msgspec
from msgspec import Meta

from fallow.verticals.storage.core.kept import read_kept
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.numbers import whole
from fallow.verticals.storage.gateway.xml import Node, text_of

RULES_MAX: Final = 100
EACH_MAX: Final = 100
"""How many origins, methods or headers a rule names, and a question: rules are looked through while others wait."""
LOOKS_MAX: Final = 100_000
"""Headers asked for times those that rules name: some 20 ms, and whoever asks need not sign."""

Each = Annotated[list[str], Meta(max_length=EACH_MAX)]
METHODS: Final = frozenset({"GET", "PUT", "POST", "DELETE", "HEAD"})


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule. Origins and headers may hold one star each."""

    origins: Each
    methods: Each
    headers: Each = []
    exposed: Each = []
    max_age_s: int | None = None
    id: str = ""

    def answers(self, origin: str, method: str, asked: Sequence[str]) -> dict[str, str] | None:
        """The headers for a browser; None: the rule does not speak of that."""
        if method not in self.methods or not any(_fits(origin, one) for one in self.origins):
            return None
        named = [one.lower() for one in self.headers]
        if len(asked) > EACH_MAX or not all(any(_fits(name.lower(), one) for one in named) for name in asked):
            return None
        everybody = "*" in self.origins
        said = {
            "access-control-allow-origin": "*" if everybody else origin,
            "access-control-allow-methods": ", ".join(self.methods),
            "vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
        }
        said |= {} if everybody else {"access-control-allow-credentials": "true"}
        said |= {"access-control-allow-headers": ", ".join(asked).lower()} if asked else {}
        said |= {"access-control-expose-headers": ", ".join(self.exposed)} if self.exposed else {}
        return said | ({} if self.max_age_s is None else {"access-control-max-age": str(self.max_age_s)})


_RULES: Final = msgspec.msgpack.Decoder(Annotated[list[Rule], Meta(max_length=RULES_MAX)])


def encode_rules(rules: Sequence[Rule]) -> bytes:
    """As a bucket keeps them."""
    return msgspec.msgpack.encode(rules)


def decode_rules(data: bytes) -> list[Rule]:
    """Read what a bucket keeps; none where `data` is empty. Raises what `read_kept` raises."""
    return read_kept(data, _RULES) if data else []


def first_answer(rules: Sequence[Rule], origin: str, method: str, asked: Sequence[str]) -> dict[str, str] | None:
    """What the first rule that speaks of it says; None: none does, or it would take too long to look."""
    if len(asked) * sum(len(rule.headers) for rule in rules) > LOOKS_MAX:
        return None
    return next((said for rule in rules if (said := rule.answers(origin, method, asked)) is not None), None)


def rules_of_document(root: ET.Element) -> list[Rule]:
    """Read a CORSConfiguration.

    Raises:
        S3Error: MalformedXML, InvalidRequest.
    """
    elements = root.findall("CORSRule")
    if root.tag != "CORSConfiguration" or not 0 < len(elements) <= RULES_MAX:
        raise S3Error("MalformedXML")
    return [_rule(element) for element in elements]


def rule_node(rule: Rule) -> Node:
    """The element of a rule."""
    nodes = [Node("ID", rule.id)] if rule.id else []
    nodes += [Node("AllowedMethod", method) for method in rule.methods]
    nodes += [Node("AllowedOrigin", origin) for origin in rule.origins]
    nodes += [Node("AllowedHeader", header) for header in rule.headers]
    nodes += [Node("ExposeHeader", header) for header in rule.exposed]
    nodes += [] if rule.max_age_s is None else [Node("MaxAgeSeconds", rule.max_age_s)]
    return Node("CORSRule", None, *nodes)


def _rule(element: ET.Element) -> Rule:
    text = text_of(element, "MaxAgeSeconds")
    age = whole(text)
    rule = Rule(
        origins=_texts(element, "AllowedOrigin"),
        methods=_texts(element, "AllowedMethod"),
        headers=_texts(element, "AllowedHeader"),
        exposed=_texts(element, "ExposeHeader"),
        max_age_s=age,
        id=text_of(element, "ID"),
    )
    if not rule.origins or not rule.methods or (text and age is None):
        raise S3Error("MalformedXML")
    if max(map(len, (rule.origins, rule.methods, rule.headers, rule.exposed))) > EACH_MAX:
        raise S3Error("InvalidRequest", f"A rule has at most {EACH_MAX} of each.")
    if not set(rule.methods) <= METHODS:
        raise S3Error("InvalidRequest", "An allowed method is GET, PUT, POST, DELETE or HEAD.")
    if any(one.count("*") > 1 for one in (*rule.origins, *rule.headers)):
        raise S3Error("InvalidRequest", "An origin or header holds one star at most.")
    return rule


def _texts(element: ET.Element, name: str) -> list[str]:
    return [found.text or "" for found in element.findall(name)]


def _fits(text: str, pattern: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return text == pattern
    return len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)

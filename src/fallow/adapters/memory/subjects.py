"""The grammar of subjects and the search for who listens, the same for every adapter of the bus."""

from __future__ import annotations

import re
from typing import Generic, TypeVar

from fallow.domain.errors import InvalidInput

SUBJECT_LENGTH_MAX = 255
"""Characters. A subject is an address, not a place for data."""

# Printable ASCII without the space: a line break in a subject would be a command to the server.
_TOKEN = re.compile(r"[!-~]+")

T = TypeVar("T")


def check_subject(subject: str) -> None:
    """Check a subject that is sent to.

    Raises:
        InvalidInput: it is empty, too long, has an empty token, a wildcard, or a character that is not allowed.
    """
    _check(subject, wildcards=False)


def check_pattern(pattern: str) -> None:
    """Check a subject that is listened to; `*` and a trailing `>` are allowed as whole tokens.

    Raises:
        InvalidInput: as for `check_subject`, or a wildcard is in the wrong place.
    """
    _check(pattern, wildcards=True)


def _check(subject: str, *, wildcards: bool) -> None:
    tokens = subject.split(".")
    last = len(tokens) - 1
    fits = len(subject) <= SUBJECT_LENGTH_MAX
    if not fits or not all(_token_ok(token, wildcards, at == last) for at, token in enumerate(tokens)):
        raise InvalidInput("bus.subject", f"{subject[:SUBJECT_LENGTH_MAX]!r} is not a subject.")


def _token_ok(token: str, wildcards: bool, is_last: bool) -> bool:
    if token in {"*", ">"}:
        return wildcards and (is_last or token == "*")  # noqa: S105 - a token of a subject, not a secret
    return _TOKEN.fullmatch(token) is not None and "*" not in token and ">" not in token


class _Node(Generic[T]):
    """What is known of the patterns that begin with the tokens on the way here."""

    __slots__ = ("children", "listeners")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.listeners: list[T] = []


class Matcher(Generic[T]):
    """Who listens to what: finds the listeners of a subject in time proportional to its tokens."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, pattern: str, listener: T) -> None:
        """Add one listener under a checked pattern."""
        node = self._root
        for token in pattern.split("."):
            node = node.children.setdefault(token, _Node())
        node.listeners.append(listener)

    def remove(self, pattern: str, listener: T) -> None:
        """Take one listener out again; ValueError or KeyError if it is not there."""
        path = [self._root]
        tokens = pattern.split(".")
        for token in tokens:
            path.append(path[-1].children[token])
        path[-1].listeners.remove(listener)
        # Nodes that nobody needs any more go too, or a long life would collect them.
        for parent, token, node in reversed(list(zip(path, tokens, path[1:], strict=False))):
            if not node.listeners and not node.children:
                del parent.children[token]

    def find(self, subject: str) -> list[T]:
        """Everybody who listens to this subject; a listener appears once per pattern that it is under."""
        found: list[T] = []
        nodes = [self._root]
        for token in subject.split("."):
            found += [each for node in nodes if (rest := node.children.get(">")) for each in rest.listeners]
            nodes = [child for node in nodes for key in (token, "*") if (child := node.children.get(key))]
        return found + [each for node in nodes for each in node.listeners]

"""Nodes by the beginning of their ids, as tables show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fallow.domain.errors import InvalidInput

ADDRESS_CHARACTERS = 42
NODE_CHARACTERS = 64
NODE_CHARACTERS_MIN = 6


def full_names(texts: Sequence[str], nodes: Callable[[], Iterable[str]], *, lists: str) -> list[str]:
    """Complete what names nodes; an account's address stays as it is. `nodes` is asked once, and only if it has to be.

    Raises:
        InvalidInput: no node, or more than one, begins so; the hint names the command that `lists` them.
    """
    whole = {len(text) in {ADDRESS_CHARACTERS, NODE_CHARACTERS} for text in texts}
    known = list(nodes()) if False in whole else []
    return [_full_name(text.lower(), known, lists) for text in texts]


def _full_name(text: str, known: Sequence[str], lists: str) -> str:
    if len(text) in {ADDRESS_CHARACTERS, NODE_CHARACTERS}:
        return text
    found = [node for node in known if node.startswith(text)]
    if len(text) < NODE_CHARACTERS_MIN or len(found) != 1:
        raise InvalidInput(
            "node.which",
            _why(text, len(found)),
            f"Give at least {NODE_CHARACTERS_MIN} digits of one node's id, or an account's address: {lists}",
        )
    return found[0]


def _why(text: str, found: int) -> str:
    if len(text) < NODE_CHARACTERS_MIN:
        return f"{text!r} is too short for the beginning of a node's id."
    return f"{found} nodes' ids begin with {text!r}." if found else f"No node's id begins with {text!r}."

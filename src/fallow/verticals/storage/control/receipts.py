"""Whether what clients bring shows that a segment is stored. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fallow.domain.encoding import decode
from fallow.domain.errors import Conflict, FallowError, InvalidInput
from fallow.verticals.storage.control.choosing import enough_of
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.core.layout import Layout
from fallow.verticals.storage.core.orders import PieceReceipt
from fallow.verticals.storage.core.profiles import Profile


class Stored(NamedTuple):
    """A segment of `payload` bytes that is to be stored, and the aliases of the `nodes` (by key) that it may be on."""

    net: str
    segment: bytes
    payload: int
    profile: Profile
    nodes: Mapping[bytes, int]


def check_receipts(stored: Stored, receipts: Mapping[int, bytes], secrets: Secrets) -> list[int]:
    """Return the aliases of the nodes that have the pieces, by number; 0 where there is none.

    Raises:
        InvalidInput: `storage.receipts`: one does not hold, or two are from one node.
        Conflict: `storage.too_few_pieces`.
    """
    found = [0] * stored.profile.pieces
    for number, sealed in receipts.items():
        if not 0 <= number < stored.profile.pieces:
            raise _wrong(number, "there is no such piece")
        alias = _holder(stored, number, sealed, secrets)
        if alias in found:
            raise _wrong(number, "its node has another piece already")
        found[number] = alias
    enough = enough_of(stored.profile)
    if len(receipts) < enough:
        raise Conflict(
            "storage.too_few_pieces",
            f"{len(receipts)} pieces are stored; {enough} are needed.",
            "Bring the others to further places (segment.more).",
        )
    return found


def _holder(stored: Stored, number: int, sealed: bytes, secrets: Secrets) -> int:
    try:
        node = _said_node(sealed)
        receipt = PieceReceipt.open(sealed, node)
    except FallowError as error:
        raise _wrong(number, error.message) from error
    if node not in stored.nodes:
        raise _wrong(number, "its node was not asked to take a piece")
    if receipt.net != stored.net or receipt.piece != secrets.piece(stored.segment, node):
        raise _wrong(number, "it is for another piece")
    if receipt.length != Layout(stored.payload, stored.profile.needed).piece_bytes:
        raise _wrong(number, f"the piece has not {receipt.length} bytes")
    return stored.nodes[node]


def _said_node(sealed: bytes) -> bytes:
    """Whose receipt it says it is; with this key it is opened."""
    try:
        node = decode(decode(sealed)[0])["node"]
    except (TypeError, LookupError) as error:
        raise InvalidInput("signing.malformed", "This is no receipt.") from error
    return node if isinstance(node, bytes) else b""


def _wrong(number: int, why: str) -> InvalidInput:
    return InvalidInput("storage.receipts", f"The receipt of piece {number} does not hold: {why}.")

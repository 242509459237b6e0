"""What a node may read and write, by the ticket that the network signed for its lease."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import OrderedDict

from fallow.domain.errors import FallowError, NotAllowed
from fallow.domain.tickets import Ticket, proven
from fallow.ports.clock import Clock

CACHED_TICKETS_MAX = 4096
HEADER_CHARACTERS_MAX = 64 << 10


class Tickets:
    """Checks sealed tickets and their proofs; remembers those whose signatures were good."""

    def __init__(self, public_key: bytes, net: str, clock: Clock) -> None:
        self._public_key = public_key
        self._net = net
        self._clock = clock
        self._known: OrderedDict[bytes, Ticket] = OrderedDict()

    def check(self, ticket: str, proof: str) -> Ticket:
        """Open the headers `Fallow-Ticket` and `Fallow-Proof`, both base64url.

        Raises:
            NotAllowed: `ticket.malformed`, `ticket.signature`, `ticket.proof`, `ticket.net` or `ticket.expired`.
        """
        sealed, signature = _unwrap(ticket), _unwrap(proof)
        digest = hashlib.sha256(hashlib.sha256(sealed).digest() + signature).digest()
        opened = self._known.get(digest) or self._remember(digest, self._open(sealed, signature))
        if opened.expires_at <= self._clock.now_ms():
            raise NotAllowed("ticket.expired", "The ticket has expired.", "Its lease has ended.")
        return opened

    def _open(self, sealed: bytes, proof: bytes) -> Ticket:
        try:
            opened = Ticket.open(sealed, self._public_key)
        except NotAllowed as error:
            raise NotAllowed("ticket.signature", "The ticket is not signed by this network.") from error
        except FallowError as error:
            raise NotAllowed("ticket.malformed", "This is no ticket.") from error
        if opened.net != self._net:
            raise NotAllowed("ticket.net", "The ticket is of another network.")
        if not proven(sealed, opened.node, proof):
            raise NotAllowed("ticket.proof", "The proof is not by the node that the ticket was made for.")
        return opened

    def _remember(self, digest: bytes, ticket: Ticket) -> Ticket:
        self._known[digest] = ticket
        if len(self._known) > CACHED_TICKETS_MAX:
            self._known.popitem(last=False)
        return ticket


def _unwrap(text: str) -> bytes:
    malformed = NotAllowed("ticket.malformed", "A ticket and its proof are sent as base64url.")
    if len(text) > HEADER_CHARACTERS_MAX:
        raise malformed
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise malformed from error

"""Who signs a request: API keys, as the registry knows them."""

from __future__ import annotations

import re
from typing import Final

from fallow.domain import calls
from fallow.domain.errors import InvalidInput, NotAllowed, NotFound
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.remembered import Remembered
from fallow.ports.rpc import call

CACHED_MAX: Final = 4096
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""What is none cannot be a key's, and may hold what no database takes: nobody is asked for it."""


class SigningSecrets:
    """Asks the registry for what a key's holder signs with. Unknown keys are asked for each time, and count nothing."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._known = Remembered[str, calls.keys.SigningSecret](clock, CACHED_MAX)

    async def find(self, key_id: str) -> calls.keys.SigningSecret | None:
        """Return whose key it is and its secret; None where there is no such key, or it is not valid any more.

        Raises:
            NotAllowed: its account is banned (`account.banned`).
            Unavailable: the registry does not answer.
        """
        if not _KEY_ID.fullmatch(key_id):
            return None
        asked = calls.keys.KeyRef(key_id=key_id)
        try:
            return await self._known.ask(
                key_id, lambda: call(self._bus, calls.keys.SIGNING_SECRET, asked, calls.keys.SigningSecret)
            )
        except (NotAllowed, NotFound, InvalidInput) as error:
            if error.code == "account.banned":
                raise
            return None

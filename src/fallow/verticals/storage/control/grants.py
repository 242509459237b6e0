"""Calls of those who show a grant: the one place where they are admitted, and where grants are revoked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from fallow.domain import calls
from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput, NotAllowed, TooMuch
from fallow.domain.grants import check_chain, read_credential, refused, root_key
from fallow.domain.identity import address
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.signing_secrets import SigningSecrets
from fallow.verticals.storage.core.calls import CALLS
from fallow.verticals.storage.core.calls.accounts import RevokeGrant
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.grants import admit, read_caveats

BUY: Final = "buy"
SHOWN_SETTINGS: Final = frozenset({"sealed"})
"""Of a bucket's: the others say whom its owner lets in."""
REVOKED_MAX: Final = 10_000
"""Of an account: nobody pays for them, and they stay."""

_REVOKE: Final = """
INSERT INTO storage.revoked_grant (account, id, revoked_ms)
SELECT $1, $2, $3 WHERE (SELECT count(*) FROM storage.revoked_grant WHERE account = $1) < $4
ON CONFLICT DO NOTHING
"""
_REVOKED: Final = "SELECT FROM storage.revoked_grant WHERE account = $1 AND id = ANY($2) LIMIT 1"
_KINDS: Final[Mapping[str, type[Call[Any]]]] = {call.name: call for call in CALLS}

Do = Callable[[Call[Any]], Awaitable[Any]]
"""Does a call, in the name of the account that it names."""


class Grants:
    """Checks grants, and does what they allow. `do` is trusted with whatever it is given."""

    def __init__(self, secrets: SigningSecrets, clock: Clock, database: Database, do: Do) -> None:
        self._secrets = secrets
        self._clock = clock
        self._database = database
        self._do = do

    async def ask(self, asked: calls.verticals.Granted) -> Any:  # noqa: ANN401 - whatever the call is answered with
        """Do a call for whoever shows a grant, and in its owner's name. All that is not allowed is refused before.

        Raises:
            NotAllowed: `auth.grant`: forged, damaged, or its API key ended; `auth.revoked`; and as `admit`.
            InvalidInput: `storage.malformed`: it is no such call.
            FallowError: as the call.
        """
        credential = read_credential(asked.grant)
        signing = await self._secrets.find(credential.key_id)
        if signing is None:
            raise refused()
        ids = check_chain(root_key(signing.secret), credential)
        if BUY not in signing.info.scopes:
            raise NotAllowed("scope.missing", "The API key that this grant stands on may not buy.")
        await self._check_revoked(signing.info.account, ids)
        call = admit(_read(asked), read_caveats(credential.caveats), self._clock.now_ms())
        return _shown(await self._do(msgspec.structs.replace(call, account=signing.info.account, by_grant=ids[0])))

    async def revoke(self, call: RevokeGrant) -> None:
        """See the call."""
        async with self._database.transaction() as tx:
            owner = address(call.account)
            await tx.execute(_REVOKE, owner, call.grant, self._clock.now_ms(), REVOKED_MAX)
            if not await tx.fetch(_REVOKED, owner, [call.grant]):
                hint = "End the API key that they stand on, and with it all its grants: fallow account"
                raise TooMuch("storage.revoked", f"{REVOKED_MAX} grants are revoked already.", hint)

    async def _check_revoked(self, account: str, ids: Sequence[bytes]) -> None:
        async with self._database.transaction() as tx:
            if await tx.fetch(_REVOKED, address(account), list(ids)):
                raise NotAllowed("auth.revoked", "This grant was revoked.", "Ask who gave it to you for another one.")


def _read(asked: calls.verticals.Granted) -> Call[Any]:
    kind = _KINDS.get(asked.call)
    if kind is None:
        raise InvalidInput("storage.malformed", f"There is no call {asked.call!r}.")
    try:
        call: Call[Any] = msgspec.msgpack.decode(asked.body, type=kind)
    except UNREADABLE as error:
        raise InvalidInput("storage.malformed", f"The body is no {asked.call}: {error}.") from error
    return call


def _shown(answer: Any) -> Any:  # noqa: ANN401 - whatever it is
    if not isinstance(answer, Bucket):
        return answer
    settings = {name: document for name, document in answer.settings.items() if name in SHOWN_SETTINGS}
    return msgspec.structs.replace(answer, settings=settings)

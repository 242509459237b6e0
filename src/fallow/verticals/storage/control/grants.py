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
from fallow.ports.database import Database, Transaction
from fallow.ports.signing_secrets import SigningSecrets
from fallow.verticals.storage.client.seals import is_own_seal
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
_SEAL: Final = """
SELECT s.document FROM storage.bucket b LEFT JOIN storage.setting s ON s.bucket_id = b.id AND s.name = 'sealed'
WHERE b.account = $1 AND b.name = $2
"""
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

        Whoever signs S3 requests with the API key could make grants, and nothing of a bucket's policy would bind him:
        so there are none for buckets that policies are for.

        Raises:
            NotAllowed: `auth.grant`: forged, damaged, or its API key ended; `auth.revoked`;
                `storage.hosted_bucket`; and as `admit`.
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
        owner = address(signing.info.account)
        async with self._database.transaction() as tx:
            await _check_revoked(tx, owner, ids)
            call = admit(_read(asked), read_caveats(credential.caveats), self._clock.now_ms())
            await _check_own(tx, owner, getattr(call, "bucket", ""))
        return _shown(await self._do(msgspec.structs.replace(call, account=signing.info.account, by_grant=ids[0])))

    async def revoke(self, call: RevokeGrant) -> None:
        """See the call."""
        async with self._database.transaction() as tx:
            owner = address(call.account)
            await tx.execute(_REVOKE, owner, call.grant, self._clock.now_ms(), REVOKED_MAX)
            if not await tx.fetch(_REVOKED, owner, [call.grant]):
                hint = "End the API key that they stand on, and with it all its grants: fallow account"
                raise TooMuch("storage.revoked", f"{REVOKED_MAX} grants are revoked already.", hint)


async def _check_revoked(tx: Transaction, owner: bytes, ids: Sequence[bytes]) -> None:
    if await tx.fetch(_REVOKED, owner, list(ids)):
        raise NotAllowed("auth.revoked", "This grant was revoked.", "Ask who gave it to you for another one.")


async def _check_own(tx: Transaction, owner: bytes, bucket: str) -> None:
    """Refuse buckets that a hosted gateway seals; one that is not there, the call itself is refused for."""
    rows = await tx.fetch(_SEAL, owner, bucket)
    if rows and not is_own_seal(rows[0]["document"], bucket):
        why = f"The bucket {bucket} is sealed by the network's S3 gateway: there are no grants for it."
        raise NotAllowed("storage.hosted_bucket", why, "Its owner lets others in by a policy, or by links.")


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

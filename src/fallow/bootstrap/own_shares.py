"""Grants as programs make them: of one's own buckets, or narrower ones of a grant."""

from __future__ import annotations

import secrets
from typing import NamedTuple

import msgspec

from fallow.domain.errors import NotAllowed
from fallow.domain.pins import der_of
from fallow.sdk.client import AsyncClient
from fallow.sdk.profile import Profile
from fallow.verticals.storage.client.granting import Grant, Home, Limits, Signing, narrowed, new_grant
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.core.calls import RevokeGrant


class OwnShares(NamedTuple):
    """`Shares` of an account, by its API key and its root secret."""

    client: AsyncClient
    profile: Profile
    secret: bytes

    async def share(self, bucket: str, name: str, limits: Limits) -> str:
        """See the Protocol."""
        signing = await self.client.signing_secret()
        home = Home(self.profile.url, der_of(self.profile.ca) if self.profile.ca else b"")
        keys = Keys.under(self.secret, bucket, secrets.token_bytes)
        signer = Signing(signing.access_key, signing.secret)
        return new_grant(signer, keys, name, limits, home, secrets.token_bytes).text

    async def revoke(self, grant: bytes) -> None:
        """See the Protocol."""
        call = RevokeGrant(account="", grant=grant)
        await self.client.ask_vertical("storage", call.name, msgspec.msgpack.encode(call), again=True)


class GrantShares(NamedTuple):
    """`Shares` of whoever has a grant: narrower ones, and none that he could end."""

    grant: Grant

    async def share(self, bucket: str, name: str, limits: Limits) -> str:
        """See the Protocol."""
        self.grant.keys_of(secrets.token_bytes)("", bucket)
        return narrowed(self.grant, name, limits).text

    async def revoke(self, grant: bytes) -> None:
        """See the Protocol."""
        raise NotAllowed("storage.grant", f"Only its owner revokes the grant {grant.hex()}.")

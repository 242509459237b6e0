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
from fallow.verticals.storage.core.calls.accounts import RevokeGrant


def own_grant(signing: Signing, profile: Profile, secret: bytes, bucket: str, name: str, limits: Limits) -> Grant:
    """Make a grant of one's own bucket, under one's root secret. Asks nobody; raises as `new_grant`."""
    home = Home(profile.url, der_of(profile.ca) if profile.ca else b"")
    keys = Keys.under(secret, bucket, secrets.token_bytes)
    return new_grant(signing, keys, name, limits, home, secrets.token_bytes)


def narrower(grant: Grant, bucket: str, name: str, limits: Limits) -> Grant:
    """Make a narrower grant of one. Asks nobody; raises as `narrowed`, for another bucket, too."""
    grant.keys_of(secrets.token_bytes)("", bucket)
    return narrowed(grant, name, limits)


class OwnShares(NamedTuple):
    """`Shares` of an account, by its API key and its root secret."""

    client: AsyncClient
    profile: Profile
    secret: bytes

    async def share(self, bucket: str, name: str, limits: Limits) -> str:
        """See the Protocol."""
        signing = await self.client.signing_secret()
        signer = Signing(signing.access_key, signing.secret)
        return own_grant(signer, self.profile, self.secret, bucket, name, limits).text

    async def revoke(self, grant: bytes) -> None:
        """See the Protocol."""
        call = RevokeGrant(account="", grant=grant)
        await self.client.ask_vertical("storage", call.name, msgspec.msgpack.encode(call), again=True)


class GrantShares(NamedTuple):
    """`Shares` of whoever has a grant: narrower ones, and none that he could end."""

    grant: Grant

    async def share(self, bucket: str, name: str, limits: Limits) -> str:
        """See the Protocol."""
        return narrower(self.grant, bucket, name, limits).text

    async def revoke(self, grant: bytes) -> None:
        """See the Protocol."""
        raise NotAllowed("storage.grant", f"Only its owner revokes the grant {grant.hex()}.")

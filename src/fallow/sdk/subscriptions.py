"""Shared services that are used by the meter, and what requests to their own gateways are signed with."""

from __future__ import annotations

from fallow.domain import calls
from fallow.domain.views.keys import LinksView, SigningSecretView
from fallow.domain.views.money import SubscriptionView
from fallow.sdk.paging import PAGE, paged
from fallow.sdk.wire import Wire, arguments


class SubscriptionCalls(Wire):
    """What a buyer asks about metered use."""

    async def subscribe(self, wanted: calls.subscriptions.OpenSubscription) -> SubscriptionView:
        """Open a subscription; the same again answers the same.

        Raises:
            InsufficientFunds: your credits do not cover one window.
            NotFound: nothing of that vertical is sold by the meter here.
            Conflict: the id belongs to one on other terms.
        """
        return await self._call("POST", "/v1/subscriptions", SubscriptionView, body=wanted)

    async def subscriptions(self) -> list[SubscriptionView]:
        """Return all of your account, those that are over too, by id."""
        return [one async for one in paged(self._subscriptions, lambda one: one.id)]

    async def unsubscribe(self, subscription_id: str) -> SubscriptionView:
        """End one: what was used is paid, the rest of what it reserved given back.

        Raises:
            NotFound: there is none of that id.
        """
        return await self._call("DELETE", f"/v1/subscriptions/{subscription_id}", SubscriptionView)

    async def signing_secret(self) -> SigningSecretView:
        """Return what the holder of this API key signs requests with where the key itself does not travel (S3)."""
        return await self._call("GET", "/v1/account/signing-secret", SigningSecretView)

    async def link(self, role: str, path: str, valid_s: int) -> LinksView:
        """Have an address signed that opens a path of the gateway of a role, such as `s3`, for whoever has it.

        Raises:
            NotFound: `link.no_gateway`: the network has none.
        """
        body = {"role": role, "requests": [{"path": path}], "valid_s": valid_s, "shared": True}
        return await self._call("POST", "/v1/account/links", LinksView, body=body)

    async def _subscriptions(self, after: str | None) -> list[SubscriptionView]:
        query = arguments(after=after, limit=PAGE)
        return await self._call("GET", "/v1/subscriptions", list[SubscriptionView], query=query)

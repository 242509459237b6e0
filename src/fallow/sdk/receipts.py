"""What the buyer's own key does: it signs orders, and receipts for what came."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from fallow.domain.calls.delegations import DELEGATION_S
from fallow.domain.delegations import RECEIPTS_MAX, Receipt, delegation_text
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.identity import address
from fallow.domain.jobs import ItemState
from fallow.domain.leases import WORK_DONE
from fallow.domain.views.jobs import ItemView, LeaseView
from fallow.domain.views.keys import DelegationView
from fallow.sdk.accounts import AccountCalls
from fallow.sdk.jobs import JobCalls
from fallow.sdk.signing import BuyerKey

_KEY = re.compile("[0-9a-f]{64}")

SignText = Callable[[str], Awaitable[bytes]]
"""Signs a text with an account's key, wherever that is."""


class SigningCalls(JobCalls, AccountCalls):
    """Delegations and receipts."""

    async def delegate(self, *, valid_s: int | None = None, by: SignText | None = None) -> BuyerKey:
        """Make a key on this machine and have the account delegate to it; from now on this client signs with it.

        An account that keeps its own key signs a text `by` it, as `personal_sign` does (65 bytes).

        Keep its `text` where only its owner reads; `AsyncClient(..., signing_key=BuyerKey.read(text))` takes it again.
        """
        account, net = (await self.balance()).account, (await self.network()).net
        key = BuyerKey.create(account, net)
        body: dict[str, Any] = {"key": key.public, "proof": key.consent()}
        if by is not None:
            expires_s = int(datetime.now(UTC).timestamp()) + (valid_s or DELEGATION_S)
            text = delegation_text(net, address(account), bytes.fromhex(key.public), expires_s * 1000)
            body |= {"expires_s": expires_s, "account_signature": (await by(text)).hex()}
        elif valid_s is not None:
            body["valid_s"] = valid_s
        await self._call("POST", "/v1/account/keys", DelegationView, body=body)
        self._signing_key = key
        return key

    async def delegations(self) -> list[DelegationView]:
        """Keys that sign for your account, the latest first."""
        return await self._call("GET", "/v1/account/keys", list[DelegationView])

    async def revoke_delegation(self, key: str) -> DelegationView:
        """End the delegation to a key (its public part).

        Raises:
            InvalidInput: it is none.
            NotFound: the account has not delegated to it.
        """
        if not _KEY.fullmatch(key):
            raise InvalidInput("key.id", f"{key[:80]!r} is no public key: 64 hex digits.", "fallow key signing ls")
        return await self._call("DELETE", f"/v1/account/keys/{key}", DelegationView)

    async def _acknowledge(self, job_id: str, items: Collection[int]) -> None:
        """Countersign what came, if this client's key may. If it may no longer, the operator's word stands alone."""
        with suppress(NotAllowed):
            await self.countersign(job_id, items)

    async def countersign(self, job_id: str, items: Collection[int]) -> int:
        """Sign receipts for items whose results came and had their hash; returns for how many.

        Without a signing key it does nothing: the use of these leases stays attested by the operator alone.
        """
        if self._signing_key is None or not items:
            return 0
        done = [item async for item in self.all_items(job_id) if item.index in items]
        receipts = receipts_for(done, [lease async for lease in self.all_leases(job_id)])
        for start in range(0, len(receipts), RECEIPTS_MAX):
            batch = receipts[start : start + RECEIPTS_MAX]
            body = {
                "key": self._signing_key.public,
                "signature": self._signing_key.receipts(job_id, batch),
                "receipts": batch,
            }
            await self._call("POST", f"/v1/jobs/{job_id}/receipts", dict[str, str], body=body)
        return len(receipts)


def receipts_for(items: Iterable[ItemView], leases: Iterable[LeaseView]) -> list[Receipt]:
    """Return the receipts for items' results: for the leases of the nodes that gave them, each looked at once."""
    longest: dict[tuple[int, str | None], LeaseView] = {}
    for lease in leases:
        before = longest.get((lease.item, lease.node))
        if lease.reason == WORK_DONE and (before is None or lease.used_ms > before.used_ms):
            longest[lease.item, lease.node] = lease
    return [
        Receipt(item=item.index, lease=own.id, node=own.node, result=item.result, used_ms=own.used_ms)
        for item in items
        if item.state == ItemState.DONE and item.result is not None
        if (own := longest.get((item.index, item.node))) is not None
    ]

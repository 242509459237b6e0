"""Who stands with his stake for a vertical's hosted gateway, and what such a gateway overstated, as records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Final

from msgspec import Meta

from fallow.domain.chain_facts import Holder
from fallow.domain.identity import address_text
from fallow.domain.records import Body, Count

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
SIGNATURE_BYTES: Final = 65

LimitMade = Callable[[str, bytes, bytes, bytes, bytes], int]
"""When (milliseconds since 1970) the limit was made that an order goes beyond: of a network's id and key, a gateway's
key, a sealed limit and a sealed order. It raises FallowError where these do not show that."""


class GatewayVouched(Body, frozen=True, kw_only=True):
    """The `owner` signed that his stake stands for what the gateway with this key signs: `fallow.domain.vouching`.

    It does for orders under limits that were made from `from_ms` on and before `until_ms`.
    """

    kind: ClassVar[str] = "gateway.vouched"
    version: ClassVar[int] = 1
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    key: Key
    owner: Holder
    from_ms: Count
    until_ms: Count
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

    def written(self) -> str:
        """Write it as one word, which a gateway's operator puts into his settings."""
        return f"{self.vertical}:{address_text(self.owner)}:{self.from_ms}:{self.until_ms}:{self.signature.hex()}"


class GatewayOverstated(GatewayVouched, frozen=True, kw_only=True):
    """A gateway signed an `order` beyond what its `limit` allows, and who stood for it. All signatures are in here."""

    kind: ClassVar[str] = "gateway.overstated"
    version: ClassVar[int] = 1
    limit: Annotated[bytes, Meta(max_length=1024)]
    order: Annotated[bytes, Meta(max_length=1024)]


GATEWAY_FACTS: tuple[type[Body], ...] = (GatewayVouched, GatewayOverstated)
